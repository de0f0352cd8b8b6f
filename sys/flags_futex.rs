//! The flags of the futex operations: `FUTEX2_*` of `linux/futex.h`.
//!
//! ```text
//!   7         3    2     1 0
//!   PRIVATE … MPOL NUMA  size     the size of the futex word, and whether processes share it
//! ```
//!
//! `FUTEX_WAIT` and `FUTEX_WAKE` take the flags in the field `fd` of their entry, `FUTEX_WAITV` in
//! each [`FutexWaitv`](crate::abi::FutexWaitv).

use bitflags::bitflags;

bitflags! {
    /// Properties of a futex. The two lowest bits are not flags but a size. Kernels accept only one
    /// size, [`SIZE_U32`](Self::SIZE_U32).
    #[doc(alias = "FUTEX2")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct FutexFlags: u32 {
        /// The futex word has 32 bits. Since Linux 6.7.
        #[doc(alias = "FUTEX2_SIZE_U32")]
        const SIZE_U32 = 2;
        /// A second word follows the futex word. It holds the number of a memory node, and the
        /// kernel may write it. Since Linux 6.16.
        #[doc(alias = "FUTEX2_NUMA")]
        const NUMA = 1 << 2;
        /// The policy of the memory selects the node. Since Linux 6.16.
        #[doc(alias = "FUTEX2_MPOL")]
        const MPOL = 1 << 3;
        /// Only this process uses the futex. Since Linux 6.7.
        #[doc(alias = "FUTEX2_PRIVATE")]
        const PRIVATE = 1 << 7;

        const _ = !0;
    }
}

/// The maximum number of futexes of one `FUTEX_WAITV`. Since Linux 6.7.
pub const FUTEX_WAITV_MAX: u32 = 128;

/// The mask that matches every other mask: all bits. Since Linux 6.7.
#[doc(alias = "FUTEX_BITSET_MATCH_ANY")]
pub const FUTEX_MATCH_ANY: u32 = u32::MAX;
