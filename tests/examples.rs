//! The examples as a stranger runs them: what they print, and how they fail.
//!
//! Each is run as the program that cargo built beside this one. Where root would see too much, it
//! runs as uid 65534 from a folder that everybody may enter.
#![allow(unsafe_code, reason = "forbids io_uring to a child, between fork and exec")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use annulus::inspect::Positions;
use annulus::sys::index::{Entries, Index};

#[path = "../examples/support/picture.rs"]
mod picture;

const EXAMPLES: [&str; 4] = ["01_three_syscalls", "02_nop", "03_poll_listener", "quickstart"];
/// Who may read nothing of ours.
const NOBODY: u32 = 65534;

/// The program of an example, which cargo puts beside the folder of this one.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("we run from a file");
    let profile = this.ancestors().nth(2).expect("cargo runs us from PROFILE/deps");
    let program = profile.join("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
    program
}

fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program(name));
    command.args(arguments).stdin(Stdio::null()).output().expect("the example starts")
}

/// What a run that succeeds prints; nothing on stderr but progress, which is indented.
fn prints(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{name} {arguments:?}: {stderr}");
    assert!(stderr.lines().all(|line| line.starts_with("  ")), "{name} {arguments:?}: {stderr}");
    text(&output.stdout)
}

/// What a run that fails says on stderr.
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

    /// A command that runs an example as an ordinary user, whoever we are.
    fn ordinary(&self, name: &str) -> Command {
        // Nobody may have no way to the folder where cargo built it.
        let copy = self.0.join(name);
        fs::copy(program(name), &copy).expect("room for a copy");
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
    for name in EXAMPLES {
        let page = prints(name, &["--help"]);
        assert!(page.starts_with(&format!("usage: {name} ")), "{page}");
        assert!(page.contains("--stats") && page.contains("--help"), "{page}");
        assert_eq!(prints(name, &["--stats", "-h"]), page);
    }
}

#[test]
fn a_wrong_call_is_told_how_to_do_it_right() {
    for name in EXAMPLES {
        let output = run(name, &["--frobnicate"]);
        let stderr = fails(&output, 2);
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!(lines[0], format!("{name}: unknown option: --frobnicate"));
        assert!(lines[1].starts_with(&format!("usage: {name} ")), "{stderr}");
        assert_eq!(lines.len(), 2, "{stderr}");
        assert_eq!(output.stdout, b"");
    }
    let wrong: [(&[&str], &str); 6] = [
        (&["nine"], "nine is no number from 1 to"),
        (&["0"], "0 is no number from 1 to"),
        (&["10", "20"], "one argument too many: 20"),
        (&["--batch"], "--batch needs a number"),
        (&["--batch", "-1"], "-1 is no number from 1 to"),
        (&["--batch", "32769"], "at most 32768"),
    ];
    for (arguments, what) in wrong {
        let stderr = fails(&run("02_nop", arguments), 2);
        assert!(stderr.contains(what), "{arguments:?}: {stderr}");
    }
    let stderr = fails(&run("quickstart", &["one", "two"]), 2);
    assert!(stderr.contains("one argument too many: two"), "{stderr}");
}

