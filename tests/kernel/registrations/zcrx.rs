//! Zero-copy receive: from a queue that no card feeds, and the errors where there is no queue.
//!
//! No machine that runs these tests has a network card that splits headers. Since Linux 7.1 a queue
//! works without one: every byte is copied, and the rest is as with a card.
//! `src/raw/register/zcrx.rs` tests the arguments that the kernel reads, `sys/refill.rs` the refill
//! ring.
#![allow(unsafe_code, reason = "lends memory to the kernel")]

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::thread;

use annulus::lease::RegisterError;
use annulus::raw::register::{Area, Feed, QueueSetup, ReceiveQueue, query};
use annulus::sys::abi::Sqe;
use annulus::sys::abi_zcrx::{
    ZCRX_AREA_MASK, ZCRX_AREA_SHIFT, ZcrxCqe, ZcrxCtrl, ZcrxCtrlOp, ZcrxEvent, ZcrxFeatures,
    ZcrxRegFlags, ZcrxStats,
};
use annulus::sys::flags::{CqeFlags, RecvSendFlags, SetupFlags};
use annulus::sys::map::{Map, Pages, page_size};
use annulus::sys::opcode::RegisterOp;
use annulus::{RawRing, Setup, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{DEFERRING, Need, here, is_root, nop, push, ring, test};
use crate::safe_sockets::{pattern, tcp};

const QUEUES: [Need; 2] = [Need::Register(RegisterOp::ZCRX_IFQ), Need::Setup(DEFERRING)];
const NOWHERE: [Need; 3] = [QUEUES[0], QUEUES[1], Need::Other(no_nowhere)];
const EVENTS: [Need; 4] = [NOWHERE[0], NOWHERE[1], NOWHERE[2], Need::Other(no_events)];
const AREAS: [Need; 4] = [NOWHERE[0], NOWHERE[1], NOWHERE[2], Need::Other(no_areas)];
const COMMANDS: [Need; 2] = [Need::Register(RegisterOp::ZCRX_CTRL), Need::Setup(DEFERRING)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("what_a_queue_receives_lies_in_its_area", &NOWHERE, receives),
        test("what_is_recycled_is_filled_again", &NOWHERE, recycles),
        test("a_queue_whose_area_is_full_ends_and_goes_on", &EVENTS, fills_up),
        test("a_queue_reports_and_counts_what_it_copies", &EVENTS, reports),
        test("a_queue_has_chunks_of_pages", &NOWHERE, chunks),
        test("a_queue_of_no_card_takes_no_memory_of_a_device", &NOWHERE, no_device),
        test("a_queue_is_given_more_memory", &AREAS, more_memory),
        test("a_queue_is_received_from_by_another_ring", &NOWHERE, imports),
        test("a_queue_may_be_dropped_before_its_ring_and_after", &NOWHERE, outlives),
        test("a_queue_of_no_card_is_refused_with_a_message", &QUEUES, no_card),
        test("a_queue_is_of_a_ring_with_large_completions", &QUEUES, small_completions),
        test("a_queue_has_a_sensible_number_of_entries", &[], sizes),
        test("what_is_no_queue_is_not_imported", &QUEUES, no_import),
        test("a_command_to_no_queue_is_refused_with_a_message", &COMMANDS, no_queue),
        test("a_command_to_a_queue_before_6_19_says_so", &[Need::Other(commands)], says_so),
    ]
}

/// The capability by which a process may bind queues.
const CAP_NET_ADMIN: u32 = 12;

