//! Entries that name files by their paths: what each asks for.
//!
//! Paths are read as an entry is consumed, and need not live longer.
#![allow(unsafe_code, reason = "reads what entries point to")]

use std::os::fd::RawFd;

use annulus_sys::abi::{OpenHow, Sqe};
use annulus_sys::flags::SqeFlags;
use annulus_sys::opcode::Opcode;

use super::super::region::{Span, Use, read_value};
use super::net::place;
use super::{Job, Place};

/// The longest path, with its zero; and the size of a `struct statx`.
const PATH_MAX: u64 = 4096;
const STATX: usize = 256;

/// A path, and the folder that it begins in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Path {
    pub(in crate::sim) dir: RawFd,
    pub(in crate::sim) text: Vec<u8>,
}

/// What is done with paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) enum PathJob {
    Open { at: Path, how: OpenHow, into: Option<Place> },
    Stat { at: Path, flags: i32 },
    Rename { from: Path, to: Path, flags: u32 },
    Unlink { at: Path, is_folder: bool },
    MakeFolder { at: Path, mode: u32 },
    Link { from: Path, to: Path, flags: i32 },
    Symlink { target: Vec<u8>, at: Path },
}

impl PathJob {
    /// Whether a worker runs it from the start (`io_openat_force_async`, v6.18).
    pub(in crate::sim) fn may_block(&self) -> bool {
        let Self::Open { how, .. } = self else { return true };
        let changes = libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY);
        how.flags & u64::from(changes.cast_unsigned()) != 0
    }
}

/// What an entry asks for, and the memory that it writes.
pub(super) fn path_entry(sqe: &Sqe) -> Result<(Job, Vec<Span>), i32> {
    let is_odd = match sqe.opcode {
        Opcode::STATX | Opcode::RENAMEAT | Opcode::LINKAT => sqe.file_index != 0,
        Opcode::UNLINKAT => sqe.off != 0 || sqe.len != 0 || sqe.file_index != 0,
        Opcode::MKDIRAT => sqe.off != 0 || sqe.op_flags != 0 || sqe.file_index != 0,
        Opcode::SYMLINKAT => sqe.len != 0 || sqe.op_flags != 0 || sqe.file_index != 0,
        _ => false,
    };
    if is_odd || sqe.ioprio != 0 {
        return Err(libc::EINVAL);
    }
    if sqe.flags.contains(SqeFlags::FIXED_FILE) {
        return Err(libc::EBADF);
    }
    let mut spans = Vec::new();
    let job = match sqe.opcode {
        Opcode::OPENAT | Opcode::OPENAT2 => open(sqe)?,
        Opcode::STATX => {
            spans.push(Span { address: sqe.off, len: STATX, use_: Use::Writes });
            let flags = sqe.op_flags.cast_signed();
            let may_be_empty = flags & libc::AT_EMPTY_PATH != 0;
            // The highest bit is reserved for more bits.
            let flags = if sqe.len >> 31 == 0 { flags } else { -1 };
            PathJob::Stat { at: path(sqe.fd, sqe.addr, may_be_empty)?, flags }
        }
        Opcode::UNLINKAT => {
            let flags = sqe.op_flags.cast_signed();
            if flags & !libc::AT_REMOVEDIR != 0 {
                return Err(libc::EINVAL);
            }
            PathJob::Unlink { at: path(sqe.fd, sqe.addr, false)?, is_folder: flags != 0 }
        }
        Opcode::MKDIRAT => {
            PathJob::MakeFolder { at: path(sqe.fd, sqe.addr, false)?, mode: sqe.len }
        }
        Opcode::SYMLINKAT => {
            let target = path(0, sqe.addr, false)?.text;
            PathJob::Symlink { target, at: path(sqe.fd, sqe.off, false)? }
        }
        _ => two_paths(sqe)?,
    };
    Ok((Job::Path(Box::new(job)), spans))
}

fn two_paths(sqe: &Sqe) -> Result<PathJob, i32> {
    let from = path(sqe.fd, sqe.addr, false)?;
    let to = path(sqe.len.cast_signed(), sqe.off, false)?;
    if sqe.opcode == Opcode::RENAMEAT {
        return Ok(PathJob::Rename { from, to, flags: sqe.op_flags });
    }
    Ok(PathJob::Link { from, to, flags: sqe.op_flags.cast_signed() })
}

fn open(sqe: &Sqe) -> Result<PathJob, i32> {
    let how = match sqe.opcode {
        Opcode::OPENAT => {
            let (flags, mode) = (sqe.op_flags.cast_signed(), sqe.len & 0o7777);
            // What is not known is not looked at.
            let flags = flags & VALID;
            let flags = if flags & libc::O_PATH != 0 { flags & WITH_PATH } else { flags };
            let mode = if flags & libc::O_CREAT != 0 { mode } else { 0 };
            OpenHow { flags: u64::from(flags.cast_unsigned()), mode: mode.into(), resolve: 0 }
        }
        _ if (sqe.len as usize) < size_of::<OpenHow>() => return Err(libc::EINVAL),
        // A newer program, whose new fields may be zero on Linux.
        _ if sqe.len as usize > size_of::<OpenHow>() => return Err(libc::E2BIG),
        // SAFETY: a live `struct open_how`, for which the program vouched (OP1).
        _ => unsafe { read_value::<OpenHow>(sqe.off) },
    };
    let at = path(sqe.fd, sqe.addr, false)?;
    let into = place(sqe);
    if into.is_some() && how.flags & u64::from(libc::O_CLOEXEC.cast_unsigned()) != 0 {
        return Err(libc::EINVAL);
    }
    Ok(PathJob::Open { at, how, into })
}

/// The flags that `open(2)` knows; and those that go with `O_PATH`.
pub(in crate::sim) const VALID: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | libc::O_LARGEFILE
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE;
pub(in crate::sim) const WITH_PATH: i32 =
    libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH | libc::O_CLOEXEC;

/// The path at an address, relative to a folder.
fn path(dir: RawFd, address: u64, may_be_empty: bool) -> Result<Path, i32> {
    let mut text = Vec::new();
    for at in 0..PATH_MAX {
        // SAFETY: a byte of the path, which has not ended before it (OP1).
        match unsafe { read_value::<u8>(address + at) } {
            0 if text.is_empty() && !may_be_empty => return Err(libc::ENOENT),
            0 => return Ok(Path { dir, text }),
            byte => text.push(byte),
        }
    }
    Err(libc::ENAMETOOLONG)
}
