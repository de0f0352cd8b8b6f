//! What the kernel returns, of any bytes: control messages, message headers, addresses, metadata,
//! lists of events, completions, the layout of rings.
//!
//! ```text
//!   input ─► one of these ─► as a kernel would write it ─► every method that reads it
//! ```
//!
//! Asserts that nothing panics, that no byte from outside is read (AddressSanitizer sees it), and
//! that each descriptor which comes is closed once, and no other (OP3).
#![allow(unsafe_code, reason = "plays the kernel")]

mod layout;

use std::fs::File;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use annulus::lease::Datagram;
use annulus::op::{self, Address, Control, EpollEvent, MsgHeader, Op, RecvMsg, Stat, Statx};
use annulus::{Ring, Setup};
use annulus_sys::abi::{Cqe, Cqe32, Sqe};
use annulus_sys::abi_register::BufReg;
use annulus_sys::flags::CqeFlags;
use annulus_sys::opcode::RegisterOp;

use super::chance::Chance;
use super::hostile::cqe;
use super::leases::group::{read, write};
use crate::support::backend::{Enter, Script, ScriptedKernel};

/// One thing that a kernel returns.
pub fn run(data: &[u8]) {
    let mut chance = Chance::of(data);
    match chance.below(8) {
        0 => address(&mut chance),
        1 => multishot_message(&mut chance),
        2 => message(&mut chance),
        3 => metadata(&mut chance),
        4 => events(&mut chance),
        5 => accepted(&mut chance),
        6 => completion(&mut chance),
        _ => layout::run(&mut chance),
    }
}

/// Bytes that the input decides.
fn bytes(chance: &mut Chance, count: usize) -> Vec<u8> {
    (0..count).map(|_| u8::try_from(chance.below(256)).expect("below 256")).collect()
}

fn address(chance: &mut Chance) {
    let count = chance.below(140) as usize;
    let mut bytes = bytes(chance, count);
    if let (Some(front), true) = (bytes.first_chunk_mut::<6>(), chance.one_in(2)) {
        let family: u16 = chance.among(&[1, 2, 10, 24, 44]);
        *front = [0; 6];
        front[..2].copy_from_slice(&family.to_ne_bytes());
        front[2] = chance.among(&[0, 1]);
    }
    if let Some(address) = Address::from_bytes(&bytes) {
        assert!(!names_descriptor(&bytes), "OP3: bytes that name a descriptor are an address");
        assert_eq!(address.as_bytes(), bytes);
        look_at(&address);
    }
}

/// Whether some kind of socket would take a number in these bytes for a descriptor: `AF_XDP`, or
/// what the tunnels of `AF_PPPOX` look at, which is not the family.
fn names_descriptor(bytes: &[u8]) -> bool {
    let is_xdp = bytes.starts_with(&44_u16.to_ne_bytes());
    let is_tunnel = bytes.get(2..6) == Some(&1_u32.to_ne_bytes()[..]);
    is_xdp || (is_tunnel && [38, 46, 50, 58].contains(&bytes.len()))
}

fn look_at(address: &Address) {
    let _ = format!("{address:?}");
    assert!(address.as_bytes().len() <= 128);
    // What the standard library can hold means the address that it came from.
    if let Some(inet) = address.as_inet() {
        assert_eq!(Address::from(inet).as_inet(), Some(inet));
    }
    if let Some(unix) = address.as_unix() {
        let _ = (unix.as_pathname(), unix.is_unnamed());
    }
}

/// A ring whose kernel follows a script.
fn rig() -> (Ring, Arc<Script>) {
    let (kernel, script) = ScriptedKernel::new();
    (Setup::plain(4).kernel(kernel).build().expect("a ring"), script)
}

