//! The network and commands: sends and receives beyond one buffer, and commands to drivers.
//!
//! Where liburing has no helper, a row is made from the fields that the kernel reads: the `*_prep`
//! functions of `io_uring/net.c`, `kbuf.c` and `uring_cmd.c` (Linux 7.0).

use annulus::prep;
use annulus_sys::abi::Sqe;
use annulus_sys::flags::{RecvSendFlags, SocketUringOp, SqeFlags, UringCmdFlags};

use super::Case;
use super::rows::Arguments;

/// Rows for functions without one in liburing's table.
pub const MORE: &str = "
io_uring_prep_cmd_zone_reset_all\tfd=0x3110\tURING_CMD\tfd=fd off=0x1201
a vectored send\tfd=0x3110 iovecs=0x7f0080204000 count=0x3330 flags=0x5000 zc_flags=0x5400\tSEND\t\
    ioprio=zc_flags|0x20 fd=fd addr=iovecs len=count op_flags=flags
a send of buffers that the kernel selects\tfd=0x3110 len=0x3220 group=0x3330 flags=0x3440\tSEND\t\
    flags=IOSQE_BUFFER_SELECT ioprio=0x10 fd=fd len=len op_flags=flags buf_index=group
a message into a buffer that the kernel selects\tfd=0x3110 msg=0x7f0080204000 group=0x3330 \
    flags=0x3440\tRECVMSG\tflags=IOSQE_BUFFER_SELECT ioprio=0x2 fd=fd addr=msg len=0x1 \
    op_flags=flags buf_index=group
a receive without a copy\tfd=0x3110 queue=0x3220 len=0x3330 flags=0x5400\tRECV_ZC\t\
    ioprio=flags|0x2 fd=fd len=len file_index=queue
a command of 80 bytes\tfd=0x3110 number=0x3220 flags=0x3330 cmd=0x102030400002440\tURING_CMD\t\
    fd=fd off=number op_flags=flags addr3=cmd
a command of 80 bytes in a mixed ring\tfd=0x3110 number=0x3220 flags=0x3330 \
    cmd=0x102030400002440\tURING_CMD128\tfd=fd off=number op_flags=flags addr3=cmd
";

