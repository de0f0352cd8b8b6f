//! Where the bytes go: a process that counts them, and answers with the count.
//!
//! ```text
//!   sender ── bytes ──► end of stream ──► sink        one connection after the other
//!   sender ◄────────── the count, 8 bytes ── sink
//! ```
//!
//! It is a process of its own, so that its work is not taken for the sender's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::{env, io, process, thread};

use crate::support::{Failure, Page, failed};

/// Serves senders, until it is stopped, or `until_eof`.
pub fn serve(address: SocketAddr, until_eof: bool, page: &mut Page) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).map_err(failed("cannot listen"))?;
    let here = listener.local_addr().map_err(failed("cannot listen"))?;
    writeln!(page, "listening on {here}")?;
    if until_eof {
        thread::spawn(|| {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            process::exit(0);
        });
    }
    let mut buf = vec![0; 1 << 20];
    loop {
        let accepted = listener.accept().map_err(failed("cannot accept"))?;
        // A sender that is gone is no reason not to serve the next one.
        let _ = count(accepted.0, &mut buf);
    }
}

fn count(mut stream: TcpStream, buf: &mut [u8]) -> io::Result<()> {
    let mut total = 0_u64;
    loop {
        match stream.read(buf)? {
            0 => return stream.write_all(&total.to_be_bytes()),
            count => total += count as u64,
        }
    }
}

/// Says that this is all, and checks that the sink has had all of it.
pub fn check(mut stream: &TcpStream, sent: u64) -> Result<(), Failure> {
    let mut answer = [0; 8];
    let ended = stream.shutdown(Shutdown::Write).and_then(|()| stream.read_exact(&mut answer));
    ended.map_err(failed("the sink does not answer"))?;
    let arrived = u64::from_be_bytes(answer);
    if arrived == sent {
        return Ok(());
    }
    Err(Failure::Failed(format!("{sent} bytes were sent, and {arrived} arrived")))
}

/// A sink on this machine, which ends with us.
#[derive(Debug)]
pub struct Own {
    child: Child,
    pub address: SocketAddr,
}

impl Own {
    /// Starts this same program as a sink.
    pub fn start() -> Result<Self, Failure> {
        let spawned = env::current_exe().and_then(|program| {
            let mut command = Command::new(program);
            // However we end, the pipe does then.
            command
                .args(["--listen", "127.0.0.1:0", "--until-eof"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            command.spawn()
        });
        let child = spawned.map_err(failed("cannot start a sink"))?;
        let mut it = Self { child, address: SocketAddr::from(([0; 4], 0)) };
        let mut line = String::new();
        if let Some(stdout) = it.child.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut line);
            read.map_err(failed("the sink does not speak"))?;
        }
        let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
        it.address =
            address.ok_or_else(|| Failure::Failed("the sink does not listen".to_owned()))?;
        Ok(it)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
