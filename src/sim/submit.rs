//! Taking entries off the queue: chains, and refused entries.
//!
//! | an entry is refused, and | the batch | its chain |
//! |---|---|---|
//! | it is alone, or the last of its chain | ends after it, without `SUBMIT_ALL` | fails as a whole |
//! | it is in the middle of a chain | goes on | fails as a whole |
//!
//! Leaves to others: what waits behind a drained entry (`drains`), running the requests (`run`).

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{SetupFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

use super::memory::Consumed;
use super::older::read_by;
use super::request::{Job, Request, Stage};
use super::state::State;
use super::trace::RequestId;

/// The flags of an entry that the kernel knows.
pub(super) const FLAGS_OF_ENTRIES: SqeFlags = SqeFlags::FIXED_FILE
    .union(SqeFlags::IO_DRAIN)
    .union(SqeFlags::IO_LINK)
    .union(SqeFlags::IO_HARDLINK)
    .union(SqeFlags::ASYNC)
    .union(SqeFlags::BUFFER_SELECT)
    .union(SqeFlags::CQE_SKIP_SUCCESS);

const LINKS: SqeFlags = SqeFlags::IO_LINK.union(SqeFlags::IO_HARDLINK);

/// The chain that a batch is putting together.
#[derive(Debug, Default)]
struct Chain {
    ids: Vec<RequestId>,
    /// Whether one of them was refused.
    is_refused: bool,
    drains: bool,
}

/// Whether a batch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    No,
}

impl State {
    /// Takes up to `given` entries off the ring; returns how many.
    pub(super) fn submit(&mut self, ring: usize, given: u32) -> u32 {
        let visible = self.rings[ring].half.visible().unwrap_or(0);
        let most = if self.luck.hits(self.faults.partial) && given > 1 {
            1 + u32::try_from(self.luck.below(u64::from(given))).expect("at most a u32")
        } else {
            given
        };
        self.rings[ring].batch = Some(0);
        self.rings[ring].half.begin_batch();
        let (mut count, mut chain) = (0, Chain::default());
        while count < given.min(visible) && (count < most || !chain.ids.is_empty()) {
            let left = given.min(visible) - count;
            let Consumed { sqe, slots, is_cut } = self.rings[ring].half.consume(left);
            let Some(sqe) = sqe else { break };
            count += slots;
            let sqe = self.as_read(sqe);
            let (sqe, refused) = read_by(self.release, sqe);
            let refused = self.barred(ring, &sqe).or(refused);
            let refused = if is_cut { Some(libc::EINVAL) } else { refused };
            let request = self.fitted(as_somebody(&sqe, ring), refused);
            if self.take(ring, request, &mut chain) == Goes::No {
                break;
            }
        }
        // A chain that is open at the end of a batch ends there.
        self.close_chain(ring, &mut chain);
        self.rings[ring].half.note_left(visible - count);
        let posted = self.rings[ring].batch.take().unwrap_or(0);
        self.end_counted(ring, posted);
        count
    }

    /// Refuses what does not fit the shape of the ring.
    fn fitted(&self, mut request: Request, refused: Option<i32>) -> Request {
        let wide = SetupFlags::CQE32 | SetupFlags::CQE_MIXED;
        let asks_wide = matches!(request.job, Job::Nop { big: Some(_), .. });
        let is_polled = self.rings[request.ring].poller.is_some();
        if is_polled && self.release.is_before(5, 11) && request.job.has_file() {
            let is_there = request.is_fixed();
            request.refused = request.refused.or((!is_there).then_some(-libc::EBADF));
        }
        let is_wrong = asks_wide && !self.rings[request.ring].flags.intersects(wide);
        if let Some(errno) = refused.or(is_wrong.then_some(libc::EINVAL)) {
            request.refused = Some(-errno);
        }
        request
    }

    /// Takes one request.
    fn take(&mut self, ring: usize, mut request: Request, chain: &mut Chain) -> Goes {
        self.consumed += 1;
        let id = self.consumed;
        if !FLAGS_OF_ENTRIES.contains(request.flags) {
            request.refused = Some(-libc::EINVAL);
        }
        self.force_if_drained(ring, &mut request);
        self.check_key(&request, id);
        self.bind_clock(&mut request, id, chain);
        let is_refused = request.refused.is_some();
        let links = request.flags.intersects(LINKS);
        chain.is_refused |= is_refused;
        chain.drains |= request.flags.contains(SqeFlags::IO_DRAIN);
        if let Some(last) = chain.ids.last().and_then(|last| self.requests.get_mut(last)) {
            last.next = Some(id);
        }
        chain.ids.push(id);
        self.requests.insert(id, request);
        if links {
            return Goes::On;
        }
        self.close_chain(ring, chain);
        let stops = !self.rings[ring].flags.contains(SetupFlags::SUBMIT_ALL);
        if is_refused && stops { Goes::No } else { Goes::On }
    }

    /// A `user_data` names at most one request in flight (OP2).
    fn check_key(&mut self, request: &Request, id: RequestId) {
        let is_it =
            |other: &Request| other.ring == request.ring && other.user_data == request.user_data;
        if !self.shares_user_data && self.requests.values().any(is_it) {
            let what = format!("OP2: {} has the user_data of another", request.describe(id));
            self.fault(request.ring, what);
        }
    }

    /// A linked timeout bounds the request before it.
    fn bind_clock(&mut self, request: &mut Request, id: RequestId, chain: &Chain) {
        if request.opcode != Opcode::LINK_TIMEOUT || request.refused.is_some() {
            return;
        }
        let before = chain.ids.last().and_then(|last| self.requests.get_mut(last));
        match before.filter(|before| before.opcode != Opcode::LINK_TIMEOUT) {
            Some(before) => before.clock = Some(id),
            None => request.refused = Some(-libc::EINVAL),
        }
    }

    /// The chain is complete: it begins, fails, or waits for those before it.
    fn close_chain(&mut self, ring: usize, chain: &mut Chain) {
        let Chain { ids, is_refused, drains } = std::mem::take(chain);
        if is_refused {
            for id in &ids {
                let request = self.requests.get_mut(id).expect("taken just now");
                request.refused = request.refused.or(Some(-libc::ECANCELED));
                request.flags -= SqeFlags::IO_HARDLINK;
            }
        }
        self.begin_or_hold(ring, &ids, drains);
    }

    /// Whether a request was begun.
    pub(super) fn has_begun(&self, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|request| request.stage == Stage::Begun)
    }
}

/// The request of an entry, which may name credentials.
fn as_somebody(sqe: &Sqe, ring: usize) -> Request {
    // A message refuses to.
    if sqe.personality == 0 || sqe.opcode == Opcode::MSG_RING {
        return Request::of(sqe, ring);
    }
    let mut request = Request::of(&Sqe { personality: 0, ..*sqe }, ring);
    if sqe.opcode == Opcode::FIXED_FD_INSTALL {
        request.refused = request.refused.or(Some(-libc::EPERM));
    }
    request
}
