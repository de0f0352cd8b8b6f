//! Futexes: words in memory at which threads and rings wait, and wake each other.
//!
//! ```text
//!   a thread: word.store(1); wake ──┐
//!   a ring:   FutexWake::new(word) ─┤──► woken: FutexWait, FutexWaitV of this ring or another,
//!                                   │           a thread in futex(2)
//!             FutexWait::new(word, 0): while the word is 0
//! ```
//!
//! | operation | does | since |
//! |---|---|---|
//! | [`FutexWait`] | waits for a wake, unless the futex word has changed already | Linux 6.7 |
//! | [`FutexWaitV`] | waits at several futex words for the first wake: a [`FutexSet`] | Linux 6.7 |
//! | [`FutexWake`] | wakes waiters | Linux 6.7 |
//!
//! A futex word is an [`AtomicU32`] in memory that stays alive while
//! the kernel waits at it: in an `Arc`, or `'static`, or borrowed for a
//! [scope](crate::Ring::scope). The kernel reads the word, and never writes it. The program decides
//! what its values mean.
//!
//! Waits and wakes also work between processes, unless both are [`private`](FutexWait::private):
//! then the kernel need not look up which memory the word lies in. But some kernels (Linux 6.18 is
//! one) give a process its own table for private waits when it creates its second thread, or when
//! the kernel creates a worker thread for its ring, and lose the waits that exist already: the wake
//! finds none.
//!
//! A thread in `futex(2)` matches the operations without `private` if it does not use
//! `FUTEX_PRIVATE_FLAG`.
//!
//! Keeps OP1: the owner of the futex word lies in the operation, and so does the table of several
//! words.
#![allow(unsafe_code, reason = "writes entries that point to futex words")]

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use annulus_sys::abi::{FutexWaitv, Sqe};
use annulus_sys::flags_futex::{FUTEX_MATCH_ANY, FutexFlags};
use annulus_sys::orderings::AtomicU32;

use crate::op::{Done, Op, Outcome};
use crate::prep;

/// An owner of a futex word.
///
/// Safe to implement: the ring asks for the word when the owner is at its final address, and keeps
/// that borrow until the operation has ended (OP1).
///
/// # Example
///
/// ```
/// use annulus::op::FutexWord;
/// use std::sync::atomic::AtomicU32;
///
/// struct Driver { open: AtomicU32, opened: AtomicU32 }
///
/// impl FutexWord for Driver {
///     fn word(&self) -> &AtomicU32 {
///         &self.open
///     }
/// }
/// // An `Arc<Driver>` is now an owner of a futex word.
/// ```
pub trait FutexWord {
    /// The futex word, an [`AtomicU32`].
    fn word(&self) -> &AtomicU32;
}

impl FutexWord for AtomicU32 {
    fn word(&self) -> &AtomicU32 {
        self
    }
}

impl<T: FutexWord + ?Sized> FutexWord for &T {
    fn word(&self) -> &AtomicU32 {
        (**self).word()
    }
}

impl<T: FutexWord + ?Sized> FutexWord for Arc<T> {
    fn word(&self) -> &AtomicU32 {
        (**self).word()
    }
}

impl<T: FutexWord + ?Sized> FutexWord for Rc<T> {
    fn word(&self) -> &AtomicU32 {
        (**self).word()
    }
}

impl<T: FutexWord + ?Sized> FutexWord for Box<T> {
    fn word(&self) -> &AtomicU32 {
        (**self).word()
    }
}

/// The address of a futex word that stays in place.
fn addr(word: &impl FutexWord) -> u64 {
    std::ptr::from_ref(word.word()).expose_provenance() as u64
}

/// A futex word for all processes that share its memory.
const SHARED: FutexFlags = FutexFlags::SIZE_U32;

/// A futex word for this process only.
const PRIVATE: FutexFlags = SHARED.union(FutexFlags::PRIVATE);

/// Waits at a futex word as long as it has a value: `futex(2)`. Since Linux 6.7.
///
/// A store wakes nobody: whoever changes the word must wake, too. The locks of the standard library
/// use private futexes, whose wakes a shared wait does not hear; so a wait is for a word whose
/// wakes you know.
///
/// # Completion
///
/// Once, without a value, when it was woken. The waker need not have changed the word: load it.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; by its ticket, not by a file. In a chain, the next step still begins.
///
/// # Errors
///
/// `EAGAIN` when the word no longer has the value: then there is nothing to wait for. `EINVAL` for
/// a mask of 0, and before Linux 6.7.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{FutexWait, FutexWake};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// # if !annulus::Capabilities::detect()?.has_op(annulus::sys::opcode::Opcode::FUTEX_WAIT) {
/// #     return Ok(());
/// # }
/// let mut ring = Setup::new(4).build()?;
/// let word = Arc::new(AtomicU32::new(0));
/// let wait = ring.submit(FutexWait::new(Arc::clone(&word), 0))?;
/// ring.submit_all()?; // Now it waits.
/// word.store(1, Ordering::Release);
/// let wake = ring.submit(FutexWake::new(word, 1))?;
/// ring.wait(wait)?.result?;
/// assert_eq!(ring.wait(wake)?.result?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_FUTEX_WAIT", "io_uring_prep_futex_wait"))]
#[derive(Debug)]
pub struct FutexWait<W> {
    word: W,
    value: u32,
    mask: u32,
    flags: FutexFlags,
}

