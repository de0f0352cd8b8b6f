//! The records of real rings: Linux behind a recorder, in the form of [`trace`](super::trace).
//!
//! ```text
//!   Setup::kernel(recorder.kernel())
//!        │
//!      a ring ──► Recorder ──► Linux          before and after each enter it reads the queues
//!        └── push, pop: at full speed, unseen until the next enter
//! ```
//!
//! A ring that is not made on a recorder costs nothing more: there is no code for it in the rings.
//! What is recorded is what the queues show around an enter:
//!
//! | record | is made when |
//! |---|---|
//! | [`Made`](What::Made), [`Closed`](What::Closed) | the ring is set up; its descriptor is used again |
//! | [`Taken`](What::Taken) | an enter begins: so many completions were taken since the last one |
//! | [`Entered`](What::Entered), [`Returned`](What::Returned) | an enter begins, and ends |
//! | [`Began`](What::Began) | the kernel has consumed the entry; a step of a chain may begin later |
//! | [`Posted`](What::Posted) | the completion is seen: at the beginning or end of an enter |
//!
//! Times are the machine's, since the recorder was made. Ends have no numbers. A polling thread
//! (`SQPOLL`) consumes entries that no enter shows: those may be missing. So are the entries and
//! completions of rings in memory of the caller's.
//!
//! The recorder maps each ring a second time. So the kernel keeps a ring, and what is in flight on
//! it, until the recorder is dropped too.
//!
//! Leaves to others: reading the queues (`queues`).
#![allow(unsafe_code, reason = "stands between rings and Linux")]

mod queues;

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use annulus_sys::abi::{Cqe, Params, Sqe};
use annulus_sys::abi_register::RsrcUpdate;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{CqeFlags, EnterFlags};
use annulus_sys::kernel::{Backend, Kernel};
use annulus_sys::map::Map;
use annulus_sys::opcode::{Opcode, RegisterOp};
use annulus_sys::syscall::{self, EnterArg, RingFd, RingRef};

use super::trace::{Record, RequestId, Trace, What};
use queues::Queues;

/// Linux, with a record of what each ring on it does. Clones share the record.
///
/// # Example
///
/// ```
/// use annulus::sim::Recorder;
/// use annulus::{Setup, op};
///
/// let recorder = Recorder::new();
/// let mut ring = Setup::new(8).kernel(recorder.kernel()).build()?;
/// let ticket = ring.submit(op::Nop)?;
/// ring.wait(ticket)??;
/// for record in recorder.trace() {
///     println!("{record}"); // .. ring 0: #1 NOP of 0 bytes, .. ring 0: #1 completes with 0
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Recording>);

#[derive(Debug)]
struct Recording {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    trace: Trace,
    rings: Vec<Ring>,
    /// The rings by their descriptors.
    by_fd: HashMap<RawFd, usize>,
    /// The rings that a thread has registered, by their indices.
    by_index: HashMap<(ThreadId, u32), usize>,
    /// How many entries were consumed.
    consumed: RequestId,
}

#[derive(Debug)]
struct Ring {
    queues: Queues,
    in_flight: HashMap<u64, RequestId>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder with no records. Its time begins now.
    pub fn new() -> Self {
        let state = State {
            trace: Trace::new(),
            rings: Vec::new(),
            by_fd: HashMap::new(),
            by_index: HashMap::new(),
            consumed: 0,
        };
        Self(Arc::new(Recording { began: Instant::now(), state: Mutex::new(state) }))
    }

    /// Linux, for [`Setup::kernel`](crate::Setup::kernel).
    pub fn kernel(&self) -> Kernel {
        Kernel::with_backend(Arc::<Recording>::clone(&self.0))
    }

    /// The last records, at most 4096, oldest first.
    pub fn trace(&self) -> Vec<Record> {
        self.0.state().trace.last(usize::MAX)
    }
}

