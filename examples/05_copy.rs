//! `cp [-r] SOURCE DEST`: many reads and writes at once, of one file or of many, with a few buffers
//! that are used again and again.
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
//! A folder (`-r`) is many such files. When all of one has been asked for, the next is opened,
//! so small files are on their way together. Only reads and writes go through the ring: to open or
//! to make a file there takes a worker thread, which costs more than the call itself.
//!
//! A file that takes less room than its size has holes. `std` cannot ask where they are, so we
//! check each 4 KiB of such a file: zeroes are not written, and in the end the destination is made
//! as long as the source. The holes read as zeroes, and take no room.
//!
//! Look at: the enters per block (`--stats`); that each state holds what it owns, the ticket or the
//! buffer, so that no buffer can be used twice; and that nothing is allocated per block.
//!
//! Linux 5.6.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use std::{iter, mem};

use annulus::buf::{Slice, SliceExt};
use annulus::op::{Outcome, Read, Write};
use annulus::{Event, Ring, Setup, Ticket};
use clap::{Parser, value_parser};
use memmap2::MmapMut;
use support::ends::{self, End, Order};
use support::holes::{Zeroes, next_data};
use support::progress::Progress;
use support::reading::is_passing;
use support::tree::Tree;
use support::{Failure, Page, failed, up_to};

mod support;

/// Copies what is in SOURCE to DEST, or into it if it is a directory.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// What to copy
    source: PathBuf,
    /// Where to: a file, or a directory to put it in
    dest: PathBuf,
    /// SOURCE may be a directory: copy all that is in it
    #[arg(short, long, conflicts_with = "bytes")]
    recursive: bool,
    /// Blocks of 512 KiB on their way, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = up_to(1024))]
    depth: u32,
    /// Copy no more than N bytes, as of /dev/zero
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=u64::MAX))]
    bytes: Option<u64>,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// The bytes in a block. A write to ext4 goes to a worker thread, and each costs two wake-ups: with
/// blocks of 128 KiB a large file took a seventh more of the processor.
const BLOCK: usize = 512 << 10;
/// How many blocks of a file may be read and not yet written while more is read. A source in memory
/// is read faster than it can be written: few buffers stay in the processor's cache, many do not.
const BEHIND: usize = 2;
/// How many files are open at once, at most: each takes two descriptors.
const FILES: usize = 128;
/// How long to wait, after a failure, for the operations in flight.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pages of its own: the kernel copies a quarter slower to and from an address in mid-page, such as
/// that of a `Vec` of this size. They take memory as soon as they are written.
type Buf = MmapMut;
/// The files to copy, opened one after the other.
type Pairs<'a> = &'a mut dyn Iterator<Item = (End, End)>;

/// A buffer in use.
#[derive(Debug)]
struct Place {
    state: State,
    /// Which of the files its block is of.
    of: usize,
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

/// A file on its way.
#[derive(Debug)]
struct Transfer {
    source: End,
    dest: End,
    zeroes: Zeroes,
    /// The size that the source claims to have.
    size: u64,
    /// How many places have a block of it, and how many of those are reading.
    busy: usize,
    reading: usize,
    /// The offset of the next block.
    next: u64,
    /// Whether a read returned nothing: that is the end.
    has_ended: bool,
    /// The offset up to which anything was read.
    len: u64,
    /// How many bytes were left out as holes.
    left_out: u64,
}

#[derive(Debug)]
struct Copying {
    /// The user value of an operation is the index of its slot.
    ring: Ring<usize>,
    files: Vec<Option<Transfer>>,
    places: Vec<Place>,
    idle: Vec<usize>,
    /// No more bytes of a file than these.
    limit: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Files that are copied.
    files: u64,
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
    let Arguments { source, dest, depth, recursive, bytes, stats: wants_stats } = arguments;
    // Before a file is created or truncated.
    let ring = Setup::new(depth).build_for()?;
    let before = support::cpu_time();
    let mut copying = Copying::new(ring, depth as usize, bytes.unwrap_or(u64::MAX))?;
    if recursive && source.is_dir() {
        let mut tree = Tree::new(&source, &dest)?;
        copying = copying.finish(&mut tree, Progress::of_bytes(None))?;
        writeln!(page, "{} files in {} folders", copying.counts.files, tree.folders)?;
        tree.end()?;
    } else {
        let pair = ends::open(&source, &dest)?;
        let progress = pair.0.progress(copying.limit)?;
        copying = copying.finish(&mut iter::once(pair), progress)?;
    }
    let Counts { reads, writes, bytes, left_out, .. } = copying.counts;
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

impl Transfer {
    fn new((source, dest): (End, End)) -> Result<Self, Failure> {
        let from = source.metadata()?;
        let has_holes = source.order == Order::Any && from.blocks() * 512 < from.len();
        let keeps_them = has_holes && dest.order == Order::Any;
        Ok(Self {
            source,
            dest,
            zeroes: if keeps_them { Zeroes::LeftOut } else { Zeroes::Written },
            size: from.len(),
            busy: 0,
            reading: 0,
            next: 0,
            has_ended: false,
            len: 0,
            left_out: 0,
        })
    }

