//! `du`: the sums of du(1), and what cannot be looked at.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::{Folder, NOBODY, fails, is_root, line, prints, run, text};

/// A tree with everything that counts in its own way.
fn tree(name: &str) -> Folder {
    let folder = Folder::new(name);
    let path = |name: &str| folder.0.join("tree").join(name);
    fs::create_dir_all(path("a/b/c")).expect("room");
    for number in 0..300 {
        let dir = path(&format!("many/{}", number % 7));
        fs::create_dir_all(&dir).expect("room");
        fs::write(dir.join(format!("{number}")), vec![1; number * 100]).expect("room");
    }
    let mut deep = path("deep");
    for _ in 0..60 {
        deep.push("directory");
    }
    fs::create_dir_all(&deep).expect("room");
    fs::write(deep.join("file"), [1; 10_000]).expect("room");
    // Three names of one file, and a name of another that lies outside.
    fs::write(path("a/one"), [1; 100_000]).expect("room");
    fs::hard_link(path("a/one"), path("a/b/two")).expect("it may");
    fs::hard_link(path("a/one"), path("many/three")).expect("it may");
    fs::write(folder.0.join("outside"), [1; 50_000]).expect("room");
    fs::hard_link(folder.0.join("outside"), path("a/outside")).expect("it may");
    // 10 MiB, of which two blocks are there.
    let sparse = File::create(path("sparse")).expect("a file");
    sparse.set_len(10 << 20).expect("it takes no room");
    sparse.write_at(&[1; 4096], 5 << 20).expect("room");
    sparse.write_at(&[1; 1], 9 << 20).expect("room");
    // They are not followed; a long target takes a block.
    symlink("/", path("root")).expect("it may");
    symlink("nothing", path("dangling")).expect("it may");
    symlink(".", path("a/here")).expect("it may");
    symlink("x".repeat(1000), path("long")).expect("it may");
    UnixListener::bind(path("socket")).expect("a socket");
    assert!(Command::new("mkfifo").arg(path("fifo")).status().expect("it starts").success());
    fs::write(path("new\nline \u{e9}"), [1; 5000]).expect("room");
    fs::write(path("").join(std::ffi::OsStr::from_bytes(b"\xff")), [1; 5000]).expect("room");
    folder
}

/// The output of du(1); `None`, with the reason on stderr, where there is none.
fn installed(command: &mut Command) -> Option<Output> {
    let output = command.args(["-s", "--block-size=1"]).env("LC_ALL", "C").output();
    let output = output.ok().filter(|output| !output.stdout.is_empty());
    if output.is_none() {
        eprintln!("skipped: there is no du with --block-size");
    }
    output
}

fn peer(arguments: &[&str]) -> Option<String> {
    let output = installed(Command::new("du").args(arguments))?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout))
}

#[test]
fn du_sums_up_what_du_sums_up() {
    let folder = tree("du");
    let path = |name: &str| folder.0.join(name).to_str().expect("text").to_owned();
    let (tree, file, link) = (path("tree"), path("tree/a/one"), path("tree/root"));
    let (outside, slash) = (path("outside"), path("tree/"));
    let cases: [&[&str]; 7] = [
        &[&tree],
        &["-x", &tree],
        &[&file],
        &[&link],
        &[&slash],
        &[&outside, &tree], // Two names of one file: it counts for the first.
        &[&tree, &outside, &link],
    ];
    for arguments in cases {
        let Some(expected) = peer(arguments) else { return };
        for ways in [&["--at-once", "1"][..], &["--at-once", "64"], &["--plain"], &[]] {
            let printed = prints("du", &[arguments, ways].concat());
            // It says 0 where du(1) says nothing, of a PATH that was counted with another.
            let told = |line: &&str| !line.starts_with("0\t") || expected.contains(line);
            let printed: String =
                printed.lines().filter(told).map(|line| format!("{line}\n")).collect();
            assert_eq!(printed, expected, "{arguments:?} {ways:?}");
        }
    }
}

