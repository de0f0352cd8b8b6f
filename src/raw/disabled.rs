//! From a setup to a ring, on this thread or on another.
//!
//! ```text
//!   Setup::build ──────────────────────────────────────────────► Ring       (this thread's)
//!   Setup::build_disabled ─► DisabledRing ─── Send ──► enable ──► Ring      (that thread's)
//! ```
//!
//! | to get | make it by | or on another thread by |
//! |---|---|---|
//! | a [`Ring`](crate::Ring), which owns buffers and files while the kernel uses them | [`Setup::build`] | [`DisabledRing::enable`] |
//! | a [`Ring<U>`](crate::Ring), which keeps a user value with each operation | [`Setup::build_for`] | [`DisabledRing::enable_for`] |
//! | a [`RawRing`], whose caller owns the memory that entries point to | [`Setup::build_raw`] | [`DisabledRing::enable_raw`] |
//! | one that is enabled later, by a shared reference | [`Setup::build_raw_disabled`] | [`DisabledRing::into_raw`] |
//!
//! A ring with `SINGLE_ISSUER` belongs to the thread that makes it. A disabled ring belongs to the
//! thread that enables it.

use annulus_sys::errno::Errno;
use annulus_sys::flags::{SetupFlags, SqeFlags};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Rings;

use crate::raw::RawRing;
use crate::raw::register;
use crate::raw::register::RegisterError;
use crate::raw::register::call::Call;
use crate::setup::Setup;
use crate::setup::setup_error::SetupError;

/// # Building a raw ring, or a disabled one
impl Setup<'_> {
    /// Makes a raw ring for this thread. The caller owns the memory that its entries point to.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    pub fn build_raw(&self) -> Result<RawRing, SetupError> {
        self.rings(SetupFlags::empty()).map(RawRing::over)
    }

    /// Makes a raw ring that is disabled (`R_DISABLED`): it can be restricted, and what a
    /// [`RawRing`] registers can be registered with it; nothing can be submitted until
    /// [`RawRing::enable`]. Since Linux 5.10: `io_uring_setup(2)`.
    ///
    /// A ring that is to be enabled on another thread, or that gets a
    /// [wait region](DisabledRing::register_wait_region), is made by
    /// [`build_disabled`](Self::build_disabled) and [`DisabledRing::into_raw`].
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    #[doc(alias = "IORING_SETUP_R_DISABLED")]
    pub fn build_raw_disabled(&self) -> Result<RawRing, SetupError> {
        self.rings(SetupFlags::R_DISABLED).map(RawRing::over)
    }

    /// Makes a disabled ring (`R_DISABLED`): nothing can be submitted until it is enabled, on the
    /// thread that will use it. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    #[doc(alias = "IORING_SETUP_R_DISABLED")]
    pub fn build_disabled(&self) -> Result<DisabledRing, SetupError> {
        if self.flags().contains(SetupFlags::REGISTERED_FD_ONLY) {
            // On another thread, its index would name another ring.
            let reason = "a ring with REGISTERED_FD_ONLY belongs to the thread that makes it: call \
                          `build` on that thread";
            return Err(SetupError::Invalid { reason });
        }
        self.rings(SetupFlags::R_DISABLED).map(DisabledRing::over)
    }
}

/// # A ring that is disabled at first
impl RawRing {
    /// Enables a ring that was made disabled, once; with `SINGLE_ISSUER`, it belongs to this thread
    /// from now on. By a shared reference, so that code which only looks at a ring can switch it
    /// on. Since Linux 5.10: `IORING_REGISTER_ENABLE_RINGS` in `io_uring_register(2)`.
    ///
    /// Before that, each call that enters the kernel fails with
    /// [`EnterCause::Disabled`](crate::EnterCause::Disabled) or `EBADFD`, and what was pushed stays
    /// in the queue. With a polling thread (`SQPOLL`), a submit publishes the entries, which are
    /// taken once the ring is enabled, and enters only if the thread asks to be woken. Until then
    /// a thread that is awake sees them and stays awake (seen on 6.18), so enable the ring before
    /// much is pushed.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Enabled`] if the ring is enabled already (`EBADFD`), also if it never was
    /// disabled; [`RegisterError::OtherProcess`] in a forked child.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::register::{RegisterError, Restrictions};
    /// use annulus::sys::opcode::Opcode;
    /// use annulus::{EnterCause, Setup, prep};
    ///
    /// let mut ring = Setup::new(4).build_raw_disabled()?;
    /// ring.restrict(&Restrictions::new().allow(Opcode::NOP))?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(prep::nop())? };
    /// assert_eq!(ring.submit().unwrap_err().cause, EnterCause::Disabled);
    ///
    /// ring.enable()?;
    /// assert_eq!(ring.submit_and_wait(1)?, 1); // What was pushed is there still.
    /// assert_eq!(ring.enable(), Err(RegisterError::Enabled));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("IORING_REGISTER_ENABLE_RINGS", "io_uring_enable_rings"))]
    pub fn enable(&self) -> Result<(), RegisterError> {
        let call = Call::new(RegisterOp::ENABLE_RINGS, 0, "it takes no argument");
        call.bare(self.base()).map(drop)
    }
}

/// A ring that is not enabled yet. It can go to another thread.
///
/// ```
/// let disabled = annulus::Setup::new(4).build_disabled()?;
/// let sizes = std::thread::spawn(move || {
///     let ring = disabled.enable().expect("the ring is new");
///     (ring.raw().sq_entries(), ring.raw().cq_entries())
/// });
/// assert_eq!(sizes.join().expect("no panic"), (4, 8));
/// # Ok::<(), annulus::SetupError>(())
/// ```
#[derive(Debug)]
pub struct DisabledRing {
    rings: Rings,
    /// The flags that every entry must carry once the ring is enabled.
    pub(crate) demanded: SqeFlags,
    /// A wait region that the kernel made and that could not be mapped: its offset and its length.
    pub(crate) unmapped: Option<(u64, usize)>,
}

/// # Enabling it as a raw ring, and its parts
impl DisabledRing {
    fn over(rings: Rings) -> Self {
        Self { rings, demanded: SqeFlags::empty(), unmapped: None }
    }

    /// Enables the ring, and returns it with the raw API.
    ///
    /// # Errors
    ///
    /// The kernel's error, with the ring.
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn enable_raw(self) -> Result<RawRing, (Self, Errno)> {
        match register::enable(self.rings.base()) {
            Ok(()) => Ok(RawRing::over(self.rings)),
            Err(errno) => Err((self, errno)),
        }
    }

    /// The ring with the raw API, disabled still: with what was registered so far, such as a
    /// [wait region](Self::register_wait_region). [`RawRing::enable`] enables it, on the thread
    /// that has it by now.
    ///
    /// # Example
    ///
    /// ```
    /// let disabled = annulus::Setup::new(4).build_disabled()?;
    /// let entries = std::thread::spawn(move || {
    ///     let ring = disabled.into_raw();
    ///     ring.enable().map(|()| ring.sq_entries())
    /// });
    /// assert_eq!(entries.join().expect("no panic"), Ok(4));
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    #[must_use]
    pub fn into_raw(self) -> RawRing {
        RawRing::over(self.rings)
    }

    /// Records that every entry must carry these flags.
    pub(crate) fn demand(&mut self, flags: SqeFlags) {
        self.demanded = flags;
    }

    /// The underlying rings, for calls to `io_uring_register(2)` that only a disabled ring accepts.
    pub fn rings(&self) -> &Rings {
        &self.rings
    }
}
