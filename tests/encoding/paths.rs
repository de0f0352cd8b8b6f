//! Cases of the families for paths and bytes: names, attributes, splices, advice, pipes, files
//! opened in the ring's table, registered buffers in parts, and protection of reads and writes.

use annulus::prep;
use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, FixedFdFlags, RwAttrFlags};

use super::Case;
use super::rows::Arguments;

/// Rows for functions without one in the table: from the source of liburing, or, where that has no
/// such function either, from the field that the kernel reads.
pub const MORE: &str = "
io_uring_prep_renameat\tolddfd=0x3110 oldpath=0x7f0080204000 newdfd=0x3330 \
    newpath=0x7f0100408000 flags=0x3550\tRENAMEAT\t\
    fd=olddfd off=newpath addr=oldpath len=newdfd op_flags=flags
io_uring_prep_linkat\tolddfd=0x3110 oldpath=0x7f0080204000 newdfd=0x3330 \
    newpath=0x7f0100408000 flags=0x3550\tLINKAT\t\
    fd=olddfd off=newpath addr=oldpath len=newdfd op_flags=flags
io_uring_prep_symlinkat\ttarget=0x7f0040102000 newdirfd=0x3220 linkpath=0x7f00c0306000\t\
    SYMLINKAT\tfd=newdirfd off=linkpath addr=target
io_uring_prep_unlink\tpath=0x7f0040102000 flags=0x3220\tUNLINKAT\t\
    fd=AT_FDCWD addr=path op_flags=flags
io_uring_prep_mkdir\tpath=0x7f0040102000 mode=0x3220\tMKDIRAT\tfd=AT_FDCWD addr=path len=mode
io_uring_prep_fsetxattr\tfd=0x3110 name=0x7f0080204000 value=0x7f00c0306000 flags=0x3440 \
    len=0x3550\tFSETXATTR\tfd=fd off=value addr=name len=len op_flags=flags
io_uring_prep_splice\tfd_in=0x3110 off_in=0x102030400002220 fd_out=0x3330 \
    off_out=0x102030400002440 nbytes=0x3550 splice_flags=0x3660\tSPLICE\t\
    fd=fd_out off=off_out addr=off_in len=nbytes op_flags=splice_flags file_index=fd_in
io_uring_prep_fadvise64\tfd=0x3110 offset=0x102030400002220 len=0x102030400003330 \
    advice=0x3440\tFADVISE\tfd=fd off=offset addr=len op_flags=advice
io_uring_prep_socket_direct\tdomain=0x3110 type=0x3220 protocol=0x3330 flags=0x0 \
    file_index=0x3550\tSOCKET\tfd=domain off=type len=protocol op_flags=flags file_index=0x3551
io_uring_prep_socket_direct_alloc\tdomain=0x3110 type=0x3220 protocol=0x3330 flags=0x0\t\
    SOCKET\tfd=domain off=type len=protocol op_flags=flags file_index=ALLOC(~0)
a place beyond any table\tfile_index=0xfffffffe\tCLOSE\tfile_index=0xfffffffe
no place at all\tfile_index=0xffffffff\tCLOSE\tfile_index=0xfffffffe
io_uring_prep_fixed_fd_install\tfd=0x3110 flags=0x3220\tFIXED_FD_INSTALL\t\
    flags=0x1 fd=fd op_flags=flags
a read with protection information\tfd=0x3110 buf=0x7f0080204000 nbytes=0x3330 \
    offset=0x102030400002440 attributes=0x7f0140507000 kinds=0x1\tREAD\t\
    fd=fd off=offset addr=buf len=nbytes addr3=attributes pad2=kinds
";

/// The calls.
pub const CASES: &[&[Case]] = &[NAMES, ATTRIBUTES, SPLICES, ADVICE, DIRECT, PARTS];

