//! How large a ring is, and where everything in it lies: as Linux 6.x decides it.
//!
//! ```text
//!   rings    │ indices, sizes, flags │ completions, 16 or 32 bytes │ index array │
//!   entries  │ 64 or 128 bytes each                                              │
//! ```
//!
//! | asked for | refused with |
//! |---|---|
//! | flags that exclude or need each other | `EINVAL` |
//! | more entries than there can be, without `CLAMP`; fewer completions than entries | `EINVAL` |
//! | a mixed queue of one slot | `EOVERFLOW` |

use annulus_sys::abi::{CqringOffsets, Params, SqringOffsets};
use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;

/// The most submission and completion entries.
const MOST: (u32, u32) = (1 << 15, 1 << 16);
/// Where the completions begin; before them are the indices.
pub(super) const CQES: u32 = 320;

/// Where the words of a ring lie.
pub(super) const WORDS: [u32; 12] = [0, 64, 128, 192, 256, 260, 264, 268, 272, 276, 280, 284];

fn refused<T>(errno: i32) -> Result<T, Errno> {
    Err(Errno::new(errno))
}

/// Whether Linux takes these flags together.
pub(super) fn fit_together(flags: SetupFlags) -> bool {
    let has = |flag| flags.contains(flag);
    let any = |some| flags.intersects(some);
    let signals = SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG | SetupFlags::DEFER_TASKRUN;
    let puts_off = SetupFlags::DEFER_TASKRUN | SetupFlags::COOP_TASKRUN;
    let refused = (has(SetupFlags::DEFER_TASKRUN) && !has(SetupFlags::SINGLE_ISSUER))
        || (has(SetupFlags::TASKRUN_FLAG) && !any(puts_off))
        || (has(SetupFlags::SQPOLL) && any(signals))
        || (has(SetupFlags::REGISTERED_FD_ONLY) && !has(SetupFlags::NO_MMAP))
        || (has(SetupFlags::HYBRID_IOPOLL) && !has(SetupFlags::IOPOLL))
        || has(SetupFlags::CQE32 | SetupFlags::CQE_MIXED)
        || has(SetupFlags::SQE128 | SetupFlags::SQE_MIXED)
        || (has(SetupFlags::SQ_REWIND)
            && (has(SetupFlags::SQPOLL) || !has(SetupFlags::NO_SQARRAY)));
    !refused
}

/// The sizes that Linux makes of a request, if it accepts them, and the offsets.
pub(super) fn sized(entries: u32, asked: Params) -> Result<Params, Errno> {
    let flags = asked.flags;
    let round = |count: u32, most: u32| match count {
        0 => refused(libc::EINVAL),
        _ if count <= most => Ok(count.next_power_of_two()),
        _ if flags.contains(SetupFlags::CLAMP) => Ok(most),
        _ => refused(libc::EINVAL),
    };
    let sq_entries = round(entries, MOST.0)?;
    let cq_entries = if flags.contains(SetupFlags::CQSIZE) {
        round(asked.cq_entries, MOST.1)?
    } else {
        2 * sq_entries
    };
    if cq_entries < sq_entries {
        return refused(libc::EINVAL);
    }
    let is_narrow = (flags.contains(SetupFlags::CQE_MIXED) && cq_entries < 2)
        || (flags.contains(SetupFlags::SQE_MIXED) && sq_entries < 2);
    if is_narrow {
        return refused(libc::EOVERFLOW);
    }
    let mut params = Params { sq_entries, cq_entries, ..asked };
    locate(&mut params);
    Ok(params)
}

/// Writes the offsets.
fn locate(params: &mut Params) {
    let width = if params.flags.contains(SetupFlags::CQE32) { 32 } else { 16 };
    let array = CQES + width * params.cq_entries;
    let has_array = !params.flags.contains(SetupFlags::NO_SQARRAY);
    params.sq_off = SqringOffsets {
        head: 0,
        tail: 64,
        ring_mask: 256,
        ring_entries: 264,
        flags: 276,
        dropped: 272,
        array: if has_array { array } else { 0 },
        ..params.sq_off
    };
    params.cq_off = CqringOffsets {
        head: 128,
        tail: 192,
        ring_mask: 260,
        ring_entries: 268,
        overflow: 284,
        cqes: CQES,
        flags: 280,
        ..params.cq_off
    };
}

/// How many bytes the rings, and the entries, of a ring take.
pub(super) fn lengths(params: &Params) -> (usize, usize) {
    let flags = params.flags;
    let width = |flag, single: usize| if flags.contains(flag) { 2 * single } else { single };
    let (sq, cq) = (params.sq_entries as usize, params.cq_entries as usize);
    let array = if flags.contains(SetupFlags::NO_SQARRAY) { 0 } else { size_of::<u32>() * sq };
    let cqes = width(SetupFlags::CQE32, 16) * cq;
    (CQES as usize + cqes + array, width(SetupFlags::SQE128, 64) * sq)
}
