//! One life: a small ring, its pools, streams and peers, and what is in flight and held.
//!
//! ```text
//!   submit something │ peers write, read, close │ enter │ reap │ redeem │ cancel │ detach │ drop
//! ```
//!
//! Every step is random, and is logged; after every step all held leases must be unchanged.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use annulus::lease::{BufRing, FileTable, FixedFile, FixedPool, SendQueue, SendRing};
use annulus::raw::register::{Consumption, RingMemory as Memory};
use annulus::sys::flags::Features;
use annulus::{Ring, Setup};

use crate::chance::Chance;
use crate::claims::{About, Claim, Manner, Whose, bearable, reap};
use crate::files::Listener;
use crate::make::{KINDS, lacking, patient, ring};
use crate::passing::Arrivals;
use crate::sentinels::Sentinels;
use crate::streams::{Aim, Inward, Medium, Outward};
use crate::tally::Tally;
use crate::watch::{Held, Watched};
use crate::{files, passing, receives, scopes, sends};

/// What happened, step by step.
pub type Log = Rc<RefCell<Vec<String>>>;

/// Buffers that the kernel selects from.
#[derive(Debug)]
pub struct Pool {
    pub bufs: BufRing,
    pub in_parts: bool,
}

/// One life.
pub struct World {
    pub chance: Chance,
    pub ring: Ring,
    /// A helper ring: it sends descriptors, and takes messages.
    pub aid: Option<Ring>,
    /// The helper's table of files.
    pub arrivals: Option<Arrivals>,
    pub claims: Vec<Box<dyn Claim>>,
    pub held: Vec<Watched>,
    pub inward: Vec<Inward>,
    pub outward: Vec<Outward>,
    pub listener: Option<Listener>,
    pub pools: Vec<Pool>,
    pub fixed: Option<FixedPool>,
    pub table: Option<FileTable>,
    pub files: Vec<FixedFile>,
    pub send: Option<SendRing>,
    pub queue: Option<SendQueue>,
    pub sentinels: Sentinels,
    pub tally: Rc<RefCell<Tally>>,
    pub log: Log,
    /// Each step is shown as it begins.
    pub tells: bool,
    number: u64,
    /// Tickets that were dropped.
    pub dropped: u32,
    /// Slots at the beginning.
    pub slots: u32,
    /// Tickets may be dropped, and the ring may be dropped while operations are in flight.
    pub rude: bool,
    /// A wait can be bounded.
    pub bounded: bool,
    /// The kernel reports how much an operation has moved when it fails while waiting for all.
    pub keeps_parts: bool,
    /// Operations may be drained: what they hold back can be cancelled by a system call.
    pub drains: bool,
    /// One was drained, and holds back what comes after it: since Linux 6.16 until an entry comes
    /// while nothing is in flight, not even in a worker thread that has completed it.
    pub holds_back: bool,
    /// How long a buffer is.
    pub size: u32,
}

impl World {
    /// The beginning of a life.
    pub fn new(mut chance: Chance, tally: Rc<RefCell<Tally>>, log: Log) -> Self {
        let kind = chance.place(KINDS.len()).expect("five");
        let (ring, kind) = ring(&mut chance, kind);
        tally.borrow_mut().ring(KINDS[kind]);
        let features = ring.raw().features();
        let size = chance.among(&[16, 32, 64, 256]);
        let (slots, rude) = (ring.vacant(), chance.one_in(8));
        let mut aid = patient(|| Setup::plain(2).build()).ok();
        let mut world = Self {
            chance,
            ring,
            arrivals: aid.as_mut().and_then(Arrivals::new),
            aid,
            claims: Vec::new(),
            held: Vec::new(),
            inward: Vec::new(),
            outward: Vec::new(),
            listener: None,
            pools: Vec::new(),
            fixed: None,
            table: None,
            files: Vec::new(),
            send: None,
            queue: None,
            sentinels: Sentinels::new(),
            tally,
            log,
            tells: std::env::var_os("LIVES_TELL").is_some(),
            number: 0,
            dropped: 0,
            slots,
            rude,
            bounded: features.contains(Features::EXT_ARG),
            // Linux 5.17, and later kernels do.
            keeps_parts: features.contains(Features::CQE_SKIP),
            // Linux 6.3. A worker of a polling thread is found by no system call.
            drains: features.contains(Features::REG_REG_RING) && KINDS[kind] != "polled",
            holds_back: false,
            size,
        };
        world.say(|| format!("a ring, {}, {slots} slots; buffers of {size}", KINDS[kind]));
        world.furnish();
        world
    }

    /// Makes pools and streams.
    fn furnish(&mut self) {
        for _ in 0..=self.chance.below(2) {
            self.add_pool();
        }
        if self.chance.one_in(2) {
            let (count, size) = (4, self.chance.among(&[16, 64]));
            self.fixed = lacking(self.ring.fixed_pool(count, size));
        }
        if self.chance.one_in(2) {
            self.table = lacking(self.ring.file_table(8));
        }
        if self.chance.one_in(2) {
            self.send = lacking(self.ring.send_ring(4, 32));
            self.queue = self.send.as_ref().map(SendRing::queue);
        }
        for _ in 0..2 + self.chance.below(2) {
            self.add_inward();
        }
        self.add_outward();
        if self.chance.one_in(3) {
            self.listener = Some(Listener::new());
        }
    }

