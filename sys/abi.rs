//! The entries of the rings, and the arguments of `io_uring_setup(2)` and `io_uring_enter(2)`.
//!
//! A submission entry is 64 bytes. The kernel declares it with unions. Here each place has one
//! name, and the documentation of the field lists the kernel's other names for it.
//!
//! ```text
//!      0      1      2             4                           8
//!   0  opcode flags  ioprio        fd                          off      addr2, cmd_op
//!  16  addr    splice_off_in, level + optname    24  len       28  op_flags   rw_flags, ...
//!  32  user_data                                 40  buf_index 42  personality
//!                                                44  file_index   splice_fd_in, optlen, ...
//!  48  addr3   attr_ptr, optval, cmd[0..8]       56  pad2      attr_type_mask, cmd[8..16]
//!  64  (a ring of 128-byte entries)  cmd[16..80]
//! ```
//!
//! A completion entry is 16 bytes, or 32: `user_data`, `res`, `flags`, then `big`.
//!
//! These are plain numbers: an address is a `u64`, and flags are the types of
//! [`flags`](crate::flags). Reserved fields must be zero. Each struct has the kernel's field names
//! (without their leading underscores), followed by assertions on its size and offsets. The
//! arguments of `io_uring_register(2)` are in [`abi_register`](crate::abi_register), those of
//! zero-copy receive in [`abi_zcrx`](crate::abi_zcrx).

use core::mem::{align_of, offset_of, size_of};
use core::time::Duration;

use crate::errno::Errno;
use crate::flags::{CQE_BUFFER_SHIFT, CqeFlags, Features, SetupFlags, SqeFlags};
use crate::flags_register::RegWaitFlags;
use crate::opcode::Opcode;

/// A submission entry (SQE): one request.
#[doc(alias = "io_uring_sqe")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sqe {
    /// The operation that the request performs.
    pub opcode: Opcode,
    /// The flags that apply to every operation.
    pub flags: SqeFlags,
    /// The priority of a read or a write; for network operations
    /// [`RecvSendFlags`](crate::flags::RecvSendFlags) or
    /// [`AcceptFlags`](crate::flags::AcceptFlags).
    pub ioprio: u16,
    /// The file: a descriptor, or with `FIXED_FILE` an index into the registered files.
    pub fd: i32,
    /// `off`, `addr2`, `cmd_op` (lower half).
    #[doc(alias("addr2", "cmd_op"))]
    pub off: u64,
    /// `addr`, `splice_off_in`, `level` (lower half) and `optname` (upper half).
    #[doc(alias("splice_off_in", "level", "optname"))]
    pub addr: u64,
    /// `len`: the length of the buffer, or the number of buffers.
    pub len: u32,
    /// `rw_flags`, `fsync_flags`, `poll_events`, `poll32_events`, `sync_range_flags`, `msg_flags`,
    /// `timeout_flags`, `accept_flags`, `cancel_flags`, `open_flags`, `statx_flags`,
    /// `fadvise_advice`, `splice_flags`, `rename_flags`, `unlink_flags`, `hardlink_flags`,
    /// `xattr_flags`, `msg_ring_flags`, `uring_cmd_flags`, `waitid_flags`, `futex_flags`,
    /// `install_fd_flags`, `nop_flags`, `pipe_flags`.
    #[doc(alias = "rw_flags")]
    pub op_flags: u32,
    /// A value that we choose. The kernel copies it to the completions, and does not interpret it.
    pub user_data: u64,
    /// `buf_index`, `buf_group`.
    #[doc(alias = "buf_group")]
    pub buf_index: u16,
    /// The registered credentials with which the request runs, or 0 for the submitting task's own.
    pub personality: u16,
    /// `file_index`, `splice_fd_in`, `zcrx_ifq_idx`, `optlen`, `addr_len` (lower half),
    /// `write_stream` (lowest byte).
    #[doc(alias("splice_fd_in", "zcrx_ifq_idx", "optlen", "addr_len", "write_stream"))]
    pub file_index: u32,
    /// `addr3`, `attr_ptr`, `optval`, the first half of `cmd`.
    #[doc(alias("attr_ptr", "optval", "cmd"))]
    pub addr3: u64,
    /// `__pad2`, `attr_type_mask`, the second half of `cmd`.
    #[doc(alias = "attr_type_mask")]
    pub pad2: u64,
}

