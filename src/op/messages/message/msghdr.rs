//! The reusable header of a message, in a box: its address, its descriptors, its control messages.
//!
//! ```text
//!   set_address ┐
//!   attach      ├─► MsgHeader ─► SendMsg ─► MsgHeader        sent: nothing is attached or added
//!   add_control ┘   MsgHeader ─► RecvMsg ─► MsgHeader ─► take_descriptors: OwnedFd, OwnedFd
//!                                              ├─ control: other control messages
//!                                              └─ address: of the sender, to reply to
//!
//!   control   │ len │ SOL_SOCKET │ SCM_RIGHTS │ fd │ fd │ │ len │ … │ zeroes
//! ```
//!
//! Descriptors travel as numbers in control data. Safe code never writes such numbers: it attaches
//! the owner of a descriptor, and the control messages that it adds carry values only (`send`). And
//! safe code never reads the numbers: as soon as the kernel is done, each is taken out as an
//! [`OwnedFd`], and closed if the caller does not take it.
//!
//! All of the control data is zero when the kernel gets it, so every descriptor in it afterwards
//! was written by the kernel, whatever length and result it reports. (A receive that waits for all
//! its bytes reports the length of the last part only.) And between operations no number is left
//! there.
//!
//! Keeps OP1, OP3.
#![allow(unsafe_code, reason = "makes descriptors from numbers")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::parts::sealed;
use super::{Header, MsgParts, Received};
use crate::buf::IoVec;
use crate::buf::address::{Address, MAX_ADDRESS, Storage};
use crate::buf::control;
use crate::buf::control::send::ControlError;
use crate::buf::control::{Came, Control, HEAD, SendControl};

/// The size of the control data, in bytes: 253 descriptors, and some other control data.
const CONTROL: usize = 1280;

/// How many bytes of it the added control messages may take.
const MAX_ADDED: usize = 248;

/// The largest number of descriptors in one message (`SCM_MAX_FD`).
const MAX_DESCRIPTORS: usize = 253;

const _: () = assert!((HEAD + 4 * MAX_DESCRIPTORS).next_multiple_of(8) + MAX_ADDED <= CONTROL);

/// Control data, aligned as its headers are.
#[repr(C, align(8))]
struct ControlData([u8; CONTROL]);

/// The reusable header of a message: an address, descriptors, and control messages. A message
/// allocates nothing, except for each descriptor that is attached, a list of those that arrive, and
/// once a list for control messages.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{MsgHeader, RecvMsg, SendMsg};
/// use std::fs::File;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let (ours, theirs) = UnixStream::pair()?;
/// let mut header = MsgHeader::new();
/// let Ok(()) = header.attach(File::open("/dev/null")?) else { unreachable!("one fits") };
/// let send = ring.submit(SendMsg::new(ours, ["a file"]).with(header))?;
/// let (_, (_, header)) = ring.wait(send)?.ok()?;
///
/// let recv = ring.submit(RecvMsg::new(theirs, [[0; 16]]).with(header))?;
/// let (received, (_, mut header)) = ring.wait(recv)?.ok()?;
/// let files: Vec<File> = header.take_descriptors().into_iter().map(File::from).collect();
/// assert_eq!((received.bytes, files.len()), (6, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "msghdr")]
#[doc(alias = "cmsg")]
#[doc(alias = "SCM_RIGHTS")]
pub struct MsgHeader {
    msghdr: Header,
    address: Storage<MAX_ADDRESS>,
    control: ControlData,
    attached: Vec<Box<dyn AsFd>>,
    added: Vec<SendControl>,
    came: Came,
    numbers: Numbers,
}

/// Who wrote the numbers in the control data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// This crate, or nothing did: none of them is a descriptor without an owner.
    Ours,
    /// The kernel, since all of it was zero when the kernel got it (OP3).
    Kernels,
}

impl MsgHeader {
    /// An empty message header. It is larger than a slot, so it lives in a box.
    pub fn new() -> Box<Self> {
        Box::new(Self {
            msghdr: Header::EMPTY,
            address: Storage::EMPTY,
            control: ControlData([0; CONTROL]),
            attached: Vec::new(),
            added: Vec::new(),
            came: Came::default(),
            numbers: Numbers::Ours,
        })
    }

