//! What goes with a message beside its bytes, in a box that is used again and again.
//!
//! ```text
//!   set_address, attach ─► Envelope ─► SendMsg ─► Envelope        sent: nothing is attached
//!                          Envelope ─► RecvMsg ─► Envelope ─► take_descriptors
//!                                                     │            OwnedFd, OwnedFd
//!                                                     └─ address: of the sender, to answer to
//!
//!   control   │ len │ SOL_SOCKET │ SCM_RIGHTS │ fd │ fd │ │ len │ … │ zeroes
//! ```
//!
//! Descriptors travel as numbers in control data. Safe code never writes such data: it attaches
//! what owns a descriptor. And it never reads the numbers: as soon as the kernel is done, each is
//! taken out as an [`OwnedFd`], closed unless someone takes it.
//!
//! All of the control data is zero when the kernel gets it, so what names a descriptor afterwards
//! is the kernel's word, whatever length and result it reports. (A receive that waits for all its
//! bytes reports the length of the last part only.) And no number stands there between operations.
//!
//! Keeps OP1, OP3.
#![allow(unsafe_code, reason = "takes numbers for descriptors")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::super::addr::{Address, MOST, Storage};
use super::control::{self, Came, Control, HEAD};
use super::{Cover, Header, Received, sealed};
use crate::buf::IoVec;

/// How many bytes of control data there are: 253 descriptors, and a little of everything else.
const CONTROL: usize = 1280;

/// How many descriptors one message takes (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;

const _: () = assert!(HEAD + 4 * MOST_DESCRIPTORS <= CONTROL);

/// Control data, aligned as its headers are.
#[repr(C, align(8))]
struct ControlData([u8; CONTROL]);

/// What goes with a message: an address, and descriptors. Reusable: nothing is allocated for a
/// message, but for each descriptor that is attached, and a list of those that come.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Envelope, RecvMsg, SendMsg};
/// use std::fs::File;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let (ours, theirs) = UnixStream::pair()?;
/// let mut envelope = Envelope::new();
/// let Ok(()) = envelope.attach(File::open("/dev/null")?) else { unreachable!("one fits") };
/// let send = ring.submit(SendMsg::new(ours, ["a file"]).with(envelope))?;
/// let (_, (_, envelope)) = ring.wait(send)?.ok()?;
///
/// let recv = ring.submit(RecvMsg::new(theirs, [[0; 16]]).with(envelope))?;
/// let (received, (_, mut envelope)) = ring.wait(recv)?.ok()?;
/// let files: Vec<File> = envelope.take_descriptors().into_iter().map(File::from).collect();
/// assert_eq!((received.bytes, files.len()), (6, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "msghdr")]
#[doc(alias = "cmsg")]
#[doc(alias = "SCM_RIGHTS")]
pub struct Envelope {
    header: Header,
    address: Storage<MOST>,
    control: ControlData,
    attached: Vec<Box<dyn AsFd>>,
    came: Came,
    numbers: Numbers,
}

/// Whose word the numbers in the control data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// Ours, or nobody's: none is to be taken for a descriptor that is free.
    Ours,
    /// The kernel's, since all of it was zero when the kernel got it (OP3).
    Kernels,
}

impl Envelope {
    /// An empty envelope. It is larger than a slot, so it lives in a box.
    pub fn new() -> Box<Self> {
        Box::new(Self {
            header: Header::EMPTY,
            address: Storage::EMPTY,
            control: ControlData([0; CONTROL]),
            attached: Vec::new(),
            came: Came::default(),
            numbers: Numbers::Ours,
        })
    }

    /// Addresses it: to an address of the standard library's, or an [`Address`].
    pub fn set_address(&mut self, to: impl Into<Address>) {
        self.address = to.into().0;
    }

    /// Whom it is addressed to: after a message came in, who sent that. `None` also for an address
    /// that [may name a descriptor](Address::from_bytes).
    pub fn address(&self) -> Option<Address> {
        self.address.address()
    }

