//! Buffer rings, and busy polling of network cards.
#![allow(unsafe_code, reason = "points into a buffer ring")]

use annulus_sys::abi::{BUF_RING_TAIL_OFFSET, Buf};
use annulus_sys::abi_register;
use annulus_sys::flags_register::{self, NapiOp, PbufRingFlags};

/// The kernel allocates the buffer ring, and we map it. Since Linux 6.4.
pub const IOU_PBUF_RING_MMAP: u32 = PbufRingFlags::MMAP.bits() as u32;
/// The kernel consumes buffers in parts. Since Linux 6.12.
pub const IOU_PBUF_RING_INC: u32 = PbufRingFlags::INC.bits() as u32;

/// An entry of a buffer ring.
#[derive(Debug)]
#[repr(transparent)]
pub struct BufRingEntry(Buf);

#[expect(clippy::len_without_is_empty, reason = "a length that the kernel is told")]
impl BufRingEntry {
    /// Sets the address of the buffer.
    pub fn set_addr(&mut self, addr: u64) {
        self.0.addr = addr;
    }

    /// The address of the buffer.
    pub fn addr(&self) -> u64 {
        self.0.addr
    }

    /// Sets the size of the buffer.
    pub fn set_len(&mut self, len: u32) {
        self.0.len = len;
    }

    /// The size of the buffer.
    pub fn len(&self) -> u32 {
        self.0.len
    }

    /// Sets the id of the buffer, which completions carry.
    pub fn set_bid(&mut self, bid: u16) {
        self.0.bid = bid;
    }

    /// The id of the buffer.
    pub fn bid(&self) -> u16 {
        self.0.bid
    }

    /// Where the tail of a ring lies, whose first entry is at `ring_base`.
    ///
    /// # Safety
    ///
    /// `ring_base` must point to the first entry of a buffer ring.
    pub unsafe fn tail(ring_base: *const Self) -> *const u16 {
        // SAFETY: inside the first entry, as promised to `tail`.
        unsafe { ring_base.byte_add(BUF_RING_TAIL_OFFSET) }.cast()
    }
}

/// How the kernel knows which ids it polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NapiTracking {
    /// Those of the sockets that the ring uses.
    Dynamic,
    /// Those that [`register_napi_add_id`](super::super::Submitter::register_napi_add_id) names.
    Static,
    /// None.
    Inactive,
}

/// Busy polling of network cards.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Napi(abi_register::Napi);

impl Napi {
    /// No busy polling, of the sockets that the ring uses.
    pub const fn new() -> Self {
        Self(abi_register::Napi {
            busy_poll_to: 0,
            prefer_busy_poll: 0,
            opcode: NapiOp::REGISTER_OP,
            pad: [0; 2],
            op_param: flags_register::NapiTracking::DYNAMIC.0,
            resv: 0,
        })
    }

    /// For how many microseconds to poll.
    pub const fn set_busy_poll_timeout(mut self, micros: u32) -> Self {
        self.0.busy_poll_to = micros;
        self
    }

    /// Whether to poll rather than to take interrupts.
    pub const fn set_prefer_busy_poll(mut self, enabled: bool) -> Self {
        self.0.prefer_busy_poll = enabled as u8;
        self
    }

    /// How the kernel knows which ids it polls. Since Linux 6.13.
    pub const fn set_tracking(mut self, strategy: NapiTracking) -> Self {
        self.0.op_param = match strategy {
            NapiTracking::Dynamic => flags_register::NapiTracking::DYNAMIC.0,
            NapiTracking::Static => flags_register::NapiTracking::STATIC.0,
            NapiTracking::Inactive => flags_register::NapiTracking::INACTIVE.0,
        };
        self
    }

    /// For how many microseconds to poll.
    pub const fn busy_poll_timeout(&self) -> u32 {
        self.0.busy_poll_to
    }

    /// Whether to poll rather than to take interrupts.
    pub const fn prefer_busy_poll(&self) -> bool {
        self.0.prefer_busy_poll != 0
    }
}

impl Default for Napi {
    fn default() -> Self {
        Self::new()
    }
}
