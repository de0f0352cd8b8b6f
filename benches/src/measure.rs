//! Measuring: contenders take turns on one processor, and the median of their samples counts.

use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// A contender: its name, and what it does once for so many operations.
pub struct Contender<'a> {
    pub name: String,
    run: Box<dyn FnMut(u64) -> Spent + 'a>,
}

/// What a sample took, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    pub cpu: f64,
    pub wall: f64,
}

impl<'a> Contender<'a> {
    /// A contender that runs in this process, whose clocks are read before and after.
    pub fn new(name: impl Into<String>, mut run: impl FnMut(u64) + 'a) -> Self {
        Self::reporting(name, move |count| {
            let (cpu, wall) = (cpu_time(), Instant::now());
            run(count);
            Spent { cpu: cpu_time() - cpu, wall: wall.elapsed().as_secs_f64() }
        })
    }

    /// A contender that runs elsewhere, and says itself what it took.
    pub fn reporting(name: impl Into<String>, run: impl FnMut(u64) -> Spent + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Nanoseconds an operation: the median, and the ends of the middle half.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    /// Of `values`, at least one.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

/// What was measured of a contender.
#[derive(Debug, Clone)]
pub struct Measured {
    pub name: String,
    pub cpu: Spread,
    pub wall: Spread,
}

/// Measures all contenders, a sample of each in turn. A sample takes some `milliseconds`.
pub fn race(mut contenders: Vec<Contender<'_>>, milliseconds: u64, samples: u32) -> Vec<Measured> {
    let _pinned = on_processor(0);
    let counts: Vec<u64> = contenders.iter_mut().map(|one| enough(one, milliseconds)).collect();
    let mut taken: Vec<Vec<(f64, f64)>> = vec![Vec::new(); contenders.len()];
    for _ in 0..samples {
        for (at, one) in contenders.iter_mut().enumerate() {
            taken[at].push(sample(one, counts[at]));
        }
    }
    let names = contenders.into_iter().map(|one| one.name);
    names.zip(taken).map(|(name, samples)| summary(name, &samples)).collect()
}

/// How many operations take so long.
fn enough(one: &mut Contender<'_>, milliseconds: u64) -> u64 {
    let mut count = 256;
    loop {
        let took = (one.run)(count).wall * 1000.0;
        if took > milliseconds as f64 / 4.0 {
            return ((count as f64 * milliseconds as f64 / took) as u64).max(256);
        }
        count *= 4;
    }
}

/// CPU time and wall time of one sample, in nanoseconds an operation.
fn sample(one: &mut Contender<'_>, count: u64) -> (f64, f64) {
    let Spent { cpu, wall } = (one.run)(count);
    (cpu * 1e9 / count as f64, wall * 1e9 / count as f64)
}

fn summary(name: String, samples: &[(f64, f64)]) -> Measured {
    let cpu = Spread::of(samples.iter().map(|sample| sample.0).collect());
    let wall = Spread::of(samples.iter().map(|sample| sample.1).collect());
    Measured { name, cpu, wall }
}

/// The CPU time of this process, its kernel threads included, in seconds.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Keeps this thread on one processor, until dropped.
pub struct Pinned(CpuSet);

/// Keeps this thread on processor `number` of those that it may use, or on the last of them.
pub fn on_processor(number: usize) -> Option<Pinned> {
    let before = sched_getaffinity(None).ok()?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu));
    let last = usable.clone().next_back()?;
    let mut only = CpuSet::new();
    only.set(usable.nth(number).unwrap_or(last));
    sched_setaffinity(None, &only).ok()?;
    Some(Pinned(before))
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}