impl Sqe {
    /// All bytes zero, which is a `NOP`. Use it for the other fields of a literal:
    /// `..Sqe::ZERO`.
    pub const ZERO: Self = Self {
        opcode: Opcode::NOP,
        flags: SqeFlags::empty(),
        ioprio: 0,
        fd: 0,
        off: 0,
        addr: 0,
        len: 0,
        op_flags: 0,
        user_data: 0,
        buf_index: 0,
        personality: 0,
        file_index: 0,
        addr3: 0,
        pad2: 0,
    };

    /// The command of a `URING_CMD`: the last 16 bytes.
    #[inline]
    pub const fn cmd(&self) -> [u8; 16] {
        let mut cmd = [0; 16];
        let (first, second) = cmd.split_at_mut(8);
        first.copy_from_slice(&self.addr3.to_le_bytes());
        second.copy_from_slice(&self.pad2.to_le_bytes());
        cmd
    }

    /// Replaces the command of a `URING_CMD`.
    #[inline]
    pub const fn set_cmd(&mut self, cmd: [u8; 16]) {
        let (words, _) = cmd.as_chunks::<8>();
        self.addr3 = u64::from_le_bytes(words[0]);
        self.pad2 = u64::from_le_bytes(words[1]);
    }

    /// The bytes of the entry as eight `u64`.
    #[inline]
    pub const fn to_words(self) -> [u64; 8] {
        let first = self.opcode.0 as u64
            | (self.flags.bits() as u64) << 8
            | (self.ioprio as u64) << 16
            | (self.fd.cast_unsigned() as u64) << 32;
        let fourth = self.len as u64 | (self.op_flags as u64) << 32;
        let sixth = self.buf_index as u64
            | (self.personality as u64) << 16
            | (self.file_index as u64) << 32;
        let Self { off, addr, user_data, addr3, pad2, .. } = self;
        [first, off, addr, fourth, user_data, sixth, addr3, pad2]
    }

    /// The entry with the bytes of `words`. The second half of a 128-byte entry is written to its
    /// slot in this form.
    pub const fn from_words(words: [u64; 8]) -> Self {
        let [opcode, flags, p0, p1, f0, f1, f2, f3] = words[0].to_le_bytes();
        let [l0, l1, l2, l3, o0, o1, o2, o3] = words[3].to_le_bytes();
        let [b0, b1, c0, c1, i0, i1, i2, i3] = words[5].to_le_bytes();
        Self {
            opcode: Opcode(opcode),
            flags: SqeFlags::from_bits_retain(flags),
            ioprio: u16::from_le_bytes([p0, p1]),
            fd: i32::from_le_bytes([f0, f1, f2, f3]),
            off: words[1],
            addr: words[2],
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            op_flags: u32::from_le_bytes([o0, o1, o2, o3]),
            user_data: words[4],
            buf_index: u16::from_le_bytes([b0, b1]),
            personality: u16::from_le_bytes([c0, c1]),
            file_index: u32::from_le_bytes([i0, i1, i2, i3]),
            addr3: words[6],
            pad2: words[7],
        }
    }
}

