//! Reads the tree, and splits Rust text into what the compiler reads and what people read.

use std::fmt;
use std::fs;
use std::path::Path;

/// Folders that hold no source of ours: build products, and facts that stand as they came.
const SKIPPED_FOLDERS: &[&str] = &[
    ".git",
    "target",
    "tests/data",
    "tests/fuzz/artifacts",
    "tests/fuzz/corpus",
    "tests/fuzz/inputs",
];

/// One thing wrong in one place.
#[derive(Debug)]
pub struct Complaint {
    pub path: String,
    /// Counted from 1, as editors do.
    pub line: usize,
    pub what: String,
    pub cure: &'static str,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, cure } = self;
        write!(f, "{path}:{line}: {what}. Cure: {cure}.")
    }
}

/// A file of the tree, read once and split once.
#[derive(Debug)]
pub struct File {
    /// From the root of the tree, with `/`.
    pub path: String,
    pub text: String,
    /// Rust: the text with comments and literals blanked. Else: the text.
    code: String,
    /// Rust: the text with all but comments blanked. Else: empty.
    comments: String,
    /// For each line, whether it is compiled for tests alone.
    tests: Vec<bool>,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        let is_rust = path.ends_with(".rs");
        let (code, comments) = if is_rust { split(text) } else { (text.into(), String::new()) };
        let all = path.starts_with("tests/") || path.ends_with("/tests.rs");
        let tests = if all { vec![true; text.lines().count()] } else { test_lines(&code) };
        Self { path: path.into(), text: text.into(), code, comments, tests }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Shell by its name or by its first line.
    pub fn is_script(&self) -> bool {
        self.path.ends_with(".sh") || self.text.starts_with("#!/")
    }

    /// Whether the file is of one of the two libraries.
    pub fn is_library(&self) -> bool {
        self.is_rust() && (self.path.starts_with("sys/") || self.path.starts_with("src/"))
    }

    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.text)
    }

    /// What the compiler reads, without literals.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code)
    }

    /// What the compiler reads in a build that is not for tests.
    pub fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().filter(|&(line, _)| !self.is_test(line))
    }

    /// What people read, `//` and all.
    pub fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.comments).filter(|(_, text)| !text.trim().is_empty())
    }

    /// Whether `line` is compiled for tests alone.
    pub fn is_test(&self, line: usize) -> bool {
        self.tests.get(line - 1).copied().unwrap_or(false)
    }

    pub fn complain(&self, line: usize, what: impl Into<String>, cure: &'static str) -> Complaint {
        Complaint { path: self.path.clone(), line, what: what.into(), cure }
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Where `word` stands in `line` as a word of its own, not as part of a longer one.
pub fn find_word(line: &str, word: &str) -> Option<usize> {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_letter) && !after.is_some_and(is_letter)
    })
}

/// The identifier that `text` starts with; empty if none.
pub fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Every file of the tree that is text and is not skipped, in the order of the paths.
pub fn tree() -> Vec<File> {
    let mut files = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn walk(root: &Path, folder: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder of the tree can be read") {
        let entry = entry.expect("a folder of the tree can be read");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type().expect("the entry is still there").is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str())
                && !SKIPPED_FOLDERS.contains(&path.as_str())
            {
                walk(root, &path, files);
            }
        } else if name != "Cargo.lock" {
            // What is not UTF-8 is no text of ours.
            files.extend(fs::read_to_string(entry.path()).ok().map(|text| File::new(&path, &text)));
        }
    }
}

/// What a stretch of Rust text is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// The code and the comments of `text`, each with the rest blanked: lines keep their numbers.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (kind, len) = stretch(&chars, at);
        let end = (at + len).min(chars.len());
        for &c in &chars[at..end] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if kind == Kind::Code { c } else { blank });
            comments.push(if kind == Kind::Comment { c } else { blank });
        }
        at = end;
    }
    (code, comments)
}

