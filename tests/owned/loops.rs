//! Random histories of an event loop, on a kernel that completes in any order, and lies.
//!
//! ```text
//!   closures   own a token; each knows its own number and bytes
//!      │       submit more, cancel any, panic
//!      ▼
//!   EventLoop   ──►   entries taken ─► completed in any order, often or once, for no reason
//! ```
//!
//! What must hold: a closure finds what it captured (OP2: it is called for its own operation, OP1:
//! nothing else wrote there), a closure of a single operation is called once at most, and in the
//! end nothing that was captured is left.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use annulus::op::{Nop, PollEvents, PollMulti, Read};
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::CqeFlags;
use annulus::sys::opcode::Opcode;
use annulus::{Arrival, EventLoop, Io, OpId, Setup};

use super::chance::Chance;
use super::runner::complaint;
use super::world::OnPurpose;
use crate::support::backend::{Enter, ScriptedKernel};
use crate::support::fake_kernel::FakeKernel;

/// How many operations a history submits at most.
const MOST: usize = 120;

/// What the closures share.
struct World {
    chance: Chance,
    /// How often the closure of each operation was called for the last time.
    ended: Vec<u32>,
    ids: Vec<OpId>,
    token: Rc<()>,
}

/// What a closure owns: as many bytes as its type says, all of them its number.
struct Captured<const N: usize> {
    bytes: [u8; N],
    number: usize,
    _token: Rc<()>,
}

impl<const N: usize> Captured<N> {
    fn new(world: &mut World) -> Self {
        let number = world.ended.len();
        world.ended.push(0);
        Self { bytes: [number.to_le_bytes()[0]; N], number, _token: Rc::clone(&world.token) }
    }

    fn is_whole(&self) {
        let own = self.number.to_le_bytes()[0];
        assert!(self.bytes.iter().all(|&byte| byte == own), "OP1: {:?}", self.bytes);
    }

    fn ends(&self, world: &mut World) {
        self.is_whole();
        world.ended[self.number] += 1;
        assert_eq!(world.ended[self.number], 1, "OP2: the closure is called again after the end");
    }
}

/// Submits something; closures do so too.
fn submit(io: &mut Io<'_, World>) {
    if io.is_stopping() || io.state.ended.len() >= MOST {
        return;
    }
    let id = match io.state.chance.below(4) {
        0 => {
            let captured = Captured::<1>::new(io.state);
            io.submit(Nop, move |io, _| acts(io, |world| captured.ends(world))).ok()
        }
        1 => {
            let captured = Captured::<100>::new(io.state);
            io.submit(Nop, move |io, _| acts(io, |world| captured.ends(world))).ok()
        }
        2 => {
            let captured = Captured::<40>::new(io.state);
            let (len, number) = (io.state.chance.below(40) as usize + 1, captured.number);
            let read = Read::new(null(), Vec::with_capacity(len));
            let then = move |io: &mut Io<'_, World>,
                             read: annulus::op::Outcome<usize, _, Vec<u8>>| {
                let _: std::fs::File = read.fd;
                assert!(read.buf.capacity() >= len && read.buf.len() <= len, "{number}");
                acts(io, |world| captured.ends(world))
            };
            io.submit(read, then).ok()
        }
        _ => {
            let captured = Captured::<60>::new(io.state);
            let mut items = vec![captured.number];
            let poll = PollMulti::new(null(), PollEvents::IN);
            let each = move |io: &mut Io<'_, World>, arrival: Arrival<PollMulti<std::fs::File>>| {
                assert!(items.iter().all(|&item| item == captured.number), "OP1: {items:?}");
                items.push(captured.number);
                acts(io, |world| match arrival {
                    Arrival::Item(_) => captured.is_whole(),
                    Arrival::End(_) => captured.ends(world),
                })
            };
            io.submit_multishot(poll, each).ok()
        }
    };
    io.state.ids.extend(id);
}

/// What a closure does beside looking at what it captured.
fn acts(io: &mut Io<'_, World>, look: impl FnOnce(&mut World)) -> std::io::Result<()> {
    look(io.state);
    (0..io.state.chance.below(3)).for_each(|_| submit(io));
    cancel_any(io);
    match io.state.chance.below(12) {
        0 => panic_any(OnPurpose),
        1 => Err(std::io::Error::other("on purpose")),
        _ => Ok(()),
    }
}

fn cancel_any(io: &mut Io<'_, World>) {
    if io.state.chance.one_in(3)
        && let Some(at) = io.state.chance.place(io.state.ids.len())
    {
        let _ = io.cancel(io.state.ids[at]);
    }
}

fn null() -> std::fs::File {
    std::fs::File::open("/dev/null").expect("there is one")
}