fn no_nowhere() -> Option<String> {
    let flags = query().ok().and_then(|answers| answers.zcrx).map_or(0, |zcrx| zcrx.register_flags);
    if flags & u64::from(ZcrxRegFlags::NODEV.bits()) == 0 {
        return Some("needs Linux 7.1 with CONFIG_IO_URING_ZCRX: ZCRX_REG_NODEV".to_owned());
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("a line");
    let held = u64::from_str_radix(held.trim(), 16).expect("a number");
    (held & 1 << CAP_NET_ADMIN == 0).then(|| "needs CAP_NET_ADMIN".to_owned())
}

/// Once its area was full, Linux 7.1 may also wait in silence instead of reporting it.
fn no_events() -> Option<String> {
    let answers = query().ok()?.zcrx?;
    (!answers.features.contains(ZcrxFeatures::EVENT))
        .then(|| "needs Linux 7.2: ZCRX_FEATURE_EVENT".to_owned())
}

fn no_areas() -> Option<String> {
    let commands = query().ok()?.zcrx?.nr_ctrl_opcodes;
    (commands <= ZcrxCtrlOp::ADD_AREA.0).then(|| "needs Linux 7.3: ZCRX_CTRL_ADD_AREA".to_owned())
}

fn commands() -> Option<String> {
    let has = here().has_register(RegisterOp::ZCRX_CTRL);
    has.then(|| "needs a kernel without ZCRX_CTRL".to_owned())
}

fn large() -> RawRing {
    ring(Setup::plain(4).with(DEFERRING | SetupFlags::CQE32))
}

/// How many bytes an area has.
const AREA: usize = 1 << 16;

/// Memory that its owner leaks, and that nothing else touches.
fn area() -> NonNull<[u8]> {
    let map = Map::own(AREA, Pages::Ordinary).expect("memory");
    let _ = map.address();
    NonNull::slice_from_raw_parts(map.at::<u8>(0, AREA), AREA)
}

/// Asks for a queue of an interface that there is not, to fill memory that is leaked.
fn queue(ring: &mut RawRing, entries: u32) -> RegisterError {
    let feed = Feed::Card { interface: 0x7fff_fff0, queue: 0 };
    let setup = QueueSetup::new(feed, entries, Area::Ours(area()));
    // SAFETY: the memory is leaked by its owner, and touched by nothing (RG1).
    unsafe { ring.receive_queue(&setup) }.expect_err("there is no such interface")
}

/// A queue that no card feeds, made with `how`, and its area.
fn unfed_as(
    ring: &mut RawRing,
    how: impl FnOnce(QueueSetup<'static>) -> QueueSetup<'static>,
) -> Result<(ReceiveQueue, NonNull<[u8]>), RegisterError> {
    let area = area();
    let setup = how(QueueSetup::new(Feed::Nowhere, 64, Area::Ours(area)));
    // SAFETY: the memory is leaked by its owner, and only what completions name is touched (RG1).
    unsafe { ring.receive_queue(&setup) }.map(|queue| (queue, area))
}

fn unfed(ring: &mut RawRing) -> Result<(ReceiveQueue, NonNull<[u8]>), RegisterError> {
    unfed_as(ring, |setup| setup)
}

/// The contents of one completion.
struct Part {
    bytes: Vec<u8>,
    cqe: ZcrxCqe,
    len: u32,
}

fn part(ring: &mut RawRing, area: NonNull<[u8]>) -> Result<Part, i32> {
    part_of(ring, &[area])
}

/// Takes one completion: a part, or the final result of the request.
fn part_of(ring: &mut RawRing, areas: &[NonNull<[u8]>]) -> Result<Part, i32> {
    if ring.ready() == 0 {
        ring.submit_and_wait(1).expect("it completes");
    }
    let cqe = ring.pop_wide().expect("it is ready");
    assert_eq!(cqe.first.user_data, 1);
    if !cqe.first.flags.contains(CqeFlags::MORE) {
        return Err(cqe.first.res);
    }
    let len = u32::try_from(cqe.first.res).expect("no error is followed by more");
    let [off, pad] = cqe.big;
    let start = usize::try_from(off & !ZCRX_AREA_MASK).expect("64 bits");
    let area = areas[usize::try_from(off >> ZCRX_AREA_SHIFT).expect("64 bits")];
    assert!(start + len as usize <= area.len(), "{start} {len}");
    // SAFETY: in the area, as just checked; and the kernel does not write to it before it is
    // recycled (RG1).
    let at = unsafe { area.cast::<u8>().add(start) };
    // SAFETY: the same bytes, which the kernel has written, since it says so.
    let bytes = unsafe { NonNull::slice_from_raw_parts(at, len as usize).as_ref() }.to_vec();
    Ok(Part { bytes, cqe: ZcrxCqe { off, pad }, len })
}

/// Receives from `queue` until the request ends.
fn receive(ring: &mut RawRing, from: &TcpStream, queue: u32) {
    let sqe = prep::recv_zc(from.as_raw_fd(), queue, 0, RecvSendFlags::empty());
    push(ring, Sqe { user_data: 1, ..sqe });
    ring.submit().expect("submit");
}

fn receives() -> Result<(), Failed> {
    for shape in [SetupFlags::CQE32, SetupFlags::CQE_MIXED] {
        let mut ring = ring(Setup::plain(8).with(DEFERRING | shape));
        let (queue, area) = unfed(&mut ring)?;
        let (ours, mut theirs) = tcp()?;
        receive(&mut ring, &ours, queue.id());
        let mut received = Vec::new();
        for message in [pattern(10), pattern(5000)] {
            theirs.write_all(&message)?;
            received.clear();
            while received.len() < message.len() {
                received.extend(part(&mut ring, area).map_err(|res| format!("{res}"))?.bytes);
            }
            assert_eq!(received, message);
        }
        drop(theirs);
        assert_eq!(part(&mut ring, area).err(), Some(0), "the peer has closed");
    }
    Ok(())
}

/// Receives sixteen times the size of the area.
fn recycles() -> Result<(), Failed> {
    let mut ring = large();
    let (mut queue, area) = unfed(&mut ring)?;
    let (ours, mut theirs) = tcp()?;
    receive(&mut ring, &ours, queue.id());
    for round in 0..256_u32 {
        let mut message = pattern(4096);
        message[..4].copy_from_slice(&round.to_ne_bytes());
        theirs.write_all(&message)?;
        let mut received = Vec::new();
        while received.len() < message.len() {
            let part = part(&mut ring, area).map_err(|res| format!("round {round}: {res}"))?;
            received.extend_from_slice(&part.bytes);
            // SAFETY: of this queue, once; its bytes were copied, so nothing uses them.
            unsafe { queue.recycle(part.cqe, part.len) }.map_err(|_| "room")?;
        }
        queue.flush();
        queue.take_now()?;
        assert_eq!(received, message);
    }
    Ok(())
}

/// Receives twice the size of the area; the request ends each time the area is full.
fn fills_up() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(32).with(DEFERRING | SetupFlags::CQE32));
    let (mut queue, area) = unfed(&mut ring)?;
    let (ours, mut theirs) = tcp()?;
    receive(&mut ring, &ours, queue.id());
    let writer = thread::spawn(move || theirs.write_all(&pattern(2 * AREA)).map(|()| theirs));
    let (mut parts, mut received) = (Vec::new(), Vec::new());
    while received.len() < 2 * AREA {
        match part(&mut ring, area) {
            Ok(part) => {
                received.extend_from_slice(&part.bytes);
                parts.push(part);
            }
            Err(res) => {
                assert_eq!(res, -libc::ENOMEM, "after {}", received.len());
                assert!(!parts.is_empty(), "there is room again");
                for part in parts.drain(..) {
                    // SAFETY: of this queue, once; its bytes were copied, so nothing uses them.
                    let room = unsafe { queue.recycle(part.cqe, part.len) };
                    room.map_err(|_| "64 are more than there are pages")?;
                }
                queue.flush();
                queue.take_now()?;
                receive(&mut ring, &ours, queue.id());
            }
        }
    }
    assert!(received == pattern(2 * AREA));
    drop(writer.join().expect("no panic")?);
    Ok(())
}

