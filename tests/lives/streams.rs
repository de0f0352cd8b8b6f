//! Streams: every byte encodes its stream and its position in it.
//!
//! ```text
//!   Inward    peer writes 0..sent ──► socket ──► operations, in order of submission ──► next
//!   Outward   next ──► operation in flight ──► socket ──► peer reads, and compares
//! ```
//!
//! Only one operation at a time moves bytes of a stream, so the order of operations is the order of
//! bytes, however late each is redeemed: bytes that come early are kept until their turn.

use std::collections::VecDeque;
use std::io::{ErrorKind, PipeWriter, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;

use annulus::lease::FixedFile;

/// The byte at a position of a stream.
pub fn byte(key: u64, at: u64) -> u8 {
    let mut word = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.wrapping_mul(0xd134_2543_de82_ef95);
    word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 32)).to_le_bytes()[0]
}

/// So many bytes of a stream, from a position on.
pub fn bytes(key: u64, at: u64, count: usize) -> Vec<u8> {
    (at..).take(count).map(|at| byte(key, at)).collect()
}

/// A datagram: the bytes of a stream of its own.
fn datagram(key: u64, number: u64, len: usize) -> Vec<u8> {
    bytes(key.wrapping_add(number << 32), 0, len)
}

/// The target of an operation.
#[derive(Debug, Clone)]
pub enum Aim {
    Fd(Rc<OwnedFd>),
    Fixed(FixedFile),
}

/// The kind of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    Unix,
    Tcp,
    Pipe,
    /// Datagrams, none of which is lost.
    UnixDatagram,
    /// Datagrams.
    Udp,
}

/// The peer that writes.
#[derive(Debug)]
enum Writer {
    Unix(UnixStream),
    Tcp(TcpStream),
    Pipe(PipeWriter),
    UnixDatagram(UnixDatagram),
    Udp(UdpSocket),
    Gone,
}

/// The bytes of one operation, which are still to be compared.
#[derive(Debug)]
struct Entry {
    number: u64,
    pieces: VecDeque<Vec<u8>>,
    closed: bool,
}

/// Bytes, or datagrams, that come in.
#[derive(Debug)]
pub struct Inward {
    pub key: u64,
    pub medium: Medium,
    pub aim: Aim,
    /// Our end, whatever target the operations use.
    own: Rc<OwnedFd>,
    writer: Writer,
    /// The operation that receives.
    pub busy: Option<u64>,
    /// An operation was detached, so the next bytes are not known.
    pub adrift: bool,
    sent: u64,
    next: u64,
    /// How long each datagram was.
    lens: Vec<usize>,
    entries: VecDeque<Entry>,
}

impl Inward {
    pub fn new(key: u64, medium: Medium) -> std::io::Result<Self> {
        let (own, writer): (OwnedFd, Writer) = match medium {
            Medium::Unix => {
                let (own, writer) = UnixStream::pair()?;
                writer.set_nonblocking(true)?;
                (own.into(), Writer::Unix(writer))
            }
            Medium::Tcp => {
                let (own, writer) = tcp_pair()?;
                writer.set_nonblocking(true)?;
                writer.set_nodelay(true)?;
                (own.into(), Writer::Tcp(writer))
            }
            Medium::Pipe => {
                let (own, writer) = std::io::pipe()?;
                (own.into(), Writer::Pipe(writer))
            }
            Medium::UnixDatagram => {
                let (own, writer) = UnixDatagram::pair()?;
                writer.set_nonblocking(true)?;
                (own.into(), Writer::UnixDatagram(writer))
            }
            Medium::Udp => {
                let own = UdpSocket::bind("127.0.0.1:0")?;
                let writer = UdpSocket::bind("127.0.0.1:0")?;
                writer.connect(own.local_addr()?)?;
                writer.set_nonblocking(true)?;
                (own.into(), Writer::Udp(writer))
            }
        };
        let own = Rc::new(own);
        let aim = Aim::Fd(Rc::clone(&own));
        let (lens, entries) = (Vec::new(), VecDeque::new());
        let (sent, next) = (0, 0);
        let (busy, adrift) = (None, false);
        Ok(Self { key, medium, aim, own, writer, busy, adrift, sent, next, lens, entries })
    }

    pub fn own(&self) -> &Rc<OwnedFd> {
        &self.own
    }

