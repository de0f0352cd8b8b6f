//! Entries: each operation as the 64 bytes that the kernel reads.
//!
//! ```text
//!   prep::read(fd, addr, len, offset)  ─►  Sqe { opcode: READ, fd, addr, len, off: offset, .. }
//! ```
//!
//! A function here knows one thing: which argument lies in which field. The literal that it returns
//! is the layout. Making an entry is safe; [pushing](crate::RawRing::push) it is not, since its
//! addresses are then used. For those who own their memory themselves; the
//! [operations](crate::op) of the safe face are made of the same entries.
//!
//! Held against `tests/data`'s encodings, byte by byte. Leaves to others: `user_data`, links.

mod advice;
mod direct;
mod file;
mod fixed;
mod fs;
mod net;
mod path;
mod ring;
mod splice;
mod xattr;

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

pub use advice::{fadvise, fadvise64, madvise, madvise64, sync_file_range};
pub use direct::{close_direct, direct, direct_alloc, fixed_fd_install, pipe};
pub use file::{fallocate, fsync, ftruncate, read, readv, with_attributes, write, writev};
pub use fixed::{
    files_update, read_fixed, read_multishot, read_picked, readv_fixed, write_fixed, writev_fixed,
};
pub use fs::{close, openat, openat2, statx};
pub use net::{
    accept, bind, connect, listen, recv, recv_picked, recvmsg, send, send_to, send_zc, sendmsg,
    sendmsg_zc, shutdown, socket,
};
pub use path::{linkat, mkdirat, renameat, symlinkat, unlinkat};
pub use ring::{
    cancel, cancel_fd, cancel_opcode, cancel_word, link_timeout, msg_ring, poll_add,
    poll_multishot, poll_remove, poll_update, timeout, timeout_remove, timeout_update,
};
pub use splice::{splice, tee};
pub use xattr::{fgetxattr, fsetxattr, getxattr, setxattr};

/// `IORING_OP_NOP`: does nothing. Since Linux 5.1.
#[doc(alias = "io_uring_prep_nop")]
#[inline]
pub fn nop() -> Sqe {
    Sqe { opcode: Opcode::NOP, fd: -1, ..Sqe::ZERO }
}
