//! `docs/LIBURING.md` names each public function of liburing once, with our counterpart.
//!
//! | | |
//! |---|---|
//! | each function of the list is in one row | none is forgotten |
//! | each row is of a function of the list | none is made up |
//! | each name of ours is in our sources, where its path says | none is out of date |
//! | each method that a row gives to `Ring` or `RawRing` is in an `impl` of it | it compiles as stated |
//! | each method that a row reaches through `Ring::raw` takes `&self` | so does that |
//!
//! The list (`data/liburing-2.15.txt`) is of the header of liburing 2.15, with the additions of its
//! main branch in August 2026.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/LIBURING.md");
const FUNCTIONS: &str = include_str!("../data/liburing-2.15.txt");

/// The rows: the first cell, and the second.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        Some((name, cells.collect()))
    };
    PAGE.lines().filter_map(row).filter(|(name, _)| name.contains("io_uring_")).collect()
}

/// The texts in back quotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// All our sources, by the beginning of their paths: `prep`, `op`, `sys`, or nothing.
fn sources(folder: &Path, into: &mut BTreeMap<String, String>, root: &str) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        let name = entry.file_name().into_string().expect("plain").replace(".rs", "");
        if path.is_dir() {
            sources(&path, into, if root.is_empty() { &name } else { root });
        } else {
            let text = fs::read_to_string(&path).expect("a text");
            let key = if root.is_empty() { name.as_str() } else { root };
            into.entry(key.to_owned()).or_default().push_str(&text);
            into.entry(String::new()).or_default().push_str(&text);
        }
    }
}

/// Whether `text` defines `name`: a function, a type, a field, a variant, or a flag.
fn defines(text: &str, name: &str) -> bool {
    let words = ["fn", "struct", "enum", "trait", "const"];
    let defined = words.iter().any(|word| {
        let ends = ['(', '<', ';', ' ', ':'];
        ends.iter().any(|end| text.contains(&format!("{word} {name}{end}")))
    });
    let is_member = ["pub ", "    "].iter().any(|before| {
        [": ", " {", ",", "("]
            .iter()
            .any(|end| text.contains(&format!("\n    {before}{name}{end}")))
    });
    let is_variant =
        [" {", ",", "("].iter().any(|end| text.contains(&format!("\n    {name}{end}")));
    defined || is_member || is_variant
}

#[test]
fn each_function_of_liburing_stands_in_one_row() {
    let rows = rows();
    let named: BTreeSet<_> = rows.iter().map(|(name, _)| *name).collect();
    assert_eq!(named.len(), rows.len(), "a function stands twice");
    let listed: BTreeSet<_> = FUNCTIONS.lines().collect();
    assert!(listed.len() > 200, "the list shrank to {}", listed.len());
    let missing: Vec<_> = listed.difference(&named).collect();
    assert!(missing.is_empty(), "in no row: {missing:?}");
    let unknown: Vec<_> = named.difference(&listed).collect();
    assert!(unknown.is_empty(), "no functions of liburing: {unknown:?}");
    for (name, cells) in rows {
        assert!(cells.iter().any(|cell| !cell.is_empty() && *cell != "–"), "{name} has nothing");
    }
}

#[test]
fn each_name_of_ours_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut ours, mut sys) = (BTreeMap::new(), BTreeMap::new());
    sources(&root.join("src"), &mut ours, "");
    sources(&root.join("sys"), &mut sys, "");
    let mut checked = 0;
    for (function, cells) in rows() {
        for name in cells.into_iter().flat_map(quoted) {
            let parts: Vec<_> = name.split("::").collect();
            let last = parts.last().expect("a name");
            let (known, place) = match parts[0] {
                "sys" => (&sys, parts[1]),
                "prep" | "op" => (&ours, parts[0]),
                "register" => (&ours, "raw"),
                _ => (&ours, ""),
            };
            let mut text = known.get(place).cloned().unwrap_or_default();
            text.push_str(sys.get("").filter(|_| place.is_empty()).map_or("", String::as_str));
            assert!(defines(&text, last), "{function}: we have no `{name}`");
            checked += 1;
        }
    }
    assert!(checked > 250, "only {checked} names were looked up");
}

/// The contents of the `impl` blocks of `whose` (`Ring<U>`, `RawRing`), in all of `text`.
fn impls_of(text: &str, whose: &str) -> String {
    let mut found = String::new();
    let mut inside = false;
    for line in text.lines() {
        let ends = format!(" {whose} {{");
        inside |= line.starts_with("impl") && line.ends_with(&ends) && !line.contains(" for ");
        if inside {
            found.push_str(line);
            found.push('\n');
        }
        inside &= line != "}";
    }
    found
}

#[test]
fn what_a_ring_is_said_to_have_it_has() {
    let mut ours = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut ours, "");
    let (safe, raw) = (impls_of(&ours[""], "Ring<U>"), impls_of(&ours[""], "RawRing"));
    let mut lent = 0;
    for (function, cells) in rows() {
        for name in cells.iter().copied().flat_map(quoted) {
            let (text, method) = match name.split_once("::") {
                Some(("Ring", method)) => (&safe, method),
                Some(("RawRing", method)) => (&raw, method),
                _ => continue,
            };
            let has = ["(", "<"].iter().any(|end| text.contains(&format!("fn {method}{end}")));
            assert!(has, "{function}: there is no `{name}`");
        }
        if !cells.iter().any(|cell| cell.contains("through `Ring::raw`")) {
            continue;
        }
        for method in quoted(cells[0]).filter_map(|name| name.strip_prefix("RawRing::")) {
            let (_, rest) = raw.split_once(&format!("fn {method}(")).expect("it has it");
            let lends = rest.trim_start().starts_with("&self");
            assert!(lends, "{function}: `Ring::raw` lends for reading, and `{method}` changes");
            lent += 1;
        }
    }
    assert!(lent > 4, "only {lent} go through `Ring::raw`");
}
