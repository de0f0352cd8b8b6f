//! Running requests: each attempt ends a request, gives one of its completions, or has to wait.
//!
//! ```text
//!   begin ──► attempt ──┬── has a result ──► finish
//!               ▲       ├── one of many ───► post, and attempt again
//!               │       └── must wait ─────► noted at its end, or in the list of times
//!               └──────── the end changed, or the time has come
//! ```
//!
//! Leaves to others: what ends do (`world`), completions and chains (`finish`), cancels (`cancel`).

use annulus_sys::flags::CqeFlags;

use super::pool::Work;
use super::request::{Job, Stage};
use super::state::{Due, Mode, State};
use super::trace::{EndId, RequestId, What};
use super::world::{Io, Kind};

/// How many completions a multishot gives in one go.
const IN_ONE_GO: u32 = 32;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Try {
    /// The request ends, with this result.
    Ends(i32),
    /// It ends, and has selected a buffer.
    EndsWith(i32, CqeFlags),
    /// It goes on after a completion.
    More(i32, CqeFlags),
    /// It waits for its end to change.
    Waits,
    /// It waits for its time, or for other requests.
    Sleeps,
}

impl State {
    /// A request begins: its memory is the kernel's from now on.
    pub(super) fn begin(&mut self, id: RequestId) {
        if !self.requests.contains_key(&id) {
            return;
        }
        let named = self.file_of(id);
        let request = self.requests.get_mut(&id).expect("in flight");
        let bytes = u32::try_from(request.whole).unwrap_or(u32::MAX);
        let (ring, what) = (request.ring, What::Began(id, request.opcode, bytes, named.0));
        if let Some(res) = request.refused {
            self.note(Some(ring), what);
            return self.finish(id, res, CqeFlags::empty());
        }
        request.stage = Stage::Begun;
        let is_for_worker = Self::is_for_worker(request);
        let clock = request.clock;
        self.take_hold(id, named);
        self.note(Some(ring), what);
        let delay = if is_for_worker { 0 } else { self.delay() };
        if is_for_worker {
            self.punt(id);
        } else if delay > 0 {
            self.schedule(delay, Due::Run(id));
        } else {
            self.attempt(id);
        }
        if let Some(clock) = clock.filter(|_| self.requests.contains_key(&id)) {
            self.begin(clock);
        }
        self.wake_up();
    }

    /// Tries a request, again and again if it goes on.
    pub(super) fn attempt(&mut self, id: RequestId) {
        let work = self.requests.get(&id).and_then(|request| request.work);
        if matches!(work, Some(Work::Doomed(_))) {
            return self.end(id, -libc::ECANCELED);
        }
        for _ in 0..IN_ONE_GO {
            let Some(request) = self.requests.get(&id) else { return };
            let end = request.end;
            match self.try_once(id) {
                Try::Ends(res) => return self.end(id, res),
                Try::EndsWith(res, flags) => return self.finish(id, res, flags),
                Try::More(res, flags) => {
                    let ends_early = self.luck.hits(self.faults.early_end);
                    if ends_early || !self.post_more(id, res, flags) {
                        return self.finish(id, res, flags);
                    }
                }
                Try::Waits => {
                    let end = end.expect("only an end lets it wait");
                    let request = self.requests.get_mut(&id).expect("in flight");
                    request.has_waited = true;
                    self.world.want(end, &request.job);
                    self.put_off(id, true);
                    return self.world.await_change(end, id);
                }
                Try::Sleeps => return self.put_off(id, false),
            }
        }
        self.schedule(0, Due::Run(id));
    }

    /// A request has its result.
    pub(super) fn end(&mut self, id: RequestId, res: i32) {
        match self.requests.get(&id).map(|request| &request.job) {
            Some(Job::Send(how)) if how.notifies => self.send_result(id, res),
            _ => self.finish(id, res, CqeFlags::empty()),
        }
    }

    fn try_once(&mut self, id: RequestId) -> Try {
        let request = &self.requests[&id];
        if request.stage != Stage::Begun {
            return Try::Sleeps;
        }
        let (job, ring, end) = (request.job.clone(), request.ring, request.end);
        match job {
            Job::Nop { .. } => return self.nop(id),
            Job::Message(message) => return self.send_message(id, message),
            Job::Close => return self.close(id),
            Job::ClosePlace(at) => return self.close_place(ring, at),
            Job::FilesUpdate { offset } => return self.update_by_entry(id, offset),
            Job::Socket { into, has_messages } => return self.socket(id, into, has_messages),
            Job::Futex(job) => return self.try_futex(id, job),
            Job::Path(job) => return self.try_path(id, *job),
            Job::Timeout { span, is_absolute, count, repeats, .. } => {
                return self.try_timeout(id, span, is_absolute, count, repeats);
            }
            Job::LinkTimeout { span, is_absolute } => {
                return self.try_link_timeout(id, span, is_absolute);
            }
            Job::Cancel(key) => return Try::Ends(self.cancel(ring, key, id)),
            Job::PollRemove(key) => return Try::Ends(self.remove_poll(ring, key)),
            Job::PollUpdate { key, events, user_data } => {
                return Try::Ends(self.update_poll(ring, key, events, user_data));
            }
            Job::TimeoutUpdate { key, span, is_absolute, is_linked } => {
                return Try::Ends(self.update_timeout(ring, key, (span, is_absolute), is_linked));
            }
            Job::TimeoutRemove(key) => return Try::Ends(self.remove_timeout(ring, key)),
            _ => {}
        }
        match end {
            Some(end) => self.try_on(id, job, end),
            None => Try::Ends(-libc::EBADF),
        }
    }

