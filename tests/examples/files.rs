//! Which bytes `04_read_file` reads, and that `05_copy` copies like `cp`, for files of every kind.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::programs::skip;
use crate::{Folder, fails, is_root, prints, program, run, text};

/// The bytes in a block of `04_read_file`, and of `05_copy`.
const READ_BLOCK: usize = 64 << 10;
const COPY_BLOCK: usize = 512 << 10;

/// Bytes without a pattern, so that blocks in a wrong place are noticed.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// A file of 64 MiB that takes almost no room, with data here and there.
fn sparse_file(folder: &Folder) -> String {
    let path = folder.file("sparse", b"");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    let data = noise(COPY_BLOCK + 10_000);
    for (at, count) in [(0, 1), (3 << 20, 8192), ((7 << 20) + 5, data.len()), (63 << 20, 4096)] {
        file.write_all_at(&data[..count], at).unwrap();
    }
    path
}

pub fn path(folder: &Folder, name: &str) -> String {
    folder.0.join(name).into_os_string().into_string().expect("the name is text")
}

/// The copy that `cp` makes.
fn cp(source: &str, dest: &str) {
    let status = Command::new("cp").args([source, dest]).status().expect("cp is everywhere");
    assert!(status.success(), "cp {source} {dest}");
}

/// Whether `cp` is that of GNU.
fn is_of_coreutils() -> bool {
    let page = Command::new("cp").arg("--version").output().expect("cp is everywhere");
    String::from_utf8_lossy(&page.stdout).contains("coreutils")
}

pub fn make_fifo(folder: &Folder, name: &str) -> String {
    let path = path(folder, name);
    assert!(Command::new("mkfifo").args(["-m", "640", &path]).status().unwrap().success());
    path
}

/// Both have the same bytes, and the same permissions.
fn assert_alike(copy: &str, original: &str) {
    let (ours, theirs) = (fs::read(copy).unwrap(), fs::read(original).unwrap());
    let differs = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    let lengths = (ours.len(), theirs.len());
    assert_eq!((lengths.0, differs), (lengths.1, None), "{copy} and {original}");
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(copy), mode(original), "{copy} and {original}");
}

#[test]
fn a_file_is_read_in_both_ways_whatever_its_size() {
    let folder = Folder::new("both-ways");
    let block = READ_BLOCK;
    // One read more than the full blocks finds the end; a part of a block takes one more.
    let sizes = [(0, 1), (1, 2), (block - 1, 2), (block, 2), (block + 1, 3), (40 * block + 17, 42)];
    for (size, reads) in sizes {
        let file = folder.file("sized", &noise(size));
        for depth in ["1", "3", "16"] {
            let page = prints("04_read_file", &[&file, "--depth", depth]);
            let counts = format!("  {size} bytes in {reads} reads, ");
            assert_eq!(page.matches(&counts).count(), 2, "depth {depth}: {page}");
            assert_eq!(page.matches("equal to what std reads").count(), 2, "{page}");
        }
    }
    let page = prints("04_read_file", &["/proc/version"]);
    assert_eq!(page.matches("equal to what std reads").count(), 2, "{page}");
    let stderr = fails(&run("04_read_file", &["/dev/zero"]), 1);
    assert!(stderr.contains("/dev/zero is not a regular file"), "{stderr}");
}

#[test]
fn both_ways_of_reading_enter_less_often_than_they_read() {
    let folder = Folder::new("enters");
    let file = folder.file("long", &noise(64 * READ_BLOCK));
    // On a machine that has no time for its workers each block may come alone, and take an enter.
    for attempt in 1.. {
        let page = prints("04_read_file", &[&file]);
        let counts =
            page.lines().filter_map(|line| line.strip_suffix(" enters")?.rsplit(' ').next());
        let enters: Vec<u64> = counts.map(|enters| enters.parse().unwrap()).collect();
        assert_eq!(enters.len(), 2, "{page}");
        if enters.iter().all(|&enters| enters < 65) {
            break;
        }
        assert!(attempt < 20, "{page}");
    }
}

#[test]
fn a_copy_is_what_cp_makes() {
    let folder = Folder::new("copies");
    let block = COPY_BLOCK;
    let mut setuid = 0o4555;
    if !is_of_coreutils() {
        skip("a program that takes its owner's rights: only GNU's cp leaves that out of a copy");
        setuid = 0o555;
    }
    for size in [0, 1, block - 1, block, block + 1, 5 << 20] {
        let source = folder.file(&format!("of-{size}"), &noise(size));
        for (depth, mode) in [("1", 0o644), ("2", 0o751), ("16", setuid), ("300", 0o600)] {
            fs::set_permissions(&source, Permissions::from_mode(mode)).unwrap();
            let (ours, theirs) = (path(&folder, "ours"), path(&folder, "theirs"));
            let page = prints("05_copy", &[&source, &ours, "--depth", depth]);
            cp(&source, &theirs);
            assert!(page.starts_with(&format!("{size} bytes, ")), "{page}");
            assert_alike(&ours, &theirs);
            fs::remove_file(ours).unwrap();
            fs::remove_file(theirs).unwrap();
        }
    }
}