/// The refill ring stays with the first ring, which asks the kernel to read it.
fn imports() -> Result<(), Failed> {
    let (mut one, mut other) = (large(), large());
    let (mut queue, area) = unfed(&mut one)?;
    let exported = queue.export()?;
    let id = other.import_receive_queue(exported)?;
    let (ours, mut theirs) = tcp()?;
    receive(&mut other, &ours, id);
    for round in 0..64 {
        theirs.write_all(&pattern(4096))?;
        let mut received = Vec::new();
        while received.len() < 4096 {
            let part = part(&mut other, area).map_err(|res| format!("round {round}: {res}"))?;
            received.extend_from_slice(&part.bytes);
            // SAFETY: of this queue, once; its bytes were copied, so nothing uses them.
            unsafe { queue.recycle(part.cqe, part.len) }.map_err(|_| "room")?;
        }
        queue.flush();
        queue.take_now()?;
        assert_eq!(received, pattern(4096));
    }
    Ok(())
}

fn outlives() -> Result<(), Failed> {
    let mut ring = large();
    let (mut queue, area) = unfed(&mut ring)?;
    let (ours, mut theirs) = tcp()?;
    receive(&mut ring, &ours, queue.id());
    theirs.write_all(b"bytes")?;
    let part = part(&mut ring, area).map_err(|res| format!("{res}"))?;
    drop(ring);
    // SAFETY: of this queue, once; its bytes were copied, so nothing uses them.
    unsafe { queue.recycle(part.cqe, part.len) }.map_err(|_| "room")?;
    queue.flush();
    assert_eq!(part.bytes, b"bytes");
    let mut ring = large();
    drop(unfed(&mut ring)?);
    push(&mut ring, nop(2));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    Ok(())
}

