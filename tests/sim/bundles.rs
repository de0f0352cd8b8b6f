//! Bundles of buffers on both kernels. Where Linux splits a bundle depends on what the requests of
//! the ring have received before, so the splits are not compared: only that each is one, and what
//! they contain.
//!
//! | checked on each kernel | how |
//! |---|---|
//! | a completion names the buffer that is next on the ring | exactly |
//! | its bytes fill buffer after buffer, in the order of the ring | exactly |
//! | what all bundles contain | is what was sent |
//! | a bundle goes on unless the ring is empty | exactly |

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use annulus::prep;
use annulus::sys::flags::{CQE_BUFFER_SHIFT, CancelFlags, CqeFlags, RecvSendFlags};
use annulus::sys::flags_register::PbufRingFlags;
use annulus::sys::groups::{Group, RingMemory};
use annulus::sys::index::Entries;

use super::chance::Chance;
use super::scene::{Scene, at, seeded};

const BUFFERS: u16 = 16;
const SIZE: usize = 16;

/// A group, as the program sees it.
struct Ring {
    group: Group,
    memory: Box<[[u8; SIZE]; BUFFERS as usize]>,
    is_incremental: bool,
    /// The buffers on offer, oldest first, with what was used of each; and those that are not.
    offered: VecDeque<(u16, usize)>,
    free: VecDeque<u16>,
}

impl Ring {
    fn new(it: &Scene<'_>, id: u16, flags: PbufRingFlags) -> Self {
        let entries = Entries::new(BUFFERS.into()).expect("a power of two");
        let group = Group::register(it.ring.base(), id, entries, RingMemory::User, flags);
        Self {
            group: group.expect("a group"),
            memory: Box::new([[0; SIZE]; BUFFERS as usize]),
            is_incremental: flags.contains(PbufRingFlags::INC),
            offered: VecDeque::new(),
            free: (0..BUFFERS).collect(),
        }
    }

    fn offer(&mut self, count: usize, contents: &mut impl Iterator<Item = u8>) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..count {
            let Some(bid) = self.free.pop_front() else { break };
            let buffer = &mut self.memory[usize::from(bid)];
            buffer.fill_with(|| contents.next().expect("it never ends"));
            all.extend(*buffer);
            let addr = buffer.as_mut_ptr().expose_provenance() as u64;
            // SAFETY: the group lives as long as the program, and no child is forked.
            let ring = unsafe { self.group.ring() };
            // SAFETY: the memory outlives the ring; each buffer is offered once (BR1).
            unsafe { ring.push(addr, 16, bid) }.expect("room");
            ring.flush();
            self.offered.push_back((bid, 0));
        }
        all
    }

    /// Takes back what a completion has used: its bytes, in order.
    fn take_back(&mut self, res: i32, flags: CqeFlags) -> Vec<u8> {
        let first = flags.bits() >> CQE_BUFFER_SHIFT;
        assert_eq!(self.offered.front().map(|&(bid, _)| u32::from(bid)), Some(first));
        let mut left = usize::try_from(res).expect("bytes");
        let mut bytes = Vec::new();
        while left > 0 {
            let (bid, used) = self.offered.front_mut().expect("the ring has as many");
            let part = left.min(SIZE - *used);
            bytes.extend(&self.memory[usize::from(*bid)][*used..*used + part]);
            (*used, left) = (*used + part, left - part);
            if *used < SIZE && self.is_incremental {
                assert!(flags.contains(CqeFlags::BUF_MORE), "a part of it is left");
                return bytes;
            }
            self.free.push_back(*bid);
            self.offered.pop_front();
            // SAFETY: the group lives as long as the program, and no child is forked.
            let ring = unsafe { self.group.ring() };
            // SAFETY: a completion has used it whole, or returned it, only once (BR1).
            unsafe { ring.taken(1) };
        }
        assert!(!flags.contains(CqeFlags::BUF_MORE), "the last one is used whole");
        bytes
    }
}

