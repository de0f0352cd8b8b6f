//! Futexes: words in memory that threads and rings wait at, and wake each other.
//!
//! ```text
//!   a thread: word.store(1); wake ──┐
//!   a ring:   FutexWake::new(word) ─┤──► woken: FutexWait, FutexWaitV of this ring or another,
//!                                   │           a thread in futex(2)
//!             FutexWait::new(word, 0): while the word is 0
//! ```
//!
//! | operation | what | since |
//! |---|---|---|
//! | [`FutexWait`] | waits for a wake, unless the word has changed already | Linux 6.7 |
//! | [`FutexWaitV`] | the same, at the first of many words: a [`FutexSet`] | Linux 6.7 |
//! | [`FutexWake`] | wakes those who wait | Linux 6.7 |
//!
//! A word is an [`AtomicU32`](std::sync::atomic::AtomicU32) in memory that cannot go while the
//! kernel waits at it: in an `Arc`, or `'static`, or borrowed for a [scope](crate::Ring::scope).
//! The kernel reads it, and never writes it. What the values mean is the program's to say.
//!
//! A wait is for wakes by other processes too, and a wake for their waits, unless both are
//! [`private`](FutexWait::private): then the kernel need not look up what memory the word lies in.
//! But some kernels (Linux 6.18 is one) make a process a table of its own for private waits when
//! it makes its second thread, or the kernel a worker for its ring, and overlook who waits already:
//! the wake finds nobody.
//!
//! A thread in `futex(2)` belongs to those without `FUTEX_PRIVATE_FLAG`.
//!
//! Keeps OP1: the word's owner lies in the operation, and so does the table of many.
#![allow(unsafe_code, reason = "writes entries that point to words")]

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use annulus_sys::abi::{FutexWaitv, Sqe};
use annulus_sys::flags_futex::{FUTEX_MATCH_ANY, FutexFlags};
use annulus_sys::shared::Word;

use super::{Done, Op, Outcome};
use crate::prep;

/// An owner of a word that can be waited at.
///
/// Safe to implement: the ring asks for the word when the owner has its final address, and keeps
/// that borrow until the operation has ended (OP1).
///
/// # Example
///
/// ```
/// use annulus::op::FutexWord;
/// use std::sync::atomic::AtomicU32;
///
/// struct Gate { open: AtomicU32, opened: AtomicU32 }
///
/// impl FutexWord for Gate {
///     fn word(&self) -> &AtomicU32 {
///         &self.open
///     }
/// }
/// // Now an `Arc<Gate>` can be waited at.
/// ```
pub trait FutexWord {
    /// The word, an [`AtomicU32`](std::sync::atomic::AtomicU32).
    fn word(&self) -> &Word;
}

impl FutexWord for Word {
    fn word(&self) -> &Word {
        self
    }
}

impl<T: FutexWord + ?Sized> FutexWord for &T {
    fn word(&self) -> &Word {
        (**self).word()
    }
}

impl<T: FutexWord + ?Sized> FutexWord for Arc<T> {
    fn word(&self) -> &Word {
        (**self).word()
    }
}

impl<T: FutexWord + ?Sized> FutexWord for Rc<T> {
    fn word(&self) -> &Word {
        (**self).word()
    }
}

impl<T: FutexWord + ?Sized> FutexWord for Box<T> {
    fn word(&self) -> &Word {
        (**self).word()
    }
}

/// The address of a word that stays where it is.
fn addr(word: &impl FutexWord) -> u64 {
    std::ptr::from_ref(word.word()).expose_provenance() as u64
}

/// What a word is that whoever has its memory waits at and wakes.
const SHARED: FutexFlags = FutexFlags::SIZE_U32;

/// What a word is that is this process's alone.
const PRIVATE: FutexFlags = SHARED.union(FutexFlags::PRIVATE);

/// Waits at a word, as long as it has a value. Since Linux 6.7.
///
/// # Completion
///
/// Once, with nothing, when it was woken. Whoever wakes need not have changed the word: look at it.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; by its ticket, not by a file. In a chain, the next step begins all
/// the same.
///
/// # Errors
///
/// `EAGAIN` when the word does not have the value any more: then there is nothing to wait for.
/// `EINVAL` for a mask of 0.
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
    /// Waits at `word` as long as it is `value`, for a wake by this process, or by another that has
    /// the word in memory that they share.
    pub fn new(word: W, value: u32) -> Self {
        Self { word, value, mask: FUTEX_MATCH_ANY, flags: SHARED }
    }

    /// For wakes whose mask has a bit of `mask`.
    #[doc(alias = "FUTEX_WAIT_BITSET")]
    pub fn mask(self, mask: u32) -> Self {
        Self { mask, ..self }
    }

    /// For wakes that are private too, and no others: `FUTEX_PRIVATE_FLAG` of `futex(2)`. Cheaper.
    ///
    /// Some kernels (Linux 6.18 is one) never wake a private wait that began before the process's
    /// second thread was made, or the first worker of the kernel for its ring. So say this only
    /// where there was another thread before.
    #[doc(alias = "FUTEX2_PRIVATE")]
    pub fn private(self) -> Self {
        Self { flags: PRIVATE, ..self }
    }
}

// SAFETY: OP1: the address is of a word that is borrowed from its owner in place. It completes
// once, with a number.
unsafe impl<W: FutexWord> Op for FutexWait<W> {
    type Output = Outcome<(), (), W>;

    fn prep(&mut self) -> Sqe {
        prep::futex_wait(addr(&self.word), self.value.into(), self.mask.into(), self.flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: (), buf: self.word }
    }
}

