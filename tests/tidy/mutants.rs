//! The table of mutants still fits the tree, so that none is found broken only when it is run.

use crate::source::{Complaint, File};

/// Where the mutants are listed.
const TABLE: &str = "tests/mutants/mutants.tsv";

/// Each row finds its line, and the test that it names exists.
pub fn rows_fit_the_tree(tree: &[File]) -> Vec<Complaint> {
    let Some(table) = tree.iter().find(|file| file.path == TABLE) else { return vec![] };
    let rows = table.lines().filter(|(_, row)| !row.starts_with(['#', '@']) && !row.is_empty());
    rows.filter_map(|(line, row)| {
        let (what, cure) = misfit(tree, row)?;
        Some(table.complain(line, what, cure))
    })
    .collect()
}

/// What is wrong with a row, and its cure.
fn misfit(tree: &[File], row: &str) -> Option<(String, &'static str)> {
    let cells: Vec<&str> = row.split('\t').collect();
    let [name, _, path, find, nth, replace, _, test] = cells[..] else {
        return Some((format!("{} columns, not 8", cells.len()), "see the head of the table"));
    };
    let [find, replace] = [find, replace].map(|text| text.replace("\\n", "\n"));
    let Some(file) = tree.iter().find(|file| file.path == path) else {
        return Some((format!("{name}: there is no {path}"), "name the file that the line is in"));
    };
    let places = file.text.matches(&find).count();
    let fits = match nth.parse::<usize>() {
        Ok(nth) => nth <= places,
        Err(_) => places == 1,
    };
    if !fits {
        let what = format!("{name}: {places} places of {path} match {find:?}");
        return Some((what, "say more of the line, or which of the places is meant"));
    }
    if find == replace {
        return Some((format!("{name} changes nothing"), "weaken the line"));
    }
    let function = test.rsplit("::").next().unwrap_or(test);
    let stem = function.trim_end_matches(|c| c != '_');
    let tests = tree.iter().filter(|file| file.is_rust());
    let is_there = |file: &File| {
        file.text.contains(&format!("fn {function}("))
            || file.text.contains(&format!("\"{function}\""))
            // A test of the kernel that is run in several modes, each with a name of its own.
            || !stem.is_empty() && file.text.contains(&format!("\"{stem}\""))
    };
    if tests.into_iter().any(is_there) {
        return None;
    }
    Some((format!("{name}: no test is called {test}"), "name the test that kills it"))
}

/// Where the planted faults are listed, and the page that says what finds each.
const PLANTED: &str = "tests/fuzz/planted.tsv";
const PAGE: &str = "docs/PLANTED.md";

/// Each planted fault names a mutant, or says why nothing plants it, and stands on the page.
pub fn planted_faults_are_mutants(tree: &[File]) -> Vec<Complaint> {
    let find = |path| tree.iter().find(|file| file.path == path);
    let (Some(planted), Some(table)) = (find(PLANTED), find(TABLE)) else { return vec![] };
    let names: Vec<&str> =
        table.lines().filter_map(|(_, row)| Some(row.split_once('\t')?.0)).collect();
    let page = find(PAGE).map_or("", |page| &page.text);
    let rows = planted.lines().filter(|(_, row)| !row.starts_with('#') && !row.is_empty());
    rows.filter_map(|(line, row)| {
        let (what, cure) = unplanted(&names, page, row)?;
        Some(planted.complain(line, what, cure))
    })
    .collect()
}

/// What is wrong with a row of planted faults, and its cure.
fn unplanted(names: &[&str], page: &str, row: &str) -> Option<(String, &'static str)> {
    let cells: Vec<&str> = row.split('\t').collect();
    let [fault, words, name, hunter] = cells[..] else {
        return Some((format!("{} columns, not 4", cells.len()), "see the head of the table"));
    };
    if hunter != "-" && !names.contains(&name) {
        return Some((format!("{name} is no mutant"), "name a row of tests/mutants/mutants.tsv"));
    }
    let start = format!("| {fault}: {words} |");
    if page.lines().any(|line| line.starts_with(&start) && line.contains(name)) {
        return None;
    }
    Some((format!("{PAGE} has no row `{start}`"), "print it with tests/fuzz/planted --markdown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(row: &str) -> usize {
        let files = [
            File::new(TABLE, &format!("# name, …\n@model\tcargo test\n{row}\n")),
            File::new("sys/sq.rs", "a();\nb();\nb();\n"),
            File::new("tests/model/main.rs", "fn holds() {}\n"),
        ];
        rows_fit_the_tree(&files).len()
    }

    #[test]
    fn a_row_whose_line_or_test_is_gone_is_rejected() {
        assert_eq!(complaints("m\tquick\tsys/sq.rs\ta();\\n\t-\t\t@model\tholds"), 0);
        assert_eq!(complaints("m\tquick\tsys/sq.rs\tb();\t2\tc();\t@model\tdeep::holds"), 0);
        for row in [
            "m\tquick\tsys/sq.rs\ta();\t-\t\t@model",
            "m\tquick\tsys/cq.rs\ta();\t-\t\t@model\tholds",
            "m\tquick\tsys/sq.rs\tc();\t-\t\t@model\tholds",
            "m\tquick\tsys/sq.rs\tb();\t-\t\t@model\tholds",
            "m\tquick\tsys/sq.rs\tb();\t3\t\t@model\tholds",
            "m\tquick\tsys/sq.rs\ta();\t-\ta();\t@model\tholds",
            "m\tquick\tsys/sq.rs\ta();\t-\t\t@model\tfails",
        ] {
            assert_eq!(complaints(row), 1, "{row}");
        }
    }

    #[test]
    fn a_planted_fault_that_nothing_plants_or_shows_is_rejected() {
        let page = "| SQ1: it goes | `a` | `twin` |\n| SQ2: it stays | - | types |";
        let wrong = |row| unplanted(&["a", "b"], page, row).is_some();
        assert!(!wrong("SQ1\tit goes\ta\ttwin") && !wrong("SQ2\tit stays\ttypes\t-"));
        assert!(wrong("SQ1\tit goes\tc\ttwin") && wrong("SQ1\tit goes\tb\ttwin"));
        assert!(wrong("SQ3\tit goes\ta\ttwin") && wrong("SQ1\tit goes\ta"));
    }
}
