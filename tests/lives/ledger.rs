//! The ledger of a life: which operations were submitted, how they ended, and what that means for
//! their stream.
//!
//! ```text
//!   shipped ──► ended ──► redeemed            its last completion was consumed; its output taken
//!      │            └───► abandoned           its output will never be known
//!      └──► refused
//! ```

use std::io::Write as _;

use annulus::Rejection;

use crate::claims::{About, Claim, Manner, Whose, refusable};
use crate::world::World;

impl World {
    /// Logs a step.
    pub fn say(&self, what: impl FnOnce() -> String) {
        let what = what();
        if self.tells {
            // Not captured by the test harness, which would never print the output of a life that
            // hangs.
            let _ = writeln!(std::io::stderr(), "  {what}");
        }
        self.log.borrow_mut().push(what);
    }

    pub fn note_ship(&self, about: &About, manner: Manner) {
        let About { number, kind, whose, .. } = about;
        self.say(|| format!("{number}: {kind} {manner:?} {whose:?}"));
    }

    pub fn count_shipped(&self, about: &About, manner: Manner) {
        self.tally.borrow_mut().shipped(about.kind, manner);
    }

    pub fn shipped(&mut self, claim: Box<dyn Claim>, manner: Manner) {
        self.count_shipped(claim.about(), manner);
        self.claims.push(claim);
    }

    /// It was refused.
    pub fn refused(&mut self, about: &About, why: Rejection) {
        refusable(why);
        self.say(|| format!("refused: {why}"));
        self.tally.borrow_mut().refused(about.kind);
        self.ended(about);
        self.redeemed(about);
    }

    /// It failed, with a valid error.
    pub fn failed(&self, about: &About, error: &std::io::Error) {
        let (number, kind) = (about.number, about.kind);
        let known = [
            libc::ECANCELED,
            libc::EINTR,
            libc::ENOBUFS,
            libc::EAGAIN,
            libc::EINVAL,
            libc::EOPNOTSUPP,
            libc::ENFILE,
            libc::EPIPE,
            libc::ECONNRESET,
            libc::EBADFD,
        ];
        let code = error.raw_os_error();
        let words = error.to_string().contains("make them larger");
        let fails = words || code.is_some_and(|code| known.contains(&code));
        assert!(fails, "operation {number} ({kind}) failed: {error}");
        self.say(|| format!("{number} failed: {error}"));
        self.tally.borrow_mut().failed(about.kind, code.unwrap_or(0));
    }

    /// Its last completion was consumed: another may begin on its stream.
    pub fn ended(&mut self, about: &About) {
        about.ended.set(true);
        let number = Some(about.number);
        match about.whose {
            Whose::Inward(key) => {
                let inward = self.inward.iter_mut().find(|inward| inward.key == key);
                if let Some(inward) = inward.filter(|inward| inward.busy == number) {
                    inward.busy = None;
                }
            }
            Whose::Outward(_) | Whose::Listener | Whose::Nobody => {}
        }
    }

    /// It was redeemed, or refused.
    pub fn redeemed(&mut self, about: &About) {
        match about.whose {
            Whose::Inward(key) => {
                if let Some(inward) = self.inward_of(key) {
                    inward.close_entry(about.number);
                }
            }
            Whose::Outward(key) => {
                if let Some(outward) = self.outward.iter_mut().find(|outward| outward.key == key) {
                    outward.busy = None;
                }
            }
            Whose::Listener | Whose::Nobody => {}
        }
    }

    /// Its output will never be known.
    pub fn abandoned(&mut self, about: &About) {
        match about.whose {
            Whose::Inward(key) => {
                if let Some(inward) = self.inward_of(key) {
                    inward.hang_up();
                }
                if self.inward.len() < 10 {
                    self.add_inward();
                }
            }
            Whose::Outward(key) => {
                if let Some(outward) = self.outward.iter_mut().find(|outward| outward.key == key) {
                    outward.adrift = true;
                }
                if self.outward.len() < 6 {
                    self.add_outward();
                }
            }
            Whose::Listener => {
                if let Some(listener) = &mut self.listener {
                    listener.adrift = true;
                }
            }
            Whose::Nobody => {}
        }
    }
}