    /// Whether there is something to read.
    fn may_read(&self, limit: u64) -> bool {
        // Beyond the size that the source claims, one at a time, until a read returns nothing.
        let is_claimed = self.source.order == Order::Any && self.next < self.size;
        let is_behind = self.busy - self.reading >= BEHIND;
        !self.has_ended && self.next < limit && (self.reading == 0 || is_claimed) && !is_behind
    }

    /// All of it has been read and written.
    fn end(self) -> Result<(), Failure> {
        if self.left_out > 0 {
            let whole = self.dest.file.set_len(self.len);
            whole.map_err(|error| self.dest.cannot("lengthen", error))?;
        }
        Ok(())
    }
}

// Round and round --------------------------------------------------------------------------------

impl Copying {
    fn new(ring: Ring<usize>, depth: usize, limit: u64) -> Result<Self, Failure> {
        let bufs = (0..depth).map(|_| MmapMut::map_anon(BLOCK));
        let place = |buf: io::Result<Buf>| {
            Ok(Place { state: State::Idle(buf?), of: 0, at: 0, filled: 0, done: 0 })
        };
        let places: io::Result<_> = bufs.map(place).collect();
        Ok(Self {
            ring,
            files: (0..depth.min(FILES)).map(|_| None).collect(),
            places: places.map_err(failed("no memory for the blocks"))?,
            idle: (0..depth).collect(),
            limit,
            counts: Counts::default(),
        })
    }

    /// Copies all `pairs`; after a failure, leaves no file with a gap in it.
    fn finish(mut self, pairs: Pairs<'_>, progress: Progress) -> Result<Self, Failure> {
        match self.run(pairs, &progress) {
            Ok(()) => Ok(self),
            Err(failure) => {
                drop(progress);
                Err(self.give_up(failure))
            }
        }
    }

