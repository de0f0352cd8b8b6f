//! Widths, lengths, first lines, and words that we do not use.

use crate::source::{Complaint, File, find_word, identifier};

/// Tables of facts: a reader looks one line up and does not read on, so they may be long.
const TABLES: &[&str] = &["sys/abi", "sys/flags", "sys/opcode.rs", "tests/abi"];

/// Text that no Rust file of ours holds, and what to write for it.
const BANNED_CODE: &[(&str, &str)] = &[
    (" as _", "name the type, and use `from` or `try_from` where a value could be lost"),
    ("transmute", "a newtype with a constructor, or a pointer cast, says what is assumed"),
    ("static mut", "own the state in a value; the crate has no global state"),
    ("mem::zeroed", "a `const ZERO` that decides every field"),
    ("dbg!", "print in an example, assert in a test, nothing in a library"),
];

/// The same, for what ships in the two libraries.
const BANNED_IN_LIBRARIES: &[(&str, &str)] =
    &[(".unwrap()", "`expect` with the invariant that makes it true, or return the error")];

/// Words that no comment of ours holds, and what to write for them.
const BANNED_WORDS: &[(&str, &str)] = &[
    ("TODO", "do it, or open an issue"),
    ("FIXME", "fix it, or open an issue"),
    ("XXX", "say in a sentence what is odd, and why it stands"),
    ("same as", "say what it does, and how it differs from the other"),
    ("Same as", "say what it does, and how it differs from the other"),
    // Words that newcomers did not find in io_uring, nor in Rust; see `docs/GLOSSARY.md`.
    ("anew", "again"),
    ("for ever", "forever, or without end"),
    ("nobody but", "only"),
    ("all the same", "still, or anyway"),
    ("berth", "reserved slot"),
    ("moor", "reserve"),
    ("scuttle", "undo the submit"),
    ("bury", "drop the output"),
    ("orphan", "detached operation"),
    ("murmur", "completion of a detached multishot"),
    ("hollow", "padding"),
    ("forecast", "pending count"),
    ("hopeless", "that could never end"),
    ("doors", "calls into the kernel, or backend"),
    ("the safe face", "the safe API"),
    ("the raw face", "the raw API"),
    ("envelope", "message header"),
    ("aboard", "in the chain, or placed"),
    ("boarded", "placed"),
    ("hurry", "cancel, and wait"),
    ("jam", "fill the queue"),
    ("undrained", "timed out"),
];

/// Tools and places of whoever wrote a line. In halves, so that this file may hold them too.
const PRIVATE: &[&str] = &[
    concat!("farm", "-bench"),
    concat!(".lib", "rary"),
    concat!("helper", " agent"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
];

/// Lines of Rust and shell have at most 100 columns. A row of a table, which cannot be broken, may
/// have more.
pub fn width(file: &File) -> Vec<Complaint> {
    let cure = "break the line; a sentence goes on below";
    let check = |(line, text): (usize, &str)| {
        let columns = text.chars().count();
        let is_row = ["//! | ", "/// | "].iter().any(|row| text.trim_start().starts_with(row));
        (columns > 100 && !is_row).then(|| file.complain(line, format!("{columns} columns"), cure))
    };
    if file.is_rust() || file.is_script() {
        file.lines().filter_map(check).collect()
    } else {
        vec![]
    }
}

/// Rust files have at most 500 lines, except tables of facts.
pub fn length(file: &File) -> Vec<Complaint> {
    let lines = file.text.lines().count();
    let is_table = TABLES.iter().any(|table| file.path.starts_with(table));
    if !file.is_rust() || is_table || lines <= 500 {
        return vec![];
    }
    vec![file.complain(501, format!("{lines} lines"), "split the file where its topic changes")]
}

/// A file of the libraries begins with a sentence, in `//!`, that says what it is.
pub fn first_sentence(file: &File) -> Vec<Complaint> {
    let cure = "begin the file with one `//!` sentence that says what it is";
    if !file.is_library() {
        return vec![];
    }
    let first = file.text.lines().next().and_then(|line| line.strip_prefix("//! "));
    let starts = first.is_some_and(|line| line.starts_with(|c: char| c.is_uppercase() || c == '`'));
    let paragraph = file.text.lines().take_while(|line| line.starts_with("//! "));
    let ends = paragraph.last().is_some_and(|line| line.trim_end().ends_with(['.', ':']));
    if starts && ends { vec![] } else { vec![file.complain(1, "no first sentence", cure)] }
}

/// Rust files hold nothing of `BANNED_CODE`; libraries, outside their tests, no `unwrap` either.
pub fn banned_code(file: &File) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if file.is_rust() {
        complaints.extend(holds(file, file.code(), BANNED_CODE));
    }
    if file.is_library() {
        complaints.extend(holds(file, file.shipped_code(), BANNED_IN_LIBRARIES));
    }
    complaints
}

