//! Pools of each kind against everything that selects from them: what is lent is what the kernel
//! wrote, does not change while it is lent, and comes back.
//!
//! ```text
//!   receives, multishots, bundles, messages ─┐         ┌─ buffers taken whole, or in parts
//!   reads and writes of fixed buffers ───────┼─ ring ──┼─ fixed buffers
//!   bundles that are sent ───────────────────┤         ├─ a send ring
//!   opens into the table ────────────────────┘         └─ a file table
//! ```
//!
//! Each receive has a descriptor of its own, so that its bytes can be told from others: what the
//! kernel wrote for a completion is what its lease holds.

mod flight;
pub mod group;
mod habits;
mod kernel;
mod raw;
mod requests;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus::lease::{BufLease, BufRing, FileTable, FixedBuf, FixedFile, FixedPool, SendQueue};
use annulus::op::{self, SendBundle};
use annulus::raw::register::{Consumption, RingMemory};
use annulus::{Ring, Setup, Ticket};

use super::chance::Chance;
use flight::{Flight, Item, Take};
use habits::Habits;
use kernel::Kernel;

/// The most steps of a history.
const STEPS: u32 = 300;
/// Longer than any wait of the kernel's.
const LONG: Duration = Duration::from_secs(3600);

/// What a caller holds.
struct Program {
    kernel: Kernel,
    chance: Chance,
    habits: Habits,
    ring: Ring,
    pools: Vec<BufRing>,
    flights: Vec<(Flight, Rc<File>)>,
    leases: Vec<(BufLease, Vec<u8>)>,
    echoes: Vec<Ticket<op::Send<Rc<File>, BufLease>>>,
    fixed: FixedPool,
    filled: Vec<(Vec<u8>, FixedBuf)>,
    reads: Vec<Ticket<op::ReadFixed<Rc<File>>>>,
    writes: Vec<Ticket<op::WriteFixed<Rc<File>>>>,
    table: FileTable,
    opens: Vec<Ticket<Opens>>,
    files: Vec<FixedFile>,
    used: Vec<Ticket<op::Read<FixedFile, [u8; 8]>>>,
    queue: SendQueue,
    /// The send, unless it is in flight.
    sends: Option<SendBundle<Rc<File>>>,
    sending: Option<Ticket<SendBundle<Rc<File>>>>,
    queued: Vec<u8>,
}

type Opens = op::Direct<op::OpenAt<op::Cwd, &'static std::ffi::CStr>>;

fn null() -> Rc<File> {
    Rc::new(File::open("/dev/null").expect("there is one"))
}

/// One history.
pub fn run(data: &[u8]) {
    let mut chance = Chance::of(data);
    if chance.one_in(16) {
        return raw::run(chance);
    }
    let theirs = chance.split();
    let mut program = Program::new(chance, theirs);
    for step in 0..STEPS {
        if program.chance.is_used_up() {
            break;
        }
        program.step(step);
        program.check();
    }
    program.finish();
}

impl Program {
    fn new(mut chance: Chance, theirs: Chance) -> Self {
        let habits = Habits::choose(&mut chance);
        let kernel = Kernel::new(theirs);
        let behind = annulus_sys::kernel::Kernel::with_backend(Arc::new(kernel.clone()));
        let setup = Setup::plain(chance.among(&[2, 4, 8])).cq_entries(chance.among(&[8, 32]));
        let mut ring: Ring = setup.kernel(behind).build().expect("a ring");
        let sends = ring.send_ring(4, 16).expect("the kernel knows it");
        let parts = Consumption::Incremental { min_left: 0 };
        let kinds = [(4, 16, Consumption::Whole), (2, 32, parts), (1, 64, Consumption::Whole)];
        let pools = kinds.map(|(count, size, used)| {
            ring.buf_ring_with(count, size, RingMemory::User, used).expect("the kernel knows it")
        });
        let fixed = ring.fixed_pool(3, 24).expect("the kernel knows it");
        let table = ring.file_table(3).expect("the kernel knows it");
        Self {
            kernel,
            chance,
            habits,
            ring,
            pools: pools.into(),
            flights: Vec::new(),
            leases: Vec::new(),
            echoes: Vec::new(),
            fixed,
            filled: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            table,
            opens: Vec::new(),
            files: Vec::new(),
            used: Vec::new(),
            queue: sends.queue(),
            sends: Some(SendBundle::new(null(), sends)),
            sending: None,
            queued: Vec::new(),
        }
    }

