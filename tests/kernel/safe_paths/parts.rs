//! Parts of a registered buffer, safe API; and attributes of reads and writes, raw API.
#![allow(unsafe_code, reason = "makes entries that point to memory")]

use std::fs::File;
use std::io::pipe;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;

use annulus::lease::{FixedBuf, FixedPool};
use annulus::op::{ReadVFixed, RwFlags, WriteVFixed};
use annulus::sys::abi::{AttrPi, Sqe};
use annulus::sys::flags::{Features, RwAttrFlags};
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Rejection, Ring, Setup, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, push, ring, test};
use crate::safe_files::{errno, memory, run, small};
use crate::watched::quietly;

const READ: Need = Need::Op(Opcode::READV_FIXED);
const WRITE: Need = Need::Op(Opcode::WRITEV_FIXED);
const ATTRIBUTES: Need = Need::Feature(Features::RW_ATTR);

pub fn tests() -> Vec<Trial> {
    vec![
        test("parts_of_a_buffer_are_written_in_their_order", &[WRITE], write),
        test("parts_of_a_buffer_are_read_and_the_rest_stays", &[READ], read),
        test("parts_of_a_buffer_go_to_a_registered_file", &[READ, WRITE], registered),
        test("a_part_of_no_bytes_is_left_out", &[READ, WRITE], empty),
        test("a_part_outside_of_the_buffer_is_refused_at_once", &[WRITE], outside),
        test("parts_that_cannot_be_moved_give_the_buffer_back", &[READ, WRITE], refused),
        test("parts_of_another_rings_buffer_are_refused", &[READ, WRITE], foreign),
        test("protection_needs_a_device_that_has_it", &[ATTRIBUTES], protected),
        test("attributes_that_cannot_be_are_refused", &[ATTRIBUTES], bad_attributes),
    ]
}

/// A buffer that is all filled with `text`, and its pool.
fn filled(ring: &mut Ring, text: &[u8]) -> std::io::Result<(FixedPool, FixedBuf)> {
    let size = u32::try_from(text.len()).expect("a few bytes");
    let pool = ring.fixed_pool(1, size).map_err(std::io::Error::other)?;
    let mut buf = pool.get().expect("it is free");
    buf.set_len(text.len());
    buf.copy_from_slice(text);
    Ok((pool, buf))
}

fn text<const N: usize>(file: &File) -> std::io::Result<[u8; N]> {
    let mut text = [0; N];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}

fn write() -> Result<(), Failed> {
    let mut ring = small();
    let (pool, buf) = filled(&mut ring, b"0123456789")?;
    // In any order, and one of them twice.
    let write = WriteVFixed::new(memory(b"------------"), buf, [7..10, 0..2, 1..3]).at(1);
    let written = run(&mut ring, write.flags(RwFlags::DSYNC));
    assert_eq!(written.result?, 7);
    assert_eq!(text(&written.fd)?, *b"-7890112----");
    assert_eq!((&*written.buf, pool.available()), (&b"0123456789"[..], 0));
    drop(written.buf);
    assert_eq!(pool.available(), 1);
    Ok(())
}

fn read() -> Result<(), Failed> {
    let mut ring = small();
    let (_pool, buf) = filled(&mut ring, b"..........")?;
    let read = ReadVFixed::new(memory(b"abcdefgh"), buf, [8..10, 1..3, 4..7]).at(1);
    let read = run(&mut ring, read);
    assert_eq!((read.result?, &*read.buf), (7, &b".de.fgh.bc"[..]));
    // Less than there is room for: the bytes that were not read stay.
    let short = run(&mut ring, ReadVFixed::new(read.fd, read.buf, [0..2, 2..9]).at(5));
    assert_eq!((short.result?, &*short.buf), (3, &b"fgh.fgh.bc"[..]));
    Ok(())
}

fn registered() -> Result<(), Failed> {
    let mut ring = small();
    let (_pool, buf) = filled(&mut ring, b"by number")?;
    let table = ring.file_table(1)?;
    let file = table.insert(&mut ring, memory(b""))?;
    let written = run(&mut ring, WriteVFixed::new(file, buf, [3..9, 0..3]).at(0));
    assert_eq!(written.result?, 9);
    let mut buf = written.buf;
    buf.fill(b'-');
    let read = run(&mut ring, ReadVFixed::new(written.fd, buf, [3..9, 0..3]).at(0));
    assert_eq!((read.result?, &*read.buf), (9, &b"by number"[..]));
    Ok(())
}

