//! One NOP, with nothing but the three system calls and the shared memory.
//!
//! ```text
//!   1  io_uring_setup   a descriptor, and the offsets of head, tail and flags      F1
//!   2  mmap             the rings and the slots, shared with the kernel            F1
//!   3                   each index gets a role: we store it, or we only load it    F2
//!   4  push             a slot is written; the kernel sees nothing                 F3
//!   5  flush            the tail is stored; now the kernel could see the entry     F3
//!   6  io_uring_enter   the kernel takes the entry, and posts a completion         F1
//!   7  pop              we copy the completion out and give its slot back          F3
//!   8  munmap, close    when their owners are dropped
//! ```
//!
//! Look at: the offsets in step 1, which only the kernel knows; and the tail, which moves in step 5
//! and not before. `Rings::setup` of `annulus_sys` does steps 1 to 3, with checks and for every
//! layout; with the crate `annulus` you never write them yourself.
//!
//! Linux 5.4 (one mapping for both rings).
#![allow(unsafe_code, reason = "vouches for the memory, as `sys/rings.rs` otherwise does")]

use std::fs;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use annulus::Stats;
use annulus::sys::abi::{Cqe, Params, Sqe};
use annulus::sys::cq::{CompletionQueue, CqIndices, CqParts, CqeShape};
use annulus::sys::flags::{EnterFlags, Features, OFF_SQ_RING, OFF_SQES};
use annulus::sys::index::{Entries, Index};
use annulus::sys::map::Map;
use annulus::sys::opcode::Opcode;
use annulus::sys::orderings::{
    AtomicU32, Counter, Observed, ObservedFlags, Published, PublishedFlags,
};
use annulus::sys::slots::{Slot, Slots, Width};
use annulus::sys::sq::{SqParts, SqeShape, SubmissionQueue, Turn};
use annulus::sys::syscall::{self, EnterArg, RingFd};
use clap::Parser;
use support::{Failure, Page};

mod support;

/// Submits one NOP by hand, and prints what happens at each step.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Print what it cost, printing included
    #[arg(long)]
    stats: bool,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let (fd, params) = setup(page)?;
    let memory = map(page, &fd, &params)?;
    let (mut sq, mut cq) = assign(page, &memory, &params)?;
    let before = support::cpu_time();
    submit(page, &fd, &mut sq)?;
    reap(page, &mut cq)?;
    let cpu = support::cpu_time() - before;

    let mapped = ring_mappings();
    // The last owner of a pointer into the mappings unmaps them. Nothing is in flight, so they may
    // go.
    drop((sq, cq, memory, fd));
    writeln!(
        page,
        "8 close, munmap: mappings of a ring before {mapped}, after {}",
        ring_mappings()
    )?;
    if arguments.stats {
        let stats = Stats { enters: 1, sqes: 1, cqes: 1, ..Stats::default() };
        writeln!(page, "{}", support::stats_line(stats, 1, cpu))?;
    }
    Ok(())
}

// ANCHOR: setup
/// Step 1: the kernel makes a ring and reports the offsets of its indices and flags.
fn setup(page: &mut Page) -> Result<(RingFd, Params), Failure> {
    let mut params = Params::default();
    // SAFETY: no flag is set, so `params` names no memory of ours.
    let fd = unsafe { syscall::setup(3, &mut params) };
    let fd = fd.map_err(|errno| Failure::of("io_uring_setup", errno))?;

    let Params { sq_entries, cq_entries, features, sq_off, cq_off, .. } = params;
    writeln!(page, "1 io_uring_setup(3 entries) gives descriptor {}", fd.by_ref().number())?;
    writeln!(page, "  sizes: {sq_entries} submission slots, {cq_entries} completion slots")?;
    let features: Vec<_> = features.iter_names().map(|(name, _)| name).collect();
    page.list("  features:", &features)?;
    writeln!(page, "  bytes from the start of the ring mapping to each index:")?;
    writeln!(
        page,
        "    sq  head {}  tail {}  flags {}  dropped {}  array {}",
        sq_off.head, sq_off.tail, sq_off.flags, sq_off.dropped, sq_off.array
    )?;
    writeln!(
        page,
        "    cq  head {}  tail {}  flags {}  overflow {}  completions {}",
        cq_off.head, cq_off.tail, cq_off.flags, cq_off.overflow, cq_off.cqes
    )?;
    Ok((fd, params))
}
// ANCHOR_END: setup

// ANCHOR: map
/// Step 2: maps the ring's memory into ours: first the indices and completions, then the entries.
fn map(page: &mut Page, fd: &RingFd, params: &Params) -> Result<Arc<[Map]>, Failure> {
    let RingFd::Owned(fd) = fd else {
        return Err(Failure::Failed("the ring has no descriptor to map".into()));
    };
    if !params.features.contains(Features::SINGLE_MMAP) {
        return Err(Failure::Failed("one mapping for both rings needs Linux 5.4".into()));
    }
    let (sq_count, cq_count) = (params.sq_entries as usize, params.cq_entries as usize);
    // Which of the two comes last is the kernel's choice.
    let array_end = params.sq_off.array as usize + sq_count * size_of::<u32>();
    let cqes_end = params.cq_off.cqes as usize + cq_count * size_of::<Cqe>();
    let map = |offset, bytes| {
        Map::of_ring(fd.as_fd(), offset, bytes).map_err(|errno| Failure::of("mmap", errno))
    };
    let rings = map(OFF_SQ_RING, array_end.max(cqes_end))?;
    let entries = map(OFF_SQES, sq_count * size_of::<Sqe>())?;
    writeln!(page, "2 mmap: {} bytes of indices and completions", rings.len())?;
    writeln!(page, "  mmap: {} bytes of submission entries, 64 each", entries.len())?;
    Ok([rings, entries].into())
}
// ANCHOR_END: map

