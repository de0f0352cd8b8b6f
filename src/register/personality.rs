//! Personalities: credentials that are kept with a ring, and taken on by single requests.
//!
//! ```text
//!   as user A: register_personality ─► Personality 1 ──┐
//!   as user B: OpenAt.acting_as(who) ─────────────┴─► the kernel opens it as A
//! ```
//!
//! A request runs with the credentials of who submits it, unless its entry names others: user and
//! group, capabilities, security labels, all as they were when they were registered.
//!
//! A number of another ring would name somebody else, or nobody (`EINVAL`). So the safe face takes
//! a personality only on its own ring, and only its own ring forgets it.
//!
//! Leaves to others: changing the credentials of a thread.

use std::num::NonZeroU16;

use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;

use super::call::Call;
use crate::disabled::DisabledRing;
use crate::lease::RegisterError;
use crate::op::RingId;
use crate::raw::RawRing;
use crate::ring::Ring;

/// Credentials that are registered with a ring.
///
/// When they are forgotten, the kernel gives their number to others at last, after 65535 more were
/// registered: a copy that was kept till then names those.
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
    /// The number of the ring that it is registered with.
    base: u64,
    /// The safe ring that it is registered with.
    ring: Option<RingId>,
}

impl Personality {
    /// What entries name it by, in their field `personality`.
    pub fn id(self) -> u16 {
        self.id.get()
    }

    /// Whether it is registered with the safe ring `ring`.
    pub(crate) fn is_of(self, ring: RingId) -> bool {
        self.ring == Some(ring)
    }
}

impl RawRing {
    /// Keeps the credentials that this thread has now. There are 65535 of them. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's.
    #[doc(alias = "IORING_REGISTER_PERSONALITY")]
    #[doc(alias = "io_uring_register_personality")]
    pub fn register_personality(&self) -> Result<Personality, RegisterError> {
        keep(self.base())
    }

    /// Forgets credentials. Requests that have begun keep them; one that begins later fails with
    /// `EINVAL`. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] when they are not of this ring, or forgotten already.
    #[doc(alias = "IORING_UNREGISTER_PERSONALITY")]
    #[doc(alias = "io_uring_unregister_personality")]
    pub fn unregister_personality(&self, who: Personality) -> Result<(), RegisterError> {
        let missing = RegisterError::Missing { what: "such personality" };
        if who.base != self.base().number() {
            return Err(missing); // Its number is somebody else's here.
        }
        let count = who.id().into();
        let call = Call::new(RegisterOp::UNREGISTER_PERSONALITY, count, "");
        call.bare(self.base()).map(drop).map_err(|error| match error {
            RegisterError::Invalid { .. } => missing,
            error => error,
        })
    }
}

impl DisabledRing {
    /// Keeps the credentials that this thread has now, as [`RawRing::register_personality`] does:
    /// before the ring is restricted, enabled, or moved to a thread that has others. For the raw
    /// face.
    ///
    /// # Errors
    ///
    /// The kernel's.
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

impl<U: Default> Ring<U> {
    /// Keeps the credentials that this thread has now, for operations
    /// [as that personality](crate::op::Op::acting_as). Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_personality(&mut self) -> Result<Personality, RegisterError> {
        let personality = self.raw.register_personality()?;
        Ok(Personality { ring: Some(self.id), ..personality })
    }
}
