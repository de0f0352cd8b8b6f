//! A file read through the ring, several blocks at once, and compared with what `std` reads.
//!
//! ```text
//!   file     │ taken │ taken │ full │ in flight │ in flight │ full │ not asked for yet
//!                              ▲ the oldest block: waited for, then taken
//!   buffers                  │◄────────────── depth ──────────────►│
//! ```
//!
//! Each buffer is moved into its read, and comes out of it again for the next one. A read may
//! return less than was asked for; then the rest of the block is asked for again. Only a read of 0
//! bytes is the end, whatever size the file claims: files in `/proc` claim 0. So beyond that size
//! only one block is in flight at a time.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use annulus::buf::{Slice, SliceExt};
use annulus::op::Read;
use annulus::{Ring, Ticket};

use crate::support::progress::Progress;
use crate::support::{Failure, failed};

/// The bytes in a block.
pub const BLOCK: usize = 64 << 10;

/// A file to be read. Its owner is shared, since each read in flight keeps it open.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: Rc<File>,
    stamp: Stamp,
}

/// A read of a block, or of the missing part of one.
pub type ReadBlock = Read<Rc<File>, Slice<Box<[u8]>>>;

/// What identifies the contents of a file; it changes when the file does.
type Stamp = (u64, Option<SystemTime>);

/// The result of reading.
#[derive(Debug)]
pub struct Report {
    /// How many bytes the file has.
    pub bytes: u64,
    /// How many reads it took.
    pub reads: u64,
    /// The hash of all bytes.
    pub checksum: u64,
    /// Whether `std` read the same bytes.
    pub verdict: Verdict,
}

/// Whether `std` read the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, every byte.
    Equal,
    /// No, and it need not be so: the kernel writes such a file again for each reader.
    Fleeting,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "equal to what std reads, byte for byte",
            Self::Fleeting => "not what std reads: this file is written again for each reader",
        })
    }
}

/// A block that was asked for and not taken.
struct Block {
    ticket: Ticket<ReadBlock>,
    /// Its offset in the file.
    at: u64,
    /// How many of its bytes are there, besides those in flight.
    filled: usize,
}