/// Comments of Rust, and all of scripts and manifests, hold nothing of `BANNED_WORDS`.
pub fn banned_words(file: &File) -> Vec<Complaint> {
    if file.is_rust() {
        holds(file, file.comments(), BANNED_WORDS)
    } else if file.is_script() || file.path.ends_with(".toml") {
        holds(file, file.lines(), BANNED_WORDS)
    } else {
        vec![]
    }
}

/// One complaint for each line that holds something banned.
fn holds<'a>(
    file: &File,
    lines: impl Iterator<Item = (usize, &'a str)>,
    banned: &[(&str, &'static str)],
) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (line, text) in lines {
        for (string, cure) in banned {
            if has(text, string) {
                complaints.push(file.complain(line, format!("`{}`", string.trim()), cure));
            }
        }
    }
    complaints
}

/// Whether `text` holds `banned`, and not as a part of a longer word.
fn has(text: &str, banned: &str) -> bool {
    // A borrow that lasts forever is no static.
    let text = &text.replace("'static mut", "mut");
    if banned.starts_with(|c: char| c.is_alphanumeric()) {
        return find_word(text, banned).is_some();
    }
    // An import for its methods alone is `as _` too, and loses nothing.
    let is_import = identifier(text.trim_start().trim_start_matches("pub ")) == "use";
    let ends = |(at, _): (usize, &str)| identifier(&text[at + banned.len()..]).is_empty();
    !is_import && text.match_indices(banned).any(ends)
}

/// No comment is code. Code in documentation stands between fences, and those are not read here.
pub fn commented_out_code(file: &File) -> Vec<Complaint> {
    let cure = "delete it, since git keeps it; if it is prose, end the line on a word";
    let mut complaints = Vec::new();
    let mut fenced = false;
    for (line, text) in file.comments() {
        let comment = text.trim().trim_start_matches(['/', '!']).trim();
        let fence = comment.starts_with("```");
        fenced ^= fence;
        if file.is_rust() && !fence && !fenced && is_code(comment) {
            complaints.push(file.complain(line, "a comment that is code", cure));
        }
    }
    complaints
}

/// Whether a line ends as statements do, and holds what sentences do not.
fn is_code(line: &str) -> bool {
    const FIRST_WORDS: &[&str] = &["let", "use", "return", "break", "continue", "pub", "const"];
    let calls = line
        .match_indices('(')
        .any(|(at, _)| line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '!'));
    match line.chars().last() {
        Some('{') => true,
        Some('}') => line.trim_start_matches(['}', ')']).is_empty(),
        Some(';') => {
            let assigns = line.contains(" = ") && !line.contains('`');
            let begins = FIRST_WORDS.contains(&identifier(line));
            assigns || begins || (calls && line.ends_with(");") && !line.contains('`'))
        }
        _ => line.starts_with("#["),
    }
}