    fn add_pool(&mut self) {
        let in_parts = self.chance.one_in(2) && self.allows("in parts");
        let count = self.chance.among(&[1, 2, 4, 8, 8]);
        let whose = if self.chance.one_in(4) { Memory::Kernel } else { Memory::User };
        let used =
            if in_parts { Consumption::Incremental { min_left: 0 } } else { Consumption::Whole };
        let made = self.ring.buf_ring_with(count, self.size, whose, used);
        let made = made.map(|bufs| (bufs, in_parts)).or_else(|_| {
            self.ring.buf_ring(count, self.size).map(|bufs| (bufs, false)) // As every kernel can.
        });
        if let Some((bufs, in_parts)) = lacking(made) {
            let group = bufs.group();
            self.say(|| format!("pool {group}: {count} buffers, in parts: {in_parts}"));
            self.tally.borrow_mut().pool(in_parts);
            self.pools.push(Pool { bufs, in_parts });
        }
    }

    pub fn add_inward(&mut self) {
        let media = [
            Medium::Unix,
            Medium::Unix,
            Medium::Unix,
            Medium::Pipe,
            Medium::UnixDatagram,
            Medium::Udp,
            Medium::Unix,
        ];
        let medium = self.medium(&media);
        let key = self.next_number();
        let mut inward = Inward::new(key, medium).expect("a stream");
        if let Some(fixed) = self.insert(inward.own()) {
            inward.aim = Aim::Fixed(fixed);
        }
        self.say(|| format!("inward {key}: {medium:?}"));
        self.inward.push(inward);
    }

    pub fn add_outward(&mut self) {
        let media = [Medium::Unix, Medium::Unix, Medium::Pipe, Medium::Tcp];
        let medium = self.medium(&media);
        let key = self.next_number();
        let mut outward = Outward::new(key, medium).expect("a stream");
        if let Some(fixed) = self.insert(outward.own()) {
            outward.aim = Aim::Fixed(fixed);
        }
        self.say(|| format!("outward {key}: {medium:?}"));
        self.outward.push(outward);
    }

    /// Connections are few: each leaves a number behind that cannot be used for a minute.
    fn medium(&mut self, media: &[Medium]) -> Medium {
        if self.chance.one_in(16) { Medium::Tcp } else { self.chance.among(media) }
    }

    /// Registers it, now and then.
    fn insert(&mut self, own: &Rc<std::os::fd::OwnedFd>) -> Option<FixedFile> {
        let table = self.table.as_ref()?;
        if !self.chance.one_in(3) {
            return None;
        }
        table.insert(&mut self.ring, own).ok()
    }

    /// One step.
    pub fn step(&mut self) {
        match self.chance.below(43) {
            0..=10 => receives::any(self),
            11..=13 => sends::any(self),
            14..=15 => files::any(self),
            16..=20 => self.peer_writes(),
            21..=22 => self.peer_reads(),
            23 => self.peer_goes(),
            24..=26 => self.enter(),
            27..=30 => self.see(),
            31..=33 => self.redeem(),
            34 => self.take_next(),
            35 => self.cancel(),
            36 => self.give_up(),
            37..=38 => self.let_go(),
            40..=41 => scopes::any(self),
            42 => passing::any(self),
            _ => self.scribble(),
        }
        self.check();
    }

    /// All held leases are unchanged.
    pub fn check(&mut self) {
        self.held.iter().for_each(Watched::check);
        self.sentinels.check_one();
    }

    fn peer_writes(&mut self) {
        let Some(at) = self.chance.place(self.inward.len()) else { return };
        let most = self.size * 3 / 2;
        let inward = &mut self.inward[at];
        let count = 1 + self.chance.below(if inward.is_datagrams() { self.size } else { most });
        let written = inward.write(count as usize);
        let key = inward.key;
        self.say(|| format!("peer of {key} writes {written}"));
    }

    fn peer_reads(&mut self) {
        let Some(at) = self.chance.place(self.outward.len()) else { return };
        let count = 1 + self.chance.below(200);
        let read = self.outward[at].read(count as usize);
        let key = self.outward[at].key;
        self.say(|| format!("peer of {key} reads {read}"));
    }

    fn peer_goes(&mut self) {
        if !self.chance.one_in(6) || self.inward.len() > 8 {
            return;
        }
        let Some(at) = self.chance.place(self.inward.len()) else { return };
        self.inward[at].close();
        let key = self.inward[at].key;
        self.say(|| format!("peer of {key} goes"));
        self.add_inward();
    }

