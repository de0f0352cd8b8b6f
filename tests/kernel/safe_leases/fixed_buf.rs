//! Registered buffers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::Duration;

use annulus::lease::{FixedBuf, FixedPool, RegisterError};
use annulus::op::{Read, ReadFixed, Write, WriteFixed};
use annulus::{Ring, Setup};
use libtest_mimic::{Failed, Trial};

use super::{Random, in_a_forked_child, is_mapped, of_another_ring, patient, pipe, ring};
use crate::harness::{Need, child_succeeds, safe_ring, test};

const LIMITED: [Need; 2] = [Need::User, Need::Other(memory_is_unlimited)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("fixed_buffers_carry_bytes_to_a_file_and_back", &[], to_a_file_and_back),
        test("fixed_reads_are_no_longer_than_asked_for", &[], no_longer_than_asked_for),
        test("fixed_buffers_serve_plain_operations_too", &[], plain_operations),
        test("fixed_buffers_are_apart_and_aligned", &[], apart_and_aligned),
        test("a_fixed_buffer_is_in_one_hand", &[], in_one_hand),
        test("a_fixed_buffer_comes_back_from_a_failed_operation", &[], back_from_a_failure),
        test("a_fixed_buffer_comes_back_from_an_operation_given_up", &[], back_from_detached),
        test("fixed_buffers_outlive_their_ring", &[], || {
            child_succeeds("fixed buffers outlive their ring")
        }),
        test("rg1_fixed_buffers_that_may_be_in_use_are_leaked", &[], || {
            child_succeeds("fixed buffers are leaked")
        }),
        test("fixed_buffers_are_refused_on_another_ring", &[], another_ring),
        test("a_ring_has_one_pool_at_a_time", &[], one_pool),
        test("a_pool_of_no_size_is_refused_with_a_message", &[], no_size),
        test("a_pool_beyond_the_limit_names_the_limit", &LIMITED, beyond_the_limit),
        test("a_forked_child_that_drops_fixed_buffers_harms_nothing", &[], || {
            child_succeeds("a forked child drops registered buffers")
        }),
    ]
}

fn pool(ring: &mut Ring, count: u16, size: u32) -> FixedPool {
    patient(|| ring.fixed_pool(count, size))
}

/// A buffer that holds `text`.
fn filled(pool: &FixedPool, text: &[u8]) -> FixedBuf {
    let mut buf = pool.get().expect("a free buffer");
    buf.set_len(text.len());
    buf.copy_from_slice(text);
    buf
}

/// A new file that no folder names.
fn file() -> File {
    let path = std::env::temp_dir().join(format!("annulus-fixed-{}", std::process::id()));
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(&path);
    std::fs::remove_file(&path).expect("the file is there");
    file.expect("a file")
}

fn to_a_file_and_back() -> Result<(), Failed> {
    let mut ring = ring();
    let pool = pool(&mut ring, 2, 100);
    let write = ring.submit(WriteFixed::new(file(), filled(&pool, b"0123456789")).at(5))?;
    let written = ring.wait(write)?;
    assert_eq!(written.result?, 10);
    assert_eq!(*written.buf, *b"0123456789", "a write leaves its buffer as it was");
    let mut file = written.fd;
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    assert_eq!(text, b"\0\0\0\0\x000123456789");

    let read = ring.submit(ReadFixed::new(file, written.buf).at(8))?;
    let read = ring.wait(read)?;
    assert_eq!(read.result?, 7);
    assert_eq!(*read.buf, *b"3456789");
    // From its own position, which is the end.
    let read = ring.submit(ReadFixed::new(read.fd, read.buf))?;
    let read = ring.wait(read)?;
    assert_eq!((read.result?, &read.buf[..]), (0, &b""[..]));
    drop(read.buf);
    assert_eq!((pool.available(), pool.count(), pool.buffer_size()), (2, 2, 100));
    Ok(())
}

fn no_longer_than_asked_for() -> Result<(), Failed> {
    let mut ring = ring();
    let pool = pool(&mut ring, 1, 64);
    let (from, mut to) = pipe();
    to.write_all(&[b'x'; 100])?;
    let read = ring.submit(ReadFixed::new(from, pool.get().expect("free")).up_to(3))?;
    let read = ring.wait(read)?;
    assert_eq!((read.result?, &read.buf[..]), (3, &b"xxx"[..]));
    let read = ring.submit(ReadFixed::new(read.fd, read.buf).up_to(1000))?;
    let read = ring.wait(read)?;
    assert_eq!((read.result?, read.buf.len()), (64, 64));
    Ok(())
}

fn plain_operations() -> Result<(), Failed> {
    let mut ring = ring();
    let mut other = safe_ring(Setup::new(4));
    let pool = pool(&mut ring, 2, 64);
    let (from, to) = pipe();
    // By their addresses, which mean something on any ring.
    let write = other.submit(Write::new(to, filled(&pool, b"plain")))?;
    assert_eq!(other.wait(write)?.result?, 5);
    let read = ring.submit(Read::new(from, pool.get().expect("free")))?;
    assert_eq!(*ring.wait(read)?.ok()?.1, *b"plain");
    assert_eq!(pool.available(), 2);
    Ok(())
}

