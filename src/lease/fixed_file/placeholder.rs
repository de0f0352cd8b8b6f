//! What lies in a place of the table that is held and has no file.
//!
//! To the kernel an empty place is free, and it could put another file there. So a held place is
//! never empty: `/dev/null` lies in it, opened for neither reading nor writing. A read or write of
//! it fails at once, where one of an epoll instance, for example, would wait.
#![allow(unsafe_code, reason = "opens with a mode that the standard library does not know")]

use std::cell::OnceCell;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::rc::Rc;

/// Neither reading nor writing: see "File access mode" in `open(2)`.
const NEITHER: i32 = libc::O_ACCMODE;

/// The placeholder of a table, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Placeholder(OnceCell<Rc<OwnedFd>>);

impl Placeholder {
    pub(super) fn get(&self) -> io::Result<Rc<OwnedFd>> {
        if let Some(fd) = self.0.get() {
            return Ok(Rc::clone(fd));
        }
        // SAFETY: the path is a C string that lives during the call, and nothing is created.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), NEITHER | libc::O_CLOEXEC) };
        if null < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `open` returned a new descriptor, which nobody else owns.
        let null = unsafe { OwnedFd::from_raw_fd(null) };
        Ok(Rc::clone(self.0.get_or_init(|| Rc::new(null))))
    }
}
