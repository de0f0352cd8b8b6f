//! `cp SOURCE DEST`: many reads and writes at once, with a few buffers that are used again and
//! again.
//!
//! ```text
//!               ┌──────────────────── the next block of the source ◄──────────────────┐
//!               ▼                                                                     │
//!   a slot    Reading ─ all, or the end ─► Ready ─ its turn ─► Writing ─ all of it ─► Idle
//!               ▲ │                                             ▲ │
//!               └─┘ short: the rest                             └─┘ short: the rest
//! ```
//!
//! | | is read | is written |
//! |---|---|---|
//! | a regular file | as many blocks at once as there are slots, by offset | likewise |
//! | a file without a size: a FIFO, a device, `/proc` | one block at a time, in order | likewise |
//!
//! A file that takes less room than its size has holes. `std` cannot ask where they are, so we
//! check each 4 KiB of such a file: zeroes are not written, and in the end the destination is made
//! as long as the source. The holes read as zeroes, and take no room.
//!
//! Look at: the enters per block (`--stats`); that each state holds what it owns, the ticket or the
//! buffer, so that no buffer can be used twice; and that nothing is allocated per block.
//!
//! Linux 5.6.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::mem;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use annulus::buf::{Slice, SliceExt};
use annulus::op::{Offset, Outcome, Read, Write};
use annulus::{Event, Ring, Setup, Ticket};
use clap::{Parser, value_parser};
use support::progress::Progress;
use support::reading::is_passing;
use support::{Failure, Page, failed, up_to};

mod support;

/// Copies what is in SOURCE, of any kind but a directory, to DEST, or into it if it
/// is a directory.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// What to copy
    source: PathBuf,
    /// Where to: a file, or a directory to put it in
    dest: PathBuf,
    /// Blocks of 128 KiB on their way, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = up_to(1024))]
    depth: u32,
    /// Copy no more than N bytes, as of /dev/zero
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=u64::MAX))]
    bytes: Option<u64>,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// The bytes in a block.
const BLOCK: usize = 128 << 10;
/// The shortest run of zeroes that is left out as a hole: a block of most file systems.
const UNIT: usize = 4 << 10;
/// How long to wait, after a failure, for the operations in flight.
const PATIENCE: Duration = Duration::from_secs(5);

type Buf = Box<[u8]>;

/// One end of the copy.
#[derive(Debug)]
struct End {
    path: PathBuf,
    file: Rc<File>,
    order: Order,
}

/// The order in which an end handles its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Any order: each block has its offset.
    Any,
    /// One block after the other.
    Strict,
}

/// How zeroes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeroes {
    Written,
    LeftOut,
}

/// A buffer in use.
#[derive(Debug)]
struct Place {
    state: State,
    /// The offset of its block.
    at: u64,
    /// How many bytes of it have been read.
    filled: usize,
    /// How many of those are done: written, or left out.
    done: usize,
}

#[derive(Debug)]
enum State {
    Idle(Buf),
    Reading(Ticket<Read<Rc<File>, Slice<Buf>>>),
    /// Read, and not yet to be written: the blocks before it come first.
    Ready(Buf),
    Writing(Ticket<Write<Rc<File>, Slice<Buf>>>),
    /// Its buffer is on the stack for a moment; or lost, after a failure.
    Between,
}