#[test]
fn a_sparse_file_stays_sparse() {
    let folder = Folder::new("holes");
    let (source, ours) = (sparse_file(&folder), path(&folder, "ours"));
    let page = prints("05_copy", &[&source, &ours]);
    assert_alike(&ours, &source);
    assert!(page.contains(" of them are zeroes that were left out, as holes"), "{page}");
    let room = |path: &str| fs::metadata(path).unwrap().blocks() * 512;
    if room(&source) >= 1 << 20 {
        println!("skipped: the file system of {source} makes no holes");
        return;
    }
    assert!(room(&ours) < 1 << 20, "{} bytes of {}", room(&ours), room(&source));

    // Zeroes that are written in the source are written in the copy.
    let dense = folder.file("dense", &[0; 3 * COPY_BLOCK]);
    let page = prints("05_copy", &[&dense, &ours]);
    assert!(!page.contains("holes"), "{page}");
    assert_eq!(fs::read(&ours).unwrap(), [0; 3 * COPY_BLOCK]);
}

#[test]
fn files_that_claim_no_size_are_copied_to_their_end() {
    let folder = Folder::new("proc");
    // Frequencies change from one reader to the next.
    let steady = |path: &str| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().filter(|line| !line.starts_with("cpu MHz")).map(str::to_owned).collect()
    };
    for source in ["/proc/cpuinfo", "/proc/version", "/proc/filesystems"] {
        let (ours, theirs) = (path(&folder, "ours"), path(&folder, "theirs"));
        prints("05_copy", &[source, &ours]);
        cp(source, &theirs);
        assert_eq!(steady(&ours), steady(&theirs), "{source}");
        assert!(!steady(&ours).is_empty());
        fs::remove_file(ours).unwrap();
        fs::remove_file(theirs).unwrap();
    }
    // Claims a page, and has less.
    let ours = path(&folder, "of-sysfs");
    let source = "/sys/kernel/mm/transparent_hugepage/enabled";
    if Path::new(source).exists() {
        prints("05_copy", &[source, &ours]);
        assert_eq!(fs::read(&ours).unwrap(), fs::read(source).unwrap());
    }
}

#[test]
fn devices_are_copied_up_to_a_limit() {
    let folder = Folder::new("devices");
    let ours = path(&folder, "zeroes");
    prints("05_copy", &["/dev/zero", &ours, "--bytes", "1000001"]);
    assert_eq!(fs::read(&ours).unwrap(), vec![0; 1_000_001]);
    prints("05_copy", &["/dev/null", &ours]);
    assert_eq!(fs::read(&ours).unwrap(), b"", "what was there is gone");
    let source = folder.file("file", &noise(3 * COPY_BLOCK));
    prints("05_copy", &[&source, &ours, "--bytes", "200000"]);
    assert_eq!(fs::read(&ours).unwrap(), noise(200_000));
    prints("05_copy", &[&source, "/dev/null"]);
}

#[test]
fn a_fifo_is_copied_from_and_to_in_order() {
    let folder = Folder::new("fifos");
    let (fifo, bytes) = (make_fifo(&folder, "fifo"), noise((5 << 20) + 3));
    let ours = path(&folder, "ours");
    let writer = {
        let (fifo, bytes) = (fifo.clone(), bytes.clone());
        thread::spawn(move || {
            let mut fifo = OpenOptions::new().write(true).open(fifo).unwrap();
            bytes.chunks(70_001).for_each(|part| fifo.write_all(part).unwrap());
        })
    };
    prints("05_copy", &[&fifo, &ours]);
    writer.join().unwrap();
    assert!(fs::read(&ours).unwrap() == bytes, "from a FIFO");
    assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o640);

    let source = folder.file("file", &bytes);
    let reader = {
        let fifo = fifo.clone();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            File::open(fifo).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    prints("05_copy", &[&source, &fifo]);
    assert!(reader.join().unwrap() == bytes, "to a FIFO");
}

#[test]
fn a_directory_is_copied_into_and_a_file_is_overwritten() {
    let folder = Folder::new("into");
    let source = folder.file("name", &noise(1000));
    let longer = path(&folder, "inside/name");
    fs::create_dir(path(&folder, "inside")).unwrap();
    fs::write(&longer, noise(5000)).unwrap();
    fs::set_permissions(&longer, Permissions::from_mode(0o612)).unwrap();
    prints("05_copy", &[&source, &path(&folder, "inside")]);
    assert_eq!(fs::read(&longer).unwrap(), noise(1000));
    let mode = fs::metadata(&longer).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o612, "the mode of what was there stays");
}

