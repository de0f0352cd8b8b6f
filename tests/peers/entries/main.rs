//! Writes each operation of the stock crate as the words of its entry:
//! `cargo run --manifest-path tests/peers/entries/Cargo.toml > tests/data/compat_entries.tsv`.

#[path = "../../compat/entries.rs"]
mod entries;

use ::io_uring;

fn main() {
    for (name, words) in entries::rows() {
        let words: Vec<String> = words.iter().map(|word| format!("{word:016x}")).collect();
        println!("{name}\t{}", words.join(" "));
    }
}
