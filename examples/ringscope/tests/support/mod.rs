//! Runs the program, and compares what it prints with what it printed before.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program with these arguments, without a terminal.
pub fn ringscope(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringscope"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub fn output(arguments: &[&str]) -> Output {
    ringscope(arguments).output().expect("it runs")
}

/// What it prints, if it ends well.
#[track_caller]
pub fn printed(arguments: &[&str]) -> String {
    let output = output(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// A folder of this test's own.
#[allow(dead_code, reason = "not every test writes files")]
pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Compares with a file of `tests/golden`; `ANNULUS_WRITE=1` writes it.
#[track_caller]
#[allow(dead_code, reason = "not every test draws")]
pub fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("ANNULUS_WRITE").is_some() {
        fs::write(&path, text).expect("it can be written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let at = golden.lines().zip(text.lines()).position(|(golden, text)| golden != text);
    assert!(
        golden == text,
        "tests/golden/{name} differs, first in line {at:?} (from 0); look at it, and write it with \
         ANNULUS_WRITE=1 cargo test"
    );
}
