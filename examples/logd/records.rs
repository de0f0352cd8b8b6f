//! Records in shared memory: one process writes, another reads, and either may die at any time.
//!
//! ```text
//!   words   0 MAGIC  1 HEAD  2 TAIL  3 BEGUN  4 BELL  5 WAITING      16 … the ring of data
//!
//!   data    │ free │ len bytes… │ len bytes… │ len byt           │ free │
//!                  ▲ HEAD: read              ▲ TAIL: committed   ▲ BEGUN: where the next ends
//! ```
//!
//! | step of a writer | if it dies right after |
//! |---|---|
//! | `BEGUN` is where the record will end | the reader tells that a record was torn |
//! | the words of the record | likewise |
//! | `TAIL` is `BEGUN`: committed, by one store | the record is whole, and is read |
//! | `BELL`, if half of the ring is full (the high-water mark), and a wake | it is read a tick later |
//!
//! A reader that dies loses nothing of what it has not read: the memory lives as long as one
//! process has it.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::thread::futex::{self, Timespec};

use crate::memory::Memory;

const MAGIC: usize = 0;
/// Where the reader is; a writer without room waits at it.
pub const HEAD: usize = 1;
const TAIL: usize = 2;
const BEGUN: usize = 3;
/// Changes when the reader should come.
pub const BELL: usize = 4;
/// Whether a writer waits for room.
const WAITING: usize = 5;
/// The first word of the data.
const DATA: usize = 16;

/// The value of the first word.
const LOGD: u32 = 0x6C6F_6764;
/// How long a writer waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The words of the ring of data, and where each lies.
#[derive(Debug, Clone)]
struct Ring {
    memory: Arc<Memory>,
    capacity: u32,
}

impl Ring {
    fn over(memory: Arc<Memory>) -> io::Result<Self> {
        let words = memory.words().saturating_sub(DATA);
        match u32::try_from(words) {
            Ok(capacity) if capacity.is_power_of_two() && capacity <= 1 << 30 => {
                Ok(Self { memory, capacity })
            }
            _ => Err(broken("the data is no power of two of words")),
        }
    }

    fn load(&self, at: usize, ordering: Ordering) -> u32 {
        self.memory.word(at).load(ordering)
    }

    fn store(&self, at: usize, value: u32, ordering: Ordering) {
        self.memory.word(at).store(value, ordering);
    }

    /// Where the data word with this index lies.
    fn data(&self, index: u32) -> usize {
        DATA + (index & (self.capacity - 1)) as usize
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// How many words a record of so many bytes takes.
fn words_of(bytes: u32) -> u32 {
    1 + bytes.div_ceil(4)
}

/// The side that writes.
#[derive(Debug)]
pub struct Writer {
    ring: Ring,
    tail: u32,
}

impl Writer {
    /// The writer of new memory with a ring of `capacity` words, a power of two.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let ring = Ring::over(Arc::new(Memory::create(DATA + capacity)?))?;
        ring.store(MAGIC, LOGD, Ordering::Release);
        Ok(Self { ring, tail: 0 })
    }

    /// The memory, to be shared.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.ring.memory
    }

