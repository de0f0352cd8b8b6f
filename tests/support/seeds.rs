//! Which seeds a random test runs.

use std::ops::Range;

/// Those that `ANNULUS_SEEDS=m..n` names, the one that `ANNULUS_SEED=n` names, or else the first
/// `count`.
pub fn seeds(count: u64) -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    if let Ok(one) = std::env::var("ANNULUS_SEED") {
        return number(&one)..number(&one) + 1;
    }
    match std::env::var("ANNULUS_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("as in 20..30");
            number(from)..number(to)
        }
        Err(_) => 0..count,
    }
}