impl Recording {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, state: &mut State, ring: usize, what: What) {
        state.trace.add(Record { at: self.began.elapsed(), ring: Some(ring), what });
    }

    /// Records what has happened to `ring` since the last look.
    fn look(&self, state: &mut State, ring: usize) {
        let taken = state.rings[ring].queues.taken();
        if taken > 0 {
            self.add(state, ring, What::Taken(taken));
        }
        for cqe in state.rings[ring].queues.posted() {
            self.posted(state, ring, cqe);
        }
    }

    fn posted(&self, state: &mut State, ring: usize, cqe: Cqe) {
        let in_flight = &mut state.rings[ring].in_flight;
        let id = if cqe.flags.contains(CqeFlags::MORE) {
            in_flight.get(&cqe.user_data).copied()
        } else {
            in_flight.remove(&cqe.user_data)
        };
        // Nothing in flight: a message, which has no request on this ring.
        let id = id.unwrap_or(0);
        self.add(state, ring, What::Posted(id, cqe.res, cqe.flags.bits()));
    }

    fn began(&self, state: &mut State, ring: usize, sqe: &Sqe) {
        state.consumed += 1;
        let id = state.consumed;
        state.rings[ring].in_flight.insert(sqe.user_data, id);
        self.add(state, ring, What::Began(id, sqe.opcode, bytes_of(sqe), None));
    }

    fn before_enter(&self, ring: RingRef<'_>, submits: u32, wants: u32) -> Option<usize> {
        let mut state = self.state();
        let number = state.find(ring)?;
        self.look(&mut state, number);
        self.add(&mut state, number, What::Entered(submits, wants));
        Some(number)
    }

    fn after_enter(&self, ring: usize, answer: Result<u32, Errno>) {
        let mut state = self.state();
        let count = answer.unwrap_or(0);
        for sqe in state.rings[ring].queues.consumed(count) {
            self.began(&mut state, ring, &sqe);
        }
        self.look(&mut state, ring);
        self.add(&mut state, ring, What::Returned(answer.map_err(|errno| errno.raw())));
    }

    /// A ring was made, and has this descriptor.
    fn made(&self, fd: RawFd, params: &Params) {
        let mut state = self.state();
        let number = state.rings.len();
        if let Some(before) = state.by_fd.insert(fd, number) {
            let left = state.rings[before].in_flight.len();
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            self.add(&mut state, before, What::Closed(left));
        }
        state.rings.push(Ring { queues: Queues::new(*params), in_flight: HashMap::new() });
        let what = What::Made(params.sq_entries, params.cq_entries);
        self.add(&mut state, number, what);
    }
}

/// The bytes that a request is to transfer, if its entry says so.
fn bytes_of(sqe: &Sqe) -> u32 {
    match sqe.opcode {
        Opcode::READ | Opcode::WRITE | Opcode::READ_FIXED | Opcode::WRITE_FIXED => sqe.len,
        Opcode::SEND | Opcode::RECV | Opcode::SEND_ZC => sqe.len,
        Opcode::SPLICE | Opcode::TEE => sqe.len,
        _ => 0,
    }
}

impl State {
    fn find(&self, ring: RingRef<'_>) -> Option<usize> {
        if ring.is_registered() {
            let index = ring.number().cast_unsigned();
            self.by_index.get(&(std::thread::current().id(), index)).copied()
        } else {
            self.by_fd.get(&ring.number()).copied()
        }
    }

    /// A register call has succeeded that gives a ring a name, or new memory.
    ///
    /// # Safety
    ///
    /// `arg` must be what the call takes.
    unsafe fn registered(&mut self, ring: RingRef<'_>, op: RegisterOp, arg: *const libc::c_void) {
        let Some(number) = self.find(ring) else { return };
        match op {
            RegisterOp::RING_FDS => {
                // SAFETY: the call takes one such struct, as promised to `registered`.
                let update = unsafe { arg.cast::<RsrcUpdate>().read() };
                self.by_index.insert((std::thread::current().id(), update.offset), number);
            }
            RegisterOp::RESIZE_RINGS => {
                // SAFETY: the call takes the new parameters, as promised to `registered`.
                let params = unsafe { arg.cast::<Params>().read() };
                self.rings[number].queues.resized(&params);
            }
            _ => {}
        }
    }
}

// SAFETY: Linux itself describes the memory, because the calls are only passed on.
unsafe impl Backend for Recording {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        // SAFETY: as promised to `Kernel::setup`, which passes this on.
        let made = unsafe { syscall::setup(entries, params) }?;
        if !made.by_ref().is_registered() {
            self.made(made.by_ref().number(), params);
        }
        Ok(made)
    }

    fn map(&self, ring: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        // SAFETY: the ring is alive during the call, because the caller holds it.
        let fd = unsafe { BorrowedFd::borrow_raw(ring.number()) };
        let ours = Map::of_ring(fd, offset, len);
        let mut state = self.state();
        if let (Some(number), Ok(ours)) = (state.find(ring), ours) {
            state.rings[number].queues.mapped(offset, ours);
        }
        Map::of_ring(fd, offset, len)
    }

    fn enter(
        &self,
        ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        let known = self.before_enter(ring, to_submit, min_complete);
        // SAFETY: as promised to `Kernel::enter`, which passes this on.
        let answer = unsafe { syscall::enter(ring, to_submit, min_complete, flags, arg) };
        if let Some(number) = known {
            self.after_enter(number, answer);
        }
        answer
    }

    unsafe fn register(
        &self,
        ring: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        // SAFETY: as promised to `register`.
        let answer = unsafe { syscall::register(ring, op, arg, count) };
        if answer.is_ok() {
            // SAFETY: the call took it, so it is what the call takes, as promised to `register`.
            unsafe { self.state().registered(ring, op, arg) };
        }
        answer
    }
}
