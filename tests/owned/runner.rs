//! Runs histories, one for each seed, and reports which one failed.

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use super::Profile;
use super::program::Program;
use super::world::OnPurpose;
use crate::support::panics::text;

/// How many histories of a kind run by default.
const SEEDS: u64 = 4000;
/// How many steps a history has at most.
const STEPS: u32 = 120;
/// How long one history may take. It takes a millisecond.
const LIMIT: Duration = Duration::from_secs(60);

thread_local! {
    /// Which history this thread runs, for the handler of an abort.
    static SEED: Cell<u64> = const { Cell::new(0) };
    static QUIET: Cell<Loud> = const { Cell::new(Loud::Yes) };
}

/// Whether panics are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loud {
    Yes,
    No,
}

/// What the environment asks for: a number, or two as in `20..30`.
fn asked(name: &str) -> Option<Range<u64>> {
    let value = std::env::var(name).ok()?;
    let number = |text: &str| text.parse().ok();
    let range = match value.split_once("..") {
        Some((from, to)) => number(from).zip(number(to)).map(|(from, to)| from..to),
        None => number(&value).map(|to| 0..to),
    };
    Some(range.unwrap_or_else(|| panic!("{name}: `{value}` is no number")))
}

/// Runs all histories of a kind.
pub fn run(profile: Profile) {
    hush();
    name_aborts();
    let only = asked("ANNULUS_SEED");
    let say = if only.is_some() { Loud::Yes } else { Loud::No };
    let seeds = match only {
        Some(Range { end: seed, .. }) => seed..seed + 1,
        None => asked("ANNULUS_SEEDS").unwrap_or(0..SEEDS),
    };
    let steps = asked("ANNULUS_STEPS").and_then(|steps| u32::try_from(steps.end).ok());
    let steps = steps.unwrap_or(STEPS);
    let (began, history) = mpsc::channel();
    let thread = thread::spawn(move || {
        for seed in seeds {
            began.send(seed).expect("somebody watches");
            SEED.set(seed);
            let Err(panic) = attempt(seed, profile, steps, say) else { continue };
            return Some((seed, text(&*panic).to_owned()));
        }
        None
    });
    let mut last = 0;
    loop {
        match history.recv_timeout(LIMIT) {
            Ok(seed) => last = seed,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("seed {last} does not end: {profile:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let failed = thread.join().unwrap_or_else(|panic| panic!("{}", text(&*panic)));
    if let Some((seed, why)) = failed {
        let (step, why) = shrink(seed, profile, steps).unwrap_or((steps, why));
        panic!("{profile:?}, ANNULUS_SEED={seed} ANNULUS_STEPS={step}: {why}");
    }
}

/// One history, as far as `most` steps.
fn attempt(seed: u64, profile: Profile, most: u32, say: Loud) -> thread::Result<()> {
    QUIET.set(say);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut program = Program::new(seed, profile);
        for step in 0..program.chance.below(STEPS).min(most) {
            program.step(|name, at| {
                if say == Loud::Yes {
                    println!("{step:3}: {name}, ring {at}");
                }
            });
            program.check();
        }
        program.finish();
    }));
    QUIET.set(Loud::Yes);
    result
}

/// The fewest steps that fail, and why.
fn shrink(seed: u64, profile: Profile, steps: u32) -> Option<(u32, String)> {
    (0..=steps).find_map(|most| {
        let panic = attempt(seed, profile, most, Loud::No).err()?;
        Some((most, text(&*panic).to_owned()))
    })
}

/// Silences panics on purpose, and those of an attempt.
pub fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<OnPurpose>() && QUIET.get() == Loud::Yes {
                loud(info);
            }
        }));
    });
}

/// Says which history it was that aborted.
fn name_aborts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is async-signal-safe, because it only writes and returns.
        let old =
            unsafe { libc::signal(libc::SIGABRT, last_words as *const () as libc::sighandler_t) };
        assert_ne!(old, libc::SIG_ERR);
    });
}

/// Prints which history aborts.
extern "C" fn last_words(_: libc::c_int) {
    let mut words = *b"aborted: ANNULUS_SEED=....................\n";
    let mut left = SEED.get();
    for byte in words[22..42].iter_mut().rev() {
        *byte = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
    }
    // SAFETY: so many bytes of ours, because it is an array.
    unsafe { libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len()) };
}

/// The text of the panic of `call`, which is not printed.
pub fn complaint<R>(call: impl FnOnce() -> R) -> String {
    let before = QUIET.replace(Loud::No);
    let panic = catch_unwind(AssertUnwindSafe(call)).err();
    QUIET.set(before);
    panic.map(|panic| text(&*panic).to_owned()).unwrap_or_default()
}
