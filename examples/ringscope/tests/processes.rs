//! The rings of this machine: those of the test are among them.

mod support;

use annulus::op::Nop;
use annulus::{Ring, Setup};
use support::{output, printed};

/// A ring of a given size; `None`, with the reason, where there is no io_uring.
fn ring(entries: u32) -> Option<Ring> {
    match Setup::plain(entries).build() {
        Ok(ring) => Some(ring),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// The columns of the row of a descriptor of this process.
fn row(table: &str, fd: &str) -> Option<Vec<String>> {
    let pid = std::process::id().to_string();
    let mut rows = table.lines().map(|line| line.split_whitespace().map(String::from));
    rows.find_map(|columns| {
        let columns: Vec<String> = columns.collect();
        (columns.first() == Some(&pid) && columns.get(2).is_some_and(|it| it == fd))
            .then_some(columns)
    })
}

fn fd_of(ring: &Ring) -> String {
    use std::os::fd::AsRawFd;
    ring.raw().fd().expect("a descriptor").as_raw_fd().to_string()
}

#[test]
fn ls_finds_a_ring_of_this_process_and_what_lies_in_it() {
    let Some(mut ring) = ring(4) else { return };
    let tickets: Vec<_> = (0..3).map(|_| ring.submit(Nop).expect("room")).collect();
    ring.submit_all().expect("an enter");
    let table = printed(&["ls"]);
    let row = row(&table, &fd_of(&ring)).expect(&table);
    // SQ, CQ, PENDING, UNREAD, OVERFLOW, POLLS, THREAD
    assert_eq!(row[3..], ["4", "8", "0", "3", "0", "0", "-"], "{table}");
    for ticket in tickets {
        ring.wait(ticket).expect("a wait").expect("a nop");
    }
    let fd = fd_of(&ring);
    drop(ring);
    assert!(self::row(&printed(&["ls"]), &fd).is_none(), "it is gone");
}

#[test]
fn live_shows_the_rings_of_a_process() {
    let Some(mut ring) = ring(2) else { return };
    let _tickets: Vec<_> = (0..2).map(|_| ring.submit(Nop).expect("room")).collect();
    ring.submit_all().expect("an enter");
    let text = printed(&["live", &std::process::id().to_string(), "--once"]);
    let fd = format!("descriptor {}.", fd_of(&ring));
    let from = text.find(&fd).expect(&text);
    assert!(text[from..].contains("completion ring, mask 3:  head 0 & 3 = 0  tail 2 & 3 = 2"));
    let nobody = output(&["live", "4294967295"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no process"));
    assert_eq!(output(&["live", "x"]).status.code(), Some(2));
}
