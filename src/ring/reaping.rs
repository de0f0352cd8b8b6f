//! Reaping: what has completed is settled in its slot, then shown, or kept to be shown.
//!
//! ```text
//!   completion ─► consumed ─► slot settled ─┬─► each(Event)          reap
//!                                           └─► backlog              a wait for another
//! ```
//!
//! In this order: so whatever `each` does, nothing is lost and nothing comes twice.
//!
//! Keeps OP2 and OP3. Leaves to others: which completion is whose (`inflight`).

use annulus_sys::abi::Cqe;

use crate::backlog::Backlog;
use crate::error::EnterError;
use crate::event::{Event, result_of};
use crate::inflight::{Settled, Slab};
use crate::own::Own;
use crate::ring::Ring;

impl<U: Default> Ring<U> {
    /// Shows every event there is to `each`, and returns how many. Each is consumed, and its slot
    /// in order, before `each` sees it: so `each` may panic, and nothing is lost or repeated. What
    /// is of operations that were [given up](Self::detach) is consumed too, and neither shown nor
    /// counted, not even their end.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking for what the kernel holds back; `each` has seen what came before.
    #[inline]
    pub fn reap(&mut self, mut each: impl FnMut(Event<'_, U>)) -> Result<u32, EnterError> {
        let mut count = 0;
        if !self.backlog.is_empty() {
            count = self.reap_backlog(&mut each);
        }
        let Self { raw, slab, backlog, own, .. } = self;
        let (mut total, mut hidden, mut asked) = (0, 0, false);
        loop {
            // Its own closure each time, so that what it needs stays in registers.
            let taken = raw.rings_mut().cq().drain_counting(|cqe, endless| {
                if let Some((slot, user)) = slab.settle_plain(cqe) {
                    return each(Event::Ended { user, slot, result: result_of(cqe.res) });
                }
                endless.note(cqe.flags); // What was plain has no `MORE`.
                let settled = slab.settle_parts(cqe.user_data, cqe.res, cqe.flags.bits());
                hidden += u32::from(!show(slab, backlog, own, settled, &mut each));
            });
            total += taken;
            if !raw.may_bring_more(total, taken, &mut asked)? {
                break;
            }
        }
        count += total - hidden;
        if !self.backlog.is_empty() {
            count += self.reap_backlog(&mut each);
        }
        let own = &mut self.own;
        if own.has_mail() {
            while let Some(message) = own.next_mail() {
                each(Event::Message(message));
                count += 1;
            }
        }
        self.serve();
        Ok(count)
    }

    /// Shows what was kept.
    #[cold]
    fn reap_backlog(&mut self, each: &mut impl FnMut(Event<'_, U>)) -> u32 {
        let mut count = 0;
        while let Some(settled) = self.backlog.pop(&mut self.slab) {
            let Self { slab, backlog, own, .. } = self;
            count += u32::from(show(slab, backlog, own, settled, each));
        }
        count
    }

    /// Takes every completion there is, and keeps what is to be shown or taken later. The end of
    /// the operation in slot `quiet` is not kept: its ticket is about to be redeemed.
    pub(crate) fn pull(&mut self, quiet: Option<u32>) -> Result<(), EnterError> {
        let Self { raw, slab, backlog, own, .. } = self;
        let (mut total, mut asked) = (0, false);
        loop {
            let each = |cqe| keep(slab, backlog, own, cqe, quiet);
            let taken = raw.rings_mut().cq().drain(each);
            total += taken;
            if !raw.may_bring_more(total, taken, &mut asked)? {
                break;
            }
        }
        while let Some(message) = own.next_mail() {
            backlog.push(slab, Settled::Message(message));
        }
        Ok(())
    }
}

/// Shows one settled completion, and says whether there was anything to show. The end after a last
/// shot is kept first, and shown with what is kept: so a panic at the shot does not lose it.
#[cold]
fn show<U: Default>(
    slab: &mut Slab<U>,
    backlog: &mut Backlog,
    own: &mut Own,
    settled: Settled,
    each: &mut impl FnMut(Event<'_, U>),
) -> bool {
    match settled {
        Settled::Ended(slot) => {
            let result = result_of(slab.result(slot));
            each(Event::Ended { user: slab.user(slot), slot, result });
        }
        Settled::Shot(slot, shot) => each(Event::Shot { user: slab.user(slot), slot, shot }),
        Settled::Last(slot, shot) => {
            backlog.push(slab, Settled::Ended(slot));
            each(Event::Shot { user: slab.user(slot), slot, shot });
        }
        Settled::Message(message) => each(Event::Message(message)),
        Settled::Raw(cqe) => each(Event::Raw(cqe)),
        Settled::Own(word, res) => {
            own.completed(word, res);
            return false;
        }
        Settled::Nothing => return false,
    }
    true
}

/// Settles `cqe`, and keeps what is to be shown or taken later.
fn keep<U: Default>(
    slab: &mut Slab<U>,
    backlog: &mut Backlog,
    own: &mut Own,
    cqe: Cqe,
    quiet: Option<u32>,
) {
    match slab.settle(cqe) {
        Settled::Own(word, res) => own.completed(word, res),
        Settled::Nothing => {}
        Settled::Ended(slot) if quiet == Some(slot) => {}
        Settled::Last(slot, shot) => {
            backlog.push(slab, Settled::Shot(slot, shot));
            if quiet != Some(slot) {
                backlog.push(slab, Settled::Ended(slot));
            }
        }
        settled => backlog.push(slab, settled),
    }
}
