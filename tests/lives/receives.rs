//! Receives: into provided buffers, one by one, in bundles and as messages, and into the caller's
//! own buffers.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use annulus::lease::{BufLease, Bundle, Datagram, FixedBuf};
use annulus::op::{
    Ended, Ending, MsgHeader, Op, Outcome, Read, ReadFixed, ReadMulti, Received, Recv, RecvBundle,
    RecvBundleMulti, RecvMsg, RecvMsgMulti, RecvMulti, RecvProvided, SendFlags, SendMsg, Target,
};
use annulus::{Rejection, Ticket};

use crate::claims::{About, Whose, ship_many, ship_once};
use crate::flags;
use crate::streams::{Aim, Medium};
use crate::watch::Held;
use crate::world::World;

/// Submits a receive on a stream that has none in flight.
pub fn any(world: &mut World) {
    let idle: Vec<usize> = (0..world.inward.len())
        .filter(|&at| world.inward[at].busy.is_none() && !world.inward[at].adrift)
        .collect();
    let Some(at) = world.chance.place(idle.len()) else { return };
    let (key, medium) = (world.inward[idle[at]].key, world.inward[idle[at]].medium);
    match world.inward[idle[at]].aim.clone() {
        Aim::Fd(fd) => one(world, key, medium, fd),
        Aim::Fixed(file) => one(world, key, medium, file),
    }
}

/// Begins an operation of this kind on the stream, if the life allows it.
fn begin(world: &mut World, key: u64, kind: &'static str) -> Option<About> {
    if !world.allows(kind) {
        return None;
    }
    let about = world.about(kind, Whose::Inward(key));
    world.inward_of(key)?.open_entry(about.number);
    Some(about)
}

fn one<F: Target + 'static>(world: &mut World, key: u64, medium: Medium, fd: F) {
    let pool = world.chance.place(world.pools.len());
    let bufs = pool.map(|at| world.pools[at].bufs.clone());
    let in_parts = pool.is_some_and(|at| world.pools[at].in_parts);
    match (medium, bufs, world.chance.below(10)) {
        (Medium::Pipe, Some(bufs), 0..=5) => {
            let Some(about) = begin(world, key, "read multi") else { return };
            ship_many(world, about, ReadMulti::new(fd, &bufs), carries_lease, ends);
        }
        (Medium::Pipe, ..) => own_from_pipe(world, key, fd),
        (Medium::UnixDatagram | Medium::Udp, Some(bufs), 0..=3) => {
            let kind = if in_parts { "message multi in parts" } else { "message multi" };
            let Some(about) = begin(world, key, kind) else { return };
            let op = RecvMsgMulti::new(fd, &bufs);
            let op = match world.chance.below(3) {
                0 => op.with_control(64),
                1 => op.with_address(),
                _ => op,
            };
            ship_many(world, about, op, carries_message, ends);
        }
        (_, Some(bufs), 4 | 5) => {
            let Some(about) = begin(world, key, "recv multi") else { return };
            ship_many(world, about, RecvMulti::new(fd, &bufs), carries_lease, ends);
        }
        (Medium::Unix | Medium::Tcp, Some(bufs), 6) => {
            let Some(about) = begin(world, key, "recv bundle multi") else { return };
            ship_many(world, about, RecvBundleMulti::new(fd, &bufs), carries_bundle, ends);
        }
        (Medium::Unix | Medium::Tcp, Some(bufs), 7) => {
            let Some(about) = begin(world, key, "recv bundle") else { return };
            let op = RecvBundle::new(fd, &bufs).flags(flags::selected(world));
            ship_once(world, about, op, ends_bundle);
        }
        (_, Some(bufs), 0..=3) => {
            let Some(about) = begin(world, key, "recv provided") else { return };
            let op = RecvProvided::new(fd, &bufs).flags(flags::selected(world));
            ship_once(world, about, op, ends_lease);
        }
        _ => own(world, key, medium, fd),
    }
}

/// A registered buffer, if there is one free.
fn fixed(world: &mut World) -> Option<FixedBuf> {
    world.fixed.as_ref()?.get()
}

