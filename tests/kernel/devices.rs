//! Block devices: polled, given commands, checked by data that goes with each sector, and zoned.
//!
//! | namespace | is | tests |
//! |---|---|---|
//! | 1 | plain, and polled | reads and writes with `IOPOLL`, commands of 80 bytes |
//! | 2 | with 8 bytes of metadata per sector (T10 PI) | attributes of reads and writes |
//! | 3 | zoned | resetting all zones |
//!
//! The tests overwrite the device, so `ANNULUS_NVME` must name its controller: `tests/kernels/run`
//! gives each guest one (`/dev/nvme0`), and asks its driver for a queue that is polled.
#![allow(unsafe_code, reason = "pushes entries that name memory")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::rc::Rc;
use std::time::Duration;

use annulus::buf::AlignedBuf;
use annulus::op::{Outcome, Read, Write};
use annulus::sys::abi::{AttrPi, Sqe, Sqe128};
use annulus::sys::flags::{Features, RwAttrFlags, SetupFlags, UringCmdFlags};
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Setup, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, is_root, push, ring, safe_ring, test};
use crate::safe_sockets::pattern;

const SCRATCH: Need = Need::Other(no_scratch);
const POLLED: [Need; 2] = [SCRATCH, Need::Setup(SetupFlags::IOPOLL)];
const HYBRID: Need = Need::Setup(SetupFlags::IOPOLL.union(SetupFlags::HYBRID_IOPOLL));
const WIDE: Need = Need::Setup(SetupFlags::SQE128.union(SetupFlags::CQE32));
const COMMANDS: [Need; 3] = [SCRATCH, WIDE, Need::Op(Opcode::URING_CMD)];
/// Both came with Linux 6.1.
const FIXED: [Need; 4] = [COMMANDS[0], COMMANDS[1], COMMANDS[2], Need::Op(Opcode::SENDMSG_ZC)];
const MIXED: [Need; 2] = [SCRATCH, Need::Op(Opcode::URING_CMD128)];
const CHECKED: [Need; 2] = [SCRATCH, Need::Feature(Features::RW_ATTR)];
const ZONES: [Need; 2] = [SCRATCH, Need::Other(no_resets)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_polled_device_is_read_and_written", &POLLED, || polled(SetupFlags::empty())),
        test("a_polled_device_is_slept_for_and_polled", &[SCRATCH, HYBRID], || {
            polled(SetupFlags::HYBRID_IOPOLL)
        }),
        test("op1_a_polled_ring_is_dropped_with_reads_in_flight", &POLLED, polled_and_dropped),
        test("op1_a_scope_ends_on_a_polled_device", &POLLED, polled_in_scope),
        test("a_command_of_80_bytes_writes_and_reads", &COMMANDS, commands),
        test("a_command_of_80_bytes_is_polled", &FIXED, polled_commands),
        test("a_command_uses_a_registered_buffer", &FIXED, fixed_commands),
        test("a_command_of_80_bytes_goes_among_others", &MIXED, mixed_commands),
        test("what_goes_with_a_sector_is_checked_and_read", &CHECKED, checked),
        test("all_zones_are_reset", &ZONES, zones),
    ]
}

/// The controller that may be overwritten.
fn controller() -> Option<String> {
    std::env::var("ANNULUS_NVME").ok()
}

fn no_scratch() -> Option<String> {
    if controller().is_none() {
        return Some("needs an NVMe controller to overwrite, named by ANNULUS_NVME".to_owned());
    }
    (!is_root()).then(|| "needs to be root".to_owned())
}

/// The block device of a namespace. Linux names them in the order in which it finds them, which
/// need not be the order of their numbers.
fn path(number: u32) -> Result<String, Failed> {
    let controller = controller().ok_or("a controller")?;
    let is_it = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let text = std::fs::read_to_string(format!("/sys/class/block/{name}/nsid"));
        text.is_ok_and(|text| text.trim() == number.to_string())
    };
    let found = (1..=8).map(|place| format!("{controller}n{place}")).find(is_it);
    Ok(found.ok_or_else(|| format!("{controller} has no namespace {number}"))?)
}

