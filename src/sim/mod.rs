//! A simulated kernel: the same program, a thousand times, each time with other luck.
//!
//! ```text
//!   your program ──► Ring, EventLoop, RawRing ──► four kernel calls ──┬──► Linux
//!   (unchanged)                                                      └──► Sim: one seed decides
//!                                                                          everything
//! ```
//!
//! [`Setup::kernel`](crate::Setup::kernel) puts a ring on it. The rings are ordinary memory, and
//! everything above the four calls is the code that runs on Linux. Behind the calls stand a small
//! world of pipes, sockets and files, a clock that moves only when nothing else can happen, and
//! [`Faults`]: what Linux may do, and rarely does on the machine of whoever writes the program.
//! Nothing depends on the machine's clock, on threads or on addresses. So a seed names a run, and a
//! run that failed can be repeated. It also keeps accounts, and [`check`](Sim::check) tells what
//! the program did wrong: see [`report`]. `docs/SIMULATION.md` shows how to use it.
//!
//! # Example
//!
//! ```
//! use annulus::sim::{Faults, Sim};
//! use annulus::{Setup, op};
//!
//! for seed in 0..100 {
//!     let sim = Sim::with_faults(seed, Faults { delay: 500, ..Faults::SOME });
//!     let mut ring = Setup::new(8).kernel(sim.kernel()).build()?;
//!     let (ours, theirs) = sim.socket_pair()?;
//!     sim.write(&theirs, b"hello")?;
//!     let recv = ring.submit(op::Recv::new(ours, Vec::with_capacity(16)))?;
//!     let (count, buf) = ring.wait(recv)?.ok()?; // May be short: that is one of the faults.
//!     assert!(b"hello".starts_with(&buf[..count]));
//!     sim.check();
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it simulates
//!
//! All of each row. Everything else is refused with `EINVAL`, as by a kernel that is too old for
//! it.
//!
//! | | |
//! |---|---|
//! | rings | one or many; plain, `COOP_TASKRUN`, `DEFER_TASKRUN`, with `TASKRUN_FLAG` or without; `SINGLE_ISSUER`, `SUBMIT_ALL`, `CQSIZE`, `CLAMP`; `R_DISABLED`, restrictions; half of them are about to wrap |
//! | layouts | `NO_SQARRAY`, `SQE128`, `CQE32`, `SQE_MIXED`, `CQE_MIXED` (with the fillers of 6.18 to 7.2), `SQ_REWIND`, `NO_MMAP`; `RESIZE_RINGS`; `REGISTERED_FD_ONLY` |
//! | `SQPOLL` | a thread that is stepped with virtual time: `NEED_WAKEUP`, `SQ_WAKEUP`, `SQ_WAIT`, `ATTACH_WQ`, its death |
//! | `IOPOLL` | what Linux does without a device that can be polled: reads and writes `EOPNOTSUPP`, most operations `EINVAL`, an enter returns at once; also `HYBRID_IOPOLL` |
//! | worker threads | for `ASYNC`, splices, `FSYNC` and others (the table of `workers`): at most as many as `IOWQ_MAX_WORKERS` allows; a cancel of what one has is too late (`EALREADY`) |
//! | submitting | partial submission, refused entries and whole chains, soft and hard links, `IO_DRAIN`, `ASYNC`, `CQE_SKIP_SUCCESS` |
//! | waiting | any number, with a timeout (also an absolute one, by [`now`](Sim::now)) and a minimum wait, as an argument or in a registered region; overflow, flagged and kept; a timeout ends a wait, as on Linux |
//! | `NOP` | with a result, a look-up of a file or buffer, `TW` (no effect), a wide completion; `NOP128` |
//! | `MSG_RING` | data, flags, and files from table to table, to rings of the simulation |
//! | `READ` `WRITE` `READV` `WRITEV` | on pipes, sockets, files (at an offset, or at the position) and eventfds; no `RWF_` flags; `READ` also into a selected buffer; `_FIXED` of each, in a registered buffer; `READ_MULTISHOT` |
//! | `RECVMSG` `SENDMSG` `SENDMSG_ZC` | as `RECV` and `SEND`; with names, flags and lengths of the message; a receive also into a selected buffer, once or multishot; nothing is sent as control data |
//! | `RECV` `SEND` `SEND_ZC` | on sockets, also to an address, with `WAITALL`, `DONTWAIT`, `NOSIGNAL`, `TRUNC` (messages), `MORE` (no effect), `POLL_FIRST` (no effect); `SEND_ZC` also of a registered buffer; receives into a selected buffer, once or multishot; sends from one; bundles on streams, sends of all that is offered; the notification of a zero-copy send comes later |
//! | `BIND` `LISTEN` | IPv4 and IPv6; every address is a local one |
//! | `ACCEPT` `CONNECT` `SHUTDOWN` `CLOSE` `SOCKET` | streams of IPv4 and IPv6; UDP of IPv4, without `SHUTDOWN`; accepts once, also with the address, or multishot; new files as a descriptor, or in a place of the table |
//! | `FILES_UPDATE` `FIXED_FD_INSTALL` | all; and every operation takes a registered file (`FIXED_FILE`) |
//! | `POLL_ADD` `POLL_REMOVE` | `POLLIN`, `POLLOUT`, `POLLRDHUP`, `POLLHUP`, `POLLERR`, once or multishot; updates |
//! | `TIMEOUT` `TIMEOUT_REMOVE` `LINK_TIMEOUT` | by a span, by [`now`](Sim::now), or by a count of completions; multishot; every clock is the virtual one; updates, also of linked ones |
//! | `ASYNC_CANCEL` | by `user_data`, descriptor, registered file, opcode, any; the first or all |
//! | `OPENAT` `OPENAT2` `STATX` | files, folders and links, as a descriptor or in a place of the table; `O_PATH`, `O_APPEND`, `RESOLVE_BENEATH`, `RESOLVE_IN_ROOT` and others; no file without a name (`O_TMPFILE`); no times |
//! | `MKDIRAT` `SYMLINKAT` `LINKAT` `UNLINKAT` `RENAMEAT` | all but `AT_EMPTY_PATH` and `RENAME_WHITEOUT`; nothing is denied, as to root |
//! | `FSYNC` `FTRUNCATE` `FALLOCATE` | on files; room and holes; `FSYNC` of a folder, too |
//! | `SPLICE` `TEE` | over pipes, files, streams; see `splices` for what Linux does besides |
//! | `FUTEX_WAIT` `FUTEX_WAKE` `FUTEX_WAITV` | of 32 bits, private or not; the words are those of the process, the waiters only requests; [`Sim::wake_futex`] stands for a thread |
//! | buffer rings | of the program's memory or the kernel's; a buffer is used whole, or in parts (`INC`) |
//! | `register` | tables of buffers and of files, sparse or not, their updates, tags, the range for free places; clones of buffers; buffer rings and their status; rings (`RING_FDS`); how many workers; eventfds; personalities; restrictions; the clock and regions of waits; cancels at once; the probe and the query |
//!
//! | in place of Linux | is |
//! |---|---|
//! | a descriptor of the simulation | real, with an owner and duplicates, but the standard library cannot read, write or configure it: [`Sim::read`], [`Sim::write`] and others stand in |
//! | a descriptor of the machine: a `File`, a pipe, an eventfd | used as it is, at the simulated time of the request: `READ` to `WRITEV_FIXED`, `FSYNC`, `FTRUNCATE`, `FALLOCATE`, `STATX`, `POLL_ADD` (once), `SHUTDOWN`, `CLOSE`; short transfers and delays apply to it, and accounts of the memory are kept. What sockets do besides, and splices, are refused |
//! | the room of a socket | 208 KiB of bytes; Linux counts memory |
//! | a TCP connection | bytes in order at once; no network between |
//! | a datagram | at once, whole, once; a UDP socket keeps 1024 |
//! | threads | none: every ring of a simulation is entered by one thread; a polling thread sees entries during an enter or [`advance`](Sim::advance) |
//! | the file system | one, with a tree in memory, for which [`Sim::put_file`] and others stand in; `umask` is 022, the current folder is `/`. Paths of the machine only below what [`Sim::allow_real_paths`] names |
//! | signals, `O_NONBLOCK` | none |
//! | credentials | nothing is denied, as to root, whoever a request is |
//! | `Clock::now`, and so `Timeout::until` and `WaitOptions::until` | the machine's clock: not for a simulation |
//! | the ring's descriptor, polled | never readable |
//!
//! All of it is there in the newest release, and as much as there was in another one:
//! [`Sim::like`], [`Release`].
//!
//! A [`Recorder`] makes the same records of rings on Linux.
//!
//! A program that only looks at its memory, and never enters, lets no time pass: call
//! [`advance`](Sim::advance).

