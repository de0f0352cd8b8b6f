//! What is stored: values by key, when they expire, and how many bytes that is.
//!
//! A value that has expired is not seen any more, and is removed when somebody looks for it or when
//! the clock of the ring comes, whichever is first. Bytes are counted as what the client has sent
//! and [`ENTRY`] for each key and each item: the order of what the allocator has given out, and not
//! exactly that.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

/// What a key or an item of a list costs beside its bytes.
const ENTRY: usize = 64;

/// What a key has.
#[derive(Debug)]
pub enum Value {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
}

#[derive(Debug)]
struct Entry {
    value: Value,
    until: Option<Instant>,
}

/// All keys.
#[derive(Debug)]
pub struct Store {
    entries: HashMap<Vec<u8>, Entry>,
    /// Of those that expire, the next first.
    deadlines: BTreeSet<(Instant, Vec<u8>)>,
    /// The time, which stands still while commands that came together are run.
    pub now: Instant,
    used: usize,
    expired: u64,
}

/// The key has a value of another kind.
#[derive(Debug)]
pub struct WrongKind;

impl Value {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(list) => list.iter().map(|item| item.len() + ENTRY).sum(),
        }
    }
}

impl Store {
    /// An empty one.
    pub fn new() -> Self {
        let (entries, deadlines) = (HashMap::new(), BTreeSet::new());
        Self { entries, deadlines, now: Instant::now(), used: 0, expired: 0 }
    }

    /// How many keys there are; those that have expired count until they are removed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes they and their values are.
    pub fn used(&self) -> usize {
        self.used
    }

    /// How many have expired so far.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Forgets `key` if its time has come.
    fn look(&mut self, key: &[u8]) {
        let until = self.entries.get(key).and_then(|entry| entry.until);
        if until.is_some_and(|until| until <= self.now) {
            self.remove(key);
            self.expired += 1;
        }
    }

    /// The value of `key`.
    pub fn get(&mut self, key: &[u8]) -> Option<&Value> {
        self.look(key);
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value of `key`, as text.
    pub fn text(&mut self, key: &[u8]) -> Result<Option<&[u8]>, WrongKind> {
        match self.get(key) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::List(_)) => Err(WrongKind),
            None => Ok(None),
        }
    }

    /// The value of `key`, as a list.
    pub fn list(&mut self, key: &[u8]) -> Result<Option<&VecDeque<Vec<u8>>>, WrongKind> {
        match self.get(key) {
            Some(Value::List(list)) => Ok(Some(list)),
            Some(Value::Text(_)) => Err(WrongKind),
            None => Ok(None),
        }
    }

    /// Gives `key` a value, in place of what it had, with a time when that expires.
    pub fn set(&mut self, key: Vec<u8>, value: Value, until: Option<Instant>) {
        self.remove(&key);
        self.used += key.len() + ENTRY + value.size();
        if let Some(until) = until {
            self.deadlines.insert((until, key.clone()));
        }
        self.entries.insert(key, Entry { value, until });
    }

    /// Changes the text of `key`, which is empty if it is not there, and not when it expires.
    pub fn change_text<T>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, WrongKind> {
        if self.text(key)?.is_none() {
            self.set(key.to_vec(), Value::Text(Vec::new()), None);
        }
        match self.entries.get_mut(key) {
            Some(Entry { value: Value::Text(text), .. }) => {
                let before = text.len();
                let outcome = change(text);
                self.used = self.used - before + text.len();
                Ok(outcome)
            }
            _ => Err(WrongKind),
        }
    }

    /// Adds an item to the list of `key`, which is empty if it is not there; returns its length.
    pub fn push(&mut self, key: &[u8], item: Vec<u8>, end: End) -> Result<usize, WrongKind> {
        if self.list(key)?.is_none() {
            self.set(key.to_vec(), Value::List(VecDeque::new()), None);
        }
        let Some(Entry { value: Value::List(list), .. }) = self.entries.get_mut(key) else {
            return Err(WrongKind);
        };
        self.used += item.len() + ENTRY;
        match end {
            End::Front => list.push_front(item),
            End::Back => list.push_back(item),
        }
        Ok(list.len())
    }

    /// Takes the first item of the list of `key`. A list without items is no key any more.
    pub fn pop_front(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, WrongKind> {
        self.list(key)?;
        let Some(Entry { value: Value::List(list), .. }) = self.entries.get_mut(key) else {
            return Ok(None);
        };
        let item = list.pop_front();
        let is_empty = list.is_empty();
        self.used -= item.as_ref().map_or(0, |item| item.len() + ENTRY);
        if is_empty {
            self.remove(key);
        }
        Ok(item)
    }

    /// Removes `key`; returns whether it was there.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        self.look(key);
        self.remove(key)
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some((key, entry)) = self.entries.remove_entry(key) else { return false };
        self.used -= key.len() + ENTRY + entry.value.size();
        if let Some(until) = entry.until {
            self.deadlines.remove(&(until, key));
        }
        true
    }

    /// When `key` expires; `None` if it is not there, `Some(None)` if never.
    pub fn until(&mut self, key: &[u8]) -> Option<Option<Instant>> {
        self.look(key);
        self.entries.get(key).map(|entry| entry.until)
    }

    /// Sets when `key` expires; returns whether it is there.
    pub fn expire_at(&mut self, key: &[u8], until: Instant) -> bool {
        self.look(key);
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if let Some(before) = entry.until.replace(until) {
            self.deadlines.remove(&(before, key.to_vec()));
        }
        self.deadlines.insert((until, key.to_vec()));
        true
    }

    /// The keys that `wanted` says yes to.
    pub fn keys(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<&[u8]> {
        let is_there = |entry: &Entry| entry.until.is_none_or(|until| until > self.now);
        let there = self.entries.iter().filter(|(key, entry)| is_there(entry) && wanted(key));
        there.map(|(key, _)| key.as_slice()).collect()
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        (self.entries, self.deadlines, self.used) = (HashMap::new(), BTreeSet::new(), 0);
    }

    // ANCHOR: expire
    /// When the next key expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// Removes keys that have expired, `most` of them: others wait for the time that this takes.
    pub fn expire(&mut self, most: usize) {
        for _ in 0..most {
            match self.deadlines.first() {
                Some((until, key)) if *until <= self.now => {
                    let key = key.clone();
                    self.look(&key);
                }
                _ => return,
            }
        }
    }
    // ANCHOR_END: expire
}

/// Where a list grows.
#[derive(Debug, Clone, Copy)]
pub enum End {
    Front,
    Back,
}
