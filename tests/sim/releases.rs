//! Kernels like older releases: what each lacks is refused, and what it does otherwise.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use annulus::prep;
use annulus::sim::{Release, Sim};
use annulus::sys::abi::{Params, Sqe};
use annulus::sys::abi_register::{Probe, ProbeOp};
use annulus::sys::flags::{
    AcceptFlags, Features, FsyncFlags, MsgRingFlags, NopFlags, PollFlags, RecvSendFlags,
    SetupFlags, SqeFlags,
};
use annulus::sys::flags_register::ProbeOpFlags;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{EnterCause, RawRing, Setup};

use super::scenarios::encoded;
use super::scene::at;

const RELEASES: [Release; 5] =
    [Release::V5_10, Release::V6_1, Release::V6_12, Release::V6_18, Release::NEWEST];

fn ring(sim: &Sim, entries: u32) -> RawRing {
    Setup::plain(entries).kernel(sim.kernel()).build_raw().expect("a ring")
}

/// What becomes of one entry.
fn result(ring: &mut RawRing, sqe: Sqe) -> i32 {
    // SAFETY: the entries of these tests point to nothing (OP1).
    unsafe { ring.push(sqe) }.expect("room");
    ring.submit().expect("no fault");
    ring.get_events().expect("no fault");
    ring.pop().expect("it is there").res
}

/// In which of the releases something is accepted.
fn accepted(asks: impl Fn(&Sim) -> bool) -> [bool; 5] {
    RELEASES.map(|release| asks(&Sim::new(1).like(release)))
}

#[test]
fn set_up_flags_are_there_from_their_release_on() {
    let accepts = |flags: SetupFlags| {
        accepted(move |sim| {
            let mut params = Params { flags, ..Params::default() };
            // SAFETY: no memory of the program's is named, and the ring is closed at once.
            unsafe { sim.kernel().setup(4, &mut params) }.is_ok()
        })
    };
    let (no, yes) = (false, true);
    assert_eq!(accepts(SetupFlags::SQPOLL), [yes; 5]);
    assert_eq!(accepts(SetupFlags::SUBMIT_ALL), [no, yes, yes, yes, yes]);
    assert_eq!(
        accepts(SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN),
        [no, yes, yes, yes, yes]
    );
    assert_eq!(accepts(SetupFlags::NO_SQARRAY), [no, no, yes, yes, yes]);
    assert_eq!(accepts(SetupFlags::CQE_MIXED), [no, no, no, yes, yes]);
    assert_eq!(accepts(SetupFlags::SQE_MIXED), [no, no, no, no, yes]);
}

#[test]
fn features_operations_and_calls_are_there_from_their_release_on() {
    let (no, yes) = (false, true);
    let reports = |feature| accepted(|sim| ring(sim, 4).features().contains(feature));
    assert_eq!(reports(Features::FAST_POLL), [yes; 5]);
    assert_eq!(reports(Features::EXT_ARG), [no, yes, yes, yes, yes]);
    assert_eq!(reports(Features::MIN_TIMEOUT), [no, no, yes, yes, yes]);
    let runs = |sqe: Sqe| accepted(|sim| result(&mut ring(sim, 4), sqe) != -libc::EINVAL);
    assert_eq!(runs(prep::nop()), [yes; 5]);
    assert_eq!(runs(prep::socket(2, 1, 0)), [no, yes, yes, yes, yes]);
    let injects = prep::nop_with(NopFlags::INJECT_RESULT, 1, -1, 0);
    assert_eq!(runs(injects), [no, no, yes, yes, yes]);
    let update = prep::poll_update(9, 0, 1, PollFlags::UPDATE_EVENTS);
    assert_eq!(runs(update), [no, yes, yes, yes, yes]);
    assert_eq!(runs(prep::splice(-1, 0, -1, 0, 1, 0)), [yes; 5]);
    assert_eq!(runs(prep::ftruncate(-1, 0)), [no, no, yes, yes, yes]);
    let send = prep::send(-1, 0, 0, 0, RecvSendFlags::empty());
    assert_eq!(runs(send), [yes; 5]);
    let bundle =
        Sqe { flags: SqeFlags::BUFFER_SELECT, ioprio: RecvSendFlags::BUNDLE.bits(), ..send };
    assert_eq!(runs(bundle), [yes, no, yes, yes, yes]); // 5.10 does not see that it asks for one.
    let limits = |sim: &Sim| {
        let mut limits = [0_u32; 2];
        let (op, arg) = (RegisterOp::IOWQ_MAX_WORKERS, (&raw mut limits).cast());
        // SAFETY: two live numbers, which the kernel copies and does not keep, so they may go.
        unsafe { ring(sim, 4).base().register(op, arg, 2) }.is_ok()
    };
    assert_eq!(accepted(limits), [no, yes, yes, yes, yes]);
}

