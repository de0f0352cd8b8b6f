//! The pages as text, and what can be found in them.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where the pages of each book are: the English one, and the beginning of it in French.
pub const BOOKS: [&str; 2] = ["docs/book/src", "docs/book/fr/src"];

/// A page of a book.
pub struct Page {
    /// Which book: one of [`BOOKS`].
    pub folder: &'static str,
    /// Its name: `ch00-ten-lines.md`.
    pub name: String,
    pub text: String,
}

/// A block of code.
pub struct Fence {
    /// What stands behind the ticks: `rust`, `text`.
    pub info: String,
    pub body: String,
}

/// A claim's mark: a folder, and the tests there.
pub struct Mark {
    pub folder: String,
    pub tests: Vec<String>,
}

/// The root of the tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Where the pages of the English book are.
pub fn source() -> PathBuf {
    root().join(BOOKS[0])
}

/// All pages of all books.
pub fn pages() -> Vec<Page> {
    BOOKS.into_iter().flat_map(of_book).collect()
}

/// The pages of one book, by name.
pub fn of_book(folder: &'static str) -> Vec<Page> {
    let files = fs::read_dir(root().join(folder)).expect("the book has pages");
    let mut pages: Vec<Page> = files
        .map(|file| file.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| Page {
            folder,
            name: path.file_name().expect("a name").to_string_lossy().into_owned(),
            text: fs::read_to_string(&path).expect("text"),
        })
        .collect();
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    pages
}

impl Page {
    /// A path as seen from this page, without `..`; `None` if it leaves the tree.
    pub fn resolved(&self, path: &str) -> Option<PathBuf> {
        let mut whole = root().join(self.folder);
        for part in Path::new(path).components() {
            match part {
                Component::ParentDir => drop(whole.pop()),
                Component::Normal(name) => whole.push(name),
                _ => {}
            }
        }
        whole.starts_with(root()).then_some(whole)
    }

    /// A complaint about this page.
    pub fn complain(&self, what: impl std::fmt::Display) -> String {
        format!("{}/{}: {what}", self.folder, self.name)
    }

    /// Whether it is a chapter, and not a list or an appendix.
    pub fn is_chapter(&self) -> bool {
        self.name.starts_with("ch")
    }

    /// The text without its blocks of code.
    pub fn prose(&self) -> String {
        let mut in_fence = false;
        let outside = |line: &&str| {
            let is_tick = line.trim_start().starts_with("```");
            in_fence ^= is_tick;
            !in_fence && !is_tick
        };
        let lines: Vec<&str> = self.text.lines().filter(outside).collect();
        lines.join("\n")
    }

    /// Its blocks of code.
    pub fn fences(&self) -> Vec<Fence> {
        let mut fences = Vec::new();
        let mut open: Option<Fence> = None;
        for line in self.text.lines() {
            let tick = line.trim_start().strip_prefix("```");
            match (&mut open, tick) {
                (None, Some(info)) => {
                    open = Some(Fence { info: info.to_owned(), body: String::new() });
                }
                (Some(_), Some(_)) => fences.extend(open.take()),
                (Some(fence), None) => {
                    fence.body.push_str(line);
                    fence.body.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}", self.complain("a block of code does not end"));
        fences
    }

    /// The marks of its claims.
    pub fn marks(&self) -> Vec<Mark> {
        let text = self.text.replace('\n', " ").replace("[montré par ", "[shown by ");
        let bodies = text.split("[shown by ").skip(1).map(|rest| match rest.split_once(']') {
            Some((body, _)) => body.to_owned(),
            None => panic!("{}", self.complain("a mark does not end")),
        });
        let parts: Vec<String> = bodies
            .flat_map(|body| body.split(';').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let parse = |part: &String| {
            let mut words = part.split('`').skip(1).step_by(2).map(str::to_owned);
            let folder = words.next().unwrap_or_default();
            Mark { folder, tests: words.collect() }
        };
        parts.iter().map(parse).collect()
    }

    /// Its includes: path and anchor, as they stand there.
    pub fn includes(&self) -> Vec<(String, Option<String>)> {
        let bodies = self.text.split("{{#include ").skip(1);
        let bodies = bodies.map(|rest| rest.split("}}").next().unwrap_or_default().trim());
        let split = |body: &str| match body.split_once(':') {
            Some((path, anchor)) => (path.to_owned(), Some(anchor.to_owned())),
            None => (body.to_owned(), None),
        };
        bodies.map(split).collect()
    }

    /// The targets of its links that lead to no other site. A figure is no link.
    pub fn links(&self) -> Vec<String> {
        let figures: Vec<String> = self.figures().into_iter().map(|(_, path)| path).collect();
        let prose = self.prose();
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let targets = targets.filter(|target| !target.contains("://")).map(str::to_owned);
        targets.filter(|target| !figures.contains(target)).collect()
    }

    /// Its figures: what is said to those who do not see them, and the path.
    pub fn figures(&self) -> Vec<(String, String)> {
        let prose = self.prose();
        let figures = prose.split("![").skip(1).filter_map(|rest| rest.split_once("]("));
        let path = |rest: &str| rest.split(')').next().unwrap_or_default().to_owned();
        figures.map(|(text, rest)| (text.replace('\n', " "), path(rest))).collect()
    }

    /// The ids that mdBook gives its headings.
    pub fn heading_ids(&self) -> Vec<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| id(line.trim_start_matches('#').trim())).collect()
    }
}

/// A heading as an id: lower case, hyphens for spaces, nothing but letters, digits and those.
fn id(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

/// What lies between an anchor's two comments in `text`, of Rust or of Markdown.
pub fn anchored<'a>(text: &'a str, anchor: &str) -> Option<&'a str> {
    let between = |open: &str, close: &str| {
        let (_, rest) = text.split_once(&format!("{open} ANCHOR: {anchor}{close}\n"))?;
        rest.split_once(&format!("{open} ANCHOR_END: {anchor}{close}\n")).map(|(inside, _)| inside)
    };
    between("//", "").or_else(|| between("<!--", " -->"))
}

/// The text of all Rust files in `folder` and below, or of the one file of that name.
pub fn rust_below(folder: &Path) -> String {
    if folder.is_file() {
        return fs::read_to_string(folder).expect("text");
    }
    let Ok(entries) = fs::read_dir(folder) else { return String::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let is_text = |path: &PathBuf| {
        path.is_dir() || path.extension().is_some_and(|extension| extension == "rs")
    };
    paths.iter().filter(|path| is_text(path)).map(|path| rust_below(path)).collect()
}