const _: () = {
    assert!(size_of::<Sqe>() == 64);
    assert!(align_of::<Sqe>() == 8);
    assert!(offset_of!(Sqe, opcode) == 0);
    assert!(offset_of!(Sqe, flags) == 1);
    assert!(offset_of!(Sqe, ioprio) == 2);
    assert!(offset_of!(Sqe, fd) == 4);
    assert!(offset_of!(Sqe, off) == 8);
    assert!(offset_of!(Sqe, addr) == 16);
    assert!(offset_of!(Sqe, len) == 24);
    assert!(offset_of!(Sqe, op_flags) == 28);
    assert!(offset_of!(Sqe, user_data) == 32);
    assert!(offset_of!(Sqe, buf_index) == 40);
    assert!(offset_of!(Sqe, personality) == 42);
    assert!(offset_of!(Sqe, file_index) == 44);
    assert!(offset_of!(Sqe, addr3) == 48);
    assert!(offset_of!(Sqe, pad2) == 56);
};

/// A submission entry of 128 bytes, with a command of 80 bytes.
///
/// The command starts inside `first`, at its `addr3`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sqe128 {
    /// The entry, whose last 16 bytes are the first of the command.
    pub first: Sqe,
    /// The other 64 bytes of the command.
    pub rest: [u64; 8],
}

impl Sqe128 {
    /// All bytes zero.
    pub const ZERO: Self = Self { first: Sqe::ZERO, rest: [0; 8] };

    /// The command of a `URING_CMD`: the last 80 bytes.
    pub fn cmd(&self) -> [u8; 80] {
        let mut cmd = [0; 80];
        let (first, rest) = cmd.split_at_mut(16);
        first.copy_from_slice(&self.first.cmd());
        for (bytes, word) in rest.chunks_exact_mut(8).zip(self.rest) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        cmd
    }

    /// Replaces the command of a `URING_CMD`.
    pub fn set_cmd(&mut self, cmd: [u8; 80]) {
        let (words, _) = cmd.as_chunks::<8>();
        self.first.addr3 = u64::from_le_bytes(words[0]);
        self.first.pad2 = u64::from_le_bytes(words[1]);
        for (word, bytes) in self.rest.iter_mut().zip(&words[2..]) {
            *word = u64::from_le_bytes(*bytes);
        }
    }
}

const _: () = {
    assert!(size_of::<Sqe128>() == 128);
    assert!(align_of::<Sqe128>() == 8);
    assert!(offset_of!(Sqe128, first) == 0);
    assert!(offset_of!(Sqe128, rest) == 64);
};

/// A completion entry (CQE): the result of one request.
#[doc(alias = "io_uring_cqe")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cqe {
    /// The `user_data` of the request.
    pub user_data: u64,
    /// The result of the request: its value, or a negated error number.
    pub res: i32,
    /// Flags, which may include the id of a selected buffer.
    pub flags: CqeFlags,
}

impl Cqe {
    /// All bytes zero.
    pub const ZERO: Self = Self { user_data: 0, res: 0, flags: CqeFlags::empty() };

    /// The value that the request returned, or the error with which it failed.
    ///
    /// # Errors
    ///
    /// When `res` is below zero. What each error means depends on the request.
    #[inline]
    pub fn result(&self) -> Result<u32, Errno> {
        Errno::split(self.res)
    }

    /// Whether this is the last completion of its request (OP1): the flag `MORE` is not set.
    #[inline]
    pub const fn is_last(&self) -> bool {
        !self.flags.contains(CqeFlags::MORE)
    }

    /// The id of the provided buffer that the kernel selected, if it selected one.
    #[inline]
    pub const fn buffer_id(&self) -> Option<u16> {
        if !self.flags.contains(CqeFlags::BUFFER) {
            return None;
        }
        let [.., low, high] = self.flags.bits().to_le_bytes();
        Some(u16::from_le_bytes([low, high]))
    }

    /// The bytes of the entry as two `u64`. The second half of a 32-byte completion is read from
    /// its slot in this form.
    pub const fn to_words(self) -> [u64; 2] {
        let [r0, r1, r2, r3] = self.res.to_le_bytes();
        let [f0, f1, f2, f3] = self.flags.bits().to_le_bytes();
        [self.user_data, u64::from_le_bytes([r0, r1, r2, r3, f0, f1, f2, f3])]
    }
}

