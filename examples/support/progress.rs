//! How far a program is, on stderr, once a second: for whoever sits at a terminal and waits.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often to say it; and nothing is said of what takes no longer.
const PERIOD: Duration = Duration::from_secs(1);

/// A line that is written over and over, and wiped away when dropped.
#[derive(Debug)]
pub struct Progress {
    shown: Instant,
    is_terminal: bool,
    is_dirty: bool,
}

impl Progress {
    /// Says nothing as yet; and never, where stderr is no terminal.
    pub fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { shown: Instant::now(), is_terminal, is_dirty: false }
    }

    /// Says how far we are, if it is time to.
    pub fn show(&mut self, how_far: fmt::Arguments<'_>) {
        if self.is_terminal && self.shown.elapsed() >= PERIOD {
            self.shown = Instant::now();
            self.is_dirty = true;
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(io::stderr(), "\r  {how_far}\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_dirty {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