    /// Sets the address to send to: an address of the standard library, or an [`Address`].
    pub fn set_address(&mut self, to: impl Into<Address>) {
        self.address = to.into().0;
    }

    /// The address to send to; after a receive, the sender's. Also `None` for an address that [may
    /// name a descriptor](Address::from_bytes).
    pub fn address(&self) -> Option<Address> {
        self.address.address()
    }

    /// Attaches a descriptor to the next outgoing message (`SCM_RIGHTS`), through a unix socket.
    /// Its owner stays here until a message with at least one byte has taken the descriptor along;
    /// then it is dropped. An empty message takes it along too, unless the socket is a stream, but
    /// the result does not tell: [`clear`](Self::clear) the header after such a message.
    ///
    /// # Errors
    ///
    /// Returns the descriptor when 253 are attached, which is the kernel's limit.
    pub fn attach<D: AsFd + 'static>(&mut self, descriptor: D) -> Result<(), D> {
        if self.attached.len() == MAX_DESCRIPTORS {
            return Err(descriptor);
        }
        self.attached.push(Box::new(descriptor));
        Ok(())
    }

    /// How many descriptors are attached.
    pub fn attached(&self) -> usize {
        self.attached.len()
    }

    /// Adds a control message to the next outgoing message, such as the address to send it from.
    /// One of the same level and type that was added before is replaced. It stays here until a
    /// message was sent.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoRoom`] when more than 248 bytes are added.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::{MsgHeader, SendControl, SendMsg};
    /// use std::net::UdpSocket;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (ours, theirs) = (UdpSocket::bind("0.0.0.0:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// let mut header = MsgHeader::new();
    /// header.set_address(theirs.local_addr()?);
    /// // 3000 bytes as three datagrams, all from another address of this machine.
    /// header.add_control(SendControl::segment_size(1200))?;
    /// header.add_control(SendControl::source([127, 0, 0, 2]))?;
    /// let send = ring.submit(SendMsg::new(ours, [vec![7; 3000]]).with(header))?;
    /// assert_eq!(ring.wait(send)?.result?, 3000);
    ///
    /// let sizes = [(); 3].map(|()| theirs.recv_from(&mut [0; 2000]).map(|(size, _)| size));
    /// let [first, second, third] = sizes;
    /// assert_eq!((first?, second?, third?), (1200, 1200, 600));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("CMSG_DATA", "cmsghdr"))]
    pub fn add_control(&mut self, message: SendControl) -> Result<(), ControlError> {
        let others = |other: &&SendControl| other.name() != message.name();
        let taken: usize = self.added.iter().filter(others).map(SendControl::room).sum();
        if taken + message.room() > MAX_ADDED {
            return Err(ControlError::NoRoom);
        }
        self.added.retain(|other| others(&other));
        self.added.push(message);
        Ok(())
    }

    /// Takes the descriptors that arrived with the last message, in order. Those that are not taken
    /// are closed when the next message arrives, or the header is dropped. They are closed on
    /// `exec`.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.came.descriptors)
    }

    /// Takes the sender's process as a descriptor, if the socket passes it (`SO_PASSPIDFD`).
    pub fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.came.process.take()
    }

    /// The other control data of the last message, such as timestamps.
    pub fn control(&self) -> impl Iterator<Item = Control<'_>> {
        control::messages(&self.control.0)
    }

    /// Clears the address, the attached descriptors, the added control messages, and everything
    /// that was received.
    pub fn clear(&mut self) {
        self.numbers = Numbers::Ours;
        self.address = Storage::EMPTY;
        self.control.0.fill(0);
        self.attached.clear();
        self.added.clear();
        self.came = Came::default();
    }

    /// Writes the numbers of the attached descriptors, then the added control messages. Returns the
    /// size of that control data.
    fn write_control(&mut self) -> usize {
        self.numbers = Numbers::Ours;
        let Self { control: ControlData(control), attached, added, .. } = self;
        control.fill(0);
        let mut end = 0;
        if !attached.is_empty() {
            let mut numbers = [0; 4 * MAX_DESCRIPTORS];
            for (place, descriptor) in numbers.chunks_exact_mut(4).zip(&*attached) {
                place.copy_from_slice(&descriptor.as_fd().as_raw_fd().to_ne_bytes());
            }
            let numbers = &numbers[..4 * attached.len()];
            end = control::put(control, 0, (libc::SOL_SOCKET, libc::SCM_RIGHTS), numbers);
        }
        for message in added {
            end = message.put(control, end.next_multiple_of(8));
        }
        end
    }

    /// Takes every descriptor out of the control data, and leaves -1 in its place.
    fn take_numbers(&mut self) {
        if std::mem::replace(&mut self.numbers, Numbers::Ours) == Numbers::Ours {
            return;
        }
        self.came = Came::default();
        // SAFETY: the kernel has written each of them for this message, since the data was zero
        // before; they are taken only here, since the numbers count as ours from now on (OP3).
        self.came = unsafe { control::adopt(&mut self.control.0) };
    }
}

