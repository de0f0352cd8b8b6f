//! Disturbances of the whole process: signals, and too little memory.
//!
//! ```text
//!   signals:  thread ─ number ─► sh: kill -USR1 ─► a thread that waits in the kernel: EINTR
//!   pressure: map, touch each page, let go
//! ```
//!
//! A signal for a process goes to the thread whose number it was sent to, if it can. No call of the
//! standard library sends one; a shell does.

use std::io::{self, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use memmap2::MmapMut;
use signal_hook::consts::SIGUSR1;

use super::chance::Chance;
use super::tally::Count;
use super::watch::Soak;

/// The shell that sends signals.
#[derive(Debug)]
pub struct Signals {
    shell: Child,
    to: Option<ChildStdin>,
}

impl Signals {
    /// Lets signals come, and starts who sends them.
    pub fn begin() -> io::Result<Self> {
        signal_hook::flag::register(SIGUSR1, Arc::new(AtomicBool::new(false)))?;
        let mut shell = Command::new("sh")
            .args(["-c", "while read -r to; do kill -USR1 \"$to\" 2> /dev/null; done"])
            .stdin(Stdio::piped())
            .spawn()?;
        let to = shell.stdin.take();
        Ok(Self { shell, to })
    }

    /// Sends signals to threads until the soak is over.
    pub fn send(&mut self, soak: &Soak) {
        let mut chance = Chance::new(soak.seed ^ 1);
        while let Some(to) = self.to.as_mut().filter(|_| !soak.is_over()) {
            let at = chance.below(u32::try_from(soak.stages.len()).unwrap_or(1)) as usize;
            let thread = soak.stages[at].thread.load(Ordering::Relaxed);
            if thread != 0 && writeln!(to, "{thread}").is_ok() {
                soak.total.add(Count::Signals, 1);
            }
            thread::sleep(Duration::from_micros(200 + u64::from(chance.below(8000))));
        }
    }

    /// The shell ends.
    pub fn end(mut self) -> io::Result<()> {
        drop(self.to.take());
        self.shell.wait().map(drop)
    }
}

/// Maps memory and touches it, a moment at a time.
pub fn pressure(soak: &Soak, most: u32) {
    let mut chance = Chance::new(soak.seed ^ 2);
    while !soak.is_over() {
        let megabytes = 1 + chance.below(most);
        if let Ok(mut map) = MmapMut::map_anon((megabytes as usize) << 20) {
            map.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
            soak.total.add(Count::Pressure, megabytes.into());
        }
        thread::sleep(Duration::from_millis(5 + u64::from(chance.below(100))));
    }
}