fn reports() -> Result<(), Failed> {
    let mut ring = large();
    let events = [ZcrxEvent::COPY, ZcrxEvent::ALLOC_FAIL];
    let (queue, area) = unfed_as(&mut ring, |setup| setup.stats().report(7, &events))?;
    assert_eq!(queue.stats(), Some(ZcrxStats::default()));
    let (ours, mut theirs) = tcp()?;
    receive(&mut ring, &ours, queue.id());
    for round in 1..=3 {
        theirs.write_all(b"bytes")?;
        let (mut received, mut reported) = (0, 0);
        // Once armed, each copy is reported.
        while received < 5 || reported == 0 {
            if ring.ready() == 0 {
                ring.submit_and_wait(1)?;
            }
            let cqe = ring.pop_wide().expect("it is ready").first;
            match cqe.user_data {
                7 => {
                    assert_eq!(cqe.res, i32::try_from(ZcrxEvent::COPY.0)?);
                    reported += 1;
                }
                _ => received += cqe.res,
            }
        }
        assert_eq!(reported, 1, "in round {round}");
        let stats = queue.stats().expect("it counts");
        assert_eq!((stats.copy_count, stats.copy_bytes), (round, 5 * round));
        queue.arm_event(ZcrxEvent::COPY)?;
    }
    let _ = area;
    // Its own ring is notified, even of data that another ring receives, and with nothing in
    // flight.
    let (mut one, mut other) = (large(), large());
    let (queue, area) = unfed_as(&mut one, |setup| setup.report(7, &events))?;
    let id = other.import_receive_queue(queue.export()?)?;
    let (ours, mut theirs) = tcp()?;
    receive(&mut other, &ours, id);
    theirs.write_all(b"bytes")?;
    assert_eq!(part(&mut other, area).map_err(|res| format!("{res}"))?.bytes, b"bytes");
    one.submit_and_wait(1)?;
    assert_eq!(one.pop_wide().map(|cqe| cqe.first.user_data), Some(7));
    // A ring that did not ask is not notified, and cannot ask later.
    let (queue, _) = unfed(&mut large())?;
    assert_eq!(queue.stats(), None);
    let refused = queue.arm_event(ZcrxEvent::COPY);
    assert!(refused.is_err());
    Ok(())
}

fn no_device() -> Result<(), Failed> {
    let file = std::fs::File::open("/dev/null")?;
    let area = Area::Device { dmabuf: file.as_fd(), len: AREA as u64 };
    // SAFETY: no memory is there, and the kernel refuses it.
    let queue = unsafe { large().receive_queue(&QueueSetup::new(Feed::Nowhere, 64, area)) };
    let error = queue.expect_err("it is no memory");
    assert!(matches!(error, RegisterError::Invalid { .. } | RegisterError::Other(_)), "{error}");
    Ok(())
}

fn chunks() -> Result<(), Failed> {
    let mut ring = large();
    let error = unfed_as(&mut ring, |setup| setup.chunk(3)).expect_err("no power of two");
    assert!(matches!(error, RegisterError::Invalid { .. }), "{error}");
    let page = u32::try_from(page_size())?;
    let (queue, area) = unfed_as(&mut ring, |setup| setup.chunk(page))?;
    let (ours, mut theirs) = tcp()?;
    receive(&mut ring, &ours, queue.id());
    theirs.write_all(b"bytes")?;
    assert_eq!(part(&mut ring, area).map_err(|res| format!("{res}"))?.bytes, b"bytes");
    Ok(())
}

