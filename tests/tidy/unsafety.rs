//! Where memory orderings and `unsafe` may stand, and what a SAFETY comment must say.

use crate::invariants::names_in;
use crate::layers;
use crate::source::{Complaint, File, find_word};

/// The one file of the libraries that chooses memory orderings.
const SHARED: &str = "sys/orderings.rs";

/// A word of our own that orders nothing: only fork changes it behind our back.
const PROCESS: &str = "sys/process.rs";

/// What a memory ordering looks like. The other `Ordering` has `Less`, `Equal` and `Greater`.
const ORDERINGS: &[&str] = &[
    "Ordering::Relaxed",
    "Ordering::Acquire",
    "Ordering::Release",
    "Ordering::AcqRel",
    "Ordering::SeqCst",
    "sync::atomic",
    "fence(",
];

/// Words by which a sentence gives its reason, and words of claims that a reader can check.
const REASONS: &[&str] = &[
    "because",
    "since",
    "so",
    "as",
    "which",
    "whose",
    "until",
    "while", // reasons
    "nobody",
    "nothing",
    "never",
    "only",
    "no",
    "none",
    "every",
    "exclusive", // claims
];

/// Comments that look like a reason and hold none.
const EMPTY: &[&str] =
    &["as above", "as before", "see above", "is safe", "is valid.", "is fine", "trust me"];

/// The libraries choose memory orderings in one file.
pub fn orderings_stand_in_one_file(file: &File) -> Vec<Complaint> {
    let cure = "give `Published`, `Observed` or `Slots` of sys/orderings.rs the role that you need";
    if !file.is_library() || file.path == SHARED || file.path == PROCESS {
        return vec![];
    }
    let found = file.shipped_code().filter_map(|(line, text)| {
        let ordering = ORDERINGS.iter().find(|ordering| text.contains(*ordering))?;
        Some(file.complain(line, format!("`{ordering}` outside {SHARED}"), cure))
    });
    found.collect()
}

/// `unsafe` stands only in files that say at their head why, and on layers that may have it. A
/// raw pointer cannot be read without, so this holds for pointers too.
pub fn unsafe_is_opted_into(file: &File) -> Vec<Complaint> {
    let head = "put `#![allow(unsafe_code, reason = \"...\")]` below the file's `//!` text";
    let layer = "move it to a layer that has memory of ours or the kernel's; or show in \
                 docs/ARCHITECTURE.md that it belongs here and open the layer in tests/tidy";
    // Elsewhere the crate root opts in for its modules; the lint sees to it.
    if !file.is_library() {
        return vec![];
    }
    let opted_in = file.code().any(|(_, text)| text.contains("#![allow(unsafe_code, reason"));
    let used = file.code().find(|(_, text)| find_word(text, "unsafe").is_some());
    let partly = file.code().find(|(_, text)| text.contains("#[allow(unsafe_code"));
    let mut complaints = Vec::new();
    if let Some((line, _)) = partly {
        complaints.push(file.complain(line, "opts a part of the file into `unsafe`", head));
    }
    match used {
        Some((line, _)) if !opted_in => {
            complaints.push(file.complain(line, "`unsafe` in a file that did not opt in", head));
        }
        Some((line, _)) if !layers::may_be_unsafe(&file.path) => {
            complaints.push(file.complain(line, "`unsafe` on a layer of values", layer));
        }
        None if opted_in => {
            complaints.push(file.complain(1, "opts into `unsafe` and has none", "do not opt in"));
        }
        _ => {}
    }
    complaints
}

/// A SAFETY comment spends a named fact: an invariant, a promise of a caller, or a reason.
pub fn safety_names_a_fact(file: &File) -> Vec<Complaint> {
    let cure = "name the invariant (SQ3), or say \"as promised to `X`\", or give the reason: a \
                clause with because, since, so, as, which, until, or a checkable claim with \
                nobody, nothing, never, only, every";
    let empty = safety_comments(file).filter(|(_, sentence)| !spends_a_fact(sentence));
    let complaint = |(line, sentence): (usize, String)| {
        let what = format!("SAFETY names no fact:{}", sentence.trim_end_matches('.'));
        file.complain(line, what, cure)
    };
    empty.map(complaint).collect()
}

/// Only who calls an `unsafe fn`, or implements an unsafe trait, has promised anything. So what
/// "as promised to `X`" names is an `unsafe fn X` of the same file; or `Type::X`, or an unsafe
/// trait `X`, of any file.
pub fn promises_are_asked_for(tree: &[File]) -> Vec<Complaint> {
    let cure = "make the function `unsafe`, with a `# Safety` section, or take a value that only \
                code with the proof can make";
    let declares = |file: &File, what: &str, name: &str| {
        let declaration = format!("{what} {name}");
        file.code().any(|(_, text)| find_word(text, &declaration).is_some())
    };
    let mut complaints = Vec::new();
    for file in tree {
        for (line, sentence) in safety_comments(file) {
            for name in promises_in(&sentence) {
                let asked_for = match name.rsplit_once("::") {
                    Some((_, name)) => tree.iter().any(|file| declares(file, "unsafe fn", name)),
                    None if name.starts_with(char::is_uppercase) => {
                        tree.iter().any(|file| declares(file, "unsafe trait", name))
                    }
                    None => declares(file, "unsafe fn", name),
                };
                if !asked_for {
                    let what = format!("promised to `{name}`, which asks for no promise here");
                    complaints.push(file.complain(line, what, cure));
                }
            }
        }
    }
    complaints
}

