//! An example that serves, as the child of a test.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A server, which is killed when a test fails.
#[derive(Debug)]
pub struct Served {
    pub child: Child,
    pub stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl Served {
    /// Starts it; `None`, with the reason on stderr, where it ends with one of these reasons.
    pub fn start(command: &mut Command, reasons: &[&str]) -> Option<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it speaks");
        let Some(address) = line.trim_end().strip_prefix("listening on ") else {
            let output = child.wait_with_output().expect("it ends");
            let stderr = String::from_utf8_lossy(&output.stderr);
            let is_known = reasons.iter().any(|reason| stderr.contains(reason));
            assert!(is_known, "{line}{stderr}");
            super::programs::skip(&stderr);
            return None;
        };
        let address = address.parse().expect("an address");
        Some(Self { child, stdout, address })
    }

    /// A client, of which no call takes longer than `limit`.
    pub fn connect(&self, limit: Duration) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(limit)).expect("it is not zero");
        stream.set_write_timeout(Some(limit)).expect("it is not zero");
        stream
    }

    /// Sends SIGINT.
    pub fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().expect("there is a kill");
        assert!(killed.success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