impl<W: FutexWord> FutexWait<W> {
    /// Waits at `word` as long as it is `value`, for a wake by this process, or by another process
    /// that shares the word's memory.
    pub fn new(word: W, value: u32) -> Self {
        Self { word, value, mask: FUTEX_MATCH_ANY, flags: SHARED }
    }

    /// Waits for wakes whose mask shares a bit with `mask`.
    #[doc(alias = "FUTEX_WAIT_BITSET")]
    pub fn mask(self, mask: u32) -> Self {
        Self { mask, ..self }
    }

    /// Waits for private wakes only: `FUTEX_PRIVATE_FLAG` of `futex(2)`. Cheaper.
    ///
    /// Some kernels (Linux 6.18 is one) never wake a private wait that began before the process
    /// created its second thread, or before the kernel created the first worker thread for its
    /// ring. So use this only where another thread existed before.
    #[doc(alias = "FUTEX2_PRIVATE")]
    pub fn private(self) -> Self {
        Self { flags: PRIVATE, ..self }
    }
}

// SAFETY: OP1: the address is of a futex word that is borrowed in place from its owner. It
// completes once, with a number.
unsafe impl<W: FutexWord> Op for FutexWait<W> {
    type Output = Outcome<(), (), W>;

    fn prep(&mut self) -> Sqe {
        prep::futex_wait(addr(&self.word), self.value.into(), self.mask.into(), self.flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: (), buf: self.word }
    }
}

/// Wakes waiters at a futex word: `futex(2)`. Since Linux 6.7. [`FutexWait`] has an example.
///
/// It counts threads and rings alike, and 0 is no error: nobody waited. A private waiter is found
/// only by a [`private`](Self::private) wake. Store the new value first, or the waiter finds the
/// old one and waits again.
///
/// # Completion
///
/// Once, with the number of waiters that were woken.
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
///
/// # Errors
///
/// `EINVAL` for a mask of 0, and before Linux 6.7.
#[doc(alias("IORING_OP_FUTEX_WAKE", "io_uring_prep_futex_wake"))]
#[derive(Debug)]
pub struct FutexWake<W> {
    word: W,
    count: u32,
    mask: u32,
    flags: FutexFlags,
}

impl<W: FutexWord> FutexWake<W> {
    /// Wakes up to `count` waiters at `word` that are not private. 0 wakes none, and more than
    /// `i32::MAX` wakes all.
    pub fn new(word: W, count: u32) -> Self {
        // The kernel reads the count as an `int`.
        let count = count.min(i32::MAX.cast_unsigned());
        Self { word, count, mask: FUTEX_MATCH_ANY, flags: SHARED }
    }

    /// Wakes only waiters whose mask shares a bit with `mask`.
    #[doc(alias = "FUTEX_WAKE_BITSET")]
    pub fn mask(self, mask: u32) -> Self {
        Self { mask, ..self }
    }

    /// Wakes private waiters only.
    #[doc(alias = "FUTEX2_PRIVATE")]
    pub fn private(self) -> Self {
        Self { flags: PRIVATE, ..self }
    }
}

// SAFETY: OP1: the address is of a futex word that is borrowed in place from its owner. It
// completes once, with a number.
unsafe impl<W: FutexWord> Op for FutexWake<W> {
    type Output = Outcome<u32, (), W>;

    fn prep(&mut self) -> Sqe {
        prep::futex_wake(addr(&self.word), self.count.into(), self.mask.into(), self.flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result(), fd: (), buf: self.word }
    }
}

/// Futex words for a [`FutexWaitV`], each with the value at which to wait.
#[derive(Debug)]
pub struct FutexSet<W> {
    words: Vec<W>,
    table: Vec<FutexWaitv>,
}

impl<W> Default for FutexSet<W> {
    fn default() -> Self {
        Self { words: Vec::new(), table: Vec::new() }
    }
}

impl<W: FutexWord> FutexSet<W> {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a word, to wait at as long as it is `value`, as [`FutexWait::new`] does.
    pub fn with(self, word: W, value: u32) -> Self {
        self.add(word, value, SHARED)
    }

    /// Adds a word for private wakes only: see [`FutexWait::private`] for the risk.
    pub fn with_private(self, word: W, value: u32) -> Self {
        self.add(word, value, PRIVATE)
    }

