//! Claims: which operations in flight pick from a ring of buffers, and what they left behind.
//!
//! | operation | of buffers used whole | used in parts |
//! |---|---|---|
//! | picks one buffer, once | beside others | alone |
//! | picks one buffer, again and again | beside others | beside others of its kind |
//! | picks a bundle | alone | as one buffer |
//! | is forced, drained, or behind another in a chain | unless it picks a bundle | not at all |
//!
//! A completion of a part does not say where in its buffer the part begins, and one of a bundle
//! names the first buffer alone: both are understood by what was picked before. A worker thread of
//! the kernel's breaks that order, since it takes what it picks when it picks it, however little it
//! fills, and however late. The kernel may call one by itself for what completes once: when others
//! took the data from under it some 127 times (seen on every kernel that has parts, 6.12 to 7.3).
//! What completes many times was never seen to be moved so; but behind a drained entry the kernel
//! hands all that comes to workers, and there one that reads what cannot be polled without waiting
//! takes the rest of its buffer too. So none of these is submitted while a drain may hold.
//!
//! What is alone cannot be misunderstood; but more may be taken for it than a completion names.
//! Buffers that are lost so are found, and offered again,
//!
//! - when a completion names one that was offered later, since they are picked in order, and no
//!   other operation is in flight that may have picked it; and
//! - when an operation ends without data, and nothing is in flight: the kernel tells how many it
//!   has picked (`PBUF_STATUS`). So it is with what one names that fails while others are in
//!   flight: Linux 6.16 and 6.17 name a buffer that they have not picked yet.
//!
//! And where the kernel goes on in a buffer stands in that one's entry, to be read while nothing is
//! in flight.
//!
//! Keeps BR1. Leaves to others: the operations (`lease`), what a completion brings (`buf_ring`).
#![allow(unsafe_code, reason = "reads an entry that the kernel has written")]

use annulus_sys::groups::Group;

use super::Pool;
use super::place::With;

/// Whether an operation may pick from a ring of buffers beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lease) enum Share {
    /// Each completion names the one buffer that it is of.
    WithOthers,
    /// What a completion names is told by what was picked before it.
    Alone,
}

/// Whether buffers may be picked that no completion names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lease) enum Doubt {
    No,
    /// Where a worker thread may run the operation, or several are picked at once.
    Yes,
    /// And one that failed has named one, beside others.
    Named,
}

impl Pool {
    /// Counts an operation in flight that picks from here. Whether it may.
    pub(in crate::lease) fn claim(&self, share: Share, doubt: Doubt) -> bool {
        let others = self.claims.get();
        if others > 0 && (share == Share::Alone || self.share.get() == Share::Alone) {
            return false;
        }
        if others == 0 {
            self.catch_up();
        }
        self.claims.set(others + 1);
        self.share.set(share);
        if self.doubt.get() == Doubt::No {
            self.doubt.set(doubt);
        }
        true
    }

    /// An operation has ended, or never was.
    pub(in crate::lease) fn unclaim(&self) {
        self.claims.set(self.claims.get() - 1);
    }

    /// A completion names buffer `bid`: if they come in order, what was offered before that was
    /// picked, and comes in no completion.
    pub(super) fn pass_over(&self, bid: u16) {
        // With others in flight, a gap may be what one of them has picked, and has yet to fill.
        let in_order = self.is_alone() || self.is_used_in_parts();
        if !in_order || self.claims.get() > 1 || !self.is_with_kernel(bid) {
            return;
        }
        let turn = self.order.borrow().out_of_turn(bid);
        if let Some(turn) = turn {
            self.offer_again(turn);
        }
    }

    /// An operation has ended, with `result`. If it brought nothing, or another had named what was
    /// not its own, and no other is in flight, buffers come back that were picked, and that no
    /// completion has named.
    pub(in crate::lease) fn recover(&self, result: i32) {
        let doubted = match self.doubt.get() {
            Doubt::No => false,
            Doubt::Yes => result <= 0,
            Doubt::Named => true,
        };
        if doubted
            && self.claims.get() == 0
            && let Some(picked) = self.head()
        {
            self.doubt.set(Doubt::No);
            self.offer_again(picked);
        }
    }