/// The kernel's side.
struct Theirs {
    chance: Chance,
    flying: Vec<Sqe>,
}

impl Theirs {
    fn enter(&mut self, kernel: &mut FakeKernel, to_submit: u32) -> u32 {
        if to_submit == 0 {
            // A loop that is being stopped cancels again after a while, and not after some enters.
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        let mut taken = 0;
        while taken < to_submit
            && let Some(sqe) = kernel.consume()
        {
            taken += 1;
            self.flying.push(sqe);
        }
        if self.chance.one_in(4) {
            self.lie(kernel);
        }
        let many = self.chance.below(4) + 1;
        (0..many).for_each(|_| self.complete_any(kernel));
        taken
    }

    fn complete_any(&mut self, kernel: &mut FakeKernel) {
        let Some(at) = self.chance.place(self.flying.len()) else { return };
        let sqe = self.flying[at];
        let res = self.chance.among(&[0, 1, 7, i32::MAX, -libc::EIO, -libc::ECANCELED]);
        let goes_on = sqe.opcode == Opcode::POLL_ADD && self.chance.below(3) > 0;
        let flags = if goes_on { CqeFlags::MORE } else { CqeFlags::empty() };
        if kernel.post(Cqe { user_data: sqe.user_data, res, flags }) && !goes_on {
            self.flying.swap_remove(at);
        }
        // A cancel takes effect, or does not.
        let target = self.flying.iter().position(|of| of.user_data == sqe.addr);
        if sqe.opcode == Opcode::ASYNC_CANCEL
            && let Some(at) = target
            && self.chance.one_in(2)
        {
            let (user_data, res) = (sqe.addr, -libc::ECANCELED);
            if kernel.post(Cqe { user_data, res, flags: CqeFlags::empty() }) {
                self.flying.swap_remove(at);
            }
        }
    }

    /// A completion that no kernel would post: of an earlier or later operation, or one that says
    /// that it goes on although it cannot.
    fn lie(&mut self, kernel: &mut FakeKernel) {
        let Some(at) = self.chance.place(self.flying.len()) else { return };
        let of = self.flying[at].user_data;
        let (user_data, flags) = self.chance.among(&[
            (of, CqeFlags::MORE),
            (of.wrapping_add(1 << 32), CqeFlags::empty()),
            (of.wrapping_sub(1 << 32), CqeFlags::MORE),
            (of ^ 0x7fff, CqeFlags::empty()),
        ]);
        kernel.post(Cqe { user_data, res: 1, flags });
    }
}

/// How a history ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It runs until nothing is left to do.
    Runs,
    Stops,
    Dropped,
}

fn history(seed: u64) {
    let mut chance = Chance::new(seed);
    let (kernel, script) = ScriptedKernel::new();
    let theirs = Theirs { chance: Chance::new(!seed), flying: Vec::new() };
    let theirs = Arc::new(Mutex::new(theirs));
    for _ in 0..4000 {
        let theirs = Arc::clone(&theirs);
        script.enters(Enter::Run(Box::new(move |kernel, to_submit| {
            Ok(theirs.lock().expect("no panic").enter(kernel, to_submit))
        })));
    }
    let ring = Setup::plain(2).cq_entries(8).kernel(kernel).build_for().expect("a ring");
    let token = Rc::new(());
    let world = World {
        chance: Chance::new(seed ^ 7),
        ended: Vec::new(),
        ids: Vec::new(),
        token: Rc::clone(&token),
    };
    let mut events = EventLoop::new(ring, world);
    for _ in 0..chance.below(30) {
        submit(&mut events.io());
        cancel_any(&mut events.io());
        if chance.one_in(4) {
            let turn = || events.turn(&annulus::WaitOptions::FOREVER, |_, _| {});
            on_purpose_only(turn);
        }
    }
    let end = chance.among(&[End::Runs, End::Stops, End::Dropped]);
    if end == End::Stops {
        events.io().stop();
    }
    while end != End::Dropped && on_purpose_only(|| events.run(|_, _| {})).is_none() {}
    if end == End::Runs {
        let ended = &events.state.ended;
        assert!(ended.iter().all(|&count| count == 1), "{ended:?}");
        assert_eq!(events.io().unfinished(), 0);
    }
    drop(events);
    assert_eq!(Rc::strong_count(&token), 1, "OP1: {end:?}: what was captured is left");
}

/// The value of `call`; `None` if it panicked on purpose.
fn on_purpose_only<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<OnPurpose>() => None,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[test]
fn op1_op2_hold_for_the_closures_of_an_event_loop() {
    let only = std::env::var("ANNULUS_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..400, |seed| seed..seed + 1) {
        let why = complaint(|| history(seed));
        assert!(why.is_empty(), "ANNULUS_SEED={seed}: {why}");
    }
}