const _: () = {
    assert!(size_of::<Cqe>() == 16);
    assert!(align_of::<Cqe>() == 8);
    assert!(offset_of!(Cqe, user_data) == 0);
    assert!(offset_of!(Cqe, res) == 8);
    assert!(offset_of!(Cqe, flags) == 12);
    // `buffer_id` reads the two upper bytes.
    assert!(CQE_BUFFER_SHIFT == 16);
};

/// A completion entry of 32 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cqe32 {
    /// The part that every completion has.
    pub first: Cqe,
    /// `big_cqe`: additional results of the operation.
    #[doc(alias = "big_cqe")]
    pub big: [u64; 2],
}

impl Cqe32 {
    /// All bytes zero.
    pub const ZERO: Self = Self { first: Cqe::ZERO, big: [0; 2] };
}

const _: () = {
    assert!(size_of::<Cqe32>() == 32);
    assert!(align_of::<Cqe32>() == 8);
    assert!(offset_of!(Cqe32, first) == 0);
    assert!(offset_of!(Cqe32, big) == 16);
};

/// The parameters of `io_uring_setup(2)`; the kernel fills in the fields marked "from the kernel".
#[doc(alias = "io_uring_params")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params {
    /// From the kernel: how many entries the SQ has, a power of two.
    pub sq_entries: u32,
    /// How many entries the CQ shall have, with `CQSIZE`; from the kernel: how many it has.
    pub cq_entries: u32,
    /// The options of the ring.
    pub flags: SetupFlags,
    /// The CPU of the `SQPOLL` thread, with `SQ_AFF`.
    pub sq_thread_cpu: u32,
    /// After how many idle milliseconds the `SQPOLL` thread sleeps; 0 means one second.
    pub sq_thread_idle: u32,
    /// From the kernel: its features.
    pub features: Features,
    /// The ring whose threads to share, with `ATTACH_WQ`.
    pub wq_fd: u32,
    /// Reserved.
    pub resv: [u32; 3],
    /// From the kernel: the offsets of the parts of the SQ in its map.
    pub sq_off: SqringOffsets,
    /// From the kernel: the offsets of the parts of the CQ in its map.
    pub cq_off: CqringOffsets,
}

const _: () = {
    assert!(size_of::<Params>() == 120);
    assert!(align_of::<Params>() == 8);
    assert!(offset_of!(Params, sq_entries) == 0);
    assert!(offset_of!(Params, cq_entries) == 4);
    assert!(offset_of!(Params, flags) == 8);
    assert!(offset_of!(Params, sq_thread_cpu) == 12);
    assert!(offset_of!(Params, sq_thread_idle) == 16);
    assert!(offset_of!(Params, features) == 20);
    assert!(offset_of!(Params, wq_fd) == 24);
    assert!(offset_of!(Params, resv) == 28);
    assert!(offset_of!(Params, sq_off) == 40);
    assert!(offset_of!(Params, cq_off) == 80);
};

/// The offsets of the parts of the SQ in its map, in bytes.
#[doc(alias = "io_sqring_offsets")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SqringOffsets {
    /// The index up to which the kernel has consumed entries: it writes, we read.
    pub head: u32,
    /// The index up to which we have published entries: we write, the kernel reads.
    pub tail: u32,
    /// The mask that turns an index into a slot.
    pub ring_mask: u32,
    /// The number of slots.
    pub ring_entries: u32,
    /// The [`SqRingFlags`](crate::flags::SqRingFlags).
    pub flags: u32,
    /// How many entries the kernel dropped as invalid; only with an index array.
    pub dropped: u32,
    /// The index array, one `u32` for each slot; absent with `NO_SQARRAY`.
    pub array: u32,
    /// Reserved.
    pub resv1: u32,
    /// With `NO_MMAP`, the address of our memory for the entries.
    pub user_addr: u64,
}

