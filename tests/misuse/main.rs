//! Misuse of the safe core does not compile: one small program for each rule that a type keeps.
//!
//! ```text
//!   misuse/cases/ticket_redeemed_twice.rs
//!   ┌────────────────────────────────────────────┐
//!   │ //! E0382: redeeming a ticket uses it up.  │   the error's code, and the rule
//!   │ let nop = ring.submit(Nop).unwrap();       │
//!   │ ring.wait(nop).unwrap();                   │   as it is:         rejected, with that code,
//!   │ ring.wait(nop).unwrap(); // misuse         │                     and for this line alone
//!   └────────────────────────────────────────────┘   without the line: accepted
//! ```
//!
//! | in a case | means |
//! |---|---|
//! | `//! E0382: why` | how it begins; an error that has no code is given by its text |
//! | `//! Says: text` | the error contains this text; then it may be in the library |
//! | `// misuse` | ends a line that errors point to, and that the correct program is without |
//! | ``// misuse, instead: `code` `` | likewise, but the correct program has this in its place |
//! | either on a line of its own | is about the line above, which ends with a brace |
//!
//! So no case can pass because of a typing error: one program compiles, the other does not, and the
//! misuse is the only difference. To add a case, write the file.
//!
//! Cases are compiled against the library next to this test, with which it was linked. Where there
//! is none, or the compiler cannot read it, the tests report that on stderr, and pass.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::SystemTime;

/// Where the cases are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/misuse/cases");

/// In a line that is misuse, where the code ends.
const MARK: &str = "// misuse";

/// Uses enough of the library to tell whether the compiler can read it.
const PROBE: &str = "fn main() { drop(annulus::Setup::new(8).build()); }";

#[test]
fn misuse_does_not_compile_for_the_reason_given() {
    let (Some(cases), Some(compiler)) = (or_skip(cases()), or_skip(Compiler::find())) else {
        return;
    };
    let every_second = |first: usize| -> Vec<String> {
        let mine = cases.iter().skip(first).step_by(2);
        mine.filter_map(|case| case.judge(&compiler.compile(&case.path)).err()).collect()
    };
    let mut complaints = thread::scope(|scope| {
        let odd = scope.spawn(|| every_second(1));
        [every_second(0), odd.join().expect("judging does not panic")].concat()
    });
    complaints.sort();
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn the_same_programs_compile_without_the_misuse() {
    let (Some(cases), Some(compiler)) = (or_skip(cases()), or_skip(Compiler::find())) else {
        return;
    };
    // All as modules of one program, since the compiler stops at none of them.
    let mut root = String::from("fn main() {}\n");
    for Case { name, right, .. } in cases {
        root.push_str(&format!("mod {name};\n"));
        compiler.write(&name, &right);
    }
    let output = compiler.compile(&compiler.write("right_programs", &root));
    assert!(output.is_success, "without their marked lines:\n{}", output.words);
}

#[test]
fn every_case_says_why_and_marks_where() {
    let Some(cases) = or_skip(cases()) else { return };
    assert!(!cases.is_empty(), "no case in {FOLDER}");
    for Case { name, why, .. } in cases {
        let is_snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(is_snake), "{name}: not in snake case");
        assert!(why.ends_with('.'), "{name}: its reason is no sentence: {why}");
    }
}

/// A program that must not compile.
#[derive(Debug)]
struct Case {
    /// What it is about: the file's name, without `.rs`.
    name: String,
    path: PathBuf,
    /// The code of the only error, or its text.
    error: String,
    why: String,
    /// Further text of the error.
    says: Option<String>,
    /// The lines that errors may point to, counted from 1.
    marked: Vec<usize>,
    /// The program without the misuse.
    right: String,
}

