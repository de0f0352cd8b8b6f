//! How an enter waits: a time limit, a minimum wait, a signal mask.

use std::marker::PhantomData;

use annulus_sys::abi::GeteventsArg;
use annulus_sys::syscall::SIGMASK_SIZE;

use super::super::address;
use super::time::Timespec;

/// How [`submit_with_args`](super::super::Submitter::submit_with_args) waits. It borrows what it is
/// given: `'prev` and `'now` are the last two borrows, and each outlives the next.
#[derive(Default, Debug, Clone, Copy)]
#[repr(transparent)]
pub struct SubmitArgs<'prev: 'now, 'now> {
    arg: GeteventsArg,
    borrows: PhantomData<(&'prev (), &'now ())>,
}

impl<'prev, 'now> SubmitArgs<'prev, 'now> {
    /// A wait without a limit.
    #[inline]
    pub const fn new() -> SubmitArgs<'static, 'static> {
        let arg = GeteventsArg { sigmask: 0, sigmask_sz: 0, min_wait_usec: 0, ts: 0 };
        SubmitArgs { arg, borrows: PhantomData }
    }

    /// The signal mask that applies during the wait.
    #[inline]
    pub fn sigmask<'new>(self, sigmask: &'new libc::sigset_t) -> SubmitArgs<'now, 'new> {
        const { assert!(SIGMASK_SIZE == 8) };
        let arg = GeteventsArg { sigmask: address(sigmask), sigmask_sz: 8, ..self.arg };
        SubmitArgs { arg, borrows: PhantomData }
    }

    /// For how long to wait for all completions; after that, one is enough. Since Linux 6.12.
    #[inline]
    pub fn min_wait_usec(mut self, min_wait_usec: u32) -> Self {
        self.arg.min_wait_usec = min_wait_usec;
        self
    }

    /// For how long to wait at most.
    #[inline]
    pub fn timespec<'new>(self, timespec: &'new Timespec) -> SubmitArgs<'now, 'new> {
        let arg = GeteventsArg { ts: address(timespec), ..self.arg };
        SubmitArgs { arg, borrows: PhantomData }
    }

    /// The kernel's struct, whose pointers this value borrows.
    #[inline]
    pub(in super::super) fn arg(&self) -> &GeteventsArg {
        &self.arg
    }
}
