//! What goes wrong, and how often: each of it may happen on Linux, too.
//!
//! | fault | the kernel may, because |
//! |---|---|
//! | `delay` | a worker thread, or the poll of a file, runs an operation later; nothing orders completions |
//! | `short` | a read, write, receive or send without `WAIT_ALL` transfers a part (`read(2)`, `send(2)`) |
//! | `interrupt` | a signal ends a wait (`io_uring_enter(2)`, `EINTR`) |
//! | `again` | there is no memory for a request (`io_uring_enter(2)`, `EAGAIN`) |
//! | `busy` | completions overflow, and must be taken first (Linux 5.5 to 5.12, `EBUSY`) |
//! | `partial` | memory for some of the requests only: the rest stays queued, and the wait is skipped |
//! | `no_cancel` | a worker thread has begun: the cancel fails with `EALREADY`, and the target goes on; or a timer that repeats fires just now, and is not found |
//! | `no_buffer` | another request has selected the last buffer a moment ago (`ENOBUFS`) |
//! | `doze` | the program did not run for as long as the polling thread polls (`SQPOLL`) |
//! | `thread_dies` | the polling thread was killed: `EOWNERDEAD` (`io_uring_enter(2)`) |
//! | `lingers` | a worker thread that ran a request has not let go of it yet: what is held back behind a drained entry waits on, though everything has completed (since 6.16) |
//! | `setup` | io_uring is turned off, filtered away, or short of memory: `EPERM`, `ENOSYS`, `ENOMEM` |
//! | `register` | there is no memory for what is registered (`ENOMEM`) |
//! | `dropped` | there is no memory to keep a completion that overflows: it is lost (`EBADR`) |
//! | `byzantine` | it does not do this: a kernel that stores anything, to see what the program's side survives (`src/sim/lies.rs`) |
//! | `early_end` | a multishot operation ends as if the completion queue had been full |

use std::time::Duration;

/// How often each kind of fault happens, in a thousand chances for it.
///
/// # Example
///
/// ```
/// use annulus::sim::Faults;
///
/// let only_signals = Faults { interrupt: 100, ..Faults::NONE };
/// assert_ne!(only_signals, Faults::SOME);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// An operation, or what woke it, runs later than it could.
    pub delay: u16,
    /// The longest delay, of virtual time.
    pub longest: Duration,
    /// A transfer of several bytes stops before the end.
    pub short: u16,
    /// A signal ends a wait.
    pub interrupt: u16,
    /// An enter fails with `EAGAIN`, and consumes nothing.
    pub again: u16,
    /// An enter that submits fails with `EBUSY` while completions overflow.
    pub busy: u16,
    /// An enter consumes only a part of what is submitted, never a part of a chain.
    pub partial: u16,
    /// A cancel comes too late for an operation that could still be cancelled.
    pub no_cancel: u16,
    /// A buffer group seems to be empty.
    pub no_buffer: u16,
    /// A multishot operation ends with one of its completions.
    pub early_end: u16,
    /// A polling thread falls asleep at once, instead of after its idle time.
    pub doze: u16,
    /// A polling thread dies instead of taking entries.
    pub thread_dies: u16,
    /// A request that a worker thread ran still counts as in flight when it has completed. What
    /// is held back behind a drained entry then waits until another entry comes. Since Linux 6.16.
    pub lingers: u16,
    /// A ring is not made.
    pub setup: u16,
    /// A register call that needs memory fails.
    pub register: u16,
    /// A completion that finds the queue full is lost, and a wait is told so once.
    pub dropped: u16,
    /// A shared word, or a completion, has any value. Nothing that the simulation says afterwards
    /// means anything. Not for programs that receive descriptors.
    pub byzantine: u16,
}

impl Faults {
    /// Nothing goes wrong, and everything happens as early as it can, in order.
    pub const NONE: Self = Self {
        delay: 0,
        longest: Duration::ZERO,
        short: 0,
        interrupt: 0,
        again: 0,
        busy: 0,
        partial: 0,
        no_cancel: 0,
        no_buffer: 0,
        early_end: 0,
        doze: 0,
        thread_dies: 0,
        lingers: 0,
        setup: 0,
        register: 0,
        dropped: 0,
        byzantine: 0,
    };

    /// A little of everything that a program should survive. Not among it is that
    /// for which a program may well end: `again`, `thread_dies`, `setup`, `register`, `dropped`.
    pub const SOME: Self = Self {
        delay: 300,
        longest: Duration::from_millis(2),
        short: 200,
        interrupt: 20,
        again: 0,
        busy: 200,
        partial: 50,
        no_cancel: 200,
        no_buffer: 20,
        early_end: 50,
        doze: 200,
        thread_dies: 0,
        lingers: 300,
        setup: 0,
        register: 0,
        dropped: 0,
        byzantine: 0,
    };
}
