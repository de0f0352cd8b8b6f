//! No ring: each way in which the kernel or the administrator refuses one, and the error for it.
//!
//! A process cannot undo a filter, a limit or a change of user, so tests of these run in a child
//! process.
#![allow(unsafe_code, reason = "sets filters and limits, and attaches to a ring")]

use std::time::Duration;

use annulus::setup::setup_error::{Filter, FlagName};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{Features, SetupFlags};
use annulus::sys::kernel::Kernel;
use annulus::sys::map::{Pages, huge_page_size};
use annulus::sys::rings::{Attached, Request, Rings, SetupFailure};
use annulus::{Capabilities, EnterCause, RawRing, Setup, SetupError};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    Need, Part, child_succeeds, drain_user_data, here, is_root, nop, patient, push, ring, test,
    turned_off,
};

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[
    ("a filter says EPERM", filtered_with_eperm),
    ("a filter says ENOSYS", filtered_with_enosys),
    ("a filter refuses to register", filtered_register),
    ("a filter refuses to enter", filtered_enter),
    ("little memory may be locked", limits::little_locked_memory),
    ("no descriptor is left", limits::no_descriptor_left),
    ("few addresses may be used", limits::few_addresses),
];

#[path = "denied/limits.rs"]
mod limits;

/// The tests.
pub fn tests() -> Vec<Trial> {
    [refused(), limits::tests()].into_iter().flatten().collect()
}

fn refused() -> Vec<Trial> {
    vec![
        test("a_seccomp_filter_is_named_with_its_remedy", &[Need::Other(turned_on)], || {
            child_succeeds("a filter says EPERM")
        }),
        test("a_seccomp_filter_that_hides_io_uring_is_suspected", &[], || {
            child_succeeds("a filter says ENOSYS")
        }),
        test("a_filter_of_register_calls_is_named_and_nothing_guessed", &ON, || {
            child_succeeds("a filter refuses to register")
        }),
        test("a_filter_of_enters_is_named", &ON, || child_succeeds("a filter refuses to enter")),
        test("a_polling_threads_cpu_that_there_is_not_is_named", &POLLS, no_such_cpu),
        test("io_uring_disabled_2_is_named", &[Need::TurnedOff(2)], || turned_off_for_us(2)),
        test("io_uring_disabled_1_is_named", &[Need::TurnedOff(1), Need::User], || {
            turned_off_for_us(1)
        }),
        test("io_uring_disabled_1_spares_root", &[Need::TurnedOff(1), Need::Root], spares_root),
        test("a_flag_this_kernel_lacks_is_named_with_its_release", &[], lacking_flags),
        test("a_flag_nobody_knows_is_shown_in_bits", &[], unknown_flag),
        test("we_refuse_exactly_the_flags_the_kernel_refuses", &[], flags_agree),
        test("we_refuse_exactly_the_sizes_the_kernel_refuses", &[], sizes_agree),
        test("the_ring_has_the_sizes_it_reports", &[], real_sizes),
        test("without_huge_pages_the_error_says_so", &NO_HUGE_PAGES, no_huge_pages),
        test("own_pages_work_or_are_called_scattered", &OWN_MEMORY, own_pages),
    ]
}

const ON: [Need; 1] = [Need::Other(turned_on)];
const POLLS: [Need; 1] = [Need::Setup(SetupFlags::SQPOLL)];
const OWN_MEMORY: [Need; 1] = [Need::Setup(SetupFlags::NO_MMAP)];
const NO_HUGE_PAGES: [Need; 2] = [Need::Setup(SetupFlags::NO_MMAP), Need::Other(empty_pool)];

fn turned_on() -> Option<String> {
    (turned_off() != 0).then(|| "needs kernel.io_uring_disabled = 0".to_owned())
}

fn empty_pool() -> Option<String> {
    let pages = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    (pages.trim() != "0").then(|| "needs vm.nr_hugepages = 0".to_owned())
}

/// Lets a filter answer `io_uring_setup(2)` with `errno` in this process, from now on.
fn filter_setup(errno: u32) {
    filter(libc::SYS_io_uring_setup, errno);
}

