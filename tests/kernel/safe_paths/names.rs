//! Names, safe API: created, renamed, swapped, removed.
//!
//! | operation | what is checked afterwards |
//! |---|---|
//! | `RenameAt` | which name has which text |
//! | `UnlinkAt`, `MkdirAt` | the contents of the directory |
//! | `SymlinkAt`, `LinkAt` | where the link leads, how many names the file has |

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

use annulus::op::{Cwd, How, LinkAt, MkdirAt, Mode, OpenAt, Read, RenameAt, SymlinkAt, UnlinkAt};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, is_root, test};
use crate::safe_files::{Folder, c, errno, opened_again, run, small};

const RENAME: Need = Need::Op(Opcode::RENAMEAT);
const UNLINK: Need = Need::Op(Opcode::UNLINKAT);
const MKDIR: Need = Need::Op(Opcode::MKDIRAT);
const SYMLINK: Need = Need::Op(Opcode::SYMLINKAT);
const LINK: Need = Need::Op(Opcode::LINKAT);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_file_gets_another_name", &[RENAME], rename),
        test("a_name_that_is_taken_is_kept_if_so_asked", &[RENAME], rename_no_replace),
        test("two_names_are_swapped", &[RENAME], rename_exchange),
        test("options_of_a_rename_that_exclude_each_other_are_refused", &[RENAME], rename_both),
        test("a_name_is_taken_away", &[UNLINK], unlink),
        test("a_directory_is_removed_when_it_is_empty", &[UNLINK, MKDIR], rmdir),
        test("a_directory_is_made_with_its_permissions", &[MKDIR], mkdir),
        test("a_link_leads_where_it_was_told", &[SYMLINK], symlink),
        test("a_file_has_two_names", &[LINK], link),
        test("a_link_is_followed_if_so_asked", &[LINK, SYMLINK], link_follow),
        test("a_file_without_a_name_gets_one", &[LINK], link_temporary),
        test("an_open_file_gets_a_name", &[LINK], link_open_file),
        test("a_directory_that_is_none_gives_all_back", &[RENAME, MKDIR], no_directory),
        test("a_name_that_is_too_long_is_refused", &[UNLINK, MKDIR], too_long),
        test("a_cancelled_rename_changes_nothing", &[RENAME], cancelled),
    ]
}

fn rename() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"text");
    folder.file("b", b"goes");
    let dir = Rc::new(folder.open());
    let rename = RenameAt::new(Rc::clone(&dir), c"a", Cwd, c(&folder.path("b")));
    let renamed = run(&mut ring, rename);
    renamed.result?;
    assert_eq!((renamed.fd.0.as_raw_fd(), renamed.buf.0), (dir.as_raw_fd(), c"a"));
    assert_eq!(renamed.buf.1, c(&folder.path("b")));
    assert_eq!(fs::read(folder.path("b"))?, b"text");
    assert!(!folder.path("a").exists());
    Ok(())
}

fn rename_no_replace() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"text");
    folder.file("b", b"stays");
    let dir = Rc::new(folder.open());
    let taken = RenameAt::new(Rc::clone(&dir), c"a", Rc::clone(&dir), c"b").no_replace();
    assert_eq!(errno(&run(&mut ring, taken)), Some(libc::EEXIST));
    assert_eq!(fs::read(folder.path("b"))?, b"stays");
    let free = RenameAt::new(Rc::clone(&dir), c"a", dir, c"c").exchange().no_replace();
    run(&mut ring, free).result?;
    assert_eq!(fs::read(folder.path("c"))?, b"text");
    Ok(())
}

fn rename_exchange() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"first");
    folder.file("b", b"second");
    let dir = Rc::new(folder.open());
    let swap = RenameAt::new(Rc::clone(&dir), c"a", Rc::clone(&dir), c"b").no_replace().exchange();
    run(&mut ring, swap).result?;
    assert_eq!(fs::read(folder.path("a"))?, b"second");
    assert_eq!(fs::read(folder.path("b"))?, b"first");
    let alone = RenameAt::new(Rc::clone(&dir), c"a", dir, c"nobody").exchange();
    assert_eq!(errno(&run(&mut ring, alone)), Some(libc::ENOENT));
    Ok(())
}

