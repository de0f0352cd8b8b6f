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
//!
//! A ring with `SINGLE_ISSUER` belongs to the thread that makes it. A disabled ring belongs to the
//! thread that enables it.

use annulus_sys::errno::Errno;
use annulus_sys::flags::{SetupFlags, SqeFlags};
use annulus_sys::rings::Rings;

use crate::raw::RawRing;
use crate::raw::register;
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

    /// Records that every entry must carry these flags.
    pub(crate) fn demand(&mut self, flags: SqeFlags) {
        self.demanded = flags;
    }

    /// The underlying rings, for calls to `io_uring_register(2)` that only a disabled ring accepts.
    pub fn rings(&self) -> &Rings {
        &self.rings
    }
}
