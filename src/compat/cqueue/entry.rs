//! Completions: the 16 or 32 bytes that the kernel writes, and what their flags say.

use std::fmt;

use annulus_sys::abi::{Cqe, Cqe32};
use annulus_sys::flags::{CqeFlags, SetupFlags};

/// A completion of either size. Nothing else implements it.
pub trait EntryMarker: Clone + fmt::Debug + Into<Entry> + OfRaw {
    /// The flags of set-up that give a ring such completions.
    const BUILD_FLAGS: u32;

    /// The value that the entry carried.
    fn user_data(&self) -> u64;

    /// Replaces that value.
    fn set_user_data(&mut self, user_data: u64);
}

/// What lies in a slot. It is not named outside, so nothing else implements it.
pub trait OfRaw: Sized {
    /// The kernel's struct, of which any bytes are a valid one.
    type Raw: Copy + fmt::Debug + Send + 'static;

    /// The completion that was in a slot.
    fn from_raw(raw: Self::Raw) -> Self;
}

/// A completion of 16 bytes.
#[derive(Clone)]
#[repr(transparent)]
pub struct Entry(Cqe);

/// A completion of 32 bytes.
#[derive(Clone)]
#[repr(transparent)]
pub struct Entry32(Cqe32);

impl Entry {
    /// The result of the operation: its value, or a negated error number.
    #[inline]
    pub fn result(&self) -> i32 {
        self.0.res
    }

    /// The value that the entry carried.
    #[inline]
    pub fn user_data(&self) -> u64 {
        self.0.user_data
    }

    /// Replaces that value.
    #[inline]
    pub fn set_user_data(&mut self, user_data: u64) {
        self.0.user_data = user_data;
    }

    /// The flags, for [`more`] and its like.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.0.flags.bits()
    }
}

impl OfRaw for Entry {
    type Raw = Cqe;

    #[inline]
    fn from_raw(raw: Cqe) -> Self {
        Self(raw)
    }
}

impl EntryMarker for Entry {
    const BUILD_FLAGS: u32 = 0;

    #[inline]
    fn user_data(&self) -> u64 {
        Self::user_data(self)
    }

    #[inline]
    fn set_user_data(&mut self, user_data: u64) {
        Self::set_user_data(self, user_data);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("result", &self.result())
            .field("user_data", &self.user_data())
            .field("flags", &self.flags())
            .finish()
    }
}

impl Entry32 {
    /// The result of the operation: its value, or a negated error number.
    #[inline]
    pub fn result(&self) -> i32 {
        self.0.first.res
    }

    /// The value that the entry carried.
    #[inline]
    pub fn user_data(&self) -> u64 {
        self.0.first.user_data
    }

    /// Replaces that value.
    #[inline]
    pub fn set_user_data(&mut self, user_data: u64) {
        self.0.first.user_data = user_data;
    }

    /// The flags, for [`more`] and its like.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.0.first.flags.bits()
    }

    /// The second half.
    #[inline]
    pub fn big_cqe(&self) -> &[u64; 2] {
        &self.0.big
    }
}

impl OfRaw for Entry32 {
    type Raw = Cqe32;

    #[inline]
    fn from_raw(raw: Cqe32) -> Self {
        Self(raw)
    }
}

impl EntryMarker for Entry32 {
    const BUILD_FLAGS: u32 = SetupFlags::CQE32.bits();

    #[inline]
    fn user_data(&self) -> u64 {
        Self::user_data(self)
    }

    #[inline]
    fn set_user_data(&mut self, user_data: u64) {
        Self::set_user_data(self, user_data);
    }
}

impl From<Entry32> for Entry {
    /// The first half.
    fn from(entry: Entry32) -> Self {
        Self(entry.0.first)
    }
}

impl fmt::Debug for Entry32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry32")
            .field("result", &self.result())
            .field("user_data", &self.user_data())
            .field("flags", &self.flags())
            .field("big_cqe", self.big_cqe())
            .finish()
    }
}

/// Whether the kernel goes on in the buffer that a completion names (`IORING_CQE_F_BUF_MORE`): its
/// ring is consumed in parts. Since Linux 6.12.
#[inline]
pub fn buffer_more(flags: u32) -> bool {
    CqeFlags::from_bits_retain(flags).contains(CqeFlags::BUF_MORE)
}

/// The id of the provided buffer that the kernel selected (`IORING_CQE_F_BUFFER`), if it selected
/// one.
#[inline]
pub fn buffer_select(flags: u32) -> Option<u16> {
    Cqe { flags: CqeFlags::from_bits_retain(flags), ..Cqe::ZERO }.buffer_id()
}

/// Whether more completions of the same entry will come (`IORING_CQE_F_MORE`).
#[inline]
pub fn more(flags: u32) -> bool {
    CqeFlags::from_bits_retain(flags).contains(CqeFlags::MORE)
}

/// Whether the socket has more to receive (`IORING_CQE_F_SOCK_NONEMPTY`).
#[inline]
pub fn sock_nonempty(flags: u32) -> bool {
    CqeFlags::from_bits_retain(flags).contains(CqeFlags::SOCK_NONEMPTY)
}

/// Whether a zero-copy send no longer needs its buffer (`IORING_CQE_F_NOTIF`).
#[inline]
pub fn notif(flags: u32) -> bool {
    CqeFlags::from_bits_retain(flags).contains(CqeFlags::NOTIF)
}
