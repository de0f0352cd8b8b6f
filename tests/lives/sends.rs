//! Sends: with a copy and without, of the caller's own bytes, of registered buffers, of leases, of
//! send rings.

use annulus::lease::{BufLease, FixedBuf, SendRing};
use annulus::op::{
    Outcome, Send, SendBundle, SendMsg, SendZc, SendZcFixed, Sent, Target, Write, WriteFixed,
};

use crate::claims::{About, Whose, ship_many, ship_once};
use crate::flags;
use crate::streams::{Aim, Medium, bytes};
use crate::watch::Held;
use crate::world::World;

/// Submits a send on a stream that has none in flight.
pub fn any(world: &mut World) {
    let idle: Vec<usize> = (0..world.outward.len())
        .filter(|&at| world.outward[at].busy.is_none() && !world.outward[at].adrift)
        .collect();
    let Some(at) = world.chance.place(idle.len()) else { return };
    let (key, medium) = (world.outward[idle[at]].key, world.outward[idle[at]].medium);
    match world.outward[idle[at]].aim.clone() {
        Aim::Fd(fd) => one(world, key, medium, fd),
        Aim::Fixed(file) => one(world, key, medium, file),
    }
}

/// Begins an operation of this kind on the stream, if the life allows it.
fn begin(world: &mut World, key: u64, kind: &'static str) -> Option<(About, u64)> {
    if !world.allows(kind) {
        return None;
    }
    let about = world.about(kind, Whose::Outward(key));
    let outward = world.outward.iter_mut().find(|outward| outward.key == key)?;
    outward.busy = Some(about.number);
    Some((about, outward.next))
}

fn one<F: Target + 'static>(world: &mut World, key: u64, medium: Medium, fd: F) {
    let len = 1 + world.chance.below(200) as usize;
    match (medium, world.chance.below(9)) {
        (Medium::Pipe, 0..=3) => {
            let Some(buf) = world.fixed.as_ref().and_then(|pool| pool.get()) else { return };
            let Some((about, at)) = begin(world, key, "write fixed") else { return };
            let buf = fill(buf, key, at);
            ship_once(world, about, WriteFixed::new(fd, buf), sent_fixed);
        }
        (Medium::Pipe, _) => {
            let Some((about, at)) = begin(world, key, "write") else { return };
            ship_once(world, about, Write::new(fd, bytes(key, at, len)), sent);
        }
        (_, 0..=1) => lease(world, key, fd),
        (_, 2..=3) => bundle(world, key, fd),
        (_, 4) => {
            let Some((about, at)) = begin(world, key, "send message") else { return };
            let (head, tail) = (bytes(key, at, len), bytes(key, at + len as u64, 5));
            let op = SendMsg::new(fd, (head, tail)).flags(flags::send(world));
            ship_once(world, about, op, sent);
        }
        (_, 5) => {
            let Some((about, at)) = begin(world, key, "send zero-copy") else { return };
            let op = SendZc::new(fd, bytes(key, at, len)).flags(flags::send(world));
            ship_many(world, about, op, |_, _, _| {}, sent_zc);
        }
        (_, 6) => {
            let Some(buf) = world.fixed.as_ref().and_then(|pool| pool.get()) else { return };
            let Some((about, at)) = begin(world, key, "send zero-copy fixed") else { return };
            let op = SendZcFixed::new(fd, fill(buf, key, at)).flags(flags::send(world));
            ship_many(world, about, op, |_, _, _| {}, sent_zc);
        }
        _ => {
            let Some((about, at)) = begin(world, key, "send") else { return };
            let op = Send::new(fd, bytes(key, at, len)).flags(flags::send(world));
            ship_once(world, about, op, sent);
        }
    }
}

/// Writes the next bytes of a stream into a registered buffer.
fn fill(mut buf: FixedBuf, key: u64, at: u64) -> FixedBuf {
    let capacity = buf.capacity();
    buf.set_len(capacity);
    buf.copy_from_slice(&bytes(key, at, capacity));
    buf
}

/// Sends a held lease, with other bytes in it.
fn lease<F: Target + 'static>(world: &mut World, key: u64, fd: F) {
    let leases = world.held.iter().position(|watched| matches!(watched.held, Held::Lease(_)));
    let Some(at) = leases else { return };
    if !world.allows("send lease") {
        return;
    }
    let watched = world.held.swap_remove(at);
    watched.check();
    let Held::Lease(mut lease) = watched.held else { unreachable!("it is a lease") };
    let Some((about, at)) = begin(world, key, "send lease") else { return };
    let len = lease.len();
    lease.copy_from_slice(&bytes(key, at, len));
    let op = Send::new(fd, lease).flags(flags::send(world));
    ship_once(world, about, op, sent_lease);
}

/// Sends the queued buffers of the send ring.
fn bundle<F: Target + 'static>(world: &mut World, key: u64, fd: F) {
    if !world.allows("send bundle") {
        return;
    }
    let Some(ring) = world.send.take() else { return };
    let Some((about, at)) = begin(world, key, "send bundle") else { return };
    let mut at = at;
    for _ in 0..world.chance.below(5) {
        let Some(mut buf) = ring.get() else { break };
        let len = 1 + world.chance.below(32) as usize;
        buf.set_len(len);
        buf.copy_from_slice(&bytes(key, at, len));
        at += len as u64;
        buf.queue();
    }
    let op = SendBundle::new(fd, ring).flags(flags::send(world));
    ship_many(world, about, op, |_, _, _| {}, sent_bundle);
}

/// So many bytes were sent.
fn went(world: &mut World, about: &About, result: std::io::Result<usize>) {
    match result {
        Ok(count) => {
            let number = about.number;
            world.say(|| format!("{number} sent {count}"));
            let Whose::Outward(key) = about.whose else { unreachable!("it sends") };
            let outward = world.outward.iter_mut().find(|outward| outward.key == key);
            outward.expect("it stays as long as the life").next += count as u64;
            world.tally.borrow_mut().resource(about.kind);
        }
        Err(error) => world.failed(about, &error),
    }
}

fn sent<F, B>(world: &mut World, about: &About, out: Outcome<usize, F, B>) {
    went(world, about, out.result);
}

fn sent_fixed<F>(world: &mut World, about: &About, out: Outcome<usize, F, FixedBuf>) {
    went(world, about, out.result);
}

fn sent_lease<F>(world: &mut World, about: &About, out: Outcome<usize, F, BufLease>) {
    went(world, about, out.result);
    world.hold(Held::Lease(out.buf), about);
}

fn sent_zc<F, B>(world: &mut World, about: &About, out: Outcome<Sent, F, B>) {
    went(world, about, out.result.map(|sent| sent.bytes));
}

/// Buffers that were not sent stay queued, and would go out on any stream: so the send ring is
/// dropped, unless all was sent.
fn sent_bundle<F>(world: &mut World, about: &About, out: Outcome<usize, F, SendRing>) {
    went(world, about, out.result);
    let left = out.buf.queue().bytes();
    if left == 0 {
        let queue = out.buf.queue();
        let (free, count) = (queue.available(), queue.count());
        assert!(free == count, "BR1: {free} of {count} buffers to send are free");
        world.send = Some(out.buf);
    } else {
        drop(out.buf);
        world.queue = None;
        world.send = world.ring.send_ring(4, 32).ok();
        world.queue = world.send.as_ref().map(SendRing::queue);
    }
}
