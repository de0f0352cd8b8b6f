//! Random programs on both kernels: what a program can observe is equal.
//!
//! ```text
//!   seed ──► steps ──┬──► Linux ───────┐
//!                    └──► Sim::new ────┴──► the same answers, completions, bytes?
//! ```
//!
//! | compared | how |
//! |---|---|
//! | what each enter submits | exactly |
//! | completions between two rests: `user_data`, result, flags | as a set, since nothing orders them |
//! | what the outside reads and writes | exactly |
//! | the bytes of every buffer at the end | exactly |
//!
//! | allowed difference | reason |
//! |---|---|
//! | `SOCK_NONEMPTY` | a hint, which kernels give differently |
//! | which of two requests that wait for one end is first | a program has one for each end |
//! | which of several requests a cancel by descriptor finds | Linux looks where hashes lead: it cancels all, where there may be several |
//! | when files, eventfds, `FSYNC`, `SHUTDOWN`, paths, splices complete | worker threads run them: each in a batch of its own |
//! | two cancels in one batch, or a cancel and a write | not generated: Linux finds a request again until its work has run, or does not find it once its data has come |
//! | a cancel that is linked to what waits | not generated: a cancel of everything ends requests in the order of Linux's hashes, and what is linked to them begins in that order |
//! | timeouts that count completions | in `scenarios` only: Linux's count goes below zero when another timeout ends and its completion is skipped or late, and then ends them early (6.18) |
//! | how much fits a socket | Linux counts memory: programs send little |
//! | when a timeout of 100 µs comes | a program that differs runs on Linux again, up to three times, with ten times as much each time: one of them must agree |
//! | where a bundle of buffers is split | it depends on what requests have received before; `bundles` compares contents |
//! | a pipe that a splice which waits for a stream leads to | Linux locks it until the splice ends; not generated |
//! | a file that is written after it was spliced to a pipe | Linux shows that in the pipe; not generated |
//! | a cancel of a splice that waits | 512 comes on Linux for other reasons, too, and then nothing is found |
//! | `MSG_TRUNC` with selected buffers, and on streams | refused: Linux counts bytes that it has not written |
//! | sizes and links of folders, times, owners | not compared: each file system has its own |
//! | ports | shown as the socket that has them |
//! | chains, and writes to pipes, before 6.5 | not generated: a worker thread writes to a pipe, later, and goes on with the chain |
//! | a cancel and a read of a pipe in one batch, before 5.19 | not generated: a read of a pipe that holds bytes ends after its batch, so that the cancel finds it |
//! | receives with `MSG_WAITALL`, before 5.19 | not generated: a cancel makes them forget the bytes that came |
//! | flags of a cancel before 6.6, modes of rings that a release lacks | not generated |
//! | how many enters a completion takes | Linux does one step of a chain in each, and tries a write to an eventfd 128 times before a worker does it |
//!
//! `ANNULUS_SEED=n` runs one program and prints both sides; `ANNULUS_SEEDS=m..n` runs others.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus::RawRing;
use annulus::prep;
use annulus::sim::Release;
use annulus::sys::abi::{Sqe, Timespec};
use annulus::sys::flags::{
    CancelFlags, CqeFlags, FsyncFlags, RecvSendFlags, SetupFlags, SqeFlags, TimeoutFlags,
};
use annulus::sys::opcode::Opcode;

use super::chance::Chance;
use super::worlds::{World, release_here};

/// The ends of a program: pipes, pairs, a file, a counter.
const PIPES: usize = 4;
const PAIRS: usize = 4;
const BUFFER: usize = 64;

/// A time that never comes, and one that comes while the program rests.
const LONG: Timespec = Timespec { tv_sec: 1000, tv_nsec: 0 };
const SHORT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000 };

/// A program as it runs in one world.
#[expect(clippy::vec_box, reason = "entries point to what is in the boxes")]
struct Run<'a> {
    world: &'a dyn World,
    ring: RawRing,
    /// Reading and writing ends, by turns; then the file and the counter.
    ends: Vec<OwnedFd>,
    buffers: Vec<Box<[u8; BUFFER]>>,
    tables: Vec<Box<[[u64; 2]; 2]>>,
    times: Box<[Timespec; 2]>,
    seen: Vec<String>,
    /// How many completions came during each rest; and how many are to come, if that is known.
    rests: Vec<usize>,
    told: Option<Told>,
}

