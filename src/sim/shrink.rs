//! The smallest luck with which a program still fails.
//!
//! ```text
//!   seed 17 fails, with 43 faults and delays
//!        └──► leave out a half, a quarter, .. one of them
//!                  └──► it fails with 2 of them: the others have nothing to do with it
//! ```
//!
//! Every chance that a simulated kernel takes has a number, in the order in which it asks: `f3` is
//! the third question about a fault, `d12` the twelfth about a delay. What happens by a chance (how
//! long a delay is) depends on its number and the seed alone, so leaving one out leaves the others
//! as they are, as long as the program does not take another way.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use super::Sim;
use super::faults::Faults;
use super::trace::Record;

/// How many runs a search takes at most.
const RUNS: u32 = 2000;

/// Chances that were, or may be, taken.
///
/// # Example
///
/// ```
/// use annulus::sim::shrink::Decisions;
///
/// let some: Decisions = "f3 f17 d2".parse()?;
/// assert_eq!((some.len(), some.to_string()), (3, "f3 f17 d2".into()));
/// # Ok::<(), annulus::sim::shrink::NoDecision>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decisions {
    pub(super) faults: BTreeSet<u32>,
    pub(super) delays: BTreeSet<u32>,
}

impl Decisions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.faults.len() + self.delays.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Without those of the `part`-th of `parts` parts.
    fn without(&self, part: usize, parts: usize) -> Self {
        let all = self.faults.iter().map(|&at| (true, at));
        let all: Vec<(bool, u32)> = all.chain(self.delays.iter().map(|&at| (false, at))).collect();
        let (from, to) = (part * all.len() / parts, (part + 1) * all.len() / parts);
        let kept = || all.iter().enumerate().filter(|(at, _)| !(from..to).contains(at));
        let of = |faults| kept().filter(move |(_, one)| one.0 == faults).map(|(_, one)| one.1);
        Self { faults: of(true).collect(), delays: of(false).collect() }
    }
}

impl fmt::Display for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|at| format!("f{at}"));
        let all: Vec<String> =
            faults.chain(self.delays.iter().map(|at| format!("d{at}"))).collect();
        f.write_str(&all.join(" "))
    }
}

/// This text names no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no decision: they look like \"f3 f17 d2\"")]
pub struct NoDecision(String);

impl FromStr for Decisions {
    type Err = NoDecision;

    fn from_str(text: &str) -> Result<Self, NoDecision> {
        let mut all = Self::default();
        for word in text.split_whitespace() {
            let number = |text: &str| text.parse().map_err(|_| NoDecision(word.to_owned()));
            let _ = match word.split_at_checked(1) {
                Some(("f", rest)) => all.faults.insert(number(rest)?),
                Some(("d", rest)) => all.delays.insert(number(rest)?),
                _ => return Err(NoDecision(word.to_owned())),
            };
        }
        Ok(all)
    }
}

/// A run that fails, with no more luck than that takes. [`Display`](fmt::Display) prints what went
/// wrong, the last events, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shrunk {
    /// The seed of the run.
    pub seed: u64,
    /// The faults of the run.
    pub faults: Faults,
    /// The chances that must be taken; without any single one of them the program does not fail, if
    /// the search came to its end.
    pub decisions: Decisions,
    /// How many the run took that failed first.
    pub before: usize,
    /// What is wrong.
    pub why: String,
    /// The events of the run.
    pub trace: Vec<Record>,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, faults, decisions, before, why, trace } = self;
        writeln!(f, "seed {seed} fails with {} of {before} chances: {why}", decisions.len())?;
        for record in trace {
            writeln!(f, "  {record}")?;
        }
        writeln!(f, "again: Sim::with_decisions({seed}, faults, &\"{decisions}\".parse()?)")?;
        write!(f, "where faults = {faults:?}")
    }
}

/// A run of the program.
struct Run {
    taken: Decisions,
    why: Option<String>,
    sim: Sim,
}

/// Runs `program` with the luck of a seed. If it fails, runs it again and again, with less and less
/// of that luck, and returns the smallest run that fails; `None` if it does not fail.
///
/// A program fails when it returns an error or panics, and when it has broken a rule. It must do
/// the same each time, but for what the simulation decides. Panics are printed as they happen.
///
/// # Example
///
/// ```
/// use annulus::sim::shrink::shrink;
/// use annulus::sim::{Faults, Sim};
/// use annulus::{Setup, op};
///
/// /// Believes that a receive fills its buffer.
/// fn program(sim: &Sim) -> Result<(), Box<dyn std::error::Error>> {
///     let mut ring = Setup::new(8).kernel(sim.kernel()).build()?;
///     let (ours, theirs) = sim.socket_pair()?;
///     sim.write(&theirs, b"hello")?;
///     let recv = ring.submit(op::Recv::new(ours, Vec::with_capacity(5)))?;
///     let (count, _) = ring.wait(recv)?.ok()?;
///     if count == 5 { Ok(()) } else { Err("it is short".into()) }
/// }
///
/// let shrunk = (0..100).find_map(|seed| shrink(seed, Faults::SOME, program));
/// let shrunk = shrunk.ok_or("the bug was not found")?;
/// assert_eq!(shrunk.decisions.len(), 1, "{shrunk}"); // The short receive, and no delay.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn shrink<E: fmt::Display>(
    seed: u64,
    faults: Faults,
    program: impl Fn(&Sim) -> Result<(), E>,
) -> Option<Shrunk> {
    let first = run(&program, Sim::with_faults(seed, faults));
    first.why.as_ref()?;
    let before = first.taken.len();
    let (mut best, mut parts, mut runs) = (first, 2, 0);
    while !best.taken.is_empty() && runs < RUNS {
        let len = best.taken.len();
        parts = parts.min(len);
        let mut smaller: Option<Run> = None;
        for part in 0..parts {
            runs += 1;
            let fewer = best.taken.without(part, parts);
            let tried = run(&program, Sim::with_decisions(seed, faults, &fewer));
            let is_best =
                smaller.as_ref().is_none_or(|other| tried.sim.events() < other.sim.events());
            if tried.why.is_some() && tried.taken.len() < len && is_best {
                smaller = Some(tried);
            }
        }
        match smaller {
            Some(run) => (best, parts) = (run, 2.max(parts - 1)),
            None if parts == len => break,
            None => parts *= 2,
        }
    }
    let (why, trace) = (best.why.expect("it fails"), best.sim.trace());
    Some(Shrunk { seed, faults, decisions: best.taken, before, why, trace })
}

fn run<E: fmt::Display>(program: &impl Fn(&Sim) -> Result<(), E>, sim: Sim) -> Run {
    let why = match catch_unwind(AssertUnwindSafe(|| program(&sim))) {
        Ok(Ok(())) => sim.report().broken.first().cloned(),
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(text.unwrap_or("it panicked").to_owned())
        }
    };
    Run { taken: sim.decisions(), why, sim }
}
