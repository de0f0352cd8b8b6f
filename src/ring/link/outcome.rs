//! Where a chain broke: which steps began, and which of them kept the next from beginning.
//!
//! ```text
//!   result    8 of 8   3 of 8   ECANCELED          0        ECANCELED   ECANCELED
//!   meaning   through  broke    never began        through  cancelled   never began
//!                      ^ here                               ^ here: it ran, or nothing
//!                                                             held it back
//! ```
//!
//! The kernel reports only results. It reports `ECANCELED` both for a step that never began and for
//! one that was cancelled while it ran. So we note with each entry which results break the chain,
//! following the kernel's handlers.
//!
//! Keeps OP1: entries are inspected while the operation is at its final address. Leaves to others:
//! what a link means (`link`).
#![allow(unsafe_code, reason = "counts the bytes of tables that entries point to")]

use std::ptr::with_exposed_provenance;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{Features, RecvSendFlags, SqeFlags, TimeoutFlags};
use annulus_sys::opcode::Opcode;

use super::ChainEnd;

/// Which results of a step keep the next from beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaks {
    /// All but this number of bytes.
    Short(u32),
    /// Fewer bytes than the buffers hold that the kernel selected. We do not know how many that is.
    /// So we assume that the step broke the chain: that is far more common than a next step
    /// cancelled while it ran.
    Likely,
    /// Errors.
    Errors,
    /// Errors, but not `ETIME`.
    ErrorsButTime,
    /// Errors, before Linux 6.0.
    ErrorsOnce,
    /// Only a refusal of the step, without running it.
    Refusals,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEnd {
    /// It began, and let the next begin.
    Through,
    /// It began, or was refused, and kept the next from beginning.
    Broke(Certain),
    /// It never began, or was cancelled.
    Cancelled(Certain),
}

/// Whether it is certain that the steps behind this one never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Certain {
    Yes,
    No,
}

impl Breaks {
    /// Decides by the entry of an operation.
    ///
    /// # Safety
    ///
    /// The operation must be at its final address, so that every address in the entry is valid, and
    /// the kernel must not have the entry yet (OP1).
    pub(super) unsafe fn of(sqe: &Sqe) -> Self {
        let picked = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
        let waits_for_all = sqe.op_flags & libc::MSG_WAITALL.cast_unsigned() != 0;
        match sqe.opcode {
            Opcode::READ | Opcode::WRITE | Opcode::READ_FIXED | Opcode::WRITE_FIXED if !picked => {
                Self::Short(most(sqe.len.into()))
            }
            Opcode::READ | Opcode::READV | Opcode::READ_FIXED | Opcode::SEND if picked => {
                Self::Likely
            }
            Opcode::READV | Opcode::WRITEV | Opcode::READV_FIXED | Opcode::WRITEV_FIXED => {
                // SAFETY: the entry names a table of that length, as promised to `of` (OP1).
                Self::Short(unsafe { bytes_of(sqe.addr, u64::from(sqe.len)) })
            }
            Opcode::SPLICE | Opcode::TEE => Self::Short(sqe.len),
            Opcode::SENDMSG | Opcode::RECVMSG | Opcode::SENDMSG_ZC if waits_for_all && !picked => {
                // SAFETY: the entry names a message, as promised to `of` (OP1).
                Self::Short(unsafe { bytes_of_message(sqe.addr) })
            }
            Opcode::SEND | Opcode::RECV | Opcode::SEND_ZC if waits_for_all && !picked => {
                let vectored = sqe.opcode != Opcode::RECV
                    && sqe.ioprio & RecvSendFlags::SEND_VECTORIZED.bits() != 0;
                Self::Short(match vectored {
                    // SAFETY: the entry names a table of that length, as promised to `of` (OP1).
                    true => unsafe { bytes_of(sqe.addr, sqe.len.into()) },
                    false => most(sqe.len.into()),
                })
            }
            Opcode::TIMEOUT if sqe.op_flags & TimeoutFlags::ETIME_SUCCESS.bits() != 0 => {
                Self::ErrorsButTime
            }
            opcode if ONCE.contains(&opcode) => Self::ErrorsOnce,
            _ => Self::Errors,
        }
    }

    /// How a step ended, by its `result`.
    pub(super) fn tell(self, result: i32, features: Features) -> StepEnd {
        // Fewer bytes than were asked, or an error: the kernel goes by nothing else.
        let is_certain = matches!(self, Self::Short(asked) if i64::from(result) < asked.into());
        let certain = if is_certain { Certain::Yes } else { Certain::No };
        if result == -libc::ECANCELED {
            StepEnd::Cancelled(certain)
        } else if self.by(result, features) {
            StepEnd::Broke(certain)
        } else {
            StepEnd::Through
        }
    }

