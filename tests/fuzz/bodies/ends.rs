//! How operations end on `annulus::sim`: cancelled, drained, in scopes, with their ring; and what
//! the kernel is told while they do.
//!
//! ```text
//!   reads of silent pipes, some by workers ─┐        ┌─ cancel, cancel at once, detach, forget
//!   timers that repeat at once ─────────────┤  ring  ├─ scopes, which end when they are told
//!   drained operations, zero-copy sends ────┘        └─ the ring ends, and nothing is left
//! ```
//!
//! Asserts that whatever is told to end does so, that a cancel is never refused, that what was
//! lent is not written to afterwards, and that each descriptor which was to be closed is.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::time::Duration;

use annulus::buf::{IoBufMut, RegionMut};
use annulus::op::{self, Op, Read, TimeoutMulti};
use annulus::raw::register::EndedNow;
use annulus::sim::{Faults, Release, Sim};
use annulus::sys::flags::SetupFlags;
use annulus::{EnterCause, EnterError, Rejection, Ring, Setup, Ticket};

use super::chance::Chance;

mod counted;
mod raw;
mod turns;

/// The most steps of a program.
const STEPS: u32 = 120;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// What a panic on purpose throws.
#[derive(Debug)]
struct OnPurpose;

/// A buffer that panics when it is asked where it is, having told so many times.
#[derive(Debug)]
struct Panics(u32, [u8; 8]);

impl IoBufMut for Panics {
    fn region_mut(&mut self) -> RegionMut<'_> {
        let Some(left) = self.0.checked_sub(1) else { panic_any(OnPurpose) };
        self.0 = left;
        self.1.region_mut()
    }

    unsafe fn set_filled(&mut self, _: usize) {}
}

type Fd = Rc<OwnedFd>;

/// An operation in flight.
enum Flight {
    Read(Ticket<Read<Fd, [u8; 8]>>),
    Forced(Ticket<op::Forced<Read<Fd, [u8; 8]>>>),
    Nop(Ticket<op::Drained<op::Nop>>),
    Timer(Ticket<TimeoutMulti>),
    Send(Ticket<op::SendZc<Fd, [u8; 8]>>),
}

/// Calls something for the ticket that a flight has.
macro_rules! for_each_kind {
    ($flight:expr, $ticket:ident => $act:expr) => {
        match $flight {
            Flight::Read($ticket) => $act,
            Flight::Forced($ticket) => $act,
            Flight::Nop($ticket) => $act,
            Flight::Timer($ticket) => $act,
            Flight::Send($ticket) => $act,
        }
    };
}

struct Program {
    sim: Sim,
    chance: Chance,
    ring: Ring,
    flights: Vec<Flight>,
    /// What is read from, and where the outside writes.
    pipes: [(Fd, OwnedFd); 2],
    /// What is sent to, and where the outside reads.
    socket: (Fd, OwnedFd),
    /// Whether it drains. No cancel gets past a drained operation, so nothing in front of it may
    /// be endless.
    drains: bool,
    /// Whether no cancel finds a timer.
    is_deaf: bool,
}

/// One program.
pub fn run(data: &[u8]) {
    super::hush(|panic| panic.is::<OnPurpose>());
    let mut chance = Chance::of(data);
    if chance.one_in(8) {
        return raw::run(&mut chance);
    }
    let mut program = Program::new(chance);
    for step in 0..STEPS {
        if program.chance.is_used_up() {
            break;
        }
        program.step(step);
        program.sim.check();
    }
    program.end();
}

impl Program {
    fn new(mut chance: Chance) -> Self {
        let none = Faults { lingers: 300, ..Faults::NONE };
        let deaf = Faults { no_cancel: 1000, ..none };
        let some = Faults { again: 0, ..Faults::SOME };
        let faults = chance.among(&[none, deaf, some, Faults { no_cancel: 1000, ..some }]);
        let release = chance.among(&[Release::NEWEST, Release::V6_1, Release::V6_12]);
        let sim = Sim::with_faults(chance.half().into(), faults).like(release);
        let flags = [
            SetupFlags::empty(),
            SetupFlags::COOP_TASKRUN,
            SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN,
            SetupFlags::SQPOLL,
        ];
        let setup = Setup::plain(chance.among(&[2, 4])).with(chance.among(&flags));
        let setup = setup.cq_entries(chance.among(&[8, 32])).kernel(sim.kernel());
        let ring = setup.build().expect("a ring");
        let pipe = || {
            let (reader, writer) = sim.pipe().expect("descriptors");
            (Rc::new(reader), writer)
        };
        let pipes = [pipe(), pipe()];
        let (ours, theirs) = sim.socket_pair().expect("descriptors");
        let socket = (Rc::new(ours), theirs);
        let drains = chance.one_in(2);
        let is_deaf = faults.no_cancel == 1000;
        Self { sim, chance, ring, flights: Vec::new(), pipes, socket, drains, is_deaf }
    }

