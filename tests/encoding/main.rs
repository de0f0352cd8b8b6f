//! Every function of `annulus::prep`, compared with the 64 bytes that liburing writes.
//!
//! ```text
//!   data/sqe-golden.tsv   io_uring_prep_fsync  fd=0x3110 fsync_flags=0x3220  ..  03000000103100..
//!                                  │                    │                               │
//!   CASES                "io_uring_prep_fsync"  prep::fsync(a.fd("fd"), ..) ── must be ──┘
//! ```
//!
//! | a test checks that | so that |
//! |---|---|
//! | a case's entry is its row's, byte for byte | arguments lie where the kernel looks |
//! | every function that `src/prep/mod.rs` exports has a case | a new one is not forgotten |
//! | every row has a case | nothing that liburing writes is missing |
//!
//! Each argument of a row is a number that appears nowhere else in it. To add a function: add its
//! case to the list of its family; where liburing's table has no row, write one into [`MORE`], by
//! what liburing or the kernel reads.

use std::collections::{BTreeMap, BTreeSet};

use annulus::prep;
use annulus_sys::abi::Sqe;
use annulus_sys::flags::{
    AcceptFlags, CancelFlags, FsyncFlags, PollFlags, RecvSendFlags, SqeFlags, TimeoutFlags,
};
use annulus_sys::opcode::Opcode;

mod network;
mod paths;
mod processes;
mod rows;

use rows::{Arguments, Row, table};

/// The rows that liburing wrote.
const GOLDEN: &str = include_str!("../data/sqe-golden.tsv");

/// Where `prep` lists its functions.
const PREP: &str = include_str!("../../src/prep/mod.rs");

/// Rows for functions without one in the table: from the source of liburing, or, where that has no
/// such function either, from the field that the kernel reads.
const MORE: &str = "
io_uring_prep_writev2\tfd=0x3110 iovecs=0x7f0080204000 nr_vecs=0x3330 offset=0x102030400002440 \
    flags=0x3550\tWRITEV\tfd=fd off=offset addr=iovecs len=nr_vecs op_flags=flags
io_uring_prep_statx\tdfd=0x3110 path=0x7f0080204000 flags=0x3330 mask=0x3440 \
    statxbuf=0x7f014050a000\tSTATX\tfd=dfd off=statxbuf addr=path len=mask op_flags=flags
io_uring_prep_accept\tfd=0x3110 addr=0x7f0080204000 addrlen=0x7f00c0306000 flags=0x3440\tACCEPT\t\
    fd=fd off=addrlen addr=addr op_flags=flags
io_uring_prep_bind\tfd=0x3110 addr=0x7f0080204000 addrlen=0x3330\tBIND\t\
    fd=fd off=addrlen addr=addr
io_uring_prep_recv\tsockfd=0x3110 buf=0x7f0080204000 len=0x3330 flags=0x3440\tRECV\t\
    fd=sockfd addr=buf len=len op_flags=flags
io_uring_prep_poll_remove\tuser_data=0x102030400002110\tPOLL_REMOVE\tfd=-1 addr=user_data
io_uring_prep_cancel_fd\tfd=0x3110 flags=0x4800\tASYNC_CANCEL\tfd=fd op_flags=flags|0x2
io_uring_prep_msg_ring\tfd=0x3110 len=0x3220 data=0x102030400002330\tMSG_RING\t\
    fd=fd off=data len=len
a read into a buffer that the kernel selects\tfd=0x3110 len=0x3220 offset=0x102030400002330 \
    group=0x3440\tREAD\tflags=IOSQE_BUFFER_SELECT fd=fd off=offset len=len buf_index=group
a receive into a buffer that the kernel selects\tfd=0x3110 len=0x3220 group=0x3330 flags=0x3440 \
    recv_flags=0x5400\tRECV\t\
    flags=IOSQE_BUFFER_SELECT ioprio=recv_flags fd=fd len=len op_flags=flags buf_index=group
a cancel by opcode\topcode=0x16 word=0x102030400002110 flags=0x4800\tASYNC_CANCEL\t\
    fd=-1 addr=word len=opcode op_flags=flags|0x20
a cancel by word alone\tword=0x102030400002110\tASYNC_CANCEL\tfd=-1 addr=word
";

/// One call of a function, with a row's arguments.
type Build = fn(&Arguments) -> Sqe;

/// A row, the function that is compared with it, and the call.
type Case = (&'static str, &'static str, Build);

