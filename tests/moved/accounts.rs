//! What was pushed and has not come back, and one random step of a ring that is held against it.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::SetupFlags;
use annulus::{EnterCause, EnterError, RawRing, prep};

use super::chance::Chance;
use super::world::World;

const SHORT: Duration = Duration::from_micros(200);
/// Of a sane machine, each wait is over long before.
const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nop,
    /// Of a pipe, by its place in `pipes`.
    Read(usize),
    /// One byte, into the sink.
    Write,
}

/// The books of one ring.
pub struct Accounts {
    pub world: World,
    /// Whether each request is one that the ring itself has counted.
    pub counted: bool,
    /// What has not come back, by its `user_data`.
    expected: HashMap<u64, Kind>,
    /// Whether each push was a write, in order.
    pushed: Vec<bool>,
    /// How many writes came back.
    written: usize,
    pipes: Vec<(OwnedFd, OwnedFd)>,
    /// Places of pipes that are read from, and have nothing.
    hungry: Vec<usize>,
    sink: (OwnedFd, OwnedFd),
    next: u64,
}

impl Accounts {
    pub fn new(world: World) -> Self {
        let sink = world.pipe();
        let (expected, pushed, pipes, hungry) = Default::default();
        let counted = true;
        Self { world, counted, expected, pushed, written: 0, pipes, hungry, sink, next: 1 << 40 }
    }

    /// How many requests have not come back.
    pub fn open(&self) -> usize {
        self.expected.len()
    }

    /// An entry that has not been used before. What it points to lives forever (OP1).
    pub fn entry(&mut self, chance: &mut Chance) -> Sqe {
        self.next += 1;
        let byte = || Box::leak(Box::new(0_u8));
        let address = || std::ptr::from_mut(byte()).expose_provenance() as u64;
        let (kind, sqe) = match chance.below(4) {
            0 if self.pipes.len() < 12 => {
                let pipe = self.world.pipe();
                let sqe = prep::read(pipe.0.as_raw_fd(), address(), 1, u64::MAX);
                self.pipes.push(pipe);
                self.hungry.push(self.pipes.len() - 1);
                (Kind::Read(self.pipes.len() - 1), sqe)
            }
            1 => (Kind::Write, prep::write(self.sink.1.as_raw_fd(), address(), 1, u64::MAX)),
            _ => (Kind::Nop, prep::nop()),
        };
        assert_eq!(self.expected.insert(self.next, kind), None, "OP2: a new number");
        self.pushed.push(kind == Kind::Write);
        Sqe { user_data: self.next, ..sqe }
    }

    /// A completion came.
    pub fn take(&mut self, cqe: Cqe) {
        let kind = self.expected.remove(&cqe.user_data);
        let kind = kind.unwrap_or_else(|| panic!("OP2: {cqe:?} came twice, or for nobody"));
        match kind {
            Kind::Nop => assert!(cqe.res >= 0, "{cqe:?}"),
            Kind::Read(_) => {}
            Kind::Write if cqe.res == 1 => self.written += 1,
            Kind::Write => assert!(cqe.res < 0, "{cqe:?}"),
        }
    }

    fn feed(&mut self, place: usize) {
        let pipe = self.hungry.swap_remove(place);
        self.world.feed(&self.pipes[pipe].1);
    }

    /// One random step.
    pub fn step(&mut self, ring: &mut RawRing, chance: &mut Chance) {
        match chance.below(13) {
            0..5 if ring.room() > 0 => {
                let sqe = self.entry(chance);
                // SAFETY: what an entry of ours points to lives forever (OP1).
                unsafe { ring.push(sqe) }.expect("there is room");
            }
            0..7 => self.bear(ring.submit().map(drop)),
            7 => drop(ring.flush()),
            8 => self.bear(ring.submit_and_wait_timeout(1, SHORT).map(drop)),
            9 => self.bear(ring.wait_timeout(1, SHORT).map(drop)),
            10 => ring.pop().into_iter().for_each(|cqe| self.take(cqe)),
            11 => {
                let taken = ring.drain(|cqe| self.take(cqe)).map(drop);
                self.bear(taken);
            }
            _ => {
                if let Some(place) = chance.place(self.hungry.len()) {
                    self.feed(place);
                }
            }
        }
        self.agrees(ring);
    }

    /// What may fail: to wait for nothing, and to submit when too many completions are untaken.
    /// The simulated kernel may also have no memory, or be interrupted.
    #[track_caller]
    fn bear(&self, outcome: Result<(), EnterError>) {
        let Err(error) = outcome else { return };
        let usual = matches!(
            error.cause,
            EnterCause::NothingComing { .. }
                | EnterCause::CompletionsPending
                | EnterCause::Interrupted
        );
        assert!(usual || matches!(self.world, World::Simulated(_)), "{error}");
    }

    /// SQ2, CQ2: the ring's own counts are those of the accounts.
    pub fn agrees(&self, ring: &mut RawRing) {
        let open = u32::try_from(self.open()).expect("few");
        let (positions, entries) = (ring.positions(), ring.sq_entries());
        assert!(positions.sq_tail.distance_from(positions.sq_head) <= entries, "{positions:?}");
        assert!(ring.ready() <= ring.cq_entries().min(open), "{} of {open}", ring.ready());
        assert_eq!((ring.dropped(), ring.lost()), (0, 0));
        if self.counted {
            assert_eq!(ring.in_flight(), open, "{positions:?}");
        }
    }

    /// Lets everything end, and takes it: each request comes back.
    pub fn settle(&mut self, ring: &mut RawRing) {
        let until = Instant::now() + LONG;
        while !self.hungry.is_empty() {
            self.feed(0);
        }
        while self.open() > 0 {
            self.bear(ring.submit().map(drop));
            self.bear(ring.wait_timeout(1, Duration::from_millis(5)).map(drop));
            let taken = ring.drain(|cqe| self.take(cqe)).map(drop);
            self.bear(taken);
            assert!(Instant::now() < until, "lost: {:?} of {ring:?}", self.expected);
        }
        self.agrees(ring);
        // A polling thread stores the head after it has run the entries.
        while ring.room() < ring.sq_entries() && Instant::now() < until {
            std::thread::sleep(SHORT);
        }
        assert_eq!((ring.ready(), ring.room()), (0, ring.sq_entries()), "CQ2, SQ2: both are empty");
        assert_eq!(ring.pop().map(|cqe| cqe.user_data), None);
    }

    /// How many writes the kernel may have seen, if the ring is dropped now.
    pub fn seen(&self, ring: &RawRing) -> usize {
        let polls = ring.flags().contains(SetupFlags::SQPOLL);
        let unseen = if polls { 0 } else { (ring.sq_entries() - ring.room()) as usize };
        let seen = &self.pushed[..self.pushed.len() - unseen];
        seen.iter().filter(|&&is_write| is_write).count()
    }

    /// The ring is gone: no write ran that was not submitted, and every one that had completed.
    pub fn close(self, seen: usize) {
        drop(self.pipes);
        let count = self.world.count(self.sink);
        assert!((self.written..=seen).contains(&count), "{}..={seen}: {count}", self.written);
    }
}
