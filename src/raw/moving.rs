//! A whole ring that goes from thread to thread, for example behind a lock.
//!
//! ```text
//!   RawRing ─── into_send ───► SendRawRing: Send ─── Mutex, channel ───► any thread
//!      ▲                            │ DerefMut: the RawRing, for whoever has it
//!      └──────── into_raw ──────────┘
//! ```
//!
//! A [`RawRing`] is not `Send`, for a reason that only its flags and its history tell:
//!
//! | the ring | on another thread | [`RawRing::into_send`] |
//! |---|---|---|
//! | is registered (`register_ring_fd`) | its index names nothing there, or another ring | unregisters it |
//! | has no descriptor (`REGISTERED_FD_ONLY`) | likewise, and it has no other name | refuses |
//! | has `SINGLE_ISSUER`, and so `DEFER_TASKRUN` too | the kernel refuses every call: `EEXIST` | refuses |
//! | has a polling thread (`SQPOLL`), before Linux 5.12 | works, until the thread that made it ends: then `EOWNERDEAD` | gives a [`SendRawRing`] |
//! | any other | works | gives a [`SendRawRing`] |
//!
//! | runtime | what it needs |
//! |---|---|
//! | several threads, each with a ring of its own | [`RawRing`], with `SINGLE_ISSUER` |
//! | several threads and one ring, behind a lock | [`SendRawRing`] |
//! | one thread that pushes, one that takes | [`RawRing::split`] |
//! | wakers and watchers beside whoever has the ring | [`RawRing::handle`] |
//! | a ring that is made here and used there, with `SINGLE_ISSUER` | [`DisabledRing`](crate::DisabledRing) |
//!
//! A request stays with the thread that submitted it, wherever the ring goes. What happens when
//! that thread exits stands in [`split`](crate::raw::split); with `COOP_TASKRUN`, its completions
//! wait until that thread enters the kernel. So each thread that submits should live as long as
//! what it submitted.
//!
//! Leaves to others: fork, which is about processes (`annulus_sys::process`).
#![allow(unsafe_code, reason = "sends a ring that is known to have no thread")]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::syscall::RingFd;
use thiserror::Error;

use crate::raw::RawRing;
use crate::raw::enter::Moves;

/// A [`RawRing`] that any thread may use, one at a time: [`RawRing::into_send`].
///
/// It is `Send` and not `Sync`, so a `Mutex<SendRawRing>` is both.
///
/// # Example
///
/// ```
/// use annulus::{Setup, prep};
/// use std::sync::Mutex;
/// use std::thread;
///
/// let ring = Setup::plain(8).build_raw()?.into_send().expect("no flag binds it to a thread");
/// let ring = Mutex::new(ring);
/// thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| {
///             let mut ring = ring.lock().expect("nobody panicked");
///             // SAFETY: a NOP points to nothing (OP1).
///             unsafe { ring.push(prep::nop()) }.expect("room for each thread's");
///             ring.submit()
///         });
///     }
/// });
/// assert_eq!(ring.into_inner()?.completions().count(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SendRawRing(RawRing);

// SAFETY: each field of a `RawRing` but its marker is `Send`, as the check below shows. The
// marker is there because the name by which it is entered may be an index, which on another thread
// names another ring, whose entries we must not submit (OP1). `into_send` gives away no such ring.
// One that was swapped in through a `&mut RawRing` gets another name before it can be entered,
// since `deref_mut` and `into_raw` are the only ways to it; by a `&RawRing` nothing is entered,
// and `Base::register` and both drops ask for the thread themselves.
unsafe impl Send for SendRawRing {}

/// Compiles if each field of a [`RawRing`] but its marker is `Send`.
const _: fn(&RawRing) = |ring| {
    fn is_send<T: Send>(_: &T) {}
    let RawRing { rings, driver, pending, mapped, turn_error, turn, not_send: PhantomData } = ring;
    is_send(rings);
    is_send(driver);
    is_send(pending);
    is_send(mapped);
    is_send(turn_error);
    is_send(turn);
};

/// A ring that cannot go to another thread, and why.
#[derive(Debug)]
pub struct NotSendable {
    /// The ring, as it was.
    pub ring: RawRing,
    /// Why not.
    pub why: WhyNotSend,
}

