//! Rings that are sent from thread to thread at random moments.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use annulus::sys::flags::SetupFlags;
use annulus::sys::map::Pages;
use annulus::{RawRing, SendRawRing, Setup};

use super::accounts::Accounts;
use super::chance::Chance;
use super::world::World;

/// A ring on its way, with its books.
pub struct Traveller {
    pub ring: Option<SendRawRing>,
    pub accounts: Accounts,
    pub chance: Chance,
    visit: Visit,
    /// How many writes the kernel may have seen when the ring was dropped.
    seen: usize,
}

#[derive(Debug, Clone, Copy)]
enum Visit {
    /// Uses it behind `DerefMut`.
    Sent,
    /// Turns it back, perhaps registers it, and sends it on.
    Raw,
    /// Drops it, as it is.
    End,
}

/// A thread that gets rings and gives them back.
struct Stop {
    there: Sender<Traveller>,
    back: Receiver<Traveller>,
    thread: JoinHandle<()>,
}

impl Stop {
    fn new() -> Self {
        let (there, arrivals) = channel::<Traveller>();
        let (departures, back) = channel();
        let thread = spawn(move || {
            for traveller in arrivals {
                departures.send(traveller.visit()).expect("it is waited for");
            }
        });
        Self { there, back, thread }
    }

    fn host(&self, traveller: Traveller) -> Traveller {
        self.there.send(traveller).expect("the thread is there");
        self.back.recv().expect("the thread did not panic")
    }

    fn close(self) {
        drop(self.there);
        self.thread.join().expect("no panic");
    }
}

impl Traveller {
    pub fn new(ring: SendRawRing, accounts: Accounts, chance: Chance) -> Self {
        Self { ring: Some(ring), accounts, chance, visit: Visit::Sent, seen: 0 }
    }

    /// What happens on one thread.
    fn visit(mut self) -> Self {
        let steps = self.chance.below(12);
        match (self.visit, self.ring.take().expect("it has not ended")) {
            (Visit::Sent, mut ring) => {
                self.steps(&mut ring, steps);
                self.ring = Some(ring);
            }
            (Visit::Raw, ring) => {
                let mut ring = ring.into_raw();
                if self.chance.one_in(2) {
                    let _ = ring.register_ring_fd(); // Since Linux 5.18.
                }
                self.steps(&mut ring, steps);
                self.ring = Some(ring.into_send().expect("nothing binds it"));
            }
            (Visit::End, mut ring) => {
                self.accounts.agrees(&mut ring);
                self.seen = self.accounts.seen(&ring);
            }
        }
        self
    }

    fn steps(&mut self, ring: &mut RawRing, count: u32) {
        self.accounts.agrees(ring);
        for _ in 0..count {
            self.accounts.step(ring, &mut self.chance);
        }
    }

    /// A journey over some threads, of which some end on the way.
    pub fn travel(mut self) {
        let mut stops: Vec<Stop> = (0..3).map(|_| Stop::new()).collect();
        for _ in 0..self.chance.below(10) + 2 {
            let place = self.chance.place(stops.len()).expect("three");
            if self.chance.one_in(6) {
                std::mem::replace(&mut stops[place], Stop::new()).close();
            }
            self.visit = self.chance.among(&[Visit::Sent, Visit::Sent, Visit::Raw]);
            self = stops[place].host(self);
        }
        if self.chance.one_in(3) {
            self.visit = Visit::End;
            self = stops[0].host(self);
            return self.accounts.close(self.seen);
        }
        // Completions may wait for the threads that submitted (`COOP_TASKRUN`).
        stops.into_iter().for_each(Stop::close);
        let mut ring = self.ring.take().expect("it did not end");
        self.accounts.settle(&mut ring);
        let seen = self.accounts.seen(&ring);
        drop(ring);
        self.accounts.close(seen);
    }
}

/// A ring of random size and flags; a plain one where the kernel does not know them.
fn ring(world: &World, chance: &mut Chance) -> RawRing {
    let entries = chance.below(8) + 1;
    let plain = Setup::plain(entries);
    let cooperating = SetupFlags::COOP_TASKRUN;
    let setup = match chance.below(9) {
        0 => plain.clone().with(cooperating),
        1 => plain.clone().with(cooperating | SetupFlags::TASKRUN_FLAG),
        2 => plain.clone().with(SetupFlags::SQE128 | SetupFlags::CQE32),
        3 => plain.clone().with(SetupFlags::NO_SQARRAY),
        4 => plain.clone().own_memory(Pages::Ordinary),
        5 => plain.clone().sqpoll(Duration::from_millis(1)),
        6 => plain.clone().cq_entries(entries.next_power_of_two()),
        _ => plain.clone(),
    };
    world.ring(&setup).or_else(|| world.ring(&plain)).expect("a plain ring")
}

fn journey(world: World, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut ring = ring(&world, &mut chance);
    let mut accounts = Accounts::new(world);
    for _ in 0..chance.below(10) {
        accounts.step(&mut ring, &mut chance);
    }
    if chance.one_in(2) {
        let _ = ring.register_ring_fd(); // Since Linux 5.18.
    }
    let ring = ring.into_send().expect("no flag binds it to a thread");
    Traveller::new(ring, accounts, chance).travel();
}

/// A ring that stays, because a flag binds it, has all that was pushed.
fn refusal(world: World, seed: u64) {
    let mut chance = Chance::new(seed);
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let plain = Setup::plain(chance.below(8) + 1);
    let setup = match chance.below(3) {
        0 => plain.own_memory(Pages::Ordinary).with(SetupFlags::REGISTERED_FD_ONLY),
        1 => plain.with(SetupFlags::SINGLE_ISSUER),
        _ => plain.with(deferring),
    };
    let Some(mut ring) = world.ring(&setup) else {
        println!("seed {seed}: not refused, since this kernel has no ring of {setup:?}");
        return;
    };
    let mut accounts = Accounts::new(world);
    for _ in 0..4 {
        for _ in 0..chance.below(10) {
            accounts.step(&mut ring, &mut chance);
        }
        ring = ring.into_send().expect_err("a flag binds it").ring;
        accounts.agrees(&mut ring);
    }
    accounts.settle(&mut ring);
    let seen = accounts.seen(&ring);
    drop(ring);
    accounts.close(seen);
}

#[test]
fn op2_a_ring_that_is_sent_loses_nothing_on_linux() {
    if !World::has_rings() {
        return;
    }
    for seed in super::seeds(300) {
        journey(World::Linux, seed);
    }
}

#[test]
fn op2_a_ring_that_is_sent_loses_nothing_in_a_simulation() {
    for seed in super::seeds(1000) {
        let world = World::simulated(seed);
        journey(world.clone(), seed);
        let World::Simulated(sim) = world else { unreachable!("it is simulated") };
        sim.check();
    }
}

#[test]
fn op2_a_ring_that_is_not_sent_loses_nothing() {
    for seed in super::seeds(100) {
        if World::has_rings() {
            refusal(World::Linux, seed);
        }
        refusal(World::simulated(seed), seed);
    }
}
