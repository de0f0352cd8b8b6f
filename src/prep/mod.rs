//! Entries: each operation as the 64 bytes that the kernel reads.
//!
//! ```text
//!   prep::read(fd, addr, len, offset)  ─►  Sqe { opcode: READ, fd, addr, len, off: offset, .. }
//! ```
//!
//! A function here knows one thing: which argument goes into which field. The literal that it
//! returns is the layout. Making an entry is safe. [Pushing](crate::RawRing::push) it is `unsafe`,
//! since the kernel then uses the addresses in it. These functions are for callers who manage the
//! memory themselves. The [operations](crate::op) of the safe API are made of the same entries.
//!
//! Tests compare every entry byte by byte with the encodings in `tests/data`. Leaves to others:
//! `user_data`, links.

mod advice;
mod command;
mod direct;
mod file;
mod fixed;
mod fs;
mod futex;
#[cfg(test)]
mod golden;
mod net;
mod nop;
mod path;
mod process;
mod provided;
mod ring;
mod splice;
mod xattr;

pub use advice::{fadvise, fadvise64, madvise, madvise64, sync_file_range};
pub use command::{
    cmd_discard, cmd_getsockname, cmd_sock, cmd_zone_reset_all, uring_cmd, uring_cmd_wide,
    uring_cmd128,
};
pub use direct::{close_direct, direct, direct_alloc, fixed_fd_install, pipe};
pub use file::{fallocate, fsync, ftruncate, read, readv, with_attributes, write, writev};
pub use fixed::{
    files_update, read_fixed, read_multishot, read_provided, readv_fixed, write_fixed, writev_fixed,
};
pub use fs::{close, openat, openat2, statx};
pub use futex::{futex_wait, futex_waitv, futex_wake};
pub use net::{
    accept, bind, connect, listen, recv, recv_provided, recv_zc, recvmsg, recvmsg_provided, send,
    send_provided, send_to, send_vectored, send_zc, send_zc_fixed, sendmsg, sendmsg_zc,
    sendmsg_zc_fixed, shutdown, socket,
};
pub use nop::{nop, nop_cqe32, nop_with, nop128};
pub use path::{linkat, mkdirat, renameat, symlinkat, unlinkat};
pub use process::{epoll_ctl, epoll_wait, waitid};
pub use provided::{provide_buffers, remove_buffers};
pub use ring::{
    cancel, cancel_fd, cancel_opcode, cancel_user_data, link_timeout, msg_ring, msg_ring_fd,
    msg_ring_fd_alloc, msg_ring_flags, poll_add, poll_multishot, poll_remove, poll_update, timeout,
    timeout_remove, timeout_update,
};
pub use splice::{splice, tee};
pub use xattr::{fgetxattr, fsetxattr, getxattr, setxattr};
