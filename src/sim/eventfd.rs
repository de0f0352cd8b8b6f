//! The eventfd of a ring: what is known of it. Leaves to others: when it is signalled (`signals`).

use super::trace::EndId;

/// The registered eventfd of a ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signal {
    pub(super) end: EndId,
    /// Whether only workers signal it.
    pub(super) is_async: bool,
}