#[derive(Debug)]
struct Copying {
    /// The user value of an operation is the index of its slot.
    ring: Ring<usize>,
    source: End,
    dest: End,
    zeroes: Zeroes,
    /// The size that the source claims to have.
    size: u64,
    /// No more than these.
    limit: u64,
    places: Vec<Place>,
    idle: Vec<usize>,
    /// How many slots are reading.
    reading: usize,
    /// The offset of the next block.
    next: u64,
    /// Whether a read returned nothing: that is the end.
    has_ended: bool,
    /// The offset up to which anything was read.
    len: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    reads: u64,
    writes: u64,
    /// Bytes read, and how many of those were left out as holes.
    bytes: u64,
    left_out: u64,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { source, dest, depth, bytes, stats: wants_stats } = arguments;
    // Before a file is created or truncated.
    let ring = Setup::new(depth).build_for()?;
    let before = support::cpu_time();
    let (source, dest) = open(&source, &dest)?;
    let mut copying = Copying::new(ring, source, dest, depth as usize, bytes.unwrap_or(u64::MAX))?;
    if let Err(failure) = copying.run() {
        return Err(copying.give_up(failure));
    }
    let Counts { reads, writes, bytes, left_out } = copying.counts;
    let stats = copying.ring.stats();
    writeln!(page, "{bytes} bytes, {reads} reads, {writes} writes, {} enters", stats.enters)?;
    if left_out > 0 {
        writeln!(page, "{left_out} of them are zeroes that were left out, as holes")?;
    }
    if wants_stats {
        let cpu = support::cpu_time() - before;
        writeln!(page, "{}", support::stats_line(stats, stats.sqes, cpu))?;
    }
    Ok(())
}

// Two files to begin with ------------------------------------------------------------------------

/// Opens both ends. All checks come before any file is created or truncated.
fn open(source: &Path, dest: &Path) -> Result<(End, End), Failure> {
    let cannot = |what: &str, path: &Path| failed(format!("cannot {what} {}", path.display()));
    let from = fs::metadata(source).map_err(cannot("open", source))?;
    if from.is_dir() {
        return Err(refused(source, "is a directory, and only files are copied"));
    }
    let dest = match (dest.is_dir(), source.file_name()) {
        (true, Some(name)) => dest.join(name),
        _ => dest.to_path_buf(),
    };
    let to = fs::metadata(&dest);
    match &to {
        Ok(to) if to.is_dir() => return Err(refused(&dest, "is a directory")),
        Ok(to) if is_same(to, &from) => return Err(same(source, &dest)),
        _ => {}
    }

    let file = File::open(source).map_err(cannot("open", source))?;
    let from = file.metadata().map_err(cannot("open", source))?;
    let has_size = from.is_file() && from.len() > 0;
    let source = End::new(source.to_path_buf(), file, has_size);

    let mut options = OpenOptions::new();
    options.write(true);
    if to.is_err() {
        // Like `cp`: the permissions of the source, less the umask.
        options.create_new(true).mode(from.permissions().mode() & 0o777);
    }
    let file = options.open(&dest).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => refused(&dest, "is a symbolic link to nothing"),
        _ => cannot("write", &dest)(error),
    })?;
    // Seen by its descriptor, whatever has become of its name meanwhile.
    let to = file.metadata().map_err(cannot("write", &dest))?;
    if is_same(&to, &from) {
        return Err(same(&source.path, &dest));
    }
    // A file that was emptied is written to the disk when it is closed (ext4): not without need.
    if to.is_file() && to.len() > 0 {
        file.set_len(0).map_err(cannot("empty", &dest))?;
    }
    Ok((source, End::new(dest, file, to.is_file())))
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn same(source: &Path, dest: &Path) -> Failure {
    refused(source, &format!("and {} are the same file", dest.display()))
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::Failed(format!("{} {why}", path.display()))
}

impl End {
    fn new(path: PathBuf, file: File, has_offsets: bool) -> Self {
        let order = if has_offsets { Order::Any } else { Order::Strict };
        Self { path, file: Rc::new(file), order }
    }

    /// What the ring is told of a place in the file.
    fn offset(&self, at: u64) -> Offset {
        match self.order {
            Order::Any => Offset::At(at),
            Order::Strict => Offset::Current,
        }
    }

    fn cannot(&self, what: &str, error: io::Error) -> Failure {
        Failure::of(format_args!("cannot {what} {}", self.path.display()), error)
    }
}

// Round and round --------------------------------------------------------------------------------

