//! What operations are made of here: buffers, a file, a user value, each of which reports when it
//! is dropped, and operations that know what they should have ended with.
//!
//! ```text
//!   Read { File(token), Watched { bytes, token } }   UserValue(token)
//! ```

#![allow(unsafe_code, reason = "implements an operation, and says what was filled")]

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use annulus::buf::{IoBuf, IoBufMut, Region, RegionMut};
use annulus::lease::BufLease;
use annulus::op::{
    Done, Ended, Ending, Nop, Op, Outcome, Read, RecvMulti, RecvProvided, SendZc, Sent, Write,
};
use annulus::prep;
use annulus_sys::abi::Sqe;

use super::ledger::OpId;
use super::world::{End, Token, World};

/// A buffer.
#[derive(Debug)]
pub struct Watched<B> {
    token: Token,
    panics: Panics,
    pub bytes: B,
}

/// Where a buffer panics, once it is armed, besides its drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panics {
    Never,
    InRegion,
    InFilled,
}

impl<B> Watched<B> {
    pub fn new(token: Token, panics: Panics, bytes: B) -> Self {
        Self { token, panics, bytes }
    }

    fn at(&self, place: Panics) {
        if self.panics == place {
            self.token.trip();
        }
    }
}

impl<B: IoBuf> IoBuf for Watched<B> {
    fn region(&self) -> Region<'_> {
        self.at(Panics::InRegion);
        self.bytes.region()
    }
}

impl<B: IoBufMut> IoBufMut for Watched<B> {
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.at(Panics::InRegion);
        self.bytes.region_mut()
    }

    unsafe fn set_filled(&mut self, count: usize) {
        self.at(Panics::InFilled);
        // SAFETY: as promised to `set_filled`.
        unsafe { self.bytes.set_filled(count) };
    }
}

thread_local! {
    /// One descriptor for all: no operation ever uses it.
    static NULL: Rc<OwnedFd> =
        Rc::new(std::fs::File::open("/dev/null").expect("there is one").into());
}

/// A file.
#[derive(Debug)]
pub struct File {
    fd: Rc<OwnedFd>,
    _token: Token,
}

impl File {
    pub fn new(token: Token) -> Self {
        Self { fd: NULL.with(Rc::clone), _token: token }
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.fd).as_fd()
    }
}

/// The user value of an operation.
#[derive(Debug, Default)]
pub struct UserValue(Option<Token>);

impl UserValue {
    pub fn new(token: Token) -> Self {
        Self(Some(token))
    }

    /// The operation that it belongs to.
    pub fn op(&self) -> Option<OpId> {
        self.0.as_ref().map(Token::op)
    }
}

impl Drop for UserValue {
    fn drop(&mut self) {
        if self.0.is_none() {
            super::blame::drop_unset();
        }
    }
}

/// A NOP that owns something.
#[derive(Debug)]
pub struct Tagged(pub Token);

// SAFETY: OP1 to OP3: it points to nothing, completes once, and its completion carries no resource.
unsafe impl Op for Tagged {
    type Output = (io::Result<u32>, Token);

    fn prep(&mut self) -> Sqe {
        Sqe { off: u64::from(self.0.op()), ..prep::nop() }
    }

    fn finish(self, done: Done) -> Self::Output {
        (done.result(), self.0)
    }
}

/// Leases that are kept for a while, with the bytes that must be in them.
pub type Leases = RefCell<Vec<(BufLease, Vec<u8>)>>;

/// Takes a lease over, and checks that it holds what the kernel wrote there.
pub fn keep(lease: BufLease, world: &World, leases: &Leases) {
    if let Some(bytes) = world.completion(&lease) {
        if lease[..] != bytes[..lease.len()] {
            world
                .fault(format!("BR1: a lease holds {:?}, and {bytes:?} was put there", &lease[..]));
        }
        leases.borrow_mut().push((lease, bytes));
    } else if lease.len() >= 8 {
        world.fault("BR1: a lease holds what the kernel did not put there");
    }
}

/// Operations whose output can be checked.
pub trait Judged: Op + 'static {
    /// Reports what is wrong with the output.
    fn judge(output: Self::Output, end: &End, world: &World, leases: &Leases);
}

