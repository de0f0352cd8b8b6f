//! User-space instructions per NOP: the same loop over this crate's APIs and over other libraries.
//!
//! ```text
//!   annulus-bench PEER BATCH COUNT        PEER: annulus | annulus-turn | annulus-pusher |
//!                                               annulus-pop | annulus-safe |
//!                                               annulus-safe-waker | annulus-loop | io-uring |
//!                                               baseline
//!
//!   repeat COUNT / BATCH times:  push BATCH NOPs,  submit and wait for BATCH,  take BATCH
//! ```
//!
//! `run` counts the instructions of each and takes the difference of two counts, so that start-up
//! does not matter. `baseline` is the loop alone. The `user_data` of all completions are added up,
//! and the sum is checked: a loop that lost its completions would be fast and wrong.

use std::process::ExitCode;
use std::task::Waker;

use annulus::op::Nop;
use annulus::sys::abi::Sqe;
use annulus::sys::opcode::Opcode;
use annulus::{Event, EventLoop, Ring, Setup};

/// Ring size: the largest batch.
const ENTRIES: u32 = 128;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peer, batch, count] = &arguments[..] else { return usage() };
    let (Ok(batch), Ok(count)) = (batch.parse::<u32>(), count.parse::<u64>()) else {
        return usage();
    };
    if !(1..=ENTRIES).contains(&batch) {
        return usage();
    }
    let rounds = count / u64::from(batch);
    let sum = match peer.as_str() {
        "annulus" => annulus_drain(batch, rounds),
        "annulus-turn" => annulus_turn(batch, rounds),
        "annulus-pusher" => annulus_pusher(batch, rounds),
        "annulus-pop" => annulus_pop(batch, rounds),
        "io-uring" => io_uring(batch, rounds),
        "annulus-safe" => annulus_safe::<()>(batch, rounds),
        "annulus-safe-waker" => annulus_safe::<Option<Waker>>(batch, rounds),
        "annulus-loop" => annulus_loop(batch, rounds),
        "baseline" => baseline(batch, rounds),
        _ => return usage(),
    };
    let per_round = u64::from(batch) * (u64::from(batch) - 1) / 2;
    assert_eq!(sum, per_round * rounds, "completions were lost or repeated");
    println!("{peer}: {rounds} rounds of {batch}");
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: annulus-bench PEER BATCH(1..=128) COUNT");
    eprintln!("PEER: annulus, annulus-turn, annulus-pusher, annulus-pop, annulus-safe,");
    eprintln!("      annulus-safe-waker, annulus-loop, io-uring or baseline");
    ExitCode::from(2)
}

fn setup() -> annulus::RawRing {
    Setup::new(ENTRIES).build_raw().expect("a ring")
}

fn nop(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::NOP, fd: -1, user_data, ..Sqe::ZERO }
}

fn annulus_drain(batch: u32, rounds: u64) -> u64 {
    let mut ring = setup();
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

fn annulus_turn(batch: u32, rounds: u64) -> u64 {
    let mut ring = setup();
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

fn annulus_pusher(batch: u32, rounds: u64) -> u64 {
    let mut ring = setup();
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

fn annulus_pop(batch: u32, rounds: u64) -> u64 {
    let mut ring = setup();
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
fn annulus_safe<U: Word>(batch: u32, rounds: u64) -> u64 {
    let mut ring: Ring<U> = Setup::new(ENTRIES).build_for().expect("a ring");
    let mut tickets = Vec::with_capacity(batch as usize);
    let mut sum = 0;
    for _ in 0..rounds {
        tickets.extend((0..batch).map(|word| {
            sum += std::hint::black_box(u64::from(word));
            ring.submit_for(Nop, U::word()).expect("room")
        }));
        ring.submit_and_wait(batch).expect("submit");
        ring.reap(|event| {
            if let Event::Ended { user, .. } = event {
                user.wake();
            }
        })
        .expect("reap");
        for ticket in tickets.drain(..) {
            ring.try_take(ticket).expect("it has completed").expect("a NOP succeeds");
        }
    }
    sum
}

/// The event loop: each operation with its closure.
fn annulus_loop(batch: u32, rounds: u64) -> u64 {
    let ring = Setup::new(ENTRIES).build_for().expect("a ring");
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

fn io_uring(batch: u32, rounds: u64) -> u64 {
    let mut ring: io_uring::IoUring = io_uring::IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(ENTRIES)
        .expect("a ring");
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

fn baseline(batch: u32, rounds: u64) -> u64 {
    let mut sum = 0;
    for _ in 0..rounds {
        for word in 0..batch {
            sum += std::hint::black_box(u64::from(word));
        }
    }
    sum
}