/// What Linux is told of the run on the simulated kernel.
#[derive(Debug, Clone)]
pub struct Told {
    /// How many completions come during each rest.
    pub counts: Vec<usize>,
    /// How often it differed so far. A short timeout takes ten times as long each time: on a slow
    /// machine the program comes too late for it.
    pub attempt: u32,
}

/// What was decided about a program so far, which is the same in both worlds.
struct Plan {
    chance: Chance,
    /// Ends that a request reads from, writes to or polls; each has one such request at most.
    used: Vec<bool>,
    pushed: u64,
    /// Whether the batch has a cancel, or a write to what others wait for.
    cancels: bool,
    writes: bool,
    forces: bool,
    /// Whether the next entry is linked to one that may wait.
    behind: bool,
    /// What runs here: older releases do without some of it.
    release: Release,
}

impl Plan {
    /// Whether the release is older than `major.minor`.
    fn is_before(&self, major: u16, minor: u16) -> bool {
        self.release < Release::new(major, minor)
    }

    /// Whether this kind of request may come now; if so, it is noted.
    fn admits(&mut self, kind: u32) -> bool {
        // Before 5.19 a read of a pipe that holds bytes ends after its batch, as a write does.
        let is_late = matches!(kind, 1 | 2) && self.is_before(5, 19);
        let is_write = matches!(kind, 3 | 6 | 9 | 10) || is_late;
        let is_cancel = matches!(kind, 15..=18);
        let may_not = self.cancels || self.writes || self.behind;
        let races = is_cancel && may_not || is_write && self.cancels;
        if races || kind == 3 && self.is_before(6, 5) {
            return false;
        }
        self.cancels |= is_cancel;
        self.writes |= is_write;
        true
    }

    fn fresh(&mut self, ends: &[usize]) -> Option<usize> {
        let free: Vec<usize> = ends.iter().copied().filter(|&end| !self.used[end]).collect();
        let end = free[self.chance.place(free.len())?];
        self.used[end] = true;
        Some(end)
    }
}

fn readers() -> Vec<usize> {
    (0..PIPES).map(|pipe| 2 * pipe).collect()
}

fn writers() -> Vec<usize> {
    (0..PIPES).map(|pipe| 2 * pipe + 1).collect()
}

fn sockets() -> Vec<usize> {
    (2 * PIPES..2 * (PIPES + PAIRS)).collect()
}

const FILE: usize = 2 * (PIPES + PAIRS);
const COUNTER: usize = FILE + 1;
const ALL: usize = COUNTER + 1;

