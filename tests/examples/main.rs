//! The examples as a stranger runs them: what they print, and how they fail.
//!
//! Each is run as the program that cargo built next to this one. Where root could read too much, it
//! runs as uid 65534 from a folder that everyone may enter.
//!
//! ```text
//!   examples/capabilities.rs of `capabilities`
//!   examples/quickstart.rs   of `quickstart`
//!   examples/du.rs           of `du`
//!   examples/files.rs        of `04_read_file` and `05_copy`
//!   examples/inside_smol.rs  of `12_inside_smol`
//!   examples/ladder.rs       of `ladder`
//!   examples/mini_fio.rs     of `mini_fio`
//!   examples/soak.rs         of `soak`, for a few seconds
//!   examples/trees.rs        of `05_copy --recursive`
//!   examples/wait_any.rs     of `wait_any`; workers.rs, mini_make.rs, logd.rs, buffered_writes.rs
//!                            likewise
//!   examples/where_does_it_run.rs of `where_does_it_run`
//!   examples/zc_send.rs      of `zc_send`
//!   here                     of all of them, and of the others
//! ```
#![allow(unsafe_code, reason = "forbids io_uring to a child, between fork and exec")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use annulus::raw::inspect::Positions;
use annulus::sys::index::{Entries, Index};

mod buffered_writes;
mod capabilities;
mod du;
mod files;
mod inside_smol;
mod ladder;
mod logd;
mod mini_fio;
mod mini_make;
#[path = "../../examples/support/picture.rs"]
mod picture;
#[path = "../support/programs.rs"]
mod programs;
mod quickstart;
#[path = "../support/served.rs"]
mod served;
mod soak;
mod trees;
mod wait_any;
mod where_does_it_run;
mod workers;
mod zc_send;

use programs::{is_too_old, program, skip};

/// The examples, and with which arguments each ends by itself; `None` if it serves until it is told
/// to stop.
const EXAMPLES: [(&str, Option<&[&str]>); 27] = [
    ("01_three_syscalls", Some(&[])),
    ("02_nop", Some(&["1000"])),
    ("03_poll_listener", Some(&[])),
    ("04_read_file", Some(&[])),
    ("05_copy", Some(&["/proc/version", "/dev/null"])),
    ("06_links_and_timeouts", Some(&[])),
    ("07_echo_server", None), // See `tests/echo/main.rs`.
    ("08_cancel", Some(&["--races", "20"])),
    ("09_sqpoll", Some(&["--requests", "320"])),
    ("10_mini_runtime", Some(&["--clients", "3"])),
    ("11_inside_tokio", Some(&["--tasks", "20", "--reads", "5"])),
    ("12_inside_smol", None), // See `inside_smol`.
    ("buffered_writes", Some(&["--writes", "3"])),
    ("du", Some(&["examples"])),
    ("get", Some(&[])), // Of URLs on stdin, of which there are none; see `tests/httpd`.
    ("httpd", None),    // See `tests/httpd`.
    ("logd", None),     // It needs Linux 6.7: see `logd`.
    ("mini_fio", Some(&["--size", "1", "--count", "100"])),
    ("mini_make", None),  // It needs Linux 6.7: see `mini_make`.
    ("mini_redis", None), // See `tests/redis`.
    ("quickstart", Some(&[])),
    ("soak", Some(&["--seconds", "1", "--seed", "1"])),
    ("wait_any", None), // It needs Linux 6.7: see `wait_any`.
    ("where_does_it_run", Some(&[])),
    ("workers", None),   // See `workers`.
    ("ws_fanout", None), // See `tests/fanout`.
    ("zc_send", Some(&["--mib", "1", "--sizes", "65536"])),
];
/// A user who may read none of our files.
const NOBODY: u32 = 65534;

fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program(name));
    command.args(arguments).stdin(Stdio::null()).output().expect("the example starts")
}

/// The output of a run that succeeds; on stderr there is nothing, since that is no terminal.
fn prints(name: &str, arguments: &[&str]) -> String {
    let page = prints_if_it_can(name, arguments);
    page.unwrap_or_else(|| panic!("{name} {arguments:?} needs a newer kernel"))
}

/// The same; of an example that says that this kernel is too old for it, `None`, and says so.
fn prints_if_it_can(name: &str, arguments: &[&str]) -> Option<String> {
    let output = run(name, arguments);
    let stderr = text(&output.stderr);
    if output.status.code() == Some(1) && is_too_old(&stderr) {
        skip(&stderr);
        return None;
    }
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{name} {arguments:?}");
    Some(text(&output.stdout))
}

