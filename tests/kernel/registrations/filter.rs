//! Filters inspect requests, and refuse some.
#![allow(unsafe_code, reason = "gives up privileges of one thread")]

use std::thread;

use annulus::lease::RegisterError;
use annulus::raw::register::{Filter, add_task_filter};
use annulus::sys::abi::Sqe;
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Setup};
use libc::sock_filter;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, nop, patient, push, ring, test};

const FILTERS: [Need; 1] = [Need::Other(filters_nothing)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_filter_refuses_by_the_user_data_of_a_request", &FILTERS, by_user_data),
        test("a_filter_refuses_by_the_family_of_a_socket", &FILTERS, by_family),
        test("filters_add_up", &FILTERS, add_up),
        test("a_filter_denies_the_rest", &FILTERS, deny_rest),
        test("a_filter_of_a_task_judges_its_rings", &FILTERS, task),
        test("a_wrong_filter_is_refused_with_a_message", &FILTERS, wrong),
        test("a_kernel_without_filters_says_so", &[Need::Other(has_filters)], says_so),
    ]
}

/// Lets everything run.
const RUN: sock_filter = sock_filter { code: 0x06, jt: 0, jf: 0, k: 1 };
/// Refuses everything.
const REFUSE: sock_filter = sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };

/// Loads the 32 bits at `at` of the data that a filter sees.
const fn load(at: u32) -> sock_filter {
    sock_filter { code: 0x20, jt: 0, jf: 0, k: at }
}

/// Skips the next instruction unless the loaded number is `k`.
const fn unless(k: u32) -> sock_filter {
    sock_filter { code: 0x15, jt: 0, jf: 1, k }
}

/// Refuses requests whose 32 bits at `at` are `k`.
const fn refuses(at: u32, k: u32) -> [sock_filter; 4] {
    [load(at), unless(k), REFUSE, RUN]
}

fn try_it() -> Result<u8, RegisterError> {
    ring(Setup::plain(1)).add_filter(&Filter::new(Opcode::NOP, &[RUN]))
}

/// A kernel may be built without filters, so one is tried.
fn filters_nothing() -> Option<String> {
    try_it().err().map(|error| format!("needs Linux 7.0 with CONFIG_IO_URING_BPF: {error}"))
}

fn has_filters() -> Option<String> {
    try_it().is_ok().then(|| "needs a kernel without BPF_FILTER".to_owned())
}

/// The result of `sqe`.
fn result(ring: &mut RawRing, sqe: Sqe) -> i32 {
    push(ring, sqe);
    ring.submit_and_wait(1).expect("submit");
    ring.pop().expect("its completion").res
}

fn by_user_data() -> Result<(), Failed> {
    let program = refuses(0, 7);
    // Before the ring is enabled, and when it is in use.
    let mut disabled = patient(|| Setup::plain(4).build_disabled())?;
    disabled.add_filter(&Filter::new(Opcode::NOP, &program))?;
    let early = disabled.enable_raw().expect("it is new");
    let late = ring(Setup::plain(4));
    late.add_filter(&Filter::new(Opcode::NOP, &program))?;
    for mut ring in [early, late] {
        assert_eq!(result(&mut ring, nop(7)), -libc::EACCES);
        assert_eq!(result(&mut ring, nop(8)), 0);
    }
    Ok(())
}

fn socket(family: i32) -> Sqe {
    let off = libc::SOCK_STREAM.cast_unsigned().into();
    Sqe { opcode: Opcode::SOCKET, fd: family, off, ..Sqe::ZERO }
}

fn by_family() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let program = refuses(16, libc::AF_INET.cast_unsigned());
    let shown = ring.add_filter(&Filter::new(Opcode::SOCKET, &program).expecting(12))?;
    assert!(shown >= 12, "family, type, protocol: {shown}");
    assert_eq!(result(&mut ring, socket(libc::AF_INET)), -libc::EACCES);
    let made = result(&mut ring, socket(libc::AF_UNIX));
    assert!(made >= 0, "{made}");
    // SAFETY: open, and nothing else's, because the completion has just carried it.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(made) });
    Ok(())
}

fn add_up() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    ring.add_filter(&Filter::new(Opcode::NOP, &refuses(0, 1)))?;
    ring.add_filter(&Filter::new(Opcode::NOP, &refuses(0, 2)))?;
    let results = [1, 2, 3].map(|word| result(&mut ring, nop(word)));
    assert_eq!(results, [-libc::EACCES, -libc::EACCES, 0]);
    Ok(())
}

fn deny_rest() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    ring.add_filter(&Filter::new(Opcode::NOP, &[RUN]).deny_rest())?;
    assert_eq!(result(&mut ring, nop(1)), 0);
    assert_eq!(result(&mut ring, socket(libc::AF_UNIX)), -libc::EACCES);
    Ok(())
}

fn task() -> Result<(), Failed> {
    let results = thread::spawn(|| {
        // SAFETY: five numbers, because that is how `prctl` takes them.
        let given_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(given_up, 0);
        add_task_filter(&Filter::new(Opcode::NOP, &refuses(0, 7))).expect("this thread may");
        let mut ring = ring(Setup::plain(4));
        [7, 8].map(|word| result(&mut ring, nop(word)))
    });
    assert_eq!(results.join().expect("no panic"), [-libc::EACCES, 0]);
    assert_eq!(result(&mut ring(Setup::plain(4)), nop(7)), 0, "this thread is what it was");
    Ok(())
}

fn wrong() -> Result<(), Failed> {
    let ring = ring(Setup::plain(4));
    let no_end = [load(0)];
    let odd = [load(2), RUN];
    let beyond = [load(4096), RUN];
    let programs: [&[sock_filter]; 4] = [&[], &no_end, &odd, &beyond];
    for program in programs {
        let error = ring.add_filter(&Filter::new(Opcode::NOP, program)).expect_err("no program");
        assert!(error.to_string().contains("a filter has 1 to 4096 instructions"), "{error}");
    }
    let unknown = ring.add_filter(&Filter::new(Opcode(255), &[RUN]));
    assert!(matches!(unknown, Err(RegisterError::Invalid { .. })), "{unknown:?}");
    let filter = Filter::new(Opcode::SOCKET, &[RUN]);
    for filter in [filter.expecting(200), filter.expecting(4).strictly()] {
        let error = ring.add_filter(&filter).expect_err("it shows another number of bytes");
        assert!(error.to_string().contains("so many bytes"), "{error}");
    }
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    assert_eq!(try_it().unwrap_err().to_string(), "BPF_FILTER needs Linux 7.0");
    let error = add_task_filter(&Filter::new(Opcode::NOP, &[RUN])).unwrap_err();
    // A kernel that has the call for tasks checks privileges before it reports that it has no
    // filters.
    let privilege = matches!(error, RegisterError::Privilege { .. });
    assert!(privilege || error.to_string() == "BPF_FILTER needs Linux 7.0", "{error}");
    Ok(())
}