/// No file names a tool or a folder that only its author has.
pub fn private_names(file: &File) -> Vec<Complaint> {
    let cure = "say it so that it is true on every machine";
    let mut complaints = Vec::new();
    for (line, text) in file.lines() {
        for name in PRIVATE {
            // A path begins there: `src/x` is no `/x`.
            let found = text.match_indices(name).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                !(name.starts_with('/') && before.is_some_and(|c| c.is_alphanumeric() || c == '}'))
            });
            if found {
                complaints.push(file.complain(line, format!("`{name}`"), cure));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{accepts, rejects};

    #[test]
    fn a_line_of_101_columns_is_rejected() {
        rejects(width, "a.rs", &"x".repeat(101));
        rejects(width, "run", &format!("#!/bin/sh\n{}", "x".repeat(101)));
        accepts(width, "a.rs", &"é".repeat(100));
        accepts(width, "a.rs", &format!("//! | SQ1 | {} |", "x".repeat(101)));
        accepts(width, "a.md", &"x".repeat(101));
    }

    #[test]
    fn a_file_of_501_lines_is_rejected_unless_it_is_a_table() {
        rejects(length, "src/raw/mod.rs", &"\n".repeat(501));
        accepts(length, "src/raw/mod.rs", &"\n".repeat(500));
        accepts(length, "sys/opcode.rs", &"\n".repeat(501));
    }

    #[test]
    fn a_file_without_a_first_sentence_is_rejected() {
        rejects(first_sentence, "src/raw/mod.rs", "use std::io;\n");
        rejects(first_sentence, "src/raw/mod.rs", "//! ring stuff\n\nuse std::io;\n");
        accepts(
            first_sentence,
            "src/raw/mod.rs",
            "//! The ring, and what the kernel\n//! has of it.\n",
        );
        accepts(first_sentence, "tests/ring.rs", "use std::io;\n");
    }

    #[test]
    fn banned_code_is_rejected_and_its_name_in_prose_is_not() {
        rejects(banned_code, "tests/a.rs", "let a = b as _;");
        rejects(banned_code, "src/a.rs", "static mut COUNT: u32 = 0;");
        accepts(banned_code, "src/a.rs", "fn a(b: &'static mut u32) {}");
        rejects(banned_code, "src/a.rs", "a.unwrap();\n#[cfg(test)]\nmod t {}");
        accepts(
            banned_code,
            "src/a.rs",
            "// transmute\na(\"transmute\");\nlet c = b as _b;\nuse d as _;",
        );
        accepts(banned_code, "src/a.rs", "#[cfg(test)]\nmod t {\n a.unwrap();\n}");
    }

    #[test]
    fn banned_words_are_rejected_in_comments() {
        rejects(banned_words, "src/a.rs", "/// Pops.\n// TODO: pop\nfn pop() {}");
        rejects(banned_words, "run.sh", "# FIXME\n");
        rejects(banned_words, "src/a.rs", "/// The same as pop.");
        accepts(banned_words, "src/a.rs", "/// Pops.\nlet word = \"TODO\"; // a TODOIST");
    }

    #[test]
    fn code_in_comments_is_rejected_and_prose_is_not() {
        rejects(commented_out_code, "a.rs", "// let tail = self.tail;");
        rejects(commented_out_code, "a.rs", "/// if ready {");
        rejects(commented_out_code, "a.rs", "// self.tail.publish(written);\n");
        accepts(commented_out_code, "a.rs", "// The slot is ours (SQ4);\n// we write it.\n");
        accepts(commented_out_code, "a.rs", "/// ```\n/// let a = 1;\n/// ```\n");
    }

    #[test]
    fn private_names_are_rejected() {
        rejects(private_names, "run", &format!("cd {}main\n", concat!("/wo", "rk/")));
        rejects(private_names, "a.md", &format!("as the {} said\n", concat!("helper", " agent")));
        accepts(private_names, "run", &format!("cd \"$folder{}main\"\n", "/target/"));
        accepts(private_names, "a.md", &format!("see net{}queue\n", concat!("/wo", "rk/")));
    }
}
