//! Futexes: requests that wait at words of the process, and who wakes them.
//!
//! ```text
//!   FUTEX_WAIT ─► is the value there? ─ no ─► EAGAIN
//!                   │ yes
//!                   ▼
//!            waits at its words ◄── woken by a FUTEX_WAKE, or by `Sim::wake_futex`
//! ```
//!
//! A thread in `futex(2)` is not woken, and wakes nobody. Those that wait at one word are woken in
//! the order in which they came.
#![allow(unsafe_code, reason = "reads futex words")]

use std::ptr::{self, NonNull};

use annulus_sys::flags_futex::FUTEX_MATCH_ANY;
use annulus_sys::orderings::{AtomicU32, Observed};

use super::Sim;
use super::block::is_mapped;
use super::request::{Futex, FutexJob, Job};
use super::run::Try;
use super::state::{Due, State};
use super::trace::RequestId;
use super::waiting::Waiter;

impl State {
    /// Waits, or wakes.
    pub(super) fn try_futex(&mut self, id: RequestId, job: FutexJob) -> Try {
        match job {
            FutexJob::Wait { words, mask, is_list } => {
                let mut woken = self.futexes.woken.iter();
                if let Some(&(_, index)) = woken.find(|woken| woken.0 == id) {
                    let index = i32::try_from(index).expect("at most 128");
                    return Try::Ends(if is_list { index } else { 0 });
                }
                if !self.futexes.has(id) {
                    // The words may be gone when no account is true any more.
                    let checked =
                        if self.is_sound() { check(&words, mask) } else { Err(libc::EAGAIN) };
                    if let Err(errno) = checked {
                        return Try::Ends(-errno);
                    }
                    let waiter = |(index, &(word, _))| Waiter { word, mask, id, index };
                    self.futexes.waiters.extend(words.iter().enumerate().map(waiter));
                }
                Try::Sleeps
            }
            FutexJob::Wake { mask: 0, .. } => Try::Ends(-libc::EINVAL),
            FutexJob::Wake { word, count, mask } => {
                if let Err(errno) = find(word) {
                    return Try::Ends(-errno);
                }
                // A negative count wakes one, too.
                let most = usize::try_from(count).unwrap_or(1);
                let woken = self.wake_all(most, mask, |other| other == word);
                Try::Ends(i32::try_from(woken).expect("few"))
            }
        }
    }

    /// Wakes requests, and lets them run. Returns how many words it found.
    fn wake_all(&mut self, most: usize, mask: u32, is_it: impl Fn(Futex) -> bool) -> usize {
        let (count, ids) = self.futexes.wake(most, mask, is_it);
        for id in ids {
            let delay = self.delay();
            self.schedule(delay, Due::Run(id));
        }
        count
    }

    /// Whether the request waits at a futex, so that no worker thread can have it.
    pub(super) fn is_at_futex(&self, id: RequestId) -> bool {
        matches!(self.requests[&id].job, Job::Futex(_)) && self.futexes.has(id)
    }
}

impl Sim {
    /// Wakes up to `count` requests that wait at a futex word, as another thread would. Returns how
    /// many. Both those find it that are private to the process and those that are not.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::sim::Sim;
    /// use annulus::{Setup, op};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use std::time::Duration;
    ///
    /// let sim = Sim::new(1);
    /// let mut ring = Setup::new(8).kernel(sim.kernel()).build()?;
    /// let word = Arc::new(AtomicU32::new(0));
    /// let wait = ring.submit(op::FutexWait::new(Arc::clone(&word), 0))?;
    /// sim.after(Duration::from_secs(1), move |sim| {
    ///     word.store(1, Ordering::Release);
    ///     assert_eq!(sim.wake_futex(&word, 1), 1);
    /// });
    /// ring.wait(wait)?.ok()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wake_futex(&self, word: &AtomicU32, count: u32) -> u32 {
        let address = ptr::from_ref(word).addr() as u64;
        let mut state = self.state();
        state.find_closed_rings();
        state.look();
        let is_it = |other: Futex| other.address == address;
        let woken = state.wake_all(count as usize, FUTEX_MATCH_ANY, is_it);
        u32::try_from(woken).expect("at most `count`")
    }
}

/// Whether there is such a word. One that is private need not be there.
fn find(word: Futex) -> Result<(), i32> {
    match word.address % 4 {
        0 if word.is_private || is_mapped(word.address, 4) => Ok(()),
        0 => Err(libc::EFAULT),
        _ => Err(libc::EINVAL),
    }
}

/// Whether a wait at these words begins: each has its value.
fn check(words: &[(Futex, u32)], mask: u32) -> Result<(), i32> {
    if mask == 0 {
        return Err(libc::EINVAL);
    }
    words.iter().try_for_each(|&(word, _)| find(word))?;
    for &(word, value) in words {
        let at = usize::try_from(word.address).expect("64 bits");
        let at = ptr::with_exposed_provenance_mut::<AtomicU32>(at);
        let at = NonNull::new(at).filter(|_| is_mapped(word.address, 4)).ok_or(libc::EFAULT)?;
        // SAFETY: a live word, which is only used atomically, as the program vouched (OP1).
        let observed = unsafe { Observed::new(at) };
        if observed.observe() != annulus_sys::index::Index::from_raw(value) {
            return Err(libc::EAGAIN);
        }
    }
    Ok(())
}
