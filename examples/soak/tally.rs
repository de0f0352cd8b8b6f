//! What a soak has done, in numbers that threads and children add up.
//!
//! ```text
//!   a round ─► its own numbers ─┬─► the tally of all threads ─► the table at the end
//!   a child ─► a line of text ──┘
//! ```

use std::fmt::Write as _;
use std::sync::Mutex;

/// The rows of the table, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Rounds,
    Rings,
    Operations,
    Detached,
    LeftInFlight,
    Bytes,
    Connections,
    Messages,
    Cancels,
    Refusals,
    Overflows,
    Interrupted,
    Enters,
    Sqes,
    Cqes,
    Dropped,
    Forgotten,
    LimitedRounds,
    Lacks,
    Signals,
    Kills,
    Pressure,
    Audits,
}

/// What each row says.
const ROWS: [(Count, &str); 23] = [
    (Count::Rounds, "rounds"),
    (Count::Rings, "rings"),
    (Count::Operations, "operations"),
    (Count::Detached, "of them detached"),
    (Count::LeftInFlight, "of them left to a ring that went"),
    (Count::Bytes, "bytes sent and received"),
    (Count::Connections, "connections"),
    (Count::Messages, "messages"),
    (Count::Cancels, "cancels"),
    (Count::Refusals, "refusals of a full ring or pool"),
    (Count::Overflows, "overflows found"),
    (Count::Interrupted, "waits ended by a signal"),
    (Count::Enters, "enters"),
    (Count::Sqes, "submission entries"),
    (Count::Cqes, "completion entries"),
    (Count::Dropped, "rings dropped in flight"),
    (Count::Forgotten, "rings forgotten"),
    (Count::LimitedRounds, "rounds under low limits"),
    (Count::Lacks, "rounds cut short by a limit"),
    (Count::Signals, "signals sent"),
    (Count::Kills, "children killed"),
    (Count::Pressure, "MiB mapped and touched"),
    (Count::Audits, "audits of descriptors"),
];

/// Numbers, one for each row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally([u64; ROWS.len()]);

impl Tally {
    /// Adds `number` to a row.
    pub fn add(&mut self, row: Count, number: u64) {
        self.0[row as usize] += number;
    }

    /// The number of a row.
    pub fn of(&self, row: Count) -> u64 {
        self.0[row as usize]
    }

    /// Adds all rows of another.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// As one line.
    pub fn to_line(self) -> String {
        self.0.map(|number| number.to_string()).join(" ")
    }

    /// The tally that a line says.
    pub fn from_line(line: &str) -> Option<Self> {
        let numbers: Option<Vec<u64>> = line.split(' ').map(|word| word.parse().ok()).collect();
        Some(Self(numbers?.try_into().ok()?))
    }

    /// As a table.
    pub fn to_table(self) -> String {
        ROWS.iter().fold(String::new(), |mut text, &(row, what)| {
            let _ = writeln!(text, "  {what:<34} {:>14}", self.of(row));
            text
        })
    }
}

/// The tally of all threads.
#[derive(Debug, Default)]
pub struct Total(Mutex<Tally>);

impl Total {
    /// Adds to it.
    pub fn merge(&self, tally: &Tally) {
        if let Ok(mut total) = self.0.lock() {
            total.merge(tally);
        }
    }

    /// Adds to a row of it.
    pub fn add(&self, row: Count, number: u64) {
        let mut tally = Tally::default();
        tally.add(row, number);
        self.merge(&tally);
    }

    /// What it is now.
    pub fn get(&self) -> Tally {
        self.0.lock().map(|total| *total).unwrap_or_default()
    }
}