impl Case {
    /// Reads a case, or reports what is wrong with it.
    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let head = text.lines().map_while(|line| line.strip_prefix("//! "));
        let (says, why): (Vec<&str>, Vec<&str>) = head.partition(|line| line.starts_with("Says: "));
        let why = why.join(" ");
        let Some((error, why)) = why.split_once(": ") else {
            return Err(format!("{name}: it does not begin with `//! E0123: why`"));
        };
        let (mut marked, mut right) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            right.push(line);
            let Some((code, instead)) = line.split_once(MARK) else { continue };
            let wanted =
                instead.strip_prefix(", instead: `").and_then(|rest| rest.strip_suffix('`'));
            if wanted.is_none() && !instead.is_empty() {
                return Err(format!("{name}:{number}: no mark ends with `{instead}`"));
            }
            // Lines keep their numbers, even where nothing replaces them.
            let at = if code.trim().is_empty() { number - 1 } else { number };
            right[number - 1] = "";
            right[at - 1] = wanted.unwrap_or_default();
            marked.push(at);
        }
        if marked.is_empty() {
            return Err(format!("{name}: no line ends with `{MARK}`"));
        }
        Ok(Self {
            name,
            path: path.into(),
            error: error.into(),
            why: why.into(),
            says: says.first().map(|line| line["Says: ".len()..].into()),
            marked,
            right: right.join("\n"),
        })
    }

    /// Complains unless the compiler rejected the case for the reason that it gives, and no other.
    fn judge(&self, output: &Output) -> Result<(), String> {
        let Self { name, error, why, says, .. } = self;
        let complain =
            |what: &str| Err(format!("{name}: {what}\n  {error}: {why}\n{}", output.words));
        if output.is_success {
            return complain("it compiles");
        }
        let found = errors(&output.words, &format!("misuse/cases/{name}.rs:"));
        if found.is_empty() {
            return complain("the compiler failed without an error");
        }
        for Found { name, words, lines } in found {
            let is_marked = lines.iter().any(|line| self.marked.contains(line));
            let is_said = says.as_ref().is_some_and(|says| words.contains(says));
            if name != *error || !is_said && (says.is_some() || !is_marked) {
                return complain(&format!("{name} at lines {lines:?}, where it gives {error}"));
            }
        }
        Ok(())
    }
}

/// All cases, or why there are none here.
fn cases() -> Result<Vec<Case>, String> {
    let files = fs::read_dir(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        assert!(path.extension().is_some_and(|end| end == "rs"), "{path:?} is no case");
        let text = fs::read_to_string(path).map_err(|error| format!("{path:?}: {error}"))?;
        Ok(Case::parse(path, &text).unwrap_or_else(|complaint| panic!("{complaint}")))
    };
    paths.iter().map(read).collect()
}

/// The value; or `None`, with the reason on stderr, past the harness that would hold it back.
fn or_skip<T>(found: Result<T, String>) -> Option<T> {
    let skip = |why| writeln!(io::stderr(), "skipped: misuse is not compiled, because {why}");
    found.map_err(skip).ok()
}

/// An error that the compiler reported.
#[derive(Debug, PartialEq)]
struct Found {
    /// Its code, or its text if it has none.
    name: String,
    words: String,
    /// The lines of the case in which it underlines something; none if it points elsewhere.
    lines: Vec<usize>,
}

/// The errors in the compiler's output about a file, whose path ends with `end`.
fn errors(words: &str, end: &str) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let (mut is_here, mut number) = (false, None::<usize>);
    for line in words.lines() {
        let coded = line.strip_prefix("error[").and_then(|rest| rest.split_once("]: "));
        let uncoded = line.strip_prefix("error: ").filter(|words| !words.starts_with("aborting "));
        if let Some((name, words)) = coded.or(uncoded.map(|words| (words, words))) {
            found.push(Found { name: name.into(), words: words.into(), lines: Vec::new() });
        }
        // `--> path:line:column`, or `:::`, then `12 | code`, and below that `   | ^^^^ why`.
        let line = line.trim_start();
        if let Some(place) = line.strip_prefix("--> ").or(line.strip_prefix("::: ")) {
            is_here = place.contains(end);
        }
        let Some((gutter, text)) = line.split_once('|') else { continue };
        if gutter.is_empty() && is_here && text.contains(['^', '-']) {
            let lines = found.last_mut().map(|error| &mut error.lines);
            lines.into_iter().for_each(|lines| lines.extend(number));
        }
        number = gutter.trim_end().parse().ok();
    }
    found
}

