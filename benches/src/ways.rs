//! The ways to use a ring: the same loop over this crate's APIs and over other libraries.
//!
//! ```text
//!   repeat ROUNDS times:  push BATCH NOPs,  submit and wait for BATCH,  take BATCH
//! ```
//!
//! Each returns the sum of the `user_data` of all completions, which is checked: a loop that lost
//! its completions would be fast and wrong. `floor` is a ring without checks, `baseline` the loop
//! alone.

use std::task::Waker;
use std::time::Duration;

use annulus::op::Nop;
use annulus::sys::abi::Sqe;
use annulus::sys::opcode::Opcode;
use annulus::{Event, EventLoop, Lane, Ring, Setup};

/// How a ring is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One thread, and completions are posted when it enters (`DEFER_TASKRUN`).
    Deferred,
    /// No flags.
    Plain,
    /// The kernel polls for entries (`SQPOLL`).
    Sqpoll,
}

/// A loop: how it is set up, its batch, and how many rounds it goes.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    pub mode: Mode,
    pub batch: u32,
    pub rounds: u64,
}

impl Rounds {
    /// The sum that the loop returns if nothing was lost or repeated.
    pub fn sum(self) -> u64 {
        let batch = u64::from(self.batch);
        batch * (batch - 1) / 2 * self.rounds
    }

    /// Room for a batch; never less than 128, so that small batches run in an ordinary ring.
    pub fn entries(self) -> u32 {
        self.batch.next_power_of_two().max(128)
    }

    fn setup(self) -> Setup<'static> {
        match self.mode {
            Mode::Deferred => Setup::new(self.entries()),
            Mode::Plain => Setup::plain(self.entries()),
            Mode::Sqpoll => Setup::plain(self.entries()).sqpoll(Duration::from_secs(1)),
        }
    }
}

/// A way to use a ring: its name, and its loop.
pub type Way = (&'static str, fn(Rounds) -> u64);

/// Every way, ours first.
pub const WAYS: &[Way] = &[
    ("annulus", annulus_drain),
    ("annulus-turn", annulus_turn),
    ("annulus-pusher", annulus_pusher),
    ("annulus-for", annulus_for),
    ("annulus-pop", annulus_pop),
    ("annulus-safe", annulus_safe::<()>),
    ("annulus-safe-waker", annulus_safe::<Option<Waker>>),
    ("annulus-outputs", annulus_outputs::<()>),
    ("annulus-outputs-waker", annulus_outputs::<Option<Waker>>),
    ("annulus-lane", annulus_lane),
    ("annulus-lane-waker", annulus_lane_waker),
    ("annulus-loop", annulus_loop),
    ("annulus-compat", annulus_compat),
    ("io-uring", io_uring),
    #[cfg(feature = "peers")]
    ("compio-driver", crate::peers::compio),
    #[cfg(feature = "peers")]
    ("tokio-uring", crate::peers::tokio_uring),
    ("floor", crate::floor::run),
    ("baseline", baseline),
];

/// A NOP.
pub fn nop(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::NOP, fd: -1, user_data, ..Sqe::ZERO }
}

fn annulus_drain(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut ring = loops.setup().build_raw().expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop(u64::from(word))) }.expect("room");
        }
        ring.submit_and_wait(batch).expect("submit");
        ring.drain(|cqe| sum += cqe.user_data).expect("drain");
    }
    sum
}

fn annulus_turn(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut ring = loops.setup().build_raw().expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop(u64::from(word))) }.expect("room");
        }
        ring.turn(batch, |cqe| sum += cqe.user_data).expect("a turn");
    }
    sum
}

fn annulus_pusher(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut ring = loops.setup().build_raw().expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        let mut pusher = ring.pusher();
        for word in 0..batch {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { pusher.push(nop(u64::from(word))) }.expect("room");
        }
        drop(pusher);
        ring.turn(batch, |cqe| sum += cqe.user_data).expect("a turn");
    }
    sum
}

fn annulus_for(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut ring = loops.setup().build_raw().expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop(u64::from(word))) }.expect("room");
        }
        ring.submit_and_wait(batch).expect("submit");
        for cqe in ring.completions() {
            sum += cqe.user_data;
        }
    }
    sum
}

fn annulus_pop(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut ring = loops.setup().build_raw().expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop(u64::from(word))) }.expect("room");
        }
        ring.submit_and_wait(batch).expect("submit");
        while let Some(cqe) = ring.pop() {
            sum += cqe.user_data;
        }
    }
    sum
}

/// The safe API: each operation in its slot, each ticket redeemed.
fn annulus_safe<U: Word>(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut ring: Ring<U> = loops.setup().build_for().expect("a ring");
    let mut tickets = Vec::with_capacity(batch as usize);
    let mut sum = 0;
    for _ in 0..rounds {
        tickets.extend((0..batch).map(|word| {
            sum += std::hint::black_box(u64::from(word));
            ring.submit_for(Nop, U::word()).expect("room")
        }));
        ring.turn(batch, |event| {
            if let Event::Ended { user, .. } = event {
                user.wake();
            }
        })
        .expect("a turn");
        for ticket in tickets.drain(..) {
            ring.try_take(ticket).expect("it has completed").expect("a NOP succeeds");
        }
    }
    sum
}

