//! How requests end: in any order, with any result that their kind allows.
//!
//! | kind | completions |
//! |---|---|
//! | single-shot | one |
//! | that selects a buffer | one, which names the buffer, even when it failed |
//! | multishot | with `F_MORE`, each with a buffer; then one more |
//! | zero-copy send | the result, then the notification; or an error alone |
//! | a cancel | one; the target completes later, has already completed, or goes on |
//! | a link timeout | one; when it fires, the request before it is cancelled |
//!
//! A request that did not do everything it was asked to breaks its chain, unless the link is hard.

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;

use super::Profile;
use super::group::Gift;
use super::kernel::{Kernel, Posted};
use super::ledger::{Broken, Goes, Ledger, Stage, Tie};
use super::request::{Region, Request, Role, State};

/// The number of completions of a multishot request before its last.
const MAX_COMPLETIONS: u32 = 6;

/// The number of requests that complete at once.
const MAX_REQUESTS: usize = 24;

impl Kernel {
    /// Completes a request, if any may complete.
    pub fn complete_one(&mut self, ledger: &mut Ledger) -> bool {
        let ready = self.requests.iter().enumerate().filter(|(_, request)| request.may_complete());
        let ready: Vec<usize> = ready.map(|(at, _)| at).collect();
        match self.chance.place(ready.len()) {
            Some(place) => self.complete(ready[place], ledger),
            None => return false,
        }
        true
    }

    /// Completes the oldest request, so that they do not pile up: a ring that cancels everything it
    /// has submits more requests than the other steps complete.
    pub fn catch_up(&mut self, ledger: &mut Ledger) {
        while self.requests.len() > MAX_REQUESTS
            && let Some(at) = self.requests.iter().position(Request::may_complete)
        {
            self.complete(at, ledger);
        }
    }

    fn complete(&mut self, at: usize, ledger: &mut Ledger) {
        match self.requests[at].role {
            Role::Plain => {
                let result = self.result(at);
                let flags = self.odd_flags();
                self.end(at, result, flags, ledger);
            }
            Role::Cancel(user_data) => {
                let result = self.cancel(user_data);
                self.end(at, result, CqeFlags::empty(), ledger);
            }
            Role::Clock => self.fire(at, ledger),
            Role::Picked(_) => self.fill(at, ledger),
            Role::Many(_) => self.shoot(at, ledger),
            Role::Notified => self.send(at, ledger),
        }
    }

    /// A result for a request that is about its region.
    fn result(&mut self, at: usize) -> i32 {
        let request = &self.requests[at];
        if request.state == State::Doomed && !self.chance.one_in(8) {
            return -libc::ECANCELED;
        }
        let len = request.region.len();
        self.number(len)
    }

    /// A result for a request that offers `len` bytes.
    pub fn number(&mut self, len: usize) -> i32 {
        let len = u32::try_from(len).expect("short");
        let (part, noise) = (self.chance.below(len + 1), self.chance.half().cast_signed());
        // Never the error of a refused entry: that would break a chain at a hard link, too.
        let errors = [libc::EIO, libc::EFAULT, libc::EAGAIN, libc::EINTR, libc::ENOBUFS];
        let error = -self.chance.among(&errors);
        let lies = [i32::MIN, i32::MAX, -4096, 4096, 0x7fff_f000, -1_000_000, noise];
        let lie = self.chance.among(&lies);
        let whole = len.cast_signed();
        if self.profile == Profile::Lying && self.chance.one_in(2) {
            return self.chance.among(&[lie, whole + 1]);
        }
        self.chance.among(&[whole, whole, whole, part.cast_signed(), error, 0])
    }

    /// Flags that have no meaning in a last completion.
    fn odd_flags(&mut self) -> CqeFlags {
        let noise = CqeFlags::from_bits_retain(self.chance.half());
        if self.profile == Profile::Lying { noise - CqeFlags::MORE } else { CqeFlags::empty() }
    }

