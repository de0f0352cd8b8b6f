//! Runs a model, and prints how many executions it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::sq::{Full, SubmissionQueue};
use loom::model::Builder;

/// How often a thread is interrupted where it need not be, unless `LOOM_MAX_PREEMPTIONS` is set.
/// Every fault that we know of shows with two; without a bound a model takes hours.
const PREEMPTIONS: usize = 3;

/// Runs `model` in every interleaving.
pub fn check(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = 5_000;
    let executions = Arc::new(AtomicU64::new(0));
    let (counter, started) = (Arc::clone(&executions), Instant::now());
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        model();
    });
    println!("{name}: {} executions, {:.1?}", executions.load(Relaxed), started.elapsed());
}

/// Calls `step` until it returns something, letting the other thread run in between.
pub fn until<T>(mut step: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = step() {
            return value;
        }
        loom::thread::yield_now();
    }
}

/// The `number`th entry of a test: no field is what another entry has there.
pub fn entry(number: u64) -> Sqe {
    Sqe { fd: -1, off: 200 + number, user_data: 100 + number, pad2: 300 + number, ..Sqe::ZERO }
}

/// The `number`th completion of a test.
pub fn completion(number: u64) -> Cqe {
    Cqe { user_data: 100 + number, res: 7, ..Cqe::ZERO }
}

/// Pushes an entry of [`entry`]'s.
pub fn push(sq: &mut SubmissionQueue, sqe: Sqe) -> Result<(), Full> {
    // SAFETY: nothing follows the entry's addresses (OP1): the kernel here is a test.
    unsafe { sq.push(sqe) }
}