/// A namespace, as a block device, past the page cache.
fn namespace(number: u32) -> Result<File, Failed> {
    let path = path(number)?;
    let options = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path);
    options.map_err(|error| format!("{path}: {error}").into())
}

fn buf(bytes: &[u8]) -> AlignedBuf {
    let mut buf = AlignedBuf::new(bytes.len(), 4096);
    buf.set_len(bytes.len());
    buf.copy_from_slice(bytes);
    buf
}

/// Where its bytes lie, for the kernel to read and write.
fn address(buf: &mut AlignedBuf) -> u64 {
    buf.as_mut_ptr().expose_provenance() as u64
}

fn polled(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(8).with(SetupFlags::IOPOLL | flags));
    let device = Rc::new(namespace(1)?);
    for round in 0..20_u8 {
        let bytes = |at: u8| vec![at ^ round; 4096];
        let write =
            |at: u8| Write::new(Rc::clone(&device), buf(&bytes(at))).at(u64::from(at) * 4096);
        let tickets: Vec<_> = (0..8).map(|at| ring.submit(write(at))).collect::<Result<_, _>>()?;
        for ticket in tickets {
            assert_eq!(ring.wait(ticket)?.result?, 4096);
        }
        let read = |at: u8| {
            Read::new(Rc::clone(&device), AlignedBuf::new(4096, 4096)).at(u64::from(at) * 4096)
        };
        let tickets: Vec<_> = (0..8).map(|at| ring.submit(read(at))).collect::<Result<_, _>>()?;
        for (at, ticket) in (0..8).zip(tickets) {
            let Outcome { result, buf, .. } = ring.wait(ticket)?;
            assert_eq!(result?, 4096);
            assert!(buf[..] == bytes(at)[..], "round {round}, block {at}");
        }
    }
    assert_eq!((ring.in_flight(), ring.stale()), (0, 0));
    Ok(())
}

fn polled_and_dropped() -> Result<(), Failed> {
    let device = Rc::new(namespace(1)?);
    for _ in 0..20 {
        let mut ring = safe_ring(Setup::plain(8).with(SetupFlags::IOPOLL));
        ring.set_drop_timeout(Duration::from_secs(60));
        for at in 0..8 {
            let read = Read::new(Rc::clone(&device), AlignedBuf::new(65536, 4096)).at(at * 65536);
            let ticket = ring.submit(read)?;
            ring.detach(ticket);
        }
        ring.submit_all()?;
        drop(ring);
        assert_eq!(Rc::strong_count(&device), 1, "every operation was waited for");
    }
    Ok(())
}

fn polled_in_scope() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(8).with(SetupFlags::IOPOLL));
    let device = namespace(1)?;
    device.write_all_at(&buf(&pattern(8192)), 0)?;
    let mut bytes = buf(&[0; 8192]);
    ring.scope(|scope| -> Result<(), Failed> {
        let _given_up = scope.submit(Read::new(&device, &mut bytes[..]).at(0))?;
        scope.submit_all()?;
        Ok(())
    })?;
    assert!(bytes[..] == [0; 8192] || bytes[..] == pattern(8192)[..], "whole, or not at all");
    Ok(())
}

/// `NVME_URING_CMD_IO`, which carries a `struct nvme_uring_cmd` of 72 bytes.
const IO: u32 = 0xc048_4e80;
const WRITE: u8 = 1;
const READ: u8 = 2;
const SECTOR: usize = 512;

/// A read or a write of whole sectors, as the driver of an NVMe device takes it.
fn command(opcode: u8, memory: &mut AlignedBuf, sector: u32) -> [u8; 80] {
    let mut command = [0; 80];
    let len = u32::try_from(memory.len()).expect("a few sectors");
    let mut put = |at: usize, bytes: &[u8]| command[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[opcode]);
    put(4, &1_u32.to_ne_bytes()); // The namespace.
    put(24, &address(memory).to_ne_bytes());
    put(36, &len.to_ne_bytes());
    put(40, &sector.to_ne_bytes());
    put(48, &(len / 512 - 1).to_ne_bytes()); // One less than there are.
    command
}