impl Copying {
    fn new(
        ring: Ring<usize>,
        source: End,
        dest: End,
        depth: usize,
        limit: u64,
    ) -> Result<Self, Failure> {
        let from = source.file.metadata().map_err(|error| source.cannot("look at", error))?;
        let has_holes = source.order == Order::Any && from.blocks() * 512 < from.len();
        let keeps_them = has_holes && dest.order == Order::Any;
        let place =
            |_| Place { state: State::Idle(vec![0; BLOCK].into()), at: 0, filled: 0, done: 0 };
        Ok(Self {
            ring,
            source,
            dest,
            zeroes: if keeps_them { Zeroes::LeftOut } else { Zeroes::Written },
            size: from.len(),
            limit,
            places: (0..depth).map(place).collect(),
            idle: (0..depth).collect(),
            reading: 0,
            next: 0,
            has_ended: false,
            len: 0,
            counts: Counts::default(),
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut ended = Vec::with_capacity(self.places.len());
        let progress = self.progress();
        loop {
            self.read_ahead()?;
            if self.idle.len() == self.places.len() {
                break;
            }
            support::submit_and_wait(&mut self.ring, 1)?;
            self.ring.reap(|event| {
                if let Event::Ended { user, .. } = event {
                    ended.push(*user);
                }
            })?;
            for place in ended.drain(..) {
                self.go_on(place)?;
            }
            progress.show(self.counts.bytes);
        }
        if self.counts.left_out > 0 {
            let whole = self.dest.file.set_len(self.len);
            whole.map_err(|error| self.dest.cannot("lengthen", error))?;
        }
        Ok(())
    }

    /// Of as many bytes as the source claims to have, or else as are wanted, if there is an end.
    fn progress(&self) -> Progress {
        let size = if self.source.order == Order::Any { self.size } else { u64::MAX };
        let total = size.min(self.limit);
        Progress::of_bytes((total < u64::MAX).then_some(total))
    }

    /// Starts as many reads as there is something to read, and room for.
    fn read_ahead(&mut self) -> Result<(), Failure> {
        while !self.has_ended && self.next < self.limit {
            // Beyond the size that the source claims, one at a time, until a read returns nothing.
            let is_claimed = self.source.order == Order::Any && self.next < self.size;
            if self.reading > 0 && !is_claimed {
                break;
            }
            let Some(place) = self.idle.pop() else { break };
            let State::Idle(buf) = self.take(place) else { continue };
            let it = &mut self.places[place];
            (it.at, it.filled, it.done) = (self.next, 0, 0);
            if self.source.order == Order::Any {
                self.next += self.room(place) as u64;
            }
            self.read(place, buf)?;
        }
        Ok(())
    }

    /// What to do with a place whose operation has ended.
    fn go_on(&mut self, place: usize) -> Result<(), Failure> {
        let early = || Failure::Failed("an event was not the end of its operation".into());
        match self.take(place) {
            State::Reading(ticket) => {
                let Outcome { result, buf, .. } =
                    self.ring.try_take(ticket).map_err(|_| early())?;
                self.read_ended(place, result, buf.into_inner())
            }
            State::Writing(ticket) => {
                let Outcome { result, buf, .. } =
                    self.ring.try_take(ticket).map_err(|_| early())?;
                self.write_ended(place, result, buf.into_inner())
            }
            _ => Ok(()),
        }
    }

    fn read_ended(
        &mut self,
        place: usize,
        result: io::Result<usize>,
        buf: Buf,
    ) -> Result<(), Failure> {
        self.reading -= 1;
        let count = match result {
            // A signal, or a file that cannot wait: once more.
            Err(error) if is_passing(&error) => return self.read(place, buf),
            result => result.map_err(|error| self.source.cannot("read", error))?,
        };
        self.counts.bytes += count as u64;
        self.has_ended |= count == 0;
        let it = &mut self.places[place];
        it.filled += count;
        if self.source.order == Order::Strict {
            self.next += count as u64; // No more of this block: what comes may be long in coming.
        } else if count > 0 {
            self.len = self.len.max(it.at + it.filled as u64);
            if it.filled < self.room(place) {
                return self.read(place, buf);
            }
        }
        self.write(place, buf)
    }

    fn write_ended(
        &mut self,
        place: usize,
        result: io::Result<usize>,
        buf: Buf,
    ) -> Result<(), Failure> {
        match result {
            Err(error) if is_passing(&error) => {}
            Ok(0) => return Err(self.dest.cannot("write", ErrorKind::WriteZero.into())),
            result => {
                let count = result.map_err(|error| self.dest.cannot("write", error))?;
                self.places[place].done += count;
            }
        }
        self.write(place, buf)
    }

    /// Reads what is missing of a block.
    fn read(&mut self, place: usize, buf: Buf) -> Result<(), Failure> {
        let (filled, room) = (self.places[place].filled, self.room(place));
        let offset = self.source.offset(self.places[place].at + filled as u64);
        let read = Read::new(Rc::clone(&self.source.file), buf.slice(filled..room)).offset(offset);
        self.places[place].state = State::Reading(self.ring.submit_for(read, place)?);
        self.reading += 1;
        self.counts.reads += 1;
        Ok(())
    }

    /// Writes what is left of a block, if it is its turn.
    fn write(&mut self, place: usize, buf: Buf) -> Result<(), Failure> {
        let Place { at, filled, done, .. } = self.places[place];
        if self.dest.order == Order::Strict && self.busy().any(|other| other.at < at) {
            self.places[place].state = State::Ready(buf);
            return Ok(());
        }
        let part = match self.zeroes {
            Zeroes::Written => done..filled,
            Zeroes::LeftOut => next_data(&buf[..filled], done),
        };
        self.counts.left_out += (part.start - done) as u64;
        self.places[place].done = part.start;
        if part.is_empty() {
            return self.finish(place, buf);
        }
        let offset = self.dest.offset(at + part.start as u64);
        let write = Write::new(Rc::clone(&self.dest.file), buf.slice(part)).offset(offset);
        self.places[place].state = State::Writing(self.ring.submit_for(write, place)?);
        self.counts.writes += 1;
        Ok(())
    }

    /// All of a block is done: its place is free, and it may be the turn of the block behind it.
    fn finish(&mut self, place: usize, buf: Buf) -> Result<(), Failure> {
        self.places[place].state = State::Idle(buf);
        self.idle.push(place);
        let waits = |place: &usize| matches!(self.places[*place].state, State::Ready(_));
        let ready = (0..self.places.len()).filter(waits);
        let Some(next) = ready.min_by_key(|&place| self.places[place].at) else { return Ok(()) };
        match self.take(next) {
            State::Ready(buf) => self.write(next, buf),
            _ => Ok(()),
        }
    }

    /// The places that have a block.
    fn busy(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !matches!(place.state, State::Idle(_)))
    }

    fn take(&mut self, place: usize) -> State {
        mem::replace(&mut self.places[place].state, State::Between)
    }

    /// How many bytes a place is to be filled with.
    fn room(&self, place: usize) -> usize {
        let left = self.limit - self.places[place].at;
        usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK))
    }

    /// Something failed. Ends what is in flight, cuts the copy where its first gap is, and says
    /// what is in it.
    fn give_up(self, failure: Failure) -> Failure {
        let Failure::Failed(what) = failure else { return failure };
        let undone = self.busy().map(|place| place.at + place.done as u64).min();
        let gap = undone.unwrap_or(self.next);
        // Only when no write is in flight any more does the file stay as it is cut.
        let is_still = self.ring.shutdown(PATIENCE).is_ok();
        if self.dest.order == Order::Any && !(is_still && self.dest.file.set_len(gap).is_ok()) {
            return Failure::Failed(format!("{what}; what was copied is not whole"));
        }
        Failure::Failed(format!("{what}; the first {gap} bytes were copied"))
    }
}

/// The next stretch of `bytes`, from `from` on, that is not all zeroes: whole units of it.
fn next_data(bytes: &[u8], from: usize) -> Range<usize> {
    const ZEROES: [u8; UNIT] = [0; UNIT];
    let is_zero = |unit: &[u8]| unit == &ZEROES[..unit.len()];
    let mut units = bytes[from..].chunks(UNIT);
    let zeroes: usize = units.by_ref().take_while(|unit| is_zero(unit)).map(<[u8]>::len).sum();
    let start = from + zeroes;
    let data = bytes[start..].chunks(UNIT).take_while(|unit| !is_zero(unit));
    start..start + data.map(<[u8]>::len).sum::<usize>()
}
