//! Rings that others made and used, and that are adopted at random moments.
//!
//! The others are forty lines without this crate's queues, so that they may do what ours do not:
//! their index array is not in order, and they count from wherever they have come to.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::spawn;

use annulus::RawRing;
use annulus::raw::adopt::AdoptError;
use annulus::sys::abi::{Cqe, Params, Sqe};
use annulus::sys::flags::{EnterFlags, Features, OFF_SQ_RING, OFF_SQES, SetupFlags};
use annulus::sys::map::Map;
use annulus::sys::syscall::{self, EnterArg, RingFd, RingRef};

use super::accounts::Accounts;
use super::chance::Chance;
use super::moving::Traveller;
use super::panics::{complaint, survives};
use super::world::World;

/// Another library's ring.
struct Other {
    fd: OwnedFd,
    params: Params,
    rings: Map,
    sqes: Map,
    /// By how much its slots are shifted against its index array.
    shift: u32,
}

impl Other {
    /// `None` where the kernel does not have `flags`, or one map for both queues.
    fn new(entries: u32, flags: SetupFlags, chance: &mut Chance) -> Option<Self> {
        let mut params = Params { flags, ..Params::default() };
        if chance.one_in(3) {
            params.flags |= SetupFlags::CQSIZE;
            params.cq_entries = entries.next_power_of_two();
        }
        // SAFETY: no memory is named, and no ring to attach to, since no flag says so.
        let fd = unsafe { syscall::setup(entries, &mut params) };
        let Ok(RingFd::Owned(fd)) = fd else { return None };
        if !params.features.contains(Features::SINGLE_MMAP) {
            return None;
        }
        let [cqe, sqe] = strides(flags);
        let array = params.sq_off.array as usize + 4 * params.sq_entries as usize;
        let cqes = params.cq_off.cqes as usize + cqe * params.cq_entries as usize;
        let rings = Map::of_ring(fd.as_fd(), OFF_SQ_RING, array.max(cqes)).expect("mapped");
        let len = sqe * params.sq_entries as usize;
        let sqes = Map::of_ring(fd.as_fd(), OFF_SQES, len).expect("mapped");
        let shift = chance.below(params.sq_entries);
        let shift = if flags.contains(SetupFlags::NO_SQARRAY) { 0 } else { shift };
        Some(Self { fd, params, rings, sqes, shift })
    }

    fn word(&self, offset: u32) -> u32 {
        // SAFETY: in the map, because `at` checked.
        unsafe { self.rings.at::<u32>(offset as usize, 1).read_volatile() }
    }

    fn set_word(&self, offset: u32, value: u32) {
        // SAFETY: in the map, because `at` checked; ours, until the next enter.
        unsafe { self.rings.at::<u32>(offset as usize, 1).write_volatile(value) }
    }

    fn room(&self) -> u32 {
        let used =
            self.word(self.params.sq_off.tail).wrapping_sub(self.word(self.params.sq_off.head));
        self.params.sq_entries - used
    }

    /// Publishes an entry; no thread polls this ring.
    fn publish(&self, entry: Sqe) {
        let tail = self.word(self.params.sq_off.tail);
        let mask = self.params.sq_entries - 1;
        let slot = tail.wrapping_add(self.shift) & mask;
        let [_, stride] = strides(self.params.flags);
        let at = self.sqes.at::<Sqe>(stride * slot as usize, 1);
        // SAFETY: in the map, because `at` checked; free, since there is room.
        unsafe { at.write_volatile(entry) };
        if !self.params.flags.contains(SetupFlags::NO_SQARRAY) {
            self.set_word(self.params.sq_off.array + 4 * (tail & mask), slot);
        }
        self.set_word(self.params.sq_off.tail, tail.wrapping_add(1));
    }

    /// Submits what is published.
    fn submit(&self) {
        while self.room() < self.params.sq_entries {
            let (count, name) =
                (self.params.sq_entries - self.room(), RingRef::fd(self.fd.as_fd()));
            let flags = EnterFlags::GETEVENTS;
            // SAFETY: what the entries point to lives forever (OP1).
            let entered = unsafe { syscall::enter(name, count, 0, flags, EnterArg::None) };
            entered.expect("it is consumed");
        }
    }

    fn pop(&self) -> Option<Cqe> {
        let (head, off) = (self.word(self.params.cq_off.head), self.params.cq_off);
        if head == self.word(off.tail) {
            return None;
        }
        let [stride, _] = strides(self.params.flags);
        let slot = (head & (self.params.cq_entries - 1)) as usize;
        let at = self.rings.at::<Cqe>(off.cqes as usize + stride * slot, 1);
        // SAFETY: in the map, because `at` checked; posted, since `tail` has passed it.
        let cqe = unsafe { at.read_volatile() };
        self.set_word(off.head, head.wrapping_add(1));
        Some(cqe)
    }

    /// Works for a while: some requests are in flight in the end, some completions untaken.
    fn work(&self, accounts: &mut Accounts, chance: &mut Chance) {
        for _ in 0..chance.below(40) {
            for _ in 0..chance.below(self.room().min(4) + 1) {
                self.publish(accounts.entry(chance));
            }
            self.submit();
            for _ in 0..chance.below(5) {
                self.pop().into_iter().for_each(|cqe| accounts.take(cqe));
            }
        }
    }

