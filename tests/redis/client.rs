//! A client that writes RESP, and shows replies as text; and the server that it talks to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::programs::program;
use super::served::Served;

/// Far longer than anything here takes.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Server(pub Served);

impl Server {
    /// Starts it; `None`, with the reason on stderr, where the kernel is too old for it.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new(program("mini_redis"));
        command.arg("127.0.0.1:0").args(arguments);
        Served::start(&mut command, &["need Linux 6.0", "there is no ring"]).map(Self)
    }

    pub fn client(&self) -> Client {
        Client::over(self.0.connect(LIMIT))
    }

    /// The KiB of memory that it has.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.0.child.id());
        let page = std::fs::read_to_string(path).expect("it runs");
        let line = page.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let word = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        word.expect("every process has it")
    }

    /// Stops it, and returns its output.
    pub fn stop(mut self) -> String {
        self.0.interrupt();
        let mut page = String::new();
        self.0.stdout.read_to_string(&mut page).expect("it ends");
        assert_eq!(self.0.child.wait().expect("it ends").code(), Some(0), "{page}");
        page
    }
}

pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a flag");
        Self(BufReader::new(stream))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("it reads");
    }

    /// Sends the words of a command, each as a string of RESP.
    pub fn send(&mut self, words: &[&[u8]]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).bytes());
            bytes.extend([word, &b"\r\n"[..]].concat());
        }
        self.write(&bytes);
    }

    /// Sends a command, and returns its reply.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        self.reply()
    }

    /// Sends a command if the server is there, and returns its reply if there is one.
    pub fn try_ask(&mut self, command: &str) -> Option<String> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).ok()?;
        self.try_reply()
    }

    /// Sends a command, and returns the parts of its reply in the order of the alphabet.
    pub fn ask_sorted(&mut self, command: &str) -> String {
        let reply = self.ask(command);
        let mut parts: Vec<_> = reply.trim_matches(['[', ']']).split(", ").collect();
        parts.sort_unstable();
        format!("[{}]", parts.join(", "))
    }

    /// The next reply.
    pub fn reply(&mut self) -> String {
        self.try_reply().expect("a reply")
    }

    /// The next reply: a string as it is, an array in brackets, others with the sign before them.
    pub fn try_reply(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        let line = line.strip_suffix("\r\n")?;
        let count = || line[1..].parse::<i64>().expect("a number");
        Some(match line.as_bytes().first()? {
            b'$' | b'*' if count() < 0 => "nil".to_owned(),
            b'$' => {
                let mut bytes = vec![0; usize::try_from(count() + 2).expect("a length")];
                self.0.read_exact(&mut bytes).ok()?;
                assert!(bytes.ends_with(b"\r\n"));
                bytes.truncate(bytes.len() - 2);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            b'*' => {
                let parts = (0..count()).map(|_| self.try_reply());
                let parts = parts.collect::<Option<Vec<_>>>()?;
                format!("[{}]", parts.join(", "))
            }
            b'+' | b'-' | b':' => line.to_owned(),
            _ => panic!("no reply: {line}"),
        })
    }

    /// It is hung up on, and nothing more has come.
    #[track_caller]
    pub fn ends(&mut self) {
        let mut byte = [0];
        assert!(matches!(self.0.read(&mut byte), Ok(0) | Err(_)), "more came: {byte:?}");
    }
}
