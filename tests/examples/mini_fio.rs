//! `mini_fio`: every kind of run moves what it says; its percentiles are those of a sorted list.

use std::fs;
use std::time::Duration;

#[path = "../../examples/mini_fio/histogram.rs"]
mod histogram;
#[path = "../../examples/mini_fio/plan.rs"]
mod plan;

use histogram::Histogram;
use plan::Plan;

use super::{Folder, fails, prints, run, text};

#[test]
fn percentiles_are_those_of_a_sorted_list_to_a_64th() {
    let mut state = 7_u64;
    for spread in [1_u64, 64, 100, 129, 10_000, 3_000_000, u64::MAX] {
        let mut histogram = Histogram::new();
        let mut sorted: Vec<u64> = (0..4_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state ^ (state >> 33)) % spread
            })
            .collect();
        sorted.iter().for_each(|&nanos| histogram.add(Duration::from_nanos(nanos)));
        sorted.sort_unstable();
        let exact = |share: usize| sorted[(sorted.len() * share).div_ceil(1000).max(1) - 1];
        for share in [0, 1, 500, 900, 990, 999, 1000] {
            let (exact, told) = (exact(share), histogram.at(share as u64).as_nanos());
            let (exact, above) = (u128::from(exact), u128::from(exact / 64));
            assert!(told >= exact && told <= exact + above, "{share}: {told} for {exact}");
        }
        assert_eq!(histogram.least().as_nanos(), u128::from(sorted[0]));
        assert_eq!(histogram.most().as_nanos(), u128::from(sorted[3_999]));
    }
    assert_eq!(Histogram::new().at(500), Duration::ZERO);
    assert_eq!(Histogram::new().least(), Duration::ZERO);
}

#[test]
fn blocks_are_used_in_turn_or_at_random_within_the_file() {
    let ordered: Vec<u64> = Plan::new(512, 3, 7, None).collect();
    assert_eq!(ordered, [0, 512, 1024, 0, 512, 1024, 0]);
    let random = |seed| Plan::new(4096, 10, 1_000, Some(seed)).collect::<Vec<u64>>();
    assert_eq!(random(1), random(1), "a seed is an order");
    assert_ne!(random(1), random(2));
    for number in 0..10 {
        let count = random(1).iter().filter(|&&at| at == number * 4096).count();
        assert!((50..200).contains(&count), "{count} of 1000 at {number}");
    }
}

#[test]
fn each_engine_reads_and_writes_as_much_as_it_says() {
    let folder = Folder::new("mini-fio");
    for engine in [&["--engine", "psync"][..], &["--depth", "7"], &["--depth", "7", "--fixed"]] {
        for what in ["read", "write", "randread", "randwrite"] {
            let file = folder.file("blocks", &vec![b'.'; 40_000]);
            let arguments =
                [&[file.as_str(), "--rw", what, "--bs", "4096", "--count", "60"], engine].concat();
            if what.ends_with("write") {
                let stderr = fails(&run("mini_fio", &arguments), 1);
                assert!(stderr.contains("add --overwrite"), "{stderr}");
                assert!(fs::read(&file).expect("it is there").iter().all(|&byte| byte == b'.'));
            }
            let page = prints("mini_fio", &[&arguments[..], &["--overwrite", "--stats"]].concat());
            let title = format!("{what} of 60 blocks of 4096 bytes, through the page cache\n");
            assert!(page.contains(&title), "{page}");
            let entries = if engine.contains(&"psync") { 0 } else { 60 };
            assert!(page.contains(&format!(" enters, {entries} SQEs, {entries} CQEs, ")), "{page}");
            // Nine whole blocks, of which the order writes all; and what is no block is left.
            let bytes = fs::read(&file).expect("it is there");
            let writes = what.ends_with("write");
            assert_eq!(bytes.len(), 40_000);
            assert!(bytes[9 * 4096..].iter().all(|&byte| byte == b'.'), "{what} {engine:?}");
            let is_new = |block: &[u8]| block.iter().all(|&byte| byte == b'm');
            let count = bytes[..9 * 4096].chunks(4096).filter(|block| is_new(block)).count();
            assert_eq!(count, if writes { 9 } else { 0 }, "{what} {engine:?}");
        }
    }
}

#[test]
fn a_queue_of_16_takes_fewer_enters_than_operations() {
    let page = prints("mini_fio", &["--size", "1", "--count", "1600", "--stats"]);
    let words: Vec<&str> = page.split_whitespace().collect();
    let at = words.iter().position(|&word| word == "enters,").expect("its line");
    let enters: u64 = words[at - 1].parse().expect("a number");
    // Four hundred or less, where no worker thread completes one read after the other.
    assert!(enters < 1600, "{page}");
}

#[test]
fn a_file_of_its_own_is_gone_in_the_end_and_a_named_one_stays() {
    let folder = Folder::new("mini-fio-own");
    let named = folder.0.join("made").into_os_string().into_string().expect("text");
    let page = prints("mini_fio", &["--size", "1", "--count", "3", "--rw", "write", &named]);
    assert!(page.starts_with(&format!("path {named}\n")), "{page}");
    assert_eq!(fs::metadata(&named).expect("it stays").len(), 1 << 20);
    let page = prints("mini_fio", &["--size", "1", "--count", "3"]);
    let path = page.lines().next().and_then(|line| line.strip_prefix("path ")).expect("a path");
    assert!(!std::path::Path::new(path).exists(), "{page}");
}

#[test]
fn direct_reads_are_served_or_refused_with_a_reason() {
    let small = ["--size", "1", "--count", "64", "--direct"];
    let output = run("mini_fio", &small);
    if output.status.success() {
        let page = text(&output.stdout);
        assert!(page.contains("of 64 blocks of 4096 bytes, past the page cache\n"), "{page}");
        let output = run("mini_fio", &[&small[..], &["--bs", "1000"]].concat());
        if !output.status.success() {
            let stderr = fails(&output, 1);
            assert!(stderr.contains("as if it were not aligned"), "{stderr}");
        }
    } else {
        // Not every file system has it.
        assert!(fails(&output, 1).contains("cannot open"), "{output:?}");
    }
    let output = run("mini_fio", &[&small[..], &["--iopoll"]].concat());
    if !output.status.success() {
        let stderr = fails(&output, 1);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn what_cannot_be_measured_is_told() {
    let folder = Folder::new("mini-fio-wrong");
    let short = folder.file("short", b"no block");
    let cases: [(&[&str], i32, &str); 5] = [
        (&[&short], 1, "there is no block of 4096 bytes in a file of 8"),
        (&["--engine", "psync", "--fixed"], 1, "take a ring"),
        (&["--fixed", "--dsync"], 2, "cannot be used with"),
        (&["--iopoll"], 2, "--direct"),
        (&["--rw", "both"], 2, "invalid value 'both'"),
    ];
    for (arguments, code, what) in cases {
        let stderr = fails(&run("mini_fio", arguments), code);
        assert!(stderr.contains(what), "{arguments:?}: {stderr}");
    }
}
