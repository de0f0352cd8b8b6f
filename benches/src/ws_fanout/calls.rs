//! How many system calls a process makes, as its tracer sees them: each is two stops.
//!
//! ```text
//!   server: call ─► stop ─► kernel ─► stop ─► goes on      a thread here counts the stops
//! ```
//!
//! This is what strace does, without the text. It slows the process down, so no time is measured
//! while it is followed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Follows a process of one thread until that ends.
pub struct Calls(Arc<AtomicU64>);

impl Calls {
    /// Follows the child `id` from now on.
    pub fn of(id: u32) -> Result<Self, Errno> {
        let pid = Pid::from_raw(id.cast_signed());
        let stops = Arc::new(AtomicU64::new(0));
        let (counted, (begun, begins)) = (Arc::clone(&stops), mpsc::channel());
        // Only the thread that has begun to follow may go on.
        std::thread::spawn(move || {
            let seized = ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD);
            let seized = seized.and_then(|()| ptrace::interrupt(pid));
            let is_seized = seized.is_ok();
            let _ = begun.send(seized);
            while is_seized && next(pid, &counted).is_ok() {}
        });
        begins.recv().expect("it always says")?;
        Ok(Self(stops))
    }

    /// How many it has made so far.
    pub fn count(&self) -> f64 {
        self.0.load(Relaxed) as f64 / 2.0
    }
}

/// Waits for the next stop, and lets it go on.
fn next(pid: Pid, stops: &AtomicU64) -> Result<(), Errno> {
    let signal = match waitpid(pid, Some(WaitPidFlag::__WALL))? {
        WaitStatus::PtraceSyscall(_) => {
            stops.fetch_add(1, Relaxed);
            None
        }
        WaitStatus::Stopped(_, signal) => Some(signal),
        WaitStatus::PtraceEvent(..) => None,
        _ => return Err(Errno::ESRCH), // It has ended.
    };
    ptrace::syscall(pid, signal)
}