    fn step(&mut self, step: u32) {
        let which = self.chance.below(16);
        if super::tells() {
            println!("{step:3}: {which}, {} in flight", self.ring.in_flight());
        }
        match which {
            0 | 1 => self.read(),
            2 if self.drains => self.drain(),
            2 | 3 => self.time(),
            4 => self.send(),
            5 | 6 => self.scope(),
            7 | 8 => self.cancel(),
            9 => self.cancel_now(),
            10 => self.take(),
            11 => self.write_from_outside(),
            12 => self.chain(),
            13 => self.leave(),
            14 => drop(self.ring.submit_all()),
            _ => drop(self.ring.submit_and_wait_timeout(1, Duration::from_millis(1))),
        }
    }

    fn place(&mut self) -> Option<usize> {
        self.chance.place(self.flights.len())
    }

    fn read(&mut self) {
        let fd = Rc::clone(&self.pipes[self.chance.below(2) as usize].0);
        let read = Read::new(fd, [0; 8]);
        let flight = match self.chance.one_in(3) {
            true => self.ring.submit(read.forced()).ok().map(Flight::Forced),
            false => self.ring.submit(read).ok().map(Flight::Read),
        };
        self.flights.extend(flight);
    }

    fn drain(&mut self) {
        self.flights.extend(self.ring.submit(op::Nop.drained()).ok().map(Flight::Nop));
    }

    fn time(&mut self) {
        if self.drains {
            return;
        }
        let timer = TimeoutMulti::new(Duration::from_micros(self.interval()));
        self.flights.extend(self.ring.submit(timer).ok().map(Flight::Timer));
    }

    /// How many microseconds a timer takes. On Linux no cancel finds those that fire at once.
    fn interval(&mut self) -> u64 {
        let all = [1, 2, 50_000];
        self.chance.among(if self.is_deaf { &all[..2] } else { &all })
    }

    fn send(&mut self) {
        let is_idle = self.ring.in_flight() == 0;
        match self.ring.submit(op::SendZc::new(Rc::clone(&self.socket.0), [7; 8])) {
            Ok(ticket) => self.flights.push(Flight::Send(ticket)),
            Err(rejected) => {
                let is_late = is_idle && matches!(rejected.why, Rejection::Drained);
                assert!(!is_late, "what was drained has ended, and stops a send");
            }
        }
    }