    pub fn is_datagrams(&self) -> bool {
        matches!(self.medium, Medium::UnixDatagram | Medium::Udp)
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.writer, Writer::Gone)
    }

    /// The peer writes up to `count` bytes, or one datagram. Returns how many.
    pub fn write(&mut self, count: usize) -> usize {
        // A pipe must never block this thread, nor may datagrams be lost for lack of room.
        if self.sent - self.next > 4000 || (self.is_datagrams() && self.sent - self.next > 30) {
            return 0;
        }
        let (key, sent) = (self.key, self.sent);
        let written = match &mut self.writer {
            Writer::Unix(writer) => writer.write(&bytes(key, sent, count)),
            Writer::Tcp(writer) => writer.write(&bytes(key, sent, count)),
            Writer::Pipe(writer) => writer.write(&bytes(key, sent, count)),
            Writer::UnixDatagram(writer) => writer.send(&datagram(key, sent, count)),
            Writer::Udp(writer) => writer.send(&datagram(key, sent, count)),
            Writer::Gone => return 0,
        };
        match written {
            Ok(written) => {
                self.note_sent(written);
                written
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) if self.adrift => {
                self.writer = Writer::Gone;
                drop(error);
                0
            }
            Err(error) => panic!("the peer cannot write: {error}"),
        }
    }

    /// The next bytes to send, if the peer is one that can also pass descriptors.
    pub fn next_message(&self, count: usize) -> Option<(OwnedFd, Vec<u8>)> {
        let ahead = self.sent - self.next;
        match &self.writer {
            Writer::UnixDatagram(writer) if ahead < 30 => {
                Some((writer.try_clone().ok()?.into(), datagram(self.key, self.sent, count)))
            }
            Writer::Unix(writer) if ahead < 4000 => {
                Some((writer.try_clone().ok()?.into(), bytes(self.key, self.sent, count)))
            }
            _ => None,
        }
    }

    /// So many bytes were sent; or a datagram of them.
    pub fn note_sent(&mut self, count: usize) {
        if self.is_datagrams() {
            self.lens.push(count);
            self.sent += 1;
        } else {
            self.sent += count as u64;
        }
    }

    /// The peer closes.
    pub fn close(&mut self) {
        self.writer = Writer::Gone;
    }

    /// An operation was detached: the stream ends, so that the operation does.
    pub fn hang_up(&mut self) {
        self.adrift = true;
        if !self.is_datagrams() {
            self.close();
        }
    }

    /// Ends a detached receive of a datagram: nothing else would.
    pub fn poke(&self) {
        let _ = match &self.writer {
            Writer::UnixDatagram(writer) => writer.send(&[0]),
            Writer::Udp(writer) => writer.send(&[0]),
            // Nothing can be sent any more. The call is the same for each kind of socket.
            Writer::Gone => self.own.try_clone().and_then(|own| {
                UnixDatagram::from(own).shutdown(Shutdown::Both)?;
                Ok(0)
            }),
            _ => return,
        };
    }

    /// Only this operation is to receive.
    pub fn open_entry(&mut self, number: u64) {
        assert!(self.busy.is_none(), "two operations on one stream");
        self.busy = Some(number);
        let pieces = VecDeque::new();
        self.entries.push_back(Entry { number, pieces, closed: false });
    }

    /// The operation completed with bytes.
    pub fn arrived(&mut self, number: u64, piece: &[u8]) {
        let entry = self.entries.iter_mut().find(|entry| entry.number == number);
        entry.expect("an operation of this stream").pieces.push_back(piece.to_vec());
        self.advance();
    }

    /// Nothing more comes from the operation.
    pub fn close_entry(&mut self, number: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) {
            entry.closed = true;
        }
        self.advance();
    }

    /// The operation reported the end of the stream.
    pub fn at_end(&mut self, number: u64) {
        let (key, sent, next) = (self.key, self.sent, self.next);
        assert!(!self.is_open(), "stream {key}: the end, and the peer is there");
        let first = self.entries.front().is_some_and(|entry| entry.number == number);
        assert!(!first || self.adrift || next == sent, "stream {key}: the end at {next} of {sent}");
    }

    /// Compares received bytes with those that were sent, as far as their order is known.
    fn advance(&mut self) {
        while let Some(entry) = self.entries.front_mut() {
            while let Some(piece) = entry.pieces.pop_front() {
                if self.adrift {
                    continue;
                }
                if matches!(self.medium, Medium::UnixDatagram | Medium::Udp) {
                    let lost = self.medium == Medium::Udp;
                    let at = datagram_at(self.key, self.next, &self.lens, &piece, lost);
                    self.next = at + 1;
                } else {
                    compare(self.key, self.next, self.sent, &piece);
                    self.next += piece.len() as u64;
                }
            }
            if !entry.closed {
                return;
            }
            self.entries.pop_front();
        }
    }

    /// All operations have ended and were redeemed, and the peer closes: the remaining bytes are in
    /// the socket.
    pub fn finish(mut self) {
        self.close();
        self.advance();
        if self.adrift || self.is_datagrams() {
            return;
        }
        assert!(self.entries.is_empty(), "stream {}: an operation was not redeemed", self.key);
        let own = self.own.try_clone().expect("a descriptor");
        let (mut own, mut rest) = (std::fs::File::from(own), Vec::new());
        own.read_to_end(&mut rest).expect("what is left can be read");
        compare(self.key, self.next, self.sent, &rest);
        let (key, at) = (self.key, self.next + rest.len() as u64);
        assert!(at == self.sent, "stream {key}: bytes lost: {at} of {} came", self.sent);
    }
}

