//! Random lives: a small ring, and every use of leases, in any order.
//!
//! ```text
//!   seed ─► ring × pools × streams ─► some hundred steps ─► the end: everything is back
//! ```
//!
//! | in the environment | |
//! |---|---|
//! | `LIVES_SECONDS=60` | how long; three seconds by default |
//! | `LIVES_COUNT=1000` | how many, however long they take |
//! | `LIVES_SEED=7` | only this life, with its steps |
//! | `LIVES_START=7` | the first seed; the next ones follow |
//! | `LIVES_TELL=1` | prints each step as it begins, even of a life that hangs |
//! | `LIVES_ON=1` | goes on after a failure, and counts the failures |
//! | `LIVES_WITHOUT=recv own forced` | without these: `in parts`, and kinds and manners by their names in the tally |
//!
//! Every byte encodes its stream and its position in it; every lease that is held is watched; in
//! the end every buffer, slot and descriptor is back. Operations that the ring refuses are counted.
//! The features of a ring are asked for; where the kernel lacks one, there is less to try.

#[path = "../owned/chance.rs"]
#[expect(dead_code, reason = "others ask for random bytes, too")]
mod chance;
mod claims;
mod ends;
mod files;
mod flags;
mod ledger;
mod make;
mod passing;
mod receives;
mod scopes;
mod sends;
mod sentinels;
mod streams;
mod tally;
mod watch;
mod world;

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::{Setup, SetupError};

use chance::Chance;
use make::patient;
use tally::Tally;
use world::{Log, World};

/// A number in the environment.
fn asked(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[test]
fn every_life_ends_whole() {
    if let Err(error) = patient(|| Setup::plain(2).build()) {
        let off =
            matches!(error, SetupError::DisabledBySysctl { .. } | SetupError::DeniedBySeccomp);
        assert!(off, "a ring can be made here: {error}");
        println!("not run: {error}");
        return;
    }
    let tally = Tally::new(&std::env::var("LIVES_WITHOUT").unwrap_or_default());
    let tally = Rc::new(RefCell::new(tally));
    let (seed, count) = (asked("LIVES_SEED"), asked("LIVES_COUNT"));
    let first = seed.or(asked("LIVES_START")).unwrap_or(1);
    let limit = Duration::from_secs(asked("LIVES_SECONDS").unwrap_or(3));
    let count = if seed.is_some() { Some(1) } else { count };
    let (start, mut lives) = (Instant::now(), 0);
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    while count.map_or_else(|| start.elapsed() < limit, |count| lives < count) {
        let seed = first + lives;
        lives += 1;
        if let Err(finding) = live(seed, &tally) {
            assert!(asked("LIVES_ON").is_some(), "LIVES_SEED={seed}: {finding}");
            found.entry(sort_of(&finding)).or_insert((seed, 0)).1 += 1;
        }
    }
    tally.borrow().print(lives, start.elapsed().as_secs_f64());
    for (finding, (seed, times)) in &found {
        println!("{times:>6} times, first LIVES_SEED={seed}: {finding}");
    }
    assert!(found.is_empty(), "{} sorts of findings", found.len());
}

/// Lives one life; or prints the failure, with all of its steps.
fn live(seed: u64, tally: &Rc<RefCell<Tally>>) -> Result<(), String> {
    let log: Log = Rc::default();
    let before = descriptors();
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut chance = Chance::new(seed);
        let steps = 60 + chance.below(200);
        let mut world = World::new(chance, Rc::clone(tally), Rc::clone(&log));
        for _ in 0..steps {
            world.step();
        }
        ends::end(world);
        let after = descriptors();
        assert!(before == after, "OP3: {after} descriptors, and {before} before");
    }));
    let show = std::env::var_os("LIVES_SEED").is_some();
    if show || (lived.is_err() && asked("LIVES_ON").is_none()) {
        println!("life {seed}:\n  {}", log.borrow().join("\n  "));
    }
    lived.map_err(|payload| words(&*payload))
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// A failure without its numbers.
fn sort_of(finding: &str) -> String {
    let mut sort = String::new();
    for letter in finding.chars().take(140) {
        let letter = if letter.is_ascii_digit() { '#' } else { letter };
        if letter != '#' || !sort.ends_with('#') {
            sort.push(letter);
        }
    }
    sort
}
