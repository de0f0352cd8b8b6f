//! A file read through the ring, several blocks at once, and held against what `std` reads.
//!
//! ```text
//!   file     │ taken │ taken │ full │ in flight │ in flight │ full │ not asked for yet
//!                              ▲ the oldest block, taken next
//!   buffers                  │◄────────────── depth ──────────────►│
//! ```
//!
//! A read may bring less than was asked for; then the rest of the block is asked for again. Only a
//! read of 0 bytes is the end, whatever size the file claims: those in `/proc` claim 0. So beyond
//! that size one block is in flight at a time.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use annulus::RawRing;

use crate::support::Failure;
use crate::support::loans::{Loans, Request};

/// The bytes in a block.
pub const BLOCK: usize = 64 << 10;

/// A file to be read, opened twice: for the ring and for `std`.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    ours: File,
    theirs: File,
    stamp: Stamp,
}

/// What changes when a file does.
type Stamp = (u64, Option<SystemTime>);

/// What was read.
#[derive(Debug)]
pub struct Report {
    /// How many bytes the file has.
    pub bytes: u64,
    /// How many reads that took.
    pub reads: u64,
    /// Of all bytes.
    pub checksum: u64,
    /// Whether `std` read the same bytes.
    pub verdict: Verdict,
}

/// Whether `std` read the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every one.
    Equal,
    /// No, and none need be: the kernel writes such a file anew for each reader.
    Fleeting,
}

impl Source {
    /// Opens a regular file.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::of(format_args!("cannot open {}", path.display()), error);
        // Looked at before it is opened, since opening a pipe would wait for its writer.
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::Failed(format!("{} is a directory, not a file", path.display())));
        }
        if !metadata.is_file() {
            return Err(Failure::Failed(format!("{} is not a regular file", path.display())));
        }
        let ours = File::open(path).map_err(failed)?;
        let theirs = File::open(path).map_err(failed)?;
        let stamp = stamp(&ours);
        Ok(Self { path: path.into(), ours, theirs, stamp })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all of it with up to `depth` blocks in flight, and compares block by block.
    pub fn read(&self, ring: &mut RawRing, depth: usize) -> Result<Report, Failure> {
        let mut progress = Progress::new(self.stamp.0);
        let (mut theirs, mut compared) = (&self.theirs, vec![0; BLOCK]);
        let (mut bytes, mut checksum, mut equal) = (0, 0xCBF2_9CE4_8422_2325, true);
        let check = |block: &[u8]| {
            let count = read_full(&mut theirs, &mut compared).map_err(|error| {
                Failure::of(format_args!("std on {}", self.path.display()), error)
            })?;
            equal &= compared.get(..count) == Some(block);
            checksum = add(checksum, block);
            bytes += block.len() as u64;
            progress.show(bytes);
            Ok(())
        };
        let reads = self.read_blocks(ring, depth, check)?;
        let verdict = match (equal, self.stamp.0) {
            (true, _) => Verdict::Equal,
            (false, 0) => Verdict::Fleeting,
            _ if stamp(&self.ours) != self.stamp => {
                let path = self.path.display();
                return Err(Failure::Failed(format!("{path} changed while it was read")));
            }
            _ => {
                let path = self.path.display();
                return Err(Failure::Failed(format!("{path}: std reads other bytes than we do")));
            }
        };
        Ok(Report { bytes, reads, checksum, verdict })
    }

    /// Gives every block to `each`, in order; the last one is shorter, or empty. Returns how many
    /// reads it took.
    fn read_blocks(
        &self,
        ring: &mut RawRing,
        depth: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let places = depth as u64;
        let claimed = self.stamp.0.div_ceil(BLOCK as u64);
        let mut blocks = Blocks {
            source: self,
            loans: Loans::new(ring, depth, BLOCK),
            filled: vec![Filled::Part(0); depth],
            reads: 0,
        };
        let (mut asked, mut taken) = (0, 0);
        loop {
            while asked - taken < places && (asked < claimed || asked == taken) {
                let place = blocks.place(asked);
                blocks.filled[place] = Filled::Part(0);
                blocks.read_on(asked, 0)?;
                asked += 1;
            }
            let place = blocks.place(taken);
            let count = loop {
                match blocks.filled[place] {
                    Filled::All(count) => break count,
                    Filled::Part(_) => blocks.finish_one()?,
                }
            };
            each(&blocks.loans.buffer(place)[..count])?;
            if count < BLOCK {
                return Ok(blocks.reads); // What was asked for beyond the end ends with `loans`.
            }
            taken += 1;
        }
    }
}

/// The blocks that are asked for and not taken.
struct Blocks<'a> {
    source: &'a Source,
    loans: Loans<'a, 'a>,
    filled: Vec<Filled>,
    reads: u64,
}

/// How many bytes of a block are there.
#[derive(Debug, Clone, Copy)]
enum Filled {
    /// So many, and more to come.
    Part(usize),
    /// So many, and that is all.
    All(usize),
}

impl Blocks<'_> {
    /// Where a block lies among the buffers.
    fn place(&self, block: u64) -> usize {
        usize::try_from(block % self.filled.len() as u64).unwrap_or_default()
    }

    /// Asks for the rest of `block`, of which `filled` bytes are there.
    fn read_on(&mut self, block: u64, filled: usize) -> Result<(), Failure> {
        let offset = block * BLOCK as u64 + filled as u64;
        let (file, buffer) = (self.source.ours.as_fd(), self.place(block));
        self.reads += 1;
        self.loans.push(block, Request::Read { file, offset, buffer, from: filled })
    }

    /// Waits for a read to end, and takes note of what it brought.
    fn finish_one(&mut self) -> Result<(), Failure> {
        let done = self.loans.next()?;
        let (block, place) = (done.id, self.place(done.id));
        let before = match self.filled[place] {
            Filled::Part(count) | Filled::All(count) => count,
        };
        match done.result {
            Ok(0) => self.filled[place] = Filled::All(before),
            Ok(count) => {
                let now = before + count as usize;
                self.filled[place] = if now < BLOCK { Filled::Part(now) } else { Filled::All(now) };
                if now < BLOCK {
                    self.read_on(block, now)?;
                }
            }
            // A signal, or a file that cannot wait: nothing was read, so once more.
            Err(errno) if errno.is(libc::EINTR) || errno.is(libc::EAGAIN) => {
                self.read_on(block, before)?;
            }
            Err(errno) => {
                let path = self.source.path.display();
                return Err(Failure::of(format_args!("cannot read {path}"), errno));
            }
        }
        Ok(())
    }
}

/// Says on stderr how far we are, once a second.
struct Progress {
    size: u64,
    shown: Instant,
}

impl Progress {
    fn new(size: u64) -> Self {
        Self { size, shown: Instant::now() }
    }

    fn show(&mut self, bytes: u64) {
        if self.shown.elapsed() >= Duration::from_secs(1) {
            self.shown = Instant::now();
            // Progress that cannot be shown is no reason to stop.
            let _ = writeln!(io::stderr(), "  {} of {} MiB", bytes >> 20, self.size >> 20);
        }
    }
}

fn stamp(file: &File) -> Stamp {
    file.metadata().map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()))
}

/// Reads until `buffer` is full or the file ends.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// FNV-1a, by words of eight bytes instead of by bytes: all blocks but the last are whole words.
fn add(checksum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    words.iter().chain(last).fold(checksum, |sum, word| {
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01B3)
    })
}
