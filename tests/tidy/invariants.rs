//! SQ1 and its sisters: each defined once, cited where it is kept, and named by a test.

use std::collections::BTreeMap;

use crate::source::{Complaint, File};

/// The file whose table defines the invariants, one a row: `//! | SQ1 | only we store ..`.
const DEFINED_IN: &str = "sys/lib.rs";

/// Their names.
const NAMES: &[&str] = &[
    "SQ1", "SQ2", "SQ3", "SQ4", "SQ5", "CQ1", "CQ2", "CQ3", "CQ4", "CQ5", "BR1", "BR2", "OP1",
    "OP2", "OP3", "RG1",
];

/// Whoever keeps OP1, OP2 and OP3. Before that file stands there is nothing that could cite them.
const KEEPS_OPERATIONS: &str = "src/ring/slab.rs";

/// The invariants that `text` names, as `SQ1` or in a test's name as `sq1_`.
pub fn names_in(text: &str) -> Vec<&'static str> {
    let is_named = |name: &str| {
        text.split(|c: char| !c.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case(name))
    };
    NAMES.iter().copied().filter(|name| is_named(name)).collect()
}

/// The name that a row of the defining table begins with.
fn defined_by(line: &str) -> Option<&str> {
    line.trim().strip_prefix("//! | ")?.split(" | ").next().map(|name| name.trim_matches('*'))
}

/// Each invariant has one row in the table, and no other file has such a row.
pub fn defined_once(tree: &[File]) -> Vec<Complaint> {
    let cure = "one row in the table of sys/lib.rs; elsewhere cite it by its name";
    let mut rows: BTreeMap<&str, Vec<(&File, usize)>> = BTreeMap::new();
    for file in tree.iter().filter(|file| file.is_rust()) {
        for (line, text) in file.comments() {
            if let Some(name) = defined_by(text) {
                rows.entry(name).or_default().push((file, line));
            }
        }
    }
    let mut complaints = Vec::new();
    for name in NAMES {
        let defined = rows.get(name).map_or(&[][..], Vec::as_slice);
        let elsewhere = defined.iter().filter(|(file, _)| file.path != DEFINED_IN);
        let again = defined.iter().filter(|(file, _)| file.path == DEFINED_IN).skip(1);
        for (file, line) in elsewhere.chain(again) {
            complaints.push(file.complain(*line, format!("{name} is defined again"), cure));
        }
        if !defined.iter().any(|(file, _)| file.path == DEFINED_IN) {
            complaints.push(about_all(format!("{name} is not defined"), cure));
        }
    }
    complaints
}

/// Each invariant is cited by code that ships, outside the table. A file's first screen says which
/// it keeps, but that is a promise: it is at the code that a reader looks for them.
pub fn cited_in_code(tree: &[File]) -> Vec<Complaint> {
    let cure = "name it in the assert or the SAFETY comment that rests on it, or strike it";
    let cites = |file: &File, name| {
        let at_the_code = |line, text: &str| !file.is_test(line) && !text.starts_with("//!");
        let is_cited = |(line, text)| at_the_code(line, text) && names_in(text).contains(&name);
        file.is_library() && file.path != DEFINED_IN && file.lines().any(is_cited)
    };
    let missing = required(tree).filter(|name| !tree.iter().any(|file| cites(file, name)));
    missing.map(|name| about_all(format!("no code cites {name}"), cure)).collect()
}

/// Each invariant is named by a test: in the name of the function, or in a comment.
pub fn named_by_a_test(tree: &[File]) -> Vec<Complaint> {
    let cure = "begin the name of the test that breaks without it with the invariant's, as `sq1_`";
    let names = |file: &File, name| {
        file.is_rust()
            && !file.path.starts_with("tests/tidy")
            && file.lines().any(|(line, text)| file.is_test(line) && names_in(text).contains(&name))
    };
    let missing = required(tree).filter(|name| !tree.iter().any(|file| names(file, name)));
    missing.map(|name| about_all(format!("no test names {name}"), cure)).collect()
}

