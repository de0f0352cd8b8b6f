//! `buffered_writes`: what holds on every kernel and file system, that the book shows its rows, and
//! that it cleans up.

use std::fs;
use std::path::Path;

use annulus::Capabilities;
use annulus::sys::flags::Features;

use super::{Folder, fails, prints, run};

/// Whether workers can be seen here; else says so.
fn can_tell() -> bool {
    let here = Capabilities::detect();
    let can = here.as_ref().is_ok_and(|here| here.features().contains(Features::NATIVE_WORKERS));
    if !can {
        eprintln!("skipped: needs Linux 5.12: {:?}", here.err());
    }
    can
}

/// The rows that are no titles: a name, and the counts.
fn rows(page: &str) -> Vec<(String, Vec<u32>)> {
    let row = |line: &str| {
        let (name, counts) = line.split_at_checked(31)?;
        let counts = counts.split_whitespace().map(|count| count.parse().ok());
        let counts = counts.collect::<Option<Vec<u32>>>()?;
        (!counts.is_empty()).then(|| (name.trim().to_owned(), counts))
    };
    page.lines().filter_map(row).collect()
}

#[test]
fn forced_writes_are_done_by_workers_and_no_more_are_counted_than_there_were() {
    if !can_tell() {
        return;
    }
    let folder = Folder::new("writes");
    let path = folder.0.to_str().expect("text");
    let page = prints("buffered_writes", &[path, path, "--writes", "7"]);
    let rows = rows(&page);
    assert_eq!(rows.len(), 9 + 8, "{page}");
    for (name, counts) in &rows {
        assert_eq!(counts.len(), 2, "{name}: {page}");
        assert!(counts.iter().all(|&count| count <= 7), "{name}: {page}");
    }
    let forced: Vec<_> = rows.iter().filter(|(name, _)| name.ends_with("forced")).collect();
    assert!(matches!(&forced[..], [(_, counts)] if *counts == [7, 7]), "{page}");
    // The folders of its own are gone.
    assert_eq!(fs::read_dir(&folder.0).expect("it is there").count(), 0);
    let stderr = fails(&run("buffered_writes", &[&format!("{path}/none")]), 1);
    assert!(stderr.starts_with("buffered_writes: cannot make a folder in "), "{stderr}");
}

#[test]
fn the_book_shows_the_rows_that_are_counted() {
    if !can_tell() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src/writes.txt");
    let shown = rows(&fs::read_to_string(path).expect("the book has it"));
    let counted = rows(&prints("buffered_writes", &["--writes", "1"]));
    let names = |rows: &[(String, Vec<u32>)]| -> Vec<String> {
        rows.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&shown), names(&counted));
    let counts = |(_, counts): &(String, Vec<u32>)| counts.len() == 6;
    assert!(shown.iter().all(counts), "five file systems, one of them twice");
}
