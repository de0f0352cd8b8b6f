//! Files: descriptors, registered files, and places for new ones.

use std::num::NonZeroU32;
use std::os::fd::RawFd;

use annulus_sys::flags::FILE_INDEX_ALLOC;

/// A descriptor.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Fd(pub RawFd);

/// The index of a registered file.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Fixed(pub u32);

/// What an operation works on.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// A descriptor.
    Fd(RawFd),
    /// The index of a registered file.
    Fixed(u32),
}

/// A descriptor, where the kernel takes no registered file.
pub trait UseFd: Sized {
    /// The descriptor.
    fn number(self) -> RawFd;
}

/// A descriptor, or the index of a registered file.
pub trait UseFixed: Sized {
    /// Which of the two.
    fn target(self) -> Target;
}

impl UseFd for Fd {
    #[inline]
    fn number(self) -> RawFd {
        self.0
    }
}

impl UseFixed for Fd {
    #[inline]
    fn target(self) -> Target {
        Target::Fd(self.0)
    }
}

impl UseFixed for Fixed {
    #[inline]
    fn target(self) -> Target {
        Target::Fixed(self.0)
    }
}

/// Where an operation that opens a file registers it: at an index, or where the kernel finds an
/// empty place.
#[derive(Debug, Clone, Copy)]
pub struct DestinationSlot(NonZeroU32);

impl DestinationSlot {
    /// An empty place that the kernel finds; the result of the operation is its index. Since Linux
    /// 5.19.
    pub const fn auto_target() -> Self {
        Self(NonZeroU32::new(FILE_INDEX_ALLOC).expect("the kernel's number is not 0"))
    }

    /// The place with index `target`.
    ///
    /// # Errors
    ///
    /// Gives `target` back if it is beyond the last index that the kernel can be told.
    pub fn try_from_slot_target(target: u32) -> Result<Self, u32> {
        // The kernel counts from 1 here. Its largest number means `auto_target`.
        let index = target.checked_add(1).filter(|&index| index != FILE_INDEX_ALLOC);
        index.and_then(NonZeroU32::new).map(Self).ok_or(target)
    }

    /// As `file_index` of an entry.
    #[inline]
    pub(in super::super) const fn file_index(self) -> u32 {
        self.0.get()
    }

    /// As `file_index` of an entry, which is 0 if the file gets a descriptor.
    #[inline]
    pub(in super::super) const fn or_descriptor(slot: Option<Self>) -> u32 {
        match slot {
            Some(slot) => slot.file_index(),
            None => 0,
        }
    }
}