#[test]
fn what_a_release_does_not_know_is_refused_or_not_even_read() {
    let (bad, odd, not) = (-libc::EBADF, -libc::EINVAL, -libc::EOPNOTSUPP);
    let releases = [(5, 10), (5, 17), (5, 18), (5, 19), (6, 0), (6, 1), (6, 10)];
    let results = |sqe: Sqe| {
        releases.map(|(major, minor)| {
            let sim = Sim::new(1).like(Release::new(major, minor));
            result(&mut ring(&sim, 4), sqe)
        })
    };
    // The descriptor is none, so that is what is told of an entry that is not refused.
    let send = prep::send(-1, 0, 0, 0, RecvSendFlags::empty());
    let selects = Sqe { flags: SqeFlags::BUFFER_SELECT, ..send };
    assert_eq!(results(selects), [not, not, not, not, not, not, bad]);
    let first = prep::send(-1, 0, 0, 0, RecvSendFlags::POLL_FIRST);
    assert_eq!(results(first), [bad; 7]);
    let recv = |flags| prep::recv(-1, 0, 0, 0, flags);
    assert_eq!(results(recv(RecvSendFlags::POLL_FIRST)), [bad; 7]);
    let bundle = Sqe { flags: SqeFlags::BUFFER_SELECT, ..recv(RecvSendFlags::BUNDLE) };
    assert_eq!(results(bundle), [bad, bad, bad, odd, odd, odd, bad]);
    let address = encoded(SocketAddr::from(([127, 0, 0, 1], 7777)));
    let sendto = Sqe { off: at(&address), file_index: 16, ..send };
    assert_eq!(results(sendto), [bad, bad, odd, odd, odd, bad, bad]);
    let pass = prep::msg_ring_fd_alloc(-1, 0, 0, MsgRingFlags::empty());
    assert_eq!(results(pass)[2..], [odd, odd, bad, bad, bad]);
}

#[test]
fn places_for_new_files_came_later_than_the_operations_that_make_them() {
    let listen = |release| {
        let sim = Sim::new(1).like(release);
        let address = SocketAddr::from(([127, 0, 0, 1], 7777));
        let listener = sim.listener(address).expect("descriptors");
        let connect = || sim.connect(address).expect("it listens");
        let _clients = [connect(), connect()];
        let accept = prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::empty());
        let results = [prep::direct(accept, 0), prep::direct_alloc(accept)].map(|sqe| {
            let result = result(&mut ring(&sim, 4), sqe);
            if result > 2 {
                // SAFETY: a new descriptor, which nothing else owns (OP3).
                drop(unsafe { OwnedFd::from_raw_fd(result) });
                return 1;
            }
            result
        });
        sim.check();
        results
    };
    // 5.10 does not read the place, and makes descriptors. There is no table.
    assert_eq!(listen(Release::V5_10), [1, 1]);
    assert_eq!(listen(Release::new(5, 15)), [-libc::ENXIO, -libc::EINVAL]);
    assert_eq!(listen(Release::new(5, 19)), [-libc::ENXIO, -libc::ENFILE]);
}

#[test]
fn a_probe_tells_what_a_release_has() {
    #[repr(C)]
    struct Arg(Probe, [ProbeOp; 128]);
    let knows = |opcode: Opcode| {
        accepted(|sim| {
            let mut arg = Arg(Probe::default(), [ProbeOp::default(); 128]);
            let at = (&raw mut arg).cast();
            // SAFETY: a live probe with room for so many, which is not kept, since it is copied.
            let asked = unsafe { ring(sim, 4).base().register(RegisterOp::PROBE, at, 128) };
            assert_eq!(asked, Ok(0));
            arg.1[usize::from(opcode.0)].flags.contains(ProbeOpFlags::SUPPORTED)
        })
    };
    assert_eq!(knows(Opcode::READ), [true; 5]);
    assert_eq!(knows(Opcode::SEND_ZC), [false, true, true, true, true]);
    assert_eq!(knows(Opcode::READV_FIXED), [false, false, false, true, true]);
}

