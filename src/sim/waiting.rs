//! Who waits at futexes, and who was woken.

use super::request::Futex;
use super::trace::RequestId;

/// A request that waits at a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) word: Futex,
    pub(super) mask: u32,
    pub(super) id: RequestId,
    /// Which of its words this is.
    pub(super) index: usize,
}

/// Who waits at words, and who was woken.
#[derive(Debug, Default)]
pub(super) struct Futexes {
    pub(super) waiters: Vec<Waiter>,
    /// The requests that were woken and have not run since, with the index of the word.
    pub(super) woken: Vec<(RequestId, usize)>,
}

impl Futexes {
    /// Whether the request waits, or was woken.
    pub(super) fn has(&self, id: RequestId) -> bool {
        self.waiters.iter().any(|waiter| waiter.id == id) || self.is_woken(id)
    }

    pub(super) fn is_woken(&self, id: RequestId) -> bool {
        self.woken.iter().any(|&(woken, _)| woken == id)
    }

    /// The request has ended.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.waiters.retain(|waiter| waiter.id != id);
        self.woken.retain(|&(woken, _)| woken != id);
    }

    /// Finds up to `count` that wait at a word, those first that came first. Returns how many, and
    /// the requests that are to run. A request that was woken at one of its words is still found at
    /// the others until it has run, as on Linux (`io_futex_wakev_fn`, v6.18).
    pub(super) fn wake(
        &mut self,
        count: usize,
        mask: u32,
        is_it: impl Fn(Futex) -> bool,
    ) -> (usize, Vec<RequestId>) {
        let matches = |waiter: &Waiter| is_it(waiter.word) && waiter.mask & mask != 0;
        let (mut found, mut ids) = (0, Vec::new());
        let woken = &mut self.woken;
        self.waiters.retain(|waiter| {
            if found == count || !matches(waiter) {
                return true;
            }
            found += 1;
            if woken.iter().any(|&(id, _)| id == waiter.id) {
                return true;
            }
            woken.push((waiter.id, waiter.index));
            ids.push(waiter.id);
            false
        });
        (found, ids)
    }
}
