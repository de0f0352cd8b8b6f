//! The ways of annulus: the raw ring, the safe one, with registered buffers, and a lane.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use annulus::buf::AlignedBuf;
use annulus::lease::FixedPool;
use annulus::op;
use annulus::sys::abi::Sqe;
use annulus::{Event, Lane, Ring, Setup, prep};

use super::{BLOCK, Block, expected, number, offset};
use crate::measure::Contender;

pub fn all(file: &Rc<File>, depth: u32) -> Vec<Contender<'_>> {
    let always = [raw(file, depth), safe(file, depth), lane(file, depth)];
    always.into_iter().chain(fixed(file, depth)).collect()
}

/// A buffer of a block, for the safe ring.
fn aligned() -> AlignedBuf {
    AlignedBuf::new(BLOCK, BLOCK)
}

fn raw(file: &Rc<File>, depth: u32) -> Contender<'_> {
    let mut ring = Setup::new(depth).build_raw().expect("a ring");
    let mut blocks = Block::zeroed(depth);
    let mut idle: Vec<usize> = Vec::new();
    Contender::new("annulus, raw", move |count| {
        let (mut next, mut sum) = (0, 0);
        idle.clear();
        idle.extend(0..blocks.len());
        let mut flying = 0;
        while next < count || flying > 0 {
            while next < count
                && let Some(at) = idle.pop()
            {
                let address = blocks[at].0.as_mut_ptr().expose_provenance() as u64;
                let sqe = prep::read(file.as_raw_fd(), address, BLOCK as u32, offset(next));
                // SAFETY: the block is not touched until its completion, and lives longer.
                unsafe { ring.push(Sqe { user_data: at as u64, ..sqe }) }.expect("room");
                (next, flying) = (next + 1, flying + 1);
            }
            let taken = ring.turn(1, |cqe| {
                assert_eq!(cqe.res, BLOCK as i32);
                let at = cqe.user_data as usize;
                sum += number(&blocks[at].0);
                idle.push(at);
            });
            flying -= taken.expect("a turn");
        }
        assert_eq!(sum, expected(count));
    })
}

fn safe(file: &Rc<File>, depth: u32) -> Contender<'_> {
    let mut ring: Ring = Setup::new(depth).build().expect("a ring");
    let mut blocks: Vec<AlignedBuf> = (0..depth).map(|_| aligned()).collect();
    Contender::new("annulus, safe", move |count| {
        let (mut next, mut sum) = (0, 0);
        let mut tickets: Vec<Option<_>> = Vec::new();
        tickets.resize_with(ring.vacant() as usize, || None);
        let (mut flying, mut ended) = (0, Vec::new());
        while next < count || flying > 0 {
            while next < count
                && let Some(block) = blocks.pop()
            {
                let read = op::Read::new(Rc::clone(file), block).at(offset(next));
                let ticket = ring.submit(read).expect("a slot");
                let slot = ticket.slot() as usize;
                tickets[slot] = Some(ticket);
                (next, flying) = (next + 1, flying + 1);
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

fn lane(file: &Rc<File>, depth: u32) -> Contender<'_> {
    type Read = op::Read<Rc<File>, AlignedBuf>;
    let mut lane: Lane<Read> = Setup::new(depth).build_lane().expect("a ring");
    let mut blocks: Vec<AlignedBuf> = (0..depth).map(|_| aligned()).collect();
    Contender::new("annulus, a lane", move |count| {
        let (mut next, mut sum) = (0, 0);
        let mut flying = 0;
        while next < count || flying > 0 {
            while next < count
                && let Some(block) = blocks.pop()
            {
                let read = op::Read::new(Rc::clone(file), block).at(offset(next));
                lane.submit(read, ()).expect("a slot");
                (next, flying) = (next + 1, flying + 1);
            }
            let taken = lane.turn(1, |(), done| {
                assert_eq!(done.result.expect("a read"), BLOCK);
                sum += number(&done.buf);
                blocks.push(done.buf);
            });
            flying -= taken.expect("a turn");
        }
        assert_eq!(sum, expected(count));
    })
}

/// Buffers and file are registered; `None` where so much memory may not be locked.
fn fixed(file: &Rc<File>, depth: u32) -> Option<Contender<'_>> {
    let mut ring: Ring = Setup::new(depth).build().expect("a ring");
    let pool: FixedPool = ring.fixed_pool(u16::try_from(depth).ok()?, BLOCK as u32).ok()?;
    Some(Contender::new("annulus, safe, registered buffers", move |count| {
        let (mut next, mut sum) = (0, 0);
        let mut tickets: Vec<Option<_>> = Vec::new();
        tickets.resize_with(ring.vacant() as usize, || None);
        let (mut flying, mut ended) = (0, Vec::new());
        while next < count || flying > 0 {
            while next < count
                && let Some(block) = pool.get()
            {
                let read = op::ReadFixed::new(Rc::clone(file), block).at(offset(next));
                let ticket = ring.submit(read).expect("a slot");
                let slot = ticket.slot() as usize;
                tickets[slot] = Some(ticket);
                (next, flying) = (next + 1, flying + 1);
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
