//! A few seconds of `soak`, as root and as an ordinary user.
//!
//! | run | must |
//! |---|---|
//! | with everything, as root or as an ordinary user | account for everything |
//! | of one round, without disturbances | run that round |
//! | with a wrong disturbance | say which there are |

use std::os::unix::process::CommandExt as _;

use super::{Folder, fails, is_root, line, prints, run, text};

/// A user whom no other test has.
const ALONE: u32 = 65533;

/// The number in a row of the table.
fn number(page: &str, row: &str) -> u64 {
    line(page, row).parse().expect("a number")
}

#[test]
fn a_few_seconds_of_soak_leave_nothing_behind() {
    let page = prints("soak", &["--seconds", "3", "--seed", "7", "--threads", "2"]);
    assert!(page.starts_with("seed 7, 2 threads, 3 seconds\n"), "{page}");
    assert!(page.contains("everything is accounted for, exactly once\n"), "{page}");
    assert!(number(&page, "audits of descriptors") > 0, "{page}");
    for row in ["bytes sent and received", "submission entries", "cancels", "signals sent"] {
        assert!(number(&page, row) > 0, "{row}: {page}");
    }
}

#[test]
fn a_few_seconds_of_soak_leave_nothing_behind_for_an_ordinary_user() {
    let folder = Folder::new("soak");
    let mut command = folder.ordinary("soak");
    if is_root() {
        // Whose locked memory no other test uses: a ring that is killed may give its own back late.
        command.uid(ALONE).gid(ALONE);
    }
    let output = command.args(["--seconds", "3", "--seed", "8"]).output().expect("it starts");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let page = text(&output.stdout);
    assert!(page.contains("everything is accounted for, exactly once\n"), "{page}");
}

#[test]
fn one_round_runs_again_without_disturbances() {
    let calm = "signals,kill,limits,pressure,forget";
    let page = prints("soak", &["--seconds", "1", "--again", "5", "--without", calm]);
    assert!(page.contains(", 1 threads, 1 seconds\n"), "{page}");
    for row in ["signals sent", "children killed", "rings forgotten", "MiB mapped and touched"] {
        assert_eq!(number(&page, row), 0, "{page}");
    }
}

#[test]
fn a_wrong_disturbance_is_told_which_there_are() {
    let stderr = fails(&run("soak", &["--without", "rain"]), 2);
    assert!(
        stderr.contains("[possible values: signals, kill, limits, pressure, forget]"),
        "{stderr}"
    );
}
