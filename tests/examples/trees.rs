//! That `05_copy --recursive` copies folders like `cp -r`: files, folders, links, permissions.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{make_fifo, noise, path};
use crate::{Folder, fails, prints, run, text};

/// A folder with small files and a large one, folders in folders, and links.
fn tree(folder: &Folder) -> String {
    let root = path(folder, "tree");
    let below = |name: &str| Path::new(&root).join(name);
    fs::create_dir_all(below("a/b/c/d")).unwrap();
    fs::create_dir_all(below("empty")).unwrap();
    for number in 0..300_usize {
        let within = ["", "a", "a/b", "a/b/c/d"][number % 4];
        fs::write(below(within).join(format!("{number}")), noise(number * 37)).unwrap();
    }
    fs::write(below("a/large"), noise((3 << 20) + 5)).unwrap();
    fs::write(below("a/whole"), noise(512 << 10)).unwrap();
    fs::write(below("secret"), b"for my eyes").unwrap();
    fs::set_permissions(below("secret"), Permissions::from_mode(0o600)).unwrap();
    symlink("a/large", below("link")).unwrap();
    symlink("nowhere", below("dangling")).unwrap();
    symlink(".", below("around")).unwrap();
    root
}

/// What is below `root`, in order: a line for each entry, with its kind, permissions and contents.
fn listing(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let contents = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            found.push((name, meta.permissions().mode(), contents));
        }
    }
    found.sort();
    found
}

/// Whether two folders hold what `listing` shows, without printing it all.
fn assert_alike(ours: &str, theirs: &str) {
    let (ours, theirs) = (listing(Path::new(ours)), listing(Path::new(theirs)));
    let names = |found: &[(PathBuf, u32, Vec<u8>)]| -> Vec<_> {
        found.iter().map(|(name, mode, _)| format!("{} {mode:o}", name.display())).collect()
    };
    assert_eq!(names(&ours), names(&theirs));
    let differs = ours.iter().zip(&theirs).find(|(a, b)| a != b).map(|(a, _)| &a.0);
    assert_eq!(differs, None);
}

#[test]
fn a_folder_is_copied_as_cp_does_with_many_files_in_flight() {
    let folder = Folder::new("trees");
    let source = tree(&folder);
    let theirs = path(&folder, "theirs");
    let status = Command::new("cp").args(["-r", &source, &theirs]).status();
    assert!(status.expect("cp is everywhere").success());
    for depth in ["1", "2", "16", "1024"] {
        let ours = path(&folder, "ours");
        let page = prints("05_copy", &["-r", &source, &ours, "--depth", depth]);
        assert!(page.starts_with("303 files in 6 folders\n"), "{page}");
        assert_alike(&ours, &theirs);
        // Again, over what is there.
        fs::write(Path::new(&ours).join("7"), noise(9000)).unwrap();
        prints("05_copy", &["--recursive", &format!("{source}/."), &format!("{ours}/.")]);
        fs::remove_dir_all(Path::new(&ours).join("tree")).unwrap();
        fs::remove_dir_all(&ours).unwrap();
    }
}

#[test]
fn many_small_files_take_fewer_enters_than_files() {
    let folder = Folder::new("small-files");
    let many = path(&folder, "many");
    fs::create_dir(&many).unwrap();
    (0..500).for_each(|name| fs::write(format!("{many}/{name}"), noise(4096)).unwrap());
    let page = prints("05_copy", &["-r", &many, &path(&folder, "ours")]);
    let enters = page.lines().find_map(|line| line.strip_suffix(" enters")?.rsplit(' ').next());
    let enters: u64 = enters.expect("it is told").parse().unwrap();
    assert!(enters < 1500, "{page}"); // One after the other, three each: a read, the end, a write.
    assert_alike(&path(&folder, "ours"), &many);
}

#[test]
fn a_folder_that_is_there_gets_the_copy_into_it_and_links_are_replaced() {
    let folder = Folder::new("trees-into");
    let source = tree(&folder);
    let there = path(&folder, "there");
    fs::create_dir(&there).unwrap();
    for _ in 0..2 {
        prints("05_copy", &["-r", &source, &there]);
        assert_alike(&format!("{there}/tree"), &source);
    }
}

#[test]
fn a_folder_gets_its_permissions_when_everything_is_in_it() {
    let folder = Folder::new("trees-modes");
    let source = path(&folder, "source");
    fs::create_dir_all(format!("{source}/inside")).unwrap();
    fs::write(format!("{source}/inside/file"), noise(100)).unwrap();
    fs::set_permissions(format!("{source}/inside"), Permissions::from_mode(0o555)).unwrap();
    let ours = path(&folder, "ours");
    prints("05_copy", &["-r", &source, &ours]);
    assert_alike(&ours, &source);
    for inside in [format!("{source}/inside"), format!("{ours}/inside")] {
        fs::set_permissions(inside, Permissions::from_mode(0o755)).unwrap(); // To be removed.
    }
}

#[test]
fn what_is_no_file_is_left_out_and_the_rest_is_copied() {
    let folder = Folder::new("trees-odd");
    let source = tree(&folder);
    make_fifo(&folder, "tree/a/fifo");
    let ours = path(&folder, "ours");
    let output = run("05_copy", &["-r", &source, &ours]);
    let stderr = fails(&output, 1);
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].ends_with("tree/a/fifo is no file, folder or symbolic link"), "{stderr}");
    assert_eq!(lines[1], "05_copy: 1 entries were not copied");
    assert!(text(&output.stdout).starts_with("303 files in 6 folders\n"));
    fs::remove_file(format!("{source}/a/fifo")).unwrap();
    assert_alike(&ours, &source);
}

#[test]
fn a_folder_is_not_copied_into_itself_or_over_a_file() {
    let folder = Folder::new("trees-wrong");
    let source = tree(&folder);
    let file = folder.file("file", b"here");
    let cases = [
        (source.clone(), "cannot be copied into itself"),
        (format!("{source}/a/b/new"), "cannot be copied into itself"),
        (file, "file is in the way, and no directory"),
        (format!("{source}x/y/z"), "z: No such file or directory"),
    ];
    let before = listing(Path::new(&source)).len();
    for (dest, what) in cases {
        let stderr = fails(&run("05_copy", &["-r", &source, &dest]), 1);
        assert!(stderr.contains(what) && stderr.lines().count() == 1, "{dest}: {stderr}");
    }
    assert_eq!(listing(Path::new(&source)).len(), before);
}