/// The names of what a promise was made to.
fn promises_in(sentence: &str) -> impl Iterator<Item = &str> {
    let promises = sentence.split("promised to ").skip(1);
    promises.filter_map(|rest| rest.trim_start_matches("the ").strip_prefix('`')?.split('`').next())
}

/// The text of each SAFETY comment, and the line where it begins.
fn safety_comments(file: &File) -> impl Iterator<Item = (usize, String)> {
    let comments: Vec<(usize, &str)> = file.comments().collect();
    let sentence = move |index: usize| {
        let (line, text) = comments[index];
        let (_, first) = text.split_once("// SAFETY:")?;
        // The comment goes on over the lines below that are comments too.
        let below = comments[index + 1..].iter().zip(line + 1..);
        let more = below
            .take_while(|((at, text), next)| at == next && text.trim().starts_with("// "))
            .map(|((_, text), _)| text.trim().trim_start_matches('/'));
        Some((line, std::iter::once(first).chain(more).collect()))
    };
    (0..file.comments().count()).filter_map(sentence)
}

fn spends_a_fact(sentence: &str) -> bool {
    let promised = sentence.contains("as promised to `");
    let reasoned = REASONS.iter().any(|word| find_word(sentence, word).is_some());
    let explained = sentence.contains(": ") && sentence.split_whitespace().count() >= 5;
    let is_empty = EMPTY.iter().any(|phrase| sentence.to_lowercase().contains(phrase));
    promised || !names_in(sentence).is_empty() || ((reasoned || explained) && !is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{accepts, rejects};

    #[test]
    fn an_ordering_elsewhere_is_rejected() {
        let load = "use core::cmp::Ordering;\nword.load(Ordering::Acquire);";
        rejects(orderings_stand_in_one_file, "sys/sq.rs", load);
        rejects(
            orderings_stand_in_one_file,
            "src/ring/mod.rs",
            "use std::sync::atomic::AtomicBool;",
        );
        accepts(orderings_stand_in_one_file, "sys/orderings.rs", load);
        accepts(orderings_stand_in_one_file, "sys/sq.rs", "// Ordering::Acquire\nOrdering::Less");
    }

    #[test]
    fn unsafe_without_the_head_is_rejected() {
        let head = "#![allow(unsafe_code, reason = \"maps memory\")]\n";
        let block = "unsafe { a() }";
        rejects(unsafe_is_opted_into, "sys/map.rs", block);
        rejects(unsafe_is_opted_into, "sys/map.rs", head);
        rejects(unsafe_is_opted_into, "sys/index.rs", &format!("{head}{block}"));
        rejects(
            unsafe_is_opted_into,
            "sys/map.rs",
            &format!("{head}{block}\n#[allow(unsafe_code)]"),
        );
        accepts(unsafe_is_opted_into, "sys/map.rs", &format!("{head}{block}"));
        accepts(unsafe_is_opted_into, "sys/index.rs", "// unsafe\n");
    }

    #[test]
    fn a_safety_comment_without_a_fact_is_rejected() {
        for sentence in ["the pointer is valid.", "this is safe.", "as above.", "reads the word."] {
            rejects(safety_names_a_fact, "a.rs", &format!("// SAFETY: {sentence}\n"));
        }
    }

    #[test]
    fn a_promise_that_nobody_asked_for_is_rejected() {
        let head = "SAFETY";
        let promise = |name| format!("// {head}: as promised\n// to `{name}`, which says so.\n");
        let complaints = |name, code: &str| {
            let files = [File::new("src/a.rs", &promise(name)), File::new("src/b.rs", code)];
            promises_are_asked_for(&files).len()
        };
        assert_eq!(complaints("at", "unsafe fn at() {}"), 1, "of another file");
        assert_eq!(complaints("Pool::at", "fn at() {} // unsafe fn at"), 1, "not unsafe");
        assert_eq!(complaints("Pool::at", "unsafe fn attach() {}"), 1, "another function");
        assert_eq!(complaints("Op", "trait Op {}"), 1, "a safe trait");
        assert_eq!(complaints("Pool::at", "pub unsafe fn at() {}"), 0);
        assert_eq!(complaints("Op", "pub unsafe trait Op {}"), 0);
        let here = format!("unsafe fn at() {{\n{}}}", promise("at"));
        assert_eq!(promises_are_asked_for(&[File::new("src/a.rs", &here)]).len(), 0);
    }

    #[test]
    fn a_safety_comment_with_a_fact_is_accepted() {
        for sentence in [
            "`head` has passed the slot (SQ4).",
            "valid and accessed only\n// atomically, as promised to `Observed::new`.",
            "in bounds, since `Index::slot` is below `entries`.",
            "a NOP points to nothing.",
        ] {
            accepts(safety_names_a_fact, "a.rs", &format!("// SAFETY: {sentence}\nunsafe {{}}"));
        }
    }
}