/// Lets a filter answer the system call `number` with `errno` in this process, from now on.
fn filter(number: libc::c_long, errno: u32) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let setup = u32::try_from(number).expect("a small number");
    let mut steps = [
        step(0x20, 0, 0, 0),                               // load the number of the call
        step(0x15, 0, 1, setup),                           // skip one unless it is this
        step(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | errno), // refuse
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),         // allow
    ];
    install(&mut steps);
}

/// Puts this process under a filter, for good.
pub fn install(steps: &mut [libc::sock_filter]) {
    let len = u16::try_from(steps.len()).expect("a short program");
    let program = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
    // SAFETY: takes numbers only, because that is what this option is.
    let no_new = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(no_new, 0, "PR_SET_NO_NEW_PRIVS: {}", std::io::Error::last_os_error());
    // SAFETY: a live program of the length it says, which the kernel copies, because it must.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(installed, 0, "PR_SET_SECCOMP: {}", std::io::Error::last_os_error());
}

fn set_limit(resource: libc::__rlimit_resource_t, soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live `struct rlimit`, because it is a local.
    let got = unsafe { libc::getrlimit(resource, &raw mut limit) };
    assert_eq!(got, 0);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: `limit` is a live `struct rlimit`, because it is a local.
    let set = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(set, 0);
    limit.rlim_max
}

/// Becomes an ordinary user, if it is not one.
fn become_ordinary() {
    if is_root() {
        // SAFETY: takes no memory, because the list is empty.
        let groups = unsafe { libc::setgroups(0, std::ptr::null()) };
        assert_eq!(groups, 0);
        // SAFETY: takes a number only, because that is its signature.
        let group = unsafe { libc::setgid(65534) };
        assert_eq!(group, 0);
        // SAFETY: takes a number only, because that is its signature.
        let user = unsafe { libc::setuid(65534) };
        assert_eq!(user, 0);
    }
}

