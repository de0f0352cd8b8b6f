//! Reads of 4 KiB at random from a file in the page cache, with so many in flight.
//!
//! Each contender reads the same blocks in the same order, and adds up a byte of each block: the
//! block's number, so a wrong or missing block shows.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use annulus::lease::FixedPool;
use annulus::op;
use annulus::sys::abi::Sqe;
use annulus::{Event, Ring, Setup, prep};

use crate::measure::{Contender, race};
use crate::table::Report;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 16384; // 64 MiB

/// The blocks that are read, one after the other: far apart, and each as often as the others.
#[derive(Clone, Copy)]
struct Places(u64);

impl Iterator for Places {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        Some((self.0 >> 33) % BLOCKS)
    }
}

/// A file whose blocks begin with their number.
fn file() -> File {
    let path = std::env::temp_dir().join(format!("annulus-bench-{}", std::process::id()));
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
    let file = file.expect("a temporary file");
    std::fs::remove_file(&path).expect("it was just made");
    let mut block = vec![0; BLOCK];
    for number in 0..BLOCKS {
        block[..8].copy_from_slice(&number.to_ne_bytes());
        file.write_all_at(&block, number * BLOCK as u64).expect("room for 64 MiB");
    }
    file
}

fn number(block: &[u8]) -> u64 {
    u64::from_ne_bytes(block[..8].try_into().expect("a block is longer"))
}

/// The sum of the numbers of the first `count` blocks.
fn expected(count: u64) -> u64 {
    Places(1).take(usize::try_from(count).expect("it fits")).sum()
}

pub fn run(depths: &[u32], samples: u32) -> Report {
    let file = Rc::new(file());
    let section = |&depth: &u32| {
        let contenders =
            vec![pread(&file), raw(&file, depth), peer(&file, depth), safe(&file, depth)];
        let fixed = fixed(&file, depth);
        let rows = race(contenders.into_iter().chain(fixed).collect(), 30, samples);
        (format!("depth {depth}"), rows)
    };
    Report {
        title: "Reads of 4 KiB at random, from the page cache",
        unit: "read",
        sections: depths.iter().map(section).collect(),
        notes: vec!["pread reads one block after the other, whatever the depth".to_owned()],
    }
}

fn pread(file: &Rc<File>) -> Contender<'_> {
    Contender::new("pread", move |count| {
        let mut block = vec![0; BLOCK];
        let mut sum = 0;
        for place in Places(1).take(usize::try_from(count).expect("it fits")) {
            file.read_exact_at(&mut block, place * BLOCK as u64).expect("the file is longer");
            sum += number(&block);
        }
        assert_eq!(sum, expected(count));
    })
}

fn raw(file: &Rc<File>, depth: u32) -> Contender<'_> {
    let mut ring = Setup::new(depth).build_raw().expect("a ring");
    let mut blocks = vec![vec![0; BLOCK]; depth as usize];
    let mut idle: Vec<usize> = Vec::new();
    Contender::new("annulus, raw", move |count| {
        let (mut places, mut left, mut sum) = (Places(1), count, 0);
        idle.clear();
        idle.extend(0..blocks.len());
        let mut flying = 0;
        while left > 0 || flying > 0 {
            while left > 0
                && let Some(at) = idle.pop()
            {
                let offset = places.next().expect("endless") * BLOCK as u64;
                let address = blocks[at].as_mut_ptr().expose_provenance() as u64;
                let sqe = prep::read(file.as_raw_fd(), address, BLOCK as u32, offset);
                // SAFETY: the block is not touched until its completion, and lives longer.
                unsafe { ring.push(Sqe { user_data: at as u64, ..sqe }) }.expect("room");
                (left, flying) = (left - 1, flying + 1);
            }
            let taken = ring.turn(1, |cqe| {
                assert_eq!(cqe.res, BLOCK as i32);
                let at = cqe.user_data as usize;
                sum += number(&blocks[at]);
                idle.push(at);
            });
            flying -= taken.expect("a turn");
        }
        assert_eq!(sum, expected(count));
    })
}

