//! Multishot reads: each completion carries a buffer that the kernel selects.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};

use annulus::lease::{BufLease, BufRing};
use annulus::op::{Ending, Op as _, ReadMulti, RecvProvided};
use annulus::sys::opcode::Opcode;
use annulus::{Next, Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use super::buf_ring::{PROVIDED, all_are_back, buffers, receive, record, sockets, try_receive};
use super::{Random, pipe, ring};
use crate::harness::{Need, safe_ring, test};

const MANY: [Need; 2] = [PROVIDED[0], Need::Op(Opcode::READ_MULTISHOT)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("provided_buffers_come_back_from_detached_reads", &MANY, back_from_detached),
        test("no_provided_buffer_is_used_up_by_the_end_of_a_file", &MANY, end_of_file),
        test("an_empty_buffer_ring_ends_reads_which_begin_again", &MANY, enobufs),
        test("a_multishot_read_stopped_by_overflow_begins_again", &MANY, overflow),
        test("a_multishot_read_is_cancelled", &MANY, cancelled),
        test("a_multishot_read_of_what_cannot_be_polled_fails", &MANY, cannot_be_polled),
        test("br1_random_use_loses_no_provided_buffer", &MANY, random_use),
    ]
}

fn back_from_detached() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 16);
    for _ in 0..5 {
        // Detached before it completes, after, and among many.
        let (from, mut to) = sockets();
        let read = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
        ring.submit_all()?;
        ring.detach(read);
        to.write_all(b"early")?;
        record(&mut ring);
        to.write_all(b"late")?;
        let read = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
        ring.submit_and_wait(1)?;
        ring.reap(|_| ())?;
        ring.detach(read);
        assert_eq!(buffers.leased(), 0);
        let many = ring.submit(ReadMulti::new(from, &buffers))?;
        for _ in 0..3 {
            to.write_all(b"many")?;
            ring.submit_and_wait(1)?;
            // Shown once, and dropped unread.
            ring.reap(|_| ())?;
        }
        to.write_all(b"more")?;
        let held = ring.next(&many)?.ok_or("data")??;
        ring.detach(many);
        to.write_all(b"still more")?;
        drop(to);
        record(&mut ring);
        assert_eq!((buffers.leased(), &held[..]), (1, &b"more"[..]));
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn end_of_file() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 16);
    for _ in 0..5 {
        let (from, to) = sockets();
        drop(to);
        assert!(receive(&mut ring, &from, &buffers).is_none());
        // On a worker thread, which selects a buffer first.
        let last = ring.submit(RecvProvided::new(from.try_clone()?, &buffers).forced())?;
        assert!(ring.wait(last)?.result?.is_none());
        let many = ring.submit(ReadMulti::new(from, &buffers))?;
        assert!(ring.next(&many)?.is_none());
        assert!(matches!(ring.wait(many)?.how, Ending::Eof));
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn enobufs() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 2);
    let (from, mut to) = sockets();
    to.write_all(b"aabbccdd")?;
    let many = ring.submit(ReadMulti::new(from, &buffers))?;
    let mut held = Vec::new();
    while let Some(lease) = ring.next(&many)? {
        held.push(lease?);
    }
    assert_eq!(held.iter().map(|lease| &lease[..]).collect::<Vec<_>>(), [b"aa", b"bb"]);
    let ended = ring.wait(many)?;
    assert!(matches!(ended.how, Ending::NoBuffers));
    assert!(!ended.how.wants_more());

    let failed = try_receive(&mut ring, &ended.fd, &buffers).expect_err("all are leased");
    assert_eq!(failed.raw_os_error(), Some(libc::ENOBUFS));
    held.clear();
    let again = ring.submit(ReadMulti::new(ended.fd, &buffers))?;
    assert_eq!(*ring.next(&again)?.ok_or("data")??, *b"cc", "the data had waited");
    assert_eq!(*ring.next(&again)?.ok_or("data")??, *b"dd");
    drop(to);
    assert!(ring.next(&again)?.is_none());
    assert!(matches!(ring.wait(again)?.how, Ending::Eof));
    all_are_back(&mut ring, &buffers);
    Ok(())
}

