//! Messages between rings, entries that do nothing, and updates of polls and timeouts: on both
//! kernels.

use std::os::fd::{AsFd, AsRawFd};

use annulus::prep;
use annulus::sys::abi::{Sqe, Timespec};
use annulus::sys::abi_register::{FilesUpdate, RsrcRegister};
use annulus::sys::flags::{
    CqeFlags, MsgRingFlags, NopFlags, PollFlags, SetupFlags, SqeFlags, TimeoutFlags,
};
use annulus::sys::flags_register::RsrcRegisterFlags;
use annulus::sys::opcode::RegisterOp;
use annulus::{RawRing, sys};

use super::chance::Chance;
use super::scene::{Scene, at, both, seeded};

const MODES: [SetupFlags; 2] =
    [SetupFlags::empty(), SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN)];

/// Says what has come to the other ring.
fn look(it: &mut Scene<'_>, other: &mut RawRing) {
    for _ in 0..3 {
        other.get_events().expect("no fault");
        while let Some(cqe) = other.pop() {
            it.say(format!("other: {} → {} {:?}", cqe.user_data, cqe.res, cqe.flags));
        }
        it.world.pause();
    }
}

/// Gives a ring an empty table of three files.
fn add_table(ring: &RawRing) {
    let flags = RsrcRegisterFlags::SPARSE;
    let mut arg = RsrcRegister { nr: 3, flags, ..RsrcRegister::default() };
    // SAFETY: a live argument, which names no memory.
    let made = unsafe { ring.base().register(RegisterOp::FILES2, (&raw mut arg).cast(), 32) };
    assert_eq!(made, Ok(0));
}

fn fd(ring: &RawRing) -> i32 {
    ring.as_fd().as_raw_fd()
}

#[test]
fn messages_arrive_at_the_other_ring() {
    for mode in MODES {
        let scene = move |it: &mut Scene<'_>| {
            let Some(mut other) = it.world.setup(4, mode) else { return };
            other.expect_others();
            let (to, itself) = (fd(&other), fd(&it.ring));
            let (none, skip) = (MsgRingFlags::empty(), MsgRingFlags::CQE_SKIP);
            it.push(prep::msg_ring(to, 77, 1234));
            it.rest(|_| false);
            look(it, &mut other);
            it.push(prep::msg_ring_flags(to, 78, 1235, none, CqeFlags::from_bits_retain(0x505)));
            it.push(prep::msg_ring(itself, 79, 1236));
            it.push(Sqe { op_flags: skip.bits(), ..prep::msg_ring(to, 1, 1) });
            it.push(Sqe { addr: 7, ..prep::msg_ring(to, 1, 1) });
            it.push(Sqe { file_index: 3, ..prep::msg_ring(to, 1, 1) });
            it.push(Sqe { flags: SqeFlags::FIXED_FILE, ..prep::msg_ring(0, 1, 1) });
            let (reader, writer) = it.world.pipe();
            it.push(prep::msg_ring(reader.as_raw_fd(), 1, 1));
            it.push(prep::msg_ring(9999, 1, 1));
            it.rest(|_| false);
            look(it, &mut other);
            // Files.
            it.push(prep::msg_ring_fd(to, 0, 0, 5, none));
            it.rest(|_| false);
            add_table(&it.ring);
            let fds = [reader.as_raw_fd(), writer.as_raw_fd()];
            let mut arg = FilesUpdate { offset: 1, resv: 0, fds: at(&fds) };
            it.register(RegisterOp::FILES_UPDATE, Some(&mut arg), 2);
            it.push(prep::msg_ring_fd(to, 1, 0, 6, none));
            it.rest(|_| false);
            add_table(&other);
            // A ring that defers its work takes the files of one batch in any order.
            for message in [
                prep::msg_ring_fd(to, 1, 2, 7, none),
                prep::msg_ring_fd_alloc(to, 2, 8, none),
                prep::msg_ring_fd_alloc(to, 2, 9, skip),
                prep::msg_ring_fd_alloc(to, 2, 10, none),
                prep::msg_ring_fd(to, 0, 1, 11, none),
                prep::msg_ring_fd(to, 1, 3, 12, none),
                prep::msg_ring_fd(itself, 1, 1, 13, none),
                Sqe { file_index: 0, ..prep::msg_ring_fd(to, 1, 3, 14, none) },
            ] {
                it.push(message);
                it.rest(|_| false);
            }
            look(it, &mut other);
            // The other ring reads what was written to the file that it was sent.
            it.world.write(writer.as_fd(), b"sent").expect("room");
            let mut buf = [0_u8; 8];
            let addr = (&raw mut buf).expose_provenance() as u64;
            let read = prep::read(2, addr, 8, u64::MAX);
            // SAFETY: the buffer lives until the read has ended, below (OP1).
            unsafe { other.push(Sqe { flags: SqeFlags::FIXED_FILE, ..read }) }.expect("room");
            other.submit().expect("no fault");
            look(it, &mut other);
            it.say(format!("{buf:?}"));
        };
        both("messages", scene);
    }
}