/// Step 3: each index and each slot gets a role. Both halves keep the memory that they point into.
fn assign(
    page: &mut Page,
    memory: &Arc<[Map]>,
    params: &Params,
) -> Result<(SubmissionQueue, CompletionQueue), Failure> {
    let Params { sq_off, cq_off, .. } = params;
    let sizes = Entries::new(params.sq_entries).zip(Entries::new(params.cq_entries));
    let (sq_entries, cq_entries) = sizes.expect("SQ2, CQ2: the sizes are powers of two");
    let (sq_count, cq_count) = (params.sq_entries as usize, params.cq_entries as usize);

    // `at` checks that its pointer is inside the mapping.
    let (rings, entries) = (&memory[0], &memory[1]);
    let word = |offset: u32| rings.at::<AtomicU32>(offset as usize, 1);
    let sqes = entries.at::<Slot<Sqe>>(0, sq_count);
    let cqes = rings.at::<Slot<Cqe>>(cq_off.cqes as usize, cq_count);
    let array = rings.at::<Slot<u32>>(sq_off.array as usize, sq_count);
    // SAFETY: every pointer lies in the mappings, because `at` checked, and the halves keep them;
    // each atomic has one `Published` at most, and the kernel keeps SQ1 and CQ1.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
    let (sq, cq) = unsafe {
        // The kernel finds an entry through this array. It is filled once: index 0 names slot 0.
        let mut array = Slots::new(array, sq_entries, Width::Single);
        (0..params.sq_entries).for_each(|slot| array.write_single(Index::from_raw(slot), slot));
        let sq = SubmissionQueue::over(SqParts {
            head: Observed::new(word(sq_off.head)), // The kernel's: how far it consumed.
            tail: Published::new(word(sq_off.tail)), // Ours: how far the kernel may.
            flags: ObservedFlags::new(word(sq_off.flags)),
            dropped: Counter::new(word(sq_off.dropped)),
            slots: Slots::new(sqes, sq_entries, Width::Single),
            shape: SqeShape::Single,
            turn: Turn::Round,
            memory: Arc::clone(memory),
        });
        let cq = CompletionQueue::over(CqParts {
            head: Published::new(word(cq_off.head)), // Ours: how far we popped.
            tail: Observed::new(word(cq_off.tail)),  // Theirs: how far they posted.
            flags: (cq_off.flags != 0).then(|| PublishedFlags::new(word(cq_off.flags))),
            overflow: Counter::new(word(cq_off.overflow)),
            hints: ObservedFlags::new(word(sq_off.flags)),
            slots: Slots::new(cqes, cq_entries, Width::Single),
            shape: CqeShape::Single,
            memory: Arc::clone(memory),
        });
        (sq, cq)
    };
    writeln!(page, "3 roles: we publish sq.tail and cq.head; we observe sq.head and cq.tail")?;
    Ok((sq, cq))
}

// ANCHOR: submit
/// Steps 4 to 6: an entry is written, published, and consumed.
fn submit(page: &mut Page, fd: &RingFd, sq: &mut SubmissionQueue) -> Result<(), Failure> {
    let tail = |sq: &SubmissionQueue| sq.indices().tail.to_raw();
    let head = |sq: &SubmissionQueue| sq.indices().head.to_raw();

    let nop = Sqe { opcode: Opcode::NOP, user_data: 42, ..Sqe::ZERO };
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { sq.push(nop) }?;
    writeln!(
        page,
        "4 push a NOP, user_data 42: the slot is written, sq.tail is still {}",
        tail(sq)
    )?;

    let before = tail(sq);
    let to_submit = sq.flush();
    writeln!(
        page,
        "5 flush: sq.tail goes from {before} to {}, so {to_submit} entry is visible (SQ3)",
        tail(sq)
    )?;

    let head_before = head(sq);
    // SAFETY: the one request in the ring is the NOP above, which points to nothing (OP1).
    let consumed =
        unsafe { syscall::enter(fd.by_ref(), to_submit, 1, EnterFlags::GETEVENTS, EnterArg::None) };
    let consumed = consumed.map_err(|errno| Failure::of("io_uring_enter", errno))?;
    writeln!(
        page,
        "6 io_uring_enter(submit {to_submit}, wait for 1) consumed {consumed}: \
         sq.head goes from {head_before} to {}",
        head(sq)
    )?;
    Ok(())
}
// ANCHOR_END: submit

// ANCHOR: reap
/// Step 7: the completion is copied out, and its slot given back.
fn reap(page: &mut Page, cq: &mut CompletionQueue) -> Result<(), Failure> {
    let CqIndices { head, tail } = cq.indices();
    writeln!(
        page,
        "  the completion is there: cq.head {}, cq.tail {}",
        head.to_raw(),
        tail.to_raw()
    )?;
    let Some(cqe) = cq.pop() else {
        return Err(Failure::Failed("the kernel posted no completion".into()));
    };
    let head = cq.indices().head;
    writeln!(
        page,
        "7 pop: user_data {}, res {}; cq.head is {}, so the slot is given back (CQ4)",
        cqe.user_data,
        cqe.res,
        head.to_raw()
    )?;
    if (cqe.user_data, cqe.res) != (42, 0) {
        return Err(Failure::Failed("that is not the completion of our NOP".into()));
    }
    Ok(())
}
// ANCHOR_END: reap

/// How many mappings of a ring this process has, as the kernel lists them.
fn ring_mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter(|line| line.contains("[io_uring]")).count()
}