#[test]
fn an_old_kernel_submits_nothing_while_completions_overflow() {
    for (release, is_busy) in [(Release::V5_10, true), (Release::V6_1, false)] {
        let sim = Sim::new(1).like(release);
        let mut ring = ring(&sim, 2);
        let mut last = Ok(0);
        for _ in 0..6 {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(prep::nop()) }.expect("room");
            last = ring.submit();
            if last.is_err() {
                break;
            }
        }
        let busy = last.is_err_and(|error| error.cause == EnterCause::CompletionsPending);
        assert_eq!(busy, is_busy, "{release:?}");
        let mut count = 0;
        ring.drain(|_| count += 1).expect("no fault");
        ring.submit().expect("there is room again");
        ring.drain(|_| count += 1).expect("no fault");
        assert_eq!(count, 6);
        sim.check();
    }
}

#[test]
fn a_failing_fsync_or_fallocate_breaks_its_chain_before_6_0() {
    for (release, second) in [(Release::V5_10, -libc::ECANCELED), (Release::V6_1, 0)] {
        let sim = Sim::new(1).like(release);
        let (reader, _writer) = sim.pipe().expect("descriptors");
        let mut ring = ring(&sim, 4);
        let fsync = prep::fsync(reader.as_raw_fd(), FsyncFlags::empty());
        let fallocate = prep::fallocate(reader.as_raw_fd(), 0, 0, 9);
        for (sqe, first) in [(fsync, -libc::EINVAL), (fallocate, -libc::EBADF)] {
            // SAFETY: it points to nothing (OP1).
            unsafe { ring.push(Sqe { flags: SqeFlags::IO_LINK, ..sqe }) }.expect("room");
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(Sqe { user_data: 1, ..prep::nop() }) }.expect("room");
            ring.submit_and_wait(2).expect("no fault");
            let results: Vec<i32> = std::iter::from_fn(|| ring.pop()).map(|cqe| cqe.res).collect();
            assert_eq!(results, [first, second], "{release:?}");
        }
    }
}

#[test]
fn a_wide_completion_across_the_new_wrap_refuses_a_resize_from_7_3_on() {
    let flags = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let flags = flags | SetupFlags::NO_SQARRAY | SetupFlags::CQE_MIXED;
    for (release, refused) in [(Release::V6_18, false), (Release::NEWEST, true)] {
        let sim = Sim::new(1).like(release);
        let mut ring = loop {
            let setup = Setup::plain(8).with(flags).kernel(sim.kernel());
            let ring = setup.build_raw().expect("a ring");
            if ring.positions().cq_tail.to_raw() == 0 {
                break ring;
            }
        };
        for sqe in [prep::nop(), prep::nop(), prep::nop(), prep::nop_cqe32([1, 2])] {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(sqe) }.expect("room");
        }
        ring.submit().expect("no fault");
        assert_eq!(ring.pop().map(|cqe| cqe.res), Some(0));
        assert_eq!(ring.resize(2, Some(4)).is_err(), refused, "{release:?}");
        let mut last = None;
        ring.drain_wide(|cqe| last = Some(cqe.big)).expect("no fault");
        assert_eq!(last, Some([1, 2]));
    }
}

#[test]
fn a_poll_that_is_updated_to_what_is_there_is_forgotten_by_6_1() {
    for (release, left) in [(Release::V5_10, 1), (Release::V6_1, 1), (Release::NEWEST, 0)] {
        let sim = Sim::new(1).like(release);
        let (ours, _theirs) = sim.socket_pair().expect("descriptors");
        let mut ring = ring(&sim, 4);
        let (input, output) = (libc::POLLIN.cast_unsigned(), libc::POLLOUT.cast_unsigned());
        // SAFETY: a poll points to nothing (OP1).
        unsafe { ring.push(prep::poll_add(ours.as_raw_fd(), input.into())) }.expect("room");
        ring.submit().expect("no fault");
        let update = prep::poll_update(0, 0, output.into(), PollFlags::UPDATE_EVENTS);
        let updated = result(&mut ring, Sqe { user_data: 1, ..update });
        // Linux 5.10 has no updates.
        let expected = if release == Release::V5_10 { -libc::EINVAL } else { 0 };
        assert_eq!(updated, expected, "{release:?}");
        ring.get_events().expect("no fault");
        assert_eq!(sim.report().in_flight.len(), left, "{release:?}");
    }
}
