//! The memory of a request, from the moment when its entry is consumed until its last completion.
//!
//! ```text
//!   kernel reads   kept: a copy      at each look: still the same?     read when it is executed
//!   kernel writes  kept: a copy,     at each look: still poison?       bytes written, and the rest
//!                  then POISON                                         put back, as it completes
//! ```
//!
//! So a buffer that is freed, moved, written or lent to another operation while a request has it is
//! noticed (OP1), and what a request writes is written as late as Linux may write it. The first
//! [`WATCHED`] bytes of a buffer are looked at.
//!
//! # Safety
//!
//! Touches the memory that entries point to, for which the program vouched as it pushed them (OP1).
//! Once a rule was found broken, the simulated kernel touches no memory of the program any more.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::mem::MaybeUninit;
use std::ptr;

use annulus_sys::errno::Errno;

use super::block::{POISON, is_mapped};

/// How many bytes of a buffer are watched, from its start.
pub(super) const WATCHED: usize = 1024;

/// A buffer of a request.
#[derive(Debug)]
pub(super) struct Region {
    address: usize,
    len: usize,
    use_: Use,
    /// The bytes at the start, as they were.
    before: Vec<MaybeUninit<u8>>,
}

/// Where memory of a request lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) address: u64,
    pub(super) len: usize,
    pub(super) use_: Use,
}

/// What the kernel does with the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Reads,
    Writes,
    /// It reads, and then writes the front.
    Both,
}

impl Region {
    /// The bytes of `span`, for a request that begins now.
    ///
    /// # Safety
    ///
    /// They must be valid for the use until [`end`](Self::end) was called, and initialised if the
    /// kernel reads them (OP1).
    pub(super) unsafe fn new(span: Span) -> Self {
        let Span { address, len, use_ } = span;
        let address = usize::try_from(address).expect("64 bits");
        let watched = len.min(WATCHED);
        let mut before = vec![MaybeUninit::uninit(); watched];
        let from = ptr::with_exposed_provenance::<MaybeUninit<u8>>(address);
        // SAFETY: so many bytes of the program's, as promised to `new`; no bytes for an empty one.
        unsafe { ptr::copy_nonoverlapping(from, before.as_mut_ptr(), watched) };
        if use_ == Use::Writes && watched > 0 {
            let to = ptr::with_exposed_provenance_mut::<u8>(address);
            // SAFETY: valid for writes, as promised to `new`.
            unsafe { to.write_bytes(POISON, watched) };
        }
        Self { address, len, use_, before }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn use_(&self) -> Use {
        self.use_
    }

    /// Whether the memory is as the kernel left it.
    pub(super) fn is_untouched(&self) -> bool {
        let (mut now, watched) = ([0; WATCHED], self.before.len());
        let at = ptr::with_exposed_provenance::<u8>(self.address);
        // SAFETY: memory of a request that the kernel has (OP1), initialised: by the program, if
        // the kernel reads it, and by `new` if it writes.
        unsafe { ptr::copy_nonoverlapping(at, now.as_mut_ptr(), watched) };
        if self.use_ == Use::Writes {
            return now[..watched].iter().all(|&byte| byte == POISON);
        }
        // SAFETY: the program has initialised what the kernel reads, as promised to `Region::new`.
        let before = unsafe { std::slice::from_raw_parts(self.before.as_ptr().cast(), watched) };
        now[..watched] == *before
    }

    /// The bytes from `from` on.
    pub(super) fn read(&self, from: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.len.saturating_sub(from)];
        let at = ptr::with_exposed_provenance::<u8>(self.address + from.min(self.len));
        // SAFETY: memory of a request that the kernel has (OP1), which offers it to be read.
        unsafe { ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }

    /// The first bytes as the program left them, before the kernel filled them with poison.
    pub(super) fn original(&self, most: usize) -> Vec<u8> {
        let mut bytes = self.read(0);
        let known = self.before.len();
        // SAFETY: the program has initialised what it offers to be sent, as it must for a `SEND`.
        let before = unsafe { std::slice::from_raw_parts(self.before.as_ptr().cast(), known) };
        bytes[..known].copy_from_slice(before);
        bytes.truncate(most);
        bytes
    }

    /// What is left behind the first `count` bytes, which the program has again.
    ///
    /// # Safety
    ///
    /// As [`new`](Self::new); `count` is at most the length.
    pub(super) unsafe fn behind(&self, count: usize) -> Self {
        let address = (self.address + count) as u64;
        let span = Span { address, len: self.len - count, use_: self.use_ };
        // SAFETY: a part of this region, as promised to `behind`.
        unsafe { Self::new(span) }
    }

    /// As [`end`](Self::end), for bytes that belong at several places.
    pub(super) fn end_in_parts(&self, parts: &[(usize, &[u8])]) {
        self.end(&[]);
        for &(from, bytes) in parts {
            let from = from.min(self.len);
            let at = ptr::with_exposed_provenance_mut::<u8>(self.address + from);
            let count = bytes.len().min(self.len - from);
            // SAFETY: memory of a request that the kernel has (OP1); so many bytes follow.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, count) };
        }
    }

    /// The request ends: writes `bytes` to the front, and puts back what was behind them.
    pub(super) fn end(&self, bytes: &[u8]) {
        assert!(self.use_ != Use::Reads || bytes.is_empty(), "the kernel only reads this memory");
        if self.use_ == Use::Reads {
            return;
        }
        let count = bytes.len().min(self.len);
        let at = ptr::with_exposed_provenance_mut::<u8>(self.address);
        // SAFETY: memory of a request that the kernel has (OP1); `count` is at most its length.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, count) };
        let Some(rest) = self.before.get(count..) else { return };
        // SAFETY: in bounds, since `before` is at most as long as the memory.
        let behind = unsafe { at.add(count) }.cast::<MaybeUninit<u8>>();
        // SAFETY: the bytes that follow, which are no more than `len`, since `before` is at most as
        // long as the memory.
        unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), behind, rest.len()) };
    }
}