    /// Parameters that are not those of this ring, and what is said of them.
    fn wrong(&self, chance: &mut Chance) -> (Params, fn(&AdoptError) -> bool) {
        let params = self.params;
        let unknown = SetupFlags::from_bits_retain(1 << (24 + chance.below(8)));
        let has_array = !params.flags.contains(SetupFlags::NO_SQARRAY);
        let mut nowhere = params;
        nowhere.sq_off.array = 0;
        match chance.below(4) {
            0 if has_array => (nowhere, |why| matches!(why, AdoptError::Resized)),
            0 | 1 => {
                let params = Params { features: Features::empty(), ..params };
                (params, |why| matches!(why, AdoptError::Resized))
            }
            2 => {
                let params = Params { flags: params.flags | SetupFlags::NO_MMAP, ..params };
                (params, |why| matches!(why, AdoptError::MakersMemory))
            }
            _ => {
                let params = Params { flags: params.flags | unknown, ..params };
                (params, |why| matches!(why, AdoptError::Unknown(_)))
            }
        }
    }

    /// What must be refused is refused, and changes nothing.
    fn refusals(&self, accounts: &mut Accounts, chance: &mut Chance) {
        let fd = || self.fd.try_clone().expect("a duplicate");
        let (params, is_right) = self.wrong(chance);
        // SAFETY: nothing is used, because it is refused before.
        let why = unsafe { RawRing::adopt(fd(), params) }.expect_err("these are wrong");
        assert!(is_right(&why), "{why}");
        let file = File::open("/dev/null").expect("/dev/null").into();
        // SAFETY: nothing can be mapped, so nothing is used.
        let why = unsafe { RawRing::adopt(file, self.params) }.expect_err("no ring");
        assert!(matches!(why, AdoptError::Map(_)), "{why}");
        let odd = Params { sq_entries: self.params.sq_entries * 2 + 1, ..self.params };
        // SAFETY: nothing is used, since it panics before: that is no power of two.
        let adopts = || unsafe { RawRing::adopt(fd(), odd) }.is_ok();
        survives(|| {
            let why = complaint(adopts);
            // The counts of both queues are looked at in one place.
            assert!(why.contains("SQ2") || why.contains("CQ2"), "{why}");
        });
        if self.room() > 0 {
            self.publish(accounts.entry(chance));
            // SAFETY: nothing is used, because it is refused before.
            let why = unsafe { RawRing::adopt(fd(), self.params) }.expect_err("it is published");
            assert!(matches!(why, AdoptError::Busy), "{why}");
            self.submit();
        }
    }

    /// Gives the ring to this crate.
    fn give_up(self) -> RawRing {
        let Self { fd, params, rings, sqes, .. } = self;
        drop((rings, sqes));
        // SAFETY: nobody else uses the queues any more; what is in flight points to memory that
        // lives forever (OP1).
        unsafe { RawRing::adopt(fd, params) }.expect("it is a ring")
    }
}

/// The bytes of a completion and of an entry.
fn strides(flags: SetupFlags) -> [usize; 2] {
    let wide = |flag| usize::from(flags.contains(flag));
    [16 << wide(SetupFlags::CQE32), 64 << wide(SetupFlags::SQE128)]
}

/// A ring of random size and flags: for any thread, or also for this one alone.
fn other(away: bool, chance: &mut Chance) -> Other {
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let flags = [
        SetupFlags::empty(),
        SetupFlags::COOP_TASKRUN,
        SetupFlags::SQE128,
        SetupFlags::CQE32,
        SetupFlags::NO_SQARRAY,
        SetupFlags::NO_SQARRAY | SetupFlags::CQE32,
        SetupFlags::SINGLE_ISSUER,
        deferring,
        deferring | SetupFlags::TASKRUN_FLAG | SetupFlags::NO_SQARRAY,
    ];
    for _ in 0..500 {
        let (entries, flags) = (chance.below(33) + 1, chance.among(&flags));
        if away && flags.contains(SetupFlags::SINGLE_ISSUER) {
            continue;
        }
        if let Some(other) = Other::new(entries, flags, chance) {
            return other;
        }
    }
    panic!("a plain ring can be made here");
}

fn adoption(seed: u64) {
    let mut chance = Chance::new(seed);
    // By a thread that ends, or by this one.
    let away = chance.one_in(2);
    let make = move || {
        let mut accounts = Accounts::new(World::Linux);
        let other = other(away, &mut chance);
        accounts.counted = false;
        other.work(&mut accounts, &mut chance);
        if chance.one_in(2) {
            other.refusals(&mut accounts, &mut chance);
        }
        (other, accounts, chance)
    };
    let (other, mut accounts, mut chance) =
        if away { spawn(make).join().expect("no panic") } else { make() };
    let mut ring = other.give_up();
    accounts.agrees(&mut ring);
    for _ in 0..chance.below(30) {
        accounts.step(&mut ring, &mut chance);
    }
    match ring.into_send() {
        Ok(ring) => Traveller::new(ring, accounts, chance).travel(),
        Err(bound) => {
            let mut ring = bound.ring;
            accounts.settle(&mut ring);
            let seen = accounts.seen(&ring);
            drop(ring);
            accounts.close(seen);
        }
    }
}

#[test]
fn op2_sq2_cq2_a_ring_that_is_adopted_loses_nothing() {
    if !World::has_rings() {
        return;
    }
    for seed in super::seeds(400) {
        // On a thread of its own, which has made the ring and ends.
        spawn(move || adoption(seed)).join().unwrap_or_else(|_| panic!("seed {seed}"));
    }
}