    fn step(&mut self, step: u32) {
        let which = self.habits.step(&mut self.chance);
        if super::tells() {
            println!("{step:3}: {which}, {} in flight", self.ring.in_flight());
        }
        match which {
            0..4 => self.receive(),
            4..7 => self.take(),
            7 => self.cancel_or_leave(),
            8 | 9 => self.give_back(),
            10 => self.echo(),
            11 => self.fill(),
            12 => self.use_fixed(),
            13 => self.queue(),
            14 => self.send(),
            15 => self.open(),
            16 => self.use_file(),
            17 => drop(self.ring.submit_all()),
            18 => drop(self.ring.submit_and_wait_timeout(1, LONG)),
            _ => self.kernel.state().interrupt(),
        }
    }

    fn receive(&mut self) {
        let at = self.habits.pool(&mut self.chance);
        let fd = null();
        let kind = self.habits.receive(&mut self.chance);
        let flight = Flight::begin(&mut self.ring, &self.pools[at], &fd, kind);
        self.flights.extend(flight.map(|flight| (flight, fd)));
    }

    /// Takes what has come for some receive.
    fn take(&mut self) {
        let Some(at) = self.chance.place(self.flights.len()) else { return };
        let (flight, fd) = self.flights.swap_remove(at);
        let mut items = Vec::new();
        // What came before an end that nobody saw comes with it.
        let how = self.chance.among(&[Take::Each, Take::Each, Take::Last, Take::Wait]);
        let left = flight.take(&mut self.ring, how, &mut items);
        for item in items {
            let came: Vec<u8> = item.iter().flat_map(Item::bytes).copied().collect();
            let chunk = self.kernel.state().pop_chunk(fd.as_raw_fd());
            assert_eq!(Some(&came), chunk.as_ref(), "BR1: what came is what the kernel wrote");
            let leases = item.into_iter().filter_map(Item::into_lease);
            let leases: Vec<_> = leases.map(|lease| (lease.to_vec(), lease)).collect();
            for (bytes, lease) in leases {
                if !self.chance.one_in(3) {
                    self.leases.push((lease, bytes));
                }
            }
        }
        if left.is_none() {
            let chunk = self.kernel.state().pop_chunk(fd.as_raw_fd());
            assert_eq!(chunk, None, "BR1: what came is lost");
        }
        self.flights.extend(left.map(|flight| (flight, fd)));
    }

    fn cancel_or_leave(&mut self) {
        let Some(at) = self.chance.place(self.flights.len()) else { return };
        if self.chance.one_in(2) {
            let _ = self.flights[at].0.cancel(&mut self.ring);
            return;
        }
        let (flight, _) = self.flights.swap_remove(at);
        flight.leave(&mut self.ring);
    }

    fn give_back(&mut self) {
        let Some(at) = self.chance.place(self.leases.len()) else { return };
        let (lease, bytes) = self.leases.swap_remove(at);
        assert!(lease[..] == bytes[..], "BR1: a lease was written to");
    }

    /// Sends a lease; or takes one back that was sent.
    fn echo(&mut self) {
        if let Some(ticket) = self.echoes.pop() {
            match self.ring.try_take(ticket) {
                Ok(outcome) => drop(outcome),
                Err(ticket) => self.echoes.push(ticket),
            }
        } else if let Some((lease, _)) = self.leases.pop() {
            self.echoes.extend(self.ring.submit(op::Send::new(null(), lease)));
        }
    }

    /// Fills a fixed buffer.
    fn fill(&mut self) {
        if let Some(mut buf) = self.fixed.get() {
            let count = self.chance.below(24) as usize + 1;
            buf.set_len(count);
            let bytes = self.chance.bytes(count);
            buf.copy_from_slice(&bytes);
            self.filled.push((bytes, buf));
        }
    }

    fn use_fixed(&mut self) {
        if let Some(ticket) = self.reads.pop() {
            match self.ring.try_take(ticket) {
                Ok(read) => self.filled.push((read.buf.to_vec(), read.buf)),
                Err(ticket) => self.reads.push(ticket),
            }
        }
        if let Some(ticket) = self.writes.pop()
            && let Err(ticket) = self.ring.try_take(ticket)
        {
            self.writes.push(ticket);
        }
        let Some((bytes, buf)) = self.filled.pop() else { return };
        assert!(buf[..] == bytes[..], "OP1: a fixed buffer was written to");
        match self.chance.below(3) {
            0 => drop(buf),
            1 => self.reads.extend(self.ring.submit(op::ReadFixed::new(null(), buf))),
            _ => self.writes.extend(self.ring.submit(op::WriteFixed::new(null(), buf))),
        }
    }

    fn queue(&mut self) {
        let Some(mut buf) = self.queue.get() else { return };
        let count = self.chance.below(16) as usize + 1;
        buf.set_len(count);
        let bytes = self.chance.bytes(count);
        buf.copy_from_slice(&bytes);
        if !self.chance.one_in(4) {
            buf.queue();
            self.queued.extend(bytes);
        }
    }

