//! Entries: the 64 or 128 bytes of a request, as the kernel reads them.
#![allow(unsafe_code, reason = "writes entries into a queue")]

use std::fmt;

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::flags::{SetupFlags, SqeFlags};
use annulus_sys::sq::SubmissionQueue;

use super::{Flags, PushError};

/// An entry of either size. Nothing else implements it.
pub trait EntryMarker: Clone + fmt::Debug + From<Entry> + Push {
    /// The flags of set-up that give a ring such entries.
    const BUILD_FLAGS: u32;

    /// Replaces the value that the completions of the entry will carry.
    fn set_user_data(&mut self, user_data: u64);

    /// The value that the completions of the entry will carry.
    fn get_user_data(&self) -> u64;
}

/// How an entry gets into a queue. It is not named outside, so nothing else implements it.
pub trait Push {
    /// Writes the entry into the next slot.
    ///
    /// # Errors
    ///
    /// When no slot is free.
    ///
    /// # Safety
    ///
    /// As for [`SubmissionQueue::push`]. The queue must be of a ring that was made for such
    /// entries.
    unsafe fn push_to(&self, queue: &mut SubmissionQueue) -> Result<(), PushError>;
}

/// An entry of 64 bytes. It comes from the `build` of an [operation](super::super::opcode).
#[derive(Clone)]
#[repr(transparent)]
pub struct Entry(pub(in super::super) Sqe);

/// An entry of 128 bytes.
#[derive(Clone)]
#[repr(transparent)]
pub struct Entry128(pub(in super::super) Sqe128);

impl Entry {
    /// Adds flags to those that the entry has.
    #[inline]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.0.flags |= SqeFlags::from_bits_retain(flags.bits());
        self
    }

    /// Takes all flags away, also that of a [fixed file](super::super::types::Fixed).
    #[inline]
    pub fn clear_flags(mut self) -> Self {
        self.0.flags = SqeFlags::empty();
        self
    }

    /// Sets the value that the completions of the entry will carry.
    #[inline]
    pub fn user_data(mut self, user_data: u64) -> Self {
        self.0.user_data = user_data;
        self
    }

    /// Replaces the value that the completions of the entry will carry.
    #[inline]
    pub fn set_user_data(&mut self, user_data: u64) {
        self.0.user_data = user_data;
    }

    /// The value that the completions of the entry will carry.
    #[inline]
    pub fn get_user_data(&self) -> u64 {
        self.0.user_data
    }

    /// The number of the operation.
    #[inline]
    pub fn get_opcode(&self) -> u32 {
        u32::from(self.0.opcode.0)
    }

    /// The credentials with which the request runs, by the id of
    /// [`register_personality`](super::super::Submitter::register_personality).
    #[inline]
    pub fn personality(mut self, personality: u16) -> Self {
        self.0.personality = personality;
        self
    }
}

impl Push for Entry {
    #[inline]
    unsafe fn push_to(&self, queue: &mut SubmissionQueue) -> Result<(), PushError> {
        // SAFETY: as promised to `Push::push_to`.
        unsafe { queue.push(self.0) }.map_err(|_| PushError)
    }
}

impl EntryMarker for Entry {
    const BUILD_FLAGS: u32 = 0;

    #[inline]
    fn set_user_data(&mut self, user_data: u64) {
        Self::set_user_data(self, user_data);
    }

    #[inline]
    fn get_user_data(&self) -> u64 {
        Self::get_user_data(self)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("op_code", &self.0.opcode)
            .field("flags", &self.0.flags)
            .field("user_data", &self.0.user_data)
            .finish()
    }
}

impl Entry128 {
    /// Adds flags to those that the entry has.
    #[inline]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.0.first.flags |= SqeFlags::from_bits_retain(flags.bits());
        self
    }

    /// Takes all flags away, also that of a [fixed file](super::super::types::Fixed).
    #[inline]
    pub fn clear_flags(mut self) -> Self {
        self.0.first.flags = SqeFlags::empty();
        self
    }

    /// Sets the value that the completions of the entry will carry.
    #[inline]
    pub fn user_data(mut self, user_data: u64) -> Self {
        self.0.first.user_data = user_data;
        self
    }

    /// Replaces the value that the completions of the entry will carry.
    #[inline]
    pub fn set_user_data(&mut self, user_data: u64) {
        self.0.first.user_data = user_data;
    }

    /// The value that the completions of the entry will carry.
    #[inline]
    pub fn get_user_data(&self) -> u64 {
        self.0.first.user_data
    }

    /// The number of the operation.
    #[inline]
    pub fn get_opcode(&self) -> u32 {
        u32::from(self.0.first.opcode.0)
    }

    /// The credentials with which the request runs, by the id of
    /// [`register_personality`](super::super::Submitter::register_personality).
    #[inline]
    pub fn personality(mut self, personality: u16) -> Self {
        self.0.first.personality = personality;
        self
    }
}

impl Push for Entry128 {
    #[inline]
    unsafe fn push_to(&self, queue: &mut SubmissionQueue) -> Result<(), PushError> {
        // SAFETY: as promised to `Push::push_to`; a ring of `SQE128` takes every operation so.
        unsafe { queue.push_wide(self.0) }.map_err(|_| PushError)
    }
}

impl EntryMarker for Entry128 {
    const BUILD_FLAGS: u32 = SetupFlags::SQE128.bits();

    #[inline]
    fn set_user_data(&mut self, user_data: u64) {
        Self::set_user_data(self, user_data);
    }

    #[inline]
    fn get_user_data(&self) -> u64 {
        Self::get_user_data(self)
    }
}

impl From<Entry> for Entry128 {
    /// The second half is zeroes.
    fn from(entry: Entry) -> Self {
        Self(Sqe128 { first: entry.0, rest: [0; 8] })
    }
}

impl fmt::Debug for Entry128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry128")
            .field("op_code", &self.0.first.opcode)
            .field("flags", &self.0.first.flags)
            .field("user_data", &self.0.first.user_data)
            .finish()
    }
}
