//! Samples of benchmarks that start and stop the clock by themselves.
//!
//! `measure::race` runs a contender and times all that it does; here something else happens between
//! the timed parts, such as comparing what came.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::measure::{Measured, Spread};

/// The samples of a contender so far.
pub struct Samples {
    name: String,
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

impl Samples {
    pub fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), cpu: Vec::new(), wall: Vec::new() }
    }

    /// A sample, in nanoseconds an operation.
    pub fn add(&mut self, cpu: f64, wall: f64) {
        self.cpu.push(cpu);
        self.wall.push(wall);
    }

    pub fn measured(self) -> Measured {
        Measured { name: self.name, cpu: Spread::of(self.cpu), wall: Spread::of(self.wall) }
    }
}

/// The CPU time of this process and the time of day, since it was started.
pub struct Clock {
    cpu: f64,
    wall: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { cpu: cpu_nanos(), wall: Instant::now() }
    }

    /// CPU time and wall time, in nanoseconds.
    pub fn stop(self) -> (f64, f64) {
        (cpu_nanos() - self.cpu, self.wall.elapsed().as_secs_f64() * 1e9)
    }
}

fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_middle_half_is_between_the_quarters() {
        let Spread { low, median, high } = Spread::of(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((low, median, high), (2.0, 3.0, 4.0));
    }
}