/// The compiler's output.
#[derive(Debug)]
struct Output {
    is_success: bool,
    words: String,
}

/// A compiler that can read the library.
#[derive(Debug)]
struct Compiler {
    /// The library, as it was built.
    annulus: PathBuf,
    flags: Vec<String>,
    /// A new folder, which is removed with this.
    folder: PathBuf,
}

impl Compiler {
    /// The compiler, with the newest library next to this test that it can read.
    fn find() -> Result<Self, String> {
        if cfg!(miri) {
            return Err(String::from("Miri starts no compiler"));
        }
        let test = env::current_exe().map_err(|error| error.to_string())?;
        let beside = test.parent().unwrap_or(Path::new("."));
        let flags = flags(beside);
        let mut complaint = format!("no libannulus-*.rlib is in {}", beside.display());
        for annulus in libraries(beside).map_err(|error| error.to_string())? {
            let folder = new_folder().map_err(|error| error.to_string())?;
            let compiler = Self { annulus, flags: flags.clone(), folder };
            let output = compiler.compile(&compiler.write("probe", PROBE));
            if output.is_success {
                return Ok(compiler);
            }
            let annulus = compiler.annulus.display();
            complaint = format!("the compiler cannot use {annulus}:\n{}", output.words);
        }
        Err(complaint)
    }