/// The first namespace, to be commanded.
fn generic() -> Result<File, Failed> {
    let path = path(1)?.replace("/nvme", "/ng");
    let file = File::options().read(true).write(true).open(&path);
    file.map_err(|error| format!("{path}: {error}").into())
}

/// Runs one command.
fn run(ring: &mut RawRing, sqe: Sqe128) -> Result<i32, Failed> {
    let first = Sqe { user_data: 1, ..sqe.first };
    // SAFETY: it names memory that the caller keeps until here, since it is waited for (OP1).
    unsafe { ring.push_wide(Sqe128 { first, ..sqe }) }?;
    ring.submit_and_wait(1)?;
    let cqe = ring.pop_wide().ok_or("a completion")?;
    assert_eq!(cqe.first.user_data, 1);
    Ok(cqe.first.res)
}

/// Writes and reads by commands that `of` makes entries of.
fn to_and_fro(ring: &mut RawRing, of: impl Fn(i32, [u8; 80]) -> Sqe128) -> Result<(), Failed> {
    let device = generic()?;
    let fd = device.as_raw_fd();
    let (mut out, mut back) = (buf(&pattern(4 * SECTOR)), buf(&[0; 4 * SECTOR]));
    assert_eq!(run(ring, of(fd, command(WRITE, &mut out, 100)))?, 0);
    assert_eq!(run(ring, of(fd, command(READ, &mut back, 100)))?, 0);
    assert!(back[..] == out[..]);
    let beyond = run(ring, of(fd, command(READ, &mut back, u32::MAX)))?;
    assert!(beyond > 0, "the device's own number for what is beyond its end: {beyond}");
    Ok(())
}

fn commands() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(SetupFlags::SQE128 | SetupFlags::CQE32));
    to_and_fro(&mut ring, |fd, command| {
        prep::uring_cmd_wide(fd, IO, UringCmdFlags::empty(), command)
    })
}

fn polled_commands() -> Result<(), Failed> {
    let flags = SetupFlags::SQE128 | SetupFlags::CQE32 | SetupFlags::IOPOLL;
    to_and_fro(&mut ring(Setup::plain(4).with(flags)), |fd, command| {
        prep::uring_cmd_wide(fd, IO, UringCmdFlags::empty(), command)
    })
}

fn fixed_commands() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(SetupFlags::SQE128 | SetupFlags::CQE32));
    let device = generic()?;
    let mut memory = buf(&pattern(4 * SECTOR));
    let iov_base = memory.as_mut_ptr().cast();
    let iovec = libc::iovec { iov_base, iov_len: 4 * SECTOR };
    // SAFETY: it outlives the ring's use of it, since each command is waited for (OP1).
    unsafe { ring.register_buffers(&[iovec]) }?;
    let of = |command| {
        let sqe = prep::uring_cmd_wide(device.as_raw_fd(), IO, UringCmdFlags::FIXED, command);
        let first = Sqe { buf_index: 0, ..sqe.first };
        Sqe128 { first, ..sqe }
    };
    assert_eq!(run(&mut ring, of(command(WRITE, &mut memory, 200)))?, 0);
    memory.fill(0);
    assert_eq!(run(&mut ring, of(command(READ, &mut memory, 200)))?, 0);
    assert!(memory[..] == pattern(4 * SECTOR)[..]);
    let mut elsewhere = buf(&[0; SECTOR]);
    assert!(run(&mut ring, of(command(READ, &mut elsewhere, 200)))? < 0, "it is not registered");
    Ok(())
}

fn mixed_commands() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8).with(SetupFlags::SQE_MIXED | SetupFlags::CQE_MIXED));
    to_and_fro(&mut ring, |fd, command| prep::uring_cmd128(fd, IO, UringCmdFlags::empty(), command))
}

