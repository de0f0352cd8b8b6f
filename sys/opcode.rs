//! The opcodes: numbers that choose the operation of an entry or of `io_uring_register(2)`.
//!
//! ```text
//!   number            newtype           count in 7.3        which ones a kernel has
//!   sqe->opcode       Opcode(u8)        Opcode::LAST        RegisterOp::PROBE, ::QUERY
//!   register opcode   RegisterOp(u32)   RegisterOp::LAST    RegisterOp::QUERY
//! ```
//!
//! They are newtypes, not enums: a newer kernel may report numbers that we do not know, and we keep
//! those. Each constant has the kernel's name without its prefix. What the fields of an entry mean
//! to an operation is documented where the operation is built, in the `annulus` crate. The flags
//! are in [`flags`](crate::flags).

use core::fmt;

/// The operation of a request (`IORING_OP_*`, the first byte of an [`Sqe`](crate::abi::Sqe)).
#[doc(alias = "io_uring_op")]
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Opcode(pub u8);

impl Opcode {
    /// Does nothing, and completes. Since Linux 5.1.
    #[doc(alias = "IORING_OP_NOP")]
    pub const NOP: Self = Self(0);
    /// Reads into several buffers, as `preadv2(2)`. Since Linux 5.1.
    #[doc(alias = "IORING_OP_READV")]
    pub const READV: Self = Self(1);
    /// Writes from several buffers, as `pwritev2(2)`. Since Linux 5.1.
    #[doc(alias = "IORING_OP_WRITEV")]
    pub const WRITEV: Self = Self(2);
    /// Writes a file to stable storage, as `fsync(2)` or `fdatasync(2)`. Since Linux 5.1.
    #[doc(alias = "IORING_OP_FSYNC")]
    pub const FSYNC: Self = Self(3);
    /// Reads into part of a registered buffer. Since Linux 5.1.
    #[doc(alias = "IORING_OP_READ_FIXED")]
    pub const READ_FIXED: Self = Self(4);
    /// Writes from part of a registered buffer. Since Linux 5.1.
    #[doc(alias = "IORING_OP_WRITE_FIXED")]
    pub const WRITE_FIXED: Self = Self(5);
    /// Waits until a file is ready, once or (multishot) repeatedly. Since Linux 5.1.
    #[doc(alias = "IORING_OP_POLL_ADD")]
    pub const POLL_ADD: Self = Self(6);
    /// Cancels or (from 5.13) changes a poll in flight. Since Linux 5.1.
    #[doc(alias = "IORING_OP_POLL_REMOVE")]
    pub const POLL_REMOVE: Self = Self(7);
    /// Writes back a range of a file, as `sync_file_range(2)`. Since Linux 5.2.
    #[doc(alias = "IORING_OP_SYNC_FILE_RANGE")]
    pub const SYNC_FILE_RANGE: Self = Self(8);
    /// Sends a message with address and control data, as `sendmsg(2)`. Since Linux 5.3.
    #[doc(alias = "IORING_OP_SENDMSG")]
    pub const SENDMSG: Self = Self(9);
    /// Receives a message with address and control data, as `recvmsg(2)`. Since Linux 5.3.
    #[doc(alias = "IORING_OP_RECVMSG")]
    pub const RECVMSG: Self = Self(10);
    /// Completes after a time, or after a number of other completions. Since Linux 5.4.
    #[doc(alias = "IORING_OP_TIMEOUT")]
    pub const TIMEOUT: Self = Self(11);
    /// Cancels or (from 5.11) changes a timeout in flight. Since Linux 5.5.
    #[doc(alias = "IORING_OP_TIMEOUT_REMOVE")]
    pub const TIMEOUT_REMOVE: Self = Self(12);
    /// Accepts one connection or (multishot) every connection, as `accept4(2)`. Since Linux 5.5.
    #[doc(alias = "IORING_OP_ACCEPT")]
    pub const ACCEPT: Self = Self(13);
    /// Cancels requests in flight. Since Linux 5.5.
    #[doc(alias = "IORING_OP_ASYNC_CANCEL")]
    pub const ASYNC_CANCEL: Self = Self(14);
    /// Limits the time of the request that it is linked after. Since Linux 5.5.
    #[doc(alias = "IORING_OP_LINK_TIMEOUT")]
    pub const LINK_TIMEOUT: Self = Self(15);
    /// Connects a socket, as `connect(2)`. Since Linux 5.5.
    #[doc(alias = "IORING_OP_CONNECT")]
    pub const CONNECT: Self = Self(16);
    /// Allocates or frees space of a file, as `fallocate(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_FALLOCATE")]
    pub const FALLOCATE: Self = Self(17);
    /// Opens a file, as `openat(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_OPENAT")]
    pub const OPENAT: Self = Self(18);
    /// Closes a descriptor or (from 5.15) a registered file. Since Linux 5.6.
    #[doc(alias = "IORING_OP_CLOSE")]
    pub const CLOSE: Self = Self(19);
    /// Replaces slots of the table of registered files. Since Linux 5.6.
    #[doc(alias = "IORING_OP_FILES_UPDATE")]
    pub const FILES_UPDATE: Self = Self(20);
    /// Returns the attributes of a file, as `statx(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_STATX")]
    pub const STATX: Self = Self(21);
    /// Reads into one buffer, as `pread(2)` or (offset −1) `read(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_READ")]
    pub const READ: Self = Self(22);
    /// Writes from one buffer, as `pwrite(2)` or (offset −1) `write(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_WRITE")]
    pub const WRITE: Self = Self(23);
    /// Advises how a file will be read, as `posix_fadvise(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_FADVISE")]
    pub const FADVISE: Self = Self(24);
    /// Advises how memory will be used, as `madvise(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_MADVISE")]
    pub const MADVISE: Self = Self(25);
    /// Sends one buffer, as `send(2)` or (with an address) `sendto(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_SEND")]
    pub const SEND: Self = Self(26);
    /// Receives into one buffer, as `recv(2)`, once or multishot. Since Linux 5.6.
    #[doc(alias = "IORING_OP_RECV")]
    pub const RECV: Self = Self(27);
    /// Opens a file with rules for resolving its path, as `openat2(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_OPENAT2")]
    pub const OPENAT2: Self = Self(28);
    /// Changes the set of an epoll descriptor, as `epoll_ctl(2)`. Since Linux 5.6.
    #[doc(alias = "IORING_OP_EPOLL_CTL")]
    pub const EPOLL_CTL: Self = Self(29);
    /// Moves data between a pipe and a file, as `splice(2)`. Since Linux 5.7.
    #[doc(alias = "IORING_OP_SPLICE")]
    pub const SPLICE: Self = Self(30);
    /// Provides buffers without a buffer ring, the older way. Since Linux 5.7.
    #[doc(alias = "IORING_OP_PROVIDE_BUFFERS")]
    pub const PROVIDE_BUFFERS: Self = Self(31);
    /// Takes back buffers of `PROVIDE_BUFFERS`. Since Linux 5.7.
    #[doc(alias = "IORING_OP_REMOVE_BUFFERS")]
    pub const REMOVE_BUFFERS: Self = Self(32);
    /// Copies from pipe to pipe without consuming the data, as `tee(2)`. Since Linux 5.8.
    #[doc(alias = "IORING_OP_TEE")]
    pub const TEE: Self = Self(33);
    /// Shuts down one or both directions of a socket, as `shutdown(2)`. Since Linux 5.11.
    #[doc(alias = "IORING_OP_SHUTDOWN")]
    pub const SHUTDOWN: Self = Self(34);
    /// Renames a file, as `renameat2(2)`. Since Linux 5.11.
    #[doc(alias = "IORING_OP_RENAMEAT")]
    pub const RENAMEAT: Self = Self(35);
    /// Removes a file name or an empty directory, as `unlinkat(2)`. Since Linux 5.11.
    #[doc(alias = "IORING_OP_UNLINKAT")]
    pub const UNLINKAT: Self = Self(36);
    /// Makes a directory, as `mkdirat(2)`. Since Linux 5.15.
    #[doc(alias = "IORING_OP_MKDIRAT")]
    pub const MKDIRAT: Self = Self(37);
    /// Makes a symbolic link, as `symlinkat(2)`. Since Linux 5.15.
    #[doc(alias = "IORING_OP_SYMLINKAT")]
    pub const SYMLINKAT: Self = Self(38);
    /// Gives a file another name, as `linkat(2)`. Since Linux 5.15.
    #[doc(alias = "IORING_OP_LINKAT")]
    pub const LINKAT: Self = Self(39);
    /// Posts a completion to another ring, or installs a file there. Since Linux 5.18.
    #[doc(alias = "IORING_OP_MSG_RING")]
    pub const MSG_RING: Self = Self(40);
    /// Sets an extended attribute of an open file, as `fsetxattr(2)`. Since Linux 5.19.
    #[doc(alias = "IORING_OP_FSETXATTR")]
    pub const FSETXATTR: Self = Self(41);
    /// Sets an extended attribute by path, as `setxattr(2)`. Since Linux 5.19.
    #[doc(alias = "IORING_OP_SETXATTR")]
    pub const SETXATTR: Self = Self(42);
    /// Gets an extended attribute of an open file, as `fgetxattr(2)`. Since Linux 5.19.
    #[doc(alias = "IORING_OP_FGETXATTR")]
    pub const FGETXATTR: Self = Self(43);
    /// Gets an extended attribute by path, as `getxattr(2)`. Since Linux 5.19.
    #[doc(alias = "IORING_OP_GETXATTR")]
    pub const GETXATTR: Self = Self(44);
    /// Makes a socket, as `socket(2)`. Since Linux 5.19.
    #[doc(alias = "IORING_OP_SOCKET")]
    pub const SOCKET: Self = Self(45);
    /// Sends a command of 16 bytes to the driver of the file. Since Linux 5.19.
    #[doc(alias = "IORING_OP_URING_CMD")]
    pub const URING_CMD: Self = Self(46);
    /// Sends without copying; a notification, its second completion, gives the buffer back.
    /// Since Linux 6.0.
    #[doc(alias = "IORING_OP_SEND_ZC")]
    pub const SEND_ZC: Self = Self(47);
    /// Sends a message without copying, with a notification too. Since Linux 6.1.
    #[doc(alias = "IORING_OP_SENDMSG_ZC")]
    pub const SENDMSG_ZC: Self = Self(48);
    /// Reads whenever there is data, into provided buffers. Since Linux 6.7.
    #[doc(alias = "IORING_OP_READ_MULTISHOT")]
    pub const READ_MULTISHOT: Self = Self(49);
    /// Waits for a child process, as `waitid(2)`. Since Linux 6.7.
    #[doc(alias = "IORING_OP_WAITID")]
    pub const WAITID: Self = Self(50);
    /// Waits on a futex, as `futex_wait(2)`. Since Linux 6.7.
    #[doc(alias = "IORING_OP_FUTEX_WAIT")]
    pub const FUTEX_WAIT: Self = Self(51);
    /// Wakes waiters of a futex, as `futex_wake(2)`. Since Linux 6.7.
    #[doc(alias = "IORING_OP_FUTEX_WAKE")]
    pub const FUTEX_WAKE: Self = Self(52);
    /// Waits until one of several futexes is woken, as `futex_waitv(2)`. Since Linux 6.7.
    #[doc(alias = "IORING_OP_FUTEX_WAITV")]
    pub const FUTEX_WAITV: Self = Self(53);
    /// Makes an ordinary descriptor for a registered file. Since Linux 6.8.
    #[doc(alias = "IORING_OP_FIXED_FD_INSTALL")]
    pub const FIXED_FD_INSTALL: Self = Self(54);
    /// Sets the length of an open file, as `ftruncate(2)`. Since Linux 6.9.
    #[doc(alias = "IORING_OP_FTRUNCATE")]
    pub const FTRUNCATE: Self = Self(55);
    /// Gives a socket its address, as `bind(2)`. Since Linux 6.11.
    #[doc(alias = "IORING_OP_BIND")]
    pub const BIND: Self = Self(56);
    /// Makes a socket accept connections, as `listen(2)`. Since Linux 6.11.
    #[doc(alias = "IORING_OP_LISTEN")]
    pub const LISTEN: Self = Self(57);
    /// Receives into memory that the network card filled. Since Linux 6.15.
    #[doc(alias = "IORING_OP_RECV_ZC")]
    pub const RECV_ZC: Self = Self(58);
    /// Takes events from an epoll descriptor, as `epoll_wait(2)`. Since Linux 6.15.
    #[doc(alias = "IORING_OP_EPOLL_WAIT")]
    pub const EPOLL_WAIT: Self = Self(59);
    /// Reads into several parts of one registered buffer. Since Linux 6.15.
    #[doc(alias = "IORING_OP_READV_FIXED")]
    pub const READV_FIXED: Self = Self(60);
    /// Writes from several parts of one registered buffer. Since Linux 6.15.
    #[doc(alias = "IORING_OP_WRITEV_FIXED")]
    pub const WRITEV_FIXED: Self = Self(61);
    /// Makes a pipe, as `pipe2(2)`. Since Linux 6.16.
    #[doc(alias = "IORING_OP_PIPE")]
    pub const PIPE: Self = Self(62);
    /// Does nothing, with an entry of 128 bytes, in a mixed ring. Since Linux 6.19.
    #[doc(alias = "IORING_OP_NOP128")]
    pub const NOP128: Self = Self(63);
    /// Sends a command of 80 bytes to the driver of the file, in a mixed ring. Since Linux 6.19.
    #[doc(alias = "IORING_OP_URING_CMD128")]
    pub const URING_CMD128: Self = Self(64);