    /// Cancels the request with that `user_data`, or does not.
    fn cancel(&mut self, user_data: u64) -> i32 {
        let is_it = |role| !matches!(role, Role::Cancel(_));
        let mut found =
            self.requests.iter_mut().filter(|it| it.user_data == user_data && is_it(it.role));
        let Some(target) = found.next() else { return -libc::ENOENT };
        if target.stays || self.chance.one_in(4) {
            return -libc::EALREADY;
        }
        target.state = State::Doomed;
        0
    }

    /// The timeout has expired, or the request that it bounds has ended.
    fn fire(&mut self, at: usize, ledger: &mut Ledger) {
        let clock = &self.requests[at];
        if clock.state == State::Doomed {
            return self.end(at, -libc::ECANCELED, CqeFlags::empty(), ledger);
        }
        let chain = clock.chain;
        let mut before = self.requests[..at].iter_mut().rev();
        if let Some(bounded) = before.find(|it| it.chain == chain && it.role != Role::Clock) {
            bounded.state = State::Doomed;
        }
        self.end(at, -libc::ETIME, CqeFlags::empty(), ledger);
    }

    /// Lets a request select its buffer before there is data; it may write to the buffer from then
    /// on.
    pub fn select_early(&mut self, at: usize) {
        if let Role::Picked(group) = self.requests[at].role
            && self.chance.one_in(2)
            && let Some((bid, region)) = self.select(group, at)
        {
            let request = &mut self.requests[at];
            (request.bid, request.region) = (Some(bid), region);
        }
    }

    /// Selects a buffer for the request at `at`.
    fn select(&mut self, group: u16, at: usize) -> Option<(u16, Region)> {
        let op = self.requests[at].op?;
        self.groups.iter_mut().find(|it| it.id == group)?.select(op)
    }

    /// Writes bytes to the buffer that the request at `at` has selected, and notes them.
    fn write_completion(&mut self, at: usize, bid: u16, mut region: Region, ledger: &mut Ledger) {
        let mut bytes = self.chance.bytes(region.len());
        let serial = ledger.completions.len() as u64;
        if let Some(front) = bytes.first_chunk_mut::<8>() {
            *front = serial.to_le_bytes();
        }
        if ledger.broken() == Broken::No {
            region.write(bytes.clone());
        }
        ledger.completions.insert(serial, bytes);
        let request = &self.requests[at];
        if let (Role::Picked(id) | Role::Many(id), Some(op)) = (request.role, request.op)
            && let Some(group) = self.groups.iter_mut().find(|it| it.id == id)
        {
            group.give(bid, Gift { op, serial });
        }
    }

    /// Completes a request that selects one buffer.
    fn fill(&mut self, at: usize, ledger: &mut Ledger) {
        let Role::Picked(group) = self.requests[at].role else { return };
        let result = self.result(at);
        let had = self.requests[at].bid.map(|bid| (bid, self.requests[at].region.clone()));
        let selected = if result > 0 { had.or_else(|| self.select(group, at)) } else { had };
        let Some((bid, region)) = selected else {
            let result = if result > 0 { -libc::ENOBUFS } else { result };
            let flags = self.no_buffer();
            return self.end(at, result, flags, ledger);
        };
        let result = if result > 0 { self.number(region.len()) } else { result };
        self.touch_one(at, ledger);
        self.write_completion(at, bid, region, ledger);
        // From now on the buffer is the ring's.
        self.requests[at].region = Region::default();
        self.end(at, result, named(bid), ledger);
    }

