//! Messages in buffers that the kernel picked: a head, and the bytes.
//!
//! ```text
//!   buffer   │ 16: lengths, flags │ room for an address │ room for control data │ bytes …
//!              written each time    as long as it is      as much as there is
//! ```
//!
//! How much room there is was said when the operation was made; how much of it counts says the
//! head. What lies behind that is left from an earlier use of the buffer, so it is never looked at:
//! there the peer's bytes, or ours, may look like a descriptor.
//!
//! Keeps OP3: descriptors among the control data are taken out when the completion is consumed, and
//! closed unless somebody takes them. And BR1, since a lease holds the buffer. Lengths of the
//! kernel's are taken for no more than there was room.
#![allow(unsafe_code, reason = "takes numbers for descriptors")]

use std::fmt;
use std::os::fd::OwnedFd;

use annulus_sys::abi::RecvmsgOut;

use super::buf_ring::BufLease;
use crate::buf::{IoBuf, Region};
use crate::op::message::control::{self, Came};
use crate::op::{Address, Control};

/// How many bytes the lengths and flags have.
const LENGTHS: usize = size_of::<RecvmsgOut>();

/// How much room lies in front of a message's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// For an address, in bytes.
    pub(crate) address: u32,
    /// For control data, in bytes.
    pub(crate) control: u32,
}

impl Layout {
    /// Where the bytes begin.
    pub(crate) fn head(self) -> u32 {
        RECVMSG_OUT.saturating_add(self.address).saturating_add(self.control)
    }
}

/// [`LENGTHS`], as the kernel counts.
const RECVMSG_OUT: u32 = 16;
const _: () = assert!(RECVMSG_OUT as usize == LENGTHS);

/// A message in a buffer that the kernel picked. Dropped, the buffer is offered again, and
/// descriptors that came along and were not taken are closed.
pub struct Datagram {
    lease: BufLease,
    layout: Layout,
    /// Made for those messages only that bring any.
    came: Option<Box<Came>>,
}

impl Datagram {
    /// What the kernel has put into a buffer; `None` if that is no whole head.
    pub(crate) fn of(lease: BufLease, layout: Layout) -> Option<Self> {
        if lease.len() < layout.head() as usize {
            return None;
        }
        let mut this = Self { lease, layout, came: None };
        this.take_numbers();
        Some(this)
    }

    /// The bytes of the message.
    pub fn payload(&self) -> &[u8] {
        self.lease.get(self.layout.head() as usize..).unwrap_or_default()
    }

    /// Who sent it; `None` when that was not asked for, when the message came through a connection,
    /// when the sender has no address, and when that [may name a descriptor](Address::from_bytes).
    pub fn from(&self) -> Option<Address> {
        let len = self.lengths().namelen;
        let room = self.lease.get(LENGTHS..LENGTHS + len as usize)?;
        if len <= self.layout.address { Address::from_bytes(room) } else { None }
    }

    /// What else came with it, such as time stamps.
    pub fn control(&self) -> impl Iterator<Item = Control<'_>> {
        control::messages(self.control_data())
    }

    /// The descriptors that came with it, in order. They are closed on `exec`.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        self.came.as_mut().map(|came| std::mem::take(&mut came.descriptors)).unwrap_or_default()
    }

    /// The sender's process, as a descriptor, if the socket passes it (`SO_PASSPIDFD`).
    pub fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.came.as_mut().and_then(|came| came.process.take())
    }

    /// Whether the message was longer than the buffer, so that its rest is lost (`MSG_TRUNC`).
    pub fn is_truncated(&self) -> bool {
        self.has(libc::MSG_TRUNC)
    }

    /// Whether more came beside the bytes than there was room for, such as descriptors when there
    /// was none (`MSG_CTRUNC`). The kernel has dropped it.
    pub fn is_control_truncated(&self) -> bool {
        self.has(libc::MSG_CTRUNC)
    }

    fn has(&self, flag: i32) -> bool {
        self.lengths().flags & flag.cast_unsigned() != 0
    }

    /// What the kernel says of the parts.
    fn lengths(&self) -> RecvmsgOut {
        let (words, _) = self.lease.as_chunks::<4>();
        let word = |at: usize| words.get(at).map_or(0, |word| u32::from_ne_bytes(*word));
        let (namelen, controllen) = (word(0), word(1));
        RecvmsgOut { namelen, controllen, payloadlen: word(2), flags: word(3) }
    }

    /// Where the control data starts and ends that was written this time.
    fn control_range(&self) -> std::ops::Range<usize> {
        let len = self.lengths().controllen.min(self.layout.control) as usize;
        let start = LENGTHS + self.layout.address as usize;
        start..start + len
    }

    fn control_data(&self) -> &[u8] {
        self.lease.get(self.control_range()).unwrap_or_default()
    }

    /// Takes every descriptor out of the control data, and leaves -1 in its place.
    fn take_numbers(&mut self) {
        let range = self.control_range();
        let Some(control) = self.lease.get_mut(range) else { return };
        // SAFETY: the kernel has written so much of the control data now, for this message; and the
        // numbers are taken here only, since -1 stands there then (OP3).
        let came = unsafe { control::adopt(control) };
        if !came.is_empty() {
            self.came = Some(Box::new(came));
        }
    }
}

