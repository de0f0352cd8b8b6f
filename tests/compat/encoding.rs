//! The entries of every operation.

use std::fs;
use std::path::Path;

use crate::entries::{Row, rows};
use crate::io_uring::opcode::{EpollCtl, Fadvise, Madvise, Send};
use crate::io_uring::squeue::Entry;
use crate::io_uring::types::{Fd, Fixed};

const STOCK: &str = include_str!("../data/compat_entries.tsv");

fn parse(line: &str) -> (&str, Vec<u64>) {
    let (name, words) = line.split_once('\t').expect("a name and words");
    let word = |word| u64::from_str_radix(word, 16).expect("a word in hex");
    (name, words.split(' ').map(word).collect())
}

#[test]
fn entries_are_those_of_the_stock_crate_byte_for_byte() {
    let ours: Vec<Row> = rows();
    let stock: Vec<_> = STOCK.lines().map(parse).collect();
    assert_eq!(ours.len(), stock.len());
    for ((ours, words), (name, expected)) in ours.iter().zip(stock) {
        assert_eq!((*ours, words), (name, &expected));
    }
}

#[test]
fn every_operation_has_a_row() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/compat/opcode");
    let rows = rows();
    let mut operations = 0;
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("pub struct ")) {
            let name = line.split(['(', ' ']).next().unwrap();
            let of = |row: &str| row.split(',').next() == Some(name);
            assert!(rows.iter().any(|(row, _)| of(row)), "{name} has no row");
            operations += 1;
        }
    }
    assert_eq!(operations, 75);
}

fn words(entry: Entry) -> [u64; 8] {
    // SAFETY: an entry is 64 bytes, and nothing but numbers.
    unsafe { (&raw const entry).cast::<[u64; 8]>().read() }
}

/// The stock crate keeps 32 bits of the length: 4 GiB become 0, which means up to the end.
#[test]
fn an_advice_for_4_gib_keeps_its_length() {
    let advice = words(Fadvise::new(Fd(3), 1 << 32, 4).offset(5).build());
    assert_eq!((advice[1], advice[2], advice[3] & 0xffff_ffff), (5, 1 << 32, 0));
    let advice = words(Madvise::new(std::ptr::null(), 1 << 32, 4).build());
    assert_eq!((advice[1], advice[2], advice[3] & 0xffff_ffff), (1 << 32, 0, 0));
}

/// The kernel ignores that the epoll is a registered file, and would take its index for a
/// descriptor. The stock crate lets it.
#[test]
fn a_registered_epoll_is_no_descriptor() {
    let entry = words(EpollCtl::new(Fixed(5), Fd(6), 1, std::ptr::null()).build());
    assert_eq!(entry[0] >> 32, 0xffff_ffff);
}

/// The kernel has 16 bits for the length of an address. The stock crate drops the rest.
#[test]
fn an_address_that_is_too_long_stays_too_long() {
    let send = Send::new(Fd(3), std::ptr::null(), 0).dest_addr_len(0x1_0010).build();
    assert_eq!(words(send)[5] >> 32, 0xffff);
}