    // ANCHOR: write
    /// Writes a record, and commits it. Waits while there is no room.
    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let (end, before) = self.fill(text, usize::MAX)?;
        let ring = &self.ring;
        ring.store(TAIL, end, Ordering::Release);
        self.tail = end;
        let used = end.wrapping_sub(ring.load(HEAD, Ordering::Acquire));
        let high = ring.capacity / 2;
        if before < high && used >= high {
            self.call_the_reader();
        }
        Ok(())
    }
    // ANCHOR_END: write

    /// Writes a record up to its middle, as a writer does that dies there.
    pub fn tear(&mut self, text: &[u8]) -> io::Result<()> {
        self.fill(text, text.len() / 2).map(drop)
    }

    /// Writes a record, or only so many bytes of it, without a commit. Returns where it ends, and
    /// how many words were used before.
    fn fill(&mut self, text: &[u8], most: usize) -> io::Result<(u32, u32)> {
        let too_long = || io::Error::new(ErrorKind::InvalidInput, "longer than the whole ring");
        let bytes = u32::try_from(text.len()).map_err(|_| too_long())?;
        if bytes / 4 + 2 > self.ring.capacity {
            return Err(too_long());
        }
        let used = self.wait_for_room(words_of(bytes))?;
        // ANCHOR: fill
        let (ring, end) = (&self.ring, self.tail.wrapping_add(words_of(bytes)));
        ring.store(BEGUN, end, Ordering::Relaxed);
        // Whoever sees a word of the record sees that it was begun.
        fence(Ordering::Release);
        ring.store(ring.data(self.tail), bytes, Ordering::Relaxed);
        let mut at = self.tail;
        for part in text[..text.len().min(most)].chunks(4) {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            at = at.wrapping_add(1);
            ring.store(ring.data(at), u32::from_ne_bytes(word), Ordering::Relaxed);
        }
        // ANCHOR_END: fill
        Ok((end, used))
    }

    /// Waits until so many words are free; returns how many are used.
    fn wait_for_room(&self, words: u32) -> io::Result<u32> {
        let (ring, start) = (&self.ring, Instant::now());
        loop {
            let head = ring.load(HEAD, Ordering::Acquire);
            let used = self.tail.wrapping_sub(head);
            if used > ring.capacity {
                return Err(broken("the reader is ahead of the writer"));
            }
            if ring.capacity - used >= words {
                return Ok(used);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::new(ErrorKind::TimedOut, "the logger does not read"));
            }
            // It stores HEAD, then loads WAITING; we store WAITING, then the kernel loads HEAD.
            ring.store(WAITING, 1, Ordering::SeqCst);
            self.call_the_reader();
            let soon = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let word = ring.memory.word(HEAD);
            // Whatever ends it: a wake, the time, or a head that has moved.
            let _ = futex::wait(word, futex::Flags::empty(), head, Some(&soon));
        }
    }

    fn call_the_reader(&self) {
        let bell = self.ring.memory.word(BELL);
        bell.fetch_add(1, Ordering::SeqCst);
        let _ = futex::wake(bell, futex::Flags::empty(), 1);
    }
}

/// The side that reads.
#[derive(Debug)]
pub struct Reader {
    ring: Ring,
    head: u32,
}

impl Reader {
    /// The reader of memory that another process has made.
    pub fn of(memory: Arc<Memory>) -> io::Result<Self> {
        let ring = Ring::over(memory)?;
        if ring.load(MAGIC, Ordering::Acquire) != LOGD {
            return Err(broken("this memory has no records"));
        }
        let head = ring.load(HEAD, Ordering::Relaxed);
        Ok(Self { ring, head })
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.ring.memory
    }

    /// The value of the bell: load it before the records are taken, and wait while it is that.
    pub fn bell(&self) -> u32 {
        self.ring.load(BELL, Ordering::SeqCst)
    }

    /// Takes all records that are committed. Returns whether a writer waits for the room.
    pub fn take_all(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let tail = self.ring.load(TAIL, Ordering::Acquire);
        if tail.wrapping_sub(self.head) > self.ring.capacity {
            return Err(broken("more is committed than there is room for"));
        }
        let mut text = Vec::new();
        while self.head != tail {
            let bytes = self.ring.load(self.ring.data(self.head), Ordering::Relaxed);
            if words_of(bytes) > tail.wrapping_sub(self.head) {
                return Err(broken("a record is longer than what is committed"));
            }
            text.clear();
            for at in 1..words_of(bytes) {
                let word = self.ring.data(self.head.wrapping_add(at));
                text.extend(self.ring.load(word, Ordering::Relaxed).to_ne_bytes());
            }
            text.truncate(bytes as usize);
            each(&text);
            self.head = self.head.wrapping_add(words_of(bytes));
        }
        self.ring.store(HEAD, self.head, Ordering::SeqCst);
        Ok(self.ring.memory.word(WAITING).swap(0, Ordering::SeqCst) != 0)
    }

    /// How many bytes a record may have that was begun and not committed, once its writer is gone.
    pub fn torn(&self) -> Option<u32> {
        let [begun, tail] = [BEGUN, TAIL].map(|at| self.ring.load(at, Ordering::Acquire));
        let words = begun.wrapping_sub(tail);
        (1..=self.ring.capacity).contains(&words).then(|| (words - 1) * 4)
    }
}