    /// Attaches a descriptor to the message that goes out next (`SCM_RIGHTS`), through a unix
    /// socket. Its owner stays here until a message has taken it along; then it is dropped.
    ///
    /// # Errors
    ///
    /// Gives it back when 253 are attached, more than which the kernel does not take.
    pub fn attach<D: AsFd + 'static>(&mut self, descriptor: D) -> Result<(), D> {
        if self.attached.len() == MOST_DESCRIPTORS {
            return Err(descriptor);
        }
        self.attached.push(Box::new(descriptor));
        Ok(())
    }

    /// How many descriptors are attached.
    pub fn attached(&self) -> usize {
        self.attached.len()
    }

    /// The descriptors that came with the last message, in order. Those that nobody takes are
    /// closed when the next message comes, or the envelope is dropped. They are closed on `exec`.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.came.descriptors)
    }

    /// The sender's process, as a descriptor, if the socket passes it (`SO_PASSPIDFD`).
    pub fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.came.process.take()
    }

    /// What else came with the last message, such as time stamps.
    pub fn control(&self) -> impl Iterator<Item = Control<'_>> {
        control::messages(&self.control.0)
    }

    /// Empties it: the address, what is attached, and what came.
    pub fn clear(&mut self) {
        self.numbers = Numbers::Ours;
        self.address = Storage::EMPTY;
        self.control.0.fill(0);
        self.attached.clear();
        self.came = Came::default();
    }

    /// Writes the numbers of what is attached, and returns how many bytes of control data that is.
    fn write_attached(&mut self) -> usize {
        self.numbers = Numbers::Ours;
        let Self { control: ControlData(control), attached, .. } = self;
        control.fill(0);
        if attached.is_empty() {
            return 0;
        }
        let len = HEAD + 4 * attached.len();
        let (head, data) = control.split_at_mut(HEAD);
        head[..8].copy_from_slice(&(len as u64).to_ne_bytes());
        head[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        head[12..].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        for (place, descriptor) in data.chunks_exact_mut(4).zip(attached) {
            place.copy_from_slice(&descriptor.as_fd().as_raw_fd().to_ne_bytes());
        }
        len
    }

    /// Takes every descriptor out of the control data, and leaves -1 in its place.
    fn take_numbers(&mut self) {
        if std::mem::replace(&mut self.numbers, Numbers::Ours) == Numbers::Ours {
            return;
        }
        self.came = Came::default();
        // SAFETY: the kernel's, each of them, since the data was zero before, and for this message;
        // they are taken here only, since the numbers are ours from now on (OP3).
        self.came = unsafe { control::adopt(&mut self.control.0) };
    }
}

impl sealed::Sealed for Box<Envelope> {}

impl Cover for Box<Envelope> {
    type With<B> = (B, Self);

    fn outgoing(&mut self, table: &[IoVec]) -> u64 {
        let control_len = self.write_attached() as u64;
        // Each part is borrowed once, so that no borrow of the whole ends what another is used for.
        let Envelope { header, address, control, .. } = &mut **self;
        let (name, name_len) = match address.place() {
            (_, 0) => (0, 0),
            place => place,
        };
        let control = match control_len {
            0 => 0,
            _ => (&raw mut *control).expose_provenance() as u64,
        };
        Header { name, name_len, control, control_len, ..Header::of(table) }.put(header)
    }

    fn incoming(&mut self, table: &[IoVec]) -> u64 {
        self.numbers = Numbers::Kernels;
        let Envelope { header, address, control, .. } = &mut **self;
        control.0.fill(0);
        let ((name, _), name_len) = (address.room(), address.capacity());
        let control_len = CONTROL as u64;
        let control = (&raw mut *control).expose_provenance() as u64;
        Header { name, name_len, control, control_len, ..Header::of(table) }.put(header)
    }

    fn arrived(&mut self) {
        self.take_numbers();
    }

    fn sent<B>(mut self, bufs: B, result: &io::Result<usize>) -> (B, Self) {
        self.control.0.fill(0);
        // A message without bytes takes nothing along on a stream.
        if matches!(result, Ok(1..)) {
            self.attached.clear();
        }
        (bufs, self)
    }

    fn received<B>(
        mut self,
        bufs: B,
        result: io::Result<usize>,
    ) -> ((B, Self), io::Result<Received>) {
        let told = if result.is_ok() { self.header.name_len } else { 0 };
        self.address.set_len(told);
        let from = self.address.address();
        let received = result.map(|bytes| Received::of(bytes, from, &self.header));
        ((bufs, self), received)
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("address", &self.address)
            .field("attached", &self.attached.len())
            .field("came", &self.came)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::IntoRawFd;

    use super::super::control::PIDFD;
    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").expect("there is one everywhere").into()
    }

    /// Control data with one message that says it has `len` bytes.
    fn message(len: u64, level: i32, kind: i32, data: &[u8]) -> Box<Envelope> {
        let mut envelope = Envelope::new();
        let head = [&len.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].concat();
        envelope.control.0[..HEAD].copy_from_slice(&head);
        envelope.control.0[HEAD..HEAD + data.len()].copy_from_slice(data);
        envelope
    }

