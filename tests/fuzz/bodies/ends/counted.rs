//! A raw ring whose completions overflow, and which is resized at times: each entry completes once,
//! a submit asks for what overflows (CQ5), and nothing else counts as an overflow.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd};

use annulus::sim::trace::What;
use annulus::sim::{Faults, Sim};
use annulus::sys::flags::{SetupFlags, SqRingFlags};
use annulus::{RawRing, Setup, prep};

use crate::bodies::chance::Chance;

/// One ring, and what was pushed.
struct Counted {
    sim: Sim,
    ring: RawRing,
    cq_entries: u32,
    pushed: u64,
    /// What has not completed.
    left: BTreeSet<u64>,
    /// What is polled, which the outside makes ready.
    pipes: Vec<(OwnedFd, OwnedFd)>,
}

/// One program.
pub fn run(chance: &mut Chance) {
    let sim = Sim::with_faults(chance.half().into(), Faults::NONE);
    let defers = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN | SetupFlags::NO_SQARRAY;
    let coop = SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG;
    let flags = [defers, defers | SetupFlags::TASKRUN_FLAG, SetupFlags::empty(), coop];
    let setup = Setup::plain(4).with(chance.among(&flags)).cq_entries(chance.among(&[4, 8]));
    let ring = setup.kernel(sim.kernel()).build_raw().expect("a ring");
    let cq_entries = ring.cq_entries();
    let (left, pipes) = (BTreeSet::new(), Vec::new());
    let mut counted = Counted { sim, ring, cq_entries, pushed: 0, left, pipes };
    for _ in 0..80 {
        if chance.is_used_up() {
            break;
        }
        counted.step(chance);
        counted.check();
    }
    counted.end();
}

impl Counted {
    fn step(&mut self, chance: &mut Chance) {
        match chance.below(9) {
            0..3 => self.push(prep::nop()),
            3 => self.poll(),
            4 => self.submit(),
            5 => self.pop(chance.below(4)),
            6 => self.resize(chance.among(&[2, 4, 8]), chance.among(&[4, 8, 16])),
            7 => {
                if let Some((_, writer)) = self.pipes.pop() {
                    let _ = self.sim.write(&writer, b"!");
                }
            }
            _ => {
                self.ring.get_events().expect("no fault");
            }
        }
    }

    /// Pushes an entry, if there is room.
    fn push(&mut self, sqe: annulus_sys::abi::Sqe) {
        let sqe = sqe.with_user_data(self.pushed + 1);
        // SAFETY: a NOP and a poll point to nothing (OP1).
        if unsafe { self.ring.push(sqe) }.is_ok() {
            self.pushed += 1;
            self.left.insert(self.pushed);
        }
    }

    fn poll(&mut self) {
        let (reader, writer) = self.sim.pipe().expect("descriptors");
        self.push(prep::poll_add(reader.as_raw_fd(), libc::POLLIN.cast_unsigned().into()));
        self.pipes.push((reader, writer));
    }

    /// What overflows is asked for, if the call enters at all and there is room.
    fn submit(&mut self) {
        let submitted = self.ring.submit().expect("no fault");
        let is_held = self.ring.sq_flags().contains(SqRingFlags::CQ_OVERFLOW);
        let is_full = self.ring.ready() == self.cq_entries;
        assert!(submitted == 0 || !is_held || is_full, "CQ5: what overflows is not asked for");
    }

    fn pop(&mut self, most: u32) {
        for _ in 0..most {
            let Some(cqe) = self.ring.pop() else { return };
            assert!(self.left.remove(&cqe.user_data), "CQ5: {} completes twice", cqe.user_data);
        }
    }

    /// What is written and not published moves along.
    fn resize(&mut self, entries: u32, cq_entries: u32) {
        if self.ring.resize(entries, Some(cq_entries)).is_ok() {
            self.cq_entries = self.ring.cq_entries();
        }
    }

    fn check(&mut self) {
        self.sim.check();
        let overflows = |what: &What| matches!(what, What::Overflowed(_));
        if self.ring.stats().overflows > 0 {
            let is_one = self.sim.trace().iter().any(|record| overflows(&record.what));
            assert!(is_one, "counts an overflow that there was not");
        }
    }

    /// Everything completes.
    fn end(mut self) {
        for (_, writer) in std::mem::take(&mut self.pipes) {
            let _ = self.sim.write(&writer, b"!");
        }
        for _ in 0..200 {
            self.submit();
            self.ring.get_events().expect("no fault");
            self.pop(u32::MAX);
        }
        // A poll whose pipe is gone never completes; a pipe goes when it was made ready.
        assert!(self.left.is_empty(), "SQ1: not completed: {:?}", self.left);
    }
}