/// The first area is full, and later data goes to the second; each buffer is recycled by its
/// offset.
fn more_memory() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(32).with(DEFERRING | SetupFlags::CQE32));
    let (mut queue, first) = unfed(&mut ring)?;
    let second = area();
    // SAFETY: the memory is leaked by its owner, and only what completions name is touched (RG1).
    unsafe { queue.add_area(Area::Ours(second)) }?;
    let (ours, mut theirs) = tcp()?;
    receive(&mut ring, &ours, queue.id());
    for round in 0..3 {
        let mut parts = Vec::new();
        // Until a part is in the second area, which is long before that is full too.
        while parts.iter().all(|part: &Part| part.cqe.off >> ZCRX_AREA_SHIFT == 0) {
            theirs.write_all(&pattern(4096))?;
            let mut received = Vec::new();
            while received.len() < 4096 {
                let part = part_of(&mut ring, &[first, second]);
                let at = format!("round {round}, part {}", parts.len());
                let part = part.map_err(|res| format!("{at}: {res}"))?;
                received.extend_from_slice(&part.bytes);
                parts.push(part);
            }
            assert_eq!(received, pattern(4096));
        }
        assert_eq!(parts[0].cqe.off >> ZCRX_AREA_SHIFT, 0, "in round {round}");
        for part in parts {
            // SAFETY: of this queue, once; its bytes were copied, so nothing uses them.
            unsafe { queue.recycle(part.cqe, part.len) }.map_err(|_| "room for all pages")?;
        }
        queue.flush();
        queue.take_now()?;
    }
    Ok(())
}

fn no_card() -> Result<(), Failed> {
    let error = queue(&mut large(), 64);
    let unsupported = matches!(error, RegisterError::Unsupported { .. });
    let missing = error == RegisterError::Missing { what: "network interface of that index" };
    let privilege = matches!(error, RegisterError::Privilege { .. });
    // A kernel may be built without zero-copy receive.
    assert!(unsupported || if is_root() { missing } else { privilege }, "{error}");
    Ok(())
}

fn small_completions() -> Result<(), Failed> {
    let error = queue(&mut ring(Setup::plain(4).with(DEFERRING)), 64);
    let invalid = matches!(error, RegisterError::Invalid { .. });
    // Kernels differ in what they check first, and may be built without it.
    let privilege = matches!(error, RegisterError::Privilege { .. }) && !is_root();
    let unsupported = matches!(error, RegisterError::Unsupported { .. });
    assert!(invalid || privilege || unsupported, "{error}");
    Ok(())
}

fn sizes() -> Result<(), Failed> {
    for entries in [0, (1 << 15) + 1, u32::MAX] {
        let error = queue(&mut ring(Setup::plain(4)), entries);
        assert!(matches!(error, RegisterError::Invalid { .. }), "{entries}: {error}");
    }
    Ok(())
}

fn no_import() -> Result<(), Failed> {
    let file = std::fs::File::open("/dev/null")?;
    let error = large().import_receive_queue(file).expect_err("it is no queue");
    assert!(!matches!(error, RegisterError::OtherProcess | RegisterError::Enabled), "{error}");
    Ok(())
}

fn command(ring: &RawRing) -> RegisterError {
    // SAFETY: the command names no memory.
    unsafe { ring.zcrx_ctrl(&mut ZcrxCtrl::flush_rq(99)) }.expect_err("there is no such queue")
}

fn no_queue() -> Result<(), Failed> {
    let error = command(&large());
    let missing = error == RegisterError::Missing { what: "receive queue of that number" };
    // A kernel may be built without zero-copy receive.
    assert!(missing || matches!(error, RegisterError::Unsupported { .. }), "{error}");
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let error = command(&ring(Setup::plain(4)));
    assert_eq!(error.to_string(), "ZCRX_CTRL needs Linux 6.19");
    Ok(())
}