fn apart_and_aligned() -> Result<(), Failed> {
    for (count, size, align) in [(5, 1, 64), (3, 100, 64), (4, 8192, 4096)] {
        let mut ring = ring();
        let pool = pool(&mut ring, count, size);
        let mut all: Vec<FixedBuf> = std::iter::from_fn(|| pool.get()).collect();
        assert_eq!(all.len(), usize::from(count));
        for (at, buf) in all.iter_mut().enumerate() {
            assert!(buf.is_empty());
            buf.set_len(buf.capacity());
            assert_eq!(buf.len(), usize::try_from(size)?);
            assert!(buf.iter().all(|&byte| byte == 0));
            assert_eq!(buf.as_ptr().addr() % align, 0, "{size} bytes");
            buf.fill(u8::try_from(at)?);
        }
        for (at, buf) in all.iter_mut().enumerate() {
            assert!(buf.iter().all(|&byte| usize::from(byte) == at), "{size} bytes");
            buf.truncate(1);
            buf.truncate(9);
            assert_eq!(buf.len(), 1);
        }
    }
    Ok(())
}

/// Whatever is taken, used and dropped: no two leases share a buffer, and none is lost.
fn in_one_hand() -> Result<(), Failed> {
    let mut ring = ring();
    let pool = pool(&mut ring, 7, 64);
    let (mut from, mut to) = pipe();
    let mut random = Random(7);
    let mut held: Vec<FixedBuf> = Vec::new();
    for lap in 0..2000_u16 {
        match random.below(4) {
            0 if !held.is_empty() => drop(held.swap_remove(random.below(held.len()))),
            1 if !held.is_empty() => {
                let buf = held.swap_remove(random.below(held.len()));
                to.write_all(&lap.to_le_bytes())?;
                let read = ring.submit(ReadFixed::new(from, buf))?;
                let read = ring.wait(read)?;
                assert_eq!((read.result?, &read.buf[..]), (2, &lap.to_le_bytes()[..]));
                held.push(read.buf);
                from = read.fd;
            }
            _ => held.extend(pool.get()),
        }
        let places: BTreeSet<usize> = held.iter().map(|buf| buf.as_ptr().addr()).collect();
        assert_eq!(places.len(), held.len(), "lap {lap}");
        assert_eq!(pool.available() + held.len(), 7, "lap {lap}");
    }
    Ok(())
}

fn back_from_a_failure() -> Result<(), Failed> {
    let mut ring = ring();
    let pool = pool(&mut ring, 1, 64);
    let (from, to) = pipe();
    let write = ring.submit(WriteFixed::new(from, filled(&pool, b"x")))?;
    let failed = ring.wait(write)?;
    assert_eq!(failed.result.expect_err("it is for reading").raw_os_error(), Some(libc::EBADF));
    assert_eq!(*failed.buf, *b"x");
    let read = ring.submit(ReadFixed::new(to, failed.buf))?;
    let failed = ring.wait(read)?;
    assert_eq!(failed.result.expect_err("it is for writing").raw_os_error(), Some(libc::EBADF));
    assert_eq!(*failed.buf, *b"x", "nothing was read, so what is filled stays");
    assert_eq!(pool.available(), 0);
    drop(failed.buf);
    assert_eq!(pool.available(), 1);
    Ok(())
}

fn back_from_detached() -> Result<(), Failed> {
    let mut ring = ring();
    let pool = pool(&mut ring, 1, 64);
    let (from, mut to) = pipe();
    let read = ring.submit(ReadFixed::new(from, pool.get().expect("free")))?;
    ring.submit_all()?;
    ring.detach(read);
    assert!(pool.get().is_none(), "the kernel has it");
    to.write_all(b"late")?;
    while ring.in_flight() > 0 {
        ring.submit_and_wait(0)?;
        ring.reap(|event| panic!("no ticket is for {event:?}"))?;
    }
    assert_eq!(pool.available(), 1);
    // A lease that was dropped with its operation, before the kernel had it.
    let (from, _to) = pipe();
    drop(ReadFixed::new(from, pool.get().expect("free")));
    assert_eq!(pool.available(), 1);
    Ok(())
}

pub fn outlive_their_ring() -> Result<(), Failed> {
    let mut ring = ring();
    let pool = pool(&mut ring, 4, 4096);
    let (from, to) = pipe();
    let lease = filled(&pool, b"still here");
    // One is in flight, one in an output that was not taken.
    let read = ring.submit(ReadFixed::new(from, pool.get().expect("free")))?;
    let write = ring.submit(WriteFixed::new(to.try_clone()?, filled(&pool, b"")))?;
    ring.submit_and_wait(1)?;
    assert_eq!(pool.available(), 1);
    drop((read, write));
    drop(ring);
    assert_eq!(pool.available(), 3);
    let place = lease.as_ptr().addr();
    assert_eq!(*lease, *b"still here");
    assert!(pool.get().is_some(), "it is memory, and nothing else");
    drop(pool);
    assert!(is_mapped(place)?);
    assert_eq!(*lease, *b"still here");
    drop(lease);
    assert!(!is_mapped(place)?, "the last lease takes the memory along");
    drop(to);
    Ok(())
}

