//! Nothing, done by the kernel: for tests, for measuring, and for waking a ring.
#![allow(unsafe_code, reason = "writes an entry")]

use std::io;

use annulus_sys::abi::Sqe;

use super::{Done, Op};
use crate::prep;

/// Does nothing. Since Linux 5.1.
///
/// # Completion
///
/// At once, with 0.
///
/// # Cancellation
///
/// Never: it has completed before a cancel can find it.
#[doc(alias = "IORING_OP_NOP")]
#[doc(alias = "io_uring_prep_nop")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Nop;

// SAFETY: OP1 to OP3: it points to nothing, completes once, and brings nothing.
unsafe impl Op for Nop {
    type Output = io::Result<u32>;

    #[inline]
    fn prep(&mut self) -> Sqe {
        prep::nop()
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        done.result()
    }
}
