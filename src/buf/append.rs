//! Appending: a vector that the kernel fills behind what is in it.
//!
//! ```text
//!   Vec<u8>            │ H e l l o │ . . . . . . │ capacity
//!   read into it       ─────────────────────────►  fills from the front
//!   Append::new(vec)               ─────────────►  fills what is spare
//! ```
//!
//! Leaves to others: filling from the front (`buf`), and a range of what is there (`slice`).
#![allow(unsafe_code, reason = "says which bytes of a vector the kernel has written")]

use super::{IoBuf, IoBufMut, Region, RegionMut};

/// A `Vec<u8>`, or a `BytesMut`, to be read into behind what is in it: the kernel writes to the
/// spare capacity, and the length grows by what it wrote.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::buf::Append;
/// use annulus::op::{Read, Write};
///
/// let mut ring = Setup::new(4).build()?;
/// let (reader, writer) = std::io::pipe()?;
/// let write = ring.submit(Write::new(writer, "world"))?;
///
/// let mut text = b"Hello, ".to_vec();
/// text.reserve(16);
/// let read = ring.submit(Read::new(reader, Append::new(text)))?;
/// let (count, text) = ring.wait(read)?.ok()?;
/// assert_eq!((count, text.into_inner()), (5, b"Hello, world".to_vec()));
/// # ring.wait(write)?.result?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Append<B> {
    buf: B,
}

impl<B> Append<B> {
    /// Keeps what is in `buf`, and appends.
    pub fn new(buf: B) -> Self {
        Self { buf }
    }

    /// The buffer.
    pub fn get_ref(&self) -> &B {
        &self.buf
    }

    /// Gives the buffer back.
    pub fn into_inner(self) -> B {
        self.buf
    }
}

impl<B: IoBuf> IoBuf for Append<B> {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.buf.region()
    }
}

impl IoBufMut for Append<Vec<u8>> {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.buf.spare_capacity_mut().into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        let len = self.buf.len() + count;
        // SAFETY: the spare capacity begins at `len()`, and its first `count` bytes were written,
        // as promised to `set_filled`.
        unsafe { self.buf.set_len(len) };
    }
}

#[cfg(feature = "bytes")]
impl IoBufMut for Append<bytes::BytesMut> {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.buf.spare_capacity_mut().into()
    }

    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        let len = self.buf.len() + count;
        // SAFETY: the spare capacity begins at `len()`, and its first `count` bytes were written,
        // as promised to `set_filled`.
        unsafe { self.buf.set_len(len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_vector_stays() {
        let mut buf = Vec::with_capacity(64);
        buf.extend_from_slice(b"abc");
        let (start, spare) = (buf.as_ptr().addr() as u64, buf.capacity() - 3);
        let mut append = Append::new(buf);
        let region = append.region_mut();
        assert_eq!((region.addr(), region.len()), (start + 3, spare));
        for (byte, value) in append.buf.spare_capacity_mut().iter_mut().zip(*b"de") {
            byte.write(value);
        }
        // SAFETY: two bytes of the region were written, as the lines above do.
        unsafe { append.set_filled(2) };
        assert_eq!(append.into_inner(), b"abcde");
    }
}