/// The kind and the length of what starts at `at`.
fn stretch(chars: &[char], at: usize) -> (Kind, usize) {
    let rest = &chars[at..];
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => (Kind::Comment, until(rest, |c| c == '\n')),
        ['/', '*', ..] => (Kind::Comment, block_comment(rest)),
        ['"', ..] => (Kind::Literal, quoted(rest)),
        ['r', '"' | '#', ..] if !in_word => raw_string(rest).map_or((Kind::Code, 1), literal),
        ['b' | 'c', 'r', '"' | '#', ..] if !in_word => {
            raw_string(&rest[1..]).map_or((Kind::Code, 1), |len| literal(len + 1))
        }
        // A character. A quote that is not closed so is a lifetime.
        ['\'', '\\', _, after @ ..] => literal(until(after, |c| c == '\'') + 4),
        ['\'', _, '\'', ..] => literal(3),
        _ => (Kind::Code, 1),
    }
}

fn literal(len: usize) -> (Kind, usize) {
    (Kind::Literal, len)
}

fn until(chars: &[char], end: impl Fn(char) -> bool) -> usize {
    chars.iter().position(|&c| end(c)).unwrap_or(chars.len())
}

/// The length of the block comment at the start; they nest.
fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string at the start.
fn quoted(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The length of the raw string at the start; `None` if it is a raw identifier.
fn raw_string(chars: &[char]) -> Option<usize> {
    let hashes = until(&chars[1..], |c| c != '#');
    if chars.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end: Vec<char> = end.chars().collect();
    let body = &chars[2 + hashes..];
    let close = body.windows(end.len()).position(|window| window == end).unwrap_or(body.len());
    Some((2 + hashes + close + end.len()).min(chars.len()))
}

/// For each line of `code`, whether it belongs to an item under `#[cfg(test)]` or its like.
fn test_lines(code: &str) -> Vec<bool> {
    let (mut flags, mut inside, mut depth) = (Vec::new(), false, 0_usize);
    for line in code.lines() {
        let attribute = line.trim_start().starts_with("#[cfg(")
            && find_word(line, "test").is_some()
            && !line.contains("not(test");
        inside |= attribute;
        flags.push(inside);
        if !inside {
            continue;
        }
        let outer = depth;
        depth += line.matches('{').count();
        depth = depth.saturating_sub(line.matches('}').count());
        // The item ends with the brace that closes its first one, or with a `;` before any.
        let closed = line.contains('}') || (outer == 0 && line.trim_end().ends_with(';'));
        inside = !(depth == 0 && closed);
    }
    flags
}

/// Fails unless `check` finds something in `text` at `path`.
pub fn rejects(check: fn(&File) -> Vec<Complaint>, path: &str, text: &str) {
    assert!(!check(&File::new(path, text)).is_empty(), "accepted:\n{text}");
}

/// Fails if `check` finds something in `text` at `path`.
pub fn accepts(check: fn(&File) -> Vec<Complaint>, path: &str, text: &str) {
    let complaints = check(&File::new(path, text));
    assert!(complaints.is_empty(), "rejected: {complaints:?}\n{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_leave_the_code() {
        let (code, comments) =
            split("a(\"// \\\" b\", '\"', r#\"c\"#); // d 'e\n/* f */ g::<'h>()");
        assert_eq!(code.split_whitespace().collect::<String>(), "a(,,);g::<'h>()");
        assert_eq!(comments.split_whitespace().collect::<String>(), "//d'e/*f*/");
    }

    #[test]
    fn a_test_module_ends_with_its_brace() {
        let flags = test_lines("a\n#[cfg(test)]\nmod t {\n {}\n}\nb\n#[cfg(test)]\nmod c;\nd");
        assert_eq!(flags, [false, true, true, true, true, false, true, true, false]);
    }

    #[test]
    fn a_word_is_not_a_part_of_one() {
        assert_eq!(find_word("unsafe_code, unsafe {", "unsafe"), Some(13));
        assert_eq!(find_word("unsafe_code", "unsafe"), None);
    }

    #[test]
    fn a_complaint_is_one_line() {
        let complaint = File::new("a.rs", "").complain(3, "a tab", "a space");
        assert_eq!(complaint.to_string(), "a.rs:3: a tab. Cure: a space.");
    }
}
