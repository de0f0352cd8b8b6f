//! Which features of the kernel have a test, and whether it ran here.
//!
//! ```text
//!   tally op PIPE 4 0          four tests that need it ran
//!   tally op NOP128 0 3        three were refused: this kernel has none
//! ```
//!
//! Only features younger than Linux 5.10, the oldest supported, need be named: the others are on
//! every kernel, and so are their tests. With `ANNULUS_TALLY` in the environment the lines are
//! printed; `tests/kernels/features.py` makes the table of docs/KERNELS.md from them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use libtest_mimic::{Failed, Trial};

use crate::harness::Need;

/// How many tests that need it run here, and how many are refused for want of it.
type Counts = (u32, u32);

static TALLY: Mutex<BTreeMap<String, Counts>> = Mutex::new(BTreeMap::new());

/// Counts a test, by its needs.
pub fn note(needs: &[Need]) {
    let runs = needs.iter().all(|need| need.missing().is_none());
    let mut tally = TALLY.lock().unwrap_or_else(PoisonError::into_inner);
    for need in needs {
        for name in names(need) {
            let (ran, refused) = tally.entry(name).or_default();
            *ran += u32::from(runs);
            *refused += u32::from(need.missing().is_some());
        }
    }
}

/// The names of a need in the tally. A need of the user, or one that a function checks, is no
/// feature of the kernel.
fn names(need: &Need) -> Vec<String> {
    match need {
        Need::Setup(flags) => flags.iter_names().map(|(name, _)| format!("setup {name}")).collect(),
        Need::Feature(features) => {
            features.iter_names().map(|(name, _)| format!("feature {name}")).collect()
        }
        Need::Enter(flags) => flags.iter_names().map(|(name, _)| format!("enter {name}")).collect(),
        Need::Op(op) => vec![format!("op {op:?}")],
        Need::Register(op) => vec![format!("register {op:?}")],
        Need::Root | Need::User | Need::TurnedOff(_) | Need::Other(_) => vec![],
    }
}

/// Everything that is younger than Linux 5.10, by its name in the tally.
fn young() -> Vec<String> {
    let ops = Opcode::ALL.iter().map(|op| (format!("op {op:?}"), op.since()));
    let calls = RegisterOp::ALL.iter().map(|op| (format!("register {op:?}"), op.since()));
    let (setup, enter, features) = (SetupFlags::all(), EnterFlags::all(), Features::all());
    let setup = setup.iter_names().map(|(name, flag)| (format!("setup {name}"), flag.since()));
    let enter = enter.iter_names().map(|(name, flag)| (format!("enter {name}"), flag.since()));
    let features =
        features.iter_names().map(|(name, flag)| (format!("feature {name}"), flag.since()));
    let all = ops.chain(calls).chain(setup).chain(enter).chain(features);
    all.filter(|(_, since)| since.is_some_and(is_young)).map(|(name, _)| name).collect()
}

/// Whether a release such as `"5.11"` comes after 5.10.
fn is_young(since: &str) -> bool {
    let (major, minor) = since.split_once('.').expect("two numbers");
    let [major, minor] = [major, minor].map(|number| number.parse::<u32>().expect("a number"));
    (major, minor) > (5, 10)
}

/// The test that none was forgotten. To be made after all others.
pub fn tests() -> Vec<Trial> {
    vec![Trial::test("whatever_is_younger_than_5_10_is_asked_for_by_a_test", none_forgotten)]
}

fn none_forgotten() -> Result<(), Failed> {
    let tally = TALLY.lock().unwrap_or_else(PoisonError::into_inner);
    let forgotten: Vec<_> = young().into_iter().filter(|name| !tally.contains_key(name)).collect();
    assert!(forgotten.is_empty(), "no test needs {forgotten:?}");
    Ok(())
}

/// Prints the lines, if they are asked for.
pub fn print() {
    if std::env::var_os("ANNULUS_TALLY").is_none() {
        return;
    }
    let tally = TALLY.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, (ran, refused)) in tally.iter() {
        println!("tally {name} {ran} {refused}");
    }
}
