//! A lane, in a child that has a copy of it.

use std::io::Write as _;

use annulus::op::{Nop, Read};
use annulus::{Lane, Rejection, Setup};

use super::{MOMENT, end_if_forked, fork_here, in_a_child, refused};
use crate::harness::patient;
use crate::processes::{pipe, ring_maps};

pub fn calls_everything() {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut lane: Lane<_, u32> = patient(|| setup.build_lane()).expect("a lane");
        let (from, mut to) = pipe();
        let key = lane.submit(Read::new(from, [0; 4]), 5).expect("submit");
        lane.submit_all().expect("submit");
        let mut shared = Some(lane);
        in_a_child("a lane", || {
            let mut lane = shared.take().expect("the child's own");
            let rejected = lane.submit(Read::new(pipe().0, [7; 4]), 9).expect_err("a child");
            assert_eq!((rejected.why, rejected.user), (Rejection::OtherProcess, 9));
            let ops = [(Read::new(pipe().0, [7; 4]), 9)];
            let rejected = lane.submit_each(ops).expect_err("a child");
            assert_eq!((rejected.why, rejected.user), (Rejection::OtherProcess, 9));
            assert!(refused(lane.turn(0, |_, _| ())) && refused(lane.turn(1, |_, _| ())));
            assert!(refused(lane.turn(2, |_, _| ())) && refused(lane.reap(|_, _| ())));
            assert!(refused(lane.submit_all()) && refused(lane.cancel(&key)));
            assert!(refused(lane.submit_and_wait(0)) && refused(lane.submit_and_wait(1)));
            assert!(lane.shutdown(MOMENT).is_err(), "what is in flight is the parent's");
        });
        let mut lane = shared.take().expect("the child took its own");
        to.write_all(b"data").expect("room in the pipe");
        let mut seen = Vec::new();
        let turn = lane.turn(1, |user, read| seen.push((user, read.buf)));
        assert_eq!((turn, seen, lane.stale()), (Ok(1), vec![(5, *b"data")], 0));
    }
}

/// Takes outputs until the second; there it forks, and both processes go on.
pub fn comes_out_of_a_turn() {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut lane: Lane<Nop> = patient(|| setup.build_lane()).expect("a lane");
        lane.submit_each([(Nop, ()); 4]).expect("submit");
        lane.submit_and_wait(4).expect("wait");
        let maps = ring_maps();
        let (mut seen, mut occupied) = (0, None);
        let count = lane.reap(|(), _| {
            seen += 1;
            if seen == 2 {
                occupied = fork_here(&maps);
            }
        });
        end_if_forked("a lane", || {
            (seen, count) == (2, Ok(2)) && occupied.is_some_and(|holes| holes.is_unchanged())
        });
        assert_eq!((seen, count, lane.vacant()), (4, Ok(4), lane.raw().cq_entries()));
        // An iterator that forks: what it makes then is the child's, and goes nowhere.
        let mut forked = None;
        let ops = (0..3).map(|number| {
            if number == 1 {
                forked = fork_here(&maps);
            }
            (Nop, ())
        });
        let submitted = lane.submit_each(ops).map_err(|rejected| rejected.why);
        end_if_forked("submit_each", || {
            submitted == Err(Rejection::OtherProcess)
                && forked.is_some_and(|holes| holes.is_unchanged())
        });
        assert_eq!((submitted, lane.turn(3, |(), _| ())), (Ok(3), Ok(3)));
    }
}
