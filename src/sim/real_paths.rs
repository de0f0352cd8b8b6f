//! Operations on paths of the machine, where the test has allowed them.
//!
//! | an entry names | is one of the machine |
//! |---|---|
//! | a path below a folder that was allowed | always; the text decides, and `..` is not looked at |
//! | a path from a real folder that is open | if any folder was allowed |
//! | no path, but a real descriptor (`AT_EMPTY_PATH`) | for `STATX` |
//! | one path of each kind | – (`EXDEV`) |
#![allow(unsafe_code, reason = "makes calls of the machine")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use annulus_sys::abi::OpenHow;

use super::real::is_open;
use super::request::{Path, PathJob, Place};
use super::run::Try;
use super::state::State;
use super::trace::RequestId;
use super::world::World;

/// The size of a `struct statx`.
const STATX: usize = 256;

/// A path as the machine takes it.
struct At {
    dir: RawFd,
    text: CString,
}

impl At {
    fn of(path: &Path) -> Self {
        let dir = if path.text.first() == Some(&b'/') { libc::AT_FDCWD } else { path.dir };
        let text = CString::new(&path.text[..]).expect("it ends at its first zero");
        Self { dir, text }
    }

    fn text(&self) -> *const libc::c_char {
        self.text.as_ptr()
    }
}

/// The result of a call of the machine.
fn answer(number: libc::c_long) -> i32 {
    let failed = || -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    if number < 0 { failed() } else { i32::try_from(number).expect("an int") }
}

impl State {
    /// Does what a request wants with paths of the machine; `None` if they are of this world.
    pub(super) fn try_real_path(&mut self, id: RequestId, job: &PathJob) -> Option<Try> {
        let is_real = |path: &Path| self.world.is_real(path);
        let (first, second) = match job {
            PathJob::Stat { at, .. } if at.text.is_empty() => (self.world.is_other(at.dir), None),
            PathJob::Open { at, .. } | PathJob::Stat { at, .. } => (is_real(at), None),
            PathJob::Unlink { at, .. } | PathJob::MakeFolder { at, .. } => (is_real(at), None),
            PathJob::Symlink { at, .. } => (is_real(at), None),
            PathJob::Rename { from, to, .. } | PathJob::Link { from, to, .. } => {
                (is_real(from), Some(is_real(to)))
            }
        };
        if !first && second != Some(true) {
            return None;
        }
        if !self.is_sound() {
            return Some(Try::Ends(-libc::EIO));
        }
        if second.is_some_and(|second| second != first) {
            return Some(Try::Ends(-libc::EXDEV));
        }
        Some(Try::Ends(match job {
            PathJob::Open { at, how, into } => self.open_real_path(id, at, *how, *into),
            PathJob::Stat { at, flags } => self.stat_real_path(id, at, *flags),
            other => change(other),
        }))
    }

    fn open_real_path(
        &mut self,
        id: RequestId,
        at: &Path,
        how: OpenHow,
        into: Option<Place>,
    ) -> i32 {
        let at = At::of(at);
        let size = size_of::<OpenHow>();
        // SAFETY: a live path and a live `struct open_how` of that size, both of which the call
        // only reads.
        let opened = answer(unsafe {
            libc::syscall(libc::SYS_openat2, at.dir, at.text(), &raw const how, size)
        });
        let Some(place) = into.filter(|_| opened >= 0) else { return opened };
        // SAFETY: a new descriptor, which nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(opened) };
        let ring = self.requests[&id].ring;
        let Some(end) = self.world.real(fd.as_raw_fd()) else { return -libc::EMFILE };
        let put = self.put(ring, end, place);
        self.sweep();
        put.unwrap_or_else(|errno| -errno)
    }

    fn stat_real_path(&mut self, id: RequestId, at: &Path, flags: i32) -> i32 {
        let at = At::of(at);
        let mut bytes = vec![0_u8; STATX];
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        let to = bytes.as_mut_ptr().cast();
        // SAFETY: a live path, and memory for a `struct statx`, which nothing else has.
        let done = unsafe { libc::statx(at.dir, at.text(), flags, mask, to) };
        let done = answer(done.into());
        if done == 0 {
            self.requests.get_mut(&id).expect("in flight").got = bytes;
        }
        done
    }
}

/// Changes names of the machine.
fn change(job: &PathJob) -> i32 {
    let both = |from: &Path, to: &Path| (At::of(from), At::of(to));
    let done = match job {
        PathJob::Open { .. } | PathJob::Stat { .. } => unreachable!("they change no name"),
        PathJob::Rename { from, to, flags } => {
            let (from, to) = both(from, to);
            let call = libc::SYS_renameat2;
            // SAFETY: two live paths, which the call only reads.
            unsafe { libc::syscall(call, from.dir, from.text(), to.dir, to.text(), *flags) }
        }
        PathJob::Unlink { at, is_folder } => {
            let at = At::of(at);
            let flags = if *is_folder { libc::AT_REMOVEDIR } else { 0 };
            // SAFETY: a live path, which the call only reads.
            unsafe { libc::unlinkat(at.dir, at.text(), flags) }.into()
        }
        PathJob::MakeFolder { at, mode } => {
            let at = At::of(at);
            // SAFETY: a live path, which the call only reads.
            unsafe { libc::mkdirat(at.dir, at.text(), *mode) }.into()
        }
        PathJob::Link { from, to, flags } => {
            let (from, to) = both(from, to);
            // SAFETY: two live paths, which the call only reads.
            unsafe { libc::linkat(from.dir, from.text(), to.dir, to.text(), *flags) }.into()
        }
        PathJob::Symlink { target, at } => {
            let (at, target) = (At::of(at), CString::new(&target[..]).expect("no zero"));
            // SAFETY: two live paths, which the call only reads.
            unsafe { libc::symlinkat(target.as_ptr(), at.dir, at.text()) }.into()
        }
    };
    answer(done)
}

impl World {
    /// Whether a number is that of a descriptor which is not of this world.
    fn is_other(&self, fd: RawFd) -> bool {
        self.find_any(fd).is_none() && is_open(fd)
    }

    /// Whether a path is one of the machine.
    fn is_real(&self, path: &Path) -> bool {
        if path.text.first() != Some(&b'/') {
            return !self.roots.is_empty() && self.is_other(path.dir);
        }
        self.roots.iter().any(|root| {
            let below = path.text.strip_prefix(&root[..]);
            below.is_some_and(|below| below.is_empty() || below[0] == b'/')
        })
    }
}