#[test]
fn du_counts_names_files_and_holes() {
    let folder = Folder::new("du-counts");
    let path = |name: &str| folder.0.join(name);
    let blocks = |path: &Path| fs::symlink_metadata(path).expect("it is there").blocks() * 512;
    fs::write(path("one"), [1; 100_000]).expect("room");
    let sparse = File::create(path("sparse")).expect("a file");
    sparse.set_len(1 << 30).expect("it takes no room");
    let files = blocks(&path("one")) + blocks(&path("sparse"));
    assert!(files < 1 << 20, "holes take no room: {files}");
    let root = folder.0.to_str().expect("text");
    let expected = || format!("{}\t{root}", files + blocks(&folder.0));
    assert_eq!(prints("du", &[root]).trim_end(), expected());
    for number in 0..50 {
        fs::hard_link(path("one"), path(&format!("link{number}"))).expect("it may");
    }
    let page = prints("du", &[root, "--stats"]);
    assert_eq!(page.lines().next(), Some(&*expected()));
    assert_eq!(line(&page, "53 entries, "), "0 could not be looked at or read");
    // One entry each, and many of them in an enter.
    let stats: Vec<u64> = line(&page, "stats: ").split([' ', ',']).flat_map(str::parse).collect();
    assert_eq!((stats[1], stats[2]), (53, 53), "{page}");
    assert!(stats[0] <= 53, "{page}");
}

#[test]
fn du_tells_what_it_cannot_look_at_and_sums_up_the_rest() {
    let folder = tree("du-denied");
    let path = |name: &str| folder.0.join("tree").join(name);
    let deny = |name: &str, mode| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    deny("a/b", 0o000); // Not to be read.
    deny("many/3", 0o444); // Its names can be read, and nothing asked about them.
    deny("many/4", 0o311); // The other way round.
    let tree = folder.0.join("tree");
    let mut ours = folder.ordinary("du");
    let outputs = [ours.arg(&tree).output(), ours.arg("--plain").output()];
    let mut theirs = Command::new("du");
    if is_root() {
        theirs.uid(NOBODY).gid(NOBODY);
    }
    let theirs = installed(theirs.arg(&tree).current_dir("/"));
    for output in outputs {
        let output = output.expect("it starts");
        let stderr = fails(&output, 1);
        for name in ["a/b", "many/4"] {
            let told = format!("du: cannot read {}: Permission denied", path(name).display());
            assert!(stderr.contains(&told), "{stderr}");
        }
        let unknown = (0..300).filter(|number| number % 7 == 3).count();
        let label = format!("du: cannot look at {}/", path("many/3").display());
        assert_eq!(stderr.matches(&label).count(), unknown, "{stderr}");
        let last = format!("du: {} entries could not be looked at or read\n", unknown + 2);
        assert!(stderr.ends_with(&last), "{stderr}");
        if let Some(theirs) = &theirs {
            assert_eq!(text(&output.stdout), text(&theirs.stdout));
        }
    }
    for (name, mode) in [("a/b", 0o755), ("many/3", 0o755), ("many/4", 0o755)] {
        deny(name, mode);
    }
}

#[test]
fn du_goes_on_after_a_path_that_is_not_there() {
    let folder = tree("du-missing");
    let tree = folder.0.join("tree/a");
    let tree = tree.to_str().expect("text");
    for ways in [&[][..], &["--plain"]] {
        let output = run("du", &[&["/no/such", tree], ways].concat());
        let stderr = fails(&output, 1);
        assert!(stderr.starts_with("du: cannot look at /no/such: No such file"), "{stderr}");
        assert!(text(&output.stdout).ends_with(&format!("\t{tree}\n")));
        assert_eq!(text(&output.stdout).lines().count(), 1);
    }
}

/// What is mounted in `/dev` may be another file system: `-x` leaves it out.
#[test]
fn du_stays_on_its_file_system_if_told() {
    let device = |path| fs::metadata(path).ok().map(|stat| stat.dev());
    let (dev, shm) = (device("/dev"), device("/dev/shm"));
    let path = format!("/dev/shm/annulus-du-{}", std::process::id());
    if dev.is_none() || shm.is_none() || dev == shm || fs::write(&path, [1; 1 << 20]).is_err() {
        eprintln!("skipped: no other file system to write to in /dev");
        return;
    }
    let sum = |arguments: &[&str]| {
        let page = text(&run("du", arguments).stdout);
        page.split('\t').next().and_then(|sum| sum.parse::<u64>().ok()).expect("a sum")
    };
    let (all, theirs) = (sum(&["/dev"]), installed(Command::new("du").args(["-x", "/dev"])));
    let kept = [sum(&["-x", "/dev"]), sum(&["-x", "--plain", "/dev"])];
    fs::remove_file(&path).expect("it is ours");
    assert!(kept.iter().all(|&sum| sum + (1 << 20) <= all), "{kept:?} of {all}");
    if let Some(theirs) = theirs {
        let theirs = text(&theirs.stdout);
        assert!(kept.iter().all(|sum| theirs == format!("{sum}\t/dev\n")), "{kept:?}: {theirs}");
    }
}