impl Source {
    /// Opens a regular file.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let cannot = || failed(format!("cannot open {}", path.display()));
        // Checked before it is opened, since opening a pipe would wait for its writer.
        let metadata = fs::metadata(path).map_err(cannot())?;
        if metadata.is_dir() {
            return Err(Failure::Failed(format!("{} is a directory, not a file", path.display())));
        }
        if !metadata.is_file() {
            return Err(Failure::Failed(format!("{} is not a regular file", path.display())));
        }
        let file = Rc::new(File::open(path).map_err(cannot())?);
        let stamp = stamp(&file);
        Ok(Self { path: path.into(), file, stamp })
    }

    /// The source of the example `name` if it is here and may be read; else the program.
    pub fn open_our_own(name: &str) -> Result<Self, Failure> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        Self::open(&folder.join(name)).or_else(|_| {
            let program = std::env::current_exe();
            Self::open(&program.map_err(failed("no PATH was given, and this program is hidden"))?)
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, open for reading.
    pub fn file(&self) -> &Rc<File> {
        &self.file
    }

    /// How many bytes the file claims to have.
    pub fn size(&self) -> u64 {
        self.stamp.0
    }

    /// The error of a read.
    pub fn cannot_read(&self, error: io::Error) -> Failure {
        Failure::of(format_args!("cannot read {}", self.path.display()), error)
    }

    /// Reads the whole file with up to `depth` blocks in flight, and compares block by block.
    pub fn read(&self, ring: &mut Ring, depth: usize) -> Result<Report, Failure> {
        let mut spare: Vec<Box<[u8]>> = (0..depth).map(|_| vec![0; BLOCK].into()).collect();
        let mut blocks: VecDeque<Block> = VecDeque::with_capacity(depth);
        let (mut asked, mut reads, mut checksum) = (0, 0, 0xCBF2_9CE4_8422_2325);
        let mut comparison = Comparison::new(self);
        loop {
            while asked < self.size() || blocks.is_empty() {
                let Some(buf) = spare.pop() else { break };
                blocks.push_back(self.ask(ring, buf, asked, 0)?);
                (asked, reads) = (asked + BLOCK as u64, reads + 1);
            }
            let Some(Block { ticket, at, filled }) = blocks.pop_front() else { continue };
            let outcome = ring.wait(ticket)?;
            let (buf, is_last) = (outcome.buf.into_inner(), matches!(outcome.result, Ok(0)));
            let filled = filled + self.count(outcome.result)?;
            if filled < BLOCK && !is_last {
                blocks.push_front(self.ask(ring, buf, at, filled)?);
                reads += 1;
                continue;
            }
            comparison.block(at, &buf[..filled])?;
            checksum = add(checksum, &buf[..filled]);
            if is_last {
                // Reads beyond the end are left to the ring.
                blocks.into_iter().for_each(|block| ring.detach(block.ticket));
                let bytes = comparison.bytes;
                return Ok(Report { bytes, reads, checksum, verdict: comparison.end()? });
            }
            spare.push(buf);
        }
    }

    /// Asks for the rest of a block, of which `filled` bytes are there.
    fn ask(
        &self,
        ring: &mut Ring,
        buf: Box<[u8]>,
        at: u64,
        filled: usize,
    ) -> Result<Block, Failure> {
        let read = Read::new(Rc::clone(&self.file), buf.slice(filled..));
        let ticket = ring.submit(read.at(at + filled as u64))?;
        Ok(Block { ticket, at, filled })
    }

    /// How many bytes a read returned.
    pub fn count(&self, result: io::Result<usize>) -> Result<usize, Failure> {
        match result {
            // A signal, or a file that cannot wait: nothing was read, so try again.
            Err(error) if is_passing(&error) => Ok(0),
            result => result.map_err(|error| self.cannot_read(error)),
        }
    }
}

/// Whether the next attempt may succeed.
pub fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// The bytes read, compared with what `std` reads at the same offsets, in any order.
pub struct Comparison<'a> {
    source: &'a Source,
    theirs: Box<[u8]>,
    equal: bool,
    progress: Progress,
    /// How many bytes were compared.
    pub bytes: u64,
}

impl<'a> Comparison<'a> {
    /// Nothing yet.
    pub fn new(source: &'a Source) -> Self {
        let (theirs, size) = (vec![0; BLOCK].into(), source.size());
        let progress = Progress::of_bytes((size > 0).then_some(size));
        Self { source, theirs, equal: true, progress, bytes: 0 }
    }

    /// Compares `ours`, at most a block, read `at` bytes from the start.
    pub fn block(&mut self, at: u64, ours: &[u8]) -> Result<(), Failure> {
        let theirs = &mut self.theirs[..ours.len()];
        let count = read_full(&self.source.file, theirs, at).map_err(std_failed(self.source))?;
        self.equal &= theirs[..count] == *ours;
        self.bytes += ours.len() as u64;
        self.progress.show(self.bytes);
        Ok(())
    }

    /// That was everything; there must be no more.
    pub fn end(self) -> Result<Verdict, Failure> {
        let (source, path) = (self.source, self.source.path.display());
        let more = read_full(&source.file, &mut [0], self.bytes).map_err(std_failed(source))?;
        match (self.equal && more == 0, source.size()) {
            (true, _) => Ok(Verdict::Equal),
            (false, 0) => Ok(Verdict::Fleeting),
            _ if stamp(&source.file) != source.stamp => {
                Err(Failure::Failed(format!("{path} changed while it was read")))
            }
            _ => Err(Failure::Failed(format!("{path}: std reads other bytes than we do"))),
        }
    }
}

fn std_failed(source: &Source) -> impl FnOnce(io::Error) -> Failure {
    failed(format!("std on {}", source.path.display()))
}

fn stamp(file: &File) -> Stamp {
    file.metadata().map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()))
}

/// Reads until `buffer` is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// FNV-1a, by eight bytes at a time instead of by one: all blocks but the last are a multiple of
/// eight.
fn add(checksum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    words.iter().chain(last).fold(checksum, |sum, word| {
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01B3)
    })
}