fn rename_both() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"text");
    let dir = Rc::new(folder.open());
    let both = RenameAt::new(Rc::clone(&dir), c"a", dir, c"b").exchange().leave_whiteout();
    assert_eq!(errno(&run(&mut ring, both)), Some(libc::EINVAL));
    assert_eq!(fs::read(folder.path("a"))?, b"text");
    Ok(())
}

fn unlink() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"text");
    let dir = Rc::new(folder.open());
    run(&mut ring, UnlinkAt::new(Rc::clone(&dir), c"a")).result?;
    assert!(!folder.path("a").exists());
    let again = run(&mut ring, UnlinkAt::new(Rc::clone(&dir), c"a"));
    assert_eq!(errno(&again), Some(libc::ENOENT));
    assert_eq!((again.fd.as_raw_fd(), again.buf), (dir.as_raw_fd(), c"a"));
    Ok(())
}

fn rmdir() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let dir = Rc::new(folder.open());
    run(&mut ring, MkdirAt::new(Rc::clone(&dir), c"d", Mode::new(0o700))).result?;
    folder.file("d/inside", b"");
    let full = UnlinkAt::new(Rc::clone(&dir), c"d").directory();
    assert_eq!(errno(&run(&mut ring, full)), Some(libc::ENOTEMPTY));
    let file = UnlinkAt::new(Rc::clone(&dir), c"d/inside").directory();
    assert_eq!(errno(&run(&mut ring, file)), Some(libc::ENOTDIR));
    run(&mut ring, UnlinkAt::new(Rc::clone(&dir), c"d/inside")).result?;
    let directory = UnlinkAt::new(Rc::clone(&dir), c"d");
    assert_eq!(errno(&run(&mut ring, directory)), Some(libc::EISDIR));
    run(&mut ring, UnlinkAt::new(dir, c"d").directory()).result?;
    assert!(!folder.path("d").exists());
    Ok(())
}

fn mkdir() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let path = c(&folder.path("d"));
    let made = run(&mut ring, MkdirAt::new(Cwd, path, Mode::new(0o500)));
    made.result?;
    let metadata = fs::metadata(folder.path("d"))?;
    // Whatever the process's umask is, the mode has no more bits than were asked for.
    assert_eq!((metadata.is_dir(), metadata.permissions().mode() & 0o277), (true, 0));
    let again = run(&mut ring, MkdirAt::new(Cwd, made.buf, Mode::new(0o700)));
    assert_eq!(errno(&again), Some(libc::EEXIST));
    assert_eq!(again.buf, c(&folder.path("d")));
    Ok(())
}

fn symlink() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let dir = Rc::new(folder.open());
    let made = run(&mut ring, SymlinkAt::new(c"some/where", Rc::clone(&dir), c"link"));
    made.result?;
    assert_eq!((made.fd.as_raw_fd(), made.buf), (dir.as_raw_fd(), (c"some/where", c"link")));
    assert_eq!(fs::read_link(folder.path("link"))?, Path::new("some/where"));
    let taken = run(&mut ring, SymlinkAt::new(c"x", Rc::clone(&dir), c"link"));
    assert_eq!(errno(&taken), Some(libc::EEXIST));
    let nowhere = run(&mut ring, SymlinkAt::new(c"", dir, c"other"));
    assert_eq!(errno(&nowhere), Some(libc::ENOENT));
    Ok(())
}

fn link() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"text");
    let dir = Rc::new(folder.open());
    let to = c(&folder.path("b"));
    let linked = run(&mut ring, LinkAt::new(Rc::clone(&dir), c"a", Cwd, to));
    linked.result?;
    assert_eq!((linked.fd.0.as_raw_fd(), linked.buf.0), (dir.as_raw_fd(), c"a"));
    assert_eq!(fs::read(folder.path("b"))?, b"text");
    assert_eq!(fs::metadata(folder.path("a"))?.nlink(), 2);
    let taken = run(&mut ring, LinkAt::new(Rc::clone(&dir), c"a", dir, c"b"));
    assert_eq!(errno(&taken), Some(libc::EEXIST));
    Ok(())
}