impl sealed::Sealed for Box<MsgHeader> {}

impl MsgParts for Box<MsgHeader> {
    type With<B> = (B, Self);

    fn outgoing(&mut self, table: &[IoVec]) -> u64 {
        let control_len = self.write_control() as u64;
        // Each field is borrowed once, so that no borrow of the whole invalidates another field's
        // pointer.
        let MsgHeader { msghdr, address, control, .. } = &mut **self;
        let (name, name_len) = match address.place() {
            (_, 0) => (0, 0),
            place => place,
        };
        let control = match control_len {
            0 => 0,
            _ => (&raw mut *control).expose_provenance() as u64,
        };
        Header { name, name_len, control, control_len, ..Header::of(table) }.put(msghdr)
    }

    fn incoming(&mut self, table: &[IoVec]) -> u64 {
        self.numbers = Numbers::Kernels;
        let MsgHeader { msghdr, address, control, .. } = &mut **self;
        control.0.fill(0);
        let ((name, _), name_len) = (address.room(), address.capacity());
        let control_len = CONTROL as u64;
        let control = (&raw mut *control).expose_provenance() as u64;
        Header { name, name_len, control, control_len, ..Header::of(table) }.put(msghdr)
    }

    fn arrived(&mut self) {
        self.take_numbers();
    }

    fn sent<B>(mut self, bufs: B, result: &io::Result<usize>) -> (B, Self) {
        self.control.0.fill(0);
        // On a stream, a message without bytes takes no descriptors along.
        if matches!(result, Ok(1..)) {
            self.attached.clear();
        }
        if result.is_ok() {
            self.added.clear();
        }
        (bufs, self)
    }

    fn received<B>(
        mut self,
        bufs: B,
        result: io::Result<usize>,
    ) -> ((B, Self), io::Result<Received>) {
        let told = if result.is_ok() { self.msghdr.name_len } else { 0 };
        self.address.set_len(told);
        let from = self.address.address();
        let received = result.map(|bytes| Received::of(bytes, from, &self.msghdr));
        ((bufs, self), received)
    }
}