const NAMES: &[Case] = &[
    ("io_uring_prep_renameat", "renameat", |a| {
        let (from, to) = (a.word("oldpath"), a.word("newpath"));
        prep::renameat(a.fd("olddfd"), from, a.fd("newdfd"), to, a.len("flags"))
    }),
    ("io_uring_prep_rename", "renameat", |a| {
        let (from, to) = (a.word("oldpath"), a.word("newpath"));
        prep::renameat(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0)
    }),
    ("io_uring_prep_unlinkat", "unlinkat", |a| {
        prep::unlinkat(a.fd("dfd"), a.word("path"), a.len("flags"))
    }),
    ("io_uring_prep_unlink", "unlinkat", |a| {
        prep::unlinkat(libc::AT_FDCWD, a.word("path"), a.len("flags"))
    }),
    ("io_uring_prep_mkdirat", "mkdirat", |a| {
        prep::mkdirat(a.fd("dfd"), a.word("path"), a.len("mode"))
    }),
    ("io_uring_prep_mkdir", "mkdirat", |a| {
        prep::mkdirat(libc::AT_FDCWD, a.word("path"), a.len("mode"))
    }),
    ("io_uring_prep_symlinkat", "symlinkat", |a| {
        prep::symlinkat(a.word("target"), a.fd("newdirfd"), a.word("linkpath"))
    }),
    ("io_uring_prep_symlink", "symlinkat", |a| {
        prep::symlinkat(a.word("target"), libc::AT_FDCWD, a.word("linkpath"))
    }),
    ("io_uring_prep_linkat", "linkat", |a| {
        let (from, to) = (a.word("oldpath"), a.word("newpath"));
        prep::linkat(a.fd("olddfd"), from, a.fd("newdfd"), to, a.len("flags"))
    }),
    ("io_uring_prep_link", "linkat", |a| {
        let (from, to) = (a.word("oldpath"), a.word("newpath"));
        prep::linkat(libc::AT_FDCWD, from, libc::AT_FDCWD, to, a.len("flags"))
    }),
];

const ATTRIBUTES: &[Case] = &[
    ("io_uring_prep_setxattr", "setxattr", |a| {
        let (path, name, value) = (a.word("path"), a.word("name"), a.word("value"));
        prep::setxattr(path, name, value, a.len("len"), a.len("flags"))
    }),
    ("io_uring_prep_fsetxattr", "fsetxattr", |a| {
        let (name, value) = (a.word("name"), a.word("value"));
        prep::fsetxattr(a.fd("fd"), name, value, a.len("len"), a.len("flags"))
    }),
    ("io_uring_prep_getxattr", "getxattr", |a| {
        prep::getxattr(a.word("path"), a.word("name"), a.word("value"), a.len("len"))
    }),
    ("io_uring_prep_fgetxattr", "fgetxattr", |a| {
        prep::fgetxattr(a.fd("fd"), a.word("name"), a.word("value"), a.len("len"))
    }),
];

const SPLICES: &[Case] = &[
    ("io_uring_prep_splice", "splice", |a| {
        let (from, to) = (a.word("off_in"), a.word("off_out"));
        let (len, flags) = (a.len("nbytes"), a.len("splice_flags"));
        prep::splice(a.fd("fd_in"), from, a.fd("fd_out"), to, len, flags)
    }),
    ("io_uring_prep_tee", "tee", |a| {
        prep::tee(a.fd("fd_in"), a.fd("fd_out"), a.len("nbytes"), a.len("splice_flags"))
    }),
];

const ADVICE: &[Case] = &[
    ("io_uring_prep_fadvise", "fadvise", |a| {
        prep::fadvise(a.fd("fd"), a.word("offset"), a.len("len"), a.len("advice"))
    }),
    ("io_uring_prep_fadvise64", "fadvise64", |a| {
        prep::fadvise64(a.fd("fd"), a.word("offset"), a.word("len"), a.len("advice"))
    }),
    ("io_uring_prep_madvise", "madvise", |a| {
        prep::madvise(a.word("addr"), a.len("length"), a.len("advice"))
    }),
    ("io_uring_prep_madvise64", "madvise64", |a| {
        prep::madvise64(a.word("addr"), a.word("length"), a.len("advice"))
    }),
    ("io_uring_prep_sync_file_range", "sync_file_range", |a| {
        prep::sync_file_range(a.fd("fd"), a.len("len"), a.word("offset"), a.len("flags"))
    }),
];

