//! `docs/KERNELS.md` and `src/raw/register.rs` agree with the code: no row is missing, wrong, or
//! made up.
//!
//! The tables of `docs/KERNELS.md` are the code's own constants. To write them again:
//! `ANNULUS_WRITE=1 cargo test --test docs -- --test-threads=1`.

mod guide;
mod steps {
    mod raw;
    mod safe;
}

use std::fs;
use std::path::Path;

use annulus_sys::flags::{EnterFlags, Features, SetupFlags};
use annulus_sys::opcode::{Opcode, RegisterOp};

/// The file.
fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/KERNELS.md")
}

/// The table of names and releases, in the form that follows a heading.
fn table<'a>(head: &str, facts: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let row = |(name, since): (&str, Option<&str>)| {
        format!("| `{name}` | {} |\n", since.expect("a release"))
    };
    format!("| {head} | Linux |\n|---|---|\n{}", facts.map(row).collect::<String>())
}

/// Requires that `table` follows `heading`; or writes it there, if asked to.
fn stands_under(heading: &str, table: &str) {
    let text = fs::read_to_string(path()).expect("the file is there");
    let (before, section) = text.split_once(&format!("\n### {heading}\n")).expect("a heading");
    let start = section.find("\n|").expect("a table") + 1;
    let rows = section[start..].split_inclusive('\n').take_while(|line| line.starts_with('|'));
    let end = start + rows.map(str::len).sum::<usize>();
    if std::env::var_os("ANNULUS_WRITE").is_some() {
        let (prose, rest) = (&section[..start], &section[end..]);
        let text = format!("{before}\n### {heading}\n{prose}{table}{rest}");
        fs::write(path(), text).expect("it can be written");
        return;
    }
    assert_eq!(&section[start..end], table, "see the head of tests/docs/main.rs");
}

#[test]
fn each_operation_stands_in_the_table_with_its_release() {
    let facts = Opcode::ALL.iter().filter_map(|op| Some((op.name()?, op.since())));
    stands_under("Operations", &table("operation", facts));
}

#[test]
fn each_register_call_stands_in_the_table_with_its_release() {
    let facts = RegisterOp::ALL.iter().filter_map(|op| Some((op.name()?, op.since())));
    stands_under("Register calls", &table("call", facts));
}

#[test]
fn each_setup_flag_stands_in_the_table_with_its_release() {
    let flags = SetupFlags::all();
    let facts = flags.iter_names().map(|(name, flag)| (name, flag.since()));
    stands_under("Set-up flags", &table("flag", facts));
}

#[test]
fn each_feature_stands_in_the_table_with_its_release() {
    let flags = Features::all();
    let facts = flags.iter_names().map(|(name, flag)| (name, flag.since()));
    stands_under("Features", &table("feature", facts));
}

#[test]
fn each_enter_flag_stands_in_the_table_with_its_release() {
    let flags = EnterFlags::all();
    let facts = flags.iter_names().map(|(name, flag)| (name, flag.since()));
    stands_under("Enter flags", &table("flag", facts));
}

/// The rows of the table of register calls, each as its cells.
fn register_rows() -> Vec<Vec<&'static str>> {
    const HEAD: &str = "//! | | call | since Linux | function | test |\n";
    let source = include_str!("../../src/raw/register.rs");
    let (_, table) = source.split_once(HEAD).expect("the table");
    let rows = table.lines().skip(1).map_while(|line| line.strip_prefix("//! | "));
    rows.map(|row| row.trim_end_matches(" |").split(" | ").collect()).collect()
}

#[test]
fn each_register_call_stands_at_the_head_of_its_file() {
    let said: Vec<_> = register_rows().iter().map(|row| (row[0], row[1], row[2])).collect();
    let names: Vec<_> = RegisterOp::ALL
        .iter()
        .map(|op| (op.0.to_string(), format!("`{}`", op.name().unwrap()), op.since().unwrap()))
        .collect();
    let facts: Vec<_> =
        names.iter().map(|(number, name, since)| (&number[..], &name[..], *since)).collect();
    assert_eq!(said, facts);
}

/// The text of all files in `dir` and below.
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