/// How to make an entry for a step: the end, and the rest of it once the buffer has an address.
fn entry(plan: &mut Plan, run: &mut Run<'_>) -> Option<Sqe> {
    let number = plan.pushed;
    let (addr, len) = run.new_buffer(plan);
    let times = &run.times;
    let time = |at: usize| (&raw const times[at]).expose_provenance() as u64;
    let any = plan.chance.below(number.max(1).try_into().expect("few")).into();
    let (long, short, none) = (time(0), time(1), RecvSendFlags::empty());
    let fd = |end: usize| run.ends[end].as_raw_fd();
    let kind = plan.chance.below(19);
    if !plan.admits(kind) {
        return None;
    }
    Some(match kind {
        0 => prep::nop(),
        1 | 2 => prep::read(fd(plan.fresh(&readers())?), addr, len, u64::MAX),
        3 => prep::write(fd(plan.fresh(&writers())?), addr, len, u64::MAX),
        4 | 5 => {
            let waits = plan.chance.one_in(3) && !plan.is_before(5, 19);
            let all = if waits { libc::MSG_WAITALL } else { 0 };
            let dont = if plan.chance.one_in(5) { libc::MSG_DONTWAIT } else { 0 };
            let flags = (all | dont).cast_unsigned();
            prep::recv(fd(plan.fresh(&sockets())?), addr, len, flags, none)
        }
        6 => {
            let end = 2 * PIPES + plan.chance.below(8) as usize;
            let flags = libc::MSG_NOSIGNAL.cast_unsigned();
            prep::send(fd(end), addr, len, flags, none)
        }
        7 => prep::read(9999, addr, len, 0),
        8 => prep::read(fd(COUNTER), addr, 8 * plan.chance.below(2), 0),
        9 | 10 => {
            let half = u64::from(len / 2);
            let table = Box::new([[addr, half], [addr + half, u64::from(len) - half]]);
            let at = table.as_ptr().expose_provenance() as u64;
            run.tables.push(table);
            if plan.chance.one_in(2) {
                prep::readv(fd(plan.fresh(&readers())?), at, 2, u64::MAX, 0)
            } else if plan.is_before(6, 5) {
                return None;
            } else {
                prep::writev(fd(plan.fresh(&writers())?), at, 2, u64::MAX, 0)
            }
        }
        11 => {
            let events = [libc::POLLIN, libc::POLLOUT, libc::POLLRDHUP];
            let events = u32::from(plan.chance.among(&events).cast_unsigned());
            let end = plan.fresh(&(0..COUNTER).collect::<Vec<_>>())?;
            // A poll that repeats would see how many steps a change of the end takes.
            prep::poll_add(fd(end), events)
        }
        12 => prep::timeout(long, 0, TimeoutFlags::empty()),
        13 => {
            let flags = [TimeoutFlags::empty(), TimeoutFlags::ETIME_SUCCESS];
            prep::timeout(short, 0, plan.chance.among(&flags))
        }
        15 => prep::timeout_remove(any),
        16 => {
            let flags = [CancelFlags::empty(), CancelFlags::ALL, CancelFlags::USERDATA];
            let flags = plan.chance.among(&flags);
            // Distributions have carried the last one back.
            prep::cancel(any, if plan.is_before(6, 6) { CancelFlags::empty() } else { flags })
        }
        17 => {
            let end = plan.chance.below(u32::try_from(ALL).expect("few")) as usize;
            let flags = plan.chance.among(&[CancelFlags::empty(), CancelFlags::ALL]);
            // Only the counter has several that wait.
            prep::cancel_fd(fd(end), if end == COUNTER { CancelFlags::ALL } else { flags })
        }
        18 => prep::poll_remove(any),
        _ if plan.chance.one_in(2) => Sqe { opcode: Opcode(200), ..Sqe::ZERO },
        _ => Sqe { ioprio: 77, ..prep::poll_remove(any) },
    })
}

/// Where a number lies that can be added to a counter.
fn one() -> u64 {
    static ONE: u64 = 1;
    (&raw const ONE).expose_provenance() as u64
}

impl<'a> Run<'a> {
    fn new(world: &'a dyn World, flags: SetupFlags, told: Option<Told>) -> Option<Self> {
        let ring = world.setup_here(16, flags)?;
        let mut ends = Vec::new();
        for _ in 0..PIPES {
            let (reader, writer) = world.pipe();
            ends.extend([reader, writer]);
        }
        for _ in 0..PAIRS {
            let (one, other) = world.socket_pair();
            ends.extend([one, other]);
        }
        ends.extend([world.file(b"the contents of a file"), world.eventfd()]);
        let (buffers, tables, seen) = (Vec::new(), Vec::new(), Vec::new());
        let slower = 10_i64.pow(told.as_ref().map_or(0, |told| told.attempt));
        let short = Timespec { tv_nsec: SHORT.tv_nsec * slower, ..SHORT };
        let (times, rests) = (Box::new([LONG, short]), Vec::new());
        Some(Self { world, ring, ends, buffers, tables, times, seen, rests, told })
    }

    /// A buffer, and how much of it to use.
    fn new_buffer(&mut self, plan: &mut Plan) -> (u64, u32) {
        let mut buffer = Box::new([0; BUFFER]);
        for (at, byte) in buffer.iter_mut().enumerate() {
            *byte = u8::try_from((plan.pushed * 7 + at as u64) % 251).expect("below 251");
        }
        let addr = buffer.as_mut_ptr().expose_provenance() as u64;
        self.buffers.push(buffer);
        (addr, plan.chance.below(u32::try_from(BUFFER).expect("64")) + 1)
    }

