//! Two echo servers, one of which lies; a client that counts answers, and one that reads them.
//!
//! ```text
//!   honest   got 512 ─► sends 512                 an answer for each request
//!   lying    got 512 ─► sends its whole buffer    one answer, and the client counts two
//! ```
//!
//! Look at: the two columns of numbers. The client that counts believes that the lying server is
//! twice as fast, since it did half the work; the client that reads stops at the second answer. No
//! io_uring is in here: the mistake needs none. Any Unix.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

const REQUEST: usize = 512;

/// Measures two echo servers, of which one lies.
#[derive(clap::Parser)]
struct Arguments {
    /// How many requests each of them gets.
    #[arg(default_value_t = 1000)]
    requests: usize,
}

// ANCHOR: server
/// Answers once, with what it got; or, if it lies, with its whole buffer.
fn answer(stream: &mut UnixStream, lies: bool) -> std::io::Result<()> {
    let mut buf = [0; 2 * REQUEST];
    let count = stream.read(&mut buf)?;
    stream.write_all(if lies { &buf } else { &buf[..count] })
}
// ANCHOR_END: server

// ANCHOR: client
/// Sends requests and counts answers; returns also how often the server had to answer, and at which
/// request an answer was first not what had been sent.
fn measure(requests: usize, lies: bool) -> std::io::Result<(usize, usize, Option<usize>)> {
    let (mut client, mut server) = UnixStream::pair()?;
    client.set_nonblocking(true)?;
    let (mut counted, mut answers, mut wrong) = (0, 0, None);
    for number in 1..=requests {
        client.write_all(&[number.to_le_bytes()[0] | 1; REQUEST])?;
        let mut reply = [0; REQUEST];
        // As on one processor: the server runs when its client has to wait.
        while let Err(error) = client.read_exact(&mut reply) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            answer(&mut server, lies)?;
            answers += 1;
        }
        counted += 1;
        if reply != [number.to_le_bytes()[0] | 1; REQUEST] {
            wrong = wrong.or(Some(number));
        }
    }
    Ok((counted, answers, wrong))
}
// ANCHOR_END: client

fn main() -> std::io::Result<()> {
    let requests = <Arguments as clap::Parser>::parse().requests;
    println!("server   counted  answered  first wrong reply");
    for (name, lies) in [("honest", false), ("lying", true)] {
        let (counted, answers, wrong) = measure(requests, lies)?;
        let wrong = wrong.map_or("none".into(), |number| number.to_string());
        println!("{name:<6} {counted:>9} {answers:>9}  {wrong}");
    }
    Ok(())
}