/// The safe API without tickets: each output is taken by its type.
fn annulus_outputs<U: Word>(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut ring: Ring<U> = loops.setup().build_for().expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            sum += std::hint::black_box(u64::from(word));
            ring.submit_unticketed(Nop, U::word()).expect("room");
        }
        let mut ended = 0;
        ring.turn_outputs::<Nop>(batch, |mut user, output| {
            user.wake();
            ended += 1 + output.expect("a NOP succeeds");
        })
        .expect("a turn");
        assert_eq!(ended, batch);
    }
    sum
}

/// A lane: a ring for operations of one type, whose outputs come in one call. The user value is the
/// number that the raw loops put into `user_data`.
fn annulus_lane(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut lane: Lane<Nop, u64> = loops.setup().build_lane().expect("a lane");
    let mut sum = 0;
    for _ in 0..rounds {
        lane.submit_each((0..u64::from(batch)).map(|word| (Nop, word))).expect("room");
        let take = |word, output: std::io::Result<u32>| {
            sum += word + u64::from(output.expect("a NOP succeeds"));
        };
        lane.turn(batch, take).expect("a turn");
    }
    sum
}

/// The same, one by one, with a waker as the user value.
fn annulus_lane_waker(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut lane: Lane<Nop, Option<Waker>> = loops.setup().build_lane().expect("a lane");
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            sum += std::hint::black_box(u64::from(word));
            lane.submit(Nop, Word::word()).expect("room");
        }
        let mut ended = 0;
        lane.turn(batch, |mut user, output| {
            user.wake();
            ended += 1 + output.expect("a NOP succeeds");
        })
        .expect("a turn");
        assert_eq!(ended, batch);
    }
    sum
}

/// The event loop: each operation with its closure.
fn annulus_loop(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let ring = loops.setup().build_for().expect("a ring");
    let mut events = EventLoop::new(ring, 0_u64);
    for _ in 0..rounds {
        for word in 0..batch {
            let mut io = events.io();
            let submitted = io.submit(Nop, move |io, done| {
                *io.state += std::hint::black_box(u64::from(word));
                done.map(drop)
            });
            submitted.expect("room");
        }
        events.run(|_, error| panic!("{error}")).expect("submit");
    }
    events.state
}

/// The user value of an operation.
trait Word: Default {
    fn word() -> Self;
    fn wake(&mut self);
}

impl Word for () {
    fn word() -> Self {}
    fn wake(&mut self) {}
}

impl Word for Option<Waker> {
    fn word() -> Self {
        Some(Waker::noop().clone())
    }

    fn wake(&mut self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}

/// The loop of `io-uring`, with the one line that moves it here.
fn annulus_compat(loops: Rounds) -> u64 {
    use annulus::compat as io_uring;
    let Rounds { batch, rounds, .. } = loops;
    let mut builder = io_uring::IoUring::builder();
    match loops.mode {
        Mode::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun();
            builder.setup_taskrun_flag().setup_submit_all();
        }
        Mode::Plain => {}
        Mode::Sqpoll => {
            builder.setup_sqpoll(1000);
        }
    }
    let mut ring: io_uring::IoUring = builder.build(loops.entries()).expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        let mut sq = ring.submission();
        for word in 0..batch {
            let nop = io_uring::opcode::Nop::new().build().user_data(u64::from(word));
            // SAFETY: a NOP points to nothing.
            unsafe { sq.push(&nop) }.expect("room");
        }
        drop(sq);
        ring.submit_and_wait(batch as usize).expect("submit");
        for cqe in ring.completion() {
            sum += cqe.user_data();
        }
    }
    sum
}

fn io_uring(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut builder = io_uring::IoUring::builder();
    match loops.mode {
        Mode::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun();
            builder.setup_taskrun_flag().setup_submit_all();
        }
        Mode::Plain => {}
        Mode::Sqpoll => {
            builder.setup_sqpoll(1000);
        }
    }
    let mut ring: io_uring::IoUring = builder.build(loops.entries()).expect("a ring");
    let mut sum = 0;
    for _ in 0..rounds {
        let mut sq = ring.submission();
        for word in 0..batch {
            let nop = io_uring::opcode::Nop::new().build().user_data(u64::from(word));
            // SAFETY: a NOP points to nothing.
            unsafe { sq.push(&nop) }.expect("room");
        }
        drop(sq);
        ring.submit_and_wait(batch as usize).expect("submit");
        for cqe in ring.completion() {
            sum += cqe.user_data();
        }
    }
    sum
}

fn baseline(loops: Rounds) -> u64 {
    let Rounds { batch, rounds, .. } = loops;
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            sum += std::hint::black_box(u64::from(word));
        }
    }
    sum
}
