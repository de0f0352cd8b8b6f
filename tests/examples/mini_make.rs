//! `mini_make`: it makes what `make` makes, each output whole, and says what was not made.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Folder, fails, program, text};

/// Runs it in a folder that has `rules` as its Makefile; `None`, with the reason on stderr, where
/// the kernel is too old for it.
fn make(folder: &Folder, rules: &str, arguments: &[&str]) -> Option<Output> {
    fs::write(folder.0.join("Makefile"), rules).expect("a file for the test");
    // Far longer than anything here takes: one that waits for a pipe that never closes fails.
    let mut command = Command::new("timeout");
    command.arg("60").arg(program("mini_make")).args(arguments);
    let output = command.stdin(Stdio::null()).current_dir(&folder.0).output();
    let output = output.expect("it starts");
    let stderr = text(&output.stderr);
    if stderr.contains("needs Linux 6.7") || stderr.contains("there is no ring") {
        eprintln!("skipped: {stderr}");
        return None;
    }
    Some(output)
}

/// The output of a run that succeeds.
fn makes(folder: &Folder, rules: &str, arguments: &[&str]) -> Option<String> {
    let output = make(folder, rules, arguments)?;
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(0), ""), "{arguments:?}");
    Some(text(&output.stdout))
}

/// The names and contents of all files but the Makefile.
fn contents(folder: &Path) -> Vec<(String, String)> {
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut all: Vec<_> = files
        .map(|path| (name(&path), fs::read_to_string(&path).expect("text")))
        .filter(|(name, _)| name != "Makefile")
        .collect();
    all.sort();
    all
}

/// What a small program is made of: sources, objects that take a while, and one that needs all.
const PROGRAM: &str = "\
# The first target is the one that is made.
.PHONY: all clean
all: program notes

program: a.o b.o c.o
\tcat a.o b.o c.o > program
\t@echo linked 3
a.o: a.c
\tsleep 0.05; cat a.c a.c > a.o
b.o: b.c # with a comment
\tcat b.c b.c > b.o
c.o: a.o
\twc -c < a.o > c.o
notes:
\t@echo said on stderr >&2; echo noted > notes
clean:
\trm -f program notes a.o b.o c.o
";

fn sources(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.file("a.c", b"first\n");
    folder.file("b.c", b"second\n");
    folder
}

