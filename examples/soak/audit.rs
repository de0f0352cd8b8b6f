//! The descriptors of the process, counted while no round runs.
//!
//! ```text
//!   rounds hold the gate for reading ─► the audit holds it alone: as many descriptors as before,
//!                                       and those of forgotten rings; no ring but the forgotten
//! ```

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::round::Leaks;
use super::trouble::{Check, finding};

/// How long descriptors may take to close: the kernel closes some a little later.
const A_WHILE: Duration = Duration::from_secs(30);

/// The descriptors of a process.
#[derive(Debug)]
struct Open {
    /// What each is of.
    names: Vec<String>,
}

/// How many descriptors there were at the beginning.
#[derive(Debug)]
pub struct Audit(usize);

impl Open {
    fn now() -> io::Result<Self> {
        let mut names = Vec::new();
        for entry in fs::read_dir("/proc/self/fd")? {
            let name = fs::read_link(entry?.path());
            // The one that reads the folder is gone when the others are looked at.
            names.push(name.map_or_else(|_| String::new(), |name| name.display().to_string()));
        }
        names.sort();
        Ok(Self { names })
    }

    fn rings(&self) -> usize {
        self.names.iter().filter(|name| name.contains("[io_uring]")).count()
    }
}

impl Audit {
    /// What is open now is no finding later.
    pub fn begin() -> io::Result<Self> {
        Open::now().map(|open| Self(open.names.len()))
    }

    /// Fails unless all descriptors are those of the beginning, and those that `leaks` says.
    pub fn check(&self, leaks: Leaks) -> Check {
        let (count, started) = (self.0 + leaks.files + leaks.rings, Instant::now());
        loop {
            let open = Open::now()?;
            if open.names.len() == count && open.rings() == leaks.rings {
                return Ok(());
            }
            if started.elapsed() > A_WHILE {
                let (is, rings) = (open.names.len(), open.rings());
                return finding(format!(
                    "{is} descriptors are open, {rings} of them rings; it should be {count} and \
                     {}: {}",
                    leaks.rings,
                    open.names.join(" ")
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