const FILES: &[Case] = &[
    ("io_uring_prep_read", "read", |a| {
        prep::read(a.fd("fd"), a.word("buf"), a.len("nbytes"), a.word("offset"))
    }),
    ("io_uring_prep_rw", "read", |a| {
        prep::read(a.fd("fd"), a.word("addr"), a.len("len"), a.word("offset"))
    }),
    ("io_uring_prep_write", "write", |a| {
        prep::write(a.fd("fd"), a.word("buf"), a.len("nbytes"), a.word("offset"))
    }),
    ("io_uring_prep_readv", "readv", |a| {
        prep::readv(a.fd("fd"), a.word("iovecs"), a.len("nr_vecs"), a.word("offset"), 0)
    }),
    ("io_uring_prep_readv2", "readv", |a| {
        let (fd, flags) = (a.fd("fd"), a.len("flags"));
        prep::readv(fd, a.word("iovecs"), a.len("nr_vecs"), a.word("offset"), flags)
    }),
    ("io_uring_prep_writev", "writev", |a| {
        prep::writev(a.fd("fd"), a.word("iovecs"), a.len("nr_vecs"), a.word("offset"), 0)
    }),
    ("io_uring_prep_writev2", "writev", |a| {
        let (fd, flags) = (a.fd("fd"), a.len("flags"));
        prep::writev(fd, a.word("iovecs"), a.len("nr_vecs"), a.word("offset"), flags)
    }),
    ("io_uring_prep_fsync", "fsync", |a| {
        prep::fsync(a.fd("fd"), FsyncFlags::from_bits_retain(a.len("fsync_flags")))
    }),
    ("io_uring_prep_fallocate", "fallocate", |a| {
        prep::fallocate(a.fd("fd"), a.len("mode"), a.word("offset"), a.word("len"))
    }),
    ("io_uring_prep_ftruncate", "ftruncate", |a| prep::ftruncate(a.fd("fd"), a.word("len"))),
    ("io_uring_prep_openat", "openat", |a| {
        prep::openat(a.fd("dfd"), a.word("path"), a.len("flags"), a.len("mode"))
    }),
    ("io_uring_prep_open", "openat", |a| {
        prep::openat(libc::AT_FDCWD, a.word("path"), a.len("flags"), a.len("mode"))
    }),
    ("io_uring_prep_openat2", "openat2", |a| {
        prep::openat2(a.fd("dfd"), a.word("path"), a.word("how"))
    }),
    ("io_uring_prep_close", "close", |a| prep::close(a.fd("fd"))),
    ("io_uring_prep_statx", "statx", |a| {
        let (path, out) = (a.word("path"), a.word("statxbuf"));
        prep::statx(a.fd("dfd"), path, a.len("flags"), a.len("mask"), out)
    }),
];

const REGISTERED: &[Case] = &[
    ("io_uring_prep_read_fixed", "read_fixed", |a| {
        let (buf, len, index) = (a.word("buf"), a.len("nbytes"), a.index("buf_index"));
        prep::read_fixed(a.fd("fd"), buf, len, a.word("offset"), index)
    }),
    ("io_uring_prep_write_fixed", "write_fixed", |a| {
        let (buf, len, index) = (a.word("buf"), a.len("nbytes"), a.index("buf_index"));
        prep::write_fixed(a.fd("fd"), buf, len, a.word("offset"), index)
    }),
    ("io_uring_prep_files_update", "files_update", |a| {
        prep::files_update(a.word("fds"), a.len("nr_fds"), a.len("offset"))
    }),
    ("a read into a buffer that the kernel selects", "read_provided", |a| {
        prep::read_provided(a.fd("fd"), a.len("len"), a.word("offset"), a.index("group"))
    }),
    ("io_uring_prep_read_multishot", "read_multishot", |a| {
        let sqe = prep::read_multishot(a.fd("fd"), a.word("offset"), a.index("buf_group"));
        // As much as a buffer holds, until the kernel takes a length here.
        Sqe { len: a.len("nbytes"), ..sqe }
    }),
];