/// Whether `result` is what the kernel has reported, of `offered` bytes.
fn judge_count(result: &io::Result<usize>, end: &End, offered: usize, world: &World) {
    let expected = usize::try_from(end.result).map(|count| count.min(offered)).ok();
    let errno = end.result.wrapping_neg();
    let fits = match result {
        Ok(count) => Some(*count) == expected,
        Err(error) => expected.is_none() && error.raw_os_error() == Some(errno),
    };
    if !fits {
        world.fault(format!("{result:?} of {offered}, and the kernel said {}", end.result));
    }
}

fn judge_number(result: &io::Result<u32>, end: &End, world: &World) {
    let count = result.as_ref().map(|&number| number as usize);
    let count =
        count.map_err(|error| io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0)));
    judge_count(&count, end, usize::MAX, world);
}

fn judge_bytes(bytes: &[u8], end: &End, world: &World) {
    if end.image.get(..bytes.len()) != Some(bytes) {
        world.fault(format!("OP1: a buffer holds {bytes:?}, and the kernel wrote {:?}", end.image));
    }
}

/// Buffers that can be read into, and checked afterwards.
pub trait Readable: IoBufMut + 'static {
    /// How many bytes were offered, and the bytes that can be seen after `count` were read.
    fn seen(&self, count: usize) -> (usize, &[u8]);
}

impl Readable for Vec<u8> {
    fn seen(&self, _: usize) -> (usize, &[u8]) {
        (self.capacity(), self)
    }
}

impl Readable for Box<[u8]> {
    fn seen(&self, _: usize) -> (usize, &[u8]) {
        (self.len(), self)
    }
}

impl Readable for [u8; 8] {
    fn seen(&self, _: usize) -> (usize, &[u8]) {
        (8, self)
    }
}

impl<B: Readable> Judged for Read<File, Watched<B>> {
    fn judge(output: Outcome<usize, File, Watched<B>>, end: &End, world: &World, _: &Leases) {
        let count = output.result.as_ref().copied().unwrap_or(0);
        let (offered, bytes) = output.buf.bytes.seen(count);
        judge_count(&output.result, end, offered, world);
        judge_bytes(bytes, end, world);
    }
}

impl<B: AsRef<[u8]> + IoBuf + 'static> Judged for Write<File, Watched<B>> {
    fn judge(output: Outcome<usize, File, Watched<B>>, end: &End, world: &World, _: &Leases) {
        judge_count(&output.result, end, output.buf.bytes.as_ref().len(), world);
    }
}

impl<B: AsRef<[u8]> + IoBuf + 'static> Judged for SendZc<File, Watched<B>> {
    fn judge(output: Outcome<Sent, File, Watched<B>>, end: &End, world: &World, _: &Leases) {
        let bytes = output.result.map(|sent| sent.bytes);
        judge_count(&bytes, end, output.buf.bytes.as_ref().len(), world);
    }
}

impl Judged for Tagged {
    fn judge((result, _): (io::Result<u32>, Token), end: &End, world: &World, _: &Leases) {
        judge_number(&result, end, world);
    }
}

impl Judged for Nop {
    fn judge(result: io::Result<u32>, end: &End, world: &World, _: &Leases) {
        judge_number(&result, end, world);
    }
}

impl Judged for RecvProvided<File> {
    fn judge(output: Outcome<Option<BufLease>, File>, end: &End, world: &World, leases: &Leases) {
        match output.result {
            Ok(Some(lease)) => keep(lease, world, leases),
            Ok(None) if end.result >= 0 => {}
            Ok(None) => world.fault(format!("success, and the kernel said {}", end.result)),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                judge_count(&Err(io::Error::from_raw_os_error(errno)), end, 0, world);
            }
        }
    }
}

impl Judged for RecvMulti<File> {
    fn judge(output: Ended<File, io::Result<BufLease>>, end: &End, world: &World, leases: &Leases) {
        output.remaining.into_iter().flatten().for_each(|lease| keep(lease, world, leases));
        let fits = match output.how {
            Ending::Eof => end.result == 0,
            Ending::NoBuffers => end.result == -libc::ENOBUFS,
            Ending::Cancelled => end.result == -libc::ECANCELED,
            Ending::Stopped => end.result > 0,
            Ending::Failed(error) => error.raw_os_error() == Some(end.result.wrapping_neg()),
            _ => false,
        };
        if !fits {
            world.fault(format!("an ending that does not fit {}", end.result));
        }
    }
}