/// Receives bundles until all has come that is sent: a part at once, the rest when it waits.
fn receive(
    it: &mut Scene<'_>,
    ring: &mut Ring,
    (ours, theirs): (&OwnedFd, &OwnedFd),
    (how, len): (RecvSendFlags, u32),
    (first, rest): (&[u8], &[u8]),
) {
    let sent = [first, rest].concat();
    it.world.write(theirs.as_fd(), first).expect("room");
    let mut rest = Some(rest);
    // How many requests it takes may differ; what follows has the same numbers.
    let numbers_from = it.next + 1000;
    let mut received = Vec::new();
    for _ in 0..200 {
        if received.len() == sent.len() {
            break;
        }
        ring.offer(usize::from(BUFFERS), &mut std::iter::repeat(b'.'));
        let user_data = it.next;
        it.push(prep::recv_provided(ours.as_raw_fd(), len, 1, 0, how));
        it.ring.submit().expect("no fault");
        if let Some(rest) = rest.take() {
            it.world.write(theirs.as_fd(), rest).expect("room");
        }
        let mut ended = false;
        while !ended && received.len() < sent.len() {
            it.ring.expect_others();
            let _ = it.ring.wait_timeout(1, Duration::from_millis(50));
            let Some(cqe) = it.ring.pop() else { break };
            assert_eq!(cqe.user_data, user_data);
            assert!(cqe.flags.contains(CqeFlags::BUFFER), "{cqe:?}");
            received.extend(ring.take_back(cqe.res, cqe.flags));
            ended = !cqe.flags.contains(CqeFlags::MORE);
            let goes_on = how.contains(RecvSendFlags::RECV_MULTISHOT) && !ring.offered.is_empty();
            assert!(goes_on || ended, "{cqe:?}");
        }
        if !ended {
            it.push(prep::cancel(user_data, CancelFlags::empty()));
            it.ring.submit_and_wait(2).expect("no fault");
            while it.ring.pop().is_some() {}
        }
    }
    assert!(received == sent, "{received:?}\n{sent:?}");
    it.next = numbers_from;
    it.say(format!("{received:?}"));
}

fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let flags = chance.among(&[PbufRingFlags::empty(), PbufRingFlags::INC]);
    let mut incoming = Ring::new(it, 1, flags);
    let mut outgoing = Ring::new(it, 2, PbufRingFlags::empty());
    let (ours, theirs) = it.world.socket_pair();
    let mut numbers = (0..=255).cycle();
    for _ in 0..chance.below(12) {
        let many = RecvSendFlags::BUNDLE | RecvSendFlags::RECV_MULTISHOT;
        let one = RecvSendFlags::BUNDLE;
        let how = chance.among(&[(one, 0), (one, 8), (one, 20), (one, 70), (many, 0), (many, 0)]);
        if chance.one_in(2) {
            let count = chance.below(200) as usize + 1;
            let sent: Vec<u8> = numbers.by_ref().take(count).collect();
            let parts = sent.split_at(chance.below(200) as usize % (count + 1));
            receive(it, &mut incoming, (&ours, &theirs), how, parts);
            continue;
        }
        let sent = outgoing.offer(chance.below(6) as usize, &mut numbers);
        let flags = libc::MSG_NOSIGNAL.cast_unsigned();
        it.push(prep::send_provided(ours.as_raw_fd(), 0, 2, flags, RecvSendFlags::BUNDLE));
        it.rest(|_| false);
        for (_, res, flags) in it.last.clone() {
            if res > 0 {
                outgoing.take_back(res, flags);
            }
        }
        let bytes = it.world.read(theirs.as_fd());
        assert_eq!(bytes.ok().unwrap_or_default(), sent);
    }
    let header = Box::new([0_u64; 7]);
    for sqe in [
        prep::recv_provided(ours.as_raw_fd(), 0, 7, 0, RecvSendFlags::BUNDLE),
        prep::send_provided(ours.as_raw_fd(), 0, 7, 0, RecvSendFlags::BUNDLE),
        prep::recvmsg(ours.as_raw_fd(), at(&*header), 0, RecvSendFlags::BUNDLE),
    ] {
        it.push(sqe);
        it.rest(|_| false);
    }
    // If a kernel did not end everything, it must not find other memory here (RG1).
    std::mem::forget((incoming.memory, outgoing.memory, header));
}

#[test]
fn bundles_contain_on_both_kernels_what_was_sent_in_the_order_of_the_ring() {
    seeded("bundles", 300, program);
}