fn own<F: Target + 'static>(world: &mut World, key: u64, medium: Medium, fd: F) {
    let size = 1 + world.chance.below(2 * world.size) as usize;
    if medium == Medium::UnixDatagram && world.chance.one_in(2) {
        let Some(about) = begin(world, key, "recv message") else { return };
        let op = RecvMsg::new(fd, [Vec::with_capacity(256)]).with(MsgHeader::new());
        return ship_once(world, about, op, ends_message);
    }
    match fixed(world).filter(|_| medium != Medium::Udp) {
        Some(buf) if world.chance.one_in(2) => {
            let Some(about) = begin(world, key, "recv fixed") else { return };
            let op = Recv::new(fd, buf).flags(flags::own(world));
            ship_once(world, about, op, ends_fixed);
        }
        _ => {
            let Some(about) = begin(world, key, "recv own") else { return };
            let op = Recv::new(fd, Vec::with_capacity(size)).flags(flags::own(world));
            ship_once(world, about, op, ends_own);
        }
    }
}

fn own_from_pipe<F: Target + 'static>(world: &mut World, key: u64, fd: F) {
    if let Some(buf) = fixed(world) {
        let Some(about) = begin(world, key, "read fixed") else { return };
        return ship_once(world, about, ReadFixed::new(fd, buf), ends_fixed);
    }
    let Some(about) = begin(world, key, "read own") else { return };
    ship_once(world, about, Read::new(fd, Vec::with_capacity(40)), ends_own);
}

/// A peer sends a descriptor with its bytes.
pub fn peer_sends_descriptor(world: &mut World) {
    let Some(mut aid) = world.aid.take() else { return };
    let count = 8 + world.chance.below(8) as usize;
    let at = world.chance.place(world.inward.len()).expect("one at least");
    if let Some((fd, bytes)) = world.inward[at].next_message(count) {
        let inward = &mut world.inward[at];
        let mut header = MsgHeader::new();
        assert!(header.attach(world.sentinels.copy()).is_ok());
        let op = SendMsg::new(fd, [bytes]).flags(SendFlags::DONT_WAIT).with(header);
        let ticket = aid.submit(op).expect("it is idle");
        if let Ok(sent) = aid.wait(ticket).expect("it does not wait").result {
            inward.note_sent(sent);
            let key = inward.key;
            world.say(|| format!("peer of {key} sends a descriptor"));
        }
    }
    world.aid = Some(aid);
}

/// Compares the received bytes, and holds the lease.
fn came(world: &mut World, about: &About, held: Held) {
    arrived(world, about, held.bytes());
    world.hold(held, about);
}

fn arrived(world: &mut World, about: &About, bytes: &[u8]) {
    let (number, len) = (about.number, bytes.len());
    world.say(|| format!("{number} carries {len}"));
    let Whose::Inward(key) = about.whose else { unreachable!("it receives") };
    let inward = world.inward_of(key).expect("it stays as long as the life");
    inward.arrived(number, bytes);
}

/// It completed without data: the end of the stream, unless that is impossible.
fn nothing(world: &mut World, about: &About) {
    let number = about.number;
    world.say(|| format!("{number} is the end"));
    let Whose::Inward(key) = about.whose else { unreachable!("it receives") };
    let inward = world.inward_of(key).expect("it stays as long as the life");
    if !inward.is_datagrams() {
        inward.at_end(number);
    }
}

fn carries_lease(world: &mut World, about: &About, item: std::io::Result<BufLease>) {
    match item {
        Ok(lease) => came(world, about, Held::Lease(lease)),
        Err(error) => world.failed(about, &error),
    }
}

fn carries_bundle(world: &mut World, about: &About, item: std::io::Result<Bundle>) {
    match item {
        Ok(bundle) => leases_of(world, about, bundle),
        Err(error) => world.failed(about, &error),
    }
}

/// All leases are compared before any is dropped, since a comparison may drop one.
fn leases_of(world: &mut World, about: &About, bundle: Bundle) {
    let (bytes, buffers) = (bundle.bytes(), bundle.buffers());
    let leases: Vec<BufLease> = bundle.collect();
    assert!(leases.len() == buffers, "a bundle of {buffers} has {}", leases.len());
    let there: usize = leases.iter().map(|lease| lease.len()).sum();
    assert!(there == bytes, "a bundle of {bytes} bytes has {there}");
    for lease in leases {
        came(world, about, Held::Lease(lease));
    }
}

