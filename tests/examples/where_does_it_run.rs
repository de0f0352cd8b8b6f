//! `where_does_it_run`: what runs where on every kernel and file system, and that it cleans up.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use annulus::Capabilities;
use annulus::sys::flags::Features;
use annulus::sys::opcode::Opcode;

use super::programs::skip;
use super::{Folder, fails, prints, run};

/// Whether workers can be seen here, and every operation of the table is there; else says so.
fn can_tell() -> bool {
    let here = Capabilities::detect();
    // It has the youngest operation of the table.
    let can = here.as_ref().is_ok_and(|here| {
        here.features().contains(Features::NATIVE_WORKERS) && here.has_op(Opcode::MKDIRAT)
    });
    if !can {
        skip(&format!("needs Linux 5.15: {:?}", here.err()));
    }
    can
}

/// Whether it is sure that the kernel can try a pipe without waiting: 6.1 cannot, and the operation
/// that is asked for came later than the first kernel that can.
fn tries_pipes() -> bool {
    Capabilities::detect().is_ok_and(|here| here.has_op(Opcode::READ_MULTISHOT))
}

/// The rows of the table.
fn places(page: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let (name, place) = line.split_at(34);
        (name.trim().to_owned(), place.trim().to_owned())
    };
    page.lines().map(row).collect()
}

#[test]
fn operations_run_inline_or_armed_or_on_a_worker() {
    if !can_tell() {
        return;
    }
    let page = prints("where_does_it_run", &[]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src/where.txt");
    if std::env::var_os("ANNULUS_WRITE").is_some() {
        fs::write(&path, &page).expect("it can be written");
    }
    let shown = self::places(&fs::read_to_string(path).expect("the book has it"));
    let mut places = places(&page);
    assert!(shown.keys().eq(places.keys()), "with ANNULUS_WRITE=1 it is written:\n{page}");
    for (place, names) in [
        ("inline", &["nothing", "read a pipe that has bytes"][..]),
        (
            "armed",
            &[
                "read a pipe that is empty",
                "receive from who is silent",
                "accept, and nobody comes",
                "poll a pipe that is empty",
                "wait for ten milliseconds",
            ],
        ),
        (
            "worker",
            &[
                "make a file durable",
                "ask about a path",
                "make a directory",
                "move bytes from pipe to pipe",
            ],
        ),
    ] {
        for name in names {
            assert_eq!(shown[*name], place, "{name}: with ANNULUS_WRITE=1 it is written");
            let here = places.remove(*name);
            if name.starts_with("read a pipe")
                && !tries_pipes()
                && here.as_deref() == Some("worker")
            {
                continue;
            }
            assert_eq!(here.as_deref(), Some(place), "{name}:\n{page}");
        }
    }
    // What is left depends on the file system. All of it succeeds, somewhere.
    assert_eq!(places.len(), 4, "{page}");
    let somewhere = |place: &String| ["inline", "armed", "worker"].contains(&&**place);
    assert!(places.values().all(somewhere), "{page}");
}

#[test]
fn whatever_is_forced_runs_on_a_worker() {
    if !can_tell() {
        return;
    }
    let page = prints("where_does_it_run", &["--forced"]);
    let places = places(&page);
    assert!(places.len() == 15 && places.values().all(|place| place == "worker"), "{page}");
}

#[test]
fn the_folder_of_its_files_is_chosen_and_left_as_it_was() {
    if !can_tell() {
        return;
    }
    let folder = Folder::new("where");
    let path = folder.0.to_str().expect("text");
    prints("where_does_it_run", &["--folder", path]);
    assert_eq!(fs::read_dir(&folder.0).expect("it is there").count(), 0);
    let missing = format!("{path}/none");
    let stderr = fails(&run("where_does_it_run", &["--folder", &missing]), 1);
    assert!(stderr.starts_with("where_does_it_run: cannot make "), "{stderr}");
}