    /// Whether a step that ended with `result` kept the next from beginning.
    fn by(self, result: i32, features: Features) -> bool {
        match self {
            Self::Short(asked) => u32::try_from(result) != Ok(asked),
            Self::Likely => true,
            Self::Errors => result < 0,
            Self::ErrorsButTime => result < 0 && result != -libc::ETIME,
            // By a feature of Linux 6.3, because 6.0 has no feature flag of its own.
            Self::ErrorsOnce => result < 0 && !features.contains(Features::REG_REG_RING),
            Self::Refusals => matches!(result.wrapping_neg(), libc::EINVAL | libc::EBADF),
        }
    }
}

/// Operations whose errors break no chain since Linux 6.0.
const ONCE: [Opcode; 15] = [
    Opcode::FSYNC,
    Opcode::SYNC_FILE_RANGE,
    Opcode::FALLOCATE,
    Opcode::FTRUNCATE,
    Opcode::STATX,
    Opcode::RENAMEAT,
    Opcode::UNLINKAT,
    Opcode::MKDIRAT,
    Opcode::SYMLINKAT,
    Opcode::LINKAT,
    Opcode::GETXATTR,
    Opcode::FGETXATTR,
    Opcode::SETXATTR,
    Opcode::FSETXATTR,
    Opcode::MADVISE,
];

/// How many of `bytes` one operation moves at most (`MAX_RW_COUNT`).
fn most(bytes: u64) -> u32 {
    const MAX_MOVED: u32 = 0x7fff_f000;
    u32::try_from(bytes).unwrap_or(MAX_MOVED).min(MAX_MOVED)
}

/// How many bytes the `count` regions of a table hold.
///
/// # Safety
///
/// There must be a table of `count` regions at that address, and no thread may write to it.
unsafe fn bytes_of(table: u64, count: u64) -> u32 {
    let start = with_exposed_provenance::<libc::iovec>(table.try_into().unwrap_or(0));
    let regions = usize::try_from(count).unwrap_or(0);
    let mut bytes = 0_u64;
    for index in 0..regions {
        // SAFETY: within the table, which has `count` regions, as promised to `bytes_of`.
        let region = unsafe { start.add(index) };
        // SAFETY: a region of the table, as promised to `bytes_of`.
        let region = unsafe { region.read() };
        bytes = bytes.saturating_add(region.iov_len as u64);
    }
    most(bytes)
}

/// How many bytes a message has room for.
///
/// # Safety
///
/// There must be a header at that address, with a table as for [`bytes_of`], and no thread may
/// write to it.
unsafe fn bytes_of_message(header: u64) -> u32 {
    let header = with_exposed_provenance::<libc::msghdr>(header.try_into().unwrap_or(0));
    // SAFETY: there is a header, and no thread writes to it, as promised to `bytes_of_message`.
    let header = unsafe { header.read() };
    // SAFETY: the header names a table of that length, as promised to `bytes_of_message`.
    unsafe { bytes_of(header.msg_iov.addr() as u64, header.msg_iovlen as u64) }
}