mod backend;
mod block;
mod buffers;
mod bundles;
mod cancel;
mod chance;
mod clones;
mod datagrams;
mod drains;
mod enter;
mod eventfd;
mod events;
mod faults;
mod files;
mod finish;
mod futex;
mod gate;
mod handed;
mod held;
mod iopoll;
mod layout;
mod letters;
mod lies;
mod memory;
mod message;
mod naming;
mod older;
mod opened;
mod outside;
mod outside_paths;
mod outside_udp;
mod paths;
mod people;
mod pipe;
mod placeholder;
mod poller;
mod polling;
mod pool;
mod post;
mod provided;
mod query;
mod real;
mod real_paths;
pub mod recorder;
mod region;
mod register;
mod registered;
mod release;
pub mod report;
mod request;
mod resize;
mod restrict;
mod ring_fds;
mod run;
pub mod shrink;
mod signals;
mod sockets;
mod splices;
mod state;
mod submit;
mod sync_cancel;
mod time;
pub mod trace;
mod transfer;
mod tree;
mod waiting;
mod waits;
mod workers;
mod world;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use annulus_sys::kernel::Kernel;

pub use faults::Faults;
pub use recorder::Recorder;
pub use release::Release;
pub use report::Report;
pub use trace::Record;

use backend::Behind;
use shrink::Decisions;
use state::{Due, State};