/// The functions of `src/prep/command.rs`, and the later ones of `net.rs` and `provided.rs`.
pub const CASES: &[Case] = &[
    ("io_uring_prep_send_zc_fixed", "send_zc_fixed", |a| {
        let flags = RecvSendFlags::from_bits_retain(a.index("zc_flags"));
        let (buf, len, index) = (a.word("buf"), a.len("len"), a.index("buf_index"));
        prep::send_zc_fixed(a.fd("sockfd"), buf, len, a.len("flags"), flags, index)
    }),
    ("io_uring_prep_sendmsg_zc_fixed", "sendmsg_zc_fixed", |a| {
        let (none, index) = (RecvSendFlags::empty(), a.index("buf_index"));
        prep::sendmsg_zc_fixed(a.fd("fd"), a.word("msg"), a.len("flags"), none, index)
    }),
    ("a vectored send", "send_vectored", |a| {
        let flags = RecvSendFlags::from_bits_retain(a.index("zc_flags"));
        prep::send_vectored(a.fd("fd"), a.word("iovecs"), a.len("count"), a.len("flags"), flags)
    }),
    ("a send of buffers that the kernel selects", "send_provided", |a| {
        let (group, flags) = (a.index("group"), a.len("flags"));
        prep::send_provided(a.fd("fd"), a.len("len"), group, flags, RecvSendFlags::BUNDLE)
    }),
    ("a message into a buffer that the kernel selects", "recvmsg_provided", |a| {
        let (msg, group, many) = (a.word("msg"), a.index("group"), RecvSendFlags::RECV_MULTISHOT);
        prep::recvmsg_provided(a.fd("fd"), msg, group, a.len("flags"), many)
    }),
    ("a receive without a copy", "recv_zc", |a| {
        let flags = RecvSendFlags::from_bits_retain(a.index("flags"));
        prep::recv_zc(a.fd("fd"), a.len("queue"), a.len("len"), flags)
    }),
    ("io_uring_prep_provide_buffers", "provide_buffers", |a| {
        let (addr, len, nr) = (a.word("addr"), a.len("len"), a.len("nr"));
        prep::provide_buffers(addr, len, nr, a.index("bgid"), a.index("bid"))
    }),
    ("io_uring_prep_remove_buffers", "remove_buffers", |a| {
        prep::remove_buffers(a.len("nr"), a.index("bgid"))
    }),
    ("io_uring_prep_uring_cmd", "uring_cmd", |a| {
        prep::uring_cmd(a.fd("fd"), a.len("cmd_op"), UringCmdFlags::empty(), [0; 16])
    }),
    ("a command of 80 bytes", "uring_cmd_wide", |a| {
        let flags = UringCmdFlags::from_bits_retain(a.len("flags"));
        prep::uring_cmd_wide(a.fd("fd"), a.len("number"), flags, command(a)).first
    }),
    ("a command of 80 bytes in a mixed ring", "uring_cmd128", |a| {
        let flags = UringCmdFlags::from_bits_retain(a.len("flags"));
        prep::uring_cmd128(a.fd("fd"), a.len("number"), flags, command(a)).first
    }),
    ("io_uring_prep_cmd_sock", "cmd_sock", |a| {
        let command = SocketUringOp(a.len("cmd_op"));
        let (level, name) = (a.len("level"), a.len("optname"));
        prep::cmd_sock(a.fd("fd"), command, level, name, a.word("optval"), a.len("optlen"))
    }),
    ("io_uring_prep_cmd_getsockname", "cmd_getsockname", |a| {
        let (address, address_len) = (a.word("sockaddr"), a.word("sockaddr_len"));
        prep::cmd_getsockname(a.fd("fd"), address, address_len, a.len("peer"))
    }),
    ("io_uring_prep_cmd_discard", "cmd_discard", |a| {
        prep::cmd_discard(a.fd("fd"), a.word("offset"), a.word("nbytes"))
    }),
    ("io_uring_prep_cmd_zone_reset_all", "cmd_zone_reset_all", |a| {
        prep::cmd_zone_reset_all(a.fd("fd"))
    }),
];

/// 80 bytes, of which the first eight are a row's.
fn command(a: &Arguments) -> [u8; 80] {
    let mut command = [0; 80];
    command[..8].copy_from_slice(&a.word("cmd").to_le_bytes());
    command
}

#[test]
fn a_command_is_the_end_of_its_entry_byte_by_byte() {
    let bytes = |count: u8| (1..=count).collect::<Vec<u8>>();
    let none = UringCmdFlags::empty();
    let short = prep::uring_cmd(1, 2, none, bytes(16).try_into().expect("16 bytes"));
    assert_eq!(short.addr3, u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(short.pad2, u64::from_le_bytes([9, 10, 11, 12, 13, 14, 15, 16]));
    let command: [u8; 80] = bytes(80).try_into().expect("80 bytes");
    let wide = prep::uring_cmd_wide(1, 2, none, command);
    assert_eq!(wide.first, short);
    let rest: Vec<u8> = wide.rest.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(rest, command[16..]);
    let mixed = prep::uring_cmd128(1, 2, none, command);
    assert_eq!((mixed.rest, mixed.first.cmd()), (wide.rest, short.cmd()));
    assert_eq!(mixed.first.opcode.name(), Some("URING_CMD128"));
}

/// The other crate overwrites the flags of an entry with `FIXED_FILE`, and so loses those of a link
/// or a buffer. Here the flag is added to the others.
#[test]
fn a_fixed_file_is_a_flag_next_to_that_of_a_provided_buffer() {
    let many = RecvSendFlags::RECV_MULTISHOT;
    for sqe in [
        prep::recv_provided(3, 0, 7, 0, many),
        prep::recvmsg_provided(3, 0, 7, 0, many),
        prep::send_provided(3, 0, 7, 0, RecvSendFlags::BUNDLE),
        prep::read_multishot(3, u64::MAX, 7),
    ] {
        assert_eq!(sqe.flags, SqeFlags::BUFFER_SELECT);
        let fixed = Sqe { flags: sqe.flags | SqeFlags::FIXED_FILE, ..sqe };
        assert_eq!(fixed.flags.bits(), 0b10_0001);
    }
}
