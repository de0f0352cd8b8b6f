//! The checkable rules of `docs/STYLE.md`, over every file of the tree.
//!
//! ```text
//!   tidy/source.rs      reads the tree; tells code from comments, and what ships from tests
//!   tidy/page.rs        widths, lengths, first lines, words we do not use
//!   tidy/layers.rs      who may import whom; no file that nobody reads
//!   tidy/unsafety.rs    where memory orderings and `unsafe` may stand, and what SAFETY must say
//!   tidy/invariants.rs  SQ1 and its sisters: defined once, cited in code, named by a test
//!   tidy/facts.rs       "Since Linux", `# Completion`, examples and documents that can be found
//!   tidy/mutants.rs     each row of the table of mutants finds its line and its test; each planted
//!                       fault is a mutant
//! ```
//!
//! A check is a pure function from a file, or from all files, to complaints. A complaint is one
//! line: `path:line: what is wrong. Cure: what to do`. Each check is itself tested, beside it, on
//! a snippet that it must reject and one that it must accept. To add a rule: write the function
//! and its two snippets, give it a `#[test]` below, and name it in `docs/STYLE.md`.

mod facts;
mod imports;
mod invariants;
mod layers;
mod mutants;
mod page;
mod source;
mod unsafety;

use source::{Complaint, File};

#[test]
fn lines_fit_in_100_columns() {
    each_file(page::width);
}

#[test]
fn files_fit_in_500_lines() {
    each_file(page::length);
}

#[test]
fn every_file_says_first_what_it_is() {
    each_file(page::first_sentence);
}

#[test]
fn banned_code_is_absent() {
    each_file(page::banned_code);
}

#[test]
fn banned_words_are_absent() {
    each_file(page::banned_words);
}

#[test]
fn no_code_is_commented_out() {
    each_file(page::commented_out_code);
}

#[test]
fn nothing_names_one_machine() {
    each_file(page::private_names);
}

#[test]
fn imports_go_down() {
    each_file(layers::imports_go_down);
}

#[test]
fn every_file_stands_in_a_layer() {
    each_file(layers::has_a_layer);
}

#[test]
fn no_file_is_dead() {
    whole_tree(layers::no_dead_files);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    whole_tree(layers::no_circles);
}

#[test]
fn memory_orderings_stand_in_one_file() {
    each_file(unsafety::orderings_stand_in_one_file);
}

#[test]
fn unsafe_is_opted_into_by_file() {
    each_file(unsafety::unsafe_is_opted_into);
}

#[test]
fn safety_comments_spend_named_facts() {
    each_file(unsafety::safety_names_a_fact);
}

#[test]
fn promises_are_asked_for() {
    whole_tree(unsafety::promises_are_asked_for);
}

#[test]
fn invariants_are_defined_once() {
    whole_tree(invariants::defined_once);
}

#[test]
fn invariants_are_cited_in_code() {
    whole_tree(invariants::cited_in_code);
}

#[test]
fn invariants_are_named_by_tests() {
    whole_tree(invariants::named_by_a_test);
}

#[test]
fn cited_invariants_exist() {
    each_file(invariants::cited_ones_exist);
}

#[test]
fn constants_say_since_when() {
    each_file(facts::constants_say_since);
}

#[test]
fn operations_say_how_they_end() {
    each_file(facts::operations_say_how_they_end);
}

#[test]
fn examples_are_in_the_readme() {
    whole_tree(facts::examples_are_in_the_readme);
}

#[test]
fn documents_are_linked() {
    whole_tree(facts::documents_are_linked);
}

#[test]
fn mutants_fit_the_tree() {
    whole_tree(mutants::rows_fit_the_tree);
}

#[test]
fn planted_faults_are_mutants_and_on_their_page() {
    whole_tree(mutants::planted_faults_are_mutants);
}

/// Runs a check that needs no more than one file at a time.
fn each_file(check: fn(&File) -> Vec<Complaint>) {
    whole_tree(|tree| tree.iter().flat_map(check).collect());
}

/// Runs a check that needs all files at once.
fn whole_tree(check: impl Fn(&[File]) -> Vec<Complaint>) {
    let tree = source::tree();
    assert!(tree.iter().any(|file| file.path == "tests/tidy/main.rs"), "the walk missed this file");
    let complaints = check(&tree);
    let lines: Vec<String> = complaints.iter().map(Complaint::to_string).collect();
    assert!(lines.is_empty(), "{} complaints\n{}\n", lines.len(), lines.join("\n"));
}