    /// Completes a receive, of which the kernel says these lengths.
    fn received(mut envelope: Box<Envelope>, name_len: u32, control_len: u64) -> Box<Envelope> {
        (envelope.header.name_len, envelope.header.control_len) = (name_len, control_len);
        envelope.numbers = Numbers::Kernels;
        envelope.arrived();
        let (((), envelope), _) = envelope.received((), Ok(1));
        envelope
    }

    #[test]
    fn what_is_attached_is_written_as_numbers_and_wiped_again() {
        let (one, two) = (null(), null());
        let numbers = [one.as_raw_fd(), two.as_raw_fd()].map(i32::to_ne_bytes).concat();
        let mut envelope = Envelope::new();
        assert!(envelope.attach(one).is_ok());
        assert!(envelope.attach(two).is_ok());
        envelope.outgoing(&[]);
        assert_eq!(envelope.header.control_len, 24);
        let head = [24, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(envelope.control.0[..24], [head.as_slice(), &numbers].concat());
        let failed = Err(io::ErrorKind::NotConnected.into());
        let ((), envelope) = envelope.sent((), &failed);
        assert_eq!((envelope.attached(), envelope.control.0), (2, [0; CONTROL]));
    }

    #[test]
    fn op3_a_number_is_taken_once_whatever_the_kernel_says_of_lengths() {
        for told in [0, 24, u64::MAX] {
            let number = null().into_raw_fd().to_ne_bytes();
            let envelope = message(20, libc::SOL_SOCKET, libc::SCM_RIGHTS, &number);
            let mut envelope = received(envelope, 0, told);
            assert_eq!(envelope.control().count(), 0, "no number is data");
            assert_eq!(envelope.take_descriptors().len(), 1);
            let mut envelope = received(envelope, 0, told);
            assert_eq!(envelope.take_descriptors().len(), 0);
        }
    }

    #[test]
    fn numbers_are_found_behind_other_messages_and_errors_are_none() {
        let mut envelope = message(17, libc::SOL_IP, libc::IP_TTL, &[64]);
        let number = null().into_raw_fd().to_ne_bytes();
        let behind = message(24, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[number, [0xff; 4]].concat());
        envelope.control.0[24..48].copy_from_slice(&behind.control.0[..24]);
        let behind = message(20, libc::SOL_SOCKET, PIDFD, &(-libc::EMFILE).to_ne_bytes());
        envelope.control.0[48..68].copy_from_slice(&behind.control.0[..20]);
        let mut envelope = received(envelope, 0, 72);
        let ttl = Control { level: libc::SOL_IP, kind: libc::IP_TTL, data: &[64] };
        assert_eq!(envelope.control().collect::<Vec<_>>(), [ttl]);
        assert_eq!((envelope.take_descriptors().len(), envelope.take_pidfd().is_none()), (1, true));
    }

    #[test]
    fn a_control_message_that_would_not_lie_inside_is_none() {
        for len in [0, 1, 15, CONTROL as u64 + 1, u64::MAX - 7, u64::MAX] {
            let envelope = message(len, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[0; 4]);
            let mut envelope = received(envelope, 0, 24);
            assert_eq!(envelope.take_descriptors().len(), 0, "{len}");
            assert_eq!(envelope.control().count(), 0, "{len}");
        }
        let whole = message(CONTROL as u64, libc::SOL_IP, 0, &[]);
        let control = whole.control().next().expect("a message");
        assert_eq!(control.data.len(), CONTROL - HEAD);
    }

    #[test]
    fn an_address_longer_than_its_place_is_none() {
        for len in [0, 129, u32::MAX] {
            let mut envelope = Envelope::new();
            envelope.incoming(&[]);
            assert_eq!((envelope.header.name_len, envelope.header.control_len), (128, 1280));
            assert!(received(envelope, len, 0).address().is_none(), "{len}");
        }
    }

    #[test]
    fn nothing_is_left_for_the_kernel_to_receive_into_but_zeroes() {
        let envelope = message(20, libc::SOL_SOCKET, libc::SCM_RIGHTS, &1_i32.to_ne_bytes());
        let mut envelope = envelope;
        envelope.incoming(&[]);
        assert_eq!(envelope.control.0, [0; CONTROL]);
    }

    #[test]
    fn op3_numbers_that_we_wrote_are_taken_for_nobodys() {
        let mut envelope = Envelope::new();
        assert!(envelope.attach(null()).is_ok());
        envelope.outgoing(&[]);
        envelope.arrived();
        let (((), mut envelope), _) = envelope.received((), Ok(0));
        assert!(envelope.take_descriptors().is_empty());
        let (((), envelope), _) = (envelope.sent((), &Ok(0)), ());
        assert_eq!(envelope.attached(), 1, "nothing took it along");
    }
}
