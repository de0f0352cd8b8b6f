//! The ABI of `annulus_sys`, checked against four witnesses: two tables of Linux 7.3, another
//! binding, and the bytes that liburing writes.
//!
//! | module | witness | what it proves |
//! |---|---|---|
//! | `constants` | `data/constants.tsv` | every name, its value, and its "Since Linux" |
//! | `layout` | `data/layout.tsv` | every struct and field, its offset and its size |
//! | `raw_sys` | `linux-raw-sys` | the two above, independently |
//! | `golden` | `data/sqe-golden.tsv` | that our field names are where liburing writes them |
//! | `values` | – | the results of our own small functions of these numbers |
//!
//! The asserts next to the structs state what we believe; these tests prove it.

mod constants;
mod golden;
mod layout;
mod raw_sys;
mod values;

/// The rows of a table: its lines, without comments, cut at the tabs.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
}

/// A number as the tables write it: decimal or hexadecimal, with a sign or without.
fn number(text: &str) -> i128 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(hexadecimal) => i128::from_str_radix(hexadecimal, 16),
        None => digits.parse(),
    };
    sign * magnitude.unwrap_or_else(|error| panic!("{text}: {error}"))
}