    /// What a scope lends is its own again, and is not written to any more.
    fn scope(&mut self) {
        let mut lent = [[0_u8; 8]; 2];
        let fds = self.pipes.each_ref().map(|(fd, _)| Rc::clone(fd));
        let (panics, timer) = (self.chance.one_in(4), self.chance.one_in(3));
        let span = Duration::from_micros(self.interval());
        let Self { ring, chance, drains, .. } = self;
        let slots = ring.vacant() + ring.in_flight();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            ring.scope(|s| {
                for (buf, fd) in lent.iter_mut().zip(&fds) {
                    if chance.one_in(4) {
                        continue;
                    }
                    if let Ok(ticket) = s.submit(Read::new(fd, &mut buf[..]))
                        && chance.one_in(3)
                    {
                        let _ = s.cancel(&ticket);
                    }
                }
                if timer && !*drains {
                    let _ = s.submit(TimeoutMulti::new(span));
                }
                if chance.one_in(2) {
                    let _ = s.submit_all();
                }
                if panics {
                    panic_any(OnPurpose);
                }
            });
        }));
        assert!(outcome.is_ok() || panics, "only on purpose");
        assert!(self.ring.vacant() + self.ring.in_flight() <= slots, "slots are made of nothing");
        lent = [[0xaa; 8]; 2];
        self.sim.advance(Duration::from_millis(10));
        assert_eq!(lent, [[0xaa; 8]; 2], "OP1: written to after the scope");
    }

    fn cancel(&mut self) {
        let Some(at) = self.place() else { return };
        let is_over = |error: &EnterError| {
            matches!(error.cause, EnterCause::Interrupted | EnterCause::CompletionsPending)
        };
        let cancelled = for_each_kind!(&self.flights[at], ticket => self.ring.cancel(ticket));
        assert!(cancelled.as_ref().err().is_none_or(is_over), "a cancel: {cancelled:?}");
    }

    fn cancel_now(&mut self) {
        let Some(at) = self.place() else { return };
        let time = Duration::from_millis(self.chance.below(3).into());
        let flight = self.flights.swap_remove(at);
        let now = for_each_kind!(&flight, ticket => self.ring.cancel_now(ticket, time));
        let polls = self.ring.flags().contains(SetupFlags::SQPOLL);
        let is_over = self.take_one(flight);
        if polls && matches!(now, Ok(EndedNow::NotFound)) {
            assert!(is_over, "it is in flight, and was not found");
        }
    }

    fn take(&mut self) {
        let Some(at) = self.place() else { return };
        let flight = self.flights.swap_remove(at);
        self.take_one(flight);
    }

    /// Takes the output, if there is one.
    fn take_one(&mut self, flight: Flight) -> bool {
        let left = match flight {
            Flight::Read(ticket) => self.ring.try_take(ticket).err().map(Flight::Read),
            Flight::Forced(ticket) => self.ring.try_take(ticket).err().map(Flight::Forced),
            Flight::Nop(ticket) => self.ring.try_take(ticket).err().map(Flight::Nop),
            Flight::Timer(ticket) => self.ring.try_take(ticket).err().map(Flight::Timer),
            Flight::Send(ticket) => self.ring.try_take(ticket).err().map(Flight::Send),
        };
        let is_over = left.is_none();
        self.flights.extend(left);
        is_over
    }

    fn write_from_outside(&mut self) {
        let at = self.chance.below(2) as usize;
        let _ = self.sim.write(&self.pipes[at].1, b"something");
        let _ = self.sim.read(&self.socket.1, 100);
    }

    /// A chain that is taken back closes what it was to close.
    fn chain(&mut self) {
        let (ours, theirs) = self.sim.pipe().expect("descriptors");
        let number = ours.as_raw_fd();
        let in_flight = self.ring.in_flight();
        let bad = Read::new(theirs, Panics(self.chance.below(4), [0; 8]));
        // Closing a device may fail after the number was freed: it depends on the driver.
        let (closed, number) = match self.chance.one_in(2) {
            true => (ours, number),
            false => {
                let device = OwnedFd::from(File::open("/dev/null").expect("there is one"));
                let number = device.as_raw_fd();
                (device, number)
            }
        };
        let chain = (op::Nop, op::Close::new(closed), bad);
        let ring = &mut self.ring;
        let taken_back = catch_unwind(AssertUnwindSafe(|| drop(ring.submit_chain(chain))));
        if taken_back.is_ok() {
            return; // It was submitted, or refused.
        }
        assert_eq!(self.ring.in_flight(), in_flight, "it never was");
        let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
        assert!(link.is_err(), "OP3: a close that was taken back leaves {number} open");
    }

    fn leave(&mut self) {
        let Some(at) = self.place() else { return };
        let flight = self.flights.swap_remove(at);
        for_each_kind!(flight, ticket => self.ring.detach(ticket));
    }

    /// The ring ends, and everything with it.
    fn end(mut self) {
        for _ in 0..100 {
            if !self.drains || self.ring.in_flight() == 0 {
                break;
            }
            for (_, writer) in &self.pipes {
                let _ = self.sim.write(writer, b"the end!");
            }
            let _ = self.ring.submit_and_wait_timeout(1, Duration::from_millis(1));
            let _ = self.ring.reap(|_| {});
        }
        // A send ends when the other side has its bytes.
        let _ = self.sim.read(&self.socket.1, usize::MAX);
        let Self { sim, ring, flights, socket, .. } = self;
        drop((flights, socket));
        if super::tells() {
            sim.trace().iter().for_each(|record| println!("{record}"));
        }
        let ended = ring.shutdown(LONG);
        assert!(ended.is_ok(), "{ended:?}\n{}", sim.report());
        let report = sim.report();
        assert!(report.is_clean() && report.stalls.is_empty(), "{report}");
        assert!(report.in_flight.is_empty(), "requests are left behind: {report}");
    }
}
