//! Where a chain broke: which steps began, and which of them kept the next from beginning.
//!
//! ```text
//!   results   8 of 8   3 of 8   ECANCELED          0        ECANCELED   ECANCELED
//!   so        through  broke    never began        through  cancelled   never began
//!                      ^ here                               ^ here: it ran, or nothing
//!                                                             held it back
//! ```
//!
//! The kernel tells only results, and `ECANCELED` of what never began as of what was cancelled
//! while it ran. So we note with each entry which results break the chain, as the kernel's handlers
//! do.
//!
//! Keeps OP1: asked while the operation lies where it stays. Leaves to others: what a tie means
//! (`link`).
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
    /// Fewer bytes than the buffers have that the kernel picked. We do not know how many those
    /// are; and what is behind is far more often held back by that than cancelled while it ran.
    Likely,
    /// Errors.
    Errors,
    /// Errors, but not that the time is up.
    ErrorsButTime,
    /// Errors, before Linux 6.0.
    ErrorsOnce,
    /// Only that the kernel refused the step, without running it.
    Refusals,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// It began, and let the next begin.
    Through,
    /// It began, or was refused, and kept the next from beginning.
    Broke,
    /// It never began, or was cancelled.
    Cancelled,
}

impl Breaks {
    /// By the entry of an operation, which lies where it stays.
    pub(super) fn of(sqe: &Sqe) -> Self {
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
                Self::Short(bytes_of(sqe.addr, u64::from(sqe.len)))
            }
            Opcode::SPLICE | Opcode::TEE => Self::Short(sqe.len),
            Opcode::SENDMSG | Opcode::RECVMSG | Opcode::SENDMSG_ZC if waits_for_all && !picked => {
                Self::Short(bytes_of_message(sqe.addr))
            }
            Opcode::SEND | Opcode::RECV | Opcode::SEND_ZC if waits_for_all && !picked => {
                let vectored = sqe.opcode != Opcode::RECV
                    && sqe.ioprio & RecvSendFlags::SEND_VECTORIZED.bits() != 0;
                let one = most(sqe.len.into());
                Self::Short(if vectored { bytes_of(sqe.addr, sqe.len.into()) } else { one })
            }
            Opcode::TIMEOUT if sqe.op_flags & TimeoutFlags::ETIME_SUCCESS.bits() != 0 => {
                Self::ErrorsButTime
            }
            opcode if ONCE.contains(&opcode) => Self::ErrorsOnce,
            _ => Self::Errors,
        }
    }

    /// How a step went that ended with `result`.
    pub(super) fn tell(self, result: i32, features: Features) -> Went {
        if result == -libc::ECANCELED {
            Went::Cancelled
        } else if self.by(result, features) {
            Went::Broke
        } else {
            Went::Through
        }
    }

    /// Whether a step that ended with `result` kept the next from beginning.
    fn by(self, result: i32, features: Features) -> bool {
        match self {
            Self::Short(asked) => u32::try_from(result) != Ok(asked),
            Self::Likely => true,
            Self::Errors => result < 0,
            Self::ErrorsButTime => result < 0 && result != -libc::ETIME,
            // Since Linux 6.3, the first that says so.
            Self::ErrorsOnce => result < 0 && !features.contains(Features::REG_REG_RING),
            Self::Refusals => matches!(result.wrapping_neg(), libc::EINVAL | libc::EBADF),
        }
    }
}

/// Whose errors break no chain since Linux 6.0.
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
    const MOST: u32 = 0x7fff_f000;
    u32::try_from(bytes).unwrap_or(MOST).min(MOST)
}

/// How many bytes a table of `count` regions has.
fn bytes_of(table: u64, count: u64) -> u32 {
    let start = with_exposed_provenance::<libc::iovec>(table.try_into().unwrap_or(0));
    let regions = usize::try_from(count).unwrap_or(0);
    let mut bytes = 0_u64;
    for index in 0..regions {
        // SAFETY: within a table of so many, because the operation says so (OP1).
        let region = unsafe { start.add(index) };
        // SAFETY: where the operation stays its addresses are valid (OP1).
        let region = unsafe { region.read() };
        bytes = bytes.saturating_add(region.iov_len as u64);
    }
    most(bytes)
}

