//! Waits on both kernels, and what they go by: cancels at once, polled rings, eventfds, clocks,
//! regions.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use annulus::Setup;
use annulus::prep;
use annulus::raw::register::RingMemory;
use annulus::sim::{Faults, Sim};
use annulus::sys::abi::{RegWait, Sqe, Timespec};
use annulus::sys::abi_register::{ClockRegister, MemRegionReg, RegionDesc, SyncCancelReg};
use annulus::sys::flags::{
    CancelFlags, EnterFlags, FsyncFlags, RecvSendFlags, SetupFlags, SqeFlags, TimeoutFlags,
};
use annulus::sys::flags_register::{MemRegionFlags, RegWaitFlags, RegionDescFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::sys::syscall::{EnterArg, ExtArg};

use super::registrations::{WAITS, enter, number, register, run};
use super::scene::{Scene, at, both};
use super::worlds::World;

fn cancel(it: &mut Scene<'_>, reg: SyncCancelReg) {
    it.register(RegisterOp::SYNC_CANCEL, Some(&mut { reg }), 1);
}

#[test]
fn a_cancel_at_once_finds_what_it_names() {
    both("sync cancel", |it| {
        let (reader, _writer) = it.world.pipe();
        let (other, _rest) = it.world.pipe();
        let mut buf = [0_u8; 32];
        let addr = (&raw mut buf).expose_provenance() as u64;
        let read = |fd: i32, at: u64| prep::read(fd, addr + 8 * at, 8, u64::MAX);
        let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
        let none = SyncCancelReg { fd: -1, timeout, ..SyncCancelReg::default() };
        for (at, fd) in (0..).zip([&reader, &other, &other, &reader]) {
            it.push(read(fd.as_raw_fd(), at));
        }
        it.take(0);
        cancel(it, SyncCancelReg { addr: 77, ..none });
        cancel(it, none);
        it.take(1);
        let fd = other.as_raw_fd();
        cancel(it, SyncCancelReg { fd, flags: CancelFlags::FD | CancelFlags::ALL, ..none });
        it.take(2);
        cancel(it, SyncCancelReg { flags: CancelFlags::FD, ..none });
        let flags = CancelFlags::OP | CancelFlags::USERDATA;
        cancel(it, SyncCancelReg { addr: 3, opcode: Opcode::NOP, flags, ..none });
        cancel(it, SyncCancelReg { addr: 3, opcode: Opcode::READ, flags, ..none });
        it.take(1);
        cancel(it, SyncCancelReg { flags: CancelFlags::ANY, ..none });
        cancel(it, SyncCancelReg { flags: CancelFlags::from_bits_retain(1 << 9), ..none });
        cancel(it, SyncCancelReg { pad: [0, 0, 0, 1, 0, 0, 0], ..none });
        cancel(it, SyncCancelReg { pad2: [0, 1, 0], ..none });
        it.register(RegisterOp::SYNC_CANCEL, Some(&mut { none }), 2);
        it.register::<SyncCancelReg>(RegisterOp::SYNC_CANCEL, None, 1);
    });
}

#[test]
fn a_cancel_at_once_waits_for_a_worker() {
    both("sync cancel of a worker", |it| {
        let (from, _keeps) = it.world.pipe();
        let (_reads, to) = it.world.pipe();
        let splice = prep::splice(from.as_raw_fd(), u64::MAX, to.as_raw_fd(), u64::MAX, 9, 0);
        it.push(splice);
        it.take(0);
        let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        for _ in 0..200 {
            (0..50).for_each(|_| it.world.pause());
            cancel(it, SyncCancelReg { fd: -1, timeout, ..SyncCancelReg::default() });
            // One that comes before the worker has begun finds nothing.
            if !it.lines.last().is_some_and(|said| said.ends_with("Err(2)")) {
                break;
            }
            it.lines.pop();
        }
        if it.flags.contains(SetupFlags::DEFER_TASKRUN) {
            // Its work is not done meanwhile, so it waits for as long as it may; unless the worker
            // has let go before.
            let said = it.lines.pop();
            assert!(said.is_some_and(|said| said.ends_with("Err(62)") || said.ends_with("Ok(0)")));
        }
        it.take(1);
    });
}

#[test]
fn a_cancel_at_once_is_interrupted_or_ends_when_its_time_is_up() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let longest = Duration::from_millis(2);
        let faults = Faults { delay: 500, longest, no_cancel: 900, interrupt: 300, ..Faults::NONE };
        let sim = Sim::with_faults(seed, faults);
        let mut ring = World::setup(&sim, 4, SetupFlags::empty()).expect("a ring");
        let (reader, _writer) = sim.pipe().expect("descriptors");
        let mut buf = [0_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        // SAFETY: the buffer lives until the ring is gone (OP1).
        unsafe { ring.push(prep::read(reader.as_raw_fd(), addr, 8, u64::MAX)) }.expect("room");
        ring.submit().expect("no fault");
        sim.advance(Duration::from_millis(10));
        let timeout = Timespec { tv_sec: 0, tv_nsec: 500_000 };
        let mut reg = SyncCancelReg { fd: -1, timeout, ..SyncCancelReg::default() };
        let before = sim.now();
        let arg = (&raw mut reg).cast();
        // SAFETY: one live argument, which the kernel copies.
        let result = unsafe { ring.base().register(RegisterOp::SYNC_CANCEL, arg, 1) };
        assert!(sim.now() - before <= Duration::from_micros(500));
        seen.insert(result.map_err(|errno| errno.raw()));
        sim.advance(Duration::from_millis(10));
        let ended = std::iter::from_fn(|| ring.pop()).map(|cqe| cqe.res).next();
        assert!(matches!(ended, Some(-4 | -125)), "{ended:?}");
        sim.check();
    }
    let all = [Ok(0), Err(libc::EINTR), Err(libc::ETIME)];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_polled_ring_refuses_what_no_device_does_and_never_waits() {
    both("iopoll", |it| {
        let Some(mut ring) = it.world.setup(8, SetupFlags::IOPOLL | it.flags) else { return };
        enter(it, ring.base(), 3, WAITS, EnterArg::None);
        let timeout = Some(Timespec { tv_sec: 1000, tv_nsec: 0 });
        let ext = ExtArg { timeout, ..ExtArg::default() };
        enter(it, ring.base(), 1, WAITS, EnterArg::Ext(ext));
        let (file, (reader, writer)) = (it.world.file(b"a file"), it.world.pipe());
        let mut buf = [0_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        let fds = [file.as_raw_fd(), reader.as_raw_fd(), writer.as_raw_fd(), 9999];
        for fd in fds {
            run(it, &mut ring, prep::read(fd, addr, 8, 0));
            run(it, &mut ring, prep::write(fd, addr, 8, 0));
        }
        run(it, &mut ring, prep::nop());
        run(it, &mut ring, Sqe { flags: SqeFlags::ASYNC, ..prep::nop() });
        let fd = number(it.ring.base());
        run(it, &mut ring, prep::msg_ring(fd, 1, 2));
        it.take(1);
        run(it, &mut ring, prep::poll_add(fds[1], 1));
        run(it, &mut ring, prep::timeout(at(&timeout), 0, TimeoutFlags::empty()));
        run(it, &mut ring, prep::cancel(0, CancelFlags::ANY));
        run(it, &mut ring, prep::close(9999));
        run(it, &mut ring, prep::recv(fds[1], addr, 8, 0, RecvSendFlags::empty()));
        run(it, &mut ring, prep::read_multishot(fds[1], 0, 0));
        run(it, &mut ring, prep::fsync(fds[0], FsyncFlags::empty()));
        it.push(prep::msg_ring(number(ring.base()), 1, 2));
        it.take(1);
        let told = ring.get_events().map(|()| ring.pop().map(|cqe| cqe.user_data));
        it.say(format!("{:?}", told.map_err(|error| error.to_string())));
        let hybrid = it.world.setup(8, SetupFlags::IOPOLL | SetupFlags::HYBRID_IOPOLL);
        it.say(format!("{}", hybrid.is_some()));
    });
}

#[test]
fn a_program_that_waits_on_a_polled_ring_lets_time_pass() {
    let sim = Sim::with_faults(
        1,
        Faults { delay: 1000, longest: Duration::from_secs(1), ..Faults::NONE },
    );
    let mut ring =
        Setup::plain(4).with(SetupFlags::IOPOLL).kernel(sim.kernel()).build().expect("a ring");
    let nop = ring.submit(annulus::op::Nop).expect("room");
    assert!(ring.wait(nop).expect("it comes").is_ok());
    assert!(sim.now() > Duration::ZERO);
    sim.check();
}

/// What an eventfd holds, if there is anything.
fn count(it: &Scene<'_>, fd: &impl AsFd) -> bool {
    it.world.read(fd.as_fd()).is_ok_and(|bytes| bytes[..8] != [0; 8])
}

#[test]
fn completions_signal_an_eventfd() {
    both("eventfd", |it| {
        let eventfd = it.world.eventfd();
        let (reader, writer) = it.world.pipe();
        let event = RegisterOp::EVENTFD;
        it.register(event, Some(&mut 9999_i32), 1);
        it.register(event, Some(&mut reader.as_raw_fd()), 1);
        it.register(event, Some(&mut eventfd.as_raw_fd()), 2);
        it.register::<i32>(event, None, 1);
        it.register::<i32>(RegisterOp::UNREGISTER_EVENTFD, None, 0);
        it.register(event, Some(&mut eventfd.as_raw_fd()), 1);
        it.register(event, Some(&mut eventfd.as_raw_fd()), 1);
        it.register(RegisterOp::EVENTFD_ASYNC, Some(&mut eventfd.as_raw_fd()), 1);
        let is_there = count(it, &eventfd);
        it.say(format!("{is_there}"));
        it.push(prep::nop());
        it.take(1);
        let is_there = count(it, &eventfd);
        it.say(format!("{is_there}"));
        let mut buf = [0_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        it.push(prep::read(reader.as_raw_fd(), addr, 8, u64::MAX));
        it.take(0);
        it.world.write(writer.as_fd(), b"bytes").expect("room");
        // Also a ring that defers its work says that there is some. When work runs that is done in
        // passing (`COOP_TASKRUN`), nobody promises.
        (0..20).for_each(|_| it.world.pause());
        if !it.flags.contains(SetupFlags::COOP_TASKRUN) {
            let is_there = count(it, &eventfd);
            it.say(format!("{is_there}"));
        }
        it.take(1);
        it.register(RegisterOp::UNREGISTER_EVENTFD, Some(&mut 0), 0);
        it.register::<i32>(RegisterOp::UNREGISTER_EVENTFD, None, 0);
        let _ = count(it, &eventfd);
        it.push(prep::nop());
        it.take(1);
        let is_there = count(it, &eventfd);
        it.say(format!("{is_there}"));
    });
}

#[test]
fn only_what_a_worker_posts_signals_an_asynchronous_eventfd() {
    both("eventfd async", |it| {
        let eventfd = it.world.eventfd();
        it.register(RegisterOp::EVENTFD_ASYNC, Some(&mut eventfd.as_raw_fd()), 1);
        it.push(prep::nop());
        it.take(1);
        let is_there = count(it, &eventfd);
        it.say(format!("{is_there}"));
        it.push(Sqe { flags: SqeFlags::ASYNC, ..prep::nop() });
        it.take(1);
        // The signal follows the completion.
        (0..20).for_each(|_| it.world.pause());
        let is_there = count(it, &eventfd);
        it.say(format!("{is_there}"));
    });
}

#[test]
fn a_read_of_an_eventfd_ends_when_its_ring_signals_it() {
    both("eventfd read", |it| {
        let eventfd = it.world.eventfd();
        let Some(mut other) = it.world.setup(4, SetupFlags::empty()) else { return };
        register(it, other.base(), RegisterOp::EVENTFD, Some(&mut eventfd.as_raw_fd()), 1);
        let mut buf = [0_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        it.push(prep::read(eventfd.as_raw_fd(), addr, 8, 0));
        it.take(0);
        run(it, &mut other, prep::nop());
        it.take(1);
        it.say(format!("{buf:?}"));
    });
}

#[test]
fn the_clock_of_waits_is_one_of_two() {
    both("clock", |it| {
        for (clockid, resv, count) in
            [(1, 0, 0), (7, 0, 0), (0, 0, 0), (4, 0, 0), (1, 1, 0), (1, 0, 1)]
        {
            let mut clock = ClockRegister { clockid, resv: [0, resv, 0] };
            it.register(RegisterOp::CLOCK, Some(&mut clock), count);
        }
        it.register::<ClockRegister>(RegisterOp::CLOCK, None, 0);
        let Some(ring) = it.world.setup(4, SetupFlags::empty()) else { return };
        // A point in time that has passed.
        let timeout = Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        let ext = ExtArg { timeout, ..ExtArg::default() };
        let flags = WAITS | EnterFlags::ABS_TIMER;
        enter(it, ring.base(), 1, flags, EnterArg::Ext(ext));
        let timeout = Some(Timespec { tv_sec: -1, tv_nsec: 0 });
        let ext = ExtArg { timeout, ..ExtArg::default() };
        enter(it, ring.base(), 1, WAITS, EnterArg::Ext(ext));
        enter(it, ring.base(), 1, EnterFlags::empty(), EnterArg::Ext(ext));
    });
}

/// Whole pages, with one argument of a wait.
#[repr(C, align(4096))]
struct Page([RegWait; 64]);

#[test]
fn a_region_has_arguments_of_waits() {
    both("region", |it| {
        let Some(disabled) = it.world.setup_disabled(4, it.flags) else { return };
        let base = Arc::clone(disabled.rings().base());
        let mut page = Box::new(Page([RegWait::default(); 64]));
        let ts = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        page.0[1] = RegWait { ts, flags: RegWaitFlags::TS, ..RegWait::default() };
        page.0[2] = RegWait { flags: RegWaitFlags::from_bits_retain(2), ..RegWait::default() };
        let user_addr = (&raw mut *page).expose_provenance() as u64;
        let flags = RegionDescFlags::TYPE_USER;
        let good = RegionDesc { user_addr, size: 4096, flags, ..RegionDesc::default() };
        let waits = MemRegionFlags::REG_WAIT_ARG;
        let ask = |it: &mut Scene<'_>, desc: RegionDesc, flags: MemRegionFlags| {
            let mut desc = desc;
            let region_uptr = (&raw mut desc).expose_provenance() as u64;
            let mut reg = MemRegionReg { region_uptr, flags, ..MemRegionReg::default() };
            register(it, &base, RegisterOp::MEM_REGION, Some(&mut reg), 1);
        };
        for bad in [
            RegionDesc { size: 0, ..good },
            RegionDesc { size: 100, ..good },
            RegionDesc { user_addr: user_addr + 8, ..good },
            RegionDesc { user_addr: 0, ..good },
            RegionDesc { user_addr: 4096, ..good },
            RegionDesc { flags: RegionDescFlags::empty(), ..good },
            RegionDesc { flags: RegionDescFlags::from_bits_retain(4), ..good },
            RegionDesc { id: 1, ..good },
            RegionDesc { mmap_offset: 4096, ..good },
            RegionDesc { size: 1 << 50, ..good },
            RegionDesc { resv: [0, 0, 0, 1], ..good },
        ] {
            ask(it, bad, waits);
        }
        ask(it, good, MemRegionFlags::from_bits_retain(2));
        ask(it, good, waits);
        ask(it, good, waits);
        let mut ring = disabled.enable_raw().expect("it is disabled");
        for offset in [64, 128, 4096, 4040, 4, 60] {
            enter(it, &base, 1, WAITS, EnterArg::Registered(offset));
        }
        // Nothing reads it.
        enter(it, &base, 0, EnterFlags::empty(), EnterArg::Registered(4096));
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push(prep::nop()) }.expect("room");
        ring.flush();
        let arg = EnterArg::Registered(4096);
        // SAFETY: a NOP points to nothing (OP1).
        let result = unsafe { base.kernel().enter(base.fd().by_ref(), 1, 1, WAITS, arg) };
        it.say(format!("{:?}", result.map_err(|errno| errno.raw())));
        // The scene's ring was never disabled, and has none.
        let mut desc = good;
        let region_uptr = (&raw mut desc).expose_provenance() as u64;
        let mut reg = MemRegionReg { region_uptr, flags: waits, ..MemRegionReg::default() };
        it.register(RegisterOp::MEM_REGION, Some(&mut reg), 1);
        reg.flags = MemRegionFlags::empty();
        it.register(RegisterOp::MEM_REGION, Some(&mut reg), 1);
        // The kernel may read it as long as the rings are open (RG1).
        std::mem::forget(page);
    });
}

#[test]
fn a_region_of_the_kernels_is_mapped_and_a_safe_ring_waits_by_it() {
    for memory in [RingMemory::User, RingMemory::Kernel] {
        let sim = Sim::new(1);
        let mut disabled = Setup::new(4).kernel(sim.kernel()).build_disabled().expect("a ring");
        let mut region = disabled.register_wait_region(2, memory).expect("memory");
        let slot = region.slot(1).expect("the second");
        region.set(slot, Some(Duration::from_secs(3600)), None);
        let mut ring = disabled.enable_raw().map_err(|(_, errno)| errno).expect("it is disabled");
        let waited = ring.enter(0, 1, EnterFlags::GETEVENTS, region.arg(slot));
        assert!(waited.is_err_and(|errno| errno.is(libc::ETIME)));
        assert_eq!(sim.now(), Duration::from_secs(3600));
        drop(ring);
        sim.check();
    }
}
