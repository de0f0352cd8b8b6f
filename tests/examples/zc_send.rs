//! `zc_send`: every byte arrives in each way, and loopback is told for what it is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use annulus::Capabilities;
use annulus::sys::opcode::Opcode;

use super::{fails, line, prints, program, run};

/// Sends that are reported: five times two ways, with as many sends as fill a MiB.
const REPORTED: u64 = 5 * 2 * (1024 + 16);
const SMALL: [&str; 4] = ["--sizes", "1024,65536", "--mib", "1"];

#[test]
fn zc_send_says_that_loopback_copies() {
    let page = prints("zc_send", &[&SMALL[..], &["--stats"]].concat());
    if page.contains("left out, it needs Linux 6.0") {
        return eprintln!("skipped: zero-copy sends need Linux 6.0");
    }
    let rows: Vec<Vec<u64>> = page
        .lines()
        .map(|line| line.split_whitespace().map_while(|word| word.parse().ok()).collect())
        .filter(|row: &Vec<u64>| row.len() == 4)
        .collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [1024, 65536], "{page}");
    for name in ["zero-copy:", "registered:"] {
        let told = line(&page, name);
        assert!(told.contains("cheaper than a copy"), "{page}");
    }
    // Each send without a copy has two completions.
    let (sends, completions) = (REPORTED / 2 * 3, REPORTED / 2 * 5);
    assert!(page.contains(&format!(" {sends} SQEs, {completions} CQEs, ")), "{page}");
    if page.contains("is told since Linux 6.2") {
        return eprintln!("skipped: reports need Linux 6.2");
    }
    assert_eq!(line(&page, "copied anyway:"), format!("{REPORTED} of {REPORTED} sends"));
    assert!(page.contains("\nso this shows what zero copy costs, and nothing of what it gains\n"));
}

#[test]
fn zc_send_sends_to_a_sink_elsewhere_which_ends_with_its_input() {
    let mut command = Command::new(program("zc_send"));
    command.args(["--listen", "127.0.0.1:0", "--until-eof"]);
    // If this test fails, the pipe is closed anyway.
    let mut sink = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let stdin = sink.stdin.take().expect("a pipe");
    let mut told = String::new();
    BufReader::new(sink.stdout.take().expect("a pipe")).read_line(&mut told).expect("it speaks");
    let address = told.trim().strip_prefix("listening on ").expect("its address");
    let page = prints("zc_send", &[&SMALL[..], &["--to", address]].concat());
    assert!(page.contains("CPU ns of a send, 1 MiB of each size, median of 5\n"), "{page}");
    assert!(sink.try_wait().expect("ours").is_none(), "it serves until then");
    drop(stdin);
    assert!(sink.wait().expect("it ends").success());
}

/// A sink that counts one byte too few.
#[test]
fn zc_send_notices_what_did_not_arrive() {
    if Capabilities::detect().is_ok_and(|here| !here.has_op(Opcode::SEND_ZC)) {
        return eprintln!("skipped: its first connection is another one before Linux 6.0");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a sender");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("it ends");
            let wrong = bytes.len() as u64 - u64::from(bytes.len() > 1);
            stream.write_all(&wrong.to_be_bytes()).expect("it listens");
        }
    });
    let output = run("zc_send", &[&SMALL[..], &["--to", &address]].concat());
    let stderr = fails(&output, 1);
    assert_eq!(stderr, "zc_send: 1048576 bytes were sent, and 1048575 arrived\n");
}

#[test]
fn zc_send_says_how_it_is_called() {
    let cases: [(&[&str], i32, &str); 3] = [
        (&["--sizes", "0"], 2, "0 is not in 1..=16777216"),
        (&["--to", "nowhere"], 2, "invalid value 'nowhere'"),
        (&["--to", "127.0.0.1:1"], 1, "cannot connect to 127.0.0.1:1"),
    ];
    for (arguments, code, what) in cases {
        let stderr = fails(&run("zc_send", arguments), code);
        assert!(stderr.contains(what), "{arguments:?}: {stderr}");
    }
}
