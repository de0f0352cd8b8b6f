//! What the futex operations are told: `FUTEX2_*` of `linux/futex.h`.
//!
//! ```text
//!   7         3    2     1 0
//!   PRIVATE … MPOL NUMA  size     of a futex: what the word is, and who shares it
//! ```
//!
//! Values only. `FUTEX_WAIT` and `FUTEX_WAKE` have them where others have a descriptor, and
//! `FUTEX_WAITV` in each [`FutexWaitv`](crate::abi::FutexWaitv).

use bitflags::bitflags;

bitflags! {
    /// What a futex is. The two lowest bits are no flags but a size, of which kernels take one:
    /// [`SIZE_U32`](Self::SIZE_U32).
    #[doc(alias = "FUTEX2")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct FutexFlags: u32 {
        /// The word has 32 bits. Since Linux 6.7.
        #[doc(alias = "FUTEX2_SIZE_U32")]
        const SIZE_U32 = 2;
        /// The word is followed by another, with the number of a memory node, which the kernel may
        /// write. Since Linux 6.16.
        #[doc(alias = "FUTEX2_NUMA")]
        const NUMA = 1 << 2;
        /// The memory's policy chooses the node. Since Linux 6.16.
        #[doc(alias = "FUTEX2_MPOL")]
        const MPOL = 1 << 3;
        /// Only this process uses it. Since Linux 6.7.
        #[doc(alias = "FUTEX2_PRIVATE")]
        const PRIVATE = 1 << 7;

        const _ = !0;
    }
}

/// How many futexes one `FUTEX_WAITV` waits for, at most. Since Linux 6.7.
pub const FUTEX_WAITV_MAX: u32 = 128;

/// The mask that every other meets. Since Linux 6.7.
#[doc(alias = "FUTEX_BITSET_MATCH_ANY")]
pub const FUTEX_MATCH_ANY: u32 = u32::MAX;