/// The output of `op`, which the kernel ends by `act`: it writes to memory, and says how it ended.
fn ended<O: Op + 'static>(
    (ring, script): &mut (Ring, Arc<Script>),
    op: O,
    act: impl FnOnce(&Sqe) -> (i32, CqeFlags) + Send + 'static,
) -> O::Output {
    script.enters(Enter::Run(Box::new(move |kernel, _| {
        let sqe = kernel.consume().expect("an entry");
        let (res, flags) = act(&sqe);
        assert!(kernel.post(Cqe { user_data: sqe.user_data, res, flags }));
        Ok(1)
    })));
    let Ok(ticket) = ring.submit(op) else { panic!("the kernel knows it") };
    ring.wait(ticket).unwrap_or_else(|error| panic!("it ends: {}", error.why))
}

fn null() -> File {
    File::open("/dev/null").expect("there is one")
}

/// Control data as a kernel writes it, and the descriptors in it. A length that is not so comes
/// last, before bytes that no control message begins with.
fn control(chance: &mut Chance, room: usize) -> (Vec<u8>, Vec<Carried>) {
    let kinds = [
        (libc::SOL_SOCKET, libc::SCM_RIGHTS),
        (libc::SOL_SOCKET, 4),
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMP),
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS),
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING),
        (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
        (libc::IPPROTO_IP, libc::IP_PKTINFO),
        (libc::IPPROTO_IP, libc::IP_TTL),
        (libc::IPPROTO_IP, libc::IP_TOS),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        (libc::IPPROTO_UDP, 104),
    ];
    let (mut all, mut fds): (Vec<u8>, Vec<Carried>) = (Vec::new(), Vec::new());
    for _ in 0..chance.below(5) {
        let (level, kind) = chance.among(&kinds);
        let carries = level == libc::SOL_SOCKET && matches!(kind, libc::SCM_RIGHTS | 4);
        let lies = !carries && chance.one_in(6);
        let data = if carries {
            let count = if kind == 4 { 1 } else { chance.below(3) };
            let new: Vec<Carried> = (0..count).map(|_| carried()).collect();
            fds.extend(&new);
            new.iter().flat_map(|(fd, _)| fd.to_ne_bytes()).collect()
        } else {
            let count = chance.below(64) as usize;
            bytes(chance, count)
        };
        let len = if lies { u64::from(chance.half()) << chance.below(40) } else { 0 };
        let len = if lies { len } else { 16 + data.len() as u64 };
        let words = [level, kind].map(i32::to_ne_bytes);
        let whole = [&len.to_ne_bytes()[..], words.as_flattened(), &data].concat();
        if all.len().next_multiple_of(8) + whole.len() > room {
            // The kernel passes no descriptor for which there is no room.
            let new = fds.split_off(if carries { fds.len() - data.len() / 4 } else { fds.len() });
            new.into_iter().for_each(|(fd, _)| close(fd));
            break;
        }
        all.resize(all.len().next_multiple_of(8), 0);
        all.extend(whole);
        if lies {
            let from = all.len() - data.len();
            all[from..].fill(0xee);
            break;
        }
    }
    (all, fds)
}

fn close(fd: RawFd) {
    // SAFETY: made by `control`, and given to nothing else.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// A descriptor, and what it leads to, which nothing else in this process does: meanwhile another
/// test may open something that gets the same number.
type Carried = (RawFd, (u64, u64));

/// One of them.
fn carried() -> Carried {
    let (reader, _) = std::io::pipe().expect("a pipe");
    let fd = reader.into_raw_fd();
    (fd, inode(fd).expect("it is open"))
}

/// What an open descriptor leads to.
fn inode(fd: RawFd) -> Option<(u64, u64)> {
    let behind = std::fs::metadata(format!("/proc/self/fd/{fd}")).ok()?;
    Some((behind.dev(), behind.ino()))
}

/// Whether none of them is open any more.
fn all_closed(fds: &[Carried]) {
    for &(fd, is) in fds {
        assert_ne!(inode(fd), Some(is), "OP3: descriptor {fd}, which came, stays open");
    }
}

fn look_at_control<'a>(all: impl Iterator<Item = Control<'a>>) {
    for message in all.take(1000) {
        let _ = format!("{message:?}");
        let _ = (message.packet_info(), message.type_of_service(), message.hops_left());
        let _ = (message.segment_size(), message.time(), message.device_time());
        let _ = message.dropped();
        let carries = message.level == libc::SOL_SOCKET && matches!(message.kind, 1 | 4);
        assert!(!carries, "a descriptor's number is shown");
    }
}

