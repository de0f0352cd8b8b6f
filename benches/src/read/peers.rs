//! What else reads blocks: one `pread` after the other, threads, libaio, `io-uring`, tokio.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::{BLOCK, Block, expected, number, offset};
use crate::measure::Contender;

/// More threads than these make the table long and say nothing.
const MOST_THREADS: u32 = 128;

pub fn all(file: &Rc<File>, depth: u32) -> Vec<Contender<'_>> {
    let always = [pread(file), peer(file, depth)];
    let threaded = (2..=MOST_THREADS).contains(&depth);
    let threads = threaded.then(|| [threads(file, depth), tokio(file, depth)]);
    let libaio = aio::contender(file, depth);
    always.into_iter().chain(libaio).chain(threads.into_iter().flatten()).collect()
}

fn pread(file: &Rc<File>) -> Contender<'_> {
    let mut block = Block::zeroed(1);
    Contender::new("pread", move |count| {
        let mut sum = 0;
        for index in 0..count {
            file.read_exact_at(&mut block[0].0, offset(index)).expect("the file is longer");
            sum += number(&block[0].0);
        }
        assert_eq!(sum, expected(count));
    })
}

/// So many threads, each of which reads the next block that no other has begun.
fn threads(file: &Rc<File>, depth: u32) -> Contender<'_> {
    struct Pool {
        begin: Vec<Sender<(u64, Arc<AtomicU64>)>>,
        ended: Receiver<u64>,
    }
    let make = move || {
        let (done, ended) = channel();
        let begin = (0..depth).map(|_| {
            let file = file.try_clone().expect("a descriptor");
            let (begin, jobs) = channel::<(u64, Arc<AtomicU64>)>();
            let done = done.clone();
            thread::spawn(move || {
                let mut block = Block::zeroed(1);
                for (count, next) in jobs {
                    let mut sum = 0;
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            break;
                        }
                        file.read_exact_at(&mut block[0].0, offset(index)).expect("a read");
                        sum += number(&block[0].0);
                    }
                    done.send(sum).expect("it waits for us");
                }
            });
            begin
        });
        Pool { begin: begin.collect(), ended }
    };
    let mut pool = None;
    Contender::new("threads, pread", move |count| {
        // Made in the first round, so that they are on the same processor.
        let Pool { begin, ended } = pool.get_or_insert_with(make);
        let next = Arc::new(AtomicU64::new(0));
        begin.iter().for_each(|one| one.send((count, Arc::clone(&next))).expect("it runs"));
        let sum: u64 = ended.iter().take(begin.len()).sum();
        assert_eq!(sum, expected(count));
    })
}

/// A task for each read in flight, each in `spawn_blocking`, as `tokio::fs` does it.
fn tokio(file: &Rc<File>, depth: u32) -> Contender<'_> {
    let file = Arc::new(file.try_clone().expect("a descriptor"));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.max_blocking_threads(depth as usize).build().expect("a runtime");
    let mut idle = Block::zeroed(depth);
    Contender::new("tokio, spawn_blocking", move |count| {
        let (mut next, mut sum) = (0, 0);
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                while next < count
                    && let Some(mut block) = idle.pop()
                {
                    let (file, at) = (Arc::clone(&file), offset(next));
                    tasks.spawn_blocking(move || {
                        file.read_exact_at(&mut block.0, at).expect("a read");
                        block
                    });
                    next += 1;
                }
                let Some(block) = tasks.join_next().await else { break };
                let block = block.expect("no panic");
                sum += number(&block.0);
                idle.push(block);
            }
        });
        assert_eq!(sum, expected(count));
    })
}

