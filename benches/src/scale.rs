//! What a NOP costs with many operations in flight, and in a large ring.
//!
//! ```text
//!   N in flight                       push N,   submit and wait for N,   take N;  a ring of N
//!   a ring of N, with 64 in flight    push 64,  submit and wait for 64,  take 64;  a ring of N
//! ```
//!
//! Work for an operation that grows with the number of operations shows as a slope. What caches
//! cost shows too: 32,768 entries and completions take 2.5 MiB, and slots of operations more.

use annulus::op::Nop;
use annulus::raw::RawRing;
use annulus::sys::abi::Sqe;
use annulus::sys::opcode::Opcode;
use annulus::{EventLoop, Ring, Setup};

use crate::measure::{Contender, Measured, race};
use crate::table::Report;

/// In flight in a ring that is larger than that.
const FEW: u32 = 64;

/// How many entries a ring has, and how many operations are in flight in it.
#[derive(Debug, Clone, Copy)]
struct Shape {
    entries: u32,
    flying: u32,
}

pub fn run(sizes: &[u32], samples: u32) -> Report {
    let section = |shape| race(contenders(shape), 20, samples);
    let mut sections: Vec<(String, Vec<Measured>)> = Vec::new();
    let mut notes = Vec::new();
    for is_full in [true, false] {
        let mut found = Vec::new();
        for &entries in sizes {
            let flying = if is_full { entries } else { entries.min(FEW) };
            found.push((entries, section(Shape { entries, flying })));
        }
        let of = if is_full { "the operations in flight" } else { "the entries of the ring" };
        notes.extend(slopes(&found).map(|(name, slope)| {
            format!("{name}: {slope:+.2} ns of CPU time for each doubling of {of}")
        }));
        sections.extend(found.into_iter().map(|(count, rows)| match is_full {
            true => (format!("{count} in flight"), rows),
            false => (format!("{count} entries, {FEW} in flight"), rows),
        }));
    }
    notes.push("slopes are fitted to the medians, by least squares".to_owned());
    Report { title: "NOPs, many in flight", unit: "NOP", sections, notes }
}

/// The slope of the CPU time of each contender, in nanoseconds a doubling of the count.
fn slopes(found: &[(u32, Vec<Measured>)]) -> impl Iterator<Item = (&str, f64)> {
    let names = found.first().map_or(&[][..], |(_, rows)| rows).iter().map(|row| row.name.as_str());
    let points = |at: usize| found.iter().map(move |(count, rows)| (count, rows[at].cpu.median));
    names.enumerate().map(move |(at, name)| {
        let points: Vec<_> =
            points(at).map(|(&count, cpu)| (f64::from(count).log2(), cpu)).collect();
        (name, slope(&points))
    })
}

/// The slope of the line that is nearest to `points`, by least squares; 0 for a single one.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let wide: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if wide > 0.0 { both / wide } else { 0.0 }
}

/// Each makes its ring once; the rings of the others stay idle meanwhile.
fn contenders(shape: Shape) -> Vec<Contender<'static>> {
    vec![raw(shape), safe(shape), event_loop(shape), peer(shape)]
}

/// A contender whose `round` pushes so many, waits and takes, and returns how many it took. The
/// last round of a sample is of what is left.
fn contender(
    name: &'static str,
    shape: Shape,
    mut round: impl FnMut(u32) -> u64 + 'static,
) -> Contender<'static> {
    Contender::new(name, move |count| {
        let mut left = count;
        while left > 0 {
            let flying = u32::try_from(left).map_or(shape.flying, |left| left.min(shape.flying));
            assert_eq!(round(flying), u64::from(flying), "{name} lost or repeated completions");
            left -= u64::from(flying);
        }
    })
}

fn raw(shape: Shape) -> Contender<'static> {
    let mut ring: RawRing = Setup::new(shape.entries).build_raw().expect("a ring");
    contender("annulus, raw", shape, move |flying| {
        for _ in 0..flying {
            let nop = Sqe { opcode: Opcode::NOP, fd: -1, user_data: 1, ..Sqe::ZERO };
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop) }.expect("room");
        }
        let mut sum = 0;
        ring.turn(flying, |cqe| sum += cqe.user_data).expect("a turn");
        sum
    })
}

fn safe(shape: Shape) -> Contender<'static> {
    let mut ring: Ring = Setup::new(shape.entries).build().expect("a ring");
    let mut tickets = Vec::with_capacity(shape.flying as usize);
    contender("annulus, safe tickets", shape, move |flying| {
        tickets.extend((0..flying).map(|_| ring.submit(Nop).expect("room")));
        ring.submit_and_wait(flying).expect("submit");
        ring.reap(|_| {}).expect("reap");
        let taken = tickets.drain(..).map(|ticket| {
            ring.try_take(ticket).expect("it has completed").expect("a NOP succeeds");
        });
        taken.count() as u64
    })
}

fn event_loop(shape: Shape) -> Contender<'static> {
    let ring = Setup::new(shape.entries).build_for().expect("a ring");
    let mut events = EventLoop::new(ring, 0_u64);
    contender("annulus, event loop", shape, move |flying| {
        events.state = 0;
        for _ in 0..flying {
            let submitted = events.io().submit(Nop, |io, done| {
                *io.state += 1;
                done.map(drop)
            });
            submitted.expect("room");
        }
        events.run(|_, error| panic!("{error}")).expect("submit");
        events.state
    })
}

fn peer(shape: Shape) -> Contender<'static> {
    let mut builder = io_uring::IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut ring: io_uring::IoUring =
        builder.setup_submit_all().build(shape.entries).expect("a ring");
    contender("io-uring", shape, move |flying| {
        let mut sq = ring.submission();
        for _ in 0..flying {
            // SAFETY: a NOP points to nothing.
            unsafe { sq.push(&io_uring::opcode::Nop::new().build().user_data(1)) }.expect("room");
        }
        drop(sq);
        ring.submit_and_wait(flying as usize).expect("submit");
        ring.completion().map(|cqe| cqe.user_data()).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_line_has_its_own_slope_and_a_point_has_none() {
        assert_eq!(slope(&[(6.0, 30.0), (8.0, 33.0), (10.0, 36.0)]), 1.5);
        assert_eq!(slope(&[(6.0, 30.0)]), 0.0);
    }
}