/// How many bytes a message has room for.
fn bytes_of_message(header: u64) -> u32 {
    let header = with_exposed_provenance::<libc::msghdr>(header.try_into().unwrap_or(0));
    // SAFETY: a header that nobody writes to yet, because the kernel does not have the entry, and
    // its address is valid where the operation stays (OP1).
    let header = unsafe { header.read() };
    bytes_of(header.msg_iov.addr() as u64, header.msg_iovlen as u64)
}

/// Where a chain whose steps went so ended.
pub(super) fn end_of<const N: usize>(steps: [Option<Went>; N]) -> Option<ChainEnd> {
    let mut at = 0;
    for (index, step) in steps.into_iter().enumerate() {
        match step? {
            Went::Through => at = index + 1,
            Went::Broke => at = index,
            Went::Cancelled => {}
        }
    }
    let last_began = steps.last().is_none_or(|step| *step != Some(Went::Cancelled));
    Some(if last_began { ChainEnd::Complete } else { ChainEnd::Broken { at } })
}

#[cfg(test)]
mod tests {
    use super::Went::{Broke, Cancelled, Through};
    use super::*;

    fn end<const N: usize>(steps: [Went; N]) -> ChainEnd {
        end_of(steps.map(Some)).expect("all are done")
    }

    #[test]
    fn a_chain_ends_at_the_step_that_kept_the_next_from_beginning() {
        let broken = |at| ChainEnd::Broken { at };
        assert_eq!(end([Through, Through, Through]), ChainEnd::Complete);
        assert_eq!(end([Through, Through, Broke]), ChainEnd::Complete);
        assert_eq!(end([Through, Broke, Cancelled]), broken(1));
        assert_eq!(end([Through, Cancelled, Cancelled]), broken(1));
        assert_eq!(end([Through, Through, Cancelled]), broken(2));
        assert_eq!(end([Broke, Cancelled, Cancelled]), broken(0));
        assert_eq!(end([Cancelled, Broke, Cancelled]), broken(1));
        assert_eq!(end([Cancelled, Cancelled, Cancelled]), broken(0));
        assert_eq!(end_of([Some(Through), None, Some(Cancelled)]), None);
    }

    #[test]
    fn what_breaks_a_chain_is_told_by_its_entry() {
        let sqe = |opcode, op_flags| Sqe { opcode, len: 8, op_flags, ..Sqe::ZERO };
        let now = Features::REG_REG_RING;
        let all = libc::MSG_WAITALL.cast_unsigned();
        let read = Breaks::of(&sqe(Opcode::READ, 0));
        assert!(!read.by(8, now) && read.by(7, now) && read.by(-libc::EIO, now));
        let picked = Sqe { flags: SqeFlags::BUFFER_SELECT, ..sqe(Opcode::READ, 0) };
        assert_eq!(Breaks::of(&picked), Breaks::Likely);
        let some = Breaks::of(&sqe(Opcode::RECV, 0));
        assert!(!some.by(8, now) && !some.by(7, now) && some.by(-libc::EIO, now));
        assert_eq!(Breaks::of(&sqe(Opcode::RECV, all)), Breaks::Short(8));
        let sync = Breaks::of(&sqe(Opcode::FSYNC, 0));
        assert!(!sync.by(-libc::EIO, now) && sync.by(-libc::EIO, Features::empty()));
        let unbroken = Breaks::of(&sqe(Opcode::TIMEOUT, TimeoutFlags::ETIME_SUCCESS.bits()));
        assert!(!unbroken.by(-libc::ETIME, now) && unbroken.by(-libc::ECANCELED, now));
        assert!(Breaks::of(&sqe(Opcode::TIMEOUT, 0)).by(-libc::ETIME, now));
        assert!(!Breaks::Refusals.by(-libc::EIO, now) && Breaks::Refusals.by(-libc::EINVAL, now));
    }

    #[test]
    fn the_bytes_of_a_table_are_counted() {
        let region = |len| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: len };
        let mut table = [region(3), region(5)];
        let addr = table.as_mut_ptr().expose_provenance() as u64;
        let sqe = Sqe { opcode: Opcode::READV, addr, len: 2, ..Sqe::ZERO };
        assert_eq!(Breaks::of(&sqe), Breaks::Short(8));
        assert_eq!(most(u64::MAX), 0x7fff_f000);
    }
}
