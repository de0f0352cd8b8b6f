//! Who owns what: each operation, and each value that belongs to it, from beginning to end.
//!
//! ```text
//!   Made ──pushed──► Queued ──consumed──► Held ──last completion──► Ended ──consumed──► Taken
//!                    └──────── its values must not drop ─────┘            by the ring
//! ```
//!
//! | is broken | when |
//! |---|---|
//! | (OP1) | a value is dropped between Made and Ended, or bytes change while the kernel has them |
//! | (OP2) | two requests in flight have one `user_data`; an end is shown twice, or with another's result |
//! | (BR1) | a buffer is offered twice, is lost, or is written while it is leased |
//! | (RG1) | a value is dropped twice, or is not dropped though the kernel is done with it |
//!
//! A broken rule is noted here and reported after the step, because a panic at the place itself
//! would hide what follows. From then on the kernel touches no memory, since some of it may be
//! gone.

use std::collections::HashMap;

use annulus_sys::flags::CqeFlags;

/// Names an operation, on any ring.
pub type OpId = u32;

/// The stage of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Made,
    Queued,
    Held,
    Ended,
    Taken,
}

/// The state of the claim to its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    Held,
    Forgotten,
    Detached,
    /// Redeemed: its slot is free again.
    Gone,
}

/// Whether the kernel ever completes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Ends,
    /// Not even after a cancel.
    Stays,
}

/// How an entry is linked to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    None,
    Soft,
    Hard,
}

/// Whether a chain goes on after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    On,
    No,
}

/// Whether the end of an operation was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    No,
    Yes,
    /// Need not be shown: a wait for this operation may have noted it.
    Perhaps,
}

/// An operation.
#[derive(Debug)]
pub struct OpNote {
    pub ring: usize,
    pub stage: Stage,
    pub claim: Claim,
    pub fate: Fate,
    /// How its entry must be linked to the next.
    pub tie: Tie,
    /// Whether it lets the next step of its chain begin, now that it has ended.
    pub goes: Goes,
    pub shown: Shown,
    /// The result of its completions.
    pub result: i32,
    pub flags: CqeFlags,
    /// The contents of the buffer that the kernel has written.
    pub image: Vec<u8>,
}

/// A value that goes with an operation.
#[derive(Debug)]
struct OwnerNote {
    op: OpId,
    of: Of,
    drops: u32,
}

/// Which side needs a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The kernel, while it has the operation.
    Kernel,
    /// The caller alone: it may be dropped at any time.
    Caller,
}

/// The state of all operations and values.
#[derive(Debug, Default)]
pub struct Ledger {
    ops: Vec<OpNote>,
    owners: Vec<OwnerNote>,
    /// What the kernel wrote to selected buffers, by the number at the front.
    pub completions: HashMap<u64, Vec<u8>>,
    faults: Vec<String>,
    broken: Broken,
}

/// Whether any rule was ever broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Broken {
    #[default]
    No,
    Yes,
}

/// Whether the end of a ring was cut short by a panic in a destructor of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    No,
    Yes,
}

impl Ledger {
    /// Notes a broken rule.
    pub fn fault(&mut self, text: impl Into<String>) {
        self.broken = Broken::Yes;
        self.faults.push(text.into());
    }

    /// The rules that were broken since the last call.
    pub fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// Whether any rule was ever broken.
    pub fn broken(&self) -> Broken {
        self.broken
    }

    /// A new operation, for the ring of that number.
    pub fn make(&mut self, ring: usize, fate: Fate) -> OpId {
        let id = OpId::try_from(self.ops.len()).expect("few");
        self.ops.push(OpNote {
            ring,
            stage: Stage::Made,
            claim: Claim::Held,
            fate,
            tie: Tie::None,
            goes: Goes::No,
            shown: Shown::No,
            result: 0,
            flags: CqeFlags::empty(),
            image: Vec::new(),
        });
        id
    }

    pub fn op(&mut self, id: OpId) -> &mut OpNote {
        &mut self.ops[id as usize]
    }