#[test]
fn it_makes_what_make_makes() {
    for jobs in ["-j1", "-j4"] {
        let (ours, theirs) = (sources("ours"), sources("theirs"));
        let Some(page) = makes(&ours, PROGRAM, &[jobs]) else { return };
        fs::write(theirs.0.join("Makefile"), PROGRAM).expect("a file for the test");
        let mut command = Command::new("make");
        command.args([jobs, "-Oline"]).current_dir(&theirs.0).env_remove("MAKEFLAGS");
        let Ok(output) = command.output() else { return eprintln!("skipped: there is no make") };
        assert!(output.status.success(), "{output:?}");
        assert_eq!(contents(&ours.0), contents(&theirs.0), "{jobs}");
        // They print the same lines; with several jobs, in another order. What a job says on stderr
        // is part of its output here.
        let sorted = |page: &str| {
            let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let both = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(sorted(&page), sorted(&both), "{jobs}");
    }
}

#[test]
fn what_is_newer_than_all_that_it_needs_is_left_alone() {
    let folder = sources("newer");
    let Some(page) = makes(&folder, PROGRAM, &["-j2", "--stats"]) else { return };
    assert!(page.contains("linked 3\n") && page.contains(" CPU ns per operation"), "{page}");
    assert_eq!(makes(&folder, PROGRAM, &[]).expect("as before"), "everything is up to date\n");
    // One source is newer now: what needs it is made again, and nothing else.
    let later = fs::metadata(folder.0.join("program")).and_then(|it| it.modified());
    let source = fs::File::options().append(true).open(folder.0.join("b.c")).expect("a file");
    source.set_modified(later.expect("a time") + std::time::Duration::from_secs(1)).expect("ours");
    let page = makes(&folder, PROGRAM, &["program"]).expect("as before");
    assert_eq!(page, "cat b.c b.c > b.o\ncat a.o b.o c.o > program\nlinked 3\n");
}

#[test]
fn the_output_of_each_job_is_whole_and_no_more_run_than_may() {
    let folder = Folder::new("whole");
    let names: Vec<String> = (0..12).map(|number| format!("job{number}")).collect();
    let mut rules = format!(".PHONY: all {0}\nall: {0}\n", names.join(" "));
    for name in &names {
        rules += &format!(
            "{name}:\n\t@echo + >> log; for i in 1 2 3 4 5; do echo {name} $i; sleep 0.01; done; \
             seq 20000; echo - >> log\n"
        );
    }
    let Some(page) = makes(&folder, &rules, &["--jobs", "3"]) else { return };
    let numbers: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let mut rest = page.as_str();
    for _ in &names {
        let name = rest.split(' ').next().expect("a name").to_owned();
        let first: String = (1..=5).map(|i| format!("{name} {i}\n")).collect();
        rest = rest.strip_prefix(&(first + &numbers)).expect("one job, then the next");
    }
    assert_eq!(rest, "");
    let log = fs::read_to_string(folder.0.join("log")).expect("they wrote");
    let (mut now, mut most) = (0, 0);
    for line in log.lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!((now, log.lines().count()), (0, 24));
    assert!((2..=3).contains(&most), "{most} at once");
}

#[test]
fn two_jobs_that_wait_for_each_other_run_at_once() {
    let folder = Folder::new("at-once");
    let wait = |name: &str| format!("while ! test -e {name}; do sleep 0.01; done; echo saw {name}");
    let rules = format!(
        "all: one two\none:\n\t@touch one; {}\ntwo:\n\t@touch two; {}\n",
        wait("two"),
        wait("one")
    );
    let Some(page) = makes(&folder, &rules, &["-j2"]) else { return };
    assert!(page == "saw two\nsaw one\n" || page == "saw one\nsaw two\n", "{page}");
}

#[test]
fn a_failure_is_told_and_what_needs_it_is_not_made() {
    let folder = Folder::new("failure");
    let rules = "all: first bad last\nfirst:\n\t@echo first\nbad:\n\t@echo before; exit 3\n\
                 \t@echo after\nneeds: bad\n\t@echo needs\nlast:\n\t@echo last\n";
    let Some(output) = make(&folder, rules, &[]) else { return };
    let stderr = fails(&output, 1);
    assert_eq!(stderr, "mini_make: bad was not made: exit status 3\n");
    assert_eq!(text(&output.stdout), "first\nbefore\n");
    let output = make(&folder, rules, &["--keep-going", "all", "needs"]).expect("as before");
    assert_eq!(fails(&output, 1), "mini_make: bad was not made: exit status 3\n");
    assert_eq!(text(&output.stdout), "first\nbefore\nlast\n");
    let output = make(&folder, "it:\n\t@kill -9 $$\n", &[]).expect("as before");
    assert_eq!(fails(&output, 1), "mini_make: it was not made: killed by signal 9\n");
}

#[test]
fn wrong_rules_are_told_with_their_line_or_target() {
    let folder = Folder::new("wrong");
    let cases = [
        ("one: two\ntwo: one\n", "Makefile: one needs itself, by way of one, two"),
        ("one: two\n", "Makefile: no rule makes two, which one needs"),
        ("one:\nwhat is this\n", "Makefile: line 2: neither `TARGET: NEEDED…` nor a command"),
        ("\techo\n", "Makefile: line 1: a command before the first target"),
        ("# nothing\n", "Makefile: there is no target"),
    ];
    for (rules, what) in cases {
        let Some(output) = make(&folder, rules, &[]) else { return };
        assert_eq!(fails(&output, 1), format!("mini_make: {what}\n"));
    }
    let output = make(&folder, "", &["--file", "none"]).expect("as before");
    assert!(fails(&output, 1).starts_with("mini_make: cannot read none: "));
    let output = make(&folder, "", &["-j0"]).expect("as before");
    assert!(fails(&output, 2).contains("0 is not in 1..=1024"));
}
