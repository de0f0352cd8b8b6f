//! The bodies of the fuzz targets as an ordinary test: each over the inputs that are committed
//! (`tests/fuzz/inputs`), and over inputs that seeds make.
//!
//! ```text
//!   ANNULUS_SEEDS=5000 cargo test --test fuzzed in_sim       more seeds, for one body
//!   ANNULUS_INPUT=path cargo test --test fuzzed in_sim       this input alone; with ANNULUS_TELL=1
//!                                                         and -- --nocapture also its steps
//! ```
//!
//! Does not search: that is what `tests/fuzz/campaign` does. See `docs/FUZZING.md`.
#![allow(unsafe_code, reason = "plays the kernel")]
#![allow(clippy::duplicate_mod, reason = "two bodies stand on one module of other tests")]

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use bodies::chance::Chance;

/// How many inputs of a body are made from seeds, and the longest of them.
const SEEDS: u64 = 300;
const LONGEST: u32 = 400;

/// Runs a body over its inputs.
fn over(name: &str, seeds: u64, body: fn(&[u8])) {
    if let Some(path) = std::env::var_os("ANNULUS_INPUT") {
        return body(&read(Path::new(&path)));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/inputs").join(name);
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder:?} holds no input");
    for path in &paths {
        println!("{}", path.display());
        body(&read(path));
    }
    let number = |text: String| text.parse().expect("a number");
    let seeds = std::env::var("ANNULUS_SEEDS").map_or(seeds, number);
    for seed in 0..seeds {
        println!("{name}, seed {seed}");
        let mut chance = Chance::new(seed);
        let count = chance.below(LONGEST) as usize;
        body(&chance.bytes(count));
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn sq2_cq2_hold_in_hostile() {
    over("hostile", SEEDS, bodies::hostile::run);
}

#[test]
fn op1_op2_op3_br1_rg1_hold_in_owned() {
    over("owned", SEEDS, bodies::owned::run);
}

#[test]
fn op1_op2_op3_rg1_hold_in_lanes() {
    over("lanes", SEEDS, bodies::lanes::run);
}

#[test]
fn op1_op2_br1_hold_in_sim() {
    over("sim", SEEDS, bodies::sim::run);
}

#[test]
fn op1_op3_hold_in_ends() {
    over("ends", SEEDS, bodies::ends::run);
}

#[test]
fn both_kernels_agree_in_linux() {
    over("linux", 20, bodies::linux::run);
}

#[test]
fn br1_br2_op3_hold_in_leases() {
    over("leases", SEEDS, bodies::leases::run);
}

#[test]
fn op3_holds_in_parsers() {
    over("parsers", SEEDS, bodies::parsers::run);
}

#[test]
fn two_rings_do_the_same_in_twin() {
    over("twin", SEEDS, bodies::twin::run);
}

#[test]
fn the_caller_reads_bytes_from_the_front_and_each_kernel_from_behind() {
    let mut ours = Chance::of(&[1, 2, 3, 4]);
    let (mut first, mut second) = (ours.split(), ours.split());
    assert_eq!([ours.below(9), ours.below(9)], [1, 2]);
    assert_eq!([first.below(9), first.below(9)], [4, 3]);
    assert_eq!([second.below(9), second.below(9)], [2, 1]);
    assert!(second.is_used_up() && !ours.is_used_up() && !first.is_used_up());
    assert_eq!((ours.below(256), ours.half(), ours.is_used_up()), (3, 4, true));
    // Then hashes go on, others for each.
    assert_ne!(ours.next(), second.next());
}