#[test]
fn pages_are_80_columns_wide() {
    let count: &[&str] = &["1000", "--stats"];
    for name in EXAMPLES {
        let arguments = if name == "02_nop" { count } else { &["--stats"] };
        for page in [prints(name, arguments), prints(name, &["--help"])] {
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
    let rows: Vec<Vec<u64>> = page
        .lines()
        .map(|line| line.split_whitespace().flat_map(str::parse).collect())
        .filter(|row: &Vec<u64>| row.len() == 3)
        .collect();
    let enters: Vec<_> = rows.iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(enters, [(1, 1000), (8, 125), (32, 32), (128, 8)], "{page}");
    assert!(page.contains("stats: 1165 enters, 4000 SQEs, 4000 CQEs, "), "{page}");

    let page = prints("02_nop", &["--batch", "7", "15", "--stats"]);
    assert!(page.contains("15 NOPs, on a ring of 8 entries"), "{page}");
    assert!(page.contains("stats: 3 enters, 15 SQEs, 15 CQEs, "), "{page}");
}

#[test]
fn a_poll_fires_once_or_until_it_is_removed() {
    let page = prints("03_poll_listener", &["--stats"]);
    assert!(page.contains("one-shot: armed, user_data 0xDEADBEEF"), "{page}");
    assert!(page.contains("before anybody connects: nothing, for"), "{page}");
    assert!(page.contains("a second connection: nothing, since the poll has ended"), "{page}");
    assert!(page.contains("armed again: at once user_data 0xDEADBEEF, res 0x1"), "{page}");
    let accepted = page.lines().filter(|line| line.starts_with("  accepted 127.0.0.1:")).count();
    if page.contains("multishot: left out, it needs Linux 5.13") {
        assert_eq!(accepted, 2, "{page}");
        return;
    }
    assert_eq!(accepted, 4, "{page}");
    assert_eq!(page.matches("res 0x1, F_MORE").count(), 2, "{page}");
    assert!(
        page.contains("the poll, with ECANCELED, says user_data 0xDEADBEEF, res -125"),
        "{page}"
    );
    assert!(page.contains("in flight: 0"), "{page}");
}

#[test]
fn quickstart_shows_its_five_parts() {
    let page = prints("quickstart", &["--stats"]);
    for part in ["1. This kernel: Linux ", "2. A file", "3. An echo", "4. Two rings", "5. What"] {
        assert_eq!(page.matches(part).count(), 1, "{part}: {page}");
    }
    assert_eq!(line(&page, "sizes"), "16 submission slots, 32 completion slots");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart.rs");
    assert_eq!(line(&page, "path"), source);
    assert_eq!(line(&page, "bytes"), fs::metadata(source).unwrap().len().to_string());
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
    let echoed = "100 messages of 256 bytes there and back, every byte checked";
    assert_eq!(line(&page, "exchanged"), echoed);
    // Written, published, posted, popped: of the four pictures, in this order.
    let words = page.lines().filter(|line| line.starts_with("  submission ring"));
    let words: Vec<_> = words.map(|line| line.trim_start_matches("  submission ring   ")).collect();
    let moments = ["head 0   tail 0", "head 0   tail 3", "head 3   tail 3", "head 3   tail 3"];
    assert_eq!(words, moments.map(|words| format!("{words}   written 3")));
    let words: Vec<_> = page.lines().filter(|line| line.starts_with("  completion ring")).collect();
    let moments = ["head 0   tail 0", "head 0   tail 0", "head 0   tail 3", "head 3   tail 3"];
    assert_eq!(words, moments.map(|words| format!("  completion ring   {words}")));
    assert!(page.contains("enters per request"), "{page}");
    assert!(page.contains("CPU ns per operation"), "{page}");
}

#[test]
fn quickstart_reads_files_of_every_size() {
    let folder = Folder::new("sizes");
    let block = 64 << 10;
    // A byte that tells where it stands, so that blocks in a wrong order are seen.
    let bytes = |count: usize| -> Vec<u8> {
        (0..count)
            .map(|at| (at / 251 % 256).to_le_bytes()[0] ^ (at % 253).to_le_bytes()[0])
            .collect()
    };
    // One read more than the full blocks finds the end; a part of a block takes one more.
    let sizes = [(0, 1), (1, 2), (block, 2), (3 * block, 4), (3 * block + 17, 5), (40 * block, 41)];
    for (size, reads) in sizes {
        let file = folder.file("sized", &bytes(size));
        let page = prints("quickstart", &[&file]);
        assert_eq!(line(&page, "path"), file);
        assert_eq!(line(&page, "bytes"), size.to_string());
        assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
        let counted = line(&page, "reads");
        let count: u64 = counted.split(',').next().unwrap().parse().unwrap();
        // Reads may be short; they are never fewer.
        assert!(count >= reads && count <= 2 * reads, "{size} bytes: {counted}");
    }
    let checksum = |byte| {
        let file = folder.file("one", &[byte]);
        line(&prints("quickstart", &[&file]), "checksum").to_string()
    };
    assert_ne!(checksum(1), checksum(2));
}

#[test]
fn quickstart_reads_a_long_file_in_many_reads_at_once() {
    let folder = Folder::new("long");
    let path = folder.file("sparse", b"");
    let size = (200 << 20) + 1;
    File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    let page = prints("quickstart", &[&path]);
    assert_eq!(line(&page, "bytes"), size.to_string());
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
    // 3201 reads would be as many enters if they were not in flight together.
    let (_, enters) = line(&page, "reads").rsplit_once("; ").unwrap();
    let enters: u64 = enters.split(' ').next().unwrap().parse().unwrap();
    assert!(enters < 3201, "{page}");
}

#[test]
fn quickstart_reads_a_file_that_claims_no_size() {
    let page = prints("quickstart", &["/proc/cpuinfo"]);
    assert_ne!(line(&page, "bytes"), "0");
    // Linux writes it anew for each reader, and the frequencies in it may change between two.
    let contents = line(&page, "contents");
    let is_known = contents.starts_with("equal to") || contents.ends_with("for each reader");
    assert!(is_known, "{page}");
    // One that does not change.
    let page = prints("quickstart", &["/proc/version"]);
    let version = fs::read("/proc/version").unwrap();
    assert_eq!(line(&page, "bytes"), version.len().to_string());
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
}

#[test]
fn quickstart_says_why_it_cannot_read_a_file() {
    let folder = Folder::new("refused");
    let secret = folder.file("secret", b"secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let missing = folder.0.join("missing").into_os_string().into_string().unwrap();
    let cases = [
        (missing.as_str(), format!("cannot open {missing}: No such file or directory")),
        ("/proc", "/proc is a directory, not a file".into()),
        ("/dev/zero", "/dev/zero is not a regular file".into()),
        (&secret, format!("cannot open {secret}: Permission denied")),
    ];
    for (path, what) in cases {
        let output = folder.ordinary("quickstart").arg(path).output().expect("it starts");
        let stderr = fails(&output, 1);
        assert!(stderr.starts_with(&format!("quickstart: {what}")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn quickstart_serves_an_ordinary_user() {
    let folder = Folder::new("ordinary");
    let file = folder.file("file", &[7; 100_000]);
    let output = folder.ordinary("quickstart").arg(&file).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    assert_eq!(line(&page, "bytes"), "100000");
    assert_eq!(line(&page, "contents"), "equal to what std reads, byte for byte");
}

#[test]
fn without_a_ring_there_is_one_line_with_cause_and_cure() {
    for name in ["02_nop", "03_poll_listener", "quickstart"] {
        let mut command = Command::new(program(name));
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
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is() {
    let mut command = Command::new(program("quickstart"));
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let output = command.stdout(writer).output().expect("it starts");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));

    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let output = Command::new(program("quickstart")).stdout(full).output().expect("it starts");
    assert!(fails(&output, 1).starts_with("quickstart: cannot write: No space left"));
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

/// Refuses `io_uring_setup(2)` to this process and what it becomes, with EPERM.
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
        // The number of the call is the first word of what the filter sees.
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
    assert_eq!(names, EXAMPLES);
}
