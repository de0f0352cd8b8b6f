//! Random programs of the safe API on a simulated kernel with faults: every rule is kept, and every
//! byte arrives once, in order, or not at all.
//!
//! A program has one ring, streams between sockets of the simulated world, pipes, a file and
//! timers. It submits, waits, reaps, cancels, detaches and forgets, and drops its ring whenever it
//! likes. After each step the accounts of the kernel are looked at; at the end nothing may be left.
//!
//! `ANNULUS_SEED=n` runs one program again, and prints what happened; `ANNULUS_SEEDS=m..n` runs
//! others.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::lease::{BufRing, FileTable, FixedPool};
use annulus::op::{self, RecvMulti, SendFlags};
use annulus::sim::{Faults, Release, Sim};
use annulus::sys::flags::SetupFlags;
use annulus::{Ring, Setup, StepExt as _, Ticket};

use super::chance::Chance;

/// The most steps of a program.
pub const STEPS: u32 = 60;

/// One direction of a stream: the outside sends, the program receives.
struct Incoming {
    ours: Rc<OwnedFd>,
    theirs: OwnedFd,
    sent: VecDeque<u8>,
    flight: Option<Receive>,
}

enum Receive {
    One(Ticket<op::Recv<Rc<OwnedFd>, Vec<u8>>>),
    Many(Ticket<RecvMulti<Rc<OwnedFd>>>),
    Picked(Ticket<op::RecvProvided<Rc<OwnedFd>>>),
}

/// The other: the program sends, the outside receives.
struct Outgoing {
    ours: Rc<OwnedFd>,
    theirs: OwnedFd,
    sent: u8,
    seen: u8,
    flight: Option<Ticket<op::Send<Rc<OwnedFd>, Vec<u8>>>>,
}

pub struct Program {
    pub sim: Sim,
    pub chance: Chance,
    ring: Ring,
    buffers: BufRing,
    pool: FixedPool,
    table: FileTable,
    leases: Vec<annulus::lease::BufLease>,
    incoming: Vec<Incoming>,
    outgoing: Vec<Outgoing>,
    nops: Vec<Ticket<op::Nop>>,
    timers: Vec<Ticket<op::Timeout>>,
    next: u8,
}

