//! Extended attributes, safe API: by path and of an open file.
//!
//! Which attributes a user may set depends on the file system and its age, so the tests take the
//! first name that works in the directory for temporary files.
#![allow(unsafe_code, reason = "asks the C library what the standard library does not")]

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;

use annulus::buf::Append;
use annulus::op::{Fgetxattr, Fsetxattr, Getxattr, Presence, Setxattr};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, test};
use crate::safe_files::{Folder, c, errno, run, small};

const SET: Need = Need::Op(Opcode::SETXATTR);
const GET: Need = Need::Op(Opcode::GETXATTR);
const FSET: Need = Need::Op(Opcode::FSETXATTR);
const FGET: Need = Need::Op(Opcode::FGETXATTR);
const NAMED: Need = Need::Other(no_attributes);

pub fn tests() -> Vec<Trial> {
    vec![
        test("an_attribute_of_a_path_is_set_and_read", &[SET, GET, NAMED], by_path),
        test("an_attribute_of_an_open_file_is_set_and_read", &[FSET, FGET, NAMED], of_file),
        test("without_room_a_value_tells_its_length", &[GET, NAMED], length),
        test("a_value_longer_than_its_buffer_is_not_cut", &[GET, NAMED], too_long),
        test("an_attribute_is_made_or_replaced_as_asked", &[SET, NAMED], presence),
        test("an_attribute_that_cannot_be_gives_all_back", &[SET, GET], refused),
        test("an_attribute_of_no_file_gives_all_back", &[SET, GET], no_file),
        test("an_attribute_of_a_registered_file_is_read_or_refused", &[SET, NAMED], fixed),
    ]
}

/// The names that may work, the most common first: `tmpfs` has the first since Linux 6.6, and has
/// had the second for root.
const NAMES: [&CStr; 2] = [c"user.annulus", c"trusted.annulus"];

/// Sets an attribute by the call that everybody has.
fn set(file: &File, name: &CStr, value: &[u8]) -> bool {
    let (start, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: a live name and a live value, which the kernel reads, because `fsetxattr(2)` says so.
    unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), start, len, 0) == 0 }
}

/// The first name that works here.
fn name() -> Option<&'static CStr> {
    let folder = Folder::new();
    let file = folder.file("probe", b"");
    NAMES.into_iter().find(|name| set(&file, name, b"value"))
}

fn no_attributes() -> Option<String> {
    let reason = "needs a file system with attributes for this user (tmpfs: Linux 6.6)";
    name().is_none().then(|| reason.to_owned())
}

/// A directory, a file in it that has the attribute with the value `text`, and the name.
fn file(text: &[u8]) -> (Folder, Rc<File>, &'static CStr) {
    let folder = Folder::new();
    let file = folder.file("a", b"bytes");
    let name = name().expect("there is one, or the test does not run");
    assert!(set(&file, name, text));
    (folder, Rc::new(file), name)
}

fn by_path() -> Result<(), Failed> {
    let (mut ring, (folder, file, name)) = (small(), file(b"old"));
    let path = c(&folder.path("a"));
    let set = run(&mut ring, Setxattr::new(path, name, "a value".to_owned()));
    set.result?;
    assert_eq!((&set.fd, &set.buf), (&c(&folder.path("a")), &(name, "a value".to_owned())));
    let get = run(&mut ring, Getxattr::new(set.fd, name, Vec::with_capacity(64)));
    assert_eq!((get.result?, get.buf.1.as_slice()), (7, &b"a value"[..]));
    assert_eq!(file.metadata()?.len(), 5, "the bytes are others");
    Ok(())
}

fn of_file() -> Result<(), Failed> {
    let (mut ring, (_folder, file, name)) = (small(), file(b"old"));
    let set = run(&mut ring, Fsetxattr::new(Rc::clone(&file), name, *b"new"));
    set.result?;
    assert!(Rc::ptr_eq(&set.fd, &file));
    let get = run(&mut ring, Fgetxattr::new(file, name.to_owned(), [b'-'; 5]));
    assert_eq!((get.result?, get.buf), (3, (name.to_owned(), *b"new--")));
    let emptied = run(&mut ring, Fsetxattr::new(Rc::clone(&get.fd), name, ""));
    emptied.result?;
    let get = run(&mut ring, Fgetxattr::new(get.fd, name, [b'-'; 5]));
    assert_eq!((get.result?, get.buf.1), (0, *b"-----"));
    Ok(())
}

