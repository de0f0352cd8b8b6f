//! How many operations of each kind were done, to show that all of them are tried.

use std::collections::BTreeMap;

use crate::claims::Manner;

/// The outcomes of the operations of one kind.
#[derive(Debug, Default)]
struct Row {
    shipped: BTreeMap<&'static str, u64>,
    refused: u64,
    resource: u64,
    failed: BTreeMap<i32, u64>,
}

/// Counts over all lives.
#[derive(Debug, Default)]
pub struct Tally {
    rows: BTreeMap<&'static str, Row>,
    rings: BTreeMap<&'static str, u64>,
    whole: u64,
    in_parts: u64,
    /// Names that are to be left out.
    without: Vec<String>,
}

impl Manner {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Forced => "forced",
            Self::After | Self::Before | Self::Hard => "linked",
            Self::Within => "timed",
            Self::Drained => "drained",
        }
    }
}

impl Tally {
    /// Empty; leaves out the names in `without`, separated by commas.
    pub fn new(without: &str) -> Self {
        let without = without.split(',').map(|name| name.trim().to_owned()).collect();
        Self { without, ..Self::default() }
    }

    pub fn allows(&self, name: &str) -> bool {
        !self.without.iter().any(|without| without == name)
    }

    pub fn ring(&mut self, kind: &'static str) {
        *self.rings.entry(kind).or_default() += 1;
    }

    pub fn pool(&mut self, in_parts: bool) {
        *(if in_parts { &mut self.in_parts } else { &mut self.whole }) += 1;
    }

    pub fn shipped(&mut self, kind: &'static str, manner: Manner) {
        let row = self.rows.entry(kind).or_default();
        *row.shipped.entry(manner.name()).or_default() += 1;
    }

    pub fn refused(&mut self, kind: &'static str) {
        self.rows.entry(kind).or_default().refused += 1;
    }

    pub fn resource(&mut self, kind: &'static str) {
        self.rows.entry(kind).or_default().resource += 1;
    }

    pub fn failed(&mut self, kind: &'static str, code: i32) {
        *self.rows.entry(kind).or_default().failed.entry(code).or_default() += 1;
    }

    pub fn print(&self, lives: u64, seconds: f64) {
        println!("{lives} lives in {seconds:.1} s; rings: {:?}", self.rings);
        println!("rings of buffers: {} whole, {} in parts", self.whole, self.in_parts);
        let heads = ["plain", "forced", "linked", "timed", "drained"];
        let [plain, forced, linked, timed, drained] = heads;
        println!(
            "{:<24} {plain:>8} {forced:>8} {linked:>8} {timed:>8} {drained:>8} {:>8} {:>8}  failed",
            "", "refused", "brought"
        );
        for (kind, row) in &self.rows {
            print!("{kind:<24}");
            for head in heads {
                print!(" {:>8}", row.shipped.get(head).copied().unwrap_or(0));
            }
            print!(" {:>8} {:>8} ", row.refused, row.resource);
            for (code, count) in &row.failed {
                let error = std::io::Error::from_raw_os_error(*code).to_string();
                let words = if *code == 0 { "in words" } else { &error };
                print!(" {}: {count};", words.split(" (os").next().unwrap_or_default());
            }
            println!();
        }
    }
}