    /// The number of operations in Linux 7.3: one more than the last number. Since Linux 5.1.
    #[doc(alias = "IORING_OP_LAST")]
    pub const LAST: u8 = 65;

    /// Every operation that we know, in the order of their numbers.
    #[rustfmt::skip]
    pub const ALL: &[Self] = &[
        Self::NOP, Self::READV, Self::WRITEV, Self::FSYNC, Self::READ_FIXED, Self::WRITE_FIXED,
        Self::POLL_ADD, Self::POLL_REMOVE, Self::SYNC_FILE_RANGE, Self::SENDMSG, Self::RECVMSG,
        Self::TIMEOUT, Self::TIMEOUT_REMOVE, Self::ACCEPT, Self::ASYNC_CANCEL, Self::LINK_TIMEOUT,
        Self::CONNECT, Self::FALLOCATE, Self::OPENAT, Self::CLOSE, Self::FILES_UPDATE,
        Self::STATX, Self::READ, Self::WRITE, Self::FADVISE, Self::MADVISE, Self::SEND,
        Self::RECV, Self::OPENAT2, Self::EPOLL_CTL, Self::SPLICE, Self::PROVIDE_BUFFERS,
        Self::REMOVE_BUFFERS, Self::TEE, Self::SHUTDOWN, Self::RENAMEAT, Self::UNLINKAT,
        Self::MKDIRAT, Self::SYMLINKAT, Self::LINKAT, Self::MSG_RING, Self::FSETXATTR,
        Self::SETXATTR, Self::FGETXATTR, Self::GETXATTR, Self::SOCKET, Self::URING_CMD,
        Self::SEND_ZC, Self::SENDMSG_ZC, Self::READ_MULTISHOT, Self::WAITID, Self::FUTEX_WAIT,
        Self::FUTEX_WAKE, Self::FUTEX_WAITV, Self::FIXED_FD_INSTALL, Self::FTRUNCATE, Self::BIND,
        Self::LISTEN, Self::RECV_ZC, Self::EPOLL_WAIT, Self::READV_FIXED, Self::WRITEV_FIXED,
        Self::PIPE, Self::NOP128, Self::URING_CMD128,
    ];