/// A simulated kernel, and the world behind it. Clones share both.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<State>>);

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sim")
    }
}

/// # Making one, and asking it
impl Sim {
    /// A kernel on which everything happens at once and nothing goes wrong. The seed decides
    /// little: where the indices of a ring begin.
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::NONE)
    }

    /// A kernel on which things go wrong, by the luck of the seed.
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed, faults, None))))
    }

    /// A kernel on which only these of the things go wrong that the seed decides: a failing run
    /// again, as [`shrink`](shrink::shrink) prints it.
    pub fn with_decisions(seed: u64, faults: Faults, only: &Decisions) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed, faults, Some(only.clone())))))
    }

    /// Which chances it has taken so far.
    pub fn decisions(&self) -> Decisions {
        let state = self.state();
        let (faults, delays) = (state.luck.taken().clone(), state.delays.taken().clone());
        Decisions { faults, delays }
    }

    /// How many events there were.
    fn events(&self) -> u64 {
        self.state().trace.count()
    }

    /// The same kernel, as it was in a [`Release`] of Linux.
    ///
    /// # Panics
    ///
    /// When it has made a ring already.
    #[must_use]
    pub fn like(self, release: Release) -> Self {
        let mut state = self.state();
        assert!(state.rings.is_empty(), "a kernel does not change under its rings");
        state.release = release;
        drop(state);
        self
    }

    /// The kernel, for [`Setup::kernel`](crate::Setup::kernel).
    pub fn kernel(&self) -> Kernel {
        Kernel::with_backend(Arc::new(Behind(Arc::clone(&self.0))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The virtual time since the beginning.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.state().now)
    }

    /// Calls `act` after `span` of virtual time, from within the enter during which the time comes.
    /// So a test can be the client of a program that waits.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::sim::Sim;
    /// use annulus::{Setup, op};
    /// use std::time::Duration;
    ///
    /// let sim = Sim::new(1);
    /// let mut ring = Setup::new(8).kernel(sim.kernel()).build()?;
    /// let (reader, writer) = sim.pipe()?;
    /// sim.after(Duration::from_secs(3600), move |sim| drop(sim.write(&writer, b"late")));
    /// let read = ring.submit(op::Read::new(reader, [0; 4]))?;
    /// assert_eq!(ring.wait(read)?.buf, *b"late"); // At once, by the machine's clock.
    /// assert_eq!(sim.now(), Duration::from_secs(3600));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after(&self, span: Duration, act: impl FnOnce(&Self) + Send + 'static) {
        let mut state = self.state();
        state.acts.push(Some(Box::new(act)));
        let act = state.acts.len() - 1;
        state.schedule(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Due::Act(act));
    }

    /// Lets virtual time pass, outside of an enter.
    pub fn advance(&self, span: Duration) {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let end = self.state().now.saturating_add(span);
        // What the program gave back is poisoned first: it may be in use again afterwards.
        self.state().look();
        loop {
            let mut state = self.state();
            if let Some(act) = state.run_due() {
                let act = state.acts[act].take().expect("an act is due once");
                drop(state);
                act(self);
                self.state().look();
                continue;
            }
            let is_over = state.now >= end;
            if is_over || !state.let_time_pass(Some(end)) {
                return;
            }
        }
    }

    /// Lets several requests in flight have one `user_data`, as Linux does. Otherwise that counts
    /// as a broken rule (OP2).
    pub fn allow_shared_user_data(&self) {
        self.state().shares_user_data = true;
    }

    /// The last events, at most 4096, oldest first.
    pub fn trace(&self) -> Vec<Record> {
        self.state().trace.last(usize::MAX)
    }

    /// A hash of all events. Two runs of one seed, and of one program, have one.
    pub fn digest(&self) -> u64 {
        self.state().trace.digest()
    }

    /// What is known so far, after one more look at what the program has done.
    pub fn report(&self) -> Report {
        self.state().report()
    }

    /// Looks at what the program has done.
    ///
    /// # Panics
    ///
    /// When a rule was broken, or a wait could never have ended: with the seed, the last events,
    /// and how to see it again. What is in flight, or was not taken, is no mistake of the program;
    /// ask [`report`](Self::report) for it.
    pub fn check(&self) {
        let report = self.report();
        assert!(report.is_clean() && report.stalls.is_empty(), "{report}");
    }
}
