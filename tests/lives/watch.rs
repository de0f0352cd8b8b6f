//! Leases that are held and watched: the bytes of a lease must never change.

use std::ops::Range;

use annulus::lease::{BufLease, Datagram, FixedBuf};

/// Something whose bytes only the test may change.
#[derive(Debug)]
pub enum Held {
    Lease(BufLease),
    Message(Datagram),
    Fixed(FixedBuf),
    /// Memory that a scope had borrowed.
    Own(Vec<u8>),
}

/// The lease, and its bytes when it came.
#[derive(Debug)]
pub struct Watched {
    pub held: Held,
    copy: Vec<u8>,
    /// The number of its operation.
    number: u64,
}

impl Held {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Message(message) => message.payload(),
            Self::Fixed(buf) => buf,
            Self::Own(buf) => buf,
        }
    }

    fn range(&self) -> Range<usize> {
        let range = self.bytes().as_ptr_range();
        range.start.addr()..range.end.addr()
    }
}

impl Watched {
    pub fn new(held: Held, number: u64) -> Self {
        let copy = held.bytes().to_vec();
        Self { held, copy, number }
    }

    /// Fails if its bytes have changed.
    pub fn check(&self) {
        let (now, then) = (self.held.bytes(), &*self.copy);
        if now != then {
            let at = now.iter().zip(then).take_while(|(a, b)| a == b).count();
            let (number, len) = (self.number, now.len());
            panic!("BR1: the lease of operation {number}, of {len} bytes, changed at {at}");
        }
    }

    /// Fails if the other lease is of the same memory.
    pub fn check_apart_from(&self, other: &Held) {
        let (ours, theirs) = (self.held.range(), other.range());
        let apart = ours.end <= theirs.start || theirs.end <= ours.start;
        assert!(apart, "BR1: the lease of operation {} overlaps a new one", self.number);
    }

    /// Writes other bytes, as its owner may.
    pub fn scribble(&mut self) {
        let bytes: &mut [u8] = match &mut self.held {
            Held::Lease(lease) => lease,
            Held::Fixed(buf) => buf,
            Held::Own(buf) => buf,
            Held::Message(_) => return,
        };
        for (byte, copy) in bytes.iter_mut().zip(&mut self.copy) {
            *byte = !*byte;
            *copy = *byte;
        }
    }
}
