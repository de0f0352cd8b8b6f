//! The ring code costs no more instructions than it did: user-space instructions per NOP, counted
//! by callgrind in the benchmark's own program.
//!
//! | what | how |
//! |---|---|
//! | counted | the loops of `benches/`, in a release build, each in two lengths; the difference counts |
//! | expected | `benches/instructions.tsv`, within 2 in 100 |
//! | not run | without valgrind, on other machines than x86_64, or with another compiler |
//!
//! Instructions do not depend on how fast or busy the machine is. A figure that falls is a reason
//! to lower what the table expects; so it fails too.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const BATCHES: [u32; 3] = [1, 32, 128];
/// NOPs of the shorter run, and of the longer one: multiples of each batch.
const LENGTHS: [u32; 2] = [6400, 38400];

/// A way to use a ring, and its instructions per NOP for each batch.
struct Row {
    way: String,
    expected: [f64; 3],
}

/// The compiler that the table was made with, and its rows.
fn table() -> (String, Vec<Row>) {
    let text = include_str!("../../benches/instructions.tsv");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut fields = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    let Some(&["rustc", version]) = fields.next().as_deref() else { panic!("no version") };
    let figure = |field: &&str| field.parse::<f64>().expect("a number");
    let row = |fields: Vec<&str>| {
        let figures: Vec<f64> = fields[1..].iter().map(figure).collect();
        Row { way: fields[0].to_owned(), expected: figures.try_into().expect("three batches") }
    };
    (version.to_owned(), fields.map(row).collect())
}

/// Why nothing can be counted here.
fn obstacle(version: &str) -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the table is for x86_64".to_owned());
    }
    let valgrind = Command::new("valgrind").arg("--version").output();
    if !valgrind.is_ok_and(|output| output.status.success()) {
        return Some("valgrind is not installed".to_owned());
    }
    let rustc = Command::new("rustc").arg("--version").output().expect("cargo is here");
    let rustc = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let same = rustc.starts_with(&format!("rustc {version}."));
    (!same).then(|| format!("the table is for rustc {version}, and this is {}", rustc.trim()))
}

/// Says why nothing was counted, where the test's runner does not hide it.
fn tell(why: &str) {
    let _ = writeln!(std::io::stderr(), "no_way_to_use_a_ring_costs_more: not run: {why}");
}

/// The benchmark's program, or why it cannot be built.
fn program() -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    cargo.arg("--target-dir").arg(&target);
    // A sanitizer or a model checker would be counted too.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = cargo.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(target.join("release/annulus-bench"))
}

/// How many instructions the program takes in user space.
fn instructions(program: &Path, way: &str, batch: u32, count: u32) -> f64 {
    let mut callgrind = Command::new("valgrind");
    callgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = callgrind.args(["count", way, &batch.to_string(), &count.to_string()]).output();
    let output = output.expect("valgrind is installed");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{way}, batch {batch}: {report}");
    let collected = report.split_once("Collected :").expect("callgrind says how many").1;
    collected.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a number")
}

fn per_nop(program: &Path, way: &str, batch: u32) -> f64 {
    let [few, many] = LENGTHS.map(|count| instructions(program, way, batch, count));
    (many - few) / f64::from(LENGTHS[1] - LENGTHS[0])
}

#[test]
fn no_way_to_use_a_ring_costs_more_instructions_than_it_did() {
    let (version, rows) = table();
    if let Some(why) = obstacle(&version) {
        tell(&why);
        return;
    }
    let program = match program() {
        Ok(program) => program,
        Err(why) => {
            tell(&format!("the benchmark cannot be built here: {why}"));
            return;
        }
    };
    let mut wrong = Vec::new();
    for Row { way, expected } in &rows {
        for (batch, expected) in BATCHES.into_iter().zip(expected) {
            let counted = per_nop(&program, way, batch);
            println!("{way}, batch {batch}: {counted:.1}, expected {expected:.1}");
            if (counted - expected).abs() > expected * 0.02 {
                wrong.push(format!("{way}, batch {batch}: {counted:.1}, not {expected:.1}"));
            }
        }
    }
    assert!(wrong.is_empty(), "mend the code, or benches/instructions.tsv: {wrong:#?}");
}

#[test]
fn the_table_has_every_way_of_ours() {
    let source = include_str!("../../benches/src/ways.rs");
    let (_, rows) = table();
    // A row of the table of ways: `("annulus-turn", annulus_turn),`
    let named = |line: &str| {
        let name = line.trim().strip_prefix("(\"")?.split_once("\", ")?.0;
        Some(name.to_owned())
    };
    let ways = source.lines().filter_map(named).filter(|way| way.starts_with("annulus"));
    let mut ways: Vec<String> = ways.collect();
    let mut expected: Vec<String> = rows.into_iter().map(|row| row.way).collect();
    ways.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ways, expected);
}

/// The README's table says what is counted.
#[test]
fn the_readme_says_the_same() {
    let readme = include_str!("../../README.md");
    let (_, rows) = table();
    for Row { way, expected } in rows {
        let [one, some, many] = expected;
        let figures = format!("| {one:.1} | {some:.1} | {many:.1} |");
        let line = readme.lines().find(|line| line.ends_with(&figures));
        assert!(line.is_some_and(|line| line.starts_with("| annulus,")), "{way}: {figures}");
    }
}