const SOCKETS: &[Case] = &[
    ("io_uring_prep_socket", "socket", |a| {
        let sqe = prep::socket(a.fd("domain"), a.word("type"), a.len("protocol"));
        // The kernel takes none.
        Sqe { op_flags: a.len("flags"), ..sqe }
    }),
    ("io_uring_prep_bind", "bind", |a| prep::bind(a.fd("fd"), a.word("addr"), a.len("addrlen"))),
    ("io_uring_prep_listen", "listen", |a| prep::listen(a.fd("fd"), a.len("backlog"))),
    ("io_uring_prep_accept", "accept", |a| accept(a, AcceptFlags::empty())),
    ("io_uring_prep_multishot_accept", "accept", |a| accept(a, AcceptFlags::MULTISHOT)),
    ("io_uring_prep_connect", "connect", |a| {
        prep::connect(a.fd("fd"), a.word("addr"), a.len("addrlen"))
    }),
    ("io_uring_prep_shutdown", "shutdown", |a| prep::shutdown(a.fd("fd"), a.len("how"))),
    ("io_uring_prep_send", "send", send),
    ("io_uring_prep_sendto", "send_to", |a| {
        prep::send_to(send(a), a.word("addr"), a.index("addrlen"))
    }),
    ("io_uring_prep_send_set_addr", "send_to", |a| {
        prep::send_to(Sqe::ZERO, a.word("dest_addr"), a.index("addr_len"))
    }),
    ("io_uring_prep_send_bundle", "send", |a| {
        let (len, flags) = (a.len("len"), a.len("flags"));
        prep::send(a.fd("sockfd"), 0, len, flags, RecvSendFlags::BUNDLE)
    }),
    ("io_uring_prep_send_zc", "send_zc", |a| {
        let flags = RecvSendFlags::from_bits_retain(a.index("zc_flags"));
        prep::send_zc(a.fd("sockfd"), a.word("buf"), a.len("len"), a.len("flags"), flags)
    }),
    ("io_uring_prep_sendmsg", "sendmsg", |a| {
        prep::sendmsg(a.fd("fd"), a.word("msg"), a.len("flags"), RecvSendFlags::empty())
    }),
    ("io_uring_prep_sendmsg_zc", "sendmsg_zc", |a| {
        prep::sendmsg_zc(a.fd("fd"), a.word("msg"), a.len("flags"), RecvSendFlags::empty())
    }),
    ("io_uring_prep_recv", "recv", |a| recv(a, RecvSendFlags::empty())),
    ("io_uring_prep_recv_multishot", "recv", |a| recv(a, RecvSendFlags::RECV_MULTISHOT)),
    ("a receive into a buffer that the kernel selects", "recv_provided", |a| {
        let flags = RecvSendFlags::from_bits_retain(a.index("recv_flags"));
        prep::recv_provided(a.fd("fd"), a.len("len"), a.index("group"), a.len("flags"), flags)
    }),
    ("io_uring_prep_recvmsg", "recvmsg", |a| {
        prep::recvmsg(a.fd("fd"), a.word("msg"), a.len("flags"), RecvSendFlags::empty())
    }),
    ("io_uring_prep_recvmsg_multishot", "recvmsg", |a| {
        prep::recvmsg(a.fd("fd"), a.word("msg"), a.len("flags"), RecvSendFlags::RECV_MULTISHOT)
    }),
];

const REQUESTS: &[Case] = &[
    ("io_uring_prep_timeout", "timeout", |a| {
        prep::timeout(a.word("ts"), a.len("count"), TimeoutFlags::from_bits_retain(a.len("flags")))
    }),
    ("io_uring_prep_link_timeout", "link_timeout", |a| {
        prep::link_timeout(a.word("ts"), TimeoutFlags::from_bits_retain(a.len("flags")))
    }),
    ("io_uring_prep_timeout_remove", "timeout_remove", |a| {
        // The kernel takes no flags there.
        Sqe { op_flags: a.len("flags"), ..prep::timeout_remove(a.word("user_data")) }
    }),
    ("io_uring_prep_timeout_update", "timeout_update", |a| {
        let flags = TimeoutFlags::from_bits_retain(a.len("flags"));
        prep::timeout_update(a.word("user_data"), a.word("ts"), flags)
    }),
    ("io_uring_prep_poll_add", "poll_add", |a| prep::poll_add(a.fd("fd"), a.len("poll_mask"))),
    ("io_uring_prep_poll_multishot", "poll_multishot", |a| {
        prep::poll_multishot(a.fd("fd"), a.len("poll_mask"))
    }),
    ("io_uring_prep_poll_remove", "poll_remove", |a| prep::poll_remove(a.word("user_data"))),
    ("io_uring_prep_poll_update", "poll_update", |a| {
        let (old, new) = (a.word("old_user_data"), a.word("new_user_data"));
        let flags = PollFlags::from_bits_retain(a.len("flags"));
        prep::poll_update(old, new, a.len("poll_mask"), flags)
    }),
    ("io_uring_prep_cancel64", "cancel", |a| {
        prep::cancel(a.word("user_data"), CancelFlags::from_bits_retain(a.len("flags")))
    }),
    ("a cancel by word alone", "cancel_user_data", |a| prep::cancel_user_data(a.word("word"))),
    ("io_uring_prep_cancel_fd", "cancel_fd", |a| {
        prep::cancel_fd(a.fd("fd"), CancelFlags::from_bits_retain(a.len("flags")))
    }),
    ("a cancel by opcode", "cancel_opcode", |a| {
        let flags = CancelFlags::from_bits_retain(a.len("flags"));
        assert_eq!(a.len("opcode"), u32::from(Opcode::READ.0));
        prep::cancel_opcode(Opcode::READ, a.word("word"), flags)
    }),
    ("io_uring_prep_msg_ring", "msg_ring", |a| {
        prep::msg_ring(a.fd("fd"), a.len("len"), a.word("data"))
    }),
];

