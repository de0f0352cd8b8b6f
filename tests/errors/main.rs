//! What an error says: the text of each, cause and cure, is also in its `Debug`.
//!
//! `fn main() -> Result<(), impl Error>` prints the latter.

mod rejected;

use std::error::Error;
use std::fmt::Debug;

use annulus::lease::RegisterError;
use annulus::sys::errno::Errno;
use annulus::sys::flags::Features;
use annulus::sys::sq::{Full, PushWideError};
use annulus::{EnterCause, EnterError, Rejection, SendError, Setup, SetupError};

#[track_caller]
fn tells<E: Error + Debug>(error: E) {
    let (debug, display) = (format!("{error:?}"), error.to_string());
    assert!(debug.contains(&display), "{debug} does not contain {display}");
}

#[test]
fn what_is_printed_by_a_main_that_failed_says_cause_and_cure() {
    tells(Errno::new(libc::ENOBUFS));
    tells(Full);
    tells(PushWideError::Narrow);
    for cause in [
        EnterCause::Interrupted,
        EnterCause::NothingComing { want: 3, coming: 1 },
        EnterCause::Other(Errno::new(libc::EIO)),
    ] {
        tells(cause);
        tells(EnterError { submitted: 2, cause });
    }
    tells(SetupError::Invalid { reason: "no entries: ask for one" });
    tells(RegisterError::Missing { what: "such buffer" });
    tells(RegisterError::Invalid { reason: "too many" });
    tells(SendError::TooWide(1 << 63));
    for why in [
        Rejection::NoSlot,
        Rejection::Unsupported { needs: Features::NODROP },
        Rejection::Enter(EnterError { submitted: 0, cause: EnterCause::OutOfRequests }),
    ] {
        tells(why);
    }
}

#[test]
fn a_setup_that_fails_says_why_in_its_debug_too() {
    let error = Setup::new(0).build().expect_err("a ring of no entries");
    assert!(format!("{error:?}").contains("ask for at least one"), "{error:?}");
}