#[test]
fn nops_say_what_they_are_told_to_say() {
    both("nop flags", |it| {
        let (reader, _writer) = it.world.pipe();
        let fd = reader.as_raw_fd();
        let (inject, file) = (NopFlags::INJECT_RESULT, NopFlags::FILE);
        let by_place = file | NopFlags::FIXED_FILE;
        let memory = Box::new([0_u64; 2]);
        let mut iovec = [at(&*memory), 16];
        it.push(prep::nop_with(inject, 5, 0, 0));
        it.push(prep::nop_with(inject | NopFlags::TW, -5, 0, 0));
        it.push(prep::nop_with(NopFlags::empty(), 5, 0, 7));
        it.push(prep::nop_with(file, 0, fd, 0));
        it.push(prep::nop_with(NopFlags::CQE32, 0, 0, 0));
        it.rest(|_| false);
        // A failure breaks a chain, whatever the result says.
        for nop in [
            prep::nop_with(inject | file, 6, 9999, 0),
            prep::nop_with(inject | by_place, 6, 1, 0),
            prep::nop_with(inject | NopFlags::FIXED_BUFFER, 6, 0, 1),
            prep::nop_with(inject, -6, 0, 1),
        ] {
            it.push(Sqe { flags: SqeFlags::IO_LINK, ..nop });
            it.push(prep::nop());
            it.rest(|_| false);
        }
        it.register(RegisterOp::BUFFERS, Some(&mut iovec), 1);
        it.push(prep::nop_with(NopFlags::FIXED_BUFFER, 0, 0, 0));
        it.rest(|_| false);
    });
}

/// Polls and timeouts, and their updates, at random.
fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let (ours, theirs) = it.world.socket_pair();
    let (reader, writer) = it.world.pipe();
    let times = Box::new([
        Timespec { tv_sec: 1 << 31, tv_nsec: 0 },
        Timespec { tv_sec: 0, tv_nsec: 100_000 },
        Timespec { tv_sec: 1 << 30, tv_nsec: 0 },
        Timespec { tv_sec: -1, tv_nsec: 0 },
    ]);
    // Each poll that waits has its end for itself.
    let mut polled = [false; 2];
    for _ in 0..chance.below(12) {
        let any = u64::from(chance.below(u32::try_from(it.next).expect("few") + 1));
        let time = at(&times[chance.among(&[0, 0, 1, 2, 3])]);
        let events = [libc::POLLIN, libc::POLLOUT, libc::POLLPRI];
        let events = u32::from(chance.among(&events).cast_unsigned());
        let none = TimeoutFlags::empty();
        let sqe = match chance.below(10) {
            0 | 1 => {
                let which = chance.below(2) as usize;
                if std::mem::replace(&mut polled[which], true) {
                    continue;
                }
                prep::poll_add([ours.as_raw_fd(), reader.as_raw_fd()][which], events)
            }
            2 => prep::timeout(time, 0, none),
            3 | 4 => {
                let flags = [
                    PollFlags::UPDATE_EVENTS,
                    PollFlags::UPDATE_USER_DATA,
                    PollFlags::UPDATE_EVENTS | PollFlags::UPDATE_USER_DATA,
                    PollFlags::ADD_MULTI,
                    PollFlags::ADD_LEVEL,
                ];
                let flags = chance.among(&flags);
                let renames = flags.contains(PollFlags::UPDATE_USER_DATA);
                let new = if renames || chance.one_in(9) { 500 + it.next } else { 0 };
                let is_kept = !flags.contains(PollFlags::UPDATE_EVENTS) && !chance.one_in(9);
                prep::poll_update(any, new, if is_kept { 0 } else { events }, flags)
            }
            5 | 6 => {
                let flags = [
                    TimeoutFlags::UPDATE,
                    TimeoutFlags::UPDATE,
                    TimeoutFlags::UPDATE | TimeoutFlags::ABS,
                    TimeoutFlags::ABS,
                    TimeoutFlags::LINK_UPDATE,
                    TimeoutFlags::UPDATE | TimeoutFlags::MULTISHOT,
                ];
                prep::timeout_update(any, time, chance.among(&flags))
            }
            7 => {
                let _ = it.world.write(theirs.as_fd(), b"x");
                it.rest(|_| false);
                continue;
            }
            8 => {
                let _ = it.world.write(writer.as_fd(), b"x");
                it.rest(|_| false);
                continue;
            }
            _ => prep::timeout_remove(any),
        };
        it.push(sqe);
        it.rest(|_| false);
    }
    for _ in 0..2 {
        it.push(prep::cancel(0, sys::flags::CancelFlags::ANY | sys::flags::CancelFlags::ALL));
        it.rest(|_| false);
    }
    std::mem::forget(times);
}

#[test]
fn random_programs_with_updates_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("updates", 600, program);
}

#[test]
fn a_linked_timeout_and_a_poll_that_repeats_are_updated() {
    both("updates", |it| {
        let (reader, _writer) = it.world.pipe();
        let (ours, theirs) = it.world.socket_pair();
        let (long, short) =
            (Timespec { tv_sec: 100, tv_nsec: 0 }, Timespec { tv_sec: 0, tv_nsec: 100_000 });
        let mut buf = [0_u8; 4];
        let addr = (&raw mut buf).expose_provenance() as u64;
        let link = SqeFlags::IO_LINK;
        it.push(Sqe { flags: link, ..prep::read(reader.as_raw_fd(), addr, 4, 0) });
        it.push(prep::link_timeout(at(&long), TimeoutFlags::empty()));
        it.rest(|_| false);
        it.push(prep::timeout_update(1, at(&short), TimeoutFlags::UPDATE));
        it.rest(|_| false);
        it.push(prep::timeout_update(1, at(&short), TimeoutFlags::LINK_UPDATE));
        it.take(3);
        let (input, output) = (libc::POLLIN.cast_unsigned(), libc::POLLOUT.cast_unsigned());
        it.push(prep::poll_multishot(ours.as_raw_fd(), input.into()));
        it.rest(|_| false);
        it.push(prep::poll_update(4, 0, output.into(), PollFlags::UPDATE_EVENTS));
        it.take(2);
        it.push(prep::poll_update(4, 0, input.into(), PollFlags::UPDATE_EVENTS));
        it.rest(|_| false);
        it.world.write(theirs.as_fd(), b"x").expect("room");
        it.take(1);
        it.push(prep::poll_remove(4));
        it.take(2);
    });
}