/// The stderr of a run that fails.
fn fails(output: &Output, code: i32) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "stderr: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the examples print UTF-8")
}

/// The one line of `page` that begins with `label`, without it.
fn line<'a>(page: &'a str, label: &str) -> &'a str {
    let found = page.lines().filter_map(|line| line.trim().strip_prefix(label));
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), 1, "`{label}` in\n{page}");
    found[0].trim()
}

/// A folder that everybody may enter, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("annulus-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        Self(path)
    }

    /// A file of `bytes`.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file for the test");
        path.into_os_string().into_string().expect("the name is text")
    }

    /// A command that runs an example as an ordinary user, whichever user runs the tests.
    fn ordinary(&self, name: &str) -> Command {
        // Nobody may have no way to the folder where cargo built it.
        let copy = self.0.join(name);
        // By a process of its own: a child that another test starts meanwhile would inherit our
        // descriptor, and a file that is still open for writing does not start (ETXTBSY).
        let copied = Command::new("cp").arg(program(name)).arg(&copy).status();
        assert!(copied.expect("cp starts").success(), "room for a copy");
        let mut command = Command::new(copy);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.stdin(Stdio::null()).current_dir("/");
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    // SAFETY: has no preconditions, because it only tells a number.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn help_goes_to_stdout_and_names_every_option() {
    for (name, _) in EXAMPLES {
        let page = prints(name, &["--help"]);
        assert!(page.contains(&format!("\nUsage: {name} [OPTIONS]")), "{page}");
        assert!(page.contains("--stats") && page.contains("--help"), "{page}");
        assert_eq!(prints(name, &["--stats", "-h"]), page);
    }
}

#[test]
fn a_wrong_call_is_told_how_to_do_it_right() {
    for (name, _) in EXAMPLES {
        let output = run(name, &["--frobnicate"]);
        let stderr = fails(&output, 2);
        assert!(
            stderr.starts_with("error: unexpected argument '--frobnicate' found\n"),
            "{stderr}"
        );
        let lines: Vec<_> = stderr.lines().filter(|line| !line.is_empty()).collect();
        let call = format!("Usage: {name} [OPTIONS]");
        assert_eq!(lines.iter().filter(|line| line.starts_with(&call)).count(), 1, "{stderr}");
        // The error, perhaps a tip, how to call it, and where to read more.
        assert!(lines.len() <= 4, "{stderr}");
        assert_eq!(output.stdout, b"");
    }
    let wrong: [(&[&str], &str); 6] = [
        (&["nine"], "invalid value 'nine' for '[COUNT]'"),
        (&["0"], "0 is not in 1..=18446744073709551615"),
        (&["10", "20"], "unexpected argument '20' found"),
        (&["--batch"], "a value is required for '--batch <N>'"),
        (&["--batch", "-1"], "-1 is not in 1..=32768"),
        (&["--batch", "32769"], "32769 is not in 1..=32768"),
    ];
    for (arguments, what) in wrong {
        let stderr = fails(&run("02_nop", arguments), 2);
        assert!(stderr.contains(what), "{arguments:?}: {stderr}");
        assert_eq!(stderr.matches("\nUsage: 02_nop ").count(), 1, "{stderr}");
    }
    let wrong: [(&str, &[&str], &str); 10] = [
        ("quickstart", &["one", "two"], "unexpected argument 'two' found"),
        ("04_read_file", &["--depth", "1025"], "1025 is not in 1..=1024"),
        ("05_copy", &[], "not provided:\n  <SOURCE>\n  <DEST>\n"),
        ("05_copy", &["one"], "not provided:\n  <DEST>\n"),
        ("05_copy", &["one", "two", "three"], "unexpected argument 'three' found"),
        ("05_copy", &["one", "two", "--depth", "1025"], "1025 is not in 1..=1024"),
        ("05_copy", &["a", "b", "--bytes", "0"], "0 is not in 1..=18446744073709551615"),
        ("08_cancel", &["--races", "0"], "0 is not in 1..=4294967295"),
        ("09_sqpoll", &["--idle", "4294967296"], "4294967296 is not in 1..=4294967295"),
        ("10_mini_runtime", &["--clients", "32761"], "32761 is not in 1..=32760"),
    ];
    for (name, arguments, what) in wrong {
        let stderr = fails(&run(name, arguments), 2);
        assert!(stderr.contains(what), "{name} {arguments:?}: {stderr}");
        assert_eq!(stderr.matches(&format!("\nUsage: {name} ")).count(), 1, "{stderr}");
    }
}

