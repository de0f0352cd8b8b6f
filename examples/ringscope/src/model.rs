//! What a ring looks like at one moment, built from records: queues, requests, and who owns what.
//!
//! ```text
//!   SQ   head ..tail   published: the kernel's      tail ..written   the program's, not shown yet
//!   CQ   head ..tail   posted: the program's        all others       free
//! ```
//!
//! The stream of records leaves four things out, which are derived here:
//!
//! | not in a record | derived from |
//! |---|---|
//! | what the program writes before it enters | the story says it ([`Ring::write`]) |
//! | which slot is whose | the indices: every record that moves one is there |
//! | how many entries an enter has consumed | what it returned; of a polling thread, `Polled` |
//! | that a completion which was held back is posted | the next enter returns, and there is room |

use std::collections::VecDeque;

use annulus::sim::trace::{RequestId, What};
use annulus::sys::flags::{CQE_BUFFER_SHIFT, CqeFlags};
use annulus::sys::opcode::Opcode;

/// Who may touch a slot or a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Program,
    Kernel,
    Free,
}

impl Owner {
    pub const ALL: [Self; 3] = [Self::Program, Self::Kernel, Self::Free];

    pub fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Kernel => "kernel",
            Self::Free => "free",
        }
    }
}

/// How far a request is: the lanes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Written, not published.
    Ours,
    /// Published, not consumed.
    Queued,
    /// In flight.
    Kernel,
    /// Its last completion is in the queue.
    Ready,
    /// Its last completion was taken.
    Taken,
}

impl Place {
    pub const ALL: [Self; 5] = [Self::Ours, Self::Queued, Self::Kernel, Self::Ready, Self::Taken];

    pub fn name(self) -> &'static str {
        ["ours", "SQ", "kernel", "CQ", "taken"][self.number()]
    }

    pub fn number(self) -> usize {
        Self::ALL.iter().position(|&place| place == self).unwrap_or(0)
    }
}

/// A request, from the writing of its entry on.
#[derive(Debug, Clone)]
pub struct Request {
    pub name: String,
    /// The number that records have for it.
    pub id: RequestId,
    /// The index of its entry.
    pub index: u32,
    pub place: Place,
    /// What its completions said so far.
    pub results: Vec<i32>,
    /// The buffer that it lends to the kernel.
    pub buffer: Option<String>,
}

impl Request {
    /// Who may touch its buffer.
    pub fn buffer_owner(&self) -> Owner {
        let is_lent = matches!(self.place, Place::Queued | Place::Kernel | Place::Ready);
        if is_lent { Owner::Kernel } else { Owner::Program }
    }
}

/// A completion in the queue, or held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The place of its request in the list.
    pub request: Option<usize>,
    pub res: i32,
    pub is_last: bool,
    /// The buffer that the kernel selected.
    pub buffer: Option<usize>,
}

/// What the polling thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poller {
    Awake,
    Asleep,
    Dead,
}

/// The state of a ring.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    pub sq_entries: u32,
    pub cq_entries: u32,
    pub sq_head: u32,
    pub sq_tail: u32,
    pub sq_written: u32,
    pub cq_head: u32,
    pub cq_tail: u32,
    pub requests: Vec<Request>,
    /// The completions between head and tail.
    pub ready: VecDeque<Completion>,
    /// Those that found no room.
    pub held: VecDeque<Completion>,
    pub enters: u32,
    pub poller: Option<Poller>,
    /// The buffers of a buffer ring.
    pub pool: Vec<Owner>,
}

impl Ring {
    pub fn new(sq_entries: u32, cq_entries: u32, start: u32) -> Self {
        Self {
            sq_entries,
            cq_entries,
            sq_head: start,
            sq_tail: start,
            sq_written: start,
            cq_head: start,
            cq_tail: start,
            ..Self::default()
        }
    }

    /// The program has written an entry, which records will call `id`.
    pub fn write(&mut self, id: RequestId, name: &str, buffer: Option<&str>) {
        self.requests.push(Request {
            name: name.into(),
            id,
            index: self.sq_written,
            place: Place::Ours,
            results: Vec::new(),
            buffer: buffer.map(Into::into),
        });
        self.sq_written = self.sq_written.wrapping_add(1);
    }

    /// The program has published what it wrote.
    pub fn publish(&mut self) {
        self.sq_tail = self.sq_written;
        for request in &mut self.requests {
            if request.place == Place::Ours {
                request.place = Place::Queued;
            }
        }
    }