impl AsRef<[u8]> for Datagram {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

/// Its bytes can be sent on as they are.
impl IoBuf for Datagram {
    fn region(&self) -> Region<'_> {
        self.payload().into()
    }
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram")
            .field("payload", &self.payload().len())
            .field("from", &self.from())
            .field("came", &self.came)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::IntoRawFd;

    use super::super::buf_ring;
    use super::*;

    const LAYOUT: Layout = Layout { address: 16, control: 32 };

    /// A buffer of 80 bytes, of which the kernel says that so many were written.
    fn lease(bytes: &[u8], written: i32) -> BufLease {
        let mut lease = buf_ring::lone_lease(80, written);
        let len = lease.len().min(bytes.len());
        lease[..len].copy_from_slice(&bytes[..len]);
        lease
    }

    fn head(namelen: u32, controllen: u32) -> Vec<u8> {
        [namelen, controllen, 7, 0].iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Control data that names a descriptor.
    fn rights(number: i32) -> Vec<u8> {
        let head = [&20_u64.to_ne_bytes()[..], &1_i32.to_ne_bytes(), &1_i32.to_ne_bytes()];
        [&head.concat()[..], &number.to_ne_bytes(), &[0; 4]].concat()
    }

    fn number() -> i32 {
        File::open("/dev/null").expect("it is everywhere").into_raw_fd()
    }

    #[test]
    fn the_parts_lie_where_the_layout_says() {
        let v4 = [2, 0, 0, 7, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let bytes = [&head(16, 0)[..], &v4, &[9; 32], b"payload"].concat();
        let datagram = Datagram::of(lease(&bytes, 71), LAYOUT).expect("a whole head");
        assert_eq!(datagram.payload(), b"payload");
        let from = datagram.from().and_then(|from| from.as_inet());
        assert_eq!(from, "127.0.0.1:7".parse().ok());
        assert_eq!(datagram.control().count(), 0, "what lies there is old");
    }

    #[test]
    fn lengths_beyond_their_room_are_cut() {
        for len in [17, 32, 80, 81, u32::MAX] {
            let bytes = [&head(len, len)[..], &[9; 64]].concat();
            let mut datagram = Datagram::of(lease(&bytes, 64), LAYOUT).expect("a whole head");
            assert!(datagram.from().is_none(), "{len}");
            assert_eq!((datagram.control().count(), datagram.payload().len()), (0, 0));
            assert!(datagram.take_descriptors().is_empty());
        }
        for written in [-1, 0, 15, 63] {
            assert!(Datagram::of(lease(&[0; 80], written), LAYOUT).is_none(), "{written}");
        }
    }

    #[test]
    fn op3_a_descriptor_is_taken_once() {
        let bytes = [&head(0, 24)[..], &[0; 16], &rights(number())].concat();
        let mut datagram = Datagram::of(lease(&bytes, 64), LAYOUT).expect("a whole head");
        assert_eq!(datagram.control().count(), 0, "no number is data");
        assert_eq!(datagram.take_descriptors().len(), 1);
        datagram.take_numbers();
        assert!(datagram.take_descriptors().is_empty() && datagram.take_pidfd().is_none());
    }

    #[test]
    fn op3_what_an_earlier_use_left_names_no_descriptor() {
        // The number is nobody's to take: standard output.
        for told in [0, 8, 16] {
            let bytes = [&head(0, told)[..], &[0; 16], &rights(1)].concat();
            let mut datagram = Datagram::of(lease(&bytes, 64), LAYOUT).expect("a whole head");
            assert!(datagram.take_descriptors().is_empty(), "{told}");
        }
    }
}
