//! `docs/KERNELS.md` says of each flag what the code says: none missing, none wrong, none made up;
//! and `src/register.rs` of each register call.

use std::fs;
use std::path::Path;

use annulus_sys::flags::{EnterFlags, Features, SetupFlags};
use annulus_sys::opcode::RegisterOp;

const KERNELS: &str = include_str!("../docs/KERNELS.md");

/// The rows of the table under `heading`: the name in back quotes, and the release beside it.
fn rows(heading: &str) -> Vec<(String, String)> {
    let (_, section) = KERNELS.split_once(&format!("\n### {heading}\n")).expect("a heading");
    let section = section.split("\n#").next().expect("a section");
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((name, cells.next()?.to_owned()))
    };
    section.lines().filter_map(row).collect()
}

/// What the code says: each name, and since when.
fn facts<'a>(flags: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<(String, String)> {
    flags.map(|(name, since)| (name.to_owned(), since.expect("a release").to_owned())).collect()
}

#[test]
fn each_setup_flag_stands_in_the_table_with_its_release() {
    let flags = SetupFlags::all();
    assert_eq!(
        rows("Set-up flags"),
        facts(flags.iter_names().map(|(name, flag)| (name, flag.since())))
    );
}

#[test]
fn each_feature_stands_in_the_table_with_its_release() {
    let flags = Features::all();
    assert_eq!(
        rows("Features"),
        facts(flags.iter_names().map(|(name, flag)| (name, flag.since())))
    );
}

#[test]
fn each_enter_flag_stands_in_the_table_with_its_release() {
    let flags = EnterFlags::all();
    assert_eq!(
        rows("Enter flags"),
        facts(flags.iter_names().map(|(name, flag)| (name, flag.since())))
    );
}

/// The rows of the table of register calls, each as its cells.
fn register_rows() -> Vec<Vec<&'static str>> {
    const HEAD: &str = "//! | | call | since Linux | function | test |\n";
    let source = include_str!("../src/register.rs");
    let (_, table) = source.split_once(HEAD).expect("the table");
    let rows = table.lines().skip(1).map_while(|line| line.strip_prefix("//! | "));
    rows.map(|row| row.trim_end_matches(" |").split(" | ").collect()).collect()
}

#[test]
fn each_register_call_stands_in_the_table_with_its_release() {
    let said: Vec<_> = register_rows().iter().map(|row| (row[0], row[1], row[2])).collect();
    let names: Vec<_> = RegisterOp::ALL
        .iter()
        .map(|op| (op.0.to_string(), format!("`{}`", op.name().unwrap()), op.since().unwrap()))
        .collect();
    let facts: Vec<_> =
        names.iter().map(|(number, name, since)| (&number[..], &name[..], *since)).collect();
    assert_eq!(said, facts);
}

/// All that stands in the files of `dir` and below.
fn text_of(dir: &Path) -> String {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("one").path());
    let text = |path: &Path| fs::read_to_string(path).expect("a text");
    entries.map(|path| if path.is_dir() { text_of(&path) } else { text(&path) }).collect()
}

#[test]
fn each_register_call_has_a_function_and_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = text_of(&root.join("src")) + &text_of(&root.join("sys"));
    let tests = text_of(&root.join("tests/kernel"));
    for row in register_rows() {
        let path = row[3].trim_start_matches("[`").split('`').next().expect("a name");
        let function = path.rsplit("::").next().expect("a name");
        assert!(libraries.contains(&format!("fn {function}(")), "{row:?}");
        let test = row[4].trim_matches('`');
        assert!(tests.contains(&format!("\"{test}\"")), "{row:?}");
    }
}
