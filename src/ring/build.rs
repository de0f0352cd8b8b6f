//! Building the safe ring from a [`Setup`], or from a disabled ring.
//!
//! Leaves to others: the raw ring underneath (`raw::disabled`).

use annulus_sys::errno::Errno;

use crate::raw::disabled::DisabledRing;
use crate::ring::Ring;
use crate::setup::Setup;
use crate::setup::setup_error::SetupError;

/// # Building a safe ring
impl Setup<'_> {
    /// Makes the ring, for this thread.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    pub fn build(&self) -> Result<Ring, SetupError> {
        self.build_for()
    }

    /// Makes a ring that keeps a user value of type `U` with each operation, for this thread.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    pub fn build_for<U: Default>(&self) -> Result<Ring<U>, SetupError> {
        self.build_raw().map(Ring::over)
    }
}

/// # Enabling it as a safe ring
impl DisabledRing {
    /// Enables the ring, which belongs to this thread from now on.
    ///
    /// # Errors
    ///
    /// The kernel's error, and the ring.
    #[doc(alias = "IORING_REGISTER_ENABLE_RINGS")]
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn enable(self) -> Result<Ring, (Self, Errno)> {
        self.enable_for()
    }

    /// As [`enable`](Self::enable), for a ring that keeps a user value of type `U` with each
    /// operation.
    ///
    /// # Errors
    ///
    /// The kernel's error, and the ring.
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn enable_for<U: Default>(self) -> Result<Ring<U>, (Self, Errno)> {
        let demanded = self.demanded;
        let mut ring = self.enable_raw().map(Ring::over)?;
        ring.internal.demand(demanded);
        Ok(ring)
    }
}
