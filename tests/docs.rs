//! `docs/KERNELS.md` says of each flag what the code says: none missing, none wrong, none made up.

use annulus_sys::flags::{EnterFlags, Features, SetupFlags};

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
