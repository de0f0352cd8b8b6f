//! How often the kernel is entered for a copy of 2,048 blocks, 32 of them at a time.
//!
//! | | enters |
//! |---|---|
//! | one block after the other | 4,096 |
//! | 32 reads, then their 32 writes | 128 |
//! | 32 reads, and with them the 32 writes of those before | 65 |
//! | 32 reads, each linked to its write | 64 |
//!
//! The blocks are of 32 KiB, so that the test is quick: 64 MiB. A file of 1 GiB has as many blocks
//! of 512 KiB, as `examples/05_copy.rs` takes them. A turn waits for all that it submits, so it
//! does not matter which of them worker threads do, and how fast. The example waits for one of
//! them, so that none has to wait for the slowest, and enters more often.
#![allow(unsafe_code, reason = "vouches for the memory of its entries")]

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::SqeFlags;
use annulus::{RawRing, prep};

use crate::linux::Linux;
use crate::or_skip;

const BLOCK: usize = 32 << 10;
const LEN: u32 = 32 << 10;
const BLOCKS: usize = 2048;
const DEPTH: usize = 32;

/// A copy on its way.
struct Copy {
    ring: RawRing,
    linux: Arc<Linux>,
    source: File,
    dest: File,
    /// Twice as many as are read at a time. They live forever, so no entry outlives them.
    blocks: &'static mut [[u8; BLOCK]],
}

impl Copy {
    fn new(name: &str) -> Result<Self, String> {
        let (ring, linux) = Linux::ring(128)?;
        let (source, dest) = (file(&format!("{name}-source")), file(&format!("{name}-dest")));
        for at in 0..BLOCKS {
            source.write_all_at(&content(at), offset(at)).expect("room for 64 MiB");
        }
        let blocks = vec![[0; BLOCK]; 2 * DEPTH].leak();
        Ok(Self { ring, linux, source, dest, blocks })
    }

    fn read(&mut self, at: usize, flags: SqeFlags) {
        let sqe = prep::read(self.source.as_raw_fd(), self.address(at), LEN, offset(at));
        self.push(Sqe { flags, ..sqe });
    }

    fn write(&mut self, at: usize) {
        let sqe = prep::write(self.dest.as_raw_fd(), self.address(at), LEN, offset(at));
        self.push(sqe);
    }

    fn push(&mut self, sqe: Sqe) {
        // SAFETY: the block lives forever, and nothing else uses it until the turn has ended (OP1).
        unsafe { self.ring.push(sqe) }.expect("room");
    }

    /// The address of the buffer of a block, for an entry.
    fn address(&mut self, at: usize) -> u64 {
        self.blocks[at % (2 * DEPTH)].as_mut_ptr().expose_provenance() as u64
    }

    /// A turn that waits for all that it submits.
    fn turn(&mut self) {
        let want = self.ring.sq_entries() - self.ring.room();
        let whole = |cqe: Cqe| assert_eq!(cqe.res, LEN.cast_signed(), "a whole block");
        assert_eq!(self.ring.turn(want, whole), Ok(want));
    }

    /// How often the kernel was entered for a copy that is right.
    fn end(self) -> u64 {
        let mut block = vec![0; BLOCK];
        for at in 0..BLOCKS {
            self.dest.read_exact_at(&mut block, offset(at)).expect("it was copied");
            assert!(block == content(at), "block {at}");
        }
        assert_eq!(self.ring.stats().enters, self.linux.calls());
        self.linux.calls()
    }
}

/// An empty file without a name.
fn file(name: &str) -> File {
    let path = std::env::temp_dir().join(format!("annulus-{}-{name}", std::process::id()));
    let opened = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = opened.expect("a file for the test");
    fs::remove_file(path).expect("ours");
    file
}

/// No two blocks are equal.
fn content(at: usize) -> Vec<u8> {
    at.to_le_bytes().repeat(BLOCK / size_of::<usize>())
}

fn offset(at: usize) -> u64 {
    (at * BLOCK) as u64
}

/// The blocks, so many at a time.
fn batches() -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..BLOCKS).step_by(DEPTH).map(|at| at..at + DEPTH)
}

#[test]
fn one_block_after_the_other_is_two_enters_each() {
    let mut copy = or_skip!(Copy::new("one"));
    for at in 0..BLOCKS {
        copy.read(at, SqeFlags::empty());
        copy.turn();
        copy.write(at);
        copy.turn();
    }
    assert_eq!(copy.end(), 4_096);
}

#[test]
fn reads_and_then_writes_are_two_enters_for_each_32() {
    let mut copy = or_skip!(Copy::new("two"));
    for batch in batches() {
        batch.clone().for_each(|at| copy.read(at, SqeFlags::empty()));
        copy.turn();
        batch.for_each(|at| copy.write(at));
        copy.turn();
    }
    assert_eq!(copy.end(), 128);
}

#[test]
fn writes_beside_the_next_reads_are_one_enter_for_each_32() {
    let mut copy = or_skip!(Copy::new("beside"));
    for batch in batches() {
        batch.clone().for_each(|at| copy.read(at, SqeFlags::empty()));
        copy.turn();
        batch.for_each(|at| copy.write(at));
    }
    copy.turn();
    assert_eq!(copy.end(), 65);
}

#[test]
fn reads_linked_to_their_writes_are_one_enter_for_each_32() {
    let mut copy = or_skip!(Copy::new("linked"));
    for batch in batches() {
        for at in batch {
            copy.read(at, SqeFlags::IO_LINK);
            copy.write(at);
        }
        copy.turn();
    }
    assert_eq!(copy.end(), 64);
}
