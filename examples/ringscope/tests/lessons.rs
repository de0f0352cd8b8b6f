//! Misplaced barriers, and the quiz.
//!
//! `ANNULUS_WRITE=1 cargo test --test lessons` writes `tests/golden`.

mod support;

use std::io::Write;
use std::process::{Output, Stdio};

use roxmltree::Document;
use support::{compare, output, printed, ringscope};

const LISTINGS: &[&str] = &["pdf", "pdf-half", "man", "sqpoll", "sqpoll-acquire"];

#[test]
fn every_listing_fails_as_it_did() {
    let text = printed(&["weak"]);
    compare("weak.txt", &text);
    for (listing, escape) in [
        ("pdf", "Line 3 cannot run ahead of line 2: the load acquires."),
        ("pdf-half", "Line 4 cannot run ahead of line 3: the store releases."),
        ("man", "Line 3 cannot run ahead of line 2: the load acquires."),
        ("sqpoll", "Line 3 cannot run ahead of line 1: a full barrier stands between."),
    ] {
        assert!(printed(&["weak", listing]).contains(escape), "{listing}");
    }
    assert_eq!(text.matches("FAILS:").count(), LISTINGS.len());
    assert_eq!(text.matches("orders fails.").count(), LISTINGS.len(), "of the right twins none");
}

#[test]
fn listings_are_drawn_as_they_were() {
    for listing in LISTINGS {
        let text = printed(&["weak", listing, "--svg"]);
        let document = Document::parse(&text).expect(listing);
        let steps = document.descendants().filter(|node| node.has_attribute("data-step"));
        assert!(steps.count() >= 4, "{listing}");
        compare(&format!("weak-{listing}.svg"), &text);
    }
}

#[test]
fn the_stale_completion_is_read_before_the_tail_that_announces_it() {
    let text = printed(&["weak", "pdf", "--svg"]);
    let document = Document::parse(&text).expect("XML");
    let step = |thread: &str, line: &str| -> usize {
        let node = document.descendants().find(|node| {
            node.attribute("data-thread") == Some(thread)
                && node.attribute("data-line") == Some(line)
        });
        node.and_then(|node| node.attribute("data-step")).expect(line).parse().expect("a number")
    };
    // The program's lines 3 and 4 load tail and the entry; the kernel's 1 and 2 store them.
    assert!(step("program", "4") < step("kernel", "1"));
    assert!(step("kernel", "2") < step("program", "3"));
}

fn quiz(answers: &str) -> Output {
    let mut child =
        ringscope(&["quiz"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(answers.as_bytes()).expect("written");
    drop(input);
    child.wait_with_output().expect("it ends")
}

#[test]
fn the_quiz_knows_the_answers() {
    let right = "0 0 0 0\n3, 3, 0, 1\n3 3 0 1\n3 3 0 2\n3 3 2 2\n5 5 2 4\n5 5 2 5\n5 5 5 5\n";
    let done = quiz(right);
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(text.contains("8 of 8 right."), "{text}");
    assert!(done.status.success());
}

#[test]
fn the_quiz_corrects_and_ends_with_the_input() {
    let done = quiz("0 0 0 0\n\n3 3 what 1\n");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(text.contains("Not so: SQ 3 to 3, CQ 0 to 1."), "{text}");
    assert!(text.contains("1 of 3 right."), "{text}");
    assert_eq!(done.status.code(), Some(1));
    assert!(quiz("").stdout.ends_with(b"0 of 0 right.\n"));
}

#[test]
fn listings_that_do_not_exist_are_refused() {
    for wrong in [&["weak", "nope"][..], &["weak", "--svg"], &["quiz", "nope"]] {
        let output = output(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Usage:"), "{wrong:?}");
    }
}