/// Reads a value that an entry points to.
///
/// # Safety
///
/// The entry must point to a live `T`, any bytes of which are a `T` (OP1).
pub(super) unsafe fn read_value<T: Copy>(address: u64) -> T {
    let at = ptr::with_exposed_provenance::<T>(usize::try_from(address).expect("64 bits"));
    // SAFETY: a live `T`, as promised to `read_value`.
    unsafe { at.read_unaligned() }
}

/// Copies the argument of a call, or fails with `EFAULT` if nothing is mapped there.
///
/// # Safety
///
/// If something is mapped there, it must be a live `T`, any bytes of which are a `T`.
pub(super) unsafe fn copy_in<T: Copy>(address: u64) -> Result<T, Errno> {
    if !is_mapped(address, size_of::<T>() as u64) {
        return Err(Errno::new(libc::EFAULT));
    }
    // SAFETY: a live `T`, as promised to `copy_in`.
    Ok(unsafe { read_value(address) })
}

/// Writes a value to where an argument of a call points.
///
/// # Safety
///
/// It must point to memory for a `T`, which the kernel may write.
pub(super) unsafe fn write_value<T: Copy>(address: *mut libc::c_void, value: T) {
    // SAFETY: memory for a `T`, as promised to `write_value`.
    unsafe { address.cast::<T>().write_unaligned(value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op1_memory_is_poison_until_the_request_ends() {
        let mut bytes = *b"before..";
        let at = bytes.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: so many bytes of this test's, which uses them only through the region until then.
        let region = unsafe { Region::new(Span { address: at, len: 8, use_: Use::Writes }) };
        assert!(region.is_untouched());
        region.end(b"new");
        assert_eq!(&bytes, b"newore..");
        // SAFETY: so many bytes of this test's.
        let region = unsafe { Region::new(Span { address: at, len: 8, use_: Use::Reads }) };
        assert_eq!((region.is_untouched(), &region.read(3)[..]), (true, &b"ore.."[..]));
        bytes[7] = b'!';
        assert!(!region.is_untouched());
        region.end(&[]);
        assert_eq!(&bytes, b"newore.!");
    }
}