/// Why a ring cannot go to another thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WhyNotSend {
    /// The kernel lets only one thread use it (`SINGLE_ISSUER`).
    #[error(
        "the ring belongs to one thread (SINGLE_ISSUER): start from `Setup::plain`, or send it \
         before it is enabled, as a `DisabledRing` (`build_disabled`)"
    )]
    SingleIssuer,
    /// Only this thread has a name for it (`REGISTERED_FD_ONLY`).
    #[error(
        "the ring has no descriptor (REGISTERED_FD_ONLY), and other threads have no name for it: \
         make it on the thread that will use it, or without that flag"
    )]
    NoDescriptor,
    /// It is registered with this thread, and the kernel did not unregister it.
    #[error("the ring is registered with this thread, and could not be unregistered: {0}")]
    Registered(Errno),
    /// This is a forked child, and the ring belongs to its parent.
    #[error("the ring belongs to the parent process, which forked this one: make a new ring")]
    OtherProcess,
}

impl fmt::Display for NotSendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl std::error::Error for NotSendable {}

/// # Sending it to another thread
impl RawRing {
    /// Turns it into a ring that is `Send`. A registered ring is
    /// [unregistered](Self::unregister_ring_fd) first.
    ///
    /// What was pushed may then be submitted on any thread, and what completed be taken there: that
    /// must suit the memory that entries point to, as for [`split`](Self::split).
    ///
    /// # Errors
    ///
    /// [`NotSendable`] has the ring, and says [why](WhyNotSend). Since Linux 6.1, a ring of
    /// [`Setup::new`](crate::Setup::new) has `SINGLE_ISSUER`, so start from
    /// [`Setup::plain`](crate::Setup::plain).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::raw::moving::WhyNotSend;
    /// use annulus::sys::flags::SetupFlags;
    /// use annulus::Setup;
    ///
    /// let ring = Setup::plain(4).build_raw()?;
    /// let ring = ring.into_send().expect("no flag binds it to a thread");
    /// let entries = std::thread::spawn(move || ring.sq_entries()).join();
    /// assert_eq!(entries.expect("no panic"), 4);
    ///
    /// let Ok(bound) = Setup::plain(4).with(SetupFlags::SINGLE_ISSUER).build_raw() else {
    ///     return Ok(()); // Before Linux 6.0.
    /// };
    /// let refused = bound.into_send().expect_err("it belongs to this thread");
    /// assert_eq!(refused.why, WhyNotSend::SingleIssuer);
    /// assert_eq!(refused.ring.sq_entries(), 4); // It is still there.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn into_send(mut self) -> Result<SendRawRing, NotSendable> {
        match self.bound_by() {
            Some(why) => Err(NotSendable { ring: self, why }),
            None => {
                self.driver.set_moves(Moves::Yes);
                Ok(SendRawRing(self))
            }
        }
    }

    /// What binds it to this thread, once it is not registered any more.
    fn bound_by(&mut self) -> Option<WhyNotSend> {
        if !self.is_here() {
            Some(WhyNotSend::OtherProcess)
        } else if self.flags().contains(SetupFlags::SINGLE_ISSUER) {
            Some(WhyNotSend::SingleIssuer)
        } else if matches!(self.base().fd(), RingFd::Registered(_)) {
            Some(WhyNotSend::NoDescriptor)
        } else {
            self.unregister_ring_fd().err().map(WhyNotSend::Registered)
        }
    }
}

impl SendRawRing {
    /// The ring, for this thread from now on; it may be [registered](RawRing::register_ring_fd)
    /// again.
    #[must_use]
    pub fn into_raw(mut self) -> RawRing {
        self.0.driver.arrive();
        self.0.driver.set_moves(Moves::No);
        self.0
    }
}

impl Deref for SendRawRing {
    type Target = RawRing;

    #[inline]
    fn deref(&self) -> &RawRing {
        &self.0
    }
}

impl DerefMut for SendRawRing {
    /// The ring, for as long as this thread has it. It cannot be
    /// [registered](RawRing::register_ring_fd).
    ///
    /// Who swaps a ring in that belongs to one thread finds that the kernel refuses it on others:
    /// one that is registered is entered by its descriptor there, and one that has none fails with
    /// `EBADF`, until it is back. One that is swapped out still
    /// [cannot be registered](RawRing::register_ring_fd): [`into_send`](RawRing::into_send) and
    /// [`into_raw`](SendRawRing::into_raw) end that.
    #[inline]
    fn deref_mut(&mut self) -> &mut RawRing {
        self.0.driver.arrive();
        &mut self.0
    }
}