    /// Offers again what the kernel has, by our books, of all that was offered before `turn`.
    fn offer_again(&self, turn: u16) {
        let places = self.places.borrow();
        let order = self.order.borrow();
        let lost: Vec<u16> = (0..=u16::MAX)
            .zip(places.iter())
            .filter(|(bid, place)| place.with == With::Kernel && order.is_before(*bid, turn))
            .map(|(bid, _)| bid)
            .collect();
        drop((places, order));
        for bid in lost {
            self.taken(1);
            let free = self.places.borrow_mut()[usize::from(bid)].give_up();
            if free {
                self.offer(bid);
            }
        }
    }

    /// Whether what is in flight, or was last, is an operation that is alone.
    pub(super) fn is_alone(&self) -> bool {
        self.share.get() == Share::Alone
    }

    /// With whom buffer `bid` is, by what the kernel says.
    pub(super) fn with_whom(&self, bid: u16) -> With {
        match self.head() {
            Some(picked) if self.order.borrow().is_before(bid, picked) => With::Us,
            Some(_) => With::Kernel,
            None => With::Lost,
        }
    }

    /// With whom buffer `bid` is, which a completion names that failed. Linux 6.16 and 6.17 name
    /// one that they have not picked, and go on to pick.
    pub(super) fn with_whom_failing(&self, bid: u16) -> With {
        let Some(head) = self.group.borrow().as_ref().map(Group::head) else { return With::Us };
        match head {
            _ if self.is_used_in_parts() => With::Kernel,
            Ok(picked) if !self.order.borrow().is_before(bid, picked) => With::Kernel,
            Ok(_) if self.claims.get() <= 1 => With::Us,
            // It, or another whose completion is yet to come.
            Ok(_) => {
                self.doubt.set(Doubt::Named);
                With::Kernel
            }
            // Linux before 6.8, which names what it has picked.
            Err(why) if why.is(libc::EINVAL) => With::Us,
            // We may not ask. What comes again may come; what does not is never offered again.
            Err(_) => With::Kernel,
        }
    }

    /// The buffer at the front, if a bundle has brought so many bytes and has named none, and the
    /// kernel has picked as many buffers as they fill.
    pub(super) fn unnamed(&self, result: i32) -> Option<u16> {
        let bytes = u32::try_from(result).ok().filter(|bytes| *bytes > 0)?;
        if !self.is_alone() || self.is_used_in_parts() {
            return None;
        }
        let picked = self.head()?;
        let order = self.order.borrow();
        let buffers = u32::from(picked.wrapping_sub(order.next_turn()));
        if buffers != bytes.div_ceil(self.each()) {
            return None;
        }
        let count = u16::try_from(self.count()).expect("BR1: a ring has at most 32768 entries");
        let at_front = |bid: &u16| self.is_with_kernel(*bid) && order.out_of_turn(*bid).is_none();
        (0..count).find(at_front)
    }

    /// Nothing is in flight that picks from here: goes on in the first buffer where the kernel
    /// does, which may have taken more than it filled.
    fn catch_up(&self) {
        let mut group = self.group.borrow_mut();
        let Some(group) = group.as_mut().filter(|_| self.is_used_in_parts()) else { return };
        // SAFETY: it does not leave this function, and the group does (BR2).
        let ring = unsafe { group.ring() };
        // SAFETY: no operation is in flight that picks from here, by our count (BR1).
        let Some(front) = (unsafe { ring.front() }) else { return };
        let mut places = self.places.borrow_mut();
        let Some(place) = places.get_mut(usize::from(front.bid)) else { return };
        let start = self.at(front.bid).as_ptr().expose_provenance() as u64;
        let into = front.addr.wrapping_sub(start);
        let Some(into) = u32::try_from(into).ok().filter(|into| *into <= self.each) else { return };
        if place.with == With::Kernel {
            assert!(into >= place.filled, "BR1: the kernel goes on before what it has filled");
            place.filled = into;
        }
    }

    fn is_with_kernel(&self, bid: u16) -> bool {
        let places = self.places.borrow();
        places.get(usize::from(bid)).is_some_and(|place| place.with == With::Kernel)
    }
}