fn empty() -> Result<(), Failed> {
    let mut ring = small();
    let (_pool, buf) = filled(&mut ring, b"0123456789")?;
    let written = run(&mut ring, WriteVFixed::new(memory(b""), buf, [5..5, 2..4, 0..0]).at(0));
    assert_eq!((written.result?, text(&written.fd)?), (2, *b"23"));
    Ok(())
}

fn outside() -> Result<(), Failed> {
    let mut ring = small();
    let (pool, mut buf) = filled(&mut ring, b"0123456789")?;
    buf.set_len(5);
    let file = memory(b"");
    let refused = quietly(|| WriteVFixed::new(file, buf, [0..1, 4..6]));
    let reason = refused.map(drop).expect_err("a part of it is not filled");
    let reason = reason.downcast_ref::<String>().expect("a text");
    assert!(reason.contains("outside of 5 filled bytes"), "{reason}");
    assert_eq!(pool.available(), 1, "the buffer is free again");
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let (_pool, buf) = filled(&mut ring, b"0123456789")?;
    let (reader, writer) = pipe()?;
    let number = writer.as_raw_fd();
    let read = run(&mut ring, ReadVFixed::new(writer, buf, [0..1, 2..3]));
    assert_eq!((errno(&read), read.fd.as_raw_fd()), (Some(libc::EBADF), number));
    let written = run(&mut ring, WriteVFixed::new(reader, read.buf, [0..1, 2..3]));
    assert_eq!((errno(&written), &*written.buf), (Some(libc::EBADF), &b"0123456789"[..]));
    Ok(())
}

fn foreign() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let (pool, buf) = filled(&mut other, b"text")?;
    let write = ring.submit(WriteVFixed::new(memory(b""), buf, [0..1, 2..3])).map(drop);
    assert_eq!(write.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    let mut buf = pool.get().expect("it came back");
    buf.set_len(4);
    let read = ring.submit(ReadVFixed::new(memory(b""), buf, [0..1, 2..3])).map(drop);
    assert_eq!(read.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    Ok(())
}

/// The result of a read of four bytes of a file, with `attributes`.
fn attributed(ring: &mut RawRing, file: &File, kinds: RwAttrFlags, attributes: u64) -> i32 {
    let buf = ptr::from_mut(Box::leak(Box::new([0_u8; 4])));
    let read = prep::read(file.as_raw_fd(), buf.expose_provenance() as u64, 4, 0);
    let sqe: Sqe = prep::with_attributes(read, kinds, attributes);
    push(ring, sqe);
    ring.submit_and_wait(1).expect("submit");
    let cqes = drain(ring);
    assert_eq!(cqes.len(), 1);
    cqes[0].res
}

/// Attributes that live forever.
fn attributes(pi: AttrPi) -> u64 {
    ptr::from_mut(Box::leak(Box::new(pi))).expose_provenance() as u64
}

/// No device here has protection information, so this is as far as the test goes.
fn protected() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let file = memory(b"text");
    let information = ptr::from_mut(Box::leak(Box::new([0_u8; 8]))).expose_provenance() as u64;
    let pi = AttrPi { len: 8, addr: information, ..AttrPi::default() };
    let result = attributed(&mut ring, &file, RwAttrFlags::PI, attributes(pi));
    // First the kernel asked for `O_DIRECT`, later for a file that has such a thing.
    assert!(matches!(-result, libc::EOPNOTSUPP | libc::EINVAL), "{result}");
    assert_eq!(attributed(&mut ring, &file, RwAttrFlags::empty(), 0), 4, "without, it is read");
    Ok(())
}

fn bad_attributes() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let file = memory(b"text");
    let reserved = attributes(AttrPi { rsvd: 1, ..AttrPi::default() });
    let result = attributed(&mut ring, &file, RwAttrFlags::PI, reserved);
    assert_eq!(result, -libc::EINVAL, "what is reserved is 0");
    let good = attributes(AttrPi::default());
    let unknown = RwAttrFlags::from_bits_retain(1 << 40);
    assert_eq!(attributed(&mut ring, &file, unknown, good), -libc::EINVAL);
    // An address that belongs to the kernel.
    let result = attributed(&mut ring, &file, RwAttrFlags::PI, 1 << 63);
    assert_eq!(result, -libc::EFAULT);
    Ok(())
}
