//! On the simulated kernel: tasks that read, write, take items and sleep, and that are dropped,
//! forgotten, or panic at any await. Whatever happens, the kernel has no complaint, every task
//! ends, and every buffer is dropped once.
#![allow(unsafe_code, reason = "a buffer of its own")]

use std::cell::Cell;
use std::future::Future as _;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::Setup;
use annulus::buf::{IoBuf, IoBufMut, Region, RegionMut};
use annulus::future::Reactor;
use annulus::lease::BufRing;
use annulus::op::{Nop, Read, Recv, RecvMulti, Send, Write};
use annulus::sim::{Faults, Sim};

use super::tasks::{End, Tasks};

/// How many programs: more in a campaign of one's own.
fn seeds() -> u64 {
    std::env::var("FUTURE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// Random numbers from a seed (SplitMix64).
#[derive(Clone)]
struct Luck(Rc<Cell<u64>>);

impl Luck {
    fn below(&self, most: u64) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

/// A buffer that counts those that are alive.
struct Counted {
    bytes: Vec<u8>,
    alive: Rc<Cell<i64>>,
}

impl Counted {
    fn new(alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self { bytes: vec![7; 8], alive: Rc::clone(alive) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

impl IoBuf for Counted {
    fn region(&self) -> Region<'_> {
        self.bytes.region()
    }
}

impl IoBufMut for Counted {
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.bytes.region_mut()
    }

    unsafe fn set_filled(&mut self, count: usize) {
        // SAFETY: as promised to `set_filled`.
        unsafe { self.bytes.set_filled(count) }
    }
}

/// What the tasks of a program share.
#[derive(Clone)]
struct Scene {
    reactor: Reactor,
    luck: Luck,
    alive: Rc<Cell<i64>>,
    pipe: [Rc<OwnedFd>; 2],
    sockets: [Rc<OwnedFd>; 2],
    buffers: BufRing,
}

impl Scene {
    fn buffer(&self) -> Counted {
        Counted::new(&self.alive)
    }

    /// One step of a task, which may await several times.
    async fn step(&self) {
        let Self { reactor, luck, pipe: [reader, writer], sockets: [ours, theirs], .. } = self;
        match luck.below(7) {
            0 => drop(reactor.run(Nop).await),
            1 => drop(reactor.run(Write::new(Rc::clone(writer), self.buffer())).await),
            2 => drop(reactor.run(Read::new(Rc::clone(reader), self.buffer())).await),
            3 => drop(reactor.run(Send::new(Rc::clone(theirs), self.buffer())).await),
            4 => {
                let span = Duration::from_millis(1 + luck.below(20));
                let recv = Recv::new(Rc::clone(ours), self.buffer());
                let _ = reactor.timeout(span, reactor.run(recv)).await;
            }
            5 => drop(reactor.sleep(Duration::from_micros(luck.below(5_000))).await),
            _ => self.stream().await,
        }
    }

    async fn stream(&self) {
        let Self { reactor, luck, sockets: [ours, _], buffers, .. } = self;
        let mut items = reactor.items(RecvMulti::new(Rc::clone(ours), buffers));
        for _ in 0..luck.below(4) {
            if reactor.timeout(Duration::from_millis(3), items.next()).await.flatten().is_none() {
                break;
            }
        }
        if luck.below(2) == 0 {
            items.cancel();
            while items.next().await.is_some() {}
            assert!(items.end().is_some());
        }
    }

    async fn task(self) {
        for _ in 0..1 + self.luck.below(5) {
            self.step().await;
            if self.luck.below(16) == 0 {
                std::panic::resume_unwind(Box::new("as told"));
            }
        }
    }
}

/// Runs the program of a seed. Returns how many tasks ended in each way.
fn program(seed: u64) -> [usize; 4] {
    let sim = Sim::with_faults(seed, Faults::SOME);
    let luck = Luck(Rc::new(Cell::new(seed)));
    let ring = Setup::new(4).kernel(sim.kernel()).build_for().expect("a ring");
    let reactor = Reactor::new(ring);
    let (pipe, sockets) = (sim.pipe().expect("a pipe"), sim.socket_pair().expect("sockets"));
    let buffers = reactor.with_ring(|ring| ring.buf_ring(4, 8)).expect("buffers");
    let alive = Rc::new(Cell::new(0));
    let scene = Scene {
        reactor: reactor.clone(),
        luck: luck.clone(),
        alive: Rc::clone(&alive),
        pipe: [Rc::new(pipe.0), Rc::new(pipe.1)],
        sockets: [Rc::new(sockets.0), Rc::new(sockets.1)],
        buffers,
    };
    let tasks = Tasks::new();
    for _ in 0..2 + luck.below(7) {
        tasks.spawn(scene.clone().task());
    }
    for _ in 0..60 {
        tasks.poll();
        if luck.below(8) == 0 {
            let alive = tasks.alive();
            let how = if luck.below(4) == 0 { End::Forgotten } else { End::Dropped };
            if !alive.is_empty() {
                tasks
                    .end(alive[usize::try_from(luck.below(alive.len() as u64)).expect("few")], how);
            }
        }
        // Something always comes, so that no wait lasts forever; unless there is no room for it,
        // since room is kept for tasks that were forgotten while they waited for it.
        let before = reactor.with_ring(|ring| ring.in_flight());
        let mut tick = Box::pin(reactor.sleep(Duration::from_millis(1)));
        let waker = std::task::Waker::noop();
        let _ = tick.as_mut().poll(&mut std::task::Context::from_waker(waker));
        let comes = reactor.with_ring(|ring| ring.in_flight()) > before;
        if !comes {
            let ends = tasks.ends.borrow();
            let forgotten = ends.iter().filter(|end| **end == Some(End::Forgotten)).count();
            let vacant = reactor.with_ring(|ring| ring.vacant()) as usize;
            // A task waits for two at most: an operation, and its time limit.
            assert!(vacant <= 2 * forgotten, "seed {seed}: {vacant} kept for {forgotten} tasks");
            sim.advance(Duration::from_millis(1));
        }
        if let Err(error) = reactor.turn(comes.into()) {
            panic!("seed {seed}: the ring goes on: {error}\n{}", sim.report());
        }
    }
    for number in tasks.alive() {
        tasks.end(number, End::Dropped);
    }
    let ends = tasks.ends.borrow().clone();
    let count = |how| ends.iter().filter(|end| **end == Some(how)).count();
    let counts = [End::Done, End::Panicked, End::Dropped, End::Forgotten].map(count);
    drop((tasks, scene, reactor));
    assert_eq!(alive.get(), 0, "seed {seed}: a buffer is left, or was dropped twice");
    sim.check();
    counts
}

#[test]
fn whatever_becomes_of_a_task_the_ring_goes_on() {
    let mut all = [0; 4];
    for seed in 0..seeds() {
        let counts = program(seed);
        for (all, count) in all.iter_mut().zip(counts) {
            *all += count;
        }
    }
    assert!(all.iter().all(|&count| count > 0), "{all:?}: done, panicked, dropped, forgotten");
}