    /// The kernel's name without `IORING_OP_`, or `None` for a number that we do not know.
    pub fn name(self) -> Option<&'static str> {
        OPCODES.get(usize::from(self.0)).map(|fact| fact.0)
    }

    /// The first Linux that has the operation, such as `"5.6"`.
    pub fn since(self) -> Option<&'static str> {
        OPCODES.get(usize::from(self.0)).map(|fact| fact.1)
    }
}

impl fmt::Debug for Opcode {
    /// Writes the name, or `Opcode(200)` for a number that we do not know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Opcode({})", self.0),
        }
    }
}

/// For each operation, at the position of its number: its name, and the first Linux that has it.
#[rustfmt::skip]
const OPCODES: [(&str, &str); 65] = [
    ("NOP", "5.1"), ("READV", "5.1"), ("WRITEV", "5.1"), ("FSYNC", "5.1"), // 0
    ("READ_FIXED", "5.1"), ("WRITE_FIXED", "5.1"), ("POLL_ADD", "5.1"), // 4
    ("POLL_REMOVE", "5.1"), ("SYNC_FILE_RANGE", "5.2"), ("SENDMSG", "5.3"), // 7
    ("RECVMSG", "5.3"), ("TIMEOUT", "5.4"), ("TIMEOUT_REMOVE", "5.5"), // 10
    ("ACCEPT", "5.5"), ("ASYNC_CANCEL", "5.5"), ("LINK_TIMEOUT", "5.5"), // 13
    ("CONNECT", "5.5"), ("FALLOCATE", "5.6"), ("OPENAT", "5.6"), ("CLOSE", "5.6"), // 16
    ("FILES_UPDATE", "5.6"), ("STATX", "5.6"), ("READ", "5.6"), ("WRITE", "5.6"), // 20
    ("FADVISE", "5.6"), ("MADVISE", "5.6"), ("SEND", "5.6"), ("RECV", "5.6"), // 24
    ("OPENAT2", "5.6"), ("EPOLL_CTL", "5.6"), ("SPLICE", "5.7"), // 28
    ("PROVIDE_BUFFERS", "5.7"), ("REMOVE_BUFFERS", "5.7"), ("TEE", "5.8"), // 31
    ("SHUTDOWN", "5.11"), ("RENAMEAT", "5.11"), ("UNLINKAT", "5.11"), // 34
    ("MKDIRAT", "5.15"), ("SYMLINKAT", "5.15"), ("LINKAT", "5.15"), // 37
    ("MSG_RING", "5.18"), ("FSETXATTR", "5.19"), ("SETXATTR", "5.19"), // 40
    ("FGETXATTR", "5.19"), ("GETXATTR", "5.19"), ("SOCKET", "5.19"), // 43
    ("URING_CMD", "5.19"), ("SEND_ZC", "6.0"), ("SENDMSG_ZC", "6.1"), // 46
    ("READ_MULTISHOT", "6.7"), ("WAITID", "6.7"), ("FUTEX_WAIT", "6.7"), // 49
    ("FUTEX_WAKE", "6.7"), ("FUTEX_WAITV", "6.7"), ("FIXED_FD_INSTALL", "6.8"), // 52
    ("FTRUNCATE", "6.9"), ("BIND", "6.11"), ("LISTEN", "6.11"), ("RECV_ZC", "6.15"), // 55
    ("EPOLL_WAIT", "6.15"), ("READV_FIXED", "6.15"), ("WRITEV_FIXED", "6.15"), // 59
    ("PIPE", "6.16"), ("NOP128", "6.19"), ("URING_CMD128", "6.19"), // 62
];

