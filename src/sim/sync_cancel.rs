//! `SYNC_CANCEL`: a cancel without an entry, which waits until its targets have ended.
//!
//! ```text
//!   cancel ─► not `EALREADY` ────────────────────────► its result, or 0 after a wait
//!     ▲           │ a worker has the target
//!     └── time ◄──┴── the limit has come: `ETIME`
//! ```
//!
//! On a ring that defers its work the completion is held back, and nothing wakes the call: it waits
//! for its whole limit (v6.18).
#![allow(unsafe_code, reason = "reads the argument of a call")]

use annulus_sys::abi_register::SyncCancelReg;
use annulus_sys::errno::Errno;
use annulus_sys::flags::CancelFlags;

use super::region::copy_in;
use super::request::{Key, nanoseconds};
use super::state::{Mode, State};

/// A call that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncCancel {
    ring: usize,
    key: Key,
    /// When it ends at the latest.
    limit: Option<u64>,
    /// Whether it has tried.
    waits: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    Return(Result<u32, Errno>),
    /// A test acts, and then the call goes on.
    Act(usize),
}

const KNOWN: CancelFlags = CancelFlags::ALL
    .union(CancelFlags::FD)
    .union(CancelFlags::ANY)
    .union(CancelFlags::FD_FIXED)
    .union(CancelFlags::USERDATA)
    .union(CancelFlags::OP);

impl SyncCancel {
    /// The call that an argument asks for.
    ///
    /// # Safety
    ///
    /// `arg` must be null, or point to a `struct io_uring_sync_cancel_reg`.
    pub(super) unsafe fn of(
        ring: usize,
        arg: *const libc::c_void,
        count: u32,
        now: u64,
    ) -> Result<Self, Errno> {
        let address = arg.expose_provenance() as u64;
        if arg.is_null() || count != 1 {
            return Err(Errno::new(libc::EINVAL));
        }
        // SAFETY: as promised to `of`.
        let reg = unsafe { copy_in::<SyncCancelReg>(address) }?;
        let SyncCancelReg { addr, fd, flags, timeout, opcode, pad, pad2 } = reg;
        if !KNOWN.contains(flags) || pad != [0; 7] || pad2 != [0; 3] {
            return Err(Errno::new(libc::EINVAL));
        }
        let has = |flag| flags.contains(flag);
        let any = has(CancelFlags::ANY);
        let by_user_data =
            !flags.intersects(CancelFlags::FD | CancelFlags::OP) || has(CancelFlags::USERDATA);
        let key = Key {
            user_data: (by_user_data && !any).then_some(addr),
            fd: has(CancelFlags::FD).then_some(fd),
            is_fixed: has(CancelFlags::FD_FIXED),
            opcode: (has(CancelFlags::OP) && !any).then_some(opcode),
            all: flags.intersects(CancelFlags::ALL | CancelFlags::ANY),
        };
        let is_endless = timeout.tv_sec == -1 && timeout.tv_nsec == -1;
        let span = nanoseconds(timeout).unwrap_or(0);
        let limit = (!is_endless).then_some(now.saturating_add(span));
        Ok(Self { ring, key, limit, waits: false })
    }
}

impl State {
    /// Goes on with a call.
    pub(super) fn cancel_now(&mut self, call: &mut SyncCancel) -> Step {
        let SyncCancel { ring, key, .. } = *call;
        loop {
            let result = self.cancel(ring, key, 0);
            self.wake_up();
            if result != -libc::EALREADY {
                let is_over = call.waits && (result == -libc::ENOENT || result > 0);
                let result = if is_over { 0 } else { result };
                return Step::Return(match u32::try_from(result) {
                    Ok(count) => Ok(count),
                    Err(_) => Err(Errno::new(-result)),
                });
            }
            if !call.waits && self.luck.hits(self.faults.interrupt) {
                return Step::Return(Err(Errno::new(libc::EINTR)));
            }
            call.waits = true;
            if let Some(step) = self.pass(call) {
                return step;
            }
        }
    }

    /// Lets time pass, until something has happened. Returns what ends the call.
    fn pass(&mut self, call: &SyncCancel) -> Option<Step> {
        let SyncCancel { ring, limit, .. } = *call;
        let timed_out = Some(Step::Return(Err(Errno::new(libc::ETIME))));
        if self.rings[ring].mode == Mode::Defer {
            self.run_work(ring);
        }
        loop {
            if let Some(act) = self.run_due() {
                return Some(Step::Act(act));
            }
            if self.rings[ring].mode == Mode::Coop {
                self.run_work(ring);
            }
            let is_due = self.next_time().is_some_and(|at| at <= self.now);
            if limit.is_some_and(|limit| limit <= self.now) && !is_due {
                return timed_out;
            }
            if is_due {
                continue;
            }
            if !self.let_time_pass(limit) {
                let errno = Errno::new(self.stall(ring));
                return Some(Step::Return(Err(errno)));
            }
            if self.rings[ring].mode != Mode::Defer {
                if let Some(act) = self.run_due() {
                    return Some(Step::Act(act));
                }
                self.run_work(ring);
                return None;
            }
        }
    }
}