fn says(error: SetupError, errno: libc::c_int, words: &[&str]) {
    assert_eq!(std::io::Error::from(error).raw_os_error(), Some(errno), "{error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

fn filtered_with_eperm() {
    filter_setup(libc::EPERM.unsigned_abs());
    let error = Setup::new(4).build_raw().expect_err("the filter refuses");
    assert_eq!(error, SetupError::DeniedBySeccomp);
    says(error, libc::EPERM, &["seccomp", "Docker", "io_uring_setup", "fall back to epoll"]);
    assert_eq!(Setup::plain(4).build_disabled().expect_err("the filter refuses"), error);
    assert_eq!(Capabilities::detect().expect_err("the filter refuses"), error);
}

fn filtered_with_enosys() {
    filter_setup(libc::ENOSYS.unsigned_abs());
    let error = Setup::new(4).build_raw().expect_err("the filter refuses");
    assert_eq!(error, SetupError::NotSupported { filter: Filter::Present });
    says(error, libc::ENOSYS, &["ENOSYS", "seccomp", "fall back to epoll"]);
    assert_eq!(Capabilities::detect().expect_err("the filter refuses"), error);
}

fn filtered_register() {
    filter(libc::SYS_io_uring_register, libc::EPERM.unsigned_abs());
    let error = Capabilities::detect().expect_err("nobody can say");
    assert_eq!(error, SetupError::DeniedBySeccomp);
    says(error, libc::EPERM, &["io_uring_register", "profile"]);
    let mut ring = Setup::new(4).build().expect("rings are made and used as ever");
    let nop = ring.submit(annulus::op::Nop).expect("room");
    ring.wait(nop).expect("enters are not refused").expect("a NOP succeeds");
    let error = ring.file_table(4).expect_err("the filter refuses");
    assert_eq!(error.errno(), Errno::new(libc::EPERM));
    let text = error.to_string();
    for word in ["io_uring_register is refused", "seccomp", "profile"] {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

fn filtered_enter() {
    let mut ring = ring(Setup::plain(4));
    for errno in [libc::EPERM, libc::ENOSYS] {
        // Of two filters the later answers, where both refuse with a number.
        filter(libc::SYS_io_uring_enter, errno.unsigned_abs());
        push(&mut ring, nop(1));
        let error = ring.submit_and_wait(1).expect_err("the filter refuses");
        assert_eq!(error.cause, EnterCause::Refused(Errno::new(errno)));
        for word in ["io_uring_enter is refused", "seccomp", "profile"] {
            assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
        }
    }
}

fn no_such_cpu() -> Result<(), Failed> {
    let asked = |cpu| Setup::new(4).sqpoll_on(cpu, Duration::ZERO).build_raw().map(drop);
    for cpu in [9999, u32::MAX] {
        assert_eq!(asked(cpu), Err(SetupError::NoSuchCpu { cpu }));
        says(
            SetupError::NoSuchCpu { cpu },
            libc::EINVAL,
            &[&format!("CPU {cpu}:"), "cpuset", "`sqpoll`"],
        );
    }
    // One that this process may use is bound to.
    // SAFETY: takes nothing, because that is its signature.
    let cpu = u32::try_from(unsafe { libc::sched_getcpu() })?;
    patient(|| asked(cpu))?;
    Ok(())
}

fn turned_off_for_us(value: u32) -> Result<(), Failed> {
    let error = Setup::new(4).build_raw().expect_err("it is turned off");
    assert_eq!(error, SetupError::DisabledBySysctl { value });
    says(error, libc::EPERM, &[&format!("kernel.io_uring_disabled = {value}"), "epoll"]);
    assert_eq!(error.to_string().contains("io_uring_group"), value == 1);
    assert_eq!(Capabilities::detect().expect_err("it is turned off"), error);
    Ok(())
}

fn spares_root() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    push(&mut ring, nop(1));
    ring.submit_and_wait(1)?;
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

/// The flags that the kernel requires with `flag`.
pub fn companion(flag: SetupFlags) -> SetupFlags {
    match flag {
        SetupFlags::DEFER_TASKRUN => SetupFlags::SINGLE_ISSUER,
        SetupFlags::TASKRUN_FLAG => SetupFlags::COOP_TASKRUN,
        SetupFlags::SQ_AFF => SetupFlags::SQPOLL,
        SetupFlags::HYBRID_IOPOLL => SetupFlags::IOPOLL,
        SetupFlags::SQ_REWIND => SetupFlags::NO_SQARRAY,
        SetupFlags::REGISTERED_FD_ONLY => SetupFlags::NO_MMAP,
        _ => SetupFlags::empty(),
    }
}

fn lacking_flags() -> Result<(), Failed> {
    for (name, flag) in (SetupFlags::all() - here().setup_flags()).iter_names() {
        let flags = flag | companion(flag);
        // Of several that are lacking, the oldest is named.
        let lacking = flags - here().setup_flags();
        let (oldest, named) = lacking.iter_names().next().expect("at least one");
        let since = named.since().expect("a release");
        let with = |setup: Setup<'static>| {
            let owns = flags.contains(SetupFlags::NO_MMAP);
            let setup = setup.with(flags);
            if owns { setup.own_memory(Pages::Ordinary) } else { setup }
        };
        let error = with(Setup::plain(4)).build_raw().expect_err(name);
        assert_eq!(error, SetupError::Unsupported { flag: FlagName(named), since });
        says(
            error,
            libc::EINVAL,
            &[&format!("IORING_SETUP_{oldest}"), &format!("needs Linux {since}")],
        );
        // A flag that was asked for by name is not dropped, whatever other fallback there is.
        assert!(with(Setup::new(4)).build_raw().is_err(), "{name}");
    }
    Ok(())
}

fn unknown_flag() -> Result<(), Failed> {
    let unknown = SetupFlags::from_bits_retain(1 << 31);
    let error = Setup::plain(4).with(unknown).build_raw().expect_err("nobody knows it");
    let since = "later than 7.3";
    assert_eq!(error, SetupError::Unsupported { flag: FlagName(unknown), since });
    says(error, libc::EINVAL, &["0x80000000", "this kernel does not know"]);
    Ok(())
}

/// The outcome of asking for a ring.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Made,
    Invalid,
    Otherwise(String),
}

/// What the crate answers to `flags`, and what the kernel answers when asked directly.
struct Asker {
    /// Rings to attach to: one with a polling thread, one without.
    polled: RawRing,
    plain: RawRing,
}

impl Asker {
    fn new() -> Self {
        let polled = ring(Setup::plain(1).with(SetupFlags::SQPOLL));
        Self { polled, plain: ring(Setup::plain(1)) }
    }

    fn other(&self, flags: SetupFlags) -> &RawRing {
        if flags.contains(SetupFlags::SQPOLL) { &self.polled } else { &self.plain }
    }

    fn we_say(&self, flags: SetupFlags) -> Answer {
        let by_method = SetupFlags::CQSIZE | SetupFlags::ATTACH_WQ | SetupFlags::R_DISABLED;
        let mut setup = Setup::plain(4).with(flags - by_method);
        if flags.contains(SetupFlags::CQSIZE) {
            setup = setup.cq_entries(16);
        }
        if flags.contains(SetupFlags::NO_MMAP) {
            setup = setup.own_memory(Pages::Ordinary);
        }
        if flags.contains(SetupFlags::ATTACH_WQ) {
            let other = self.other(flags).fd().expect("it has one");
            // SAFETY: both rings are the test's, and it reckons with their fate, because it only
            // makes them.
            setup = unsafe { setup.attach(other) };
        }
        let made = || {
            if flags.contains(SetupFlags::R_DISABLED) {
                setup.build_disabled().map(drop)
            } else {
                setup.build_raw().map(drop)
            }
        };
        match patient(made) {
            Ok(()) => Answer::Made,
            Err(SetupError::Invalid { .. }) => Answer::Invalid,
            Err(error) => Answer::Otherwise(error.to_string()),
        }
    }

    fn kernel_says(&self, flags: SetupFlags) -> Answer {
        let mut request = Request::new(4);
        request.flags = flags - SetupFlags::CQSIZE - SetupFlags::ATTACH_WQ;
        request.cq_entries = flags.contains(SetupFlags::CQSIZE).then_some(16);
        if flags.contains(SetupFlags::ATTACH_WQ) {
            // SAFETY: both are made here, and only to see that the kernel makes them.
            request.attach = self.other(flags).fd().map(|fd| unsafe { Attached::to(fd) });
        }
        ask(&request)
    }
}

/// Asks the kernel, with nothing between.
fn ask(request: &Request<'_>) -> Answer {
    let asked = || match Rings::setup(&Kernel::LINUX, request) {
        Err(SetupFailure::Setup(errno)) if errno.is(libc::ENOMEM) => {
            Err(SetupError::OutOfMemory { needed: 0 })
        }
        other => Ok(other),
    };
    match patient(asked) {
        Ok(Ok(rings)) => {
            if !request.flags.contains(SetupFlags::SQPOLL) {
                // SAFETY: nothing was submitted and no thread polls, so nothing is in flight (RG1).
                unsafe { rings.found_idle() };
            }
            Answer::Made
        }
        Ok(Err(SetupFailure::Setup(errno))) if errno.is(libc::EINVAL) => Answer::Invalid,
        Ok(Err(failure)) => Answer::Otherwise(format!("{failure:?}")),
        Err(error) => Answer::Otherwise(error.to_string()),
    }
}

/// Every pair of flags that this kernel knows, bare and with the flags that each of the two
/// requires.
fn flags_agree() -> Result<(), Failed> {
    let asker = Asker::new();
    let known: Vec<_> = here().setup_flags().iter_names().map(|(_, flag)| flag).collect();
    let mut disagreements = Vec::new();
    for (at, &one) in known.iter().enumerate() {
        for &other in &known[at..] {
            let pair = one | other;
            let both = pair | companion(one) | companion(other);
            for flags in if both == pair { vec![pair] } else { vec![pair, both] } {
                let (ours, theirs) = (asker.we_say(flags), asker.kernel_says(flags));
                // The pair that we refuse and the kernel does not: its index names another ring on
                // the thread that would enable it.
                let stray = SetupFlags::R_DISABLED | SetupFlags::REGISTERED_FD_ONLY;
                let by_choice = flags.contains(stray) && ours == Answer::Invalid;
                if ours != theirs && !by_choice {
                    disagreements.push(format!("{flags:?}: we {ours:?}, the kernel {theirs:?}"));
                }
            }
        }
    }
    assert!(disagreements.is_empty(), "{disagreements:#?}");
    Ok(())
}

fn sizes_agree() -> Result<(), Failed> {
    let clamp = SetupFlags::CLAMP;
    let none = SetupFlags::empty();
    let sizes = [
        (0, None, none, None),
        (0, None, clamp, None),
        (1, None, none, Some((1, 2))),
        (3, None, none, Some((4, 8))),
        (4, Some(0), none, None),
        (4, Some(0), clamp, None),
        (4, Some(2), none, None),
        (4, Some(3), none, Some((4, 4))),
        (5, Some(5), none, Some((8, 8))),
        (5, Some(100), none, Some((8, 128))),
        (32769, None, none, None),
        (40000, None, none, None),
        (4, Some(65537), none, None),
        (4, Some(65537), clamp, Some((4, 65536))),
        (u32::MAX, Some(u32::MAX), none, None),
    ];
    for (entries, cq_entries, flags, wanted) in sizes {
        let mut setup = Setup::plain(entries).with(flags);
        if let Some(cq_entries) = cq_entries {
            setup = setup.cq_entries(cq_entries);
        }
        let ours = patient(|| setup.build_raw());
        let request = Request { cq_entries, flags, ..Request::new(entries) };
        let asked = format!("{entries} entries, {cq_entries:?} completions, {flags:?}");
        match wanted {
            None => {
                assert!(matches!(ours, Err(SetupError::Invalid { .. })), "{asked}: {ours:?}");
                assert_eq!(ask(&request), Answer::Invalid, "{asked}");
            }
            Some(sizes) => {
                let ring = ours.map_err(|error| format!("{asked}: {error}"))?;
                assert_eq!((ring.sq_entries(), ring.cq_entries()), sizes, "{asked}");
                drop(ring);
                assert_eq!(ask(&request), Answer::Made, "{asked}");
            }
        }
    }
    Ok(())
}

/// As many entries fit as the ring reports, and as many completions.
fn real_sizes() -> Result<(), Failed> {
    for entries in [1, 2, 3, 7, 16, 33] {
        let mut ring = ring(Setup::new(entries));
        let count = ring.sq_entries();
        assert_eq!(count, entries.next_power_of_two());
        assert_eq!((ring.cq_entries(), ring.room()), (2 * count, count));
        for lap in 0..2 {
            for at in 0..count {
                push(&mut ring, nop(u64::from(lap * count + at)));
            }
            assert_eq!(ring.room(), 0);
            assert_eq!(ring.submit()?, count);
        }
        assert_eq!(ring.ready(), ring.cq_entries());
        let words: Vec<u64> = (0..u64::from(2 * count)).collect();
        assert_eq!(drain_user_data(&mut ring), words);
        assert_eq!((ring.stats().overflows, ring.lost()), (0, 0));
    }
    Ok(())
}

fn no_huge_pages() -> Result<(), Failed> {
    let error = Setup::plain(4).own_memory(Pages::Huge).build_raw().expect_err("the pool is empty");
    let size = huge_page_size() as u64;
    assert_eq!(error, SetupError::NoHugePages { pages: 1, size });
    says(
        error,
        libc::ENOMEM,
        &["huge page", "vm.nr_hugepages", &format!("1 of {} KiB", size >> 10)],
    );
    Ok(())
}

fn own_pages() -> Result<(), Failed> {
    let setup = Setup::plain(256).own_memory(Pages::Ordinary); // four pages of entries
    match patient(|| setup.build_raw()) {
        Ok(mut ring) => {
            push(&mut ring, nop(1));
            ring.submit_and_wait(1)?;
            assert_eq!(drain_user_data(&mut ring), [1]);
        }
        Err(error) => {
            assert_eq!(error, SetupError::ScatteredMemory);
            says(error, libc::EFAULT, &["before Linux 6.14", "huge pages"]);
            // `RW_ATTR` came with 6.14, too.
            assert!(!here().features().contains(Features::RW_ATTR), "6.14 can scatter");
        }
    }
    // What fits in a page each works everywhere.
    let mut small = ring(Setup::plain(4).own_memory(Pages::Ordinary));
    push(&mut small, nop(2));
    small.submit_and_wait(1)?;
    assert_eq!(drain_user_data(&mut small), [2]);
    Ok(())
}