const DIRECT: &[Case] = &[
    ("io_uring_prep_open_direct", "direct", |a| {
        let sqe = prep::openat(libc::AT_FDCWD, a.word("path"), a.len("flags"), a.len("mode"));
        prep::direct(sqe, a.len("file_index"))
    }),
    ("io_uring_prep_openat_direct", "direct", |a| {
        let sqe = prep::openat(a.fd("dfd"), a.word("path"), a.len("flags"), a.len("mode"));
        prep::direct(sqe, a.len("file_index"))
    }),
    ("io_uring_prep_openat2_direct", "direct", |a| {
        let sqe = prep::openat2(a.fd("dfd"), a.word("path"), a.word("how"));
        prep::direct(sqe, a.len("file_index"))
    }),
    ("io_uring_prep_accept_direct", "direct", |a| {
        prep::direct(accept(a, AcceptFlags::empty()), a.len("file_index"))
    }),
    ("io_uring_prep_multishot_accept_direct", "direct_alloc", |a| {
        prep::direct_alloc(accept(a, AcceptFlags::MULTISHOT))
    }),
    ("io_uring_prep_socket_direct", "direct", |a| prep::direct(socket(a), a.len("file_index"))),
    ("io_uring_prep_socket_direct_alloc", "direct_alloc", |a| prep::direct_alloc(socket(a))),
    ("io_uring_prep_close_direct", "close_direct", |a| prep::close_direct(a.len("file_index"))),
    ("a place beyond any table", "close_direct", |a| prep::close_direct(a.len("file_index"))),
    ("no place at all", "close_direct", |a| prep::close_direct(a.len("file_index"))),
    ("io_uring_prep_pipe", "pipe", |a| prep::pipe(a.word("fds"), a.len("pipe_flags"))),
    ("io_uring_prep_pipe_direct", "direct", |a| {
        prep::direct(prep::pipe(a.word("fds"), a.len("pipe_flags")), a.len("file_index"))
    }),
    ("io_uring_prep_fixed_fd_install", "fixed_fd_install", |a| {
        prep::fixed_fd_install(a.fd("fd"), FixedFdFlags::from_bits_retain(a.len("flags")))
    }),
];

const PARTS: &[Case] = &[
    ("io_uring_prep_readv_fixed", "readv_fixed", |a| {
        let (table, count, index) = (a.word("iovecs"), a.len("nr_vecs"), a.index("buf_index"));
        let (offset, flags) = (a.word("offset"), a.len("flags"));
        prep::readv_fixed(a.fd("fd"), table, count, offset, flags, index)
    }),
    ("io_uring_prep_writev_fixed", "writev_fixed", |a| {
        let (table, count, index) = (a.word("iovecs"), a.len("nr_vecs"), a.index("buf_index"));
        let (offset, flags) = (a.word("offset"), a.len("flags"));
        prep::writev_fixed(a.fd("fd"), table, count, offset, flags, index)
    }),
    ("a read with protection information", "with_attributes", |a| {
        let read = prep::read(a.fd("fd"), a.word("buf"), a.len("nbytes"), a.word("offset"));
        let kinds = RwAttrFlags::from_bits_retain(a.word("kinds"));
        assert_eq!(kinds, RwAttrFlags::PI);
        prep::with_attributes(read, kinds, a.word("attributes"))
    }),
];

fn accept(a: &Arguments, flags: AcceptFlags) -> Sqe {
    prep::accept(a.fd("fd"), a.word("addr"), a.word("addrlen"), a.len("flags"), flags)
}

fn socket(a: &Arguments) -> Sqe {
    prep::socket(a.fd("domain"), a.word("type"), a.len("protocol"))
}
