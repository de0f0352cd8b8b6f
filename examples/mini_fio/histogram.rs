//! How long things took, in a table of a fixed size: percentiles of any number of latencies.
//!
//! ```text
//!   nanoseconds   0 1 2 .. 63 │ 64 .. 127 │ 128 .. 255 │ 256 .. 511 │ ..
//!   a row counts       1      │     1     │     2      │     4      │   of them: 64 rows a stretch
//! ```
//!
//! So a figure is never less than the latency that it stands for, and no more than a 64th above it.

use std::time::Duration;

/// Rows in each stretch, from one power of two to the next.
const ROWS: u64 = 64;
/// Enough for every `u64`.
const LEN: usize = 59 * 64;

/// Counts of latencies.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    least: u64,
    most: u64,
}

impl Histogram {
    /// With nothing in it.
    pub fn new() -> Self {
        Self { counts: vec![0; LEN].into(), count: 0, least: u64::MAX, most: 0 }
    }

    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[row(nanos)] += 1;
        self.count += 1;
        self.least = self.least.min(nanos);
        self.most = self.most.max(nanos);
    }

    /// The shortest.
    pub fn least(&self) -> Duration {
        Duration::from_nanos(if self.count == 0 { 0 } else { self.least })
    }

    /// The longest.
    pub fn most(&self) -> Duration {
        Duration::from_nanos(self.most)
    }

    /// The latency that `share` of all do not exceed, in thousandths: 990 is the 99th percentile.
    pub fn at(&self, share: u64) -> Duration {
        let rank = (self.count * share.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (row, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(last_of(row).min(self.most));
            }
        }
        self.most()
    }
}

/// The row of a latency.
fn row(nanos: u64) -> usize {
    // How far the number must be shifted until it is below two stretches.
    let shift = (nanos / ROWS).checked_ilog2().unwrap_or(0);
    usize::try_from(u64::from(shift) * ROWS + (nanos >> shift)).unwrap_or(LEN - 1)
}

/// The longest latency of a row.
fn last_of(row: usize) -> u64 {
    let row = row as u64;
    let shift = (row / ROWS).saturating_sub(1);
    let first = row - shift * ROWS;
    ((first + 1) << shift).wrapping_sub(1)
}
