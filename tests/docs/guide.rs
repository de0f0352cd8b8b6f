//! `docs/WRITING-A-RUNTIME.md`: its listings stand in files that CI builds and runs, and its
//! figures are those of the benchmarks.

use std::fs;
use std::path::Path;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The listings of a page: the file that the line before each one links, and the listing.
fn listings(page: &str) -> Vec<(String, String)> {
    let mut parts = page.split("\n```rust,ignore\n");
    let mut before = parts.next().expect("a beginning");
    let mut found = Vec::new();
    for part in parts {
        let (_, link) = before.trim_end().rsplit_once("](../").expect("a link before a listing");
        let (path, _) = link.split_once(')').expect("the end of a link");
        let (listing, rest) = part.split_once("\n```\n").expect("the end of a listing");
        found.push((path.to_owned(), listing.to_owned()));
        before = rest;
    }
    found
}

#[test]
fn each_listing_stands_in_the_file_that_is_linked_before_it() {
    let found = listings(&text("docs/WRITING-A-RUNTIME.md"));
    assert!(found.len() >= 10, "{} listings", found.len());
    for (path, listing) in found {
        let (file, listing_lines) = (text(&path), lines(&listing));
        let file = lines(&file);
        let stands = file.windows(listing_lines.len()).any(|window| window == listing_lines);
        assert!(stands, "{path} does not have these lines, one after the other:\n{listing}");
    }
}

#[test]
fn each_way_has_the_figures_of_the_benchmarks() {
    let page = text("docs/WRITING-A-RUNTIME.md");
    let counted = text("benches/instructions.tsv");
    for way in ["annulus-turn", "annulus-lane-waker", "annulus-safe-waker", "annulus-loop"] {
        let row = counted.lines().find_map(|row| row.strip_prefix(&format!("{way}\t")));
        let cells: Vec<&str> = row.expect("a row").split('\t').collect();
        let figures = format!("| {} | {} |", cells[0], cells[2]);
        let row = page.lines().find(|line| line.contains(&format!("`{way}`"))).expect("a row");
        assert!(row.ends_with(&figures), "{way}: {figures}");
    }
}
