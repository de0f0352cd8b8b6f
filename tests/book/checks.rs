//! What each page owes its reader, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::pages::{BOOKS, Page, anchored, of_book, pages, root, rust_below};

/// Fails with all complaints at once.
fn judge(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn each_claim_names_a_test_that_exists() {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let (mut complaints, mut count) = (Vec::new(), 0);
    for page in pages() {
        for mark in page.marks() {
            let text = texts.entry(mark.folder.clone()).or_insert_with(|| {
                let mut text = rust_below(&root().join(&mark.folder));
                if mark.folder == "tests/book" {
                    text.push_str(&rust_below(&root().join("docs/book/solutions")));
                }
                text
            });
            if text.is_empty() {
                complaints.push(page.complain(format!("no tests in `{}`", mark.folder)));
                continue;
            }
            if mark.tests.is_empty() {
                complaints.push(page.complain(format!("a mark of `{}` is empty", mark.folder)));
            }
            for test in mark.tests {
                count += 1;
                if !is_test(text, &test) {
                    complaints.push(page.complain(format!("no `{test}` in `{}`", mark.folder)));
                }
            }
        }
    }
    judge(&complaints);
    assert!(count > 0, "no claims at all");
}

/// Whether `text` has a test of this name: a function with the attribute, or a name that a program
/// gives to what it runs.
fn is_test(text: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let mut functions = text.match_indices(&head).map(|(at, _)| &text[..at]);
    let is_marked =
        |before: &str| before.lines().rev().take(4).any(|line| line.trim() == "#[test]");
    functions.any(is_marked) || text.contains(&format!("\"{name}\""))
}

#[test]
fn each_include_names_a_file_and_an_anchor() {
    let mut complaints = Vec::new();
    for page in pages() {
        for (path, anchor) in page.includes() {
            let file = page.resolved(&path).filter(|path| path.is_file());
            let Some(file) = file else {
                complaints.push(page.complain(format!("no file `{path}`")));
                continue;
            };
            let text = fs::read_to_string(file).expect("text");
            // The comments may stand deeper in, behind spaces.
            let text: String =
                text.lines().map(|line| format!("{}\n", line.trim_start())).collect();
            let inside = anchor.as_deref().map_or(Some(&text[..]), |name| anchored(&text, name));
            if inside.is_none_or(|inside| inside.trim().is_empty()) {
                complaints.push(page.complain(format!("nothing at `{path}:{anchor:?}`")));
            }
            // A link of another page would lead nowhere from here.
            let is_page = path.ends_with(".md");
            if is_page && inside.is_some_and(|inside| inside.contains("](")) {
                complaints.push(page.complain(format!("links in `{path}:{anchor:?}`")));
            }
        }
    }
    judge(&complaints);
}

#[test]
fn each_link_leads_to_a_page_and_a_heading() {
    let pages = pages();
    let mut complaints = Vec::new();
    for page in &pages {
        for target in page.links() {
            let (name, id) =
                target.split_once('#').map_or((&target[..], None), |(name, id)| (name, Some(id)));
            let of_it = |to: &&Page| to.folder == page.folder && to.name == name;
            let leads_to = if name.is_empty() { Some(page) } else { pages.iter().find(of_it) };
            match (leads_to, id) {
                (None, _) => complaints.push(page.complain(format!("no page `{target}`"))),
                (Some(to), Some(id)) if !to.heading_ids().iter().any(|it| it == id) => {
                    complaints.push(page.complain(format!("no heading `{target}`")));
                }
                _ => {}
            }
        }
    }
    judge(&complaints);
}

/// Whether they are as drawn is checked where they are drawn: in `examples/ringscope`.
#[test]
fn each_figure_is_there_says_what_it_shows_and_is_shown() {
    let mut complaints = Vec::new();
    let mut shown = BTreeSet::new();
    for page in pages() {
        for (text, path) in page.figures() {
            if !page.resolved(&path).is_some_and(|path| path.is_file()) {
                complaints.push(page.complain(format!("no figure `{path}`")));
            }
            if text.split_whitespace().count() < 10 {
                complaints.push(page.complain(format!("`{path}` does not say what it shows")));
            }
            shown.insert(format!("{}/{path}", page.folder));
        }
    }
    for folder in BOOKS {
        for file in fs::read_dir(root().join(folder).join("figures")).expect("figures") {
            let name = file.expect("an entry").file_name().into_string().expect("a name");
            if !shown.contains(&format!("{folder}/figures/{name}")) {
                complaints.push(format!("no page shows {folder}/figures/{name}"));
            }
        }
    }
    judge(&complaints);
}

#[test]
fn code_is_included_and_not_typed() {
    let known = ["rust", "rust,ignore", "text", "sh"];
    let mut complaints = Vec::new();
    // `opcodes` writes that page from documentation whose examples are tests.
    for page in pages().iter().filter(|page| page.name != "opcodes.md") {
        for fence in page.fences() {
            let lines: Vec<&str> = fence.body.lines().filter(|line| !line.is_empty()).collect();
            let fits = match &fence.info[..] {
                "rust" => lines.iter().all(|line| line.starts_with("{{#include ")),
                "rust,ignore" => lines.len() == 1,
                info => known.contains(&info),
            };
            if !fits {
                complaints.push(page.complain(format!("typed: ```{}\n{}", fence.info, fence.body)));
            }
        }
    }
    judge(&complaints);
}

/// Where an example is, which may have a folder of its own.
fn example(name: &str) -> String {
    let whole = format!("examples/{name}/main.rs");
    if root().join(&whole).is_file() { whole } else { format!("examples/{name}.rs") }
}

#[test]
fn each_command_names_what_there_is() {
    let mut complaints = Vec::new();
    for page in pages() {
        for fence in page.fences().into_iter().filter(|fence| fence.info == "sh") {
            let words: Vec<&str> = fence.body.split_whitespace().collect();
            let built =
                words.iter().filter_map(|word| word.strip_prefix("target/release/examples/"));
            for name in built.filter(|name| !root().join(format!("examples/{name}.rs")).is_file()) {
                complaints.push(page.complain(format!("there is no example {name}")));
            }
            for pair in words.windows(2) {
                let path = match pair[0] {
                    "--example" => example(pair[1]),
                    "--test" => format!("tests/{}/main.rs", pair[1]),
                    "--manifest-path" => pair[1].to_owned(),
                    _ => continue,
                };
                if !root().join(&path).is_file() {
                    complaints.push(page.complain(format!("there is no {path}")));
                }
            }
        }
    }
    judge(&complaints);
}

#[test]
fn a_chapter_is_whole() {
    let mut complaints = Vec::new();
    for page in pages().iter().filter(|page| page.is_chapter()) {
        let mut lines = page.text.lines().filter(|line| !line.is_empty());
        let title = lines.next().unwrap_or_default();
        let question = lines.next().unwrap_or_default();
        let asks = question.starts_with("> ") && question.contains('?');
        if !(title.starts_with("# ") && asks) {
            complaints.push(page.complain("does not open with its question"));
        }
        let (headings, needs) = parts(page);
        for heading in headings {
            if !page.text.contains(&format!("\n{heading}\n")) {
                complaints.push(page.complain(format!("no `{heading}`")));
            }
        }
        if !page.text.contains(needs) {
            complaints.push(page.complain("does not say which kernel it needs"));
        }
        if page.marks().is_empty() {
            complaints.push(page.complain("claims nothing that a test shows"));
        }
        complaints.extend(exercises(page));
    }
    judge(&complaints);
}

/// What a chapter must have, in the language of its book.
fn parts(page: &Page) -> ([&'static str; 3], &'static str) {
    if page.folder == BOOKS[0] {
        (["## Run it", "## Real world", "## Exercises"], "\n*Needs Linux ")
    } else {
        (["## Essayez", "## Ailleurs", "## Exercices"], "\n*Il faut Linux\u{a0}")
    }
}

/// Three exercises, each with a hidden solution that holds a test.
fn exercises(page: &Page) -> Vec<String> {
    let hidden = page.text.split("<details>").skip(1);
    let hidden: Vec<&str> = hidden.filter_map(|rest| rest.split("</details>").next()).collect();
    let mut complaints = Vec::new();
    if hidden.len() != 3 {
        complaints.push(page.complain(format!("{} exercises, and not 3", hidden.len())));
    }
    let number = &page.name[2..4];
    for solution in hidden {
        let path = root().join(format!("docs/book/solutions/ch{number}.rs"));
        let text = fs::read_to_string(path).unwrap_or_default();
        let of_it = format!("/solutions/ch{number}.rs:");
        let mut anchors = solution.split(&of_it).skip(1).filter_map(|rest| rest.split("}}").next());
        let is_test =
            |anchor: &str| anchored(&text, anchor).is_some_and(|inside| inside.contains("#[test]"));
        if !anchors.any(is_test) {
            complaints.push(page.complain(format!("no test of its own: {solution}")));
        }
    }
    complaints
}

#[test]
fn every_solution_is_compiled_here() {
    let main = fs::read_to_string(root().join("tests/book/main.rs")).expect("text");
    for file in fs::read_dir(root().join("docs/book/solutions")).expect("solutions") {
        let name = file.expect("an entry").file_name().into_string().expect("a name");
        assert!(main.contains(&format!("solutions/{name}")), "{name} is not in tests/book/main.rs");
    }
}

#[test]
fn the_summary_lists_every_page_once() {
    for pages in BOOKS.map(of_book) {
        let summary = pages.iter().find(|page| page.name == "SUMMARY.md").expect("a summary");
        let listed = summary.links();
        let once: BTreeSet<&String> = listed.iter().collect();
        assert_eq!(once.len(), listed.len(), "{listed:?}");
        let names: BTreeSet<&String> =
            pages.iter().map(|page| &page.name).filter(|name| *name != "SUMMARY.md").collect();
        assert_eq!(once, names);
    }
}

/// The numbers with a unit in a row of a table: `24 ns`, `+99 %`.
fn measured(row: &str) -> Vec<String> {
    let units = ["ns", "µs", "ms", "%", "kIOPS", "GiB/s", "MiB/s"];
    let words: Vec<&str> = row.split_whitespace().collect();
    let is_number = |word: &str| {
        let word = word.trim_start_matches(['+', '−', '-', '(']);
        word.starts_with(|c: char| c.is_ascii_digit())
    };
    let pairs = words.windows(2).filter(|pair| {
        is_number(pair[0]) && units.contains(&pair[1].trim_end_matches([',', ')', '.']))
    });
    pairs.map(|pair| pair[0].trim_start_matches(['+', '−', '-', '(']).to_owned()).collect()
}

#[test]
fn a_table_of_measurements_names_its_source() {
    let mut complaints = Vec::new();
    for page in pages() {
        let prose = page.prose();
        let mut numbers: Vec<String> = Vec::new();
        let mut in_table = false;
        for line in prose.lines().chain([""]) {
            if line.starts_with('|') {
                in_table = true;
                numbers.extend(measured(line));
            } else if in_table && !line.is_empty() {
                complaints.extend(sourced(&page, line, &numbers));
                (in_table, numbers) = (false, Vec::new());
            }
        }
        complaints.extend(sourced(&page, "", &numbers));
    }
    judge(&complaints);
}

/// Whether the file that `line` names holds these numbers.
fn sourced(page: &Page, line: &str, numbers: &[String]) -> Vec<String> {
    if numbers.is_empty() {
        return Vec::new();
    }
    let name = line.strip_prefix("Source: `").and_then(|rest| rest.split('`').next());
    let text = name.and_then(|name| fs::read_to_string(root().join(name)).ok());
    let Some(text) = text else {
        return vec![page.complain(format!("a table of {numbers:?} names no source: {line}"))];
    };
    let missing = numbers.iter().filter(|number| !text.contains(&number[..]));
    missing.map(|number| page.complain(format!("{number} is not in {name:?}"))).collect()
}

#[test]
fn the_questions_are_forty_and_each_has_a_test_or_says_that_it_has_none() {
    let pages = of_book(BOOKS[0]);
    let faq = pages.iter().find(|page| page.name == "faq.md").expect("the questions");
    let entries: Vec<&str> = faq.text.split("\n### ").skip(1).collect();
    assert_eq!(entries.len(), 40);
    for (entry, number) in entries.iter().zip(1..) {
        assert!(entry.starts_with(&format!("{number}. ")), "{entry}");
        let has_test = entry.contains("[shown by ") || entry.contains("*No test of ours shows");
        assert!(has_test, "{entry}");
    }
}
