//! Commands to drivers, and other operations that only the raw API has.
//!
//! ```text
//!   commands of 16 and 80 bytes   taken by /dev/null, refused by files without commands
//!   discard                       a loop device, where there is one
//!   send times                    a socket on this machine
//!   provided buffers              selected by a receive
//!   zero-copy receive             needs a network card: its refusal
//! ```
//!
//! There is no NVMe drive, ublk server or card with queues for zero-copy receive here, so for those
//! only their encoding (`tests/encoding`) and the refusal of other files are tested.
#![allow(unsafe_code, reason = "pushes raw entries")]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use annulus::sys::abi::{Cqe, Sqe, Sqe128};
use annulus::sys::flags::{
    CqeFlags, RecvSendFlags, SetupFlags, SocketUringOp, TIMESTAMP_TYPE_SHIFT, UringCmdFlags,
};
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Setup, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, push, ring, test};

const COMMAND: [Need; 1] = [Need::Op(Opcode::URING_CMD)];
const WIDE: [Need; 2] = [COMMAND[0], Need::Setup(SetupFlags::SQE128)];
const MIXED: [Need; 2] = [Need::Op(Opcode::URING_CMD128), Need::Setup(SetupFlags::SQE_MIXED)];
const NULL: [Need; 2] = [COMMAND[0], Need::Other(null_takes_none)];
const DISCARD: [Need; 3] = [Need::Root, COMMAND[0], Need::Other(no_loop_device)];
const TIMES: [Need; 2] = [Need::Setup(SetupFlags::CQE32), Need::Other(tells_no_times)];
const ZERO_COPY: [Need; 1] = [Need::Op(Opcode::RECV_ZC)];
const PROVIDE: [Need; 1] = [Need::Op(Opcode::PROVIDE_BUFFERS)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_command_reaches_a_driver", &NULL, reaches),
        test("what_knows_no_commands_refuses_them", &COMMAND, unknown),
        test("a_command_with_flags_that_nobody_knows_is_refused", &COMMAND, flags),
        test("a_wide_command_is_one_entry", &WIDE, wide),
        test("a_wide_command_goes_through_a_mixed_ring", &MIXED, mixed),
        test("a_block_device_gives_up_what_is_discarded", &DISCARD, discard),
        test("what_is_no_block_device_discards_nothing", &COMMAND, no_block_device),
        test("the_times_of_sending_come_as_wide_completions", &TIMES, times),
        test("the_times_of_sending_need_wide_completions", &COMMAND, narrow),
        test("a_receive_without_a_copy_needs_a_queue", &ZERO_COPY, no_queue),
        test("provided_buffers_are_selected_once_each_and_removed", &PROVIDE, provided),
        test("provided_buffers_that_cannot_be_are_refused", &PROVIDE, not_provided),
    ]
}

/// Pushes an entry that points to nothing, or to memory that lives forever, and returns its
/// completion.
fn complete(ring: &mut RawRing, sqe: Sqe) -> Cqe {
    push(ring, Sqe { user_data: 7, ..sqe });
    ring.submit_and_wait(1).expect("it completes");
    let cqes = drain(ring);
    assert_eq!((cqes.len(), cqes[0].user_data), (1, 7));
    cqes[0]
}

/// The result of a wide entry, which points to nothing.
fn complete_wide(ring: &mut RawRing, sqe: Sqe128) -> i32 {
    let sqe = Sqe128 { first: Sqe { user_data: 7, ..sqe.first }, ..sqe };
    // SAFETY: OP1: it points to nothing.
    unsafe { ring.push_wide(sqe) }.expect("room");
    ring.submit_and_wait(1).expect("it completes");
    let cqes = drain(ring);
    assert_eq!((cqes.len(), cqes[0].user_data), (1, 7));
    cqes[0].res
}

const NONE: UringCmdFlags = UringCmdFlags::empty();

fn command(fd: &impl AsFd, number: u32) -> Sqe {
    prep::uring_cmd(fd.as_fd().as_raw_fd(), number, NONE, [0x5a; 16])
}

fn null() -> File {
    File::open("/dev/null").expect("it is everywhere")
}

fn null_takes_none() -> Option<String> {
    let res = complete(&mut ring(Setup::plain(2)), command(&null(), 0)).res;
    (res != 0).then(|| "needs Linux 6.1: commands to /dev/null".to_owned())
}

