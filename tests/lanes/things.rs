//! The operation of the histories, its user value, and the ledger of both.
//!
//! ```text
//!   Probe { inline: 8 bytes in the slot, heap: 8 bytes elsewhere, token }      Mark(token)
//! ```
//!
//! A token may be dropped only while the kernel does not have its operation, and once.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::panic_any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use annulus::op::{Done, Op};
use annulus::raw::RingId;
use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// Names an operation of a history.
pub type Id = u32;

/// A panic that the history asked for.
#[derive(Debug)]
pub struct OnPurpose;

/// Where the caller's code is to panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Never,
    Refusal,
    BelongsTo,
    Prep,
    Finish,
    /// And then where the user value is dropped.
    FinishAndUserDrop,
    OpDrop,
    UserDrop,
}

/// What is known of an operation.
#[derive(Debug, Default, Clone)]
pub struct Note {
    /// The kernel has it: it was consumed, and its completion was not posted.
    pub held: bool,
    /// Its entry was pushed.
    pub pushed: bool,
    /// Its result, and what the kernel wrote, once its completion is posted.
    pub ended: Option<(i32, [u8; 8])>,
    /// How often its output was shown.
    pub shown: u32,
    pub op_drops: u32,
    pub user_drops: u32,
}

/// Everything that happened to the operations of a history.
#[derive(Debug, Default)]
pub struct Ledger {
    pub notes: HashMap<Id, Note>,
    /// What is wrong, to be told after the step.
    pub faults: Vec<String>,
}

/// The ledger, as kernel, caller and values share it.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    pub fn note(&mut self, id: Id) -> &mut Note {
        self.notes.entry(id).or_default()
    }

    pub fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }
}

thread_local! {
    /// The place at which the next call panics, once.
    static TRAP: Cell<Place> = const { Cell::new(Place::Never) };
}

/// Lets the caller's code panic at this place.
pub fn set_trap(place: Place) {
    TRAP.set(place);
}

fn trip(place: Place) {
    let trap = TRAP.get();
    if trap == place {
        TRAP.set(Place::Never);
        panic_any(OnPurpose);
    }
    if trap == Place::FinishAndUserDrop && place == Place::Finish {
        TRAP.set(Place::UserDrop);
        panic_any(OnPurpose);
    }
}

/// What an operation owns.
#[derive(Debug)]
struct Token {
    id: Id,
    ledger: Shared,
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        let note = ledger.note(self.id);
        note.op_drops += 1;
        let (held, drops) = (note.held, note.op_drops);
        if held {
            ledger.fault(format!("OP1: {} was dropped while the kernel has it", self.id));
        }
        if drops > 1 {
            ledger.fault(format!("RG1: {} was dropped {drops} times", self.id));
        }
        drop(ledger);
        trip(Place::OpDrop);
    }
}

/// An operation that offers the kernel memory in the slot and elsewhere.
#[derive(Debug)]
pub struct Probe {
    inline: [u8; 8],
    heap: Box<[u8; 8]>,
    token: Token,
}

impl Probe {
    pub fn new(id: Id, ledger: &Shared) -> Self {
        let token = Token { id, ledger: ledger.clone() };
        Self { inline: [0; 8], heap: Box::new([0; 8]), token }
    }
}

/// The output of a [`Probe`], which still owns all.
#[derive(Debug)]
pub struct Probed {
    pub result: i32,
    pub inline: [u8; 8],
    pub heap: Box<[u8; 8]>,
    token: Token,
}

impl Probed {
    pub fn id(&self) -> Id {
        self.token.id
    }
}

// SAFETY: OP1 to OP3: it points to memory of its own, completes once, and carries a number.
unsafe impl Op for Probe {
    type Output = Probed;

    fn belongs_to(&self, _: RingId) -> bool {
        trip(Place::BelongsTo);
        true
    }

    fn refusal(&mut self) -> Option<&'static str> {
        trip(Place::Refusal);
        None
    }

    fn prep(&mut self) -> Sqe {
        trip(Place::Prep);
        Sqe {
            opcode: Opcode::READ,
            addr: self.inline.as_mut_ptr().expose_provenance() as u64,
            addr3: self.heap.as_mut_ptr().expose_provenance() as u64,
            len: self.token.id,
            ..Sqe::ZERO
        }
    }

    fn finish(self, done: Done) -> Probed {
        trip(Place::Finish);
        let Self { inline, heap, token } = self;
        Probed { result: done.raw(), inline, heap, token }
    }
}

/// A user value.
#[derive(Debug)]
pub struct Mark {
    pub id: Id,
    ledger: Shared,
}

impl Mark {
    pub fn new(id: Id, ledger: &Shared) -> Self {
        Self { id, ledger: ledger.clone() }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        let note = ledger.note(self.id);
        note.user_drops += 1;
        if note.user_drops > 1 {
            ledger.fault(format!("RG1: the user value of {} was dropped twice", self.id));
        }
        drop(ledger);
        trip(Place::UserDrop);
    }
}
