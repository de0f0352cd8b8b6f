//! Progress on stderr, for someone who waits at a terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A program that is faster shows nothing.
const SOON: Duration = Duration::from_secs(1);
/// How far it is with bytes of a known number, with bytes of an unknown number, and with requests.
const BYTES: &str = "  {wide_bar} {binary_bytes} of {binary_total_bytes}, \
                     {binary_bytes_per_sec}, {eta} left";
const ENDLESS: &str = "  {binary_bytes}, {binary_bytes_per_sec}";
const REQUESTS: &str = "  {wide_bar} {percent} %, {eta} left";

/// A bar that appears after a second, if stderr is a terminal, and is wiped away when dropped.
#[derive(Debug)]
pub struct Progress(Option<(ProgressBar, Instant)>);

impl Progress {
    /// Of so many bytes, if that is known.
    pub fn of_bytes(total: Option<u64>) -> Self {
        Self::new(total, if total.is_some() { BYTES } else { ENDLESS })
    }

    /// Of so many requests.
    pub fn of_requests(total: u64) -> Self {
        Self::new(Some(total), REQUESTS)
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        let begin = io::stderr().is_terminal().then(Instant::now);
        Self(begin.map(|begin| {
            let style = ProgressStyle::with_template(template).expect("its keys are indicatif's");
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
            (bar.with_style(style).with_finish(ProgressFinish::AndClear), begin)
        }))
    }

    /// So many are `done`.
    pub fn show(&self, done: u64) {
        let Some((bar, begin)) = &self.0 else { return };
        if bar.is_hidden() && begin.elapsed() >= SOON {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_position(done);
    }
}
