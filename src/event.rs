//! What a reaping reports: one completion at a time, each of which owns what it brought.
//!
//! | event | of | then |
//! |---|---|---|
//! | [`Event::Ended`] | an operation's last completion | redeem its ticket |
//! | [`Event::Shot`] | one of many | take what it brought, or it is recycled |
//! | [`Event::Message`] | a [`RingSender`](crate::RingSender), from any thread | |
//! | [`Event::Raw`] | an entry that was pushed raw | |
//!
//! The order of events of different operations means nothing. Those of one operation come in order.
//!
//! Leaves to others: which completion is whose (`inflight`).

use annulus_sys::abi::Cqe;
use annulus_sys::errno::Errno;

use crate::op::Shot;

/// One completion.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a, U> {
    /// An operation has ended. Its ticket can be redeemed.
    Ended {
        /// The word that was submitted with it.
        user: &'a mut U,
        /// Its slot: [`Ticket::slot`](crate::Ticket::slot).
        slot: u32,
        /// The kernel's result; the ticket turns it into more.
        result: Result<u32, Errno>,
    },
    /// An operation has completed, and will again.
    Shot {
        /// The word that was submitted with it.
        user: &'a mut U,
        /// Its slot: [`Ticket::slot`](crate::Ticket::slot).
        slot: u32,
        /// What it brought.
        shot: Shot,
    },
    /// Another thread, or another ring, has sent a message.
    Message(u64),
    /// An entry that was pushed through the raw face has completed.
    Raw(Cqe),
}

/// A number, or what went wrong, as a system call would have told it: when a signal ends a wait
/// inside the kernel, the number that asks for the call to be made again (`ERESTARTSYS`, 512, and
/// its sisters) comes out of a ring as it is. Seen on Linux 6.18 from an open that was cancelled.
#[inline]
pub(crate) fn result_of(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| match result.wrapping_neg() {
        512..=516 => Errno::new(libc::EINTR),
        errno => Errno::new(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_to_be_made_again_was_interrupted() {
        for restart in 512..=516 {
            assert_eq!(result_of(-restart), Err(Errno::new(libc::EINTR)));
        }
        assert_eq!(result_of(-517), Err(Errno::new(517)));
        assert_eq!(result_of(-libc::ENOENT), Err(Errno::new(libc::ENOENT)));
        assert_eq!(result_of(i32::MAX), Ok(i32::MAX.unsigned_abs()));
    }
}