#[test]
fn pages_are_80_columns_wide() {
    for (name, arguments) in EXAMPLES {
        let arguments = arguments.map(|arguments| [arguments, &["--stats"]].concat());
        let page = arguments.and_then(|arguments| prints_if_it_can(name, &arguments));
        let costs = page.as_ref().is_none_or(|page| page.contains(" CPU ns per operation"));
        assert!(costs, "{name} does not say what it cost: {page:?}");
        for page in page.into_iter().chain([prints(name, &["--help"])]) {
            for line in page.lines() {
                // A path is as long as it is.
                let is_path = line.trim_start().starts_with("path ");
                assert!(is_path || line.chars().count() <= 80, "{name}: {line}");
            }
            assert!(!page.contains('\x1b'), "{name} plays with the terminal");
        }
    }
}

#[test]
fn the_first_example_shows_that_the_tail_moves_at_the_flush() {
    let page = prints("01_three_syscalls", &["--stats"]);
    let steps = [
        "1 io_uring_setup(3 entries) gives descriptor",
        "sizes: 4 submission slots, 8 completion slots",
        "2 mmap:",
        "3 roles:",
        "4 push a NOP, user_data 42: the slot is written, sq.tail is still 0",
        "5 flush: sq.tail goes from 0 to 1",
        "6 io_uring_enter(submit 1, wait for 1) consumed 1: sq.head goes from 0 to 1",
        "the completion is there: cq.head 0, cq.tail 1",
        "7 pop: user_data 42, res 0; cq.head is 1",
        "8 close, munmap: mappings of a ring before 2, after 0",
        "stats: 1 enters, 1 SQEs, 1 CQEs,",
    ];
    let mut rest = page.as_str();
    for step in steps {
        let at = rest.find(step).unwrap_or_else(|| panic!("`{step}` is not next in\n{page}"));
        rest = &rest[at + step.len()..];
    }
}

#[test]
fn a_batch_of_nops_is_one_enter() {
    let page = prints("02_nop", &["1000", "--stats"]);
    // The third number, what each cost, may be too small for the clock.
    let enters: Vec<(u64, u64)> = page
        .lines()
        .filter(|line| line.split_whitespace().count() == 3)
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        })
        .collect();
    assert_eq!(enters, [(1, 1000), (8, 125), (32, 32), (128, 8)], "{page}");
    assert!(page.contains("stats: 1165 enters, 4000 SQEs, 4000 CQEs, "), "{page}");

    let page = prints("02_nop", &["--batch", "7", "15", "--stats"]);
    assert!(page.contains("15 NOPs, on a ring of 8 entries"), "{page}");
    assert!(page.contains("stats: 3 enters, 15 SQEs, 15 CQEs, "), "{page}");
}

#[test]
fn a_poll_fires_once_or_until_it_is_removed() {
    let page = prints("03_poll_listener", &["--stats"]);
    assert!(page.contains("one-shot: submitted, in flight: 1"), "{page}");
    assert!(page.contains("a look, before anybody connects: 0 events, for"), "{page}");
    assert!(page.contains("a second connection: 0 events, in flight: 0"), "{page}");
    assert!(page.contains("submitted again: at once PollEvents(IN"), "{page}");
    let accepted = page.lines().filter(|line| line.starts_with("  accepted 127.0.0.1:")).count();
    if page.contains("multishot: left out, it needs Linux 5.13") {
        assert_eq!(accepted, 2, "{page}");
        return;
    }
    assert_eq!(accepted, 4, "{page}");
    assert_eq!(page.matches("  a connection: PollEvents(IN").count(), 2, "{page}");
    assert_eq!(page.matches("), in flight: 1").count(), 2, "{page}");
    assert!(page.contains("removal: Cancelled(1)"), "{page}");
    assert!(page.contains("the poll itself: Cancelled, in flight: 0"), "{page}");
    assert!(page.contains("owners of the listener: 2 before, 1 after"), "{page}");
}