fn reaches() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let null = null();
    // It takes any command, and does nothing.
    for number in [0, 1, u32::MAX] {
        assert_eq!(complete(&mut ring, command(&null, number)).res, 0);
    }
    Ok(())
}

fn unknown() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let (reader, writer) = std::io::pipe()?;
    assert_eq!(complete(&mut ring, command(&reader, 0)).res, -libc::EOPNOTSUPP);
    assert_eq!(complete(&mut ring, command(&writer, 0)).res, -libc::EOPNOTSUPP);
    let file = File::open("/proc/self/stat")?;
    assert_eq!(complete(&mut ring, command(&file, 0)).res, -libc::EOPNOTSUPP);
    // Nothing that a test uses is closed: the number is beyond all open descriptors.
    let sqe = prep::uring_cmd(i32::MAX, 0, NONE, [0; 16]);
    assert_eq!(complete(&mut ring, sqe).res, -libc::EBADF);
    Ok(())
}

fn flags() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let fd = null();
    let flags = UringCmdFlags::from_bits_retain(1 << 14);
    let sqe = prep::uring_cmd(fd.as_raw_fd(), 0, flags, [0; 16]);
    let res = complete(&mut ring, sqe).res;
    // Before Linux 6.1 the kernel had no flags here, and ignored them.
    assert!(matches!(res, 0 | -95 | -22), "{res}");
    if null_takes_none().is_none() {
        assert_eq!(res, -libc::EINVAL);
        let fixed = prep::uring_cmd(fd.as_raw_fd(), 0, UringCmdFlags::FIXED, [0; 16]);
        let fixed = complete(&mut ring, Sqe { buf_index: 3, ..fixed }).res;
        assert!(matches!(-fixed, 0 | libc::EFAULT), "no buffer is registered: {fixed}");
    }
    Ok(())
}

fn wide() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4).with(SetupFlags::SQE128));
    let (reader, _writer) = std::io::pipe()?;
    let sqe = prep::uring_cmd_wide(reader.as_raw_fd(), 0xc048_4e80, NONE, [0x5a; 80]);
    assert_eq!(complete_wide(&mut ring, sqe), -libc::EOPNOTSUPP, "no NVMe drive");
    let sqe = prep::uring_cmd_wide(null().as_raw_fd(), 0, NONE, [0x5a; 80]);
    let expected = if null_takes_none().is_none() { 0 } else { -libc::EOPNOTSUPP };
    for _ in 0..9 {
        let null = null();
        let sqe = Sqe128 { first: Sqe { fd: null.as_raw_fd(), ..sqe.first }, ..sqe };
        assert_eq!(complete_wide(&mut ring, sqe), expected, "across the wrap");
    }
    Ok(())
}

fn mixed() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(8).with(SetupFlags::SQE_MIXED));
    let null = null();
    let sqe = prep::uring_cmd128(null.as_raw_fd(), 0, NONE, [0x5a; 80]);
    for _ in 0..9 {
        assert_eq!(complete_wide(&mut ring, sqe), 0);
        assert_eq!(complete(&mut ring, command(&null, 0)).res, 0, "next to a narrow one");
    }
    let (reader, _writer) = std::io::pipe()?;
    let sqe = prep::uring_cmd128(reader.as_raw_fd(), 0xc048_4e80, NONE, [0x5a; 80]);
    assert_eq!(complete_wide(&mut ring, sqe), -libc::EOPNOTSUPP, "no NVMe drive");
    Ok(())
}

/// A loop device over a file of 1 MiB, for as long as this lives.
struct Loop {
    device: File,
    backing: File,
}

impl Loop {
    const GET_FREE: libc::Ioctl = 0x4c82;
    const SET_FD: libc::Ioctl = 0x4c00;
    const CLEAR_FD: libc::Ioctl = 0x4c01;
    const LEN: usize = 1 << 20;