/// An operation of `io_uring_register(2)` (`IORING_REGISTER_*` and `IORING_UNREGISTER_*`).
#[doc(alias = "io_uring_register_op")]
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RegisterOp(pub u32);

impl RegisterOp {
    /// Registers (pins) a table of buffers. Since Linux 5.1.
    #[doc(alias = "IORING_REGISTER_BUFFERS")]
    pub const BUFFERS: Self = Self(0);
    /// Unregisters the table of buffers. Since Linux 5.1.
    #[doc(alias = "IORING_UNREGISTER_BUFFERS")]
    pub const UNREGISTER_BUFFERS: Self = Self(1);
    /// Registers a table of files; −1 leaves a slot empty. Since Linux 5.1.
    #[doc(alias = "IORING_REGISTER_FILES")]
    pub const FILES: Self = Self(2);
    /// Unregisters the table of files. Since Linux 5.1.
    #[doc(alias = "IORING_UNREGISTER_FILES")]
    pub const UNREGISTER_FILES: Self = Self(3);
    /// Registers an eventfd that is signalled at each completion. Since Linux 5.2.
    #[doc(alias = "IORING_REGISTER_EVENTFD")]
    pub const EVENTFD: Self = Self(4);
    /// Unregisters the eventfd. Since Linux 5.2.
    #[doc(alias = "IORING_UNREGISTER_EVENTFD")]
    pub const UNREGISTER_EVENTFD: Self = Self(5);
    /// Replaces slots of the table of files. Since Linux 5.5.
    #[doc(alias = "IORING_REGISTER_FILES_UPDATE")]
    pub const FILES_UPDATE: Self = Self(6);
    /// Registers an eventfd that is signalled only for requests that completed asynchronously.
    /// Since Linux 5.6.
    #[doc(alias = "IORING_REGISTER_EVENTFD_ASYNC")]
    pub const EVENTFD_ASYNC: Self = Self(7);
    /// Asks which operations this kernel has. Since Linux 5.6.
    #[doc(alias = "IORING_REGISTER_PROBE")]
    pub const PROBE: Self = Self(8);
    /// Registers our current credentials under a number, a personality. Since Linux 5.6.
    #[doc(alias = "IORING_REGISTER_PERSONALITY")]
    pub const PERSONALITY: Self = Self(9);
    /// Unregisters a personality. Since Linux 5.6.
    #[doc(alias = "IORING_UNREGISTER_PERSONALITY")]
    pub const UNREGISTER_PERSONALITY: Self = Self(10);
    /// Restricts permanently what a disabled ring, or (from 7.0) this task, may do.
    /// Since Linux 5.10.
    #[doc(alias = "IORING_REGISTER_RESTRICTIONS")]
    pub const RESTRICTIONS: Self = Self(11);
    /// Enables a ring that was made disabled. Since Linux 5.10.
    #[doc(alias = "IORING_REGISTER_ENABLE_RINGS")]
    pub const ENABLE_RINGS: Self = Self(12);
    /// Registers a table of files with tags, or (from 5.19) an empty table. Since Linux 5.13.
    #[doc(alias = "IORING_REGISTER_FILES2")]
    pub const FILES2: Self = Self(13);
    /// Replaces slots of the table of files, and their tags. Since Linux 5.13.
    #[doc(alias = "IORING_REGISTER_FILES_UPDATE2")]
    pub const FILES_UPDATE2: Self = Self(14);
    /// Registers a table of buffers with tags, or (from 5.19) an empty table. Since Linux 5.13.
    #[doc(alias = "IORING_REGISTER_BUFFERS2")]
    pub const BUFFERS2: Self = Self(15);
    /// Replaces slots of the table of buffers, and their tags. Since Linux 5.13.
    #[doc(alias = "IORING_REGISTER_BUFFERS_UPDATE")]
    pub const BUFFERS_UPDATE: Self = Self(16);
    /// Sets the CPUs on which the worker threads run. Since Linux 5.14.
    #[doc(alias = "IORING_REGISTER_IOWQ_AFF")]
    pub const IOWQ_AFF: Self = Self(17);
    /// Lets the worker threads run on every CPU again. Since Linux 5.14.
    #[doc(alias = "IORING_UNREGISTER_IOWQ_AFF")]
    pub const UNREGISTER_IOWQ_AFF: Self = Self(18);
    /// Sets the limits of both kinds of worker threads, and returns the old ones. Since Linux 5.15.
    #[doc(alias = "IORING_REGISTER_IOWQ_MAX_WORKERS")]
    pub const IOWQ_MAX_WORKERS: Self = Self(19);
    /// Registers ring descriptors in a table of this thread. Since Linux 5.18.
    #[doc(alias = "IORING_REGISTER_RING_FDS")]
    pub const RING_FDS: Self = Self(20);
    /// Unregisters ring descriptors from that table. Since Linux 5.18.
    #[doc(alias = "IORING_UNREGISTER_RING_FDS")]
    pub const UNREGISTER_RING_FDS: Self = Self(21);
    /// Registers a buffer ring, from which the kernel selects buffers. Since Linux 5.19.
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    pub const PBUF_RING: Self = Self(22);
    /// Unregisters a buffer ring. Since Linux 5.19.
    #[doc(alias = "IORING_UNREGISTER_PBUF_RING")]
    pub const UNREGISTER_PBUF_RING: Self = Self(23);
    /// Cancels requests, and waits for their end. Since Linux 6.0.
    #[doc(alias = "IORING_REGISTER_SYNC_CANCEL")]
    pub const SYNC_CANCEL: Self = Self(24);
    /// Sets the slots in which the kernel allocates direct descriptors. Since Linux 6.0.
    #[doc(alias = "IORING_REGISTER_FILE_ALLOC_RANGE")]
    pub const FILE_ALLOC_RANGE: Self = Self(25);
    /// Returns the kernel's `head` of a buffer ring. Since Linux 6.8.
    #[doc(alias = "IORING_REGISTER_PBUF_STATUS")]
    pub const PBUF_STATUS: Self = Self(26);
    /// Sets up busy polling of network queues. Since Linux 6.9.
    #[doc(alias = "IORING_REGISTER_NAPI")]
    pub const NAPI: Self = Self(27);
    /// Stops busy polling. Since Linux 6.9.
    #[doc(alias = "IORING_UNREGISTER_NAPI")]
    pub const UNREGISTER_NAPI: Self = Self(28);
    /// Sets the clock for the timeouts of waits. Since Linux 6.12.
    #[doc(alias = "IORING_REGISTER_CLOCK")]
    pub const CLOCK: Self = Self(29);
    /// Shares the registered buffers of another ring. Since Linux 6.12.
    #[doc(alias = "IORING_REGISTER_CLONE_BUFFERS")]
    pub const CLONE_BUFFERS: Self = Self(30);
    /// Sends a message to a ring from a thread that has no ring. Since Linux 6.13.
    #[doc(alias = "IORING_REGISTER_SEND_MSG_RING")]
    pub const SEND_MSG_RING: Self = Self(31);
    /// Binds a receive queue of a network card to the ring. Since Linux 6.15.
    #[doc(alias = "IORING_REGISTER_ZCRX_IFQ")]
    pub const ZCRX_IFQ: Self = Self(32);
    /// Changes the sizes of a live ring. Since Linux 6.13.
    #[doc(alias = "IORING_REGISTER_RESIZE_RINGS")]
    pub const RESIZE_RINGS: Self = Self(33);
    /// Registers a memory region, such as one for wait arguments. Since Linux 6.13.
    #[doc(alias = "IORING_REGISTER_MEM_REGION")]
    pub const MEM_REGION: Self = Self(34);
    /// Asks what this kernel can do, with a ring or without one. Since Linux 6.18.
    #[doc(alias = "IORING_REGISTER_QUERY")]
    pub const QUERY: Self = Self(35);
    /// Sends a command to a zero-copy receive queue. Since Linux 6.19.
    #[doc(alias = "IORING_REGISTER_ZCRX_CTRL")]
    pub const ZCRX_CTRL: Self = Self(36);
    /// Installs a BPF program that allows or refuses requests. Since Linux 7.0.
    #[doc(alias = "IORING_REGISTER_BPF_FILTER")]
    pub const BPF_FILTER: Self = Self(37);

