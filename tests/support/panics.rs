//! Panics that a test expects, and calls that must return.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

/// The panic value of a test's closure.
pub const OWN: &str = "thrown by the closure";

/// Runs `call` and, if it panics, wants an invariant named.
pub fn survives(call: impl FnOnce()) {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Only here: elsewhere the same words say why a test failed.
            if !(EXPECTS.get() && is_expected(text(info.payload()))) {
                loud(info);
            }
        }));
    });
    let before = EXPECTS.replace(true);
    let called = catch_unwind(AssertUnwindSafe(call));
    EXPECTS.set(before);
    if let Err(panic) = called
        && !is_expected(text(&*panic))
    {
        resume_unwind(panic);
    }
}

thread_local! {
    /// Whether this thread runs a call that may panic.
    static EXPECTS: Cell<bool> = const { Cell::new(false) };
}

fn is_expected(text: &str) -> bool {
    ["SQ2", "CQ2", "BR1", OWN].iter().any(|name| text.contains(name))
}

/// The text of a panic value.
pub fn text(panic: &dyn Any) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().copied().unwrap_or_default(),
    }
}

/// The text of the panic of `call`.
pub fn complaint<R>(call: impl FnOnce() -> R) -> String {
    let outcome = catch_unwind(AssertUnwindSafe(call));
    let panic = outcome.err().expect("a panic");
    text(&*panic).to_owned()
}

/// Runs `test` on a thread of its own, and fails when it seems to hang: sanitizers on a busy
/// machine need minutes.
pub fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        // The watchdog may have given up.
        let _ = done.send(());
    });
    match wait.recv_timeout(Duration::from_secs(900)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a call did not return"),
        // Disconnected: the thread panicked, and `join` says with what.
        _ => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}