fn peer(file: &Rc<File>, depth: u32) -> Contender<'_> {
    let mut builder = io_uring::IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut ring: io_uring::IoUring = builder.setup_submit_all().build(depth).expect("a ring");
    let mut blocks = Block::zeroed(depth);
    let mut idle: Vec<usize> = Vec::new();
    Contender::new("io-uring", move |count| {
        let (mut next, mut sum) = (0, 0);
        idle.clear();
        idle.extend(0..blocks.len());
        let mut flying = 0;
        let fd = io_uring::types::Fd(file.as_raw_fd());
        while next < count || flying > 0 {
            let mut sq = ring.submission();
            while next < count
                && let Some(at) = idle.pop()
            {
                let read = io_uring::opcode::Read::new(fd, blocks[at].0.as_mut_ptr(), BLOCK as u32);
                let read = read.offset(offset(next)).build().user_data(at as u64);
                // SAFETY: the block is not touched until its completion, and lives longer.
                unsafe { sq.push(&read) }.expect("room");
                (next, flying) = (next + 1, flying + 1);
            }
            drop(sq);
            ring.submit_and_wait(1).expect("submit");
            for cqe in ring.completion() {
                assert_eq!(cqe.result(), BLOCK as i32);
                let at = cqe.user_data() as usize;
                sum += number(&blocks[at].0);
                idle.push(at);
                flying -= 1;
            }
        }
        assert_eq!(sum, expected(count));
    })
}

/// Linux's older asynchronous reads, by their system calls: `io_submit(2)`. From the page cache
/// they are not asynchronous at all.
mod aio {
    use super::*;

    /// `struct iocb` of the kernel's `aio_abi.h`, on a little-endian machine.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Iocb {
        data: u64,
        key: u32,
        rw_flags: i32,
        opcode: u16,
        priority: i16,
        fd: u32,
        buf: u64,
        len: u64,
        offset: i64,
        reserved: u64,
        flags: u32,
        eventfd: u32,
    }

    /// `struct io_event`.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Event {
        data: u64,
        iocb: u64,
        result: i64,
        more: i64,
    }

    /// A context, destroyed at the end.
    struct Context(libc::c_ulong);

    impl Drop for Context {
        fn drop(&mut self) {
            // SAFETY: takes a number only, and waits for what is in flight.
            unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
        }
    }

    /// `None` where the kernel was built without it.
    pub fn contender(file: &Rc<File>, depth: u32) -> Option<Contender<'_>> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one number and keeps no address, as io_setup(2) says.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        let context = (made == 0).then_some(Context(context))?;
        let mut blocks = Block::zeroed(depth);
        let mut idle: Vec<usize> = (0..blocks.len()).collect();
        Some(Contender::new("libaio's system calls", move |count| {
            let Context(context) = &context; // The whole is moved, so that it lives as long.
            let (mut next, mut sum, mut flying) = (0, 0, 0);
            let mut batch: Vec<Iocb> = Vec::with_capacity(blocks.len());
            let mut events = vec![Event::default(); blocks.len()];
            while next < count || flying > 0 {
                batch.clear();
                while next < count
                    && let Some(at) = idle.pop()
                {
                    batch.push(Iocb {
                        data: at as u64,
                        fd: file.as_raw_fd().cast_unsigned(),
                        buf: blocks[at].0.as_mut_ptr().expose_provenance() as u64,
                        len: BLOCK as u64,
                        offset: offset(next).cast_signed(),
                        ..Iocb::default() // Opcode 0: IOCB_CMD_PREAD.
                    });
                    next += 1;
                }
                let mut table: Vec<*mut Iocb> = batch.iter_mut().map(std::ptr::from_mut).collect();
                let mut from = 0;
                while from < table.len() {
                    let rest = &mut table[from..];
                    let (list, len) = (rest.as_mut_ptr(), rest.len());
                    // SAFETY: so many pointers to entries, which the kernel copies; their blocks
                    // live longer than the context, and are not touched until their events.
                    let taken = unsafe { libc::syscall(libc::SYS_io_submit, *context, len, list) };
                    from += usize::try_from(taken).expect("io_submit");
                }
                flying += batch.len();
                let (room, list) = (events.len(), events.as_mut_ptr());
                let forever = std::ptr::null_mut::<libc::timespec>();
                // SAFETY: the kernel writes at most `room` events, as io_getevents(2) says.
                let came = unsafe {
                    libc::syscall(libc::SYS_io_getevents, *context, 1, room, list, forever)
                };
                for event in &events[..usize::try_from(came).expect("io_getevents")] {
                    assert_eq!(event.result, BLOCK as i64);
                    let at = event.data as usize;
                    sum += number(&blocks[at].0);
                    idle.push(at);
                    flying -= 1;
                }
            }
            assert_eq!(sum, expected(count));
        }))
    }
}