#[test]
fn what_cannot_be_copied_is_refused_and_left_as_it_is() {
    let folder = Folder::new("refusals");
    let source = folder.file("source", &noise(1000));
    let (linked, dangling) = (path(&folder, "linked"), path(&folder, "dangling"));
    fs::hard_link(&source, &linked).unwrap();
    symlink(path(&folder, "nowhere"), &dangling).unwrap();
    let inside = path(&folder, "inside");
    fs::create_dir_all(path(&folder, "inside/source")).unwrap();
    let fifo = make_fifo(&folder, "fifo");
    let (missing, below) = (path(&folder, "missing"), path(&folder, "missing/file"));
    let cases: [(&str, &str, &str); 9] = [
        (&source, &source, "are the same file"),
        (&source, &linked, "are the same file"),
        (&linked, &source, "are the same file"),
        (&fifo, &fifo, "are the same file"),
        (&source, &dangling, "dangling is a symbolic link to nothing"),
        (&source, &inside, "inside/source is a directory"),
        (&inside, &missing, "inside is a directory, which takes --recursive"),
        (&missing, &below, "missing: No such file or directory"),
        (&source, &below, "missing/file: No such file or directory"),
    ];
    for (from, to, what) in cases {
        let stderr = fails(&run("05_copy", &[from, to]), 1);
        assert!(stderr.contains(what), "{from} {to}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert_eq!(fs::read(&source).unwrap(), noise(1000));
    assert!(!Path::new(&missing).exists() && !Path::new(&path(&folder, "nowhere")).exists());
}

#[test]
fn an_ordinary_user_copies_what_it_may_read() {
    let folder = Folder::new("ordinary-copies");
    let (open, secret) = (folder.file("open", &noise(1000)), folder.file("secret", b"secret"));
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    let theirs = path(&folder, "theirs");
    fs::create_dir(&theirs).unwrap();
    fs::set_permissions(&theirs, Permissions::from_mode(0o777)).unwrap();
    let copy = |from: &str| -> Output {
        folder.ordinary("05_copy").args([from, &theirs]).output().expect("it starts")
    };
    let output = copy(&open);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(fs::read(path(&folder, "theirs/open")).unwrap(), noise(1000));
    let stderr = fails(&copy(&secret), 1);
    assert!(stderr.contains("secret: Permission denied"), "{stderr}");
    assert!(!Path::new(&path(&folder, "theirs/secret")).exists());
}

#[test]
fn a_full_disk_is_told_with_what_was_copied() {
    let folder = Folder::new("full");
    let source = folder.file("source", &noise(3 << 20));
    let stderr = fails(&run("05_copy", &[&source, "/dev/full"]), 1);
    let expected = "05_copy: cannot write /dev/full: No space left on device (os error 28); \
                    the first 0 bytes were copied\n";
    assert_eq!(stderr, expected);

    // A disk of 1 MiB, which only the shell and its children can see.
    fs::create_dir(path(&folder, "disk")).unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$0/disk" || exit 99
                    "$1" "$0/source" "$0/disk/copy"; code=$?
                    cat "$0/disk/copy" > "$0/copied"; exit $code"#;
    let alone = if is_root() { "-m" } else { "-rm" };
    let mut command = Command::new("unshare");
    command.args([alone, "sh", "-c", script]).arg(&folder.0).arg(program("05_copy"));
    let output = command.stdin(Stdio::null()).output();
    let Some(output) = output.ok().filter(|_| Path::new(&path(&folder, "copied")).exists()) else {
        println!("skipped: this user cannot mount a small disk");
        return;
    };
    let stderr = fails(&output, 1);
    let copied = fs::read(path(&folder, "copied")).unwrap();
    assert!(stderr.contains("disk/copy: No space left on device"), "{stderr}");
    assert!(stderr.contains(&format!("the first {} bytes were copied", copied.len())), "{stderr}");
    assert!(copied.len() > 512 << 10 && copied == noise(3 << 20)[..copied.len()]);
}

#[test]
fn only_who_waits_at_a_terminal_sees_progress() {
    let folder = Folder::new("progress");
    let (fifo, dest) = (make_fifo(&folder, "fifo"), path(&folder, "dest"));
    let begin = || {
        let fifo = fifo.clone();
        thread::spawn(move || {
            let mut fifo = OpenOptions::new().write(true).open(fifo).unwrap();
            for part in [1 << 20, 1 << 20] {
                fifo.write_all(&noise(part)).unwrap();
                // Shown at the first block that comes after a second.
                thread::sleep(Duration::from_millis(1200));
            }
        })
    };
    let writer = begin();
    let page = prints("05_copy", &[&fifo, &dest]); // Of a pipe: it also looks at stderr.
    writer.join().unwrap();
    assert!(page.starts_with("2097152 bytes, "), "{page}");

    // A terminal for each of its streams; what it writes to them comes to our pipe.
    let call = format!("{} {fifo} {dest}", program("05_copy").display());
    let mut command = Command::new("script");
    command.args(["-qec", &call, "/dev/null"]).stdin(Stdio::null());
    let Ok(child) = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
        println!("skipped: there is no program `script` to make a terminal");
        return;
    };
    let writer = begin();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let (page, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(page.contains(" MiB, ") && page.contains("iB/s"), "{page}{stderr}");
    // Wiped away before the last line.
    let (_, last) = page.rsplit_once("\r\x1b[2K").unwrap_or_default();
    assert!(last.starts_with("2097152 bytes, "), "{page:?}");
}
