//! Personalities: credentials that are registered with a ring, and used by single requests.
//!
//! ```text
//!   as user A: register_personality ─► Personality 1 ──┐
//!   as user B: OpenAt.acting_as(who) ──────────────────┴─► the kernel opens it as A
//! ```
//!
//! A request runs with the credentials of the thread that submits it, unless its entry names a
//! personality: user and group, capabilities, and security labels, all as they were when it was
//! registered.
//!
//! On another ring, a personality's number would name other credentials, or none (`EINVAL`). So the
//! safe API accepts a personality only on the ring it is registered with, and only that ring can
//! unregister it.
//!
//! Leaves to others: changing the credentials of a thread.

use std::num::NonZeroU16;

use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;

use super::call::Call;
use super::error::RegisterError;
use crate::raw::RawRing;
use crate::raw::RingId;
use crate::raw::disabled::DisabledRing;

/// Credentials that are registered with a ring.
///
/// After it is unregistered, the kernel eventually reuses its number, once 65535 more were
/// registered. A copy that was kept until then names the new credentials.
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Nop, Op};
///
/// let mut ring = Setup::new(4).build()?;
/// let myself = ring.register_personality()?;
/// let nop = ring.submit(Nop.acting_as(myself))?;
/// ring.wait(nop)?;
/// ring.raw().unregister_personality(myself)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Personality {
    id: NonZeroU16,
    /// The number of the base of the ring that it is registered with.
    base: u64,
    /// The safe ring that it is registered with, if any.
    ring: Option<RingId>,
}

impl Personality {
    /// The value for the field `personality` of an entry.
    pub fn id(self) -> u16 {
        self.id.get()
    }

    /// This personality, for operations of the safe ring `ring`.
    pub(crate) fn on(self, ring: RingId) -> Self {
        Self { ring: Some(ring), ..self }
    }

    /// Whether it is registered with the safe ring `ring`.
    pub(crate) fn is_of(self, ring: RingId) -> bool {
        self.ring == Some(ring)
    }
}

/// # Registering credentials
impl RawRing {
    /// Registers the credentials that this thread has now. A ring holds up to 65535. Since Linux
    /// 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    #[doc(alias = "IORING_REGISTER_PERSONALITY")]
    #[doc(alias = "io_uring_register_personality")]
    pub fn register_personality(&self) -> Result<Personality, RegisterError> {
        keep(self.base())
    }

    /// Unregisters credentials. Requests that have started keep them; a request that starts later
    /// fails with `EINVAL`. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if they are not registered with this ring, or not any more.
    #[doc(alias = "IORING_UNREGISTER_PERSONALITY")]
    #[doc(alias = "io_uring_unregister_personality")]
    pub fn unregister_personality(&self, who: Personality) -> Result<(), RegisterError> {
        let missing = RegisterError::Missing { what: "such personality" };
        if who.base != self.base().number() {
            return Err(missing); // Here, its number names other credentials, or none.
        }
        let count = who.id().into();
        let call = Call::new(RegisterOp::UNREGISTER_PERSONALITY, count, "");
        call.bare(self.base()).map(drop).map_err(|error| match error {
            RegisterError::Invalid { .. } => missing,
            error => error,
        })
    }
}

/// # Registering credentials
impl DisabledRing {
    /// Registers the credentials that this thread has now, like [`RawRing::register_personality`],
    /// before the ring is restricted, enabled, or moved to a thread with other credentials. For the
    /// raw API.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn register_personality(&mut self) -> Result<Personality, RegisterError> {
        keep(self.rings().base())
    }
}

fn keep(base: &Base) -> Result<Personality, RegisterError> {
    let call = Call::new(RegisterOp::PERSONALITY, 0, "it takes no argument");
    let number = call.bare(base)?;
    let id = u16::try_from(number).ok().and_then(NonZeroU16::new);
    let id = id.expect("the kernel numbers credentials from 1 to 65535");
    Ok(Personality { id, base: base.number(), ring: None })
}