    /// Completes a multishot request, with `F_MORE` or for the last time.
    fn shoot(&mut self, at: usize, ledger: &mut Ledger) {
        let Role::Many(group) = self.requests[at].role else { return };
        if self.requests[at].state == State::Doomed {
            return self.end(at, -libc::ECANCELED, CqeFlags::empty(), ledger);
        }
        let ends = self.requests[at].completions == MAX_COMPLETIONS || self.chance.one_in(4);
        if ends && self.chance.one_in(2) {
            let result = self.chance.among(&[0, -libc::ECANCELED, -libc::EIO]);
            let flags = self.no_buffer();
            return self.end(at, result, flags, ledger);
        }
        let Some((bid, region)) = self.select(group, at) else {
            return self.end(at, -libc::ENOBUFS, CqeFlags::empty(), ledger);
        };
        let result = self.number(region.len());
        self.write_completion(at, bid, region, ledger);
        if ends {
            // The last completion carries a buffer too, perhaps with an error.
            return self.end(at, result, named(bid), ledger);
        }
        self.more(at, result, named(bid));
    }

    /// Completes a zero-copy send: first with its result, then with the notification.
    fn send(&mut self, at: usize, ledger: &mut Ledger) {
        if self.requests[at].completions > 0 {
            return self.end(at, 0, CqeFlags::NOTIF, ledger);
        }
        let result = self.result(at);
        if result < 0 && self.chance.one_in(2) {
            return self.end(at, result, CqeFlags::empty(), ledger);
        }
        if let Some(id) = self.requests[at].op {
            ledger.op(id).result = result;
        }
        self.more(at, result, CqeFlags::empty());
    }

    /// Flags that name no buffer, or a buffer that does not exist.
    fn no_buffer(&mut self) -> CqeFlags {
        let lies = self.profile == Profile::Lying && self.chance.one_in(2);
        if lies { named(0xff00) } else { CqeFlags::empty() }
    }

    /// A completion of the request at `at` that is not its last.
    pub fn more(&mut self, at: usize, res: i32, flags: CqeFlags) {
        let request = &mut self.requests[at];
        request.completions += 1;
        let cqe = Cqe { user_data: request.user_data, res, flags: flags | CqeFlags::MORE };
        self.post(cqe, Posted::Other);
    }

    /// The last completion of the request at `at`.
    fn end(&mut self, at: usize, res: i32, flags: CqeFlags, ledger: &mut Ledger) {
        self.touch_one(at, ledger);
        let request = self.requests.remove(at);
        let cqe = Cqe { user_data: request.user_data, res, flags };
        let Some(id) = request.op else { return self.post(cqe, Posted::Other) };
        let went = request.succeeded(res) || request.tie == Tie::Hard;
        let goes = if went { Goes::On } else { Goes::No };
        let note = ledger.op(id);
        (note.stage, note.goes) = (Stage::Ended, goes);
        (note.flags, note.image) = (flags, request.region.written());
        // A notification says nothing about the result.
        if !(request.role == Role::Notified && flags.contains(CqeFlags::NOTIF)) {
            note.result = res;
        }
        self.post(cqe, Posted::End(id));
        self.ended.push(request.user_data);
        if let Some(chain) = request.chain
            && request.role != Role::Clock
        {
            self.go_on(chain, at, goes);
        }
    }

    /// Ends or continues the rest of a chain, after its request before `at` has ended.
    fn go_on(&mut self, chain: u64, at: usize, goes: Goes) {
        let mut rest =
            self.requests[at..].iter_mut().filter(|it| it.chain == Some(chain)).peekable();
        // The link timeout of the request that has ended.
        if let Some(clock) = rest.next_if(|it| it.role == Role::Clock) {
            clock.state = State::Doomed;
        }
        if goes == Goes::No {
            return rest.for_each(|it| it.state = State::Doomed);
        }
        let Some(next) = rest.next_if(|it| it.state == State::Waiting) else { return };
        next.state = State::Running;
        if let Some(clock) = rest.next_if(|it| it.role == Role::Clock) {
            clock.state = State::Running;
        }
    }
}

/// The flags that name a buffer.
pub fn named(bid: u16) -> CqeFlags {
    CqeFlags::BUFFER | CqeFlags::from_bits_retain(u32::from(bid) << 16)
}
