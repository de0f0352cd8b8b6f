//! What goes to clients: an outbox for each, and who is subscribed to which channel.
//!
//! ```text
//!   thread 0: PUBLISH ──► outbox of a client of thread 1 ──► is it told? ── no ──► MSG_RING ═╗
//!   thread 1: takes all that is in it, and sends it  ◄═══════════════════════ its number ════╝
//! ```
//!
//! Bytes go into the outbox, whoever's client it is, and a message says only whose: a number. Until
//! that client's thread has looked, no second message is sent, so that there are never more of them
//! than clients. An outbox has a limit. What a client asks for itself is not done while its outbox
//! is full; what others publish cannot wait, and so the client is cut off.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reply::Replies;

/// What a subscription costs beside its name.
const SUBSCRIPTION: usize = 128;

/// Whose outbox it is: the number of the thread, and that of the client there.
pub type Owner = (usize, u32);

/// What waits to be sent to a client.
#[derive(Debug)]
pub struct Outbox {
    pub owner: Owner,
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The owner will look, without being told again.
    is_told: bool,
    /// There was no room, so it is cut off.
    is_cut: bool,
}

impl Outbox {
    /// An empty one, for `most` bytes.
    pub fn new(owner: Owner, most: usize) -> Self {
        Self { owner, most, waiting: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes there is room for.
    pub fn room(&self) -> usize {
        self.most.saturating_sub(self.lock().bytes.len())
    }

    /// Adds replies of the owner's thread, which looks by itself.
    pub fn put(&self, replies: &mut Replies) {
        let mut waiting = self.lock();
        match waiting.bytes.is_empty() {
            true => waiting.bytes = replies.take(),
            false => waiting.bytes.append(&mut replies.take()),
        }
    }

    // ANCHOR: publish
    /// Adds what was published; returns whether the owner must be told.
    fn publish(&self, bytes: &[u8]) -> bool {
        let mut waiting = self.lock();
        if waiting.is_cut {
            return false;
        }
        if waiting.bytes.len() + bytes.len() > self.most {
            (waiting.is_cut, waiting.bytes) = (true, Vec::new());
            return true; // Also one that has been told: it may wait for the end of a send.
        }
        waiting.bytes.extend_from_slice(bytes);
        !std::mem::replace(&mut waiting.is_told, true)
    }
    // ANCHOR_END: publish

    /// Whether the client is to be cut off.
    pub fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Takes everything, if there is something. From now on the owner is told again.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut waiting = self.lock();
        waiting.is_told = false;
        Some(std::mem::take(&mut waiting.bytes)).filter(|bytes| !bytes.is_empty())
    }
}

/// Who is subscribed to what.
#[derive(Debug, Default)]
pub struct Channels {
    subscribers: HashMap<Vec<u8>, BTreeMap<Owner, Arc<Outbox>>>,
    used: usize,
}

impl Channels {
    /// How many bytes the subscriptions are.
    pub fn used(&self) -> usize {
        self.used
    }

    pub fn add(&mut self, channel: &[u8], outbox: &Arc<Outbox>) {
        let subscribers = self.subscribers.entry(channel.to_vec()).or_default();
        subscribers.insert(outbox.owner, Arc::clone(outbox));
        self.used += channel.len() + SUBSCRIPTION;
    }

    pub fn remove(&mut self, channel: &[u8], owner: Owner) {
        let Some(subscribers) = self.subscribers.get_mut(channel) else { return };
        if subscribers.remove(&owner).is_some() {
            self.used -= channel.len() + SUBSCRIPTION;
        }
        if subscribers.is_empty() {
            self.subscribers.remove(channel);
        }
    }

    /// Gives `message` to all subscribers of `channel`, of which it returns the number; those who
    /// must be told of it are added to `told`.
    pub fn publish(&self, channel: &[u8], message: &[u8], told: &mut Vec<Owner>) -> usize {
        let Some(subscribers) = self.subscribers.get(channel) else { return 0 };
        let mut bytes = Replies::new(usize::MAX);
        bytes.array(3);
        [b"message", channel, message].iter().for_each(|part| bytes.bulk(part));
        let bytes = bytes.take();
        told.extend(subscribers.values().filter(|to| to.publish(&bytes)).map(|to| to.owner));
        subscribers.len()
    }
}
