//! Processes, futexes, epoll, NOPs, and messages between rings.

use annulus::prep;
use annulus_sys::flags::{CqeFlags, MsgRingFlags, NopFlags};
use annulus_sys::flags_futex::FutexFlags;

use super::{Arguments, Case, Sqe};

/// Rows where liburing's table has none: from its source, or from the fields that the kernel reads.
pub const ROWS: &str = "
io_uring_prep_nop\t\tNOP\tfd=-1
io_uring_prep_futex_wait\tfutex=0x7f0040102000 val=0x102030400002220 mask=0x102030400002330 \
    futex_flags=0x3440\tFUTEX_WAIT\tfd=futex_flags off=val addr=futex addr3=mask
io_uring_prep_futex_waitv\tfutex=0x7f0040102000 nr_futex=0x3220\tFUTEX_WAITV\t\
    addr=futex len=nr_futex
io_uring_prep_msg_ring_fd\tfd=0x3110 source_fd=0x3220 target_fd=0x3330 data=0x102030400002440 \
    flags=0x5000\tMSG_RING\t\
    fd=fd off=data addr=1 op_flags=flags file_index=target_fd+1 addr3=source_fd
a nop with flags\tflags=0x3110 result=0x3220 fd=0x3330 index=0x3440\tNOP\t\
    fd=fd len=result op_flags=flags buf_index=index
a nop with a large completion\textra1=0x102030400002110 extra2=0x102030400002220\tNOP\t\
    fd=-1 off=extra1 addr=extra2 op_flags=0x20
";

/// The cases.
pub const CASES: &[Case] = &[
    ("io_uring_prep_nop", "nop", |_| prep::nop()),
    ("io_uring_prep_nop128", "nop128", |_| prep::nop128().first),
    ("a nop with flags", "nop_with", |a| {
        let flags = NopFlags::from_bits_retain(a.len("flags"));
        prep::nop_with(flags, a.fd("result"), a.fd("fd"), a.index("index"))
    }),
    ("a nop with a large completion", "nop_cqe32", |a| {
        prep::nop_cqe32([a.word("extra1"), a.word("extra2")])
    }),
    ("io_uring_prep_epoll_ctl", "epoll_ctl", |a| {
        prep::epoll_ctl(a.fd("epfd"), a.fd("fd"), a.len("op"), a.word("ev"))
    }),
    ("io_uring_prep_epoll_wait", "epoll_wait", |a| {
        let sqe = prep::epoll_wait(a.fd("fd"), a.word("events"), a.len("maxevents"));
        // The kernel takes none.
        Sqe { op_flags: a.len("flags"), ..sqe }
    }),
    ("io_uring_prep_waitid", "waitid", |a| {
        let (kind, id) = (a.len("idtype"), a.len("id"));
        let sqe = prep::waitid(kind, id, a.word("infop"), a.len("options"));
        // The kernel takes none.
        Sqe { op_flags: a.len("flags"), ..sqe }
    }),
    ("io_uring_prep_futex_wait", "futex_wait", |a| {
        prep::futex_wait(a.word("futex"), a.word("val"), a.word("mask"), futex(a))
    }),
    ("io_uring_prep_futex_wake", "futex_wake", |a| {
        let sqe = prep::futex_wake(a.word("futex"), a.word("val"), a.word("mask"), futex(a));
        // The kernel takes none.
        Sqe { op_flags: a.len("flags"), ..sqe }
    }),
    ("io_uring_prep_futex_waitv", "futex_waitv", |a| {
        prep::futex_waitv(a.word("futex"), a.len("nr_futex"))
    }),
    ("io_uring_prep_msg_ring_cqe_flags", "msg_ring_flags", |a| {
        let (fd, len, word) = (a.fd("fd"), a.len("len"), a.word("data"));
        let flags = CqeFlags::from_bits_retain(a.len("cqe_flags"));
        prep::msg_ring_flags(fd, len, word, message(a), flags)
    }),
    ("io_uring_prep_msg_ring_fd", "msg_ring_fd", |a| {
        let (source, target) = (a.len("source_fd"), a.len("target_fd"));
        prep::msg_ring_fd(a.fd("fd"), source, target, a.word("data"), message(a))
    }),
    ("io_uring_prep_msg_ring_fd_alloc", "msg_ring_fd_alloc", |a| {
        prep::msg_ring_fd_alloc(a.fd("fd"), a.len("source_fd"), a.word("data"), message(a))
    }),
];

fn futex(a: &Arguments) -> FutexFlags {
    FutexFlags::from_bits_retain(a.len("futex_flags"))
}

fn message(a: &Arguments) -> MsgRingFlags {
    MsgRingFlags::from_bits_retain(a.len("flags"))
}