    fn send(&mut self) {
        if let Some(ticket) = self.sending.take() {
            if self.chance.one_in(4) {
                let _ = self.ring.cancel(&ticket);
            }
            match self.ring.try_take(ticket) {
                Ok(outcome) => {
                    self.sends = Some(SendBundle::new(null(), outcome.buf));
                }
                Err(ticket) => self.sending = Some(ticket),
            }
        } else if let Some(sends) = self.sends.take() {
            match self.ring.submit(sends) {
                Ok(ticket) => self.sending = Some(ticket),
                Err(rejected) => self.sends = Some(rejected.op),
            }
        }
    }

    fn open(&mut self) {
        if let Some(ticket) = self.opens.pop() {
            match self.ring.try_take(ticket) {
                Ok(opened) => self.files.extend(opened.result),
                Err(ticket) => self.opens.push(ticket),
            }
        } else {
            let open = op::OpenAt::new(op::Cwd, c"/dev/null", op::How::read());
            let Ok(ticket) = self.ring.submit(open.direct(&self.table)) else { return };
            if self.chance.one_in(4) {
                self.ring.detach(ticket);
            } else {
                self.opens.push(ticket);
            }
        }
    }

    fn use_file(&mut self) {
        if let Some(ticket) = self.used.pop()
            && let Err(ticket) = self.ring.try_take(ticket)
        {
            self.used.push(ticket);
        }
        let Some(file) = self.files.pop() else { return };
        match self.chance.below(3) {
            0 => drop(file),
            1 => self.files.extend([file.clone(), file]),
            _ => self.used.extend(self.ring.submit(op::Read::new(file, [0; 8]))),
        }
    }

    /// What is held is as it was, and the kernel has found nothing wrong.
    fn check(&mut self) {
        let faults = std::mem::take(&mut self.kernel.state().faults);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        if self.ring.in_flight() == 0 {
            for pool in self.pools.iter().filter(|pool| pool.leased() == 0) {
                let mut state = self.kernel.state();
                let overdue = state.group(pool.group()).map_or_else(Vec::new, |it| it.overdue());
                let group = pool.group();
                assert!(overdue.is_empty(), "BR1: {overdue:?} of group {group} do not come back");
            }
        }
        let is_same = |(lease, bytes): &(BufLease, Vec<u8>)| lease[..] == bytes[..];
        assert!(self.leases.iter().all(is_same), "BR1: a lease was written to");
        let is_same = |(bytes, buf): &(Vec<u8>, FixedBuf)| buf[..] == bytes[..];
        assert!(self.filled.iter().all(is_same), "OP1: a fixed buffer was written to");
    }

    /// Ends everything: then every buffer is with the kernel, and every place is empty.
    fn finish(mut self) {
        for (flight, _) in std::mem::take(&mut self.flights) {
            flight.leave(&mut self.ring);
        }
        if let Some(ticket) = self.sending.take() {
            let outcome = self.ring.wait(ticket).expect("the kernel ends it");
            drop(outcome);
        }
        self.settle();
        let state = self.kernel.state();
        let (sent, queued) = (&state.sent[..], &self.queued[..]);
        assert!(queued.starts_with(sent), "bytes went out in another order");
        assert_eq!(sent.len() + self.queue.bytes(), queued.len(), "BR1: sent, or still queued");
        drop(state);
        self.files.clear();
        self.leases.clear();
        self.opens.drain(..).for_each(|ticket| self.ring.detach(ticket));
        self.used.drain(..).for_each(|ticket| self.ring.detach(ticket));
        self.echoes.drain(..).for_each(|ticket| self.ring.detach(ticket));
        self.reads.drain(..).for_each(|ticket| self.ring.detach(ticket));
        self.writes.drain(..).for_each(|ticket| self.ring.detach(ticket));
        self.settle();
        // What a bundle had selected is found when an operation ends without data.
        for pool in self.pools.clone() {
            let mut has_data = true;
            while has_data {
                let last = self.ring.submit(op::RecvProvided::new(null(), &pool)).expect("room");
                self.ring.cancel(&last).expect("it is in flight");
                let ended = self.ring.wait(last).expect("the kernel ends it");
                has_data = ended.result.is_ok_and(|lease| lease.is_some());
            }
        }
        self.settle();
        for pool in &self.pools {
            let held = self.kernel.state().group(pool.group()).map(|group| group.held());
            assert_eq!((held, pool.leased()), (Some(pool.count()), 0), "BR1: all come back");
        }
        assert!(!self.kernel.state().files.contains(&true), "OP3: a file stays open");
        self.ring.set_drop_timeout(LONG);
    }

    /// Lets everything in flight end.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.ring.in_flight() == 0 {
                break;
            }
            let _ = self.ring.submit_and_wait_timeout(1, LONG);
            let _ = self.ring.reap(|_| {});
        }
        assert_eq!(self.ring.in_flight(), 0, "the kernel ends everything");
        self.kernel.state().touch();
        self.check();
    }
}