/// A message in a buffer that the kernel selected: `recvmsg` multishot.
fn multishot_message(chance: &mut Chance) {
    let (mut ring, script) = rig();
    let (tell, told) = std::sync::mpsc::channel();
    script.on_register(move |op, arg, _| {
        if op == RegisterOp::PBUF_RING {
            // SAFETY: a live `struct io_uring_buf_reg`, as promised to `Backend::register`.
            let reg = unsafe { arg.cast::<BufReg>().read() };
            let _ = tell.send(reg.ring_addr);
        }
        Some(Ok(0))
    });
    let buffers = ring.buf_ring(1, 512).expect("the script knows it");
    let entry = told.recv().expect("it was registered");
    // The address of the first buffer.
    let place = read(entry, 8).try_into().map(u64::from_ne_bytes).expect("eight bytes");
    let room = chance.below(200);
    let (all, fds) = control(chance, room.next_multiple_of(8) as usize);
    let has_address = chance.one_in(2);
    let head = 16 + if has_address { 128 } else { 0 } + room.next_multiple_of(8);
    let wild = chance.one_in(4);
    let (name, payload) = (chance.below(140), chance.half());
    let name = if wild { chance.half() } else { name };
    let flags = chance.half();
    let control_len = if wild { 0xffff } else { u32::try_from(all.len()).expect("short") };
    let lengths = [name, control_len, payload, flags].map(u32::to_ne_bytes);
    let mut buffer = vec![0; 512];
    buffer[..16].copy_from_slice(lengths.as_flattened());
    let noise = bytes(chance, if has_address { 128 } else { 0 });
    buffer[16..16 + noise.len()].copy_from_slice(&noise);
    let start = 16 + noise.len();
    buffer[start..start + all.len()].copy_from_slice(&all);
    // A kernel that has not got as far as the control data has passed no descriptor.
    let short = fds.is_empty() && chance.one_in(4);
    let res = if short { chance.below(520) } else { head + chance.below(512 - head) };
    let op = op::RecvMsgMulti::new(null(), &buffers);
    let op = if has_address { op.with_address() } else { op };
    let op = op.with_control(u16::try_from(room).expect("below 200"));
    let mut rig = (ring, script);
    let named = CqeFlags::BUFFER;
    let ended = ended(&mut rig, op, move |_| {
        write(place, &buffer);
        (res.cast_signed(), named)
    });
    let _ = format!("{:?}", ended.how);
    for mut message in ended.remaining.into_iter().flatten() {
        datagram(&mut message);
    }
    all_closed(&fds);
}

fn datagram(message: &mut Datagram) {
    let _ = format!("{message:?}");
    let _ = (message.payload().len(), message.length(), message.is_truncated());
    let _ = message.is_control_truncated();
    if let Some(address) = message.from() {
        look_at(&address);
    }
    look_at_control(message.control());
    let _ = (message.take_descriptors(), message.take_pidfd());
    look_at_control(message.control());
}

/// A message in the caller's own buffer and header: `recvmsg`.
fn message(chance: &mut Chance) {
    let mut rig = rig();
    let (all, fds) = control(chance, 200);
    let name = bytes(chance, 128);
    let name_len = if chance.one_in(4) { chance.half() } else { chance.below(140) };
    let (control_len, flags) = (all.len(), chance.half().cast_signed());
    let res = if chance.one_in(4) { chance.half().cast_signed() } else { 8 };
    // The kernel writes descriptors only with a message.
    let res = if fds.is_empty() { res } else { 8 };
    let op = RecvMsg::new(null(), [[0_u8; 16]]).with(MsgHeader::new());
    let outcome = ended(&mut rig, op, move |sqe| {
        let place = usize::try_from(sqe.addr).expect("64 bits");
        let header = std::ptr::with_exposed_provenance_mut::<libc::msghdr>(place);
        // SAFETY: the header of an operation that the kernel has (OP1).
        let mut told = unsafe { header.read() };
        write(told.msg_name.addr() as u64, &name);
        write(told.msg_control.addr() as u64, &all);
        (told.msg_namelen, told.msg_flags) = (name_len, flags);
        told.msg_controllen = control_len;
        // SAFETY: the header of an operation that the kernel has (OP1).
        unsafe { header.write(told) };
        (res, CqeFlags::empty())
    });
    let (_, mut header) = outcome.buf;
    let _ = format!("{:?} {header:?}", outcome.result);
    if let Some(address) = header.address() {
        look_at(&address);
    }
    look_at_control(header.control());
    let _ = (header.take_descriptors(), header.take_pidfd());
    header.clear();
    drop(header);
    all_closed(&fds);
}

