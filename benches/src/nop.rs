//! NOPs in batches: what a library costs, and what an enter costs.

use std::hint::black_box;

use crate::liburing::Liburing;
use crate::measure::{Contender, race};
use crate::table::Report;
use crate::ways::{Mode, Rounds, WAYS, Way};

pub fn run(batches: &[u32], mode: Mode, liburing: Option<&Liburing>, samples: u32) -> Report {
    let section = |&batch: &u32| {
        let contend = |&(name, way): &Way| {
            Contender::new(name, move |count| {
                let rounds = Rounds { mode, batch, rounds: count.div_ceil(u64::from(batch)) };
                let sum = black_box(way)(rounds);
                assert_eq!(sum, rounds.sum(), "{name} lost or repeated completions");
            })
        };
        let liburing = liburing.map(|liburing| liburing.contender(mode, batch));
        let contenders = WAYS.iter().map(contend).chain(liburing).collect();
        (format!("batch {batch}"), race(contenders, 20, samples))
    };
    let mut notes = vec![format!("rings: {mode:?}; each sample makes its ring anew")];
    notes.extend(liburing.map(|liburing| format!("liburing {}, in C", liburing.version)));
    if cfg!(feature = "peers") {
        notes.push("compio-driver has no NOP, so it pushes one of ours".to_owned());
    }
    if cfg!(feature = "peers") && mode == Mode::Deferred {
        notes.push("tokio-uring waits outside its ring, so with COOP_TASKRUN".to_owned());
    }
    Report {
        title: "NOPs: push a batch, submit and wait, take all",
        unit: "NOP",
        sections: batches.iter().map(section).collect(),
        notes,
    }
}