/// The invariants that code and tests have to name by now.
fn required(tree: &[File]) -> impl Iterator<Item = &'static str> {
    let has_operations = tree.iter().any(|file| file.path == KEEPS_OPERATIONS);
    NAMES.iter().copied().filter(move |name| has_operations || !name.starts_with("OP"))
}

fn about_all(what: String, cure: &'static str) -> Complaint {
    Complaint { path: DEFINED_IN.into(), line: 1, what, cure }
}

/// A comment cites no invariant that does not exist.
pub fn cited_ones_exist(file: &File) -> Vec<Complaint> {
    let cure = "cite one of the table in sys/lib.rs; a new one goes into NAMES here too";
    let mut complaints = Vec::new();
    for (line, text) in file.comments() {
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            if looks_like_a_name(word) && !NAMES.contains(&word) {
                complaints.push(file.complain(line, format!("there is no {word}"), cure));
            }
        }
    }
    complaints
}

/// Two letters of one of the families, and digits.
fn looks_like_a_name(word: &str) -> bool {
    let number = word.get(2..).unwrap_or("");
    let family = word.get(..2).unwrap_or("");
    let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    is_number && NAMES.iter().any(|name| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{accepts, rejects};

    /// A table with every name, and whatever else a test needs.
    fn tree_with(files: &[(&str, &str)]) -> Vec<File> {
        let table: String = NAMES.iter().map(|name| format!("//! | {name} | we ..\n")).collect();
        let others = files.iter().map(|(path, text)| File::new(path, text));
        [File::new(DEFINED_IN, &table)].into_iter().chain(others).collect()
    }

    /// Every name but `left_out`, in a comment.
    fn all_but(left_out: &str) -> String {
        let others: Vec<&str> = NAMES.iter().copied().filter(|name| *name != left_out).collect();
        format!("// {}\n", others.join(", "))
    }

    #[test]
    fn a_second_definition_is_rejected() {
        assert_eq!(defined_once(&tree_with(&[])).len(), 0);
        assert_eq!(defined_once(&tree_with(&[("sys/sq.rs", "//! | SQ2 | is ..")])).len(), 1);
        assert_eq!(defined_once(&[File::new(DEFINED_IN, "//! none")]).len(), NAMES.len());
    }

    #[test]
    fn an_invariant_that_no_code_cites_is_rejected() {
        let tree = |name| tree_with(&[("sys/sq.rs", &all_but(name)), ("tests/a.rs", "// SQ3")]);
        assert_eq!(cited_in_code(&tree("SQ3")).len(), 1);
        assert_eq!(cited_in_code(&tree("")).len(), 0);
        let at_the_head =
            tree_with(&[("sys/sq.rs", &format!("//! Keeps SQ3.\n{}", all_but("SQ3")))]);
        assert_eq!(cited_in_code(&at_the_head).len(), 1);
    }

    #[test]
    fn an_invariant_that_no_test_names_is_rejected() {
        let tree =
            |name| tree_with(&[("tests/model/main.rs", &all_but(name)), ("sys/sq.rs", "// SQ3")]);
        assert_eq!(named_by_a_test(&tree("SQ3")).len(), 1);
        assert_eq!(named_by_a_test(&tree("")).len(), 0);
        let by_name = format!("{}fn sq3_holds() {{}}", all_but("SQ3"));
        assert_eq!(named_by_a_test(&tree_with(&[("tests/model/main.rs", &by_name)])).len(), 0);
    }

    #[test]
    fn operations_are_required_once_somebody_keeps_them() {
        let cited = all_but("OP2");
        let early = tree_with(&[("sys/sq.rs", &cited)]);
        let late = tree_with(&[("sys/sq.rs", &cited), (KEEPS_OPERATIONS, "")]);
        assert_eq!((cited_in_code(&early).len(), cited_in_code(&late).len()), (0, 1));
    }

    #[test]
    fn a_citation_of_nothing_is_rejected() {
        rejects(cited_ones_exist, "sys/sq.rs", "// The slot is ours (SQ9).");
        accepts(cited_ones_exist, "sys/sq.rs", "// Keeps SQ2, CQ1; SQE128 is another matter.");
    }
}