    fn new() -> Result<Self, String> {
        let words = |error: std::io::Error| error.to_string();
        let open = |path: &str| {
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.map_err(|error| format!("{path}: {error}"))
        };
        let control = open("/dev/loop-control")?;
        // SAFETY: it takes numbers only, because `loop(4)` says so.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), Self::GET_FREE) };
        if number < 0 {
            return Err(format!("a free loop device: {}", std::io::Error::last_os_error()));
        }
        let device = open(&format!("/dev/loop{number}"))?;
        let path = std::env::temp_dir().join(format!("annulus-loop-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let backing = options.read(true).write(true).create(true).truncate(true).open(&path);
        let mut backing = backing.map_err(words)?;
        std::fs::remove_file(&path).map_err(words)?;
        backing.write_all(&vec![0x5a; Self::LEN]).map_err(words)?;
        // SAFETY: it takes numbers only, because `loop(4)` says so.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), Self::SET_FD, backing.as_raw_fd()) };
        if set < 0 {
            return Err(format!("a loop device: {}", std::io::Error::last_os_error()));
        }
        Ok(Self { device, backing })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // SAFETY: it takes numbers only, because `loop(4)` says so.
        unsafe { libc::ioctl(self.device.as_raw_fd(), Self::CLEAR_FD, 0) };
    }
}

fn no_loop_device() -> Option<String> {
    let device = match Loop::new() {
        Ok(device) => device,
        Err(reason) => return Some(format!("needs a loop device: {reason}")),
    };
    let sqe = prep::cmd_discard(device.device.as_raw_fd(), 0, 4096);
    let res = complete(&mut ring(Setup::plain(2)), sqe).res;
    match -res {
        0 => None,
        libc::EOPNOTSUPP => Some("needs Linux 6.12: BLOCK_URING_CMD_DISCARD".to_owned()),
        errno => Some(format!("needs a loop device that discards: errno {errno}")),
    }
}

fn discard() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let mut device = Loop::new()?;
    let fd = device.device.as_raw_fd();
    assert_eq!(complete(&mut ring, prep::cmd_discard(fd, 4096, 8192)).res, 0);
    let mut bytes = Vec::new();
    device.backing.rewind()?;
    device.backing.read_to_end(&mut bytes)?;
    assert!(bytes[..4096].iter().all(|&byte| byte == 0x5a), "before");
    assert!(bytes[4096..12288].iter().all(|&byte| byte == 0), "what was discarded");
    assert!(bytes[12288..].iter().all(|&byte| byte == 0x5a), "behind");
    let odd = complete(&mut ring, prep::cmd_discard(fd, 1, 511)).res;
    assert_eq!(odd, -libc::EINVAL, "no sector");
    let beyond = complete(&mut ring, prep::cmd_discard(fd, Loop::LEN as u64, 4096)).res;
    assert_eq!(beyond, -libc::EINVAL);
    let reader = File::open(format!("/proc/self/fd/{fd}"))?;
    let refused = complete(&mut ring, prep::cmd_discard(reader.as_raw_fd(), 0, 4096)).res;
    assert_eq!(refused, -libc::EBADF, "it was not opened for writing");
    Ok(())
}

fn no_block_device() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let (reader, _writer) = std::io::pipe()?;
    let fd = reader.as_raw_fd();
    for sqe in [prep::cmd_discard(fd, 0, 4096), prep::cmd_zone_reset_all(fd)] {
        assert_eq!(complete(&mut ring, sqe).res, -libc::EOPNOTSUPP);
    }
    Ok(())
}

/// Asks for the times at which a socket sends.
fn times_of(socket: &UdpSocket) -> Sqe {
    let sqe = prep::cmd_sock(socket.as_raw_fd(), SocketUringOp::TX_TIMESTAMP, 0, 0, 0, 0);
    Sqe { user_data: 7, ..sqe }
}

fn tells_no_times() -> Option<String> {
    let mut ring = ring(Setup::plain(2).with(SetupFlags::CQE32));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    push(&mut ring, times_of(&socket));
    ring.submit().expect("submit");
    let refused = ring.pop().is_some();
    refused.then(|| "needs Linux 6.17: SOCKET_URING_OP_TX_TIMESTAMP".to_owned())
}

