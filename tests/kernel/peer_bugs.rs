//! Bugs that were found in another binding (the `io-uring` crate, 0.7.15), each as a test here.
//!
//! ```text
//!   found there ─┬─► a test in this file, where it is about one thing
//!                └─► COVERED: the tests elsewhere that would fail if we had it
//! ```
//!
//! | found there | here |
//! |---|---|
//! | a multishot read of a registered file reads the descriptor of that number | [`fixed_is_fixed`] |
//! | an epoll takes the number of a registered file for a descriptor | [`epoll_overlooks`], and a misuse that does not compile |
//! | a signal mask has the size of the C library's, which the kernel refuses | [`COVERED`], [`masks`] |
//! | a registered ring leaks its slot among 16, and is never used | [`COVERED`], [`ring_fds`] |
//! | a submit never fetches completions that were deferred | [`COVERED`] |
//! | a forgotten view of the completions shows them again | [`COVERED`] |
//! | a forgotten view of the submissions loses them, or uses their slots again | [`forgotten_chain`] |
//! | a ring whose poller has made room still looks full | [`COVERED`] |
//! | an entry that was pushed is freed after a submit that failed | [`COVERED`] |
//! | a length is cut to 32 bits | [`COVERED`] |
//! | a submit of nothing is a system call | [`COVERED`] |
//! | a message cannot go to a ring that is registered as a file | no kernel can: [`message_to_registered`] |
//! | a forked child shares the ring | [`COVERED`] |
//! | `Send` and `Sync` without conditions; descriptors as numbers; buffers without an owner | the programs in `tests/misuse` |
//! | references to fields of size zero; bindings that do not build | nothing here has such fields, and no bindings are generated |
//!
//! Leaves to others: bugs of network operations (`safe_sockets`) and of advice (`safe_files`).
#![allow(unsafe_code, reason = "makes epolls, and forgets what it pushed")]

use std::collections::BTreeSet;
use std::io::{PipeReader, Write as _, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use annulus::op::{Read, ReadMulti};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{Features, SqeFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Setup, SignalMask, WaitOptions, Woken, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain_user_data, nop, push, read_byte, ring, safe_ring, test};

/// A bug that was found there, and the tests here that would fail.
const COVERED: &[(&str, &[&str])] = &[
    ("sigmask", &["a_signal_mask_is_eight_bytes", "a_signal_that_the_mask_lets_in_ends_a_wait"]),
    (
        "ring fds",
        &[
            "a_registered_ring_is_entered_by_its_index",
            "a_dropped_ring_gives_its_index_back",
            "an_index_is_the_threads_own",
        ],
    ),
    (
        "deferred task work",
        &[
            "cq5_a_drain_finds_what_completed_meanwhile_deferring",
            "cq5_a_peek_finds_what_completed_meanwhile_deferring",
            "a_deferred_nop_is_done_when_the_ring_is_entered",
        ],
    ),
    (
        "completions shown again",
        &[
            "an_unwinding_drain_has_taken_what_it_saw",
            "op2_a_completion_is_not_taken_twice",
            "a_panic_while_reaping_loses_and_repeats_nothing",
        ],
    ),
    (
        "submissions lost",
        &["sq3_an_unwinding_fill_pushes_nothing", "a_dropped_chain_was_never_pushed"],
    ),
    ("a full ring that is not", &["sq4_a_full_ring_waits_for_the_poller"]),
    (
        "freed after a failed submit",
        &[
            "op1_a_detached_operation_keeps_its_buffer_until_it_ends",
            "rg1_a_ring_that_may_not_wait_leaks_what_the_kernel_has",
            "rg1_no_buffer_is_written_after_it_came_back",
        ],
    ),
    ("lengths", &["more_than_one_operation_can_move_is_written"]),
    ("empty submits", &["an_idle_ring_makes_no_system_call_at_once"]),
    ("forks", &["a_forked_child_that_touches_the_ring_finds_nothing_and_changes_nothing"]),
];

/// Since Linux 5.19, as tables that the kernel fills.
const TABLES: Need = Need::Op(Opcode::SOCKET);
const MULTI: Need = Need::Op(Opcode::READ_MULTISHOT);
const CTL: Need = Need::Op(Opcode::EPOLL_CTL);
const RING_FDS: Need = Need::Register(RegisterOp::RING_FDS);
const BOUNDED: Need = Need::Feature(Features::EXT_ARG);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("what_covers_a_bug_of_others_is_there", &[], covered),
        test("a_registered_file_is_no_descriptor_for_a_read", &[TABLES], fixed_read),
        test("a_registered_file_is_no_descriptor_for_a_multishot_read", &[TABLES, MULTI], || {
            fixed_is_fixed()
        }),
        test("epoll_overlooks_that_a_file_is_registered", &[CTL], epoll_overlooks),
        test("a_signal_mask_is_passed_with_a_timeout", &[BOUNDED], masks),
        test(
            "a_registered_ring_is_registered_once_however_often_it_is_used",
            &[RING_FDS],
            ring_fds,
        ),
        test("a_forgotten_chain_loses_nothing_else", &[], forgotten_chain),
        test("a_ring_is_no_registered_file", &[], message_to_registered),
    ]
}

fn covered() -> Result<(), Failed> {
    let modules = [
        crate::completions::tests(),
        crate::forks::tests(),
        crate::notify::tests(),
        crate::options::tests(),
        crate::processes::tests(),
        crate::safe_core::tests(),
        crate::safe_end::tests(),
        crate::safe_files::tests(),
        crate::safe_processes::tests(),
        crate::sqpoll::tests(),
        crate::submission::tests(),
        crate::waiting::tests(),
    ];
    let names: BTreeSet<String> =
        modules.iter().flatten().map(|trial| trial.name().to_owned()).collect();
    for (bug, tests) in COVERED {
        for test in *tests {
            assert!(names.contains(*test), "{bug}: there is no test {test}");
        }
    }
    Ok(())
}