fn length() -> Result<(), Failed> {
    let (mut ring, (folder, file, name)) = (small(), file(b"eleven long"));
    let asked = run(&mut ring, Fgetxattr::new(file, name, Vec::new()));
    assert_eq!((asked.result?, asked.buf.1.len()), (11, 0));
    // Nothing can be appended to a full vector either, and it keeps its bytes.
    let full = Append::new(vec![7_u8; 4].into_boxed_slice().into_vec());
    let asked = run(&mut ring, Getxattr::new(c(&folder.path("a")), name, full));
    assert_eq!((asked.result?, asked.buf.1.into_inner()), (11, vec![7; 4]));
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let (mut ring, (folder, _file, name)) = (small(), file(b"eleven long"));
    let cut = run(&mut ring, Getxattr::new(c(&folder.path("a")), name, [b'-'; 10]));
    assert_eq!(errno(&cut), Some(libc::ERANGE));
    assert_eq!(cut.buf, (name, [b'-'; 10]));
    // More than any value may have, and more than the crate passes to the kernel.
    let huge = vec![1_u8; (64 << 10) + 1];
    let set = run(&mut ring, Setxattr::new(cut.fd, name, huge));
    assert_eq!(errno(&set), Some(libc::E2BIG));
    assert_eq!(set.buf.1.len(), (64 << 10) + 1);
    Ok(())
}

fn presence() -> Result<(), Failed> {
    let (mut ring, (folder, file, name)) = (small(), file(b"old"));
    let path = c(&folder.path("a"));
    let absent = Setxattr::new(path, name, "new").presence(Presence::Absent);
    let absent = run(&mut ring, absent);
    assert_eq!(errno(&absent), Some(libc::EEXIST));
    let present = Setxattr::new(absent.fd, name, "new").presence(Presence::Present);
    run(&mut ring, present).result?;
    let get = run(&mut ring, Fgetxattr::new(Rc::clone(&file), name, [0; 3]));
    assert_eq!((get.result?, get.buf.1), (3, *b"new"));
    let mut other = name.to_bytes().to_vec();
    other.extend_from_slice(b".other\0");
    let other = CStr::from_bytes_with_nul(&other)?.to_owned();
    let present = Fsetxattr::new(file, other.clone(), "new").presence(Presence::Present);
    let present = run(&mut ring, present);
    assert_eq!(errno(&present), Some(libc::ENODATA));
    let absent = Fsetxattr::new(present.fd, other.clone(), "new").presence(Presence::Absent);
    let absent = run(&mut ring, absent);
    absent.result?;
    let get = run(&mut ring, Fgetxattr::new(absent.fd, other, [0; 3]));
    assert_eq!(get.buf.1, *b"new");
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let file = Rc::new(folder.file("a", b""));
    let set = run(&mut ring, Fsetxattr::new(Rc::clone(&file), c"nobody.knows", "value"));
    assert_eq!(errno(&set), Some(libc::EOPNOTSUPP));
    assert_eq!(set.buf, (c"nobody.knows", "value"));
    let long = c(Path::new(&"n".repeat(256)));
    for name in [c"".to_owned(), long] {
        let get = run(&mut ring, Fgetxattr::new(Rc::clone(&file), name.clone(), [7; 3]));
        assert_eq!(errno(&get), Some(libc::ERANGE));
        assert!(Rc::ptr_eq(&get.fd, &file));
        assert_eq!(get.buf, (name, [7; 3]));
    }
    Ok(())
}

fn no_file() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let path = c(&folder.path("none"));
    let get = run(&mut ring, Getxattr::new(path.clone(), c"user.a", [7; 3]));
    assert_eq!(errno(&get), Some(libc::ENOENT));
    assert_eq!((&get.fd, get.buf), (&path, (c"user.a", [7; 3])));
    let set = run(&mut ring, Setxattr::new(get.fd, c"user.a", "value"));
    assert_eq!(errno(&set), Some(libc::ENOENT));
    assert_eq!((set.fd, set.buf), (path, (c"user.a", "value")));
    Ok(())
}

fn fixed() -> Result<(), Failed> {
    let (mut ring, (_folder, file, name)) = (small(), file(b"value"));
    let table = ring.file_table(1)?;
    let fixed = table.insert(&mut ring, &*file)?;
    let get = run(&mut ring, Fgetxattr::new(fixed, name, [0; 5]));
    // Fixed in Linux 6.12, and in later releases of the series before it.
    match get.result {
        Ok(count) => assert_eq!((count, &get.buf.1), (5, b"value")),
        Err(ref error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            assert!(!here().has_op(Opcode::READV_FIXED), "Linux 6.15 can: {error}");
        }
    }
    Ok(())
}