    fn add(mut self, word: W, value: u32, flags: FutexFlags) -> Self {
        self.words.push(word);
        let flags = flags.bits();
        self.table.push(FutexWaitv { val: value.into(), flags, ..FutexWaitv::default() });
        self
    }

    /// Sets the value at which to wait at the word at `index`, from the next wait on.
    ///
    /// # Panics
    ///
    /// If there is no such word.
    pub fn expect(&mut self, index: usize, value: u32) {
        self.table[index].val = value.into();
    }

    /// The futex words, in order.
    pub fn words(&self) -> &[W] {
        &self.words
    }
}

/// Waits at several futex words, as long as each has its value: `futex_waitv(2)`. Since Linux 6.7.
///
/// One wake at any of the words ends the wait at all of them. A wake that finds the wait no longer
/// there is not kept: load the other words, too.
///
/// # Completion
///
/// Once, with the index of a word that was woken; others may have been woken too.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; by its ticket, not by a file. In a chain, the next step still begins.
///
/// # Errors
///
/// `EAGAIN` when one of the words no longer has its value: load all of them. `EINVAL` for an empty
/// set, for one of more than [`annulus_sys::flags_futex::FUTEX_WAITV_MAX`] words,
/// and before Linux 6.7.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{FutexSet, FutexWaitV, FutexWake};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// # if !annulus::Capabilities::detect()?.has_op(annulus::sys::opcode::Opcode::FUTEX_WAITV) {
/// #     return Ok(());
/// # }
/// let mut ring = Setup::new(4).build()?;
/// let words = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
/// let set = FutexSet::new().with(Arc::clone(&words[0]), 0).with(Arc::clone(&words[1]), 0);
/// let wait = ring.submit(FutexWaitV::new(set))?;
/// ring.submit_all()?; // Now it waits.
/// words[1].store(1, Ordering::Release);
/// let wake = ring.submit(FutexWake::new(Arc::clone(&words[1]), 1))?;
/// assert_eq!(ring.wait(wake)?.result?, 1);
/// assert_eq!(ring.wait(wait)?.result?, 1); // The second word.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_FUTEX_WAITV", "io_uring_prep_futex_waitv"))]
#[derive(Debug)]
pub struct FutexWaitV<W> {
    set: FutexSet<W>,
}

impl<W: FutexWord> FutexWaitV<W> {
    /// Waits at the futex words of `set`.
    pub fn new(set: FutexSet<W>) -> Self {
        Self { set }
    }
}

// SAFETY: OP1: the address is of the table, which has no other owner; it names futex words that are
// borrowed from their owners, which lie next to it and are not touched. It completes once, with a
// number.
unsafe impl<W: FutexWord> Op for FutexWaitV<W> {
    type Output = Outcome<usize, (), FutexSet<W>>;

    fn prep(&mut self) -> Sqe {
        let FutexSet { words, table } = &mut self.set;
        for (word, place) in words.iter().zip(&mut *table) {
            place.uaddr = addr(word);
        }
        // A longer table gets a count that every kernel refuses.
        let count = u32::try_from(table.len()).unwrap_or(u32::MAX);
        prep::futex_waitv(table.as_ptr().expose_provenance() as u64, count)
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = done.result().and_then(|index| {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let known = index < self.set.words.len();
            known.then_some(index).ok_or_else(|| io::Error::other("the kernel named no such word"))
        });
        Outcome { result, fd: (), buf: self.set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses in the table of a set that stays where it is.
    fn addresses<W>(wait: &FutexWaitV<W>) -> Vec<u64> {
        wait.set.table.iter().map(|place| place.uaddr).collect()
    }

    #[test]
    fn op1_words_are_found_where_they_stay() {
        let words: Vec<_> = (0..3).map(|value| Box::new(AtomicU32::new(value))).collect();
        let theirs: Vec<_> = words.iter().map(addr).collect();
        let set = words
            .into_iter()
            .zip(0..)
            .fold(FutexSet::new(), |set, (word, value)| set.with(word, value));
        let mut wait = FutexWaitV::new(set);
        let sqe = wait.prep();
        assert_eq!((sqe.len, addresses(&wait)), (3, theirs));
        // Words that lie in the set itself move with it.
        let mut wait = FutexWaitV::new(FutexSet::new().with_private(AtomicU32::new(1), 1));
        wait.prep();
        assert_eq!(addresses(&wait), [addr(&wait.set.words()[0])]);
        assert_eq!(wait.set.table[0].flags, PRIVATE.bits());
        wait.set.expect(0, 7);
        assert_eq!(wait.set.table[0].val, 7);
    }

    #[test]
    fn a_count_is_no_negative_number() {
        let mut all = FutexWake::new(AtomicU32::new(0), u32::MAX);
        assert_eq!(all.prep().off, 0x7fff_ffff);
        assert_eq!(FutexWake::new(AtomicU32::new(0), 3).prep().off, 3);
    }
}