fn peer(file: &Rc<File>, depth: u32) -> Contender<'_> {
    let mut builder = io_uring::IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut ring: io_uring::IoUring = builder.setup_submit_all().build(depth).expect("a ring");
    let mut blocks = vec![vec![0; BLOCK]; depth as usize];
    let mut idle: Vec<usize> = Vec::new();
    Contender::new("io-uring", move |count| {
        let (mut places, mut left, mut sum) = (Places(1), count, 0);
        idle.clear();
        idle.extend(0..blocks.len());
        let mut flying = 0;
        let fd = io_uring::types::Fd(file.as_raw_fd());
        while left > 0 || flying > 0 {
            let mut sq = ring.submission();
            while left > 0
                && let Some(at) = idle.pop()
            {
                let offset = places.next().expect("endless") * BLOCK as u64;
                let read = io_uring::opcode::Read::new(fd, blocks[at].as_mut_ptr(), BLOCK as u32);
                let read = read.offset(offset).build().user_data(at as u64);
                // SAFETY: the block is not touched until its completion, and lives longer.
                unsafe { sq.push(&read) }.expect("room");
                (left, flying) = (left - 1, flying + 1);
            }
            drop(sq);
            ring.submit_and_wait(1).expect("submit");
            for cqe in ring.completion() {
                assert_eq!(cqe.result(), BLOCK as i32);
                let at = cqe.user_data() as usize;
                sum += number(&blocks[at]);
                idle.push(at);
                flying -= 1;
            }
        }
        assert_eq!(sum, expected(count));
    })
}

fn safe(file: &Rc<File>, depth: u32) -> Contender<'_> {
    let mut ring: Ring = Setup::new(depth).build().expect("a ring");
    let mut blocks = vec![vec![0_u8; BLOCK].into_boxed_slice(); depth as usize];
    Contender::new("annulus, safe", move |count| {
        let (mut places, mut left, mut sum) = (Places(1), count, 0);
        let mut tickets: Vec<Option<_>> = Vec::new();
        tickets.resize_with(ring.vacant() as usize, || None);
        let (mut flying, mut ended) = (0, Vec::new());
        while left > 0 || flying > 0 {
            while left > 0
                && let Some(block) = blocks.pop()
            {
                let offset = places.next().expect("endless") * BLOCK as u64;
                let read = op::Read::new(Rc::clone(file), block).at(offset);
                let ticket = ring.submit(read).expect("a slot");
                let slot = ticket.slot() as usize;
                tickets[slot] = Some(ticket);
                (left, flying) = (left - 1, flying + 1);
            }
            ring.submit_and_wait(1).expect("submit");
            let each = |event: Event<'_, ()>| {
                if let Event::Ended { slot, .. } = event {
                    ended.push(slot);
                }
            };
            flying -= ring.reap(each).expect("reap");
            for slot in ended.drain(..) {
                let ticket = tickets[slot as usize].take().expect("it was submitted");
                let done = ring.try_take(ticket).expect("it has ended");
                assert_eq!(done.result.expect("a read"), BLOCK);
                sum += number(&done.buf);
                blocks.push(done.buf);
            }
        }
        assert_eq!(sum, expected(count));
    })
}

/// Buffers and file are registered; `None` where so much memory may not be locked.
fn fixed(file: &Rc<File>, depth: u32) -> Option<Contender<'_>> {
    let mut ring: Ring = Setup::new(depth).build().expect("a ring");
    let pool: FixedPool = ring.fixed_pool(u16::try_from(depth).ok()?, BLOCK as u32).ok()?;
    Some(Contender::new("annulus, safe, registered buffers", move |count| {
        let (mut places, mut left, mut sum) = (Places(1), count, 0);
        let mut tickets: Vec<Option<_>> = Vec::new();
        tickets.resize_with(ring.vacant() as usize, || None);
        let (mut flying, mut ended) = (0, Vec::new());
        while left > 0 || flying > 0 {
            while left > 0
                && let Some(block) = pool.get()
            {
                let offset = places.next().expect("endless") * BLOCK as u64;
                let read = op::ReadFixed::new(Rc::clone(file), block).at(offset);
                let ticket = ring.submit(read).expect("a slot");
                let slot = ticket.slot() as usize;
                tickets[slot] = Some(ticket);
                (left, flying) = (left - 1, flying + 1);
            }
            ring.submit_and_wait(1).expect("submit");
            let each = |event: Event<'_, ()>| {
                if let Event::Ended { slot, .. } = event {
                    ended.push(slot);
                }
            };
            flying -= ring.reap(each).expect("reap");
            for slot in ended.drain(..) {
                let ticket = tickets[slot as usize].take().expect("it was submitted");
                let done = ring.try_take(ticket).expect("it has ended");
                assert_eq!(done.result.expect("a read"), BLOCK);
                sum += number(&done.buf);
            }
        }
        assert_eq!(sum, expected(count));
    }))
}
