//! Entries of the caller's own, on a ring to which messages came.
#![allow(unsafe_code, reason = "pushes an entry raw")]

use std::io::{Write as _, pipe};
use std::os::fd::AsRawFd as _;
use std::thread;

use annulus::sys::abi::Sqe;
use annulus::{Event, Ring, prep};
use libtest_mimic::Failed;

use super::await_messages;

/// A wait for an entry that was pushed raw is not refused, whatever came before.
pub fn own(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    (0..2).try_for_each(|message| sender.send(message))?;
    assert_eq!(await_messages(&mut ring, 2).len(), 2);
    drop(sender);
    let (from, mut to) = pipe()?;
    let poll = prep::poll_add(from.as_raw_fd(), libc::POLLIN.cast_unsigned().into());
    let own = Sqe { user_data: 3 << 62 | 7, ..poll };
    // SAFETY: the upper two bits of the `user_data` of what is pushed are set, and nothing else is
    // done with it.
    let raw = unsafe { ring.raw_mut() };
    // SAFETY: a poll points to nothing (OP1).
    unsafe { raw.push(own) }?;
    ring.submit_all()?;
    let thread = thread::spawn(move || to.write_all(b"x").map(|()| to));
    let mut ended = None;
    while ended.is_none() {
        ring.submit_and_wait(1)?;
        ring.reap(|event| {
            if let Event::Raw(cqe) = event {
                ended = Some(cqe.user_data);
            }
        })?;
    }
    assert_eq!(ended, Some(own.user_data));
    thread.join().expect("no panic")?;
    Ok(())
}