/// Fails unless `piece` comes next.
fn compare(key: u64, next: u64, sent: u64, piece: &[u8]) {
    let expected = bytes(key, next, piece.len());
    if *piece == *expected {
        let end = next + piece.len() as u64;
        assert!(end <= sent, "stream {key}: {end} bytes came, and {sent} were sent");
        return;
    }
    let same = piece.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let window = &piece[same..piece.len().min(same + 6)];
    let from = (0..sent).find(|&at| window.len() >= 3 && bytes(key, at, window.len()) == window);
    let (len, at) = (piece.len(), next + same as u64);
    let words = format!("stream {key}: other bytes at {at} of {sent}, {same} bytes into {len}");
    panic!("{words}; these are of {from:?}");
}

/// Which datagram a piece is of, which may be truncated.
fn datagram_at(key: u64, next: u64, lens: &[usize], piece: &[u8], lossy: bool) -> u64 {
    let last = if lossy { lens.len() as u64 } else { next + 1 };
    for at in next..last {
        let len = usize::try_from(at).ok().and_then(|at| lens.get(at)).copied().unwrap_or(0);
        if len >= piece.len() && datagram(key, at, piece.len()) == piece {
            return at;
        }
    }
    panic!("stream {key}: {} bytes that are no datagram after the {next}th", piece.len());
}

/// The peer that reads.
#[derive(Debug)]
enum Reader {
    Unix(UnixStream),
    Tcp(TcpStream),
    Pipe(std::io::PipeReader),
}

/// Bytes that go out.
#[derive(Debug)]
pub struct Outward {
    pub key: u64,
    pub medium: Medium,
    pub aim: Aim,
    own: Rc<OwnedFd>,
    reader: Reader,
    pub busy: Option<u64>,
    pub adrift: bool,
    /// How many bytes the operations report as sent.
    pub next: u64,
    /// How many the peer has read.
    read: u64,
}

impl Outward {
    pub fn new(key: u64, medium: Medium) -> std::io::Result<Self> {
        let (own, reader): (OwnedFd, Reader) = match medium {
            Medium::Tcp => {
                let (own, reader) = tcp_pair()?;
                reader.set_nonblocking(true)?;
                (own.into(), Reader::Tcp(reader))
            }
            Medium::Pipe => {
                let (reader, own) = std::io::pipe()?;
                (own.into(), Reader::Pipe(reader))
            }
            _ => {
                let (own, reader) = UnixStream::pair()?;
                reader.set_nonblocking(true)?;
                (own.into(), Reader::Unix(reader))
            }
        };
        let own = Rc::new(own);
        let aim = Aim::Fd(Rc::clone(&own));
        let (busy, adrift, next, read) = (None, false, 0, 0);
        Ok(Self { key, medium, aim, own, reader, busy, adrift, next, read })
    }

    pub fn own(&self) -> &Rc<OwnedFd> {
        &self.own
    }

    /// The peer reads up to `count` bytes, and compares them.
    pub fn read(&mut self, count: usize) -> usize {
        let mut buf = vec![0; count];
        let read = match &mut self.reader {
            Reader::Unix(reader) => reader.read(&mut buf),
            Reader::Tcp(reader) => reader.read(&mut buf),
            Reader::Pipe(reader) => {
                // No more than there is, so that this thread does not block.
                let there = usize::try_from(self.next.saturating_sub(self.read)).unwrap_or(0);
                reader.read(&mut buf[..there.min(count)])
            }
        };
        match read {
            Ok(read) => {
                let expected = bytes(self.key, self.read, read);
                let (key, at) = (self.key, self.read);
                assert!(buf[..read] == *expected, "outward {key}: other bytes at {at}");
                self.read += read as u64;
                read
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("the peer cannot read: {error}"),
        }
    }

    /// All operations have ended and were redeemed: so much was sent, and no more.
    pub fn finish(mut self) {
        if self.adrift {
            return;
        }
        for _ in 0..1000 {
            if self.read(4096) == 0 && self.read == self.next {
                break;
            }
        }
        let (key, next) = (self.key, self.next);
        assert!(self.read == next, "outward {key}: {} bytes came of {next}", self.read);
    }
}

/// Two ends of a connection through the loopback interface.
fn tcp_pair() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let theirs = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener.accept()?.0, theirs))
}