    /// The number of operations in Linux 7.3: one more than the last number. Since Linux 5.1.
    #[doc(alias = "IORING_REGISTER_LAST")]
    pub const LAST: u32 = 38;

    /// A bit added to the number: `fd` is an index into this thread's registered rings.
    /// Since Linux 6.3.
    #[doc(alias = "IORING_REGISTER_USE_REGISTERED_RING")]
    pub const USE_REGISTERED_RING: u32 = 1 << 31;

    /// Every operation of `io_uring_register(2)` that we know, in the order of their numbers.
    #[rustfmt::skip]
    pub const ALL: &[Self] = &[
        Self::BUFFERS, Self::UNREGISTER_BUFFERS, Self::FILES, Self::UNREGISTER_FILES,
        Self::EVENTFD, Self::UNREGISTER_EVENTFD, Self::FILES_UPDATE, Self::EVENTFD_ASYNC,
        Self::PROBE, Self::PERSONALITY, Self::UNREGISTER_PERSONALITY, Self::RESTRICTIONS,
        Self::ENABLE_RINGS, Self::FILES2, Self::FILES_UPDATE2, Self::BUFFERS2,
        Self::BUFFERS_UPDATE, Self::IOWQ_AFF, Self::UNREGISTER_IOWQ_AFF, Self::IOWQ_MAX_WORKERS,
        Self::RING_FDS, Self::UNREGISTER_RING_FDS, Self::PBUF_RING, Self::UNREGISTER_PBUF_RING,
        Self::SYNC_CANCEL, Self::FILE_ALLOC_RANGE, Self::PBUF_STATUS, Self::NAPI,
        Self::UNREGISTER_NAPI, Self::CLOCK, Self::CLONE_BUFFERS, Self::SEND_MSG_RING,
        Self::ZCRX_IFQ, Self::RESIZE_RINGS, Self::MEM_REGION, Self::QUERY, Self::ZCRX_CTRL,
        Self::BPF_FILTER,
    ];

