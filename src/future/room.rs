//! Who gets the next free slot of the ring: tasks that found none, first come, first served.
//!
//! ```text
//!   enter ─► [ 7 ][ 8 ][ 9 ] ── a slot is free ──► 7 is granted ── polled ──► it submits
//!               └── dropped: leaves the line, or gives its grant to the next one
//! ```
//!
//! Numbers only grow, so whoever has a number below the last one granted, and has not used it, has
//! a slot that is kept for it. So a task that has just freed a slot cannot take it again before
//! those that wait.

use std::collections::VecDeque;
use std::task::Waker;

/// A place in the line.
pub(super) type Place = u64;

#[derive(Debug, Default)]
pub(super) struct Room {
    line: VecDeque<(Place, Waker)>,
    next: Place,
    /// Places below this one are granted, used or gone.
    granted_below: Place,
    /// How many are granted and not used yet.
    granted: u32,
}

impl Room {
    /// Whether an operation may begin now, of a task with this place or with none. `has` says
    /// whether so many slots are vacant. Uses a grant.
    pub(super) fn may_begin(
        &mut self,
        place: Option<Place>,
        has: impl FnOnce(u32) -> bool,
    ) -> bool {
        match place {
            Some(place) if place < self.granted_below => {
                self.granted -= 1;
                true
            }
            Some(_) => false,
            None => self.line.is_empty() && has(self.granted + 1),
        }
    }

    /// Enters the line, or stays at a place there. Returns the waker that was there before.
    pub(super) fn wait(&mut self, place: Option<Place>, waker: Waker) -> (Place, Option<Waker>) {
        if let Some(at) = place.and_then(|place| self.find(place)) {
            let (place, before) = &mut self.line[at];
            return (*place, Some(std::mem::replace(before, waker)));
        }
        let place = self.next;
        self.next += 1;
        self.line.push_back((place, waker));
        (place, None)
    }

    /// Grants a slot to the first in the line, if there is one for it. `has` says whether so many
    /// slots are vacant.
    pub(super) fn grant(&mut self, has: impl FnOnce(u32) -> bool) -> Option<Waker> {
        if self.line.is_empty() || !has(self.granted + 1) {
            return None;
        }
        let (place, waker) = self.line.pop_front()?;
        self.granted_below = place + 1;
        self.granted += 1;
        Some(waker)
    }

    /// Leaves the line, or gives a grant up.
    pub(super) fn leave(&mut self, place: Place) -> Option<Waker> {
        if place < self.granted_below {
            self.granted -= 1;
            return None;
        }
        let at = self.find(place)?;
        self.line.remove(at).map(|(_, waker)| waker)
    }

    fn find(&self, place: Place) -> Option<usize> {
        self.line.binary_search_by_key(&place, |&(place, _)| place).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_comes_first_and_a_grant_is_used_once() {
        let (mut room, waker) = (Room::default(), || Waker::noop().clone());
        let (none, one) = (|_| false, |count| count <= 1);
        assert!(room.may_begin(None, one) && !room.may_begin(None, none));
        let [first, second, third] = [(); 3].map(|()| room.wait(None, waker()).0);
        assert!(!room.may_begin(None, one), "others wait");
        assert!(room.grant(none).is_none());
        assert!(room.grant(one).is_some() && room.grant(one).is_none());
        assert!(!room.may_begin(Some(second), one));
        assert!(room.leave(second).is_some());
        assert!(room.leave(first).is_none(), "granted, and gone");
        assert!(room.grant(one).is_some());
        assert!(room.may_begin(Some(third), one) && room.may_begin(None, one));
    }
}
