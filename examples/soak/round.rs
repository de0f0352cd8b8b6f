//! One round: rings, acts on them side by side, an end, and the account.
//!
//! ```text
//!   seed ─► hall ─► acts: step, turn, disturb .. ─┬─ all over ─► everything is back, shut down
//!                                                 ├─ half done ─► the rings are dropped
//!                                                 └─ half done ─► the rings are forgotten
//! ```

use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::act::{Act, Hall};
use super::chance::Chance;
use super::clocks::Clocks;
use super::door::Door;
use super::flow::Flow;
use super::make::LONG;
use super::post::Post;
use super::record::Record;
use super::tally::{Count, Tally};
use super::trouble::{Check, Trouble, equal, finding};
use super::{apart, make};

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Tidy,
    Dropped,
    Forgotten,
}

/// What a round leaves behind for good, in a forgotten ring.
#[derive(Debug, Default, Clone, Copy)]
pub struct Leaks {
    pub rings: usize,
    pub files: usize,
}

/// Runs the round that `seed` names. A lack is no failure: it cuts the round short.
pub fn run(seed: u64, may_forget: bool, patience: Duration) -> Result<(Tally, Leaks), Trouble> {
    let mut chance = Chance::new(seed);
    let end = match chance.below(24) {
        0..=5 => End::Dropped,
        6 if may_forget => End::Forgotten,
        _ => End::Tidy,
    };
    let mut hall = Hall {
        desks: Vec::new(),
        chance,
        tally: Tally::default(),
        closes_plainly: end == End::Forgotten,
        outliving: Vec::new(),
    };
    let mut acts = Vec::new();
    let played = furnish(&mut hall, &mut acts, end).and_then(|()| {
        let turns = if end == End::Tidy { u32::MAX } else { hall.chance.below(60) };
        play(&mut hall, &mut acts, turns, patience)
    });
    let end = match played {
        Ok(()) => end,
        Err(Trouble::Lack(_)) => {
            hall.tally.add(Count::Lacks, 1);
            End::Dropped
        }
        Err(trouble) => return Err(trouble),
    };
    hall.tally.add(Count::Rounds, 1);
    match end {
        End::Tidy => tidy(hall, acts, patience).map(|tally| (tally, Leaks::default())),
        _ => leave(hall, acts, end),
    }
}

/// Makes rings and acts.
fn furnish(hall: &mut Hall, acts: &mut Vec<Box<dyn Act>>, end: End) -> Check {
    for _ in 0..hall.chance.among(&[1, 1, 2, 3]) {
        let desk = make::desk(&mut hall.chance)?;
        hall.desks.push(desk);
    }
    for _ in 0..hall.chance.below(6) {
        acts.push(Box::new(Flow::new(hall)?));
    }
    for _ in 0..hall.chance.below(3) {
        acts.push(Box::new(Record::new(hall)?));
    }
    acts.push(Box::new(Clocks::new(hall)?));
    // A forgotten ring would go on accepting, and own what it accepts.
    if end != End::Forgotten && hall.chance.one_in(2) {
        acts.push(Box::new(Door::new(hall)?));
    }
    if end != End::Forgotten && hall.chance.one_in(3) {
        acts.push(Box::new(Post::new(hall)?));
    }
    Ok(())
}

/// All acts, until they are over or the turns are.
fn play(hall: &mut Hall, acts: &mut [Box<dyn Act>], turns: u32, patience: Duration) -> Check {
    let started = Instant::now();
    for _ in 0..turns {
        if acts.iter().all(|act| act.is_over()) {
            break;
        }
        if started.elapsed() > patience {
            let left: Vec<_> =
                acts.iter().filter(|act| !act.is_over()).map(|act| act.name()).collect();
            return finding(format!("no end comes of {}", left.join(", ")));
        }
        for act in acts.iter_mut() {
            act.step(hall)?;
        }
        hall.desks.iter().for_each(|desk| desk.hungry.set(false));
        turn(hall)?;
        if hall.chance.one_in(12) {
            apart::any(hall)?;
        }
    }
    Ok(())
}

/// Each ring submits, waits a little, and takes; sometimes something is cancelled.
fn turn(hall: &mut Hall) -> Check {
    let limit = Duration::from_micros(1 + u64::from(hall.chance.below(1000)));
    for desk in &mut hall.desks {
        desk.turn(limit)?;
        if desk.chance.one_in(6) {
            desk.disturb()?;
        }
    }
    Ok(())
}

/// Everything has come to its end: it must all be back.
fn tidy(mut hall: Hall, acts: Vec<Box<dyn Act>>, patience: Duration) -> Result<Tally, Trouble> {
    for act in acts {
        act.end(&mut hall, true)?;
    }
    let started = Instant::now();
    for turns in 0_u32.. {
        // Places of files are free once the kernel has answered.
        let whole = hall.desks.iter_mut().try_for_each(|desk| desk.is_whole());
        if whole.is_ok() && hall.desks.iter().all(|desk| desk.is_idle()) {
            break;
        }
        if started.elapsed() > patience {
            whole?;
            return finding("what was cancelled does not end");
        }
        for desk in &mut hall.desks {
            if turns % 16 == 0 {
                desk.cancel_all()?;
            }
            desk.turn(Duration::from_millis(1))?;
        }
    }
    let (tally, _) = go(hall, |ring| {
        ring.shutdown(LONG).or_else(|error| finding(format!("an idle ring: {error}")))
    })?;
    Ok(tally)
}

/// The rings go with operations in flight.
fn leave(mut hall: Hall, acts: Vec<Box<dyn Act>>, end: End) -> Result<(Tally, Leaks), Trouble> {
    for act in acts {
        act.end(&mut hall, false)?;
    }
    let rings = hall.desks.len();
    let mut shuts = hall.chance.one_in(2);
    if end == End::Forgotten {
        hall.tally.add(Count::Forgotten, rings as u64);
        let (tally, files) = go(hall, |ring| {
            mem::forget(ring);
            Ok(())
        })?;
        return Ok((tally, Leaks { rings, files }));
    }
    hall.tally.add(Count::Dropped, rings as u64);
    let (tally, files) = go(hall, |ring| {
        shuts = !shuts;
        match shuts {
            true => ring.shutdown(LONG).or_else(|error| finding(error.to_string())),
            false => {
                drop(ring);
                Ok(())
            }
        }
    })?;
    equal("files that rings which went still have", files, 0)?;
    Ok((tally, Leaks::default()))
}

/// Ends all rings. Returns how many files are still in use.
fn go(
    hall: Hall,
    mut end: impl FnMut(annulus::Ring<u64>) -> Check,
) -> Result<(Tally, usize), Trouble> {
    let Hall { desks, mut tally, outliving, .. } = hall;
    for desk in desks {
        tally.merge(&desk.go(&mut end)?);
    }
    let used = outliving.iter().filter(|file| Rc::strong_count(file) > 1).count();
    Ok((tally, used))
}
