//! The luck of a failing run is shrunk: what is left is what it takes, and shows the run again.

use std::time::Duration;

use annulus::sim::shrink::{Decisions, shrink};
use annulus::sim::{Faults, Sim};
use annulus::{Setup, op};

/// Fails if two of ten receives are short.
fn program(sim: &Sim) -> Result<(), String> {
    let mut ring = Setup::plain(8).kernel(sim.kernel()).build().expect("a ring");
    let mut is_short = Vec::new();
    for _ in 0..10 {
        let (ours, theirs) = sim.socket_pair().expect("descriptors");
        sim.after(Duration::from_millis(3), move |sim| drop(sim.write(&theirs, b"hello")));
        let recv = ring.submit(op::Recv::new(ours, Vec::with_capacity(5))).expect("room");
        let done = ring.wait(recv).expect("it ends");
        is_short.push(done.result.is_ok_and(|count| count < 5));
    }
    if is_short[2] && is_short[7] { Err("the third and the eighth".into()) } else { Ok(()) }
}

const FAULTS: Faults = Faults::SOME;

#[test]
fn only_what_it_takes_is_left() {
    let shrunk = (0..300).find_map(|seed| shrink(seed, FAULTS, program)).expect("one fails");
    assert_eq!(shrunk.decisions.len(), 2, "{shrunk}");
    assert!(shrunk.before > 5, "{shrunk}");
    let text = shrunk.to_string();
    assert!(text.contains(&format!("fails with 2 of {} chances", shrunk.before)), "{text}");
    // The line that it prints shows the run again.
    let line = text.lines().find(|line| line.starts_with("again: ")).expect("it is there");
    let only: Decisions = line.split('"').nth(1).expect("quoted").parse().expect("decisions");
    let again = Sim::with_decisions(shrunk.seed, shrunk.faults, &only);
    assert!(program(&again).is_err());
    assert_eq!((again.decisions(), again.trace()), (shrunk.decisions, shrunk.trace));
}

#[test]
fn a_panic_is_a_failure_and_what_does_not_fail_is_not_shrunk() {
    let seed = (0..300).find(|&seed| program(&Sim::with_faults(seed, FAULTS)).is_err());
    let panics = |sim: &Sim| -> Result<(), String> {
        program(sim).unwrap_or_else(|error| panic!("it panics: {error}"));
        Ok(())
    };
    let shrunk = shrink(seed.expect("one fails"), FAULTS, panics).expect("it panics");
    assert!(shrunk.why.starts_with("it panics: the third") && shrunk.decisions.len() == 2);
    assert_eq!(shrink(1, Faults::NONE, program), None);
}

#[test]
fn all_decisions_of_a_run_give_the_same_run() {
    for seed in 0..50 {
        let first = Sim::with_faults(seed, FAULTS);
        let _ = program(&first);
        let text = first.decisions().to_string();
        let second = Sim::with_decisions(seed, FAULTS, &text.parse().expect("decisions"));
        let _ = program(&second);
        assert_eq!((first.digest(), first.decisions()), (second.digest(), second.decisions()));
        let none = Sim::with_decisions(seed, FAULTS, &Decisions::default());
        program(&none).expect("nothing goes wrong");
    }
    let refused = ["x3", "f", "f3 4"].map(|text| text.parse::<Decisions>().is_err());
    assert_eq!(refused, [true; 3]);
}