    fn run(&mut self, pairs: Pairs<'_>, progress: &Progress) -> Result<(), Failure> {
        let mut ended = Vec::with_capacity(self.places.len());
        loop {
            self.read_ahead(pairs)?;
            if self.idle.len() == self.places.len() {
                return Ok(());
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
    }

    /// Starts as many reads as there is something to read, and room for: of the files that are
    /// open, then of the next ones.
    fn read_ahead(&mut self, pairs: Pairs<'_>) -> Result<(), Failure> {
        for of in 0..self.files.len() {
            while !self.idle.is_empty() {
                if self.files[of].is_none() {
                    let Some(pair) = pairs.next() else { break };
                    self.files[of] = Some(Transfer::new(pair)?);
                }
                let limit = self.limit;
                if !self.file(of).may_read(limit) {
                    break;
                }
                self.read_next(of)?;
            }
        }
        Ok(())
    }

    /// Reads the next block of file `of`, of which there is more, into an idle place.
    fn read_next(&mut self, of: usize) -> Result<(), Failure> {
        let Some(place) = self.idle.pop() else { return Ok(()) };
        let State::Idle(buf) = self.take(place) else { return Ok(()) };
        let at = self.file(of).next;
        let it = &mut self.places[place];
        (it.of, it.at, it.filled, it.done) = (of, at, 0, 0);
        let room = self.room(place) as u64;
        let file = self.file(of);
        file.busy += 1;
        if file.source.order == Order::Any {
            file.next += room;
        }
        self.read(place, buf)
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
        let of = self.places[place].of;
        self.file(of).reading -= 1;
        let count = match result {
            // A signal, or a file that cannot wait: once more.
            Err(error) if is_passing(&error) => return self.read(place, buf),
            result => result.map_err(|error| self.file(of).source.cannot("read", error))?,
        };
        self.counts.bytes += count as u64;
        self.places[place].filled += count;
        let (end, room) = (self.end(place), self.room(place));
        let file = self.file(of);
        file.has_ended |= count == 0;
        if file.source.order == Order::Strict {
            file.next += count as u64; // No more of this block: what comes may be long in coming.
        } else if count > 0 {
            file.len = file.len.max(end);
            if self.places[place].filled < room {
                return self.read(place, buf);
            }
        }
        self.write(place, buf)
    }

    // ANCHOR: write_ended
    fn write_ended(
        &mut self,
        place: usize,
        result: io::Result<usize>,
        buf: Buf,
    ) -> Result<(), Failure> {
        let dest = &self.file(self.places[place].of).dest;
        match result {
            Err(error) if is_passing(&error) => {}
            Ok(0) => return Err(dest.cannot("write", ErrorKind::WriteZero.into())),
            result => {
                let count = result.map_err(|error| dest.cannot("write", error))?;
                self.places[place].done += count;
            }
        }
        self.write(place, buf)
    }
    // ANCHOR_END: write_ended

    /// Reads what is missing of a block.
    fn read(&mut self, place: usize, buf: Buf) -> Result<(), Failure> {
        let Place { of, filled, .. } = self.places[place];
        let (from, room) = (self.end(place), self.room(place));
        let file = self.file(of);
        file.reading += 1;
        let offset = file.source.offset(from);
        let read = Read::new(Rc::clone(&file.source.file), buf.slice(filled..room)).offset(offset);
        self.places[place].state = State::Reading(self.ring.submit_for(read, place)?);
        self.counts.reads += 1;
        Ok(())
    }

    /// Writes what is left of a block, if it is its turn.
    fn write(&mut self, place: usize, buf: Buf) -> Result<(), Failure> {
        let Place { of, at, filled, done, .. } = self.places[place];
        let is_strict = self.file(of).dest.order == Order::Strict;
        if is_strict && self.busy(of).any(|other| other.at < at) {
            self.places[place].state = State::Ready(buf);
            return Ok(());
        }
        let file = self.file(of);
        let part = match file.zeroes {
            Zeroes::Written => done..filled,
            Zeroes::LeftOut => next_data(&buf[..filled], done),
        };
        file.left_out += (part.start - done) as u64;
        let offset = file.dest.offset(at + part.start as u64);
        let dest = Rc::clone(&file.dest.file);
        self.places[place].done = part.start;
        if part.is_empty() {
            return self.free(place, buf);
        }
        let write = Write::new(dest, buf.slice(part)).offset(offset);
        self.places[place].state = State::Writing(self.ring.submit_for(write, place)?);
        self.counts.writes += 1;
        Ok(())
    }

    /// All of a block is done: its place is free, and it may be the turn of the block behind it.
    fn free(&mut self, place: usize, buf: Buf) -> Result<(), Failure> {
        let of = self.places[place].of;
        self.places[place].state = State::Idle(buf);
        self.idle.push(place);
        let limit = self.limit;
        let file = self.file(of);
        file.busy -= 1;
        if file.busy == 0 && (file.has_ended || file.next >= limit) {
            self.counts.left_out += file.left_out;
            self.counts.files += 1;
            return self.files[of].take().map_or(Ok(()), Transfer::end);
        }
        if file.dest.order == Order::Any {
            return Ok(());
        }
        let waits = |place: &usize| {
            let Place { of: other, state, .. } = &self.places[*place];
            *other == of && matches!(state, State::Ready(_))
        };
        let ready = (0..self.places.len()).filter(waits);
        let Some(next) = ready.min_by_key(|&place| self.places[place].at) else { return Ok(()) };
        match self.take(next) {
            State::Ready(buf) => self.write(next, buf),
            _ => Ok(()),
        }
    }

    /// A file on its way.
    fn file(&mut self, of: usize) -> &mut Transfer {
        self.files[of].as_mut().expect("a place has a block of it, or it was just opened")
    }

    /// The places that have a block of file `of`.
    fn busy(&self, of: usize) -> impl Iterator<Item = &Place> {
        let has_block =
            move |place: &&Place| place.of == of && !matches!(place.state, State::Idle(_));
        self.places.iter().filter(has_block)
    }

    fn take(&mut self, place: usize) -> State {
        mem::replace(&mut self.places[place].state, State::Between)
    }

    /// The offset of what comes after what has been read.
    fn end(&self, place: usize) -> u64 {
        self.places[place].at + self.places[place].filled as u64
    }

    /// How many bytes a place is to be filled with.
    fn room(&self, place: usize) -> usize {
        let left = self.limit - self.places[place].at;
        usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK))
    }

    /// Something failed. Ends what is in flight, cuts each copy where its first gap is, and says
    /// what is in it.
    fn give_up(self, failure: Failure) -> Failure {
        let Failure::Failed(what) = failure else { return failure };
        let gap = |of, file: &Transfer| {
            let undone = self.busy(of).map(|place| place.at + place.done as u64).min();
            undone.unwrap_or(file.next)
        };
        let files = self.files.iter().enumerate();
        let files = files.filter_map(|(of, file)| Some((file.as_ref()?, of)));
        let gaps: Vec<(&End, u64)> = files.map(|(file, of)| (&file.dest, gap(of, file))).collect();
        // Only when no write is in flight any more does a file stay as it is cut.
        let is_still = self.ring.shutdown(PATIENCE).is_ok();
        let is_whole = |&(dest, gap): &(&End, u64)| {
            dest.order == Order::Strict || is_still && dest.file.set_len(gap).is_ok()
        };
        let are_whole = gaps.iter().filter(|gap| is_whole(gap)).count() == gaps.len();
        Failure::Failed(match (&gaps[..], self.counts.files) {
            _ if !are_whole => format!("{what}; what was copied is not whole"),
            ([(_, gap)], 0) => format!("{what}; the first {gap} bytes were copied"),
            (gaps, files) => format!("{what}; {files} files were copied, {} in part", gaps.len()),
        })
    }
}
