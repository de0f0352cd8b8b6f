//! Runs: recorded on Linux, replayed, linted, and drawn as a Chrome trace.

mod support;

use std::fs;

use serde_json::Value;
use support::{folder, output, printed, ringscope};

/// The records of the echo server on Linux; `None`, with the reason, where there is no io_uring.
fn recorded(clients: &str, rounds: &str) -> Option<String> {
    let output = output(&["record", "--clients", clients, "--rounds", rounds]);
    if output.status.success() {
        return Some(String::from_utf8(output.stdout).expect("text"));
    }
    println!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim());
    None
}

/// Writes records to a file, and returns its name.
fn written(name: &str, text: &str) -> String {
    let file = folder("runs").join(name);
    fs::write(&file, text).expect("written");
    file.display().to_string()
}

#[test]
fn a_server_on_linux_is_recorded_and_replayed() {
    let Some(text) = recorded("2", "3") else { return };
    assert!(text.contains("ACCEPT") && text.contains("SEND of 11 bytes"), "{text}");
    let file = written("echo.trace", &text);
    let plain = printed(&["replay", &file]);
    assert!(plain.contains("A ring of 8 and 64 entries."), "{plain}");
    assert!(plain.contains("#1 accept"), "{plain}");
    let page = printed(&["replay", &file, "--as", "html"]);
    let from = page.rfind("<section").expect("frames");
    // At the end of a run nothing is left in a ring, but the completions of the last enter.
    assert!(page[from..].contains("A:CQ"), "{}", &page[from..][..600]);
    let picture = printed(&["replay", &file, "--as", "svg", "--skip", "1", "--limit", "2"]);
    roxmltree::Document::parse(&picture).expect("XML");
}

#[test]
fn a_program_that_prints_records_is_run_and_shown() {
    let Some(_) = recorded("1", "1") else { return };
    let program = env!("CARGO_BIN_EXE_ringscope");
    let run = printed(&["run", "--limit", "3", "--", program, "record", "--clients", "1"]);
    assert!(run.contains("The program enters the kernel with 2 entries"), "{run}");
    let silent = output(&["run", "--", program, "--help"]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&silent.stderr).contains("no records"));
    let missing = output(&["run", "--", "/no/such/program"]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn one_entry_per_enter_is_marked() {
    let Some(text) = recorded("1", "20") else { return };
    let output = output(&["replay", &written("singles.trace", &text), "--as", "lint"]);
    let marks = String::from_utf8_lossy(&output.stdout);
    assert!(marks.contains("one at a time: 10 enters in a row"), "{marks}");
    assert_eq!(output.status.code(), Some(1));
}

const WRONG: &str = "\
    0.000000 ring 0: 4 submission and 4 completion entries
some other line
    0.000000 ring 0: enter, 3 to submit, wants 0
    0.000000 ring 0: #1 SEND of 10 bytes, on 7
    0.000000 ring 0: #2 SEND of 10 bytes, on 8
    0.000000 ring 0: #3 SEND of 10 bytes, on 7
    0.000000 ring 0: enter returns 3
    0.000001 ring 0: #1 completes with 10
    0.000001 ring 0: #2 completes with 10
    0.000001 ring 0: #3 completes with 10
    0.000002 ring 0: enter, 0 to submit, wants 3
    0.000002 ring 0: enter returns 0
    0.000002 ring 0: 3 completions were taken
    0.000003 ring 0: enter, 0 to submit, wants 1
    0.000003 ring 0: nothing can happen; 0 requests in flight
    0.000003 ring 0: enter fails: Resource deadlock avoided (os error 35)
    0.000004 ring 0: #4 NOP of 0 bytes
    0.000004 ring 0: #4 completes with 0
    0.000004 ring 0: #4: the completion queue is full
";

#[test]
fn what_is_wrong_is_marked_and_what_is_right_is_not() {
    let file = written("wrong.trace", WRONG);
    let output = output(&["replay", &file, "--as", "lint"]);
    let marks = String::from_utf8_lossy(&output.stdout);
    let expected = "    \
    0.000000 ring 0: two sends: #3 and #1 on one stream, in no order
    0.000003 ring 0: wait for nothing: no request is in flight
    0.000003 ring 0: wait for nothing: it never ends, with 0 requests in flight
    0.000004 ring 0: overflow: there is no room for the completion of #4
";
    assert_eq!(marks, expected);
    let page = printed(&["replay", &file, "--as", "html"]);
    assert!(page.contains("! two sends: #3 and #1"), "the page shows marks too");
    // The same sends on three streams, and no wait too many.
    let right: String = WRONG.lines().take(13).map(|line| format!("{line}\n")).collect();
    let right = right.replace("#3 SEND of 10 bytes, on 7", "#3 SEND of 10 bytes, on 9");
    let file = written("right.trace", &right);
    assert_eq!(printed(&["replay", &file, "--as", "lint"]), "");
}

#[test]
fn what_cannot_be_replayed_is_an_error() {
    for (name, text, wanted) in [
        ("empty.trace", "nothing here\n", "no records"),
        ("late.trace", "    0.000000 ring 0: enter returns 3\n", "how ring 0 was made"),
    ] {
        let output = output(&["replay", &written(name, text)]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(wanted), "{errors}");
    }
    for wrong in [["--as", "song"], ["--entries", "3,4"], ["--entries", "8"], ["--ring", "x"]] {
        let wrong = ringscope(&["replay", "x"]).args(wrong).output().expect("it runs");
        assert_eq!(wrong.status.code(), Some(2));
    }
    let late = written("late.trace", "    0.000000 ring 0: enter returns 3\n");
    assert!(printed(&["replay", &late, "--entries", "4,8"]).contains("consumes 3 entries"));
    assert_eq!(output(&["replay", "/no/such/file"]).status.code(), Some(1));
}

/// The events of a Chrome trace.
fn events(text: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_str(text).expect("JSON");
    trace["traceEvents"].as_array().expect("events").clone()
}

#[test]
fn a_chrome_trace_has_each_request_from_begin_to_end() {
    for story in ["demo", "sqpoll", "multishot", "overflow", "zerocopy"] {
        let events = events(&printed(&["perfetto", story]));
        let ids = |phase: &str| {
            let of_phase = events.iter().filter(|event| event["ph"] == phase);
            let mut ids: Vec<String> = of_phase.map(|event| event["id"].to_string()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids("b"), ids("e"), "{story}");
        assert!(!ids("b").is_empty(), "{story}");
        let count = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
        assert_eq!(count("B"), count("E"), "{story}: each enter returns");
        let times: Vec<u64> = events.iter().filter_map(|event| event["ts"].as_u64()).collect();
        assert!(times.is_sorted() && times.last() > times.first(), "{story}");
    }
}
