//! `cat_small` prints what `cat(1)` prints, for every kind of file.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use annulus::Capabilities;

use super::program;

struct Folder(PathBuf);

impl Folder {
    /// `None` where there is no io_uring, with the reason on stderr.
    fn new(name: &str) -> Option<Self> {
        if let Err(error) = Capabilities::detect() {
            eprintln!("skipped: cat_small: {error}");
            return None;
        }
        let folder =
            std::env::temp_dir().join(format!("annulus-cat-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Some(Self(folder))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        path.into_os_string().into_string().expect("text")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes that are other ones everywhere.
fn noise(count: u32) -> Vec<u8> {
    let byte = |at: u32| at.wrapping_mul(0x9e37_79b9).to_le_bytes()[3];
    (0..count).map(byte).collect()
}

/// What both programs do with these arguments and this input, from a pipe.
fn both(arguments: &[&str], input: &[u8]) -> [Output; 2] {
    [program("cat_small"), "cat".into()].map(|program| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        thread::scope(|scope| {
            // Who does not read it may end first.
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().expect("it ends")
        })
    })
}

fn assert_alike(arguments: &[&str], input: &[u8]) {
    let [ours, theirs] = both(arguments, input);
    assert!(ours.stdout == theirs.stdout, "{arguments:?}: {} bytes", ours.stdout.len());
    assert_eq!(ours.status.code(), theirs.status.code(), "{arguments:?}: {ours:?}");
    assert_eq!(ours.stderr.is_empty(), theirs.stderr.is_empty(), "{arguments:?}: {ours:?}");
}

#[test]
fn cat_small_prints_what_cat_prints() {
    let Some(folder) = Folder::new("kinds") else { return };
    let block = 128 << 10;
    let sizes = [0, 1, 4096, block - 1, block, block + 1, 8 * block, 8 * block + 1, 3_000_001];
    let files = sizes.map(|size| folder.file(&size.to_string(), &noise(size)));
    for file in &files {
        assert_alike(&[file], b"");
    }
    let all: Vec<&str> = files.iter().map(String::as_str).collect();
    assert_alike(&all, b"");
    // Stdin, alone and among others; twice, and empty the second time.
    for input in [&b""[..], b"short", &noise(1_500_000)] {
        assert_alike(&[], input);
        assert_alike(&["-"], input);
        assert_alike(&[&files[1], "-", &files[5], "-"], input);
    }
    // A claim of 0 bytes, a claim of 4096 bytes, a device.
    for path in [
        "/proc/version",
        "/proc/cpuinfo",
        "/proc/mounts",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/dev/null",
    ] {
        if fs::metadata(path).is_ok() {
            assert_alike(&[path], b"");
        }
    }
    // A folder, and what is not there, stop none of the others.
    let folder = folder.0.to_str().expect("text");
    assert_alike(&[&files[1], folder, &files[4], "/no such file", &files[5]], b"");
}

#[test]
fn cat_small_goes_on_where_stdin_stands() {
    let Some(folder) = Folder::new("stands") else { return };
    let file = folder.file("file", &noise(400_000));
    for program in [program("cat_small"), "cat".into()] {
        let mut stdin = File::open(&file).expect("it is there");
        stdin.read_exact(&mut [0; 1000]).expect("it is long enough");
        let output = Command::new(program).stdin(stdin).output().expect("it starts");
        assert!(output.stdout == noise(400_000)[1000..], "{} bytes", output.stdout.len());
    }
}

#[test]
fn cat_small_reads_a_pipe_as_it_comes_and_a_device_as_far_as_wanted() {
    let Some(folder) = Folder::new("pipes") else { return };
    let fifo = folder.0.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo starts").success());
    let mut command = Command::new(program("cat_small"));
    let mut child = command.arg(&fifo).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut writer = File::options().write(true).open(&fifo).expect("it is read");
    let mut stdout = child.stdout.take().expect("a pipe");
    for word in [b"one", b"two"] {
        // The answer comes while the pipe is open still.
        writer.write_all(word).expect("it is read");
        let mut answer = [0; 3];
        stdout.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, word);
    }
    drop(writer);
    assert!(child.wait().expect("it ends").success());
    // A device without an end, until its reader has enough.
    let mut child = command_of("/dev/zero").stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut bytes = vec![1; 3_000_000];
    stdout.read_exact(&mut bytes).expect("it answers");
    assert!(bytes.iter().all(|&byte| byte == 0));
    drop(stdout);
    assert!(child.wait().expect("it ends").success());
}

fn command_of(path: &str) -> Command {
    let mut command = Command::new(program("cat_small"));
    command.arg(path).stdin(Stdio::null());
    command
}

#[test]
fn cat_small_writes_to_files_and_refuses_its_own_output() {
    let Some(folder) = Folder::new("output") else { return };
    let file = folder.file("file", &noise(1_200_000));
    let copy = folder.file("copy", b"before ");
    // Where the output is appended to, and where it is written over.
    let append = File::options().append(true).open(&copy).expect("it is there");
    assert!(command_of(&file).stdout(append).status().expect("it starts").success());
    let expected = [b"before ", &noise(1_200_000)[..]].concat();
    assert!(fs::read(&copy).expect("it is there") == expected);
    let append = File::options().append(true).open(&copy).expect("it is there");
    let output = command_of(&copy).stdout(append).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(fs::read(&copy).expect("it is there") == expected);
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let output = command_of(&file).stdout(full).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn cat_small_prints_what_a_file_has_grown_by_meanwhile() {
    let Some(folder) = Folder::new("grows") else { return };
    // Two blocks and a part of a third.
    let file = folder.file("file", &noise(300_000));
    let mut child = command_of(&file).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut bytes = vec![0];
    stdout.read_exact(&mut bytes).expect("it answers");
    // Its first reads are done, and it waits for room in the pipe.
    let mut append = File::options().append(true).open(&file).expect("it is there");
    append.write_all(&noise(500_000)[300_000..]).expect("room");
    stdout.read_to_end(&mut bytes).expect("it goes on");
    assert!(bytes == noise(500_000), "{} bytes", bytes.len());
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn cat_small_enters_less_often_than_it_reads() {
    let Some(folder) = Folder::new("enters") else { return };
    let file = folder.file("file", &noise(8_000_000));
    // A pipe takes half a block at a time; nothing takes all of it.
    let mut command = command_of(&file);
    let output = command.arg("--stats").stdout(Stdio::null()).output().expect("it starts");
    let stderr = String::from_utf8(output.stderr).expect("text");
    let numbers: Vec<u64> = stderr.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [blocks, enters] = numbers[..] else { panic!("{stderr}") };
    // As many reads as writes, and one more.
    assert!(blocks >= 62 && enters < 2 * blocks, "{stderr}");
}