    /// Pushes one entry, with the flags that tie it to others.
    fn push(&mut self, plan: &mut Plan) {
        let made = entry(plan, self);
        let kinds = [SqeFlags::IO_LINK, SqeFlags::IO_HARDLINK];
        let mut flags = SqeFlags::empty();
        if plan.chance.one_in(4) {
            flags |= plan.chance.among(&kinds);
            // A worker does what is linked to a pipe's.
            if plan.is_before(6, 5) {
                flags = SqeFlags::empty();
            }
        }
        if plan.chance.one_in(8) {
            flags |= SqeFlags::CQE_SKIP_SUCCESS;
        }
        let Some(sqe) = made else { return };
        if plan.forces && !plan.cancels && plan.chance.one_in(2) {
            flags |= SqeFlags::ASYNC;
            plan.writes = true; // No cancel in this batch: it would race.
        }
        plan.behind = flags.intersects(SqeFlags::IO_LINK | SqeFlags::IO_HARDLINK)
            && (plan.behind || sqe.opcode != Opcode::NOP);
        let sqe = Sqe { user_data: plan.pushed, flags: sqe.flags | flags, ..sqe };
        plan.pushed += 1;
        if super::shows() {
            let Sqe { user_data, opcode, flags, addr, off, len, op_flags, .. } = sqe;
            println!("{user_data}: {opcode:?} {flags:?} {addr:#x} {off:#x} {len} {op_flags:#x}");
        }
        // SAFETY: the run keeps its buffers and tables until the ring is gone (OP1).
        unsafe { self.ring.push(sqe) }.expect("room");
    }

    /// Closes an open chain, and submits.
    fn submit(&mut self, plan: &mut Plan) {
        (plan.cancels, plan.writes, plan.behind) = (false, false, false);
        let last = Sqe { user_data: plan.pushed, ..prep::nop() };
        plan.pushed += 1;
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { self.ring.push(last) }.expect("room");
        let submitted = self.ring.submit().map_err(|error| error.to_string());
        self.seen.push(format!("submitted {submitted:?}"));
    }

    /// Takes every completion that comes while the program does nothing. On Linux, that is as many
    /// as came in the simulation, or else as many as come within a while, which is longer each time
    /// that the program runs: a worker thread may have to wait for a processor.
    fn rest(&mut self) {
        let told = self.told.as_ref();
        let expected = told.map_or(0, |told| told.counts[self.rests.len()]);
        let most = told.map_or(300, |told| 300 * 10_u32.pow(told.attempt.min(2)));
        let (mut all, mut quiet) = (Vec::new(), 0);
        for _ in 0..most {
            self.ring.get_events().expect("no fault");
            quiet += 1;
            while let Some(cqe) = self.ring.pop() {
                let flags = cqe.flags - CqeFlags::SOCK_NONEMPTY;
                all.push(format!("{} → {}, {flags:?}", cqe.user_data, cqe.res));
                quiet = 0;
            }
            // What the last one of them lets begin, begins in a later enter.
            if quiet > 5 && all.len() >= expected {
                break;
            }
            self.world.pause();
        }
        all.sort();
        self.seen.push(format!("{all:?}"));
        self.rests.push(all.len());
    }

    /// Acts from outside.
    fn outside(&mut self, plan: &mut Plan) {
        let socket = plan.chance.among(&sockets());
        let (reader, writer) = (plan.chance.among(&readers()), plan.chance.among(&writers()));
        let bytes = plan.chance.bytes(40);
        let bytes = &bytes[..plan.chance.below(40) as usize + 1];
        let fd = |end: usize| self.ends[end].as_fd();
        let text = match plan.chance.below(5) {
            0 => format!("write {:?}", shown(self.world.write(fd(writer), bytes))),
            1 if !plan.used[reader] => format!("read {:?}", shown(self.world.read(fd(reader)))),
            2 | 3 => format!("send {:?}", shown(self.world.write(fd(socket), bytes))),
            4 if !plan.used[socket] => format!("receive {:?}", shown(self.world.read(fd(socket)))),
            _ => return,
        };
        self.seen.push(text);
    }

