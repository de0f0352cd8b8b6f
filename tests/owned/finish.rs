//! How a ring ends: dropped at once, after a timeout, or by a panic; and what is left then.
//!
//! The outputs of completed operations are dropped, once. The rest is leaked and stays where it is
//! (RG1), because the kernel goes on writing there for a while.

use std::mem;
use std::panic::panic_any;
use std::time::Duration;

use annulus::Event;

use super::ledger::{Claim, Cut};
use super::program::{Program, Rig};
use super::world::OnPurpose;

/// Long enough for any shutdown.
const PATIENT: Duration = Duration::from_secs(60);

impl Program {
    /// Ends all rings.
    pub fn finish(&mut self) {
        while let Some(at) = self.chance.place(self.rigs.len()) {
            if self.rigs[at].stays == 0 && self.chance.one_in(3) {
                self.come_to_rest(at);
            }
            let rig = self.rigs.swap_remove(at);
            let number = rig.number;
            let cut = self.end(*rig);
            self.world.close(number, cut);
            self.world.go_on(number);
            self.check();
        }
        // Leases outlive their rings.
        while !self.leases.borrow().is_empty() {
            self.return_lease(0);
        }
        for number in 0..self.world.count() {
            self.world.go_on(number);
        }
        self.check();
    }

    /// Waits for all operations, until there is nothing left to wait for.
    fn come_to_rest(&mut self, at: usize) {
        let number = self.rigs[at].number;
        let mut rounds = 10_000;
        while !(self.world.is_quiet(number) && self.rigs[at].claims.is_empty()) {
            self.wait_for(at, None);
            let reaped = super::world::risky(|| {
                let ring = &mut self.rigs[at].ring;
                let submitted = ring.submit_all().and_then(|_| {
                    ring.reap(|event| {
                        if let Event::Output(mut output) = event
                            && let Some(id) = output.user().op()
                        {
                            self.world.claim(id, Claim::Gone);
                        }
                    })
                });
                submitted.map_err(super::program::expected)
            });
            assert!(reaped.is_ok(), "nothing is armed");
            self.world.interrupt(number);
            rounds -= 1;
            assert!(rounds > 0, "the ring does not come to rest");
        }
        assert_eq!(self.rigs[at].ring.in_flight(), 0);
        while !self.leases.borrow().is_empty() {
            self.return_lease(0);
        }
        let forgotten = self.world.slots_taken(number);
        assert_eq!(self.rigs[at].ring.vacant() as usize + forgotten, {
            self.rigs[at].ring.raw().cq_entries() as usize
        });
        // An operation of the other ring may hold a lease of this one.
        self.given.retain(|&(_, id)| !self.world.is_over(id));
        if forgotten == 0 && self.given.is_empty() {
            assert_eq!(self.world.given(number), 0, "BR1: every buffer is on offer");
        }
    }

    fn end(&mut self, rig: Rig) -> Cut {
        let Rig { number, mut ring, claims, buffers, stays, .. } = rig;
        let is_late = self.chance.one_in(2);
        let (before, after) = if is_late { (None, Some(claims)) } else { (Some(claims), None) };
        drop(before);
        let timeout = if stays == 0 && self.chance.one_in(2) {
            PATIENT
        } else {
            Duration::from_micros(u64::from(self.chance.below(2) * 300))
        };
        ring.set_drop_timeout(timeout);
        let kind = self.chance.below(4);
        let ended = self.risk(|it| match kind {
            0 => {
                let shut = ring.shutdown(timeout);
                let left = it.world.in_flight(number);
                match shut {
                    Ok(()) => assert_eq!(left, 0, "nothing was to be left"),
                    Err(undrained) => assert!(undrained.in_flight as usize >= left),
                }
            }
            1 => {
                let _ring = ring;
                panic_any(OnPurpose);
            }
            _ => drop(ring),
        });
        if timeout == PATIENT && ended.is_ok() {
            assert_eq!(self.world.in_flight(number), 0, "it was patient, and left something");
        }
        drop(buffers);
        for claim in after.into_iter().flatten() {
            claim.ids().iter().for_each(|&id| self.world.claim(id, Claim::Forgotten));
            mem::drop(claim);
        }
        if ended.is_err() && kind != 1 { Cut::Yes } else { Cut::No }
    }
}
