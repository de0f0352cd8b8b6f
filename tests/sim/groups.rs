//! Groups of provided buffers: random programs on both kernels.
//!
//! | a program | at random |
//! |---|---|
//! | registers two rings of buffers | with `INC` or without, of its memory or the kernel's, of low numbers or high ones |
//! | receives, reads, sends | once, or again and again, of any length |
//! | offers buffers | at first, and again when a completion has returned them |
//!
//! And which numbers a group in kernel memory may have.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus::lease::RegisterError;
use annulus::raw::register::Consumption;
use annulus::sim::Sim;
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{CQE_BUFFER_SHIFT, CancelFlags, CqeFlags, RecvSendFlags, SqeFlags};
use annulus::sys::flags_register::PbufRingFlags;
use annulus::sys::groups::{Group, RingMemory};
use annulus::sys::index::Entries;
use annulus::sys::kernel::Kernel;
use annulus::{Setup, prep};

use super::chance::Chance;
use super::scene::{Scene, seeded};

const BUFFERS: u16 = 8;
const SIZE: usize = 16;

/// One group, as the program sees it.
struct Provided {
    group: Group,
    memory: Box<[[u8; SIZE]; BUFFERS as usize]>,
    is_incremental: bool,
    /// The buffers on offer, oldest first, with what is left of each; and those that are not.
    offered: VecDeque<(u16, usize)>,
    free: Vec<u16>,
}

impl Provided {
    fn new(it: &Scene<'_>, id: u16, chance: &mut Chance) -> Self {
        let entries = Entries::new(BUFFERS.into()).expect("a power of two");
        let memory = chance.among(&[RingMemory::User, RingMemory::Kernel]);
        let flags = chance.among(&[PbufRingFlags::empty(), PbufRingFlags::INC]);
        let register = |memory| Group::register(it.ring.base(), id, entries, memory, flags);
        // In the kernel's memory not every number will do.
        let group = register(memory).or_else(|_| register(RingMemory::User));
        let memory = Box::new([*b"sixteen in each."; BUFFERS as usize]);
        let is_incremental = flags.contains(PbufRingFlags::INC);
        let group = group.expect("a group");
        let (offered, free) = (VecDeque::new(), (0..BUFFERS).collect());
        Self { group, memory, is_incremental, offered, free }
    }

    /// Offers some of the free buffers.
    fn offer(&mut self, chance: &mut Chance) {
        for _ in 0..chance.below(4) {
            let Some(bid) = self.free.pop() else { return };
            let addr = self.memory[usize::from(bid)].as_mut_ptr().expose_provenance() as u64;
            // SAFETY: the group lives as long as the program, and no child is forked.
            let ring = unsafe { self.group.ring() };
            // SAFETY: the memory outlives the ring; each buffer is offered once (BR1).
            unsafe { ring.push(addr, 16, bid) }.expect("room");
            ring.flush();
            self.offered.push_back((bid, SIZE));
        }
    }

    /// Takes back what a completion has returned.
    fn take_back(&mut self, res: i32, flags: CqeFlags) {
        let first = flags.bits() >> CQE_BUFFER_SHIFT;
        assert_eq!(self.offered.front().map(|&(bid, _)| u32::from(bid)), Some(first));
        let mut left = usize::try_from(res).unwrap_or(0);
        loop {
            let (bid, rest) = self.offered.front_mut().expect("it was selected");
            let part = left.min(*rest);
            (*rest, left) = (*rest - part, left - part);
            let stays = self.is_incremental && flags.contains(CqeFlags::BUF_MORE);
            if left == 0 && stays {
                return;
            }
            self.free.push(*bid);
            // SAFETY: the group lives as long as the program, and no child is forked.
            let ring = unsafe { self.group.ring() };
            // SAFETY: a completion without `BUF_MORE` has returned it, only once (BR1).
            unsafe { ring.taken(1) };
            self.offered.pop_front();
            if left == 0 {
                return;
            }
        }
    }
}

/// A program: what comes in, what goes out, and who waits.
struct Program {
    incoming: Provided,
    outgoing: Provided,
    /// Reading end, writing end; ours, theirs; a file; an eventfd; ours, theirs for sends.
    ends: Vec<OwnedFd>,
    waits: HashMap<u64, usize>,
    sends: Vec<u64>,
}

impl Program {
    fn new(it: &Scene<'_>, chance: &mut Chance) -> Self {
        let incoming = Provided::new(it, 1, chance);
        // The second number has the lower bits of the other group's.
        let id = chance.among(&[2, 0x8001]);
        let outgoing = Provided::new(it, id, chance);
        let (reader, writer) = it.world.pipe();
        let (ours, theirs) = it.world.socket_pair();
        let (out, seen) = it.world.socket_pair();
        let file = it.world.file(b"the contents of a file, some more");
        let ends = vec![reader, writer, ours, theirs, file, it.world.eventfd(), out, seen];
        Self { incoming, outgoing, ends, waits: HashMap::new(), sends: vec![] }
    }