    /// The kernel's name without `IORING_REGISTER_` (for `IORING_UNREGISTER_*`, without `IORING_`),
    /// or `None` for a number that we do not know.
    pub fn name(self) -> Option<&'static str> {
        self.fact().map(|fact| fact.0)
    }

    /// The first Linux that has the operation, such as `"5.6"`.
    pub fn since(self) -> Option<&'static str> {
        self.fact().map(|fact| fact.1)
    }

    fn fact(self) -> Option<&'static (&'static str, &'static str)> {
        usize::try_from(self.0).ok().and_then(|number| REGISTER_OPS.get(number))
    }
}

impl fmt::Debug for RegisterOp {
    /// Writes the name, or `RegisterOp(200)` for a number that we do not know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "RegisterOp({})", self.0),
        }
    }
}

/// For each operation, at the position of its number: its name, and the first Linux that has it.
#[rustfmt::skip]
const REGISTER_OPS: [(&str, &str); 38] = [
    ("BUFFERS", "5.1"), ("UNREGISTER_BUFFERS", "5.1"), ("FILES", "5.1"), // 0
    ("UNREGISTER_FILES", "5.1"), ("EVENTFD", "5.2"), ("UNREGISTER_EVENTFD", "5.2"), // 3
    ("FILES_UPDATE", "5.5"), ("EVENTFD_ASYNC", "5.6"), ("PROBE", "5.6"), // 6
    ("PERSONALITY", "5.6"), ("UNREGISTER_PERSONALITY", "5.6"), ("RESTRICTIONS", "5.10"), // 9
    ("ENABLE_RINGS", "5.10"), ("FILES2", "5.13"), ("FILES_UPDATE2", "5.13"), // 12
    ("BUFFERS2", "5.13"), ("BUFFERS_UPDATE", "5.13"), ("IOWQ_AFF", "5.14"), // 15
    ("UNREGISTER_IOWQ_AFF", "5.14"), ("IOWQ_MAX_WORKERS", "5.15"), ("RING_FDS", "5.18"), // 18
    ("UNREGISTER_RING_FDS", "5.18"), ("PBUF_RING", "5.19"), // 21
    ("UNREGISTER_PBUF_RING", "5.19"), ("SYNC_CANCEL", "6.0"), ("FILE_ALLOC_RANGE", "6.0"), // 23
    ("PBUF_STATUS", "6.8"), ("NAPI", "6.9"), ("UNREGISTER_NAPI", "6.9"), ("CLOCK", "6.12"), // 26
    ("CLONE_BUFFERS", "6.12"), ("SEND_MSG_RING", "6.13"), ("ZCRX_IFQ", "6.15"), // 30
    ("RESIZE_RINGS", "6.13"), ("MEM_REGION", "6.13"), ("QUERY", "6.18"), // 33
    ("ZCRX_CTRL", "6.19"), ("BPF_FILTER", "7.0"), // 36
];
