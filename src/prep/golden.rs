//! The entries that liburing writes, for tests to compare ours with.

use annulus_sys::abi::Sqe;

/// One line for each liburing helper: its name in the first column, its 64 bytes in the last.
const ROWS: &str = include_str!("../../tests/data/sqe-golden.tsv");

/// The entry that liburing's `helper` makes from the arguments in its row.
pub(super) fn golden(helper: &str) -> Sqe {
    let row = ROWS.lines().find(|line| line.split('\t').next() == Some(helper));
    let row = row.unwrap_or_else(|| panic!("no row for {helper}"));
    let digits = row.rsplit('\t').next().expect("the last column");
    let word = |at: usize| {
        let word = u64::from_str_radix(&digits[16 * at..16 * (at + 1)], 16);
        word.expect("hexadecimal").swap_bytes()
    };
    Sqe::from_words(std::array::from_fn(word))
}