/// A ring that may not wait for its end does not know what the kernel still uses.
pub fn leaked() -> Result<(), Failed> {
    let mut ring = ring();
    let pool = pool(&mut ring, 1, 4096);
    let place = pool.get().ok_or("a free buffer")?.as_ptr().addr();
    drop(pool);
    let (from, _to) = pipe();
    let pending = ring.submit(Read::new(from, [0; 1]))?;
    ring.submit_all()?;
    let drained = ring.shutdown(Duration::ZERO).is_ok();
    assert_eq!(is_mapped(place)?, !drained);
    drop(pending);
    Ok(())
}

fn another_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (ring(), safe_ring(Setup::new(4)));
    let pool = pool(&mut ring, 2, 64);
    let (from, to) = pipe();
    let op = of_another_ring(other.submit(WriteFixed::new(to, filled(&pool, b"mine"))));
    let write = ring.submit(op)?;
    assert_eq!(ring.wait(write)?.result?, 4);
    let op = of_another_ring(other.submit(ReadFixed::new(from, pool.get().expect("free"))));
    let read = ring.submit(op)?;
    assert_eq!(*ring.wait(read)?.ok()?.1, *b"mine");
    assert_eq!(other.in_flight(), 0);
    Ok(())
}

fn one_pool() -> Result<(), Failed> {
    let mut ring = ring();
    let first = pool(&mut ring, 2, 64);
    let again = ring.fixed_pool(1, 64).expect_err("there is one");
    assert!(again.to_string().starts_with("one pool of registered buffers per ring"));
    let (from, mut to) = pipe();
    let read = ring.submit(ReadFixed::new(from.try_clone()?, first.get().expect("free")))?;
    drop(first);
    assert!(matches!(ring.fixed_pool(1, 64), Err(RegisterError::InUse { .. })), "in flight");
    to.write_all(b"x")?;
    let (_, lease) = ring.wait(read)?.ok()?;
    assert!(matches!(ring.fixed_pool(1, 64), Err(RegisterError::InUse { .. })), "leased");
    drop(lease);
    let second = pool(&mut ring, 3, 128);
    let write = ring.submit(WriteFixed::new(to, filled(&second, &[7; 128])))?;
    assert_eq!(ring.wait(write)?.result?, 128);
    drop(from);
    Ok(())
}

fn no_size() -> Result<(), Failed> {
    let mut ring = ring();
    for (count, size) in [(0, 64), (4, 0), (1, u32::MAX), (1, (1 << 30) + 1)] {
        let refused = ring.fixed_pool(count, size).expect_err("no kernel takes it");
        assert!(refused.to_string().contains("1 byte to 1 GiB each"), "{refused}");
    }
    let refused = ring.fixed_pool(u16::MAX, 1).expect_err("no kernel takes so many");
    assert!(refused.to_string().contains("ask for fewer"), "{refused}");
    assert_eq!(pool(&mut ring, 1, 1).count(), 1, "what was refused left nothing behind");
    Ok(())
}

/// The most that this user may lock into memory; `None` without a limit.
fn most_locked() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("/proc is mounted");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|limit| limit.parse().ok())
}

fn memory_is_unlimited() -> Option<String> {
    let small = most_locked().is_some_and(|limit| limit <= 64 << 20);
    (!small).then(|| "needs a limit of 64 MiB of locked memory, or less".to_owned())
}

fn beyond_the_limit() -> Result<(), Failed> {
    let mut ring = ring();
    let limit = most_locked().ok_or("a limit")?;
    let size = u32::try_from(limit + 4096)?;
    let refused = ring.fixed_pool(1, size).expect_err("it is beyond the limit");
    assert_eq!(refused, RegisterError::LockedMemory { needed: limit + 4096, limit });
    assert!(refused.to_string().contains("ulimit -l"), "{refused}");
    assert_eq!(pool(&mut ring, 1, 64).available(), 1);
    Ok(())
}

pub fn forked_child_drops() {
    let mut ring = ring();
    let pool = pool(&mut ring, 2, 64);
    let (from, mut to) = pipe();
    let lease = filled(&pool, b"the parent's");
    let read = ring.submit(ReadFixed::new(from, pool.get().expect("free"))).expect("submit");
    ring.submit_all().expect("submit");
    let mut shared = Some((ring, pool, lease));
    in_a_forked_child(|| drop(shared.take()));
    let (mut ring, pool, lease) = shared.take().expect("the child took its own");
    assert_eq!(pool.available(), 0);
    assert_eq!(*lease, *b"the parent's");
    to.write_all(b"data").expect("write");
    let read = ring.wait(read).expect("wait");
    assert_eq!((read.result.expect("read"), &read.buf[..]), (4, &b"data"[..]));
    let write = ring.submit(WriteFixed::new(to, lease)).expect("submit");
    assert_eq!(ring.wait(write).expect("wait").result.expect("write"), 12);
}
