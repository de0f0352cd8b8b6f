//! The end of a life: everything ends, comes back, and is counted.
//!
//! ```text
//!   cancel all ─► redeem all ─► drop all ─► every buffer can be filled ─► no descriptor more
//! ```

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use annulus::op::Cancel;
use annulus::raw::register::CancelNow;

use crate::claims::reap;
use crate::files::Listener;
use crate::receives;
use crate::streams::Inward;
use crate::world::World;

/// How many rounds all operations have to end, and how long: a polling thread may get no processor
/// for a while.
const TURNS: u32 = 10_000;
const A_WHILE: Duration = Duration::from_secs(60);

/// Ends a life, one way or another.
pub fn end(mut world: World) {
    if world.rude {
        return leave(world);
    }
    record(&mut world);
    streams_are_whole(&mut world);
    while !world.held.is_empty() {
        world.let_go();
        world.check();
    }
    everything_came_back(&mut world);
    for at in 0..world.pools.len() {
        pool_is_whole(&mut world, at);
    }
    goes(world);
}

/// The ring is dropped while operations are in flight, and held leases stay as they are.
fn leave(mut world: World) {
    world.say(|| "the ring goes".to_owned());
    let claims = std::mem::take(&mut world.claims);
    drop(claims);
    let held = std::mem::take(&mut world.held);
    goes(world);
    held.iter().for_each(crate::watch::Watched::check);
}

fn goes(world: World) {
    let World { ring, .. } = world;
    if let Err(undrained) = ring.shutdown(Duration::from_secs(20)) {
        panic!("{undrained}");
    }
}

/// Cancels all operations, until they have ended.
fn record(world: &mut World) {
    world.say(|| "settle".to_owned());
    let started = Instant::now();
    for turn in 0_u32.. {
        if turn >= TURNS && started.elapsed() > A_WHILE {
            break;
        }
        if turn % 16 == 0 {
            for _ in 0..world.claims.len() {
                // Each claim goes to the back.
                world.cancel_at(0);
            }
        }
        call_in(world);
        world.turn();
        if turn % 8 == 7 {
            // Worker threads must run too.
            std::thread::sleep(Duration::from_micros(500));
        }
        for _ in 0..world.claims.len() {
            let Some(at) = world.chance.place(world.claims.len()) else { break };
            let claim = world.claims.swap_remove(at);
            let back = claim.take(world);
            world.claims.extend(back);
        }
        // Peers that do not read hold up sends.
        for outward in &mut world.outward {
            outward.read(4096);
        }
        world.check();
        if world.claims.is_empty() && world.ring.in_flight() == 0 {
            return;
        }
    }
    let left: Vec<_> = world.claims.iter().map(|claim| claim.about()).collect();
    // What Linux says of the ring: what it polls, and what it has not posted.
    let fd = world.ring.raw().as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    println!("{info}");
    panic!("no end after {TURNS} turns: {} in flight, {left:?}", world.ring.in_flight());
}

/// Ends detached operations that wait for connections or datagrams: each single-shot one gets one,
/// and multishot ones are cancelled with all others (since Linux 5.19, like the cancel itself).
fn call_in(world: &mut World) {
    let adrift = |inward: &&Inward| inward.adrift && inward.is_datagrams();
    let sockets = world.inward.iter().filter(adrift).map(Inward::poke).count();
    let listener = world.listener.as_mut().filter(|listener| listener.adrift);
    let listeners = listener.into_iter().map(Listener::connect).count();
    // Linux 6.18 does not tell a multishot receive with `ASYNC` that its peer has closed.
    // What it holds back by a drain cannot end before it.
    let others_end = world.claims.is_empty() || world.holds_back;
    let left_alone = others_end && world.ring.in_flight() > 0;
    if sockets + listeners == 0 && !left_alone {
        return;
    }
    if world.holds_back {
        // An entry would be held back, too.
        let cancelled = world.ring.raw().cancel_now(&CancelNow::any());
        assert!(cancelled.is_ok(), "{cancelled:?}");
    } else if let Ok(ticket) = world.ring.submit(Cancel::any()) {
        world.ring.detach(ticket);
    }
}

fn streams_are_whole(world: &mut World) {
    world.say(|| "all has ended".to_owned());
    for inward in std::mem::take(&mut world.inward) {
        inward.finish();
    }
    for outward in std::mem::take(&mut world.outward) {
        outward.finish();
    }
    world.files.clear();
    if let Some(listener) = world.listener.take() {
        listener.finish();
    }
}

fn everything_came_back(world: &mut World) {
    reap(world);
    let (vacant, slots) = (world.ring.vacant(), world.slots);
    assert!(vacant == slots, "OP2: {vacant} of {slots} slots are vacant");
    let stale = world.ring.stale();
    assert!(stale == 0, "OP2: {stale} completions named nothing in flight");
    for (at, pool) in world.pools.iter().enumerate() {
        let leased = pool.bufs.leased();
        assert!(leased == 0, "BR1: {leased} buffers of pool {at} are leased, without a lease");
    }
    if let Some(pool) = &world.fixed {
        let (free, count) = (pool.available(), usize::from(pool.count()));
        assert!(free == count, "{free} of {count} registered buffers are free");
    }
    if let Some(arrivals) = world.arrivals.take() {
        arrivals.finish();
    }
    if let Some(table) = &world.table {
        let (held, lost) = (table.held(), table.lost());
        assert!(held == 0, "{held} slots of the table are held, without a lease");
        assert!(lost == 0, "{lost} places of the table are lost");
    }
}

/// Every buffer of a pool can be filled again.
fn pool_is_whole(world: &mut World, at: usize) {
    let bufs = &world.pools[at].bufs;
    let (count, size) = (bufs.count(), bufs.buffer_size() as usize);
    let (parts, all) = (world.pools[at].in_parts, count * size);
    // A buffer that was used in part is used up first.
    let (first, leases) = receives::fill(world, at);
    drop(leases);
    let most = if parts { all - size + 1..=all } else { all..=all };
    assert!(most.contains(&first), "BR1: pool {at}, in parts: {parts}: {first} of {all} bytes fit");
    let (again, leases) = receives::fill(world, at);
    assert!(again == all, "BR1: pool {at}, in parts: {parts}: {again} of {all} bytes fit again");
    drop(leases);
    let leased = world.pools[at].bufs.leased();
    assert!(leased == 0, "BR1: {leased} buffers of pool {at} are leased, without a lease");
}