    fn entry(&self, chance: &mut Chance) -> Option<(usize, Sqe)> {
        let end = chance.among(&[0, 0, 2, 2, 2, 4, 5, 6, 6]);
        if self.waits.values().any(|&waits| waits == end) {
            return None;
        }
        let fd = self.ends[end].as_raw_fd();
        let len = [0, 0, 8, 40][chance.below(4) as usize];
        let none = RecvSendFlags::empty();
        let many = RecvSendFlags::RECV_MULTISHOT;
        let flags = chance.among(&[none, many]);
        let dont = if chance.one_in(6) { libc::MSG_DONTWAIT } else { 0 };
        let is_many = chance.one_in(2);
        Some(match end {
            2 if flags.contains(many) => (end, prep::recv_provided(fd, 0, 1, 0, flags)),
            2 => (end, prep::recv_provided(fd, len, 1, dont.cast_unsigned(), flags)),
            4 if !is_many => {
                let at = u64::from(chance.below(40));
                (end, prep::read_provided(fd, len, at, 1))
            }
            6 => {
                let message = libc::MSG_NOSIGNAL.cast_unsigned();
                (end, prep::send_provided(fd, len, self.outgoing.group.id(), message, none))
            }
            _ if is_many => {
                let sqe = prep::read_multishot(fd, 0, 1);
                let is_odd = chance.one_in(8);
                (end, if is_odd { Sqe { flags: SqeFlags::empty(), ..sqe } } else { sqe })
            }
            _ => (end, prep::read_provided(fd, len, 0, 1)),
        })
    }

    fn step(&mut self, it: &mut Scene<'_>, chance: &mut Chance) {
        let bytes = b"forty bytes from outside, or less of it.";
        let bytes = &bytes[..chance.below(40) as usize + 1];
        match chance.below(10) {
            0 | 1 => self.incoming.offer(chance),
            2 => self.outgoing.offer(chance),
            3..=5 => {
                let Some((end, sqe)) = self.entry(chance) else { return };
                if end == 6 {
                    self.sends.push(it.next);
                }
                self.waits.insert(it.next, end);
                it.push(sqe);
            }
            6 => {
                let all = it.world.read(self.ends[7].as_fd());
                it.say(format!("{:?}", all.map_err(|error| error.raw_os_error())));
            }
            7 => drop(it.world.write(self.ends[5].as_fd(), &3_u64.to_ne_bytes())),
            at => drop(it.world.write(self.ends[[1, 3][at as usize % 2]].as_fd(), bytes)),
        }
        self.rest(it);
    }

    fn rest(&mut self, it: &mut Scene<'_>) {
        it.rest(|_| false);
        for (user_data, res, flags) in it.last.clone() {
            if flags.contains(CqeFlags::BUFFER) {
                let is_send = self.sends.contains(&user_data);
                let group = if is_send { &mut self.outgoing } else { &mut self.incoming };
                group.take_back(res, flags);
            }
            if !flags.contains(CqeFlags::MORE) {
                self.waits.remove(&user_data);
            }
        }
    }
}

fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let mut program = Program::new(it, chance);
    program.incoming.offer(chance);
    for _ in 0..chance.below(20) {
        program.step(it, chance);
    }
    for _ in 0..2 {
        it.push(prep::cancel(0, CancelFlags::ANY | CancelFlags::ALL));
        program.rest(it);
    }
    let (incoming, outgoing) = (program.incoming, program.outgoing);
    it.say(format!("heads {:?} {:?}", incoming.group.head(), outgoing.group.head()));
    for provided in [&incoming, &outgoing] {
        let seen = provided.free.iter().map(|&bid| provided.memory[usize::from(bid)]);
        it.say(format!("{:?}", seen.collect::<Vec<_>>()));
    }
    // If a kernel did not end everything, it must not find other memory here (RG1).
    std::mem::forget((incoming.memory, outgoing.memory));
}

#[test]
fn random_programs_with_groups_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("groups", 600, program);
}

/// The offset at which a group is mapped has 11 bits for its number. Linux takes a higher number,
/// and then maps nothing for it, or the ring of another group: two owners of one tail.
#[test]
fn br1_a_group_in_kernel_memory_has_a_number_that_its_offset_can_hold() {
    let sim = Sim::new(1);
    for kernel in [Kernel::LINUX, sim.kernel()] {
        let ring = match Setup::plain(4).kernel(kernel).build_raw() {
            Ok(ring) => ring,
            Err(error) => {
                eprintln!("skipped: {error}");
                continue;
            }
        };
        let entries = Entries::new(4).expect("a power of two");
        let make = |id, memory| {
            let none = PbufRingFlags::empty();
            Group::register(ring.base(), id, entries, memory, none)
        };
        let (Ok(_first), Ok(_last)) =
            (make(0, RingMemory::Kernel), make(0x7FF, RingMemory::Kernel))
        else {
            eprintln!("skipped: no buffer rings in kernel memory");
            continue;
        };
        for id in [0x8000, 0x87FF, 0x800, 0x7FFF, 0x8800, 0xFFFF] {
            let refused = make(id, RingMemory::Kernel).map(drop);
            assert_eq!(refused.map_err(|errno| errno.raw()), Err(libc::EINVAL), "{id:#x}");
            let said = ring.buffer_group(id, 4, RingMemory::Kernel, Consumption::Whole);
            let said = said.map(drop).expect_err("it does not fit");
            assert!(matches!(said, RegisterError::Invalid { .. }), "{said}");
            // Nothing was registered.
            make(id, RingMemory::User).expect("our memory takes any number");
        }
    }
}

/// A ring gives each of its groups a number of its own.
#[test]
fn br1_a_ring_that_made_many_groups_makes_none_in_kernel_memory() {
    let sim = Sim::new(1);
    let mut ring = Setup::new(4).kernel(sim.kernel()).build().expect("a ring");
    for _ in 0..2048 {
        ring.buf_ring_with(1, 1, RingMemory::Kernel, Consumption::Whole).expect("memory");
    }
    let none = ring.buf_ring_with(1, 1, RingMemory::Kernel, Consumption::Whole);
    let none = none.map(drop).expect_err("there is no number for it");
    assert!(matches!(none, RegisterError::Invalid { .. }), "{none}");
    ring.buf_ring(1, 1).expect("our memory takes any number");
}