/// Wakes those who wait at a word. Since Linux 6.7.
///
/// # Completion
///
/// Once, with how many were woken.
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
///
/// # Errors
///
/// `EINVAL` for a mask of 0.
#[doc(alias("IORING_OP_FUTEX_WAKE", "io_uring_prep_futex_wake"))]
#[derive(Debug)]
pub struct FutexWake<W> {
    word: W,
    count: u32,
    mask: u32,
    flags: FutexFlags,
}

impl<W: FutexWord> FutexWake<W> {
    /// Wakes up to `count` waits at `word` that are not private. 0 wakes none, and more than
    /// `i32::MAX` all.
    pub fn new(word: W, count: u32) -> Self {
        // The kernel takes it for an `int`.
        let count = count.min(i32::MAX.cast_unsigned());
        Self { word, count, mask: FUTEX_MATCH_ANY, flags: SHARED }
    }

    /// Those only whose mask has a bit of `mask`.
    #[doc(alias = "FUTEX_WAKE_BITSET")]
    pub fn mask(self, mask: u32) -> Self {
        Self { mask, ..self }
    }

    /// Those that are private, and no others.
    #[doc(alias = "FUTEX2_PRIVATE")]
    pub fn private(self) -> Self {
        Self { flags: PRIVATE, ..self }
    }
}

// SAFETY: OP1: the address is of a word that is borrowed from its owner in place. It completes
// once, with a number.
unsafe impl<W: FutexWord> Op for FutexWake<W> {
    type Output = Outcome<u32, (), W>;

    fn prep(&mut self) -> Sqe {
        prep::futex_wake(addr(&self.word), self.count.into(), self.mask.into(), self.flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result(), fd: (), buf: self.word }
    }
}

/// Words, and the value of each at which to wait, for a [`FutexWaitV`].
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
    /// No words as yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more word, to be waited at as long as it is `value`, as by [`FutexWait::new`].
    pub fn with(self, word: W, value: u32) -> Self {
        self.add(word, value, SHARED)
    }

    /// One more word, for private wakes only: see [`FutexWait::private`] for what that risks.
    pub fn with_private(self, word: W, value: u32) -> Self {
        self.add(word, value, PRIVATE)
    }

    fn add(mut self, word: W, value: u32, flags: FutexFlags) -> Self {
        self.words.push(word);
        let flags = flags.bits();
        self.table.push(FutexWaitv { val: value.into(), flags, ..FutexWaitv::default() });
        self
    }

    /// Waits at the word at `index` as long as it is `value`, from the next time on.
    ///
    /// # Panics
    ///
    /// When there is no such word.
    pub fn expect(&mut self, index: usize, value: u32) {
        self.table[index].val = value.into();
    }

    /// The words, in order.
    pub fn words(&self) -> &[W] {
        &self.words
    }
}

/// Waits at many words, as long as each has its value. Since Linux 6.7.
///
/// # Completion
///
/// Once, with the index of a word that was woken; others may have been, too.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; by its ticket, not by a file. In a chain, the next step begins all
/// the same.
///
/// # Errors
///
/// `EAGAIN` when one of the words does not have its value any more: look at all of them. `EINVAL`
/// for a set of none, or of more than
/// [`FUTEX_WAITV_MAX`](annulus_sys::flags_futex::FUTEX_WAITV_MAX).
#[doc(alias("IORING_OP_FUTEX_WAITV", "io_uring_prep_futex_waitv"))]
#[derive(Debug)]
pub struct FutexWaitV<W> {
    set: FutexSet<W>,
}

impl<W: FutexWord> FutexWaitV<W> {
    /// Waits at the words of `set`.
    pub fn new(set: FutexSet<W>) -> Self {
        Self { set }
    }
}

// SAFETY: OP1: the address is of the table, which nobody else has; it names words that are borrowed
// from their owners, which lie beside it and are not touched. It completes once, with a number.
unsafe impl<W: FutexWord> Op for FutexWaitV<W> {
    type Output = Outcome<usize, (), FutexSet<W>>;

    fn prep(&mut self) -> Sqe {
        let FutexSet { words, table } = &mut self.set;
        for (word, place) in words.iter().zip(&mut *table) {
            place.uaddr = addr(word);
        }
        // As many as that no kernel takes.
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
        let words: Vec<_> = (0..3).map(|value| Box::new(Word::new(value))).collect();
        let theirs: Vec<_> = words.iter().map(addr).collect();
        let set = words
            .into_iter()
            .zip(0..)
            .fold(FutexSet::new(), |set, (word, value)| set.with(word, value));
        let mut wait = FutexWaitV::new(set);
        let sqe = wait.prep();
        assert_eq!((sqe.len, addresses(&wait)), (3, theirs));
        // Words that lie in the set itself move with it.
        let mut wait = FutexWaitV::new(FutexSet::new().with_private(Word::new(1), 1));
        wait.prep();
        assert_eq!(addresses(&wait), [addr(&wait.set.words()[0])]);
        assert_eq!(wait.set.table[0].flags, PRIVATE.bits());
        wait.set.expect(0, 7);
        assert_eq!(wait.set.table[0].val, 7);
    }

    #[test]
    fn a_count_is_no_negative_number() {
        let mut all = FutexWake::new(Word::new(0), u32::MAX);
        assert_eq!(all.prep().off, 0x7fff_ffff);
        assert_eq!(FutexWake::new(Word::new(0), 3).prep().off, 3);
    }
}
