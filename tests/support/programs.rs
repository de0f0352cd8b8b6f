//! The programs of examples, as a test finds and reads them.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// The program of an example, which cargo puts next to the folder of this one.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("we run from a file");
    let profile = this.ancestors().nth(2).expect("cargo runs us from PROFILE/deps");
    let program = profile.join("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
    program
}

/// The number before `words`.
#[track_caller]
pub fn number(page: &str, words: &str) -> u64 {
    let (before, _) = page.split_once(words).unwrap_or_else(|| panic!("{words}: {page}"));
    let number = before.split_whitespace().last().and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no number before {words}: {page}"))
}

/// Says why a test is skipped, where it is seen: what a test that passes prints is not.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {}", why.trim_end());
}

/// Whether a program has ended because this kernel is too old for it.
pub fn is_too_old(stderr: &str) -> bool {
    ["need Linux", "needs Linux", "there is no ring"].iter().any(|what| stderr.contains(what))
}

/// Wants that a server which cannot do what it is told says `what`, and ends with this status. On a
/// kernel that is too old for the server, it says that instead.
#[track_caller]
pub fn complains(name: &str, cases: &[(&[&str], i32, &str)]) {
    for &(arguments, code, what) in cases {
        let output = Command::new(program(name)).args(arguments).output().expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        if is_too_old(&stderr) {
            return skip(&stderr);
        }
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(what), "{arguments:?}: {stderr}");
    }
}