/// Metadata of a file: `statx`.
fn metadata(chance: &mut Chance) {
    let bytes = bytes(chance, 256);
    let op = Statx::at(op::Cwd, c"/", Stat::boxed());
    let outcome = ended(&mut rig(), op, move |sqe| {
        write(sqe.off, &bytes);
        (0, CqeFlags::empty())
    });
    let (stat, _) = outcome.buf;
    let _ = format!("{stat:?}");
    let _ = (stat.kind(), stat.mode(), stat.device(), stat.special_device(), stat.attributes());
    for time in [stat.accessed(), stat.modified(), stat.changed()].into_iter().chain(stat.created())
    {
        let _ = (time.seconds(), time.nanoseconds(), time.to_system_time());
    }
    let _ = (stat.mount(), stat.subvolume(), stat.dio(), stat.dio_read_offset_align());
    let _ = stat.atomic_write();
}

/// A list of events: `epoll_wait`.
fn events(chance: &mut Chance) {
    let count = chance.below(5) as usize;
    let noise = bytes(chance, 12 * count.max(1));
    let res =
        if chance.one_in(2) { chance.below(6).cast_signed() } else { chance.half().cast_signed() };
    let list: Vec<EpollEvent> = Vec::with_capacity(count.max(1));
    let op = op::EpollWait::new(null(), list);
    let outcome = ended(&mut rig(), op, move |sqe| {
        // A kernel has written each event that it counts.
        let noise: Vec<u8> = noise.into_iter().cycle().take(12 * sqe.len as usize).collect();
        write(sqe.addr, &noise);
        (res, CqeFlags::empty())
    });
    let _ = format!("{:?} {:?}", outcome.result, outcome.buf);
    assert!(outcome.buf.len() <= outcome.buf.capacity());
}

/// The address of who connected: `accept`.
fn accepted(chance: &mut Chance) {
    let (name, len) = (bytes(chance, 128), chance.half());
    let len = if chance.one_in(4) { len } else { len % 140 };
    let fd = chance.one_in(2).then(carried);
    let op = op::Accept::new(null()).with_address();
    let outcome = ended(&mut rig(), op, move |sqe| {
        write(sqe.addr, &name);
        write(sqe.off, &len.to_ne_bytes());
        (fd.map_or(-libc::ECONNABORTED, |(fd, _)| fd), CqeFlags::empty())
    });
    if let Ok((_, Some(from))) = &outcome.result {
        look_at(from);
    }
    drop(outcome);
    all_closed(fd.as_slice());
}

/// A completion alone.
fn completion(chance: &mut Chance) {
    let cqe = cqe(chance);
    let _ = format!("{cqe:?} {:?}", Cqe32 { first: cqe, big: [7; 2] });
    assert_eq!(cqe.result().is_ok(), cqe.res >= 0);
    assert_eq!(cqe.buffer_id().is_some(), cqe.flags.contains(CqeFlags::BUFFER));
    let _ = op::Waiting::of(cqe.flags);
    let buf = vec![0; 16];
    // What is read from is as long as the completion says, and no longer than there is.
    let op = op::Read::new(null(), buf);
    let flags = cqe.flags - CqeFlags::MORE - CqeFlags::NOTIF;
    let outcome = ended(&mut rig(), op, move |_| (cqe.res, flags));
    assert!(outcome.buf.len() <= outcome.buf.capacity());
}