/// A slot in a table of files whose number is also that of a descriptor, `trap`. Also returns the
/// files that fill the slots before it.
fn same_number(
    ring: &mut annulus::Ring,
    file: &PipeReader,
    trap: &PipeReader,
) -> Result<(annulus::lease::FixedFile, Vec<annulus::lease::FixedFile>), Failed> {
    let number = usize::try_from(trap.as_raw_fd())?;
    let table = ring.file_table(u32::try_from(number + 1)?)?;
    let before = (0..number).map(|_| table.insert(ring, file)).collect::<Result<Vec<_>, _>>()?;
    // The last place that is free.
    Ok((table.insert(ring, file)?, before))
}

fn fixed_read() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8));
    let ((reader, mut writer), (trap, mut bait)) = (pipe()?, pipe()?);
    let (fixed, _before) = same_number(&mut ring, &reader, &trap)?;
    writer.write_all(b"right")?;
    bait.write_all(b"wrong")?;
    let read = ring.submit(Read::new(fixed, [0; 5])).map_err(|rejected| rejected.why)?;
    assert_eq!(&ring.wait(read)?.buf, b"right");
    Ok(())
}

fn fixed_is_fixed() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8));
    let ((reader, mut writer), (trap, mut bait)) = (pipe()?, pipe()?);
    let (fixed, _before) = same_number(&mut ring, &reader, &trap)?;
    let buffers = ring.buf_ring(4, 16)?;
    writer.write_all(b"right")?;
    bait.write_all(b"wrong")?;
    let read = ring.submit(ReadMulti::new(fixed, &buffers)).map_err(|rejected| rejected.why)?;
    let first = ring.next(&read)?.ok_or("it goes on")?;
    assert_eq!(&first?[..], b"right");
    ring.cancel(&read)?;
    Ok(())
}

fn epoll() -> OwnedFd {
    // SAFETY: takes a number only, because that is its signature.
    let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(number >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor, which nothing else owns, because that is what success means.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The kernel looks both files up among descriptors, whatever the entry's flags say. So our
/// operation takes no registered file: see `misuse/epoll_of_a_registered_file.rs`.
fn epoll_overlooks() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(8));
    let (epoll, (reader, _writer)) = (epoll(), pipe()?);
    let event = Box::leak(Box::new(libc::epoll_event { events: 1, u64: 7 }));
    let event = std::ptr::from_mut(event).expose_provenance() as u64;
    let add = libc::EPOLL_CTL_ADD.cast_unsigned();
    let sqe = prep::epoll_ctl(epoll.as_raw_fd(), reader.as_raw_fd(), add, event);
    for result in [0, -libc::EEXIST] {
        push(&mut ring, Sqe { flags: SqeFlags::FIXED_FILE, ..sqe });
        ring.submit_and_wait(1)?;
        assert_eq!(ring.pop().map(|cqe| cqe.res), Some(result), "nothing is registered");
    }
    Ok(())
}

fn masks() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (from, _to) = pipe()?;
    push(&mut ring, read_byte(&from, 1));
    ring.submit()?;
    for mask in [SignalMask::none(), SignalMask::current(), SignalMask::all()] {
        let options = WaitOptions::at_most(std::time::Duration::from_millis(1)).signals(mask);
        assert_eq!(ring.wait_with(1, &options), Ok(Woken::TimedOut));
    }
    Ok(())
}

fn ring_fds() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    for lap in 0..40 {
        let registered = ring.register_ring_fd();
        let once = matches!(&registered, Err(errno) if errno.is(libc::EEXIST));
        assert!(registered.is_ok() || once, "{registered:?}");
        push(&mut ring, nop(lap));
        ring.submit_and_wait(1)?;
        assert_eq!(drain_user_data(&mut ring), [lap]);
        if lap % 2 == 1 {
            ring.unregister_ring_fd()?;
        }
    }
    Ok(())
}

fn forgotten_chain() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    for lap in 0..10 {
        push(&mut ring, nop(1));
        let mut chain = ring.reserve(3)?;
        for _ in 0..3 {
            // SAFETY: it is never committed, and points to nothing (OP1).
            unsafe { chain.push(nop(99)) }?;
        }
        // Dropping it does nothing, so leaving the drop out does no harm.
        assert!(!std::mem::needs_drop::<annulus::raw::chain::Chain<'_>>());
        push(&mut ring, nop(2));
        ring.submit_and_wait(2)?;
        assert_eq!(drain_user_data(&mut ring), [1, 2], "lap {lap}");
        assert_eq!((ring.in_flight(), ring.room()), (0, 4));
    }
    Ok(())
}

/// No kernel takes a ring for a registered file: so a message names a ring by its descriptor only.
fn message_to_registered() -> Result<(), Failed> {
    let (from, to) = (ring(Setup::new(4)), ring(Setup::new(4)));
    let mut fds = [to.fd().ok_or("it has one")?.as_raw_fd()];
    // SAFETY: one live descriptor, which the kernel reads and does not keep, because it takes a
    // reference to the file.
    let refused = unsafe { from.base().register(RegisterOp::FILES, fds.as_mut_ptr().cast(), 1) };
    assert!(refused.is_err_and(|errno| errno.is(libc::EBADF)), "{refused:?}");
    Ok(())
}