/// More completions than the ring holds, while none is taken. On a ring that does not defer them,
/// they come with any system call.
fn overflow() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(2));
    let buffers = buffers(&mut ring, 16, 16);
    let (mut from, mut to) = pipe();
    let mut seen = Vec::new();
    let (mut stops, mut next) = (0, 0_u8);
    for _ in 0..3 {
        let many = ring.submit(ReadMulti::new(from, &buffers))?;
        ring.submit_all()?;
        for _ in 0..12 {
            to.write_all(&[next])?;
            next += 1;
        }
        while let Some(lease) = ring.next(&many)? {
            seen.extend_from_slice(&lease?);
            // Until the read stops; later bytes wait in the pipe.
            if seen.len() == usize::from(next) {
                ring.cancel(&many)?;
            }
        }
        let ended = ring.wait(many)?;
        match ended.how {
            Ending::Stopped => stops += 1,
            Ending::Cancelled => {}
            other => return Err(format!("{other:?}").into()),
        }
        from = ended.fd;
    }
    drop(to);
    from.read_to_end(&mut seen)?;
    assert_eq!(seen, (0..next).collect::<Vec<_>>(), "nothing is lost, and all is in order");
    assert!(stops > 0, "the ring of 4 completions never overflowed");
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 16);
    let (from, mut to) = sockets();
    let many = ring.submit(ReadMulti::new(from, &buffers))?;
    to.write_all(b"before")?;
    ring.submit_and_wait(1)?;
    assert!(matches!(ring.try_next(&many)?, Next::Item(Ok(lease)) if *lease == *b"before"));
    assert!(matches!(ring.try_next(&many)?, Next::Pending));
    ring.cancel(&many)?;
    assert!(ring.next(&many)?.is_none());
    let ended = ring.wait(many)?;
    assert!(matches!(ended.how, Ending::Cancelled));
    to.write_all(b"after")?;
    assert_eq!(receive(&mut ring, &ended.fd, &buffers).as_deref(), Some(&b"after"[..]));
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn cannot_be_polled() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 16);
    let many = ring.submit(ReadMulti::new(File::open("/proc/self/exe")?, &buffers))?;
    assert!(ring.next(&many)?.is_none());
    let Ending::Failed(error) = ring.wait(many)?.how else { panic!("it cannot be polled") };
    assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    all_are_back(&mut ring, &buffers);
    Ok(())
}

/// A pipe, and the read on it, if there is one.
struct Source {
    to: PipeWriter,
    from: Option<PipeReader>,
    many: Option<Ticket<ReadMulti<PipeReader>>>,
}

impl Source {
    fn new() -> Self {
        let (from, to) = pipe();
        Self { to, from: Some(from), many: None }
    }

    /// Takes a lease, if one has come, or begins to read.
    fn take(&mut self, ring: &mut Ring, buffers: &BufRing) -> Option<BufLease> {
        let Some(many) = self.many.take() else {
            let from = self.from.take().expect("it is here while nothing reads from it");
            self.many = Some(ring.submit(ReadMulti::new(from, buffers)).expect("a free slot"));
            ring.submit_all().expect("submit");
            return None;
        };
        match ring.try_next(&many).expect("next") {
            Next::Item(lease) => {
                self.many = Some(many);
                Some(lease.expect("a buffer"))
            }
            Next::Pending => {
                self.many = Some(many);
                None
            }
            Next::Ended => {
                self.from = Some(ring.wait(many).expect("wait").fd);
                None
            }
        }
    }

    /// Stops reading, one way or the other.
    fn stop(&mut self, ring: &mut Ring, random: &mut Random) {
        let Some(many) = self.many.take() else { return };
        if random.below(2) == 0 {
            ring.cancel(&many).expect("cancel");
            self.many = Some(many);
        } else {
            ring.cancel(&many).expect("cancel");
            ring.detach(many);
            *self = Self::new();
        }
    }
}

/// BR1: whatever is read, held, dropped, cancelled and detached, no other operation gets the buffer
/// of a lease while it lives, and in the end every buffer is back.
fn random_use() -> Result<(), Failed> {
    for seed in 0..20 {
        let mut ring = ring();
        let buffers = buffers(&mut ring, 8, 16);
        let mut random = Random(seed);
        let mut sources: Vec<Source> = std::iter::repeat_with(Source::new).take(3).collect();
        let mut held: Vec<(BufLease, u8)> = Vec::new();
        for step in 0..400_u32 {
            let source = &mut sources[random.below(3)];
            match random.below(16) {
                0..6 => {
                    let len = 1 + random.below(24);
                    source.to.write_all(&vec![0xff; len])?;
                }
                6..11 => {
                    if let Some(mut lease) = source.take(&mut ring, &buffers) {
                        assert!(lease.iter().all(|&byte| byte == 0xff), "seed {seed}, {step}");
                        let mark = step.to_le_bytes()[0] & 0x7f;
                        lease.fill(mark);
                        held.push((lease, mark));
                    }
                }
                11..15 if !held.is_empty() => {
                    let (lease, mark) = held.swap_remove(random.below(held.len()));
                    let untouched = lease.iter().all(|&byte| byte == mark);
                    assert!(untouched, "BR1: seed {seed}, step {step}: {lease:?} for {mark}");
                }
                15 => source.stop(&mut ring, &mut random),
                _ => drop(ring.reap(|_| ())?),
            }
            let places: BTreeSet<usize> =
                held.iter().map(|(lease, _)| lease.as_ptr().addr()).collect();
            assert_eq!(places.len(), held.len(), "BR1: seed {seed}, step {step}");
        }
        for source in sources {
            source.many.into_iter().for_each(|many| {
                ring.cancel(&many).expect("cancel");
                ring.detach(many);
            });
        }
        drop(held);
        record(&mut ring);
        all_are_back(&mut ring, &buffers);
    }
    Ok(())
}