/// What the device is to check (`IO_INTEGRITY_CHK_*` of `linux/fs.h`).
const GUARD: u16 = 1;
const REFERENCE: u16 = 2;

/// The checksum of T10 PI.
fn crc_t10dif(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x8bb7 }
        })
    })
}

/// The metadata of the sectors of `bytes`, which start at `sector`.
fn beside(bytes: &[u8], sector: u32) -> Vec<u8> {
    let sectors = bytes.chunks_exact(SECTOR).zip(sector..);
    let beside = sectors.flat_map(|(bytes, number)| {
        let (crc, number) = (crc_t10dif(bytes).to_be_bytes(), number.to_be_bytes());
        [crc[0], crc[1], 0x12, 0x34, number[0], number[1], number[2], number[3]]
    });
    beside.collect()
}

/// Transfers sectors together with their metadata.
fn transfer(ring: &mut RawRing, sqe: Sqe, information: &mut AlignedBuf, sector: u32) -> i32 {
    let attribute = AttrPi {
        flags: GUARD | REFERENCE,
        app_tag: 0,
        len: u32::try_from(information.len()).expect("a few sectors"),
        addr: address(information),
        seed: u64::from(sector),
        rsvd: 0,
    };
    let at = (&raw const attribute).expose_provenance() as u64;
    push(ring, prep::with_attributes(sqe, RwAttrFlags::PI, at));
    ring.submit_and_wait(1).expect("it completes");
    ring.pop().expect("it has completed").res
}

fn checked() -> Result<(), Failed> {
    assert_eq!(crc_t10dif(b"123456789"), 0xd0db, "as everybody else has it");
    let mut ring = ring(Setup::plain(4));
    let device = namespace(2)?;
    let (fd, sector, len) = (device.as_raw_fd(), 64_u32, 8 * SECTOR);
    let offset = u64::from(sector) * 512;
    let mut out = buf(&pattern(len));
    let (mut of_out, size) = (buf(&beside(&out, sector)), u32::try_from(len)?);
    let write = prep::write(fd, address(&mut out), size, offset);
    assert_eq!(transfer(&mut ring, write, &mut of_out, sector), 4096);
    let (mut back, mut of_back) = (buf(&[0; 4096]), buf(&[0; 64]));
    let read = prep::read(fd, address(&mut back), size, offset);
    assert_eq!(transfer(&mut ring, read, &mut of_back, sector), 4096);
    assert!(back[..] == out[..]);
    assert_eq!(of_back[..], of_out[..]);
    // Metadata that does not fit the bytes is not written.
    let mut wrong = buf(&of_out);
    wrong[0] ^= 1;
    let refused = transfer(&mut ring, write, &mut wrong, sector);
    assert!([libc::EILSEQ, libc::EIO].contains(&-refused), "{refused}");
    Ok(())
}

fn reset(ring: &mut RawRing, device: &File) -> i32 {
    push(ring, prep::cmd_zone_reset_all(device.as_raw_fd()));
    ring.submit_and_wait(1).expect("it completes");
    ring.pop().expect("it has completed").res
}

fn no_resets() -> Option<String> {
    let device = match namespace(3) {
        Ok(device) => device,
        Err(error) => return Some(format!("needs a zoned device: {error:?}")),
    };
    let res = reset(&mut ring(Setup::plain(2)), &device);
    (res != 0).then(|| "needs Linux 7.3: BLOCK_URING_CMD_ZONE_RESET_ALL".to_owned())
}

/// A zone is written from its start on, and again only after it was reset.
fn zones() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let device = namespace(3)?;
    let block = buf(&[7; 4096]);
    for _ in 0..2 {
        assert_eq!(reset(&mut ring, &device), 0);
        device.write_all_at(&block, 0)?;
        assert!(device.write_all_at(&block, 0).is_err(), "it goes on behind that");
    }
    let reader = File::open(path(3)?)?;
    assert_eq!(reset(&mut ring, &reader), -libc::EBADF, "it was not opened for writing");
    Ok(())
}
