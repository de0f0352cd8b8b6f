//! Registering buffers: fixed ones, and rings of provided ones.
#![allow(unsafe_code, reason = "hands buffers to the kernel")]

use std::io;
use std::os::fd::RawFd;
use std::ptr;

use annulus_sys::abi_register::{BufReg, CloneBuffers, RsrcRegister, RsrcUpdate2};
use annulus_sys::flags_register::{self, PbufRingFlags, RsrcRegisterFlags};
use annulus_sys::opcode::RegisterOp;

use super::super::address;
use super::super::types::CloneBuffersFlags;
use super::Submitter;

impl Submitter<'_> {
    /// Registers buffers for [`ReadFixed`](super::super::opcode::ReadFixed) and its like.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// The buffers must stay valid until they are unregistered and idle, or the ring is gone (RG1).
    pub unsafe fn register_buffers(&self, bufs: &[libc::iovec]) -> io::Result<()> {
        // SAFETY: the kernel copies the array; the buffers are as promised to `register_buffers`.
        unsafe { self.register(RegisterOp::BUFFERS, bufs.as_ptr(), bufs.len()) }.map(drop)
    }

    /// Replaces registered buffers, from index `offset` on. Since Linux 5.13.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// As for [`register_buffers`](Self::register_buffers).
    pub unsafe fn register_buffers_update(
        &self,
        offset: u32,
        bufs: &[libc::iovec],
        tags: Option<&[u64]>,
    ) -> io::Result<()> {
        let count = tags.map_or(bufs.len(), |tags| tags.len().min(bufs.len()));
        let update = RsrcUpdate2 {
            offset,
            data: address(bufs.as_ptr()),
            tags: tags.map_or(0, |tags| address(tags.as_ptr())),
            nr: counted(count)?,
            ..RsrcUpdate2::default()
        };
        let (op, size) = (RegisterOp::BUFFERS_UPDATE, size_of_val(&update));
        // SAFETY: the kernel copies the struct and both arrays, which have `nr` elements; the
        // buffers are as promised to `register_buffers_update`.
        unsafe { self.register(op, &raw const update, size) }.map(drop)
    }

    /// [`register_buffers`](Self::register_buffers), with a tag for each: a completion carries it
    /// when the buffer is unregistered and idle. A tag of 0 asks for none. Since Linux 5.13.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// As for [`register_buffers`](Self::register_buffers).
    pub unsafe fn register_buffers2(&self, bufs: &[libc::iovec], tags: &[u64]) -> io::Result<()> {
        let register = RsrcRegister {
            nr: counted(bufs.len().min(tags.len()))?,
            data: address(bufs.as_ptr()),
            tags: address(tags.as_ptr()),
            ..RsrcRegister::default()
        };
        let (op, size) = (RegisterOp::BUFFERS2, size_of_val(&register));
        // SAFETY: the kernel copies the struct and both arrays, which have `nr` elements; the
        // buffers are as promised to `register_buffers2`.
        unsafe { self.register(op, &raw const register, size) }.map(drop)
    }

    /// Registers `nr` empty places for buffers. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_buffers_sparse(&self, nr: u32) -> io::Result<()> {
        self.sparse(RegisterOp::BUFFERS2, nr)
    }

    /// Registers the buffers of another ring here too. Since Linux 6.12.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_buffers_clone(&self, src_fd: RawFd) -> io::Result<()> {
        self.register_buffers_clone_offset(src_fd, 0, 0, 0, CloneBuffersFlags::empty())
    }

    /// Registers `nr` buffers of another ring here too: those from `src_off` on, at `dst_off`. An
    /// `nr` of 0 means all. Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_buffers_clone_offset(
        &self,
        src_fd: RawFd,
        src_off: u32,
        dst_off: u32,
        nr: u32,
        flags: CloneBuffersFlags,
    ) -> io::Result<()> {
        let clone = CloneBuffers {
            src_fd: src_fd.cast_unsigned(),
            flags: flags_register::CloneBuffersFlags::from_bits_retain(flags.bits()),
            src_off,
            dst_off,
            nr,
            pad: [0; 3],
        };
        // SAFETY: the kernel copies the struct; it keeps the buffers' pages as those of the other
        // ring, whose caller promised that they are valid.
        unsafe { self.register(RegisterOp::CLONE_BUFFERS, &raw const clone, 1) }.map(drop)
    }

    /// Unregisters all buffers.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENXIO` if none are registered.
    pub fn unregister_buffers(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.register(RegisterOp::UNREGISTER_BUFFERS, ptr::null::<()>(), 0) }.map(drop)
    }

    /// Registers a buffer ring at `ring_addr` as the group `bgid`. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// As for [`register_buf_ring_with_flags`](Self::register_buf_ring_with_flags).
    #[deprecated(note = "use `register_buf_ring_with_flags`")]
    pub unsafe fn register_buf_ring(
        &self,
        ring_addr: u64,
        ring_entries: u16,
        bgid: u16,
    ) -> io::Result<()> {
        // SAFETY: as promised to `register_buf_ring`.
        unsafe { self.register_buf_ring_with_flags(ring_addr, ring_entries, bgid, 0) }
    }

    /// Registers a buffer ring at `ring_addr` as the group `bgid`. `flags` are
    /// [`IOU_PBUF_RING_MMAP`](super::super::types::IOU_PBUF_RING_MMAP) and
    /// [`IOU_PBUF_RING_INC`](super::super::types::IOU_PBUF_RING_INC). Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// The address must be that of `ring_entries` entries of 16 bytes, which stay valid, like the
    /// buffers that are put into them, until the group is unregistered and idle (RG1).
    pub unsafe fn register_buf_ring_with_flags(
        &self,
        ring_addr: u64,
        ring_entries: u16,
        bgid: u16,
        flags: u16,
    ) -> io::Result<()> {
        let flags = PbufRingFlags::from_bits_retain(flags);
        let ring_entries = u32::from(ring_entries);
        let register = BufReg { ring_addr, ring_entries, bgid, flags, ..BufReg::default() };
        // SAFETY: the kernel copies the struct; the ring is as promised to
        // `register_buf_ring_with_flags`.
        unsafe { self.register(RegisterOp::PBUF_RING, &raw const register, 1) }.map(drop)
    }

    /// Unregisters the buffer ring of group `bgid`. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENOENT` if there is none.
    pub fn unregister_buf_ring(&self, bgid: u16) -> io::Result<()> {
        let group = BufReg { bgid, ..BufReg::default() };
        // SAFETY: the kernel copies the struct, which names no memory.
        unsafe { self.register(RegisterOp::UNREGISTER_PBUF_RING, &raw const group, 1) }.map(drop)
    }

    /// Registers a table of `nr` empty places.
    pub(super) fn sparse(&self, op: RegisterOp, nr: u32) -> io::Result<()> {
        let flags = RsrcRegisterFlags::SPARSE;
        let table = RsrcRegister { nr, flags, ..RsrcRegister::default() };
        // SAFETY: the kernel copies the struct, which names no memory.
        unsafe { self.register(op, &raw const table, size_of_val(&table)) }.map(drop)
    }
}

/// A number of elements, as the kernel counts.
fn counted(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
