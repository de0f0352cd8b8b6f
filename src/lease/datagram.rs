//! Socket messages in buffers that the kernel selected: a header, then the payload.
//!
//! ```text
//!   buffer   │ 16: lengths, flags │ room for an address │ room for control data │ bytes …
//!              written each time    partly used           partly used
//! ```
//!
//! The operation's constructor says how much room there is; the header says how much of it is used.
//! The rest may be left over from an earlier use of the buffer, so it is never looked at: bytes of
//! the peer or of ours might look like a descriptor there.
//!
//! Keeps OP3: descriptors in the control data are taken out when the completion is consumed, and
//! closed unless the caller takes them. Keeps BR1, because a lease holds the buffer. Lengths that
//! the kernel reports are clamped to the room there is.
#![allow(unsafe_code, reason = "turns numbers into descriptors")]

use std::fmt;
use std::os::fd::OwnedFd;

use annulus_sys::abi::RecvmsgOut;

use super::buf_ring::BufLease;
use crate::buf::address::Address;
use crate::buf::control;
use crate::buf::control::Came;
use crate::buf::control::Control;
use crate::buf::{IoBuf, Region};

/// The size of the lengths and flags, in bytes.
const LENGTHS: usize = size_of::<RecvmsgOut>();

/// How much room lies before a message's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// For an address, in bytes.
    pub(crate) address: u32,
    /// For control data, in bytes.
    pub(crate) control: u32,
}

impl Layout {
    /// The offset of the payload.
    pub(crate) fn head(self) -> u32 {
        RECVMSG_OUT.saturating_add(self.address).saturating_add(self.control)
    }
}

/// [`LENGTHS`], as a `u32`.
const RECVMSG_OUT: u32 = 16;
const _: () = assert!(RECVMSG_OUT as usize == LENGTHS);

/// A message in a buffer that the kernel selected. Dropping it provides the buffer again, and
/// closes the message's descriptors that were not taken.
pub struct Datagram {
    lease: BufLease,
    layout: Layout,
    /// Allocated only for messages that carry descriptors.
    came: Option<Box<Came>>,
}

impl Datagram {
    /// The message in a buffer; `None` if the buffer does not hold a whole header.
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

    /// The sender's address. `None` if it was not asked for, if the message came through a
    /// connection, if the sender has no address, or if the address [may name a
    /// descriptor](Address::from_bytes).
    pub fn from(&self) -> Option<Address> {
        let len = self.lengths().namelen;
        let room = self.lease.get(LENGTHS..LENGTHS + len as usize)?;
        if len <= self.layout.address { Address::from_bytes(room) } else { None }
    }

    /// The other control messages, such as time stamps.
    pub fn control(&self) -> impl Iterator<Item = Control<'_>> {
        control::messages(self.control_data())
    }

    /// Takes the descriptors that came with the message, in order. They are close-on-exec.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        self.came.as_mut().map(|came| std::mem::take(&mut came.descriptors)).unwrap_or_default()
    }

    /// Takes the descriptor of the sender's process (a pidfd), if the socket passes it
    /// (`SO_PASSPIDFD`).
    pub fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.came.as_mut().and_then(|came| came.process.take())
    }

    /// The length of the whole message in bytes, with the end that was dropped. `None` when an end
    /// was dropped and the operation did not [ask](crate::op::RecvMsgMulti::with_length) for the
    /// length.
    #[doc(alias("MSG_TRUNC", "io_uring_recvmsg_payload_length"))]
    pub fn length(&self) -> Option<usize> {
        let (told, here) = (self.lengths().payloadlen as usize, self.payload().len());
        if told > here { Some(told) } else { (!self.is_truncated()).then_some(here) }
    }

    /// Whether the message was longer than the buffer, so that the kernel dropped its end
    /// (`MSG_TRUNC`).
    pub fn is_truncated(&self) -> bool {
        self.has(libc::MSG_TRUNC)
    }

    /// Whether there was more control data than room for it, such as descriptors when there was no
    /// room (`MSG_CTRUNC`). The kernel has dropped it.
    pub fn is_control_truncated(&self) -> bool {
        self.has(libc::MSG_CTRUNC)
    }

    fn has(&self, flag: i32) -> bool {
        self.lengths().flags & flag.cast_unsigned() != 0
    }

    /// The header that the kernel wrote.
    fn lengths(&self) -> RecvmsgOut {
        let (words, _) = self.lease.as_chunks::<4>();
        let word = |at: usize| words.get(at).map_or(0, |word| u32::from_ne_bytes(*word));
        let (namelen, controllen) = (word(0), word(1));
        RecvmsgOut { namelen, controllen, payloadlen: word(2), flags: word(3) }
    }

    /// The range of the control data that was written this time.
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
        // SAFETY: the kernel has just written this much control data, for this message. The numbers
        // are taken only here, because -1 stands in their place afterwards (OP3).
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

/// The payload can be sent as it is.
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

    /// A buffer of 80 bytes, of which the kernel says that `written` were filled.
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
        // A number that must not be taken: standard output.
        for told in [0, 8, 16] {
            let bytes = [&head(0, told)[..], &[0; 16], &rights(1)].concat();
            let mut datagram = Datagram::of(lease(&bytes, 64), LAYOUT).expect("a whole head");
            assert!(datagram.take_descriptors().is_empty(), "{told}");
        }
    }
}