    /// Tries a request on its end.
    fn try_on(&mut self, id: RequestId, job: Job, end: EndId) -> Try {
        if let Some(refused) = self.refused_by_real(end, &job) {
            return refused;
        }
        match job {
            Job::Read { offset } => self.try_read(id, end, offset),
            Job::ReadMany => self.try_read_many(id, end),
            Job::Recv(how) => self.try_receive(id, end, how),
            Job::RecvMessage(how, envelope) => self.try_receive_message(id, end, how, envelope),
            Job::Bind(address) => ended(self.world.bind(end, address)),
            Job::Listen => ended(self.world.listen(end)),
            Job::Splice(splice) => self.try_splice(id, end, splice),
            Job::Write { offset } => self.try_write(id, end, offset),
            Job::Send(how) => self.try_send(id, end, how),
            Job::Accept { .. } => self.try_accept(id, end),
            Job::Install => self.install(end),
            Job::Connect(address) => match self.world.connect(end, address) {
                Io::Wait => {
                    // The listener's queue is full: what it accepts makes room.
                    let listener = self.world.listener(address).expect("it has a queue");
                    self.world.await_change(listener, id);
                    Try::Sleeps
                }
                connected => ended(connected),
            },
            Job::Shutdown(how) => ended(self.world.shut_down(end, how)),
            Job::Fsync => match self.world.ends[end].kind {
                Kind::File | Kind::Folder => Try::Ends(0),
                Kind::Real => ended(self.world.sync_real(end)),
                _ => Try::Ends(-libc::EINVAL),
            },
            Job::Truncate(len) => ended(self.world.truncate(end, len)),
            Job::Allocate { mode, offset, len } => {
                ended(self.world.allocate(end, mode, offset, len))
            }
            Job::Poll { events, repeats } => {
                let found = self.world.events(end) & events;
                match i32::try_from(found).expect("few bits") {
                    // Nobody tells of a change.
                    0 if self.world.ends[end].opened.is_some() => Try::Ends(-libc::EINVAL),
                    0 => Try::Waits,
                    found if repeats => self.once_more(id, end, found),
                    found => Try::Ends(found),
                }
            }
            _ => unreachable!("handled above"),
        }
    }

    /// A poll that repeats says what is there, and then waits for a change.
    fn once_more(&mut self, id: RequestId, end: EndId, found: i32) -> Try {
        let is_real = self.world.ends[end].kind == Kind::Real;
        if is_real || self.luck.hits(self.faults.early_end) {
            return Try::Ends(found);
        }
        if !self.post_more(id, found, CqeFlags::empty()) {
            return Try::Ends(found);
        }
        self.world.await_change(end, id);
        Try::Sleeps
    }

    /// Runs what is due, by the mode of its ring. Returns the test's act that is due, if any.
    pub(super) fn run_due(&mut self) -> Option<usize> {
        self.let_pollers_look();
        while let Some(due) = self.next_due() {
            self.idle = 0;
            match due {
                Due::Act(act) => return Some(act),
                Due::Tell { .. } => self.tell_later(due),
                Due::Step(poller) => self.step(poller),
                Due::Tire(poller) => self.tire(poller),
                Due::LetGo(ring) => self.let_go_of_ended(ring),
                Due::Begin(id) | Due::Run(id) | Due::Notify(id) | Due::Interrupt(id) => {
                    let ring = self.requests[&id].ring;
                    self.rouse_for(ring);
                    if self.rings[ring].mode == Mode::Plain || !self.rings[ring].is_open {
                        self.run(due);
                    } else {
                        self.rings[ring].work.push_back(due);
                        self.signal_work(ring, due);
                        self.raise(ring);
                    }
                }
            }
            self.let_pollers_look();
        }
        None
    }

    fn run(&mut self, due: Due) {
        match due {
            Due::Begin(id) => self.begin(id),
            Due::Run(id) => self.attempt(id),
            Due::Notify(id) => self.notify(id),
            Due::Interrupt(id) => self.give_up(id),
            Due::Tell { .. } => self.tell_later(due),
            Due::Act(_) | Due::Step(_) | Due::Tire(_) | Due::LetGo(_) => {
                unreachable!("no request's")
            }
        }
        self.wake_up();
    }

    /// Runs the work that a ring has put off.
    pub(super) fn run_work(&mut self, ring: usize) {
        while let Some(due) = self.rings[ring].work.pop_front() {
            self.run(due);
        }
        self.raise(ring);
    }

    /// Lets the requests whose end has changed try again.
    pub(super) fn wake_up(&mut self) {
        for id in std::mem::take(&mut self.world.woken) {
            if self.returns_to_pool(id) {
                self.punt(id);
                continue;
            }
            let delay = self.delay();
            self.schedule(delay, Due::Run(id));
        }
    }
}

/// A number of bytes as a result.
pub(super) fn count(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("at most MAX_TRANSFER")
}

fn ended(io: Io<()>) -> Try {
    match io {
        Io::Done(()) => Try::Ends(0),
        Io::Wait => Try::Waits,
        Io::Fails(errno) => Try::Ends(-errno),
    }
}