    /// Writes a program to the folder.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name).with_extension("rs");
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Compiles the program at `path`, and no further than to its objects: constants of generic
    /// functions are evaluated on the way there.
    fn compile(&self, path: &Path) -> Output {
        let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition", "2024", "--crate-type", "bin", "--emit", "obj"]);
        command.args(["--error-format", "human", "--color", "never", "--cap-lints", "allow"]);
        // All functions are compiled, even those that `main` does not call.
        command.args(["-C", "link-dead-code"]).args(&self.flags);
        command.arg("--out-dir").arg(&self.folder);
        command.arg("--extern").arg(format!("annulus={}", self.annulus.display())).arg(path);
        match command.output() {
            Ok(output) => Output {
                is_success: output.status.success(),
                words: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Err(error) => Output { is_success: false, words: format!("no compiler: {error}") },
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // Files that are left over are in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder that nothing else uses.
fn new_folder() -> io::Result<PathBuf> {
    let mut count = 0;
    loop {
        let folder = env::temp_dir().join(format!("annulus-misuse-{}-{count}", process::id()));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => count += 1,
            made => return made.map(|()| folder),
        }
    }
}

/// The builds of the library in `folder`, the newest first.
fn libraries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with("libannulus-") && name.ends_with(".rlib") {
            found.push((file.metadata()?.modified()?, file.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

/// The compiler flags of the library, as far as they must match here, and where its dependencies
/// are.
fn flags(beside: &Path) -> Vec<String> {
    let mut flags = vec![format!("-Ldependency={}", beside.display())];
    // A build for a named target lies one folder deeper, `target/triple/debug/deps`, and its macros
    // do not. Cargo marks both roots, so that backups pass them over.
    let is_marked = |folder: &Path| folder.join("CACHEDIR.TAG").exists();
    let above: Vec<&Path> = beside.ancestors().collect();
    if let [_, profile, triple, root, ..] = above[..]
        && is_marked(root)
        && is_marked(triple)
        && let (Some(profile), Some(triple)) = (profile.file_name(), triple.file_name())
    {
        flags.push(format!("--target={}", triple.to_string_lossy()));
        flags.push(format!("-Ldependency={}", root.join(profile).join("deps").display()));
    }
    if let Ok(encoded) = env::var("CARGO_ENCODED_RUSTFLAGS") {
        flags.extend(encoded.split('\x1f').filter(|flag| !flag.is_empty()).map(str::to_owned));
    } else if let Ok(all) = env::var("RUSTFLAGS") {
        flags.extend(all.split_whitespace().map(str::to_owned));
    }
    flags
}

/// The harness tested by its own rule: what it must accept, and what it must reject.
mod harness {
    use super::*;

    const TEXT: &str = "//! E0382: no.\nlet a;\nb(); // misuse\nc(); // misuse, instead: `d();`";

    fn parse(text: &str) -> Result<Case, String> {
        Case::parse(Path::new("tests/misuse/cases/a_b.rs"), text)
    }

    /// The verdict of [`Case::judge`] when the compiler rejects the program with `words`.
    fn judge(text: &str, words: &str) -> Result<(), String> {
        let output = Output { is_success: false, words: words.into() };
        parse(text).expect("the text is of a case").judge(&output)
    }

    #[test]
    fn the_right_program_has_no_marked_line() {
        let case = parse(TEXT).expect("the text is of a case");
        assert_eq!(case.right, "//! E0382: no.\nlet a;\n\nd();");
        assert_eq!((case.name.as_str(), &case.marked[..]), ("a_b", &[3, 4][..]));
        let case =
            parse("//! E1: no.\nfor a {\n    // misuse, instead: `if a {`\n}").expect("a case");
        assert_eq!((&*case.right, &case.marked[..]), ("//! E1: no.\nif a {\n\n}", &[2][..]));
    }

    #[test]
    fn a_text_that_is_no_case_is_rejected() {
        for text in ["fn a() {} // misuse", "//! E0382\na(); // misuse", "//! E0382: no.\na();"] {
            assert!(parse(text).is_err(), "accepted: {text}");
        }
        let words = parse("//! E0382: no.\na(); // misuse, or not").expect_err("accepted");
        assert!(words.contains("a_b:2:"), "{words}");
    }

    #[test]
    fn a_program_that_compiles_is_complained_about() {
        let case = parse(TEXT).expect("the text is of a case");
        let output = Output { is_success: true, words: String::new() };
        assert!(case.judge(&output).expect_err("accepted").contains("it compiles"));
    }

    #[test]
    fn only_the_given_error_at_a_marked_line_will_do() {
        let at = |code, line| {
            let place =
                format!("--> /x/misuse/cases/a_b.rs:{line}:1\n  |\n{line} | b();\n  | ^^^ here");
            format!("error{code}: moved\n {place}\n\nerror: aborting due to 1 previous error")
        };
        judge(TEXT, &at("[E0382]", 3)).expect("the error that it gives");
        judge(&TEXT.replace("E0382", "moved"), &at("", 4)).expect("the words that it gives");
        assert!(judge(TEXT, &at("[E0382]", 2)).is_err(), "a line that is not marked");
        assert!(judge(TEXT, &at("[E0308]", 3)).is_err(), "another error");
        assert!(judge(TEXT, &at("", 3)).is_err(), "an error without a code");
        assert!(judge(TEXT, "no compiler").is_err(), "no error");
        let twice = at("[E0382]", 3) + "\n" + &at("[E0308]", 3);
        assert!(judge(TEXT, &twice).is_err(), "two errors, and one of them another");
    }

    #[test]
    fn an_error_in_the_library_must_have_the_text_that_the_case_gives() {
        let words = "error[E0382]: a slot\n --> src/ring/mod.rs:3:1\n3 | b();\n  | ^^^";
        assert!(judge(TEXT, words).is_err());
        let case = |says| TEXT.replacen('\n', &format!("\n//! Says: {says}\n"), 1);
        judge(&case("a slot"), words).expect("these words");
        assert!(judge(&case("a ring"), words).is_err(), "other words");
        assert!(judge(&case("b();"), words).is_err(), "words of the program");
    }
}
