//! What `capabilities` prints: the same facts as a table and as JSON, and in the crate itself.

use annulus::Capabilities;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};

use crate::{fails, prints, run};

#[test]
fn capabilities_names_everything_and_says_what_is_here() {
    let here = Capabilities::detect().unwrap();
    let mut expected = Vec::new();
    let name = |name: Option<&'static str>| name.expect("each has a name").to_owned();
    expected.extend(Opcode::ALL.iter().map(|&op| (name(op.name()), here.has_op(op))));
    expected.extend(RegisterOp::ALL.iter().map(|&op| (name(op.name()), here.has_register(op))));
    let (setup, enter, features) = (SetupFlags::all(), EnterFlags::all(), Features::all());
    let named = |flag: (&str, bool)| (flag.0.to_owned(), flag.1);
    let setup = setup.iter_names().map(|(name, flag)| (name, here.setup_flags().contains(flag)));
    expected.extend(setup.map(named));
    let enter = enter.iter_names().map(|(name, flag)| (name, here.enter_flags().contains(flag)));
    expected.extend(enter.map(named));
    let features = features.iter_names().map(|(name, flag)| (name, here.features().contains(flag)));
    expected.extend(features.map(named));

    let json = prints("capabilities", &["--json"]);
    let told: Vec<_> = json.lines().filter_map(json_row).collect();
    assert_eq!(told, expected);
    let mut columns: [Vec<(String, bool)>; 2] = Default::default();
    let mut told = Vec::new();
    for line in prints("capabilities", &[]).lines().skip(1).chain([""]) {
        if !line.starts_with(' ') {
            told.extend(columns.iter_mut().flat_map(std::mem::take));
            continue;
        }
        let (left, right) = line.split_at(line.len().min(41));
        columns[0].push(table_row(left));
        columns[1].extend((!right.is_empty()).then(|| table_row(right)));
    }
    assert_eq!(told, expected);
}

/// A line such as `"NOP": { "here": true, "since": "5.1" },`.
fn json_row(line: &str) -> Option<(String, bool)> {
    let (name, rest) = line.trim().strip_prefix('"')?.split_once("\": { \"here\": ")?;
    let (here, since) = rest.split_once(", \"since\": \"")?;
    assert!(since.trim_end_matches(',').ends_with("\" }"), "{line}");
    Some((name.to_owned(), here.parse().expect("true or false")))
}

/// A cell such as `PIPE    needs Linux 6.16`.
fn table_row(cell: &str) -> (String, bool) {
    let (name, answer) = cell.trim().split_once(' ').expect("a name and an answer");
    let answer = answer.trim();
    assert!(["yes", "no"].contains(&answer) || answer.starts_with("needs Linux "), "{cell}");
    (name.to_owned(), answer == "yes")
}

#[test]
fn capabilities_fits_a_terminal_and_a_parser() {
    let page = prints("capabilities", &[]);
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert!(page.starts_with("Linux "), "{page}");
    let json = prints("capabilities", &["--json"]);
    assert_eq!(json.matches('{').count(), json.matches('}').count());
    assert!(!json.contains(",\n  }") && !json.contains(",\n}"), "a comma too many: {json}");
    let help = prints("capabilities", &["--help"]);
    assert!(help.contains("\nUsage: capabilities [OPTIONS]") && help.contains("--json"), "{help}");
    let wrong = fails(&run("capabilities", &["--frobnicate"]), 2);
    assert!(wrong.starts_with("error: unexpected argument '--frobnicate' found\n"), "{wrong}");
    assert!(wrong.contains("\nUsage: capabilities [OPTIONS]"), "{wrong}");
}