impl Program {
    /// A program that `chance` decides, in the simulation of a seed.
    pub fn new(seed: u64, mut chance: Chance) -> Self {
        let some = Faults { again: 0, ..Faults::SOME };
        let faults = chance.among(&[Faults::NONE, some, Faults { delay: 900, ..some }]);
        let releases = [Release::NEWEST, Release::V6_1, Release::V6_12];
        let release = releases[usize::try_from(seed % 3).expect("below 3")];
        let sim = Sim::with_faults(seed, faults).like(release);
        let flags = [
            SetupFlags::empty(),
            SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG,
            SetupFlags::COOP_TASKRUN,
            SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN,
            SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN | SetupFlags::TASKRUN_FLAG,
            SetupFlags::SQPOLL,
        ];
        let setup = Setup::plain(4).with(chance.among(&flags)).kernel(sim.kernel());
        let mut ring = setup.cq_entries(32).build().expect("a ring");
        let buffers = ring.buf_ring(4, 16).expect("a buffer ring");
        let pool = ring.fixed_pool(3, 16).expect("registered buffers");
        let table = ring.file_table(3).expect("registered files");
        let incoming = (0..2).map(|_| {
            let (ours, theirs) = sim.socket_pair().expect("descriptors");
            Incoming { ours: Rc::new(ours), theirs, sent: VecDeque::new(), flight: None }
        });
        let incoming = incoming.collect();
        let outgoing = (0..2).map(|_| {
            let (ours, theirs) = sim.socket_pair().expect("descriptors");
            Outgoing { ours: Rc::new(ours), theirs, sent: 0, seen: 0, flight: None }
        });
        let outgoing = outgoing.collect();
        let (leases, nops, timers) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            sim,
            chance,
            ring,
            buffers,
            pool,
            table,
            leases,
            incoming,
            outgoing,
            nops,
            timers,
            next: 0,
        }
    }

    pub fn step(&mut self) {
        match self.chance.below(16) {
            0 | 1 => self.send_from_outside(),
            2 | 3 => self.receive(),
            4 | 5 => self.take_received(),
            6 => self.send(),
            7 => self.take_sent(),
            8 => self.see_outside(),
            9 => self.small(),
            10 => self.chain(),
            14 => self.fixed(),
            15 => self.by_place(),
            11 => drop(self.ring.submit_all()),
            12 => {
                let span = Duration::from_micros(self.chance.below(3000).into());
                // A signal may end it.
                let _ = self.ring.submit_and_wait_timeout(1, span);
            }
            // No reap: it would take the items of multishots, too.
            _ => self.sim.advance(Duration::from_micros(100)),
        }
        if self.chance.one_in(3) {
            self.leases.pop();
        }
    }

    fn send_from_outside(&mut self) {
        let count = self.chance.below(20) as usize + 1;
        let at = self.chance.below(2) as usize;
        let stream = &mut self.incoming[at];
        let bytes: Vec<u8> = (0..count).map(|_| byte(&mut self.next)).collect();
        let written = self.sim.write(&stream.theirs, &bytes).expect("room");
        stream.sent.extend(&bytes[..written]);
    }

    fn receive(&mut self) {
        let at = self.chance.below(2) as usize;
        let stream = &mut self.incoming[at];
        if stream.flight.is_some() {
            return;
        }
        let fd = Rc::clone(&stream.ours);
        stream.flight = match self.chance.below(3) {
            0 => {
                let buf = Vec::with_capacity(self.chance.below(20) as usize + 1);
                self.ring.submit(op::Recv::new(fd, buf)).ok().map(Receive::One)
            }
            1 => self.ring.submit(RecvMulti::new(fd, &self.buffers)).ok().map(Receive::Many),
            _ => {
                let recv = op::RecvProvided::new(fd, &self.buffers);
                self.ring.submit(recv).ok().map(Receive::Picked)
            }
        };
    }

    /// Takes what a receive brought; cancels it at times.
    fn take_received(&mut self) {
        let at = self.chance.below(2) as usize;
        let cancels = self.chance.one_in(3);
        let Some(flight) = self.incoming[at].flight.take() else { return };
        let sent = &mut self.incoming[at].sent;
        match flight {
            Receive::One(ticket) => {
                if cancels {
                    let _ = self.ring.cancel(&ticket);
                }
                match self.ring.try_take(ticket) {
                    Ok(outcome) => {
                        let count = outcome.result.unwrap_or(0);
                        arrived(sent, &outcome.buf[..count]);
                    }
                    Err(ticket) => self.incoming[at].flight = Some(Receive::One(ticket)),
                }
            }
            Receive::Many(ticket) => {
                if cancels {
                    let _ = self.ring.cancel(&ticket);
                }
                while let Ok(annulus::Next::Item(lease)) = self.ring.try_next(&ticket) {
                    let Ok(lease) = lease else { continue };
                    arrived(sent, &lease);
                    self.leases.push(lease);
                }
                match self.ring.try_take(ticket) {
                    Ok(ended) => {
                        for lease in ended.remaining.into_iter().flatten() {
                            arrived(sent, &lease);
                        }
                    }
                    Err(ticket) => self.incoming[at].flight = Some(Receive::Many(ticket)),
                }
            }
            Receive::Picked(ticket) => {
                if cancels {
                    let _ = self.ring.cancel(&ticket);
                }
                match self.ring.try_take(ticket) {
                    Ok(outcome) => {
                        if let Ok(Some(lease)) = outcome.result {
                            arrived(sent, &lease);
                            self.leases.push(lease);
                        }
                    }
                    Err(ticket) => self.incoming[at].flight = Some(Receive::Picked(ticket)),
                }
            }
        }
    }

    fn send(&mut self) {
        let at = self.chance.below(2) as usize;
        let stream = &mut self.outgoing[at];
        if stream.flight.is_some() {
            return;
        }
        let mut next = stream.sent;
        let buf: Vec<u8> = (0..=self.chance.below(30)).map(|_| byte(&mut next)).collect();
        let all = self.chance.one_in(2);
        let flags = if all { SendFlags::WAIT_ALL } else { SendFlags::default() };
        let send = op::Send::new(Rc::clone(&stream.ours), buf).flags(flags);
        stream.flight = self.ring.submit(send).ok();
    }

    fn take_sent(&mut self) {
        for stream in &mut self.outgoing {
            let Some(ticket) = stream.flight.take() else { continue };
            match self.ring.try_take(ticket) {
                Ok(outcome) => {
                    let count = outcome.result.unwrap_or(0);
                    for _ in 0..count {
                        byte(&mut stream.sent);
                    }
                }
                Err(ticket) => stream.flight = Some(ticket),
            }
        }
    }

    fn see_outside(&mut self) {
        for stream in &mut self.outgoing {
            for seen in self.sim.read(&stream.theirs, 100).unwrap_or_default() {
                assert_eq!(seen, byte(&mut stream.seen), "bytes are lost, or out of order");
            }
        }
    }

    /// Operations that are dropped, forgotten, detached or awaited.
    fn small(&mut self) {
        let timer = op::Timeout::new(Duration::from_micros(self.chance.below(5000).into()));
        match self.chance.below(6) {
            0 => self.nops.extend(self.ring.submit(op::Nop)),
            1 => self.timers.extend(self.ring.submit(timer)),
            2 => drop(self.ring.submit(timer)),
            3 => {
                if let Ok(ticket) = self.ring.submit(op::Nop) {
                    self.ring.detach(ticket);
                }
            }
            4 => {
                let Some(ticket) = self.nops.pop() else { return };
                let _ = self.ring.wait(ticket).expect("a NOP ends");
            }
            _ => {
                let Some(ticket) = self.timers.pop() else { return };
                // It ends, or ended before.
                let _ = self.ring.cancel(&ticket);
                let _ = self.ring.wait(ticket).expect("a timeout ends");
            }
        }
    }

    fn chain(&mut self) {
        let (reader, writer) = self.sim.pipe().expect("descriptors");
        let write = op::Write::new(writer, b"in a chain");
        let read = op::Read::new(reader, [0; 10]).within(Duration::from_millis(1));
        let Ok(tickets) = self.ring.submit_chain((write, read)) else { return };
        let outcome = self.ring.wait_chain(tickets).expect("a chain ends");
        let (_, read) = outcome.outputs;
        if let Ok(count) = read.output.result {
            assert_eq!(read.output.buf[..count], b"in a chain"[..count]);
        }
    }

    /// Registered buffers: written to a pipe, and read from it; at times nobody waits for that.
    fn fixed(&mut self) {
        let (reader, writer) = self.sim.pipe().expect("descriptors");
        let Some(mut out) = self.pool.get() else { return };
        out.set_len(10);
        out.copy_from_slice(b"registered");
        let Ok(write) = self.ring.submit(op::WriteFixed::new(writer, out)) else { return };
        let read = match self.pool.get() {
            Some(buf) if self.chance.one_in(2) => {
                self.ring.submit(op::ReadFixed::new(reader, buf)).ok()
            }
            _ => None,
        };
        let Some(read) = read else { return };
        let written = self.ring.wait(write).expect("it ends").result.expect("room");
        let (count, buf) = self.ring.wait(read).expect("it ends").ok().expect("it is written");
        assert!(count <= written && buf[..] == b"registered"[..count]);
    }

    /// A registered file: received from, and closed while that is in flight, or after it.
    fn by_place(&mut self) {
        let (ours, theirs) = self.sim.socket_pair().expect("descriptors");
        let Ok(file) = self.table.insert(&mut self.ring, ours) else { return };
        let buf = Vec::with_capacity(8);
        let Ok(recv) = self.ring.submit(op::Recv::new(file.clone(), buf)) else { return };
        let is_early = self.chance.one_in(2);
        let file = Some(file).filter(|_| !is_early);
        if self.chance.one_in(3) {
            return self.ring.detach(recv);
        }
        self.sim.write(&theirs, b"by place").expect("room");
        let (count, bytes) = self.ring.wait(recv).expect("it ends").ok().expect("it was sent");
        assert_eq!(bytes, b"by place"[..count]);
        drop(file);
        let end = self.sim.read(&theirs, 1).map_err(|error| error.raw_os_error());
        assert!(matches!(end, Ok(ref rest) if rest.is_empty()) || count < 8, "{end:?}");
    }

    /// The ring ends, with whatever is in flight.
    pub fn end(mut self, seed: u64) {
        if self.chance.one_in(2) {
            self.leases.clear();
        }
        self.see_outside();
        drop(self.ring);
        drop((self.leases, self.pool, self.table));
        let report = self.sim.report();
        assert!(report.is_clean() && report.stalls.is_empty(), "{report}");
        assert!(report.in_flight.is_empty(), "seed {seed} leaves requests behind: {report}");
    }
}

/// The next byte of a stream.
fn byte(next: &mut u8) -> u8 {
    *next = next.wrapping_add(1);
    *next
}

/// These bytes arrived: the next ones that were sent.
fn arrived(sent: &mut VecDeque<u8>, bytes: &[u8]) {
    for byte in bytes {
        assert_eq!(sent.pop_front(), Some(*byte), "bytes are lost, or out of order");
    }
}