    /// Something happened.
    pub fn happens(&mut self, what: &What) {
        match what {
            What::Entered(..) => {
                self.publish();
                self.enters += 1;
            }
            What::Returned(answer) => {
                if self.poller.is_none() {
                    self.consume(answer.unwrap_or(0));
                }
                self.admit();
            }
            What::Polled(count) => {
                self.publish();
                self.consume(*count);
            }
            What::Began(id, opcode, bytes, _) => self.begin(*id, *opcode, *bytes),
            What::Posted(id, res, flags) => self.post(*id, *res, *flags),
            What::Overflowed(_) => {
                self.cq_tail = self.cq_tail.wrapping_sub(1);
                let completion = self.ready.pop_back();
                self.set_place(completion, Place::Kernel);
                self.held.extend(completion);
            }
            What::Lost(_) => {
                self.cq_tail = self.cq_tail.wrapping_sub(1);
                self.ready.pop_back();
            }
            What::Taken(count) => self.take(*count),
            What::Offered(_, bid) => {
                let bid = usize::from(*bid);
                if self.pool.len() <= bid {
                    self.pool.resize(bid + 1, Owner::Program);
                }
                self.pool[bid] = Owner::Kernel;
            }
            What::Slept => self.poller = Some(Poller::Asleep),
            What::Woken => self.poller = Some(Poller::Awake),
            What::Died => self.poller = Some(Poller::Dead),
            _ => {}
        }
    }

    /// The kernel has consumed so many entries.
    fn consume(&mut self, count: u32) {
        if count > self.sq_tail.wrapping_sub(self.sq_head) {
            self.publish();
        }
        let unseen = count.saturating_sub(self.sq_written.wrapping_sub(self.sq_head));
        self.sq_head = self.sq_head.wrapping_add(count);
        // Entries that no record names.
        self.sq_written = self.sq_written.wrapping_add(unseen);
        self.sq_tail = self.sq_tail.wrapping_add(unseen);
        let (head, written) = (self.sq_head, self.sq_written);
        for request in &mut self.requests {
            let left = written.wrapping_sub(head);
            let is_left = written.wrapping_sub(request.index).wrapping_sub(1) < left;
            if request.place == Place::Queued && !is_left {
                request.place = Place::Kernel;
            }
        }
    }

    /// A request begins. As a rule it was written before; a real polling thread may have taken it
    /// unseen.
    fn begin(&mut self, id: RequestId, opcode: Opcode, bytes: u32) {
        let buffer = (bytes > 0).then(|| size(bytes));
        self.adopt(id, &format!("#{id} {}", named(opcode)), buffer.as_deref());
    }

    /// A request is in flight, and no record says when its entry was consumed.
    pub fn adopt(&mut self, id: RequestId, name: &str, buffer: Option<&str>) {
        if self.find(id).is_some() {
            return;
        }
        self.requests.push(Request {
            name: name.into(),
            id,
            index: self.sq_head.wrapping_sub(1),
            place: Place::Kernel,
            results: Vec::new(),
            buffer: buffer.map(Into::into),
        });
    }

    /// The place of a request in the list.
    pub fn find(&self, id: RequestId) -> Option<usize> {
        self.requests.iter().position(|request| request.id == id && id != 0)
    }

    fn post(&mut self, id: RequestId, res: i32, flags: u32) {
        let flags = CqeFlags::from_bits_retain(flags);
        let is_last = !flags.contains(CqeFlags::MORE);
        let buffer = flags.contains(CqeFlags::BUFFER);
        let buffer = buffer.then_some((flags.bits() >> CQE_BUFFER_SHIFT) as usize);
        let request = self.find(id);
        if let Some(request) = request.map(|at| &mut self.requests[at]) {
            request.results.push(res);
            if is_last {
                request.place = Place::Ready;
            }
        }
        self.ready.push_back(Completion { request, res, is_last, buffer });
        self.cq_tail = self.cq_tail.wrapping_add(1);
    }

    /// Completions that were held back find room.
    fn admit(&mut self) {
        while self.cq_tail.wrapping_sub(self.cq_head) < self.cq_entries {
            let Some(completion) = self.held.pop_front() else { return };
            self.set_place(Some(completion), Place::Ready);
            self.ready.push_back(completion);
            self.cq_tail = self.cq_tail.wrapping_add(1);
        }
    }

