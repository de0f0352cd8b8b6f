//! NOPs in batches: what a library costs, and what an enter costs.

use std::hint::black_box;

use crate::measure::{Contender, race};
use crate::table::Report;
use crate::ways::{Mode, Rounds, WAYS};

pub fn run(batches: &[u32], mode: Mode, samples: u32) -> Report {
    let section = |&batch: &u32| {
        let contend = |&(name, way): &(&'static str, fn(Rounds) -> u64)| {
            Contender::new(name, move |count| {
                let rounds = Rounds { mode, batch, rounds: count.div_ceil(u64::from(batch)) };
                let sum = black_box(way)(rounds);
                assert_eq!(sum, rounds.sum(), "{name} lost or repeated completions");
            })
        };
        let rows = race(WAYS.iter().map(contend).collect(), 20, samples);
        (format!("batch {batch}"), rows)
    };
    Report {
        title: "NOPs: push a batch, submit and wait, take all",
        unit: "NOP",
        sections: batches.iter().map(section).collect(),
        notes: vec![format!("rings: {mode:?}; each sample makes its ring anew")],
    }
}