fn accept(a: &Arguments, flags: AcceptFlags) -> Sqe {
    prep::accept(a.fd("fd"), a.word("addr"), a.word("addrlen"), a.len("flags"), flags)
}

fn send(a: &Arguments) -> Sqe {
    let flags = RecvSendFlags::empty();
    prep::send(a.fd("sockfd"), a.word("buf"), a.len("len"), a.len("flags"), flags)
}

fn recv(a: &Arguments, flags: RecvSendFlags) -> Sqe {
    prep::recv(a.fd("sockfd"), a.word("buf"), a.len("len"), a.len("flags"), flags)
}

fn cases() -> impl Iterator<Item = &'static Case> {
    let own = [FILES, REGISTERED, SOCKETS, REQUESTS, network::CASES, processes::CASES];
    own.into_iter().chain(paths::CASES.iter().copied()).flatten()
}

/// All rows, by their names.
fn all_rows() -> BTreeMap<&'static str, Row> {
    let tables = [GOLDEN, MORE, paths::MORE, network::MORE, processes::ROWS];
    let rows: Vec<Row> = tables.into_iter().flat_map(table).collect();
    let count = rows.len();
    let by_name: BTreeMap<_, _> = rows.into_iter().map(|row| (row.name, row)).collect();
    assert_eq!(by_name.len(), count, "two rows have one name");
    by_name
}

#[test]
fn every_function_writes_what_liburing_writes() {
    let rows = all_rows();
    let mut wrong = Vec::new();
    for (name, function, build) in cases() {
        let row = rows.get(name).unwrap_or_else(|| panic!("there is no row {name}"));
        let (ours, theirs) = (build(&row.arguments), row.entry());
        if ours != theirs {
            wrong.push(format!("prep::{function} is not {name}:\n  {ours:?}\n  {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_function_is_compared() {
    let compared: BTreeSet<&str> = cases().map(|(_, function, _)| *function).collect();
    assert_eq!(
        exported(PREP),
        compared,
        "src/prep/mod.rs exports the left, and CASES has the right"
    );
}

#[test]
fn every_row_is_compared() {
    let mut missing: BTreeSet<&str> = all_rows().into_keys().collect();
    for (name, ..) in cases() {
        assert!(missing.remove(name), "{name} is no row, or is compared twice");
    }
    assert_eq!(missing, BTreeSet::new(), "in no list of cases");
}

#[test]
fn a_row_of_numbers_is_what_its_bytes_are() {
    let mut checked = 0;
    for row in table(GOLDEN).filter(|row| row.opcode.is_some()) {
        assert_eq!(row.spelled(), row.entry(), "{}", row.name);
        checked += 1;
    }
    assert!(checked > 70, "the table shrank to {checked} rows");
    assert_eq!(SqeFlags::BUFFER_SELECT.bits(), 32);
}

#[test]
fn an_export_is_found_however_it_is_written() {
    let text = "pub use a::b;\npub use c::{d, e,\n    f};\nuse g::h;\npub fn i() {}\nfn j() {}";
    assert_eq!(exported(text), BTreeSet::from(["b", "d", "e", "f", "i"]));
}

/// The functions that a module exports: those of its `pub use`, and its own.
fn exported(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for (at, word) in text.match_indices("pub use ").chain(text.match_indices("pub fn ")) {
        let rest = &text[at + word.len()..];
        let end = rest.find([';', '(']).expect("an item ends");
        let item = &rest[..end];
        let list = item.rsplit_once("::").map_or(item, |(_, list)| list);
        let list = list.trim_matches(['{', '}']);
        names.extend(list.split(',').map(str::trim).filter(|name| !name.is_empty()));
    }
    names
}
