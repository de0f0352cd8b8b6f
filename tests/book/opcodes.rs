//! Appendix B is written from the documentation of the operations: what each does, with its
//! example, and what is surprising about it.
//!
//! ```text
//!   src/op/mod.rs   the table of families ─► the order of the page
//!   src/op/*        /// of each struct    ─► its entry: summary, kernel, example, sections
//!                   /// of its maker      ─► an example, and more that surprises
//!   src/prep/*      /// of a function     ─► the entry of an opcode without a struct
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use annulus::sys::opcode::Opcode;

use crate::docs::{Doc, documented, methods};
use crate::pages::{root, rust_below, source};

/// What stands above the entries.
const HEAD: &str = "\
# Opcode reference

<!-- Written by a test: ANNULUS_WRITE=1 cargo test --test book -- opcodes -->

What each operation does, an example, and what surprises. All of it is the library's own
documentation, from which a test writes this page; the examples run as tests of the library. Where
the documentation warns of nothing, an entry says less. <sup>[shown by `tests/book`:
`the_page_of_opcodes_is_what_the_documentation_says`]</sup>

An entry has these parts, as far as there is something to say:

- what the operation does, the kernel's name for it, and the first mainline kernel that has it;
- *What surprises*: what the documentation warns of before all else;
- *Completion*: how often it completes, and with what. [Chapter
  8](ch08-errors.md#what-a-result-means) is about results;
- *Cancellation*: what a cancel does to it. [Chapter 10](ch10-cancel.md#the-race) is about the
  race;
- *Errors*: those that are its own, and where kernels differ. What an error means to a chain is in
  [chapter 9](ch09-order.md#links).

Each type of operation is here. <sup>[shown by `tests/book`:
`every_operation_is_on_the_page_of_opcodes`]</sup>
";

/// What stands above the operations that have no type.
const RAW: &str = "
## Without a type of their own

The safe API does these by a call, or not at all. Here is what the documentation of
`annulus::prep` says, whose functions write the entry; with the raw API the caller has to keep
what it points to.
";

/// What no family names: operations that a method of another one makes, and the output of all that
/// complete more than once.
const OTHERS: [&str; 4] = ["AcceptFrom", "DirectTo", "ClearFile", "Ended"];

/// A family of operations: its title, and its types in the order of the table.
struct Family {
    title: String,
    types: Vec<String>,
}

/// The table at the head of `src/op/mod.rs`, each type where it is named first.
fn families() -> Vec<Family> {
    let text = fs::read_to_string(root().join("src/op/mod.rs")).expect("text");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.skip(1).filter_map(|row| row.split_once(" | "));
    let family = |(title, types): (&str, &str)| {
        let title: String = title.chars().filter(|c| !"[]`".contains(*c)).collect();
        let mut letters = title.chars();
        let first = letters.next().expect("a title").to_uppercase();
        let names = types.split("[`").skip(1).filter_map(|rest| rest.split('`').next());
        Family { title: first.chain(letters).collect(), types: names.map(str::to_owned).collect() }
    };
    let mut families: Vec<Family> = rows.map(family).collect();
    let others = OTHERS.map(str::to_owned).to_vec();
    families.push(Family { title: "Others".to_owned(), types: others });
    let mut seen = BTreeSet::new();
    for family in &mut families {
        family.types.retain(|name| seen.insert(name.clone()));
    }
    families
}

/// The whole page.
fn page() -> String {
    let types = documented(&rust_below(&root().join("src/op")), "struct");
    let types: BTreeMap<&str, &Doc> = types.iter().map(|doc| (&doc.name[..], doc)).collect();
    let makers = methods(&rust_below(&root().join("src/op")));
    let functions = documented(&rust_below(&root().join("src/prep")), "fn");
    let families = families();
    let on_page: BTreeSet<&str> =
        families.iter().flat_map(|family| &family.types).map(|name| &name[..]).collect();
    let mut whole = String::from(HEAD);
    let mut entries = String::new();
    let mut by_opcode: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for family in &families {
        write!(entries, "\n## {}\n", family.title).expect("memory");
        for name in &family.types {
            let doc = types.get(&name[..]).unwrap_or_else(|| panic!("src/op has no {name}"));
            let maker = doc.made_by().map(|made_by| find(&makers, &made_by));
            let shown =
                on_page.iter().find(|&other| types.get(other).is_some_and(|it| it.shows(name)));
            entries += &doc.entry(maker, shown.copied(), &on_page);
            for opcode in doc.opcodes() {
                by_opcode.entry(opcode).or_default().push(name);
            }
        }
    }
    entries += RAW;
    whole += "\n| opcode | since Linux | types |\n|---|---|---|\n";
    for opcode in Opcode::ALL {
        let name = opcode.name().expect("it is known");
        let since = opcode.since().expect("it is known");
        let links = by_opcode.get(name).map_or_else(
            || {
                entries += &raw_entry(name, &functions, &on_page);
                format!("none: [`{name}`](#{})", name.to_lowercase())
            },
            |types| {
                let link = |name: &&str| format!("[`{name}`](#{})", name.to_lowercase());
                types.iter().map(link).collect::<Vec<_>>().join(", ")
            },
        );
        writeln!(whole, "| `{name}` | {since} | {links} |").expect("memory");
    }
    whole + &entries
}

/// The method of this name.
fn find<'a>(makers: &'a [Doc], name: &str) -> &'a Doc {
    let found = makers.iter().find(|doc| doc.name == name);
    found.unwrap_or_else(|| panic!("src/op has no documentation of {name}"))
}

/// The entry of an opcode without a type.
fn raw_entry(opcode: &str, functions: &[Doc], on_page: &BTreeSet<&str>) -> String {
    let writes = functions.iter().filter(|doc| doc.text().contains(&format!("OP_{opcode}`")));
    let names: Vec<String> = writes.clone().map(|doc| format!("`prep::{}`", doc.name)).collect();
    let since = Opcode::ALL.iter().find(|it| it.name() == Some(opcode)).and_then(|it| it.since());
    let mut entry = format!("\n### {opcode}\n\n*`IORING_OP_{opcode}`, ");
    write!(entry, "since Linux {}.* ", since.expect("it is known")).expect("memory");
    if names.is_empty() {
        return entry + "No function of `prep` writes it.\n";
    }
    writeln!(entry, "Written by {}.", names.join(", ")).expect("memory");
    for doc in writes {
        entry += "\n";
        entry += &doc.plain(on_page);
    }
    entry
}

#[test]
fn the_page_of_opcodes_is_what_the_documentation_says() {
    let written = page();
    let path = source().join("opcodes.md");
    if std::env::var_os("ANNULUS_WRITE").is_some() {
        fs::write(&path, &written).expect("it can be written");
    }
    let shown = fs::read_to_string(path).unwrap_or_default();
    let differ = shown.lines().zip(written.lines()).find(|(shown, written)| shown != written);
    assert!(shown == written, "with ANNULUS_WRITE=1 this test writes it; first: {differ:?}");
}

#[test]
fn every_operation_is_on_the_page_of_opcodes() {
    let types = documented(&rust_below(&root().join("src/op")), "struct");
    let listed: Vec<String> = families().into_iter().flat_map(|family| family.types).collect();
    for doc in types.iter().filter(|doc| doc.section("Cancellation").is_some()) {
        assert!(listed.contains(&doc.name), "{} is in no family", doc.name);
    }
    assert!(listed.len() > 80, "{listed:?}");
}
