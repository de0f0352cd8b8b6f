//! What a ring costs before and after its work: making it, dropping it, and memory for each slot.

use annulus::{Ring, Setup};

use crate::measure::{Contender, race};
use crate::table::Report;

const SIZES: [u32; 4] = [32, 1024, 8192, 32768];

pub fn run(samples: u32) -> Report {
    let section = |&entries: &u32| {
        let raw = Contender::new("annulus, raw", move |count| {
            (0..count).for_each(|_| drop(Setup::new(entries).build_raw().expect("a ring")));
        });
        let safe = Contender::new("annulus, safe", move |count| {
            (0..count).for_each(|_| drop(Setup::new(entries).build().expect("a ring")));
        });
        let peer = Contender::new("io-uring", move |count| {
            (0..count).for_each(|_| drop(io_uring::IoUring::new(entries).expect("a ring")));
        });
        (format!("{entries} entries"), race(vec![raw, safe, peer], 40, samples))
    };
    Report {
        title: "A ring is made and dropped",
        unit: "ring",
        sections: SIZES.iter().map(section).collect(),
        notes: SIZES.iter().map(|&entries| memory(entries)).collect(),
    }
}

/// How much more memory of the process is resident with a ring than without one.
fn memory(entries: u32) -> String {
    let before = resident();
    let ring: Ring = Setup::new(entries).build().expect("a ring");
    let with = resident() - before;
    let slots = ring.vacant();
    format!(
        "{entries} entries, {slots} slots: {} KiB more resident with a safe ring, {} bytes a slot",
        with / 1024,
        with / u64::from(slots.max(1))
    )
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
