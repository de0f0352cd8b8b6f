//! What all threads of a soak share: the clock, the totals, the first finding, and who is where.
//!
//! ```text
//!   thread: begin(seed) ─ round ─ done    │ the watchdog: since when, and which seed
//! ```

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use super::round::Leaks;
use super::tally::Total;

/// Where a thread is.
#[derive(Debug, Default)]
pub struct Stage {
    /// The thread's number for the kernel, once it has one.
    pub thread: AtomicU32,
    /// What it does, and since when.
    now: Mutex<Option<(String, Instant)>>,
}

/// What all threads share.
#[derive(Debug)]
pub struct Soak {
    pub seed: u64,
    pub until: Instant,
    /// How long one thing may take.
    pub patience: Duration,
    /// Held for reading while descriptors come and go.
    pub gate: RwLock<()>,
    pub total: Total,
    pub stages: Vec<Stage>,
    pub leaks: Mutex<Leaks>,
    /// The first finding.
    found: Mutex<Option<String>>,
    stopped: AtomicBool,
}

impl Stage {
    /// This thread begins something.
    pub fn begin(&self, what: String) {
        if let Ok(mut now) = self.now.lock() {
            *now = Some((what, Instant::now()));
        }
    }

    /// It has done that.
    pub fn done(&self) {
        if let Ok(mut now) = self.now.lock() {
            *now = None;
        }
    }

    /// What has taken longer than `patience`.
    pub fn hangs(&self, patience: Duration) -> Option<String> {
        let now = self.now.lock().ok()?;
        let (what, since) = now.as_ref()?;
        (since.elapsed() > patience).then(|| what.clone())
    }

    /// Where in the kernel its thread is, for those who may know; the call, and the ring that it is
    /// of; and where the worker threads are.
    pub fn whereabouts(&self) -> String {
        let thread = self.thread.load(Ordering::Relaxed);
        let ask =
            |path: String| fs::read_to_string(format!("/proc/self/{path}")).unwrap_or_default();
        let call = ask(format!("task/{thread}/syscall"));
        let first = call.split_whitespace().nth(1).and_then(|text| text.strip_prefix("0x"));
        let ring = first.and_then(|text| u32::from_str_radix(text, 16).ok());
        let ring = ring.map_or_else(String::new, |fd| ask(format!("fdinfo/{fd}")));
        let mut text = format!("{call}{}{ring}", ask(format!("task/{thread}/stack")));
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let task = task.file_name().to_string_lossy().into_owned();
            let name = ask(format!("task/{task}/comm"));
            if name.starts_with("iou-") {
                text += &format!("{name}{}", ask(format!("task/{task}/stack")));
            }
        }
        text
    }

    /// Signals are for the thread that calls this.
    pub fn enter(&self) {
        let link = fs::read_link("/proc/thread-self").ok();
        let number = link.as_ref().and_then(|link| link.file_name()?.to_str()?.parse().ok());
        self.thread.store(number.unwrap_or(0), Ordering::Relaxed);
    }

    /// The thread ends.
    pub fn leave(&self) {
        self.thread.store(0, Ordering::Relaxed);
        self.done();
    }
}

impl Soak {
    /// A soak of so many threads.
    pub fn new(seed: u64, time: Duration, patience: Duration, stages: usize) -> Self {
        Self {
            seed,
            until: Instant::now() + time,
            patience,
            gate: RwLock::default(),
            total: Total::default(),
            stages: (0..stages).map(|_| Stage::default()).collect(),
            leaks: Mutex::default(),
            found: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Whether no further round begins.
    pub fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.until
    }

    /// No further round begins.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Something is wrong.
    pub fn found(&self, what: String) {
        if let Ok(mut found) = self.found.lock() {
            found.get_or_insert(what);
        }
        self.stop();
    }

    /// What was found.
    pub fn finding(&self) -> Option<String> {
        self.found.lock().ok()?.clone()
    }

    /// What was left behind for good, so far.
    pub fn leaked(&self) -> Leaks {
        self.leaks.lock().map(|leaks| *leaks).unwrap_or_default()
    }

    /// A round has left this behind.
    pub fn leak(&self, more: Leaks) {
        if let Ok(mut leaks) = self.leaks.lock() {
            leaks.rings += more.rings;
            leaks.files += more.files;
        }
    }
}