const _: () = {
    assert!(size_of::<SqringOffsets>() == 40);
    assert!(align_of::<SqringOffsets>() == 8);
    assert!(offset_of!(SqringOffsets, head) == 0);
    assert!(offset_of!(SqringOffsets, tail) == 4);
    assert!(offset_of!(SqringOffsets, ring_mask) == 8);
    assert!(offset_of!(SqringOffsets, ring_entries) == 12);
    assert!(offset_of!(SqringOffsets, flags) == 16);
    assert!(offset_of!(SqringOffsets, dropped) == 20);
    assert!(offset_of!(SqringOffsets, array) == 24);
    assert!(offset_of!(SqringOffsets, resv1) == 28);
    assert!(offset_of!(SqringOffsets, user_addr) == 32);
};

/// The offsets of the parts of the CQ in its map, in bytes.
#[doc(alias = "io_cqring_offsets")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CqringOffsets {
    /// The index up to which we have consumed completions: we write, the kernel reads.
    pub head: u32,
    /// The index up to which the kernel has posted completions: it writes, we read.
    pub tail: u32,
    /// The mask that turns an index into a slot.
    pub ring_mask: u32,
    /// The number of slots.
    pub ring_entries: u32,
    /// How many completions were lost. A kernel with `NODROP` loses one only if it has no memory to
    /// keep it.
    pub overflow: u32,
    /// The completions.
    pub cqes: u32,
    /// The [`CqRingFlags`](crate::flags::CqRingFlags); 0 on a kernel without them.
    pub flags: u32,
    /// Reserved.
    pub resv1: u32,
    /// With `NO_MMAP`, the address of our memory for the rings.
    pub user_addr: u64,
}

const _: () = {
    assert!(size_of::<CqringOffsets>() == 40);
    assert!(align_of::<CqringOffsets>() == 8);
    assert!(offset_of!(CqringOffsets, head) == 0);
    assert!(offset_of!(CqringOffsets, tail) == 4);
    assert!(offset_of!(CqringOffsets, ring_mask) == 8);
    assert!(offset_of!(CqringOffsets, ring_entries) == 12);
    assert!(offset_of!(CqringOffsets, overflow) == 16);
    assert!(offset_of!(CqringOffsets, cqes) == 20);
    assert!(offset_of!(CqringOffsets, flags) == 24);
    assert!(offset_of!(CqringOffsets, resv1) == 28);
    assert!(offset_of!(CqringOffsets, user_addr) == 32);
};

/// A time span, or a point in time.
#[doc(alias = "__kernel_timespec")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timespec {
    /// Whole seconds.
    pub tv_sec: i64,
    /// Additional nanoseconds, below 1,000,000,000.
    pub tv_nsec: i64,
}

impl From<Duration> for Timespec {
    /// A span that is too long for the kernel becomes the longest that it accepts.
    fn from(span: Duration) -> Self {
        match i64::try_from(span.as_secs()) {
            Ok(tv_sec) => Self { tv_sec, tv_nsec: i64::from(span.subsec_nanos()) },
            Err(_) => Self { tv_sec: i64::MAX, tv_nsec: 999_999_999 },
        }
    }
}

const _: () = {
    assert!(size_of::<Timespec>() == 16);
    assert!(align_of::<Timespec>() == 8);
    assert!(offset_of!(Timespec, tv_sec) == 0);
    assert!(offset_of!(Timespec, tv_nsec) == 8);
};

/// The time at which a packet was sent: the second half of a completion of
/// [`SocketUringOp::TX_TIMESTAMP`](crate::flags::SocketUringOp::TX_TIMESTAMP).
#[doc(alias = "io_timespec")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoTimespec {
    /// Whole seconds.
    pub tv_sec: u64,
    /// Additional nanoseconds.
    pub tv_nsec: u64,
}