#[test]
fn without_a_ring_there_is_one_line_with_cause_and_cure() {
    let makes_its_own = |name: &&str| *name == "01_three_syscalls";
    for (name, arguments) in EXAMPLES.iter().filter(|(name, _)| !makes_its_own(name)) {
        let mut command = Command::new(program(name));
        command.args(arguments.unwrap_or_default());
        // SAFETY: between fork and exec it only makes two system calls, which is allowed there.
        unsafe { command.pre_exec(forbid_io_uring) };
        let stderr = fails(&command.output().expect("it starts"), 1);
        assert!(
            stderr.starts_with(&format!("{name}: there is no ring: a seccomp filter")),
            "{stderr}"
        );
        assert!(stderr.contains("allow io_uring_setup"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn too_few_descriptors_are_told_in_one_line_and_nothing_waits() {
    // Enough for the ring and the listener, but not for the connections.
    if prints_if_it_can("10_mini_runtime", &["--clients", "1"]).is_some() {
        let stderr = fails(&run_with_descriptors("10_mini_runtime", 12), 1);
        assert!(stderr.starts_with("10_mini_runtime: the echo failed: "), "{stderr}");
        assert!(stderr.contains("Too many open files"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    // The ring takes the last one, so none is left to read the cost with.
    let output = run_with_descriptors("02_nop", 4);
    let page = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rows =
        page.lines().filter(|line| line.trim().starts_with(|first: char| first.is_numeric()));
    let costs: Vec<_> = rows.filter_map(|row| row.split_whitespace().nth(2)).collect();
    assert!(costs.contains(&"unknown") && !costs.contains(&"0"), "{page}");
}

/// Runs an example that may have `count` descriptors, 0 to 2 among them.
fn run_with_descriptors(name: &str, count: libc::rlim_t) -> Output {
    let mut command = Command::new(program(name));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    let lower = move || {
        // SAFETY: a live `struct rlimit`, because the closure owns it; the kernel copies it.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it only makes a system call, which is allowed there.
    unsafe { command.pre_exec(lower) };
    command.output().expect("it starts")
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is() {
    let mut command = Command::new(program("quickstart"));
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let output = command.stdout(writer).output().expect("it starts");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));

    for arguments in [&[][..], &["--help"]] {
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        let mut command = Command::new(program("quickstart"));
        let output = command.args(arguments).stdout(full).output().expect("it starts");
        assert!(fails(&output, 1).starts_with("quickstart: cannot write: No space left"));
    }
}

#[test]
fn a_picture_shows_whose_a_slot_is_across_the_wrap() {
    let at = |index: i64| Index::from_raw(u32::try_from(index.rem_euclid(1 << 32)).unwrap());
    let positions = Positions {
        sq_head: at(-1),
        sq_tail: at(1),
        sq_written: at(2),
        cq_head: at(100_002),
        cq_tail: at(100_003),
    };
    let four = Entries::new(4).unwrap();
    let picture = picture::picture(&positions, four, Entries::new(2).unwrap());
    let expected = "
  submission ring   head 4294967295   tail 1   written 2
    ┌──────┬──────┬──────┬──────┐
    │  #0  │  #1  │      │#…7295│
    └kernel┴──us──┴──us──┴kernel┘
              t      w      h
  completion ring   head 100002   tail 100003
    ┌──────┬──────┐
    │#…0002│      │
    └──us──┴kernel┘
       h      t
";
    assert_eq!(format!("\n{picture}"), expected);
}

#[test]
fn a_picture_of_a_full_ring_goes_on_in_a_second_row() {
    let zero = Index::ZERO;
    let full = Index::from_raw(16);
    let positions =
        Positions { sq_head: zero, sq_tail: full, sq_written: full, cq_head: zero, cq_tail: zero };
    let sixteen = Entries::new(16).unwrap();
    let picture = picture::picture(&positions, sixteen, sixteen);
    assert_eq!(picture.matches("┴kernel").count(), 14 + 14);
    assert!(picture.contains("│  #7  │\n") && picture.contains("│ #15  │\n"), "{picture}");
    assert!(picture.lines().all(|line| line.chars().count() <= 80));
}

/// Refuses `io_uring_setup(2)` to this process and its children, with EPERM.
fn forbid_io_uring() -> io::Result<()> {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let setup = u32::try_from(libc::SYS_io_uring_setup).unwrap_or_default();
    let eperm = libc::EPERM.cast_unsigned();
    let mut filter = [
        // The number of the call is the first field of the data that the filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, setup),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | eperm),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: takes no pointer, because `prctl(2)` says so of this one.
    let no_more = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if no_more != 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: a live program of four statements, which the kernel copies, so it keeps none of it.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    if filtered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn every_example_is_tested_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut names: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    names.sort();
    // That one costs nothing, and has a file of its own; for the others see `tests/small/main.rs`.
    let is_small = |name: &str| {
        name.ends_with("_small") || name.ends_with("_future") || name == "simulate_runtime"
    };
    names.retain(|name| name != "capabilities" && !is_small(name));
    assert_eq!(names, EXAMPLES.map(|(name, _)| name));
}