    fn step(&mut self, plan: &mut Plan, which: u32) {
        match which {
            0 => {
                // Worker threads run these: in a batch of their own, so that nothing races.
                let how = plan.chance.below(4);
                let socket = self.ends[plan.chance.among(&sockets())].as_raw_fd();
                let file = self.ends[plan.chance.among(&[FILE, 0, 2 * PIPES])].as_raw_fd();
                let (addr, len) = self.new_buffer(plan);
                let at = u64::from(plan.chance.below(100));
                let sqe = match plan.chance.below(6) {
                    0 | 1 => prep::shutdown(socket, how),
                    2 => prep::fsync(file, FsyncFlags::empty()),
                    3 => prep::read(self.ends[FILE].as_raw_fd(), addr, len, at),
                    4 => prep::write(self.ends[FILE].as_raw_fd(), addr, len, at),
                    _ => prep::write(self.ends[COUNTER].as_raw_fd(), one(), 8, 0),
                };
                let sqe = Sqe { user_data: plan.pushed, ..sqe };
                plan.pushed += 1;
                // SAFETY: it points to nothing (OP1).
                unsafe { self.ring.push(sqe) }.expect("room");
                self.submit(plan);
            }
            1..=4 => {
                for _ in 0..=plan.chance.below(4) {
                    self.push(plan);
                }
                self.submit(plan);
            }
            5..=7 => self.outside(plan),
            _ => self.rest(),
        }
        // A write wakes a reader when the writer enters next; so nothing is compared before.
        self.rest();
    }

    /// Cancels what is left, and looks at the buffers.
    fn end(mut self, plan: &mut Plan) -> (Vec<String>, Vec<usize>) {
        // The end of one request lets the next one of its chain begin.
        let all = vec![prep::cancel(0, CancelFlags::ANY | CancelFlags::ALL); 6];
        let each = |user_data| prep::cancel(user_data, CancelFlags::empty());
        let is_old = plan.is_before(5, 19); // It cancels one at a time.
        let cancels = if is_old { (0..plan.pushed).map(each).collect() } else { all };
        for cancel in cancels {
            // SAFETY: a cancel points to nothing (OP1).
            unsafe { self.ring.push(Sqe { user_data: plan.pushed, ..cancel }) }.expect("room");
            let _ = self.ring.submit();
            self.rest();
        }
        for buffer in &self.buffers {
            self.seen.push(format!("{:?}", &buffer[..]));
        }
        // If a kernel did not end everything, it must not find other memory here (RG1).
        std::mem::forget((self.buffers, self.tables, self.times));
        (self.seen, self.rests)
    }
}

fn shown<T>(result: std::io::Result<T>) -> Result<T, Option<i32>> {
    result.map_err(|error| error.raw_os_error())
}

/// What the program that `chance` decides sees in a world; `None` if there is no such ring.
pub fn run(
    chance: Chance,
    world: &dyn World,
    told: Option<Told>,
) -> Option<(Vec<String>, Vec<usize>)> {
    let modes = [
        SetupFlags::empty(),
        SetupFlags::SUBMIT_ALL,
        SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG,
        SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN,
    ];
    run_in(Style { modes: &modes, forces: false }, chance, world, told)
}

/// What kind of programs to run.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    /// The flags of the ring: one of these.
    pub modes: &'a [SetupFlags],
    /// Whether worker threads run some of the requests (`ASYNC`).
    pub forces: bool,
}

/// As [`run`], in a style of programs.
pub fn run_in(
    style: Style<'_>,
    chance: Chance,
    world: &dyn World,
    told: Option<Told>,
) -> Option<(Vec<String>, Vec<usize>)> {
    let mut plan = Plan {
        chance,
        used: vec![false; ALL],
        pushed: 0,
        cancels: false,
        writes: false,
        forces: style.forces,
        behind: false,
        release: release_here(),
    };
    let flags = plan.chance.among(style.modes);
    let is_new = flags.intersects(SetupFlags::DEFER_TASKRUN) && plan.is_before(6, 1);
    let flags = if is_new || plan.is_before(5, 19) { SetupFlags::empty() } else { flags };
    let mut run = Run::new(world, flags, told)?;
    for _ in 0..plan.chance.below(6) + 1 {
        let which = plan.chance.below(9);
        run.step(&mut plan, which);
    }
    Some(run.end(&mut plan))
}

/// What a program sees on Linux, where `simulated` was seen on the simulated kernel; `None` if
/// there is no such ring.
///
/// A short timeout may come before the step that it follows, when the machine is busy, so a program
/// that differs runs again. What is a difference comes each time.
pub fn settled(
    simulated: &[String],
    on_linux: impl Fn(u32) -> Option<(Vec<String>, Vec<usize>)>,
) -> Option<Vec<String>> {
    let (mut real, _) = on_linux(0)?;
    for attempt in 1..4 {
        if real != simulated {
            real = on_linux(attempt).map_or(real, |(again, _)| again);
        }
    }
    Some(real)
}