const _: () = {
    assert!(size_of::<IoTimespec>() == 16);
    assert!(align_of::<IoTimespec>() == 8);
    assert!(offset_of!(IoTimespec, tv_sec) == 0);
    assert!(offset_of!(IoTimespec, tv_nsec) == 8);
};

/// How `io_uring_enter(2)` waits, with `EXT_ARG`.
#[doc(alias = "io_uring_getevents_arg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GeteventsArg {
    /// The address of the signal mask that applies during the wait, or 0.
    pub sigmask: u64,
    /// The size of that mask, in bytes.
    pub sigmask_sz: u32,
    /// How many microseconds to wait for all requested completions, before fewer are enough; with
    /// `MIN_TIMEOUT`.
    pub min_wait_usec: u32,
    /// The address of a [`Timespec`] that limits the wait, or 0.
    pub ts: u64,
}

const _: () = {
    assert!(size_of::<GeteventsArg>() == 24);
    assert!(align_of::<GeteventsArg>() == 8);
    assert!(offset_of!(GeteventsArg, sigmask) == 0);
    assert!(offset_of!(GeteventsArg, sigmask_sz) == 8);
    assert!(offset_of!(GeteventsArg, min_wait_usec) == 12);
    assert!(offset_of!(GeteventsArg, ts) == 16);
};

/// How `io_uring_enter(2)` waits, with `EXT_ARG_REG`. It lies in the registered wait region.
#[doc(alias = "io_uring_reg_wait")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegWait {
    /// The limit of the wait; used only if `flags` has `TS`.
    pub ts: Timespec,
    /// How many microseconds to wait for all requested completions, before fewer are enough.
    pub min_wait_usec: u32,
    /// Which of the other fields are used.
    pub flags: RegWaitFlags,
    /// The address of the signal mask that applies during the wait, or 0.
    pub sigmask: u64,
    /// The size of that mask, in bytes.
    pub sigmask_sz: u32,
    /// Reserved.
    pub pad: [u32; 3],
    /// Reserved.
    pub pad2: [u64; 2],
}

const _: () = {
    assert!(size_of::<RegWait>() == 64);
    assert!(align_of::<RegWait>() == 8);
    assert!(offset_of!(RegWait, ts) == 0);
    assert!(offset_of!(RegWait, min_wait_usec) == 16);
    assert!(offset_of!(RegWait, flags) == 20);
    assert!(offset_of!(RegWait, sigmask) == 24);
    assert!(offset_of!(RegWait, sigmask_sz) == 32);
    assert!(offset_of!(RegWait, pad) == 36);
    assert!(offset_of!(RegWait, pad2) == 48);
};

/// An entry of a buffer ring.
#[doc(alias = "io_uring_buf")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buf {
    /// The address of the buffer.
    pub addr: u64,
    /// Its size in bytes.
    pub len: u32,
    /// Its id, which the completion carries.
    pub bid: u16,
    /// In entry 0 this is the `tail` of the ring, so it must never be written with an entry (BR2).
    pub resv: u16,
}

const _: () = {
    assert!(size_of::<Buf>() == 16);
    assert!(align_of::<Buf>() == 8);
    assert!(offset_of!(Buf, addr) == 0);
    assert!(offset_of!(Buf, len) == 8);
    assert!(offset_of!(Buf, bid) == 12);
    assert!(offset_of!(Buf, resv) == 14);
};

/// The start of a buffer ring: its first entry, with the `tail` of the ring in place of `resv`.
#[doc(alias = "io_uring_buf_ring")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufRing {
    /// `addr` of entry 0.
    pub resv1: u64,
    /// `len` of entry 0.
    pub resv2: u32,
    /// `bid` of entry 0.
    pub resv3: u16,
    /// The index up to which we have published entries.
    pub tail: u16,
}

/// The offset of `tail` in a buffer ring, in bytes.
pub const BUF_RING_TAIL_OFFSET: usize = 14;

