//! Entries about futexes: the words, the values that they must have, and the masks.
#![allow(unsafe_code, reason = "reads what entries point to")]

use annulus_sys::abi::{FutexWaitv, Sqe};
use annulus_sys::flags_futex::{FUTEX_MATCH_ANY, FUTEX_WAITV_MAX, FutexFlags};
use annulus_sys::opcode::Opcode;

use super::super::region::read_value;
use super::Job;

/// A futex: the address of its word, and whether it is for this process only. A wait and a wake
/// meet only if both say so, or neither does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) struct Futex {
    pub(in crate::sim) address: u64,
    pub(in crate::sim) is_private: bool,
}

/// What is done with futexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) enum FutexJob {
    /// Waits until one of these is woken, each of which must have a value. Says which, if it was
    /// given a list.
    Wait {
        words: Vec<(Futex, u32)>,
        mask: u32,
        is_list: bool,
    },
    Wake {
        word: Futex,
        count: i32,
        mask: u32,
    },
}

/// What a futex is that has these flags.
fn futex(address: u64, flags: FutexFlags) -> Result<Futex, i32> {
    // One size, and no memory nodes.
    match flags - FutexFlags::PRIVATE {
        FutexFlags::SIZE_U32 => {
            Ok(Futex { address, is_private: flags.contains(FutexFlags::PRIVATE) })
        }
        _ => Err(libc::EINVAL),
    }
}

pub(super) fn futex_entry(sqe: &Sqe) -> Result<Job, i32> {
    let is_odd = sqe.ioprio != 0 || sqe.op_flags != 0 || sqe.file_index != 0;
    let job = match sqe.opcode {
        _ if is_odd => return Err(libc::EINVAL),
        Opcode::FUTEX_WAITV => list(sqe)?,
        _ if sqe.len != 0 => return Err(libc::EINVAL),
        opcode => {
            let word = futex(sqe.addr, FutexFlags::from_bits_retain(sqe.fd.cast_unsigned()))?;
            let value = u32::try_from(sqe.off).map_err(|_| libc::EINVAL)?;
            let mask = u32::try_from(sqe.addr3).map_err(|_| libc::EINVAL)?;
            match opcode {
                Opcode::FUTEX_WAIT => {
                    FutexJob::Wait { words: vec![(word, value)], mask, is_list: false }
                }
                _ => FutexJob::Wake { word, count: value.cast_signed(), mask },
            }
        }
    };
    Ok(Job::Futex(job))
}

fn list(sqe: &Sqe) -> Result<FutexJob, i32> {
    let is_odd = sqe.fd != 0 || sqe.off != 0 || sqe.addr3 != 0;
    if is_odd || sqe.len == 0 || sqe.len > FUTEX_WAITV_MAX {
        return Err(libc::EINVAL);
    }
    let word = |index: u32| {
        let address = sqe.addr + u64::from(index) * size_of::<FutexWaitv>() as u64;
        // SAFETY: `len` live `struct futex_waitv`, for which the program vouched (OP1).
        let FutexWaitv { val, uaddr, flags, reserved } = unsafe { read_value(address) };
        let word = futex(uaddr, FutexFlags::from_bits_retain(flags))?;
        let value = u32::try_from(val).map_err(|_| libc::EINVAL)?;
        if reserved == 0 { Ok((word, value)) } else { Err(libc::EINVAL) }
    };
    let words = (0..sqe.len).map(word).collect::<Result<_, _>>()?;
    Ok(FutexJob::Wait { words, mask: FUTEX_MATCH_ANY, is_list: true })
}