/// Finds out how a chain ended, from how its steps ended, one after the other.
#[derive(Debug)]
pub struct Ends {
    steps: usize,
    /// The step that kept the next from beginning, if one did.
    at: usize,
    last_began: bool,
    all_ended: bool,
    /// Whether a step certainly kept all steps behind it from beginning.
    pub(super) is_cut: bool,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { steps: 0, at: 0, last_began: true, all_ended: true, is_cut: false }
    }

    /// The next step ended like this, or not yet.
    pub(super) fn step(&mut self, step: Option<StepEnd>) {
        match step {
            Some(StepEnd::Through) => self.at = self.steps + 1,
            Some(StepEnd::Broke(_)) => self.at = self.steps,
            Some(StepEnd::Cancelled(_)) => {}
            None => self.all_ended = false,
        }
        self.is_cut |=
            matches!(step, Some(StepEnd::Broke(Certain::Yes) | StepEnd::Cancelled(Certain::Yes)));
        self.last_began = !matches!(step, Some(StepEnd::Cancelled(_)));
        self.steps += 1;
    }

    /// How the chain ended, if every step has.
    pub(super) fn chain(&self) -> Option<ChainEnd> {
        let end =
            if self.last_began { ChainEnd::Complete } else { ChainEnd::Broken { at: self.at } };
        self.all_ended.then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::StepEnd::Through;
    use super::*;

    /// What [`Breaks::of`] says of an entry whose addresses, if it has any, are valid.
    fn breaks_of(sqe: &Sqe) -> Breaks {
        // SAFETY: the entry names only memory of the test, and no kernel gets it.
        unsafe { Breaks::of(sqe) }
    }

    fn end_of<const N: usize>(steps: [Option<StepEnd>; N]) -> Option<ChainEnd> {
        let mut ends = Ends::new();
        steps.into_iter().for_each(|step| ends.step(step));
        ends.chain()
    }

    fn end<const N: usize>(steps: [StepEnd; N]) -> ChainEnd {
        end_of(steps.map(Some)).expect("all are done")
    }

    #[test]
    fn a_chain_ends_at_the_step_that_kept_the_next_from_beginning() {
        let [broke, cancelled] = [StepEnd::Broke, StepEnd::Cancelled].map(|end| end(Certain::No));
        let broken = |at| ChainEnd::Broken { at };
        assert_eq!(end([Through, Through, Through]), ChainEnd::Complete);
        assert_eq!(end([Through, Through, broke]), ChainEnd::Complete);
        assert_eq!(end([Through, broke, cancelled]), broken(1));
        assert_eq!(end([Through, cancelled, cancelled]), broken(1));
        assert_eq!(end([Through, Through, cancelled]), broken(2));
        assert_eq!(end([broke, cancelled, cancelled]), broken(0));
        assert_eq!(end([cancelled, broke, cancelled]), broken(1));
        assert_eq!(end([cancelled, cancelled, cancelled]), broken(0));
        assert_eq!(end_of([Some(Through), None, Some(cancelled)]), None);
    }

    #[test]
    fn a_step_that_moved_another_number_of_bytes_certainly_broke_its_chain() {
        let now = Features::REG_REG_RING;
        let tell = |breaks: Breaks, result| breaks.tell(result, now);
        assert_eq!(tell(Breaks::Short(8), 7), StepEnd::Broke(Certain::Yes));
        assert_eq!(tell(Breaks::Short(8), -libc::EIO), StepEnd::Broke(Certain::Yes));
        assert_eq!(tell(Breaks::Short(8), -libc::ECANCELED), StepEnd::Cancelled(Certain::Yes));
        assert_eq!(tell(Breaks::Short(8), 8), Through);
        assert_eq!(tell(Breaks::Short(8), 9), StepEnd::Broke(Certain::No), "no kernel says so");
        for breaks in [Breaks::Likely, Breaks::Errors, Breaks::Refusals] {
            assert_eq!(tell(breaks, -libc::EINVAL), StepEnd::Broke(Certain::No));
            assert_eq!(tell(breaks, -libc::ECANCELED), StepEnd::Cancelled(Certain::No));
        }
        let cut = |ends: &[StepEnd]| {
            let mut all = Ends::new();
            ends.iter().for_each(|&end| all.step(Some(end)));
            all.is_cut
        };
        assert!(cut(&[Through, StepEnd::Broke(Certain::Yes), StepEnd::Cancelled(Certain::No)]));
        assert!(!cut(&[Through, StepEnd::Broke(Certain::No)]));
    }

    #[test]
    fn what_breaks_a_chain_is_told_by_its_entry() {
        let sqe = |opcode, op_flags| Sqe { opcode, len: 8, op_flags, ..Sqe::ZERO };
        let now = Features::REG_REG_RING;
        let all = libc::MSG_WAITALL.cast_unsigned();
        let read = breaks_of(&sqe(Opcode::READ, 0));
        assert!(!read.by(8, now) && read.by(7, now) && read.by(-libc::EIO, now));
        let picked = Sqe { flags: SqeFlags::BUFFER_SELECT, ..sqe(Opcode::READ, 0) };
        assert_eq!(breaks_of(&picked), Breaks::Likely);
        let some = breaks_of(&sqe(Opcode::RECV, 0));
        assert!(!some.by(8, now) && !some.by(7, now) && some.by(-libc::EIO, now));
        assert_eq!(breaks_of(&sqe(Opcode::RECV, all)), Breaks::Short(8));
        let sync = breaks_of(&sqe(Opcode::FSYNC, 0));
        assert!(!sync.by(-libc::EIO, now) && sync.by(-libc::EIO, Features::empty()));
        let unbroken = breaks_of(&sqe(Opcode::TIMEOUT, TimeoutFlags::ETIME_SUCCESS.bits()));
        assert!(!unbroken.by(-libc::ETIME, now) && unbroken.by(-libc::ECANCELED, now));
        assert!(breaks_of(&sqe(Opcode::TIMEOUT, 0)).by(-libc::ETIME, now));
        assert!(!Breaks::Refusals.by(-libc::EIO, now) && Breaks::Refusals.by(-libc::EINVAL, now));
    }

    #[test]
    fn the_bytes_of_a_table_are_counted() {
        let region = |len| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: len };
        let mut table = [region(3), region(5)];
        let addr = table.as_mut_ptr().expose_provenance() as u64;
        let sqe = Sqe { opcode: Opcode::READV, addr, len: 2, ..Sqe::ZERO };
        assert_eq!(breaks_of(&sqe), Breaks::Short(8));
        assert_eq!(most(u64::MAX), 0x7fff_f000);
    }
}