const _: () = {
    assert!(size_of::<BufRing>() == 16);
    assert!(align_of::<BufRing>() == 8);
    assert!(offset_of!(BufRing, resv1) == 0);
    assert!(offset_of!(BufRing, resv2) == 8);
    assert!(offset_of!(BufRing, resv3) == 12);
    assert!(offset_of!(BufRing, tail) == BUF_RING_TAIL_OFFSET);
    assert!(offset_of!(Buf, resv) == BUF_RING_TAIL_OFFSET);
};

/// Protection information for a read or a write, with `RwAttrFlags::PI`.
#[doc(alias = "io_uring_attr_pi")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttrPi {
    /// Which tags are checked (`IO_INTEGRITY_CHK_*` of `linux/fs.h`).
    pub flags: u16,
    /// The application tag to check against.
    pub app_tag: u16,
    /// The size of the protection information, in bytes.
    pub len: u32,
    /// Its address.
    pub addr: u64,
    /// The first value of the reference tag.
    pub seed: u64,
    /// Reserved.
    pub rsvd: u64,
}

const _: () = {
    assert!(size_of::<AttrPi>() == 32);
    assert!(align_of::<AttrPi>() == 8);
    assert!(offset_of!(AttrPi, flags) == 0);
    assert!(offset_of!(AttrPi, app_tag) == 2);
    assert!(offset_of!(AttrPi, len) == 4);
    assert!(offset_of!(AttrPi, addr) == 8);
    assert!(offset_of!(AttrPi, seed) == 16);
    assert!(offset_of!(AttrPi, rsvd) == 24);
};

/// The header that a multishot `RECVMSG` writes before the address, the control data and the
/// payload.
#[doc(alias = "io_uring_recvmsg_out")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecvmsgOut {
    /// The length of the peer's address, which may be more than there was room for.
    pub namelen: u32,
    /// The length of the control data.
    pub controllen: u32,
    /// The length of the payload, which may be more than there was room for.
    pub payloadlen: u32,
    /// `MSG_*`, such as `MSG_TRUNC`.
    pub flags: u32,
}

const _: () = {
    assert!(size_of::<RecvmsgOut>() == 16);
    assert!(align_of::<RecvmsgOut>() == 4);
    assert!(offset_of!(RecvmsgOut, namelen) == 0);
    assert!(offset_of!(RecvmsgOut, controllen) == 4);
    assert!(offset_of!(RecvmsgOut, payloadlen) == 8);
    assert!(offset_of!(RecvmsgOut, flags) == 12);
};

/// How `OPENAT2` opens a file.
#[doc(alias = "open_how")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: u64,
    /// The permissions of a new file.
    pub mode: u64,
    /// `RESOLVE_*`: the rules for the path.
    pub resolve: u64,
}

const _: () = {
    assert!(size_of::<OpenHow>() == 24);
    assert!(align_of::<OpenHow>() == 8);
    assert!(offset_of!(OpenHow, flags) == 0);
    assert!(offset_of!(OpenHow, mode) == 8);
    assert!(offset_of!(OpenHow, resolve) == 16);
};

/// One futex of a `FUTEX_WAITV`.
#[doc(alias = "futex_waitv")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FutexWaitv {
    /// The value that the futex must have for the wait to start.
    pub val: u64,
    /// The address of the futex.
    pub uaddr: u64,
    /// `FUTEX2_*`: its size, and whether other processes share it.
    pub flags: u32,
    /// Reserved.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<FutexWaitv>() == 24);
    assert!(align_of::<FutexWaitv>() == 8);
    assert!(offset_of!(FutexWaitv, val) == 0);
    assert!(offset_of!(FutexWaitv, uaddr) == 8);
    assert!(offset_of!(FutexWaitv, flags) == 16);
    assert!(offset_of!(FutexWaitv, reserved) == 20);
};