fn link_follow() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"text");
    let dir = Rc::new(folder.open());
    run(&mut ring, SymlinkAt::new(c"a", Rc::clone(&dir), c"link")).result?;
    let followed = LinkAt::new(Rc::clone(&dir), c"link", Rc::clone(&dir), c"b").follow();
    run(&mut ring, followed).result?;
    assert_eq!(fs::symlink_metadata(folder.path("b"))?.len(), 4, "the file, not the link");
    assert!(fs::symlink_metadata(folder.path("b"))?.is_file());
    run(&mut ring, LinkAt::new(Rc::clone(&dir), c"link", dir, c"link2")).result?;
    assert_eq!(fs::read_link(folder.path("link2"))?, Path::new("a"), "the link, not the file");
    Ok(())
}

fn link_temporary() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let how = How::write().temporary(Mode::new(0o600));
    let temporary = run(&mut ring, OpenAt::new(Cwd, c(&folder.path("")), how)).result?;
    let mut file = fs::File::from(temporary);
    file.write_all(b"all of it, or nothing")?;
    let link = LinkAt::new(Cwd, opened_again(&file), folder.open(), c"whole").follow();
    run(&mut ring, link).result?;
    assert_eq!(fs::read(folder.path("whole"))?, b"all of it, or nothing");
    Ok(())
}

fn link_open_file() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let file = Rc::new(folder.file("a", b"text"));
    let linked = run(&mut ring, LinkAt::open_file(Rc::clone(&file), folder.open(), c"b"));
    assert!(Rc::ptr_eq(&linked.fd.0, &file));
    match linked.result {
        Ok(()) => assert_eq!(fs::read(folder.path("b"))?, b"text"),
        // Before Linux 6.10 only root may, and even that not everywhere.
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(!folder.path("b").exists());
            assert!(!is_root(), "root may");
        }
    }
    Ok(())
}

fn no_directory() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let file = Rc::new(folder.file("a", b"text"));
    let made = run(&mut ring, MkdirAt::new(Rc::clone(&file), c"d", Mode::new(0o700)));
    assert_eq!(errno(&made), Some(libc::ENOTDIR));
    assert!(Rc::ptr_eq(&made.fd, &file));
    let path = c(&folder.path("b"));
    let renamed = run(&mut ring, RenameAt::new(folder.open(), c"a", Rc::clone(&file), path));
    // An absolute path starts nowhere else.
    renamed.result?;
    let renamed = run(&mut ring, RenameAt::new(Rc::clone(&file), c"b", Cwd, renamed.buf.1));
    assert_eq!(errno(&renamed), Some(libc::ENOTDIR));
    assert_eq!(renamed.buf, (c"b", c(&folder.path("b"))));
    assert_eq!(fs::read(folder.path("b"))?, b"text");
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let mut ring = small();
    let name = c(Path::new(&"n".repeat(300)));
    let removed = run(&mut ring, UnlinkAt::new(Cwd, name.clone()));
    assert_eq!(errno(&removed), Some(libc::ENAMETOOLONG));
    assert_eq!(removed.buf, name);
    // Longer than any path may be: refused before anybody looks at a file system.
    let path = c(Path::new(&"p/".repeat(3000)));
    let made = run(&mut ring, MkdirAt::new(Cwd, path.clone(), Mode::new(0o700)));
    assert_eq!(errno(&made), Some(libc::ENAMETOOLONG));
    assert_eq!(made.buf, path);
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    folder.file("a", b"text");
    let (silent, _writer) = std::io::pipe()?;
    let dir = Rc::new(folder.open());
    let rename = RenameAt::new(Rc::clone(&dir), c"a", Rc::clone(&dir), c"b");
    let tickets = ring.submit_chain((Read::new(silent, [0; 1]), rename));
    let (read, rename) = tickets.map_err(|rejected| rejected.why)?.into_tickets();
    ring.submit_all()?;
    ring.cancel(&read)?;
    assert!(ring.wait(read)?.result.is_err());
    let renamed = ring.wait(rename)?;
    assert_eq!(errno(&renamed), Some(libc::ECANCELED));
    assert_eq!((renamed.fd.0.as_raw_fd(), renamed.buf), (dir.as_raw_fd(), (c"a", c"b")));
    assert_eq!(fs::read(folder.path("a"))?, b"text");
    Ok(())
}