fn times() -> Result<(), Failed> {
    const SOFTWARE: u32 = 1 << 4 | 1 << 1; // By software, when it goes out.
    const NUMBERED_WITHOUT_BYTES: u32 = 1 << 7 | 1 << 11; // OPT_ID, OPT_TSONLY.
    let mut ring = ring(Setup::new(8).with(SetupFlags::CQE32));
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let bits = SOFTWARE | NUMBERED_WITHOUT_BYTES;
    let (fd, value) = (socket.as_raw_fd(), (&raw const bits).cast());
    // SAFETY: one live u32, which the kernel copies, because the call is synchronous.
    let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, value, 4) };
    assert_eq!(set, 0);
    push(&mut ring, times_of(&socket));
    ring.submit()?;
    let mut last = (0, 0);
    for number in 0..3 {
        socket.send_to(b"when?", socket.local_addr()?)?;
        ring.wait(1)?;
        let cqe = ring.pop_wide().expect("a time");
        assert_eq!((cqe.first.user_data, cqe.first.res), (7, number), "which datagram");
        let flags = cqe.first.flags;
        assert!(flags.contains(CqeFlags::MORE) && !flags.contains(CqeFlags::TSTAMP_HW));
        assert_eq!(flags.bits() >> TIMESTAMP_TYPE_SHIFT, 0, "SCM_TSTAMP_SND");
        let [seconds, nanos] = cqe.big;
        assert!(nanos < 1_000_000_000 && (seconds, nanos) > last, "{:?}", cqe.big);
        last = (seconds, nanos);
    }
    let cancel = prep::cancel_user_data(7);
    push(&mut ring, Sqe { user_data: 8, ..cancel });
    ring.submit_and_wait(2)?;
    let mut words: Vec<(u64, i32)> =
        drain(&mut ring).iter().map(|cqe| (cqe.user_data, cqe.res)).collect();
    words.sort_unstable();
    assert_eq!(words, [(7, -libc::ECANCELED), (8, 0)]);
    Ok(())
}

fn narrow() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let res = complete(&mut ring, times_of(&socket)).res;
    // Unknown before Linux 6.17.
    assert!(matches!(-res, libc::EINVAL | libc::EOPNOTSUPP), "{res}");
    Ok(())
}

fn no_queue() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let (ours, _theirs) = UnixStream::pair()?;
    for queue in [0, 1, u32::MAX] {
        let sqe = prep::recv_zc(ours.as_raw_fd(), queue, 0, RecvSendFlags::empty());
        assert_eq!(complete(&mut ring, sqe).res, -libc::EINVAL);
    }
    Ok(())
}

/// Offers `count` buffers of 8 bytes that live forever, as group 3.
fn offer(ring: &mut RawRing, memory: *mut u8, count: u32, first: u16) -> i32 {
    let addr = memory.expose_provenance() as u64;
    complete(ring, prep::provide_buffers(addr, 8, count, 3, first)).res
}

fn provided() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let memory = vec![0_u8; 64].leak().as_mut_ptr();
    assert_eq!(offer(&mut ring, memory, 4, 100), 0);
    let (theirs, mut ours) = UnixStream::pair()?;
    let receive = prep::recv_provided(theirs.as_raw_fd(), 8, 3, 0, RecvSendFlags::empty());
    let mut left = vec![100, 101, 102, 103];
    for word in [b"first", b"other", b"third"] {
        ours.write_all(word)?;
        let cqe = complete(&mut ring, receive);
        assert_eq!(cqe.res, 5);
        // The first of the remaining buffers; with the kernel of Linux 5.10, the last.
        let bid = cqe.buffer_id().ok_or("a buffer")?;
        assert!([left.first(), left.last()].contains(&Some(&bid)), "{bid} of {left:?}");
        left.retain(|other| *other != bid);
        let place = usize::from(bid - 100);
        let at = memory.wrapping_add(place * 8).cast::<[u8; 5]>();
        // SAFETY: the completion gave the buffer back (OP1), which lives forever.
        assert_eq!(unsafe { at.read() }, *word);
    }
    assert_eq!(complete(&mut ring, prep::remove_buffers(10, 3)).res, 1, "one was left");
    assert_eq!(complete(&mut ring, receive).res, -libc::ENOBUFS);
    assert_eq!(offer(&mut ring, memory, 1, u16::MAX), 0, "the last number there is");
    ours.write_all(b"x")?;
    assert_eq!(complete(&mut ring, receive).buffer_id(), Some(u16::MAX));
    Ok(())
}

fn not_provided() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let memory = vec![0_u8; 64].leak().as_mut_ptr();
    assert_eq!(offer(&mut ring, memory, 0, 0), -libc::E2BIG, "none");
    assert_eq!(offer(&mut ring, memory, 1 << 17, 0), -libc::E2BIG, "more than have numbers");
    assert_eq!(complete(&mut ring, prep::remove_buffers(1, 999)).res, -libc::ENOENT);
    let nowhere = prep::provide_buffers(u64::MAX - 7, 8, 1, 3, 0);
    let res = complete(&mut ring, nowhere).res;
    assert!(matches!(-res, libc::EFAULT | libc::EOVERFLOW), "{res}");
    Ok(())
}