    /// Submits, and perhaps waits.
    fn enter(&mut self) {
        self.say(|| "enter".to_owned());
        if self.chance.one_in(4) {
            self.pause(Duration::from_micros(50));
        } else if let Err(error) = self.ring.submit_all() {
            bearable(error.cause);
        }
    }

    /// Submits, and waits a little for a completion.
    pub fn pause(&mut self, limit: Duration) {
        if self.bounded {
            if let Err(error) = self.ring.submit_and_wait_timeout(1, limit) {
                bearable(error.cause);
            }
        } else {
            if let Err(error) = self.ring.submit_all() {
                bearable(error.cause);
            }
            std::thread::sleep(limit);
        }
    }

    fn see(&mut self) {
        if self.chance.one_in(2)
            && let Err(error) = self.ring.submit_all()
        {
            bearable(error.cause);
        }
        self.say(|| "reap".to_owned());
        reap(self);
    }

    /// Redeems a ticket, if possible one of an operation that has ended.
    fn redeem(&mut self) {
        let ended: Vec<usize> =
            (0..self.claims.len()).filter(|&at| self.claims[at].about().ended.get()).collect();
        let at = match self.chance.place(ended.len()) {
            Some(at) if !self.chance.one_in(8) => Some(ended[at]),
            _ => self.chance.place(self.claims.len()),
        };
        let Some(at) = at else { return };
        let claim = self.claims.swap_remove(at);
        let (number, wait) = (claim.about().number, self.bounded && self.chance.one_in(3));
        self.say(|| format!("redeem {number}, waiting: {wait}"));
        let back =
            if wait { claim.wait(self, Duration::from_micros(100)) } else { claim.take(self) };
        self.claims.extend(back);
    }

    fn take_next(&mut self) {
        let Some(at) = self.chance.place(self.claims.len()) else { return };
        let claim = self.claims.swap_remove(at);
        let number = claim.about().number;
        self.say(|| format!("next of {number}"));
        claim.next(self);
        self.claims.push(claim);
    }

    fn cancel(&mut self) {
        let Some(at) = self.chance.place(self.claims.len()) else { return };
        self.cancel_at(at);
    }

    /// Cancels one of the claims.
    pub fn cancel_at(&mut self, at: usize) {
        let claim = self.claims.swap_remove(at);
        let number = claim.about().number;
        self.say(|| format!("cancel {number}"));
        if let Err(error) = claim.cancel(self) {
            bearable(error.cause);
        }
        self.claims.push(claim);
    }

    /// Detaches a ticket.
    fn give_up(&mut self) {
        if !self.chance.one_in(3) {
            return;
        }
        let Some(at) = self.chance.place(self.claims.len()) else { return };
        let claim = self.claims.swap_remove(at);
        let number = claim.about().number;
        if self.rude && self.chance.one_in(2) {
            self.say(|| format!("drop the ticket of {number}"));
            self.dropped += 1;
            self.abandoned(claim.about());
            drop(claim);
        } else {
            self.say(|| format!("detach {number}"));
            claim.detach(self);
        }
    }

    /// Drops something that is held.
    pub fn let_go(&mut self) {
        let Some(at) = self.chance.place(self.held.len()) else { return };
        let watched = self.held.swap_remove(at);
        watched.check();
        self.say(|| "let go of a lease".to_owned());
        drop(watched);
    }

    fn scribble(&mut self) {
        if let Some(at) = self.chance.place(self.held.len()) {
            self.say(|| "write to a lease".to_owned());
            self.held[at].scribble();
        }
    }

    /// Holds something, for a random time.
    pub fn hold(&mut self, held: Held, about: &About) {
        self.held.iter().for_each(|watched| watched.check_apart_from(&held));
        self.tally.borrow_mut().resource(about.kind);
        if !self.chance.one_in(4) {
            self.held.push(Watched::new(held, about.number));
        }
    }

    pub fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The description of a new operation.
    pub fn about(&mut self, kind: &'static str, whose: Whose) -> About {
        let number = self.next_number();
        About { number, kind, whose, ended: false.into() }
    }

    /// Whether this kind is not left out.
    pub fn allows(&self, name: &str) -> bool {
        self.tally.borrow().allows(name)
    }

    /// The ways to submit an operation, each with its weight.
    pub fn manner(&mut self, kind: &str, manners: &[(Manner, u32)]) -> Manner {
        let all = manners.iter().map(|(_, often)| often).sum();
        let mut at = self.chance.below(all);
        for &(manner, often) in manners {
            if at < often {
                let name = manner.name();
                let allowed = self.allows(name) && self.allows(&format!("{kind} {name}"));
                return if allowed { manner } else { Manner::Plain };
            }
            at -= often;
        }
        Manner::Plain
    }

    pub fn inward_of(&mut self, key: u64) -> Option<&mut Inward> {
        self.inward.iter_mut().find(|inward| inward.key == key)
    }

    /// Gives internal requests time to complete.
    pub fn turn(&mut self) {
        self.pause(Duration::from_micros(200));
        reap(self);
    }
}
