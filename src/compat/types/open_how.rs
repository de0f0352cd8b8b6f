//! Arguments that lie in memory of the caller's until the kernel has read them.

use annulus_sys::abi;

/// How [`OpenAt2`](super::super::opcode::OpenAt2) opens a file: see `openat2(2)`.
#[derive(Default, Debug, Clone, Copy)]
#[repr(transparent)]
pub struct OpenHow(abi::OpenHow);

impl OpenHow {
    /// All zeroes.
    pub const fn new() -> Self {
        Self(abi::OpenHow { flags: 0, mode: 0, resolve: 0 })
    }

    /// `O_*`.
    pub const fn flags(mut self, flags: u64) -> Self {
        self.0.flags = flags;
        self
    }

    /// The permissions of a new file.
    pub const fn mode(mut self, mode: u64) -> Self {
        self.0.mode = mode;
        self
    }

    /// `RESOLVE_*`: the rules for the path.
    pub const fn resolve(mut self, resolve: u64) -> Self {
        self.0.resolve = resolve;
        self
    }
}

/// One futex of [`FutexWaitV`](super::super::opcode::FutexWaitV).
#[derive(Default, Debug, Clone, Copy)]
#[repr(transparent)]
pub struct FutexWaitV(abi::FutexWaitv);

impl FutexWaitV {
    /// All zeroes.
    pub const fn new() -> Self {
        Self(abi::FutexWaitv { val: 0, uaddr: 0, flags: 0, reserved: 0 })
    }

    /// The value that the futex must have for the wait to start.
    pub const fn val(mut self, val: u64) -> Self {
        self.0.val = val;
        self
    }

    /// The address of the futex.
    pub const fn uaddr(mut self, uaddr: u64) -> Self {
        self.0.uaddr = uaddr;
        self
    }

    /// `FUTEX2_*`: its size, and whether other processes share it.
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.flags = flags;
        self
    }
}
