//! Pictures are what they were, well formed, and equal from run to run.
//!
//! `ANNULUS_WRITE=1 cargo test --test pictures` writes `tests/golden`, and the figures of the book.

mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::{Document, ParsingOptions};
use support::{compare, folder, output, printed};

const STORIES: &[&str] = &[
    "demo",
    "read",
    "wrap",
    "sqpoll",
    "defer",
    "multishot",
    "chain",
    "cancel",
    "overflow",
    "zerocopy",
    "fanout",
];

/// What `docs/` shows, and what has something of its own in it.
const DRAWN: &[(&str, &str, &str)] = &[
    ("demo.svg", "demo", "3,5"),
    ("wrap.svg", "wrap", "3"),
    ("sqpoll.svg", "sqpoll", "4"),
    ("multishot.svg", "multishot", "4"),
    ("chain.svg", "chain", "2,3"),
    ("cancel.svg", "cancel", "3"),
    ("overflow.svg", "overflow", "3"),
    ("zerocopy.svg", "zerocopy", "3"),
];

#[test]
fn every_story_reads_as_it_did() {
    for story in STORIES {
        compare(&format!("{story}.txt"), &printed(&["demo", story, "--plain"]));
    }
}

#[test]
fn pictures_look_as_they_did() {
    for (file, story, frames) in DRAWN {
        compare(file, &printed(&["svg", story, "--frames", frames]));
    }
}

/// The files of a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.map(|path| (name(&path), fs::read_to_string(&path).expect("text"))).collect()
}

#[test]
fn figures_of_the_book_are_as_drawn() {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/book/src/figures");
    let drawn = folder("figures");
    // Of an earlier run, whose figures may have had other names.
    fs::remove_dir_all(&drawn).expect("it was made just now");
    let drawn = folder("figures");
    let write = |folder: &Path| {
        assert_eq!(printed(&["figures", &folder.display().to_string()]), "");
    };
    write(&drawn);
    if env::var_os("ANNULUS_WRITE").is_some() {
        write(&here);
    }
    let (drawn, shown) = (files(&drawn), files(&here));
    let names: Vec<&String> = drawn.keys().collect();
    assert_eq!(names, shown.keys().collect::<Vec<_>>(), "a figure is missing, or is no more");
    for (name, text) in &drawn {
        let is_same = shown[name] == *text;
        assert!(is_same, "{name} differs: `ringscope figures` draws it anew; look at it");
    }
}

#[test]
fn pictures_are_well_formed_and_say_what_they_show() {
    for story in STORIES {
        let text = printed(&["svg", story]);
        let document = Document::parse(&text).expect(story);
        let root = document.root_element();
        let has = |name| root.children().any(|node| node.has_tag_name(name));
        for name in ["title", "desc"] {
            let full = ("http://www.w3.org/2000/svg", name);
            assert!(has(full), "{story}: no <{name}>");
        }
        assert!(text.contains("prefers-color-scheme"), "{story}");
        let outside = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http"), "{story}: it names another place");
    }
}

#[test]
fn pages_have_balanced_elements() {
    for story in STORIES {
        let text = printed(&["html", story]);
        let from = text.find("<main").expect("a main");
        let to = text.find("</main>").expect("its end") + "</main>".len();
        // An <input> has no end in HTML.
        let body = text[from..to].replace("aria-label=\"frame\">", "aria-label=\"frame\"/>");
        let options = ParsingOptions::default();
        let document = Document::parse_with_options(&body, options).expect(story);
        let sections = document.descendants().filter(|node| node.has_tag_name("section"));
        let count = document.root_element().attribute("data-frames").expect("a count");
        assert_eq!(sections.count().to_string(), count, "{story}");
        assert!(!text.contains("http"), "{story}: it names another place");
    }
}

#[test]
fn two_runs_give_the_same_bytes() {
    for command in [["svg", "sqpoll"], ["html", "zerocopy"], ["demo", "multishot"]] {
        assert_eq!(printed(&command), printed(&command), "{command:?}");
    }
}

#[test]
fn the_demo_shows_what_it_promises() {
    let text = printed(&["svg", "demo"]);
    let document = Document::parse(&text).expect("XML");
    let frames: Vec<_> =
        document.descendants().filter(|node| node.has_attribute("data-frame")).collect();
    let place = |frame: usize, request: &str| {
        let places = frames[frame - 1].attribute("data-requests").expect("requests");
        let of_it = places.split(' ').find_map(|place| place.strip_prefix(request));
        of_it.expect("a place").trim_start_matches(':').to_owned()
    };
    let number = |frame: usize, name: &str| -> u32 {
        frames[frame - 1].attribute(name).expect("an index").parse().expect("a number")
    };
    // Out of order: B is complete while A, which came first, is in flight.
    assert_eq!((place(5, "A"), place(5, "B")), ("kernel".into(), "CQ".into()));
    // Slots that are used again before their first request completes.
    assert_eq!(number(3, "data-sq-head"), 3);
    assert!(number(4, "data-sq-written") > 4 && place(4, "A") == "kernel");
    // A completion without a system call.
    assert_eq!(number(4, "data-enters"), number(5, "data-enters"));
    assert!(number(5, "data-cq-tail") > number(4, "data-cq-tail"));
}

#[test]
fn what_means_nothing_is_refused_with_a_usage_line() {
    for wrong in [
        &["svg"][..],
        &["svg", "nope"],
        &["svg", "demo", "--frames", "0"],
        &["svg", "demo", "--frames", "10"],
        &["svg", "demo", "--frames", "x"],
        &["html", "nope"],
        &["demo", "nope"],
        &["paint"],
        &[],
    ] {
        let output = output(wrong);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {errors}");
        assert!(errors.contains("Usage:"), "{wrong:?}: {errors}");
    }
    let missing = output(&["svg", "demo", "-o", "/no/such/folder/x.svg"]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn every_command_has_help() {
    let help = printed(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"svg"), "{help}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        assert!(printed(&[command, "--help"]).contains("Usage:"), "{command}");
    }
}