    /// Where the request is that a completion ends.
    fn set_place(&mut self, completion: Option<Completion>, place: Place) {
        let ended = completion.filter(|completion| completion.is_last);
        if let Some(at) = ended.and_then(|completion| completion.request) {
            self.requests[at].place = place;
        }
    }

    fn take(&mut self, count: u32) {
        for _ in 0..count {
            // Without this record, the enter before has let more in than there was room for.
            if self.ready.is_empty() {
                self.admit();
            }
            self.cq_head = self.cq_head.wrapping_add(1);
            let Some(completion) = self.ready.pop_front() else {
                // It was posted before the records begin.
                self.cq_tail = self.cq_head;
                continue;
            };
            if let Some(owner) = completion.buffer.and_then(|bid| self.pool.get_mut(bid)) {
                *owner = Owner::Program;
            }
            self.set_place(Some(completion), Place::Taken);
        }
    }

    /// Who owns a slot of the submission ring, and whose entry is in it.
    pub fn sq_slot(&self, slot: u32) -> (Owner, Option<usize>) {
        let index = index_in(slot, self.sq_head, self.sq_entries);
        let at = self.requests.iter().rposition(|request| request.index == index);
        if index.wrapping_sub(self.sq_head) < self.sq_tail.wrapping_sub(self.sq_head) {
            (Owner::Kernel, at)
        } else if index.wrapping_sub(self.sq_head) < self.sq_written.wrapping_sub(self.sq_head) {
            (Owner::Program, at)
        } else {
            (Owner::Free, None)
        }
    }

    /// Who owns a slot of the completion ring, and what is in it.
    pub fn cq_slot(&self, slot: u32) -> (Owner, Option<Completion>) {
        let ahead = index_in(slot, self.cq_head, self.cq_entries).wrapping_sub(self.cq_head);
        match self.ready.get(ahead as usize) {
            Some(&completion) => (Owner::Program, Some(completion)),
            None => (Owner::Free, None),
        }
    }
}

/// The index, at `head` or up to `entries` after it, that lies in `slot`.
fn index_in(slot: u32, head: u32, entries: u32) -> u32 {
    let mask = entries.wrapping_sub(1);
    head.wrapping_add(slot.wrapping_sub(head) & mask)
}

/// A number of bytes, short.
pub fn size(bytes: u32) -> String {
    match bytes {
        bytes if bytes >= 1024 && bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} B"),
    }
}

/// What a picture calls an operation.
pub fn named(opcode: Opcode) -> String {
    format!("{opcode:?}").to_lowercase().replace('_', " ")
}

/// What a picture calls the request at a place of the list: one letter, as long as there are some.
pub fn tag(at: usize) -> String {
    match u8::try_from(at) {
        Ok(at) if at < 26 => char::from(b'A' + at).to_string(),
        _ => (at + 1).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sq1_slots_change_hands_across_the_wrap() {
        let mut ring = Ring::new(4, 8, u32::MAX);
        ring.write(1, "one", None);
        ring.write(2, "two", None);
        let owners = |ring: &Ring| [0, 1, 2, 3].map(|slot| ring.sq_slot(slot).0);
        assert_eq!(owners(&ring), [Owner::Program, Owner::Free, Owner::Free, Owner::Program]);
        ring.happens(&What::Entered(2, 0));
        assert_eq!(owners(&ring), [Owner::Kernel, Owner::Free, Owner::Free, Owner::Kernel]);
        ring.happens(&What::Returned(Ok(1)));
        assert_eq!(owners(&ring), [Owner::Kernel, Owner::Free, Owner::Free, Owner::Free]);
        assert_eq!(ring.requests[0].place, Place::Kernel);
        assert_eq!(ring.requests[1].place, Place::Queued);
    }

    #[test]
    fn cq1_a_completion_without_room_comes_after_the_others() {
        let mut ring = Ring::new(1, 1, 7);
        for id in [1, 2] {
            ring.happens(&What::Began(id, Opcode::NOP, 0, None));
            ring.happens(&What::Posted(id, 0, 0));
        }
        ring.happens(&What::Overflowed(2));
        assert_eq!((ring.ready.len(), ring.held.len(), ring.cq_tail), (1, 1, 8));
        ring.happens(&What::Taken(1));
        ring.happens(&What::Returned(Ok(0)));
        assert_eq!((ring.ready.len(), ring.held.len(), ring.cq_tail), (1, 0, 9));
    }
}