impl fmt::Debug for MsgHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsgHeader")
            .field("address", &self.address)
            .field("attached", &self.attached.len())
            .field("added", &self.added)
            .field("came", &self.came)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::IntoRawFd;

    use super::*;
    use crate::buf::control::PIDFD;

    fn null() -> OwnedFd {
        File::open("/dev/null").expect("there is one everywhere").into()
    }

    /// Control data with one message that says it has `len` bytes.
    fn message(len: u64, level: i32, kind: i32, data: &[u8]) -> Box<MsgHeader> {
        let mut header = MsgHeader::new();
        let head = [&len.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].concat();
        header.control.0[..HEAD].copy_from_slice(&head);
        header.control.0[HEAD..HEAD + data.len()].copy_from_slice(data);
        header
    }

    /// Completes a receive for which the kernel reports these lengths.
    fn received(mut header: Box<MsgHeader>, name_len: u32, control_len: u64) -> Box<MsgHeader> {
        (header.msghdr.name_len, header.msghdr.control_len) = (name_len, control_len);
        header.numbers = Numbers::Kernels;
        header.arrived();
        let (((), header), _) = header.received((), Ok(1));
        header
    }

    #[test]
    fn what_is_attached_is_written_as_numbers_and_wiped_again() {
        let (one, two) = (null(), null());
        let numbers = [one.as_raw_fd(), two.as_raw_fd()].map(i32::to_ne_bytes).concat();
        let mut header = MsgHeader::new();
        assert!(header.attach(one).is_ok());
        assert!(header.attach(two).is_ok());
        header.outgoing(&[]);
        assert_eq!(header.msghdr.control_len, 24);
        let head = [24, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(header.control.0[..24], [head.as_slice(), &numbers].concat());
        let failed = Err(io::ErrorKind::NotConnected.into());
        let ((), header) = header.sent((), &failed);
        assert_eq!((header.attached(), header.control.0), (2, [0; CONTROL]));
    }

    #[test]
    fn op3_a_number_is_taken_once_whatever_the_kernel_says_of_lengths() {
        for told in [0, 24, u64::MAX] {
            let number = null().into_raw_fd().to_ne_bytes();
            let header = message(20, libc::SOL_SOCKET, libc::SCM_RIGHTS, &number);
            let mut header = received(header, 0, told);
            assert_eq!(header.control().count(), 0, "no number is data");
            assert_eq!(header.take_descriptors().len(), 1);
            let mut header = received(header, 0, told);
            assert_eq!(header.take_descriptors().len(), 0);
        }
    }

    #[test]
    fn numbers_are_found_behind_other_messages_and_errors_are_none() {
        let mut header = message(17, libc::SOL_IP, libc::IP_TTL, &[64]);
        let number = null().into_raw_fd().to_ne_bytes();
        let behind = message(24, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[number, [0xff; 4]].concat());
        header.control.0[24..48].copy_from_slice(&behind.control.0[..24]);
        let behind = message(20, libc::SOL_SOCKET, PIDFD, &(-libc::EMFILE).to_ne_bytes());
        header.control.0[48..68].copy_from_slice(&behind.control.0[..20]);
        let mut header = received(header, 0, 72);
        let ttl = Control { level: libc::SOL_IP, kind: libc::IP_TTL, data: &[64] };
        assert_eq!(header.control().collect::<Vec<_>>(), [ttl]);
        assert_eq!((header.take_descriptors().len(), header.take_pidfd().is_none()), (1, true));
    }

    #[test]
    fn a_control_message_that_would_not_lie_inside_is_none() {
        for len in [0, 1, 15, CONTROL as u64 + 1, u64::MAX - 7, u64::MAX] {
            let header = message(len, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[0; 4]);
            let mut header = received(header, 0, 24);
            assert_eq!(header.take_descriptors().len(), 0, "{len}");
            assert_eq!(header.control().count(), 0, "{len}");
        }
        let whole = message(CONTROL as u64, libc::SOL_IP, 0, &[]);
        let control = whole.control().next().expect("a message");
        assert_eq!(control.data.len(), CONTROL - HEAD);
    }

    #[test]
    fn an_address_longer_than_its_place_is_none() {
        for len in [0, 129, u32::MAX] {
            let mut header = MsgHeader::new();
            header.incoming(&[]);
            assert_eq!((header.msghdr.name_len, header.msghdr.control_len), (128, 1280));
            assert!(received(header, len, 0).address().is_none(), "{len}");
        }
    }

    #[test]
    fn nothing_is_left_for_the_kernel_to_receive_into_but_zeroes() {
        let header = message(20, libc::SOL_SOCKET, libc::SCM_RIGHTS, &1_i32.to_ne_bytes());
        let mut header = header;
        header.incoming(&[]);
        assert_eq!(header.control.0, [0; CONTROL]);
    }

    #[test]
    fn op3_numbers_that_we_wrote_are_taken_for_nobodys() {
        let mut header = MsgHeader::new();
        assert!(header.attach(null()).is_ok());
        header.outgoing(&[]);
        header.arrived();
        let (((), mut header), _) = header.received((), Ok(0));
        assert!(header.take_descriptors().is_empty());
        let (((), header), _) = (header.sent((), &Ok(0)), ());
        assert_eq!(header.attached(), 1, "nothing took it along");
    }
}