fn carries_message(world: &mut World, about: &About, item: std::io::Result<Datagram>) {
    match item {
        Ok(mut message) => {
            for fd in message.take_descriptors() {
                world.sentinels.check_other(fd);
            }
            came(world, about, Held::Message(message));
        }
        Err(error) => world.failed(about, &error),
    }
}

fn ends<F, T>(world: &mut World, about: &About, ended: Ended<F, T>) {
    let number = about.number;
    world.say(|| format!("{number} ends: {:?}", ended.how));
    match ended.how {
        Ending::Eof => nothing(world, about),
        Ending::Failed(error) => world.failed(about, &error),
        _ => {}
    }
}

fn ends_lease<F>(world: &mut World, about: &About, out: Outcome<Option<BufLease>, F>) {
    match out.result {
        Ok(Some(lease)) => came(world, about, Held::Lease(lease)),
        Ok(None) => nothing(world, about),
        Err(error) => world.failed(about, &error),
    }
}

fn ends_bundle<F>(world: &mut World, about: &About, out: Outcome<Option<Bundle>, F>) {
    match out.result {
        Ok(Some(bundle)) => leases_of(world, about, bundle),
        Ok(None) => nothing(world, about),
        Err(error) => world.failed(about, &error),
    }
}

fn ends_fixed<F>(world: &mut World, about: &About, out: Outcome<usize, F, FixedBuf>) {
    match out.result {
        Ok(0) => nothing(world, about),
        Ok(count) => {
            assert!(out.buf.len() == count, "{count} bytes, and {} are filled", out.buf.len());
            came(world, about, Held::Fixed(out.buf));
        }
        Err(error) => world.failed(about, &error),
    }
}

fn ends_own<F>(world: &mut World, about: &About, out: Outcome<usize, F, Vec<u8>>) {
    match out.result {
        Ok(0) => nothing(world, about),
        Ok(count) => {
            assert!(out.buf.len() == count, "{count} bytes, and {} are filled", out.buf.len());
            arrived(world, about, &out.buf);
            world.tally.borrow_mut().resource(about.kind);
        }
        Err(error) => world.failed(about, &error),
    }
}

type Letter = ([Vec<u8>; 1], Box<MsgHeader>);

fn ends_message<F>(world: &mut World, about: &About, out: Outcome<Received, F, Letter>) {
    let ([bytes], mut header) = out.buf;
    let descriptors: Vec<OwnedFd> = header.take_descriptors();
    for fd in descriptors {
        world.sentinels.check_other(fd);
    }
    match out.result {
        Ok(received) if received.bytes == 0 => nothing(world, about),
        Ok(_) => {
            arrived(world, about, &bytes);
            world.tally.borrow_mut().resource(about.kind);
        }
        Err(error) => world.failed(about, &error),
    }
}

/// Submits, after a polling thread has made room.
fn submit_at_last<O: Op + 'static>(world: &mut World, mut op: O) -> Ticket<O> {
    loop {
        let rejected = match world.ring.submit(op) {
            Ok(ticket) => return ticket,
            Err(rejected) => rejected,
        };
        assert!(rejected.why == Rejection::QueueFull, "all has ended: {}", rejected.why);
        std::thread::yield_now();
        op = rejected.op;
    }
}

/// Fills all of a pool's buffers, by plain receives, and returns how many bytes they took.
pub fn fill(world: &mut World, at: usize) -> (usize, Vec<BufLease>) {
    use std::io::Write as _;
    let bufs = world.pools[at].bufs.clone();
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let size = bufs.buffer_size() as usize;
    theirs.write_all(&vec![0; size * (bufs.count() + 1)]).expect("room");
    let ours = Rc::new(OwnedFd::from(ours));
    let mut leases = Vec::new();
    for _ in 0..=2 * bufs.count() {
        let op = RecvProvided::new(Rc::clone(&ours), &bufs);
        let ticket = submit_at_last(world, op);
        match world.ring.wait(ticket).expect("data, or no buffer").result {
            Ok(Some(lease)) => leases.push(lease),
            Ok(None) => panic!("pool {at}: a receive says the end, and there is data"),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => break,
            Err(error) => panic!("pool {at}: {error}"),
        }
    }
    (leases.iter().map(|lease| lease.len()).sum(), leases)
}