    /// A new value that goes with `op`.
    pub fn own(&mut self, op: OpId, of: Of) -> usize {
        self.owners.push(OwnerNote { op, of, drops: 0 });
        self.owners.len() - 1
    }

    /// Notes that the value is dropped.
    pub fn dropped(&mut self, owner: usize) {
        let note = &mut self.owners[owner];
        note.drops += 1;
        let (op, of, drops) = (note.op, note.of, note.drops);
        if drops > 1 {
            self.fault(format!("OP1: what operation {op} owned was dropped {drops} times"));
        }
        let stage = self.op(op).stage;
        if of == Of::Kernel && matches!(stage, Stage::Queued | Stage::Held) {
            self.fault(format!("OP1: what operation {op} owns was dropped, and it is {stage:?}"));
        }
    }

    /// Whether any value of `op` was dropped.
    pub fn lost_an_owner(&self, op: OpId) -> bool {
        let is_lost = |it: &OwnerNote| it.op == op && it.of == Of::Kernel && it.drops > 0;
        self.owners.iter().any(is_lost)
    }

    /// Whether every value of `op` was dropped.
    pub fn has_lost_all(&self, op: OpId) -> bool {
        self.owners.iter().all(|it| it.op != op || it.drops > 0)
    }

    /// How many operations of a ring are in flight: pushed, and their last completion not consumed.
    pub fn in_flight(&self, ring: usize) -> usize {
        let flies = |op: &&OpNote| !matches!(op.stage, Stage::Made | Stage::Taken);
        self.of_ring(ring).filter(flies).count()
    }

    /// How many slots of a ring are taken.
    pub fn slots_taken(&self, ring: usize) -> usize {
        let taken = |op: &&OpNote| match op.claim {
            Claim::Held | Claim::Forgotten => op.stage != Stage::Made,
            Claim::Detached => !matches!(op.stage, Stage::Made | Stage::Taken),
            Claim::Gone => false,
        };
        self.of_ring(ring).filter(taken).count()
    }

    /// How many operations of a ring can still be waited for. The end of a detached operation is
    /// never shown.
    pub fn awaitable(&self, ring: usize) -> usize {
        let comes = |op: &&OpNote| {
            let flies = !matches!(op.stage, Stage::Made | Stage::Taken);
            op.fate == Fate::Ends && op.claim != Claim::Detached && flies
        };
        self.of_ring(ring).filter(comes).count()
    }

    /// Operations whose end was consumed and not shown, and whose claim the caller still holds.
    pub fn not_shown(&self, ring: usize) -> Vec<OpId> {
        let hidden = |op: &OpNote| {
            op.ring == ring
                && op.stage == Stage::Taken
                && op.claim == Claim::Held
                && op.shown == Shown::No
        };
        self.ids().filter(|&id| hidden(&self.ops[id as usize])).collect()
    }

    /// The ring is gone: what had not ended then is leaked, and everything else was dropped, once;
    /// or leaked too, if the ring's end was `cut` short by a panic.
    pub fn close(&mut self, ring: usize, cut: Cut) {
        let mut faults = Vec::new();
        for owner in &self.owners {
            let op = &self.ops[owner.op as usize];
            let flies = !matches!(op.stage, Stage::Made | Stage::Taken);
            let is_leaked = flies && owner.of == Of::Kernel;
            let fits = owner.drops == u32::from(!is_leaked) || (cut == Cut::Yes && !is_leaked);
            if op.ring == ring && !fits {
                let (drops, stage) = (owner.drops, op.stage);
                let what = format!("dropped {drops} times, it being {stage:?} as the ring ended");
                faults.push(format!("RG1: what operation {} owned was {what}", owner.op));
            }
        }
        faults.into_iter().for_each(|fault| self.fault(fault));
    }

    fn ids(&self) -> impl Iterator<Item = OpId> + use<> {
        0..OpId::try_from(self.ops.len()).expect("few")
    }

    fn of_ring(&self, ring: usize) -> impl Iterator<Item = &OpNote> {
        self.ops.iter().filter(move |op| op.ring == ring)
    }
}
