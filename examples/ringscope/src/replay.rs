//! A replay: frames of the records of a run, which may have been a real one.
//!
//! ```text
//!   enter ─► frame: what the program has published
//!            frame: what the kernel has done, until it returned
//!   else ──► frame: what happened between two enters
//! ```
//!
//! What a program wrote shows only when it enters, since nothing is recorded before.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use annulus::sim::trace::{RequestId, What};
use annulus::sys::errno::Errno;
use annulus::sys::opcode::Opcode;

use crate::frame::{Film, Frame};
use crate::lint::Linter;
use crate::model::{Place, Ring, named, size, tag};
use crate::records::Said;

/// Which part of a run.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub ring: usize,
    /// How many entries its queues have, if no record says so.
    pub entries: Option<(u32, u32)>,
    /// So many frames are left out, and so many shown.
    pub skip: usize,
    pub limit: usize,
}

/// Which requests there are, as all records together say.
#[derive(Debug, Default)]
struct Numbers {
    /// The numbers of the requests that were consumed when this record was made.
    taken: BTreeMap<usize, Range<RequestId>>,
    began: BTreeMap<RequestId, (Opcode, u32)>,
}

impl Numbers {
    /// Entries are numbered as they are consumed, those of all rings together. An enter says how
    /// many it consumed; on a ring with a polling thread, that thread does.
    fn of(said: &[Said]) -> Self {
        let mut numbers = Self::default();
        let is_polled = |ring: Option<usize>| {
            let mut of_ring = said.iter().filter(|said| said.record.ring == ring);
            of_ring.any(|said| matches!(said.record.what, What::Polled(_) | What::Slept))
        };
        let rings: BTreeSet<Option<usize>> = said.iter().map(|said| said.record.ring).collect();
        let polled: BTreeSet<Option<usize>> =
            rings.into_iter().filter(|&ring| is_polled(ring)).collect();
        let (mut next, mut seen) = (1, 1);
        for (at, said) in said.iter().enumerate() {
            let count = match said.record.what {
                What::Began(id, opcode, bytes, _) => {
                    numbers.began.insert(id, (opcode, bytes));
                    seen = seen.max(id.saturating_add(1));
                    continue;
                }
                What::Polled(count) => count,
                What::Returned(Ok(count)) if !polled.contains(&said.record.ring) => count,
                _ => continue,
            };
            // Where the beginning is missing, the last one that has begun says where they are.
            let first = next.max(seen.saturating_sub(count));
            numbers.taken.insert(at, first..first.saturating_add(count));
            next = first.saturating_add(count).max(seen);
        }
        numbers
    }

    /// The name of a request, and the buffer that it lends.
    fn name(&self, id: RequestId) -> (String, Option<String>) {
        match self.began.get(&id) {
            Some(&(opcode, bytes)) => {
                (format!("#{id} {}", named(opcode)), (bytes > 0).then(|| size(bytes)))
            }
            None => (format!("#{id}, never begun"), None),
        }
    }
}

struct Replay {
    numbers: Numbers,
    ring: Ring,
    before: Ring,
    linter: Linter,
    frames: Vec<Frame>,
    records: Vec<String>,
    marks: Vec<String>,
}

/// The frames of a run.
///
/// # Errors
///
/// There are no records of that ring, from its making on.
pub fn film(name: &str, said: &[Said], part: Part) -> Result<Film, String> {
    let is_of_ring =
        |(_, said): &(usize, &Said)| said.record.ring.is_none_or(|ring| ring == part.ring);
    let of_ring: Vec<(usize, &Said)> = said.iter().enumerate().filter(is_of_ring).collect();
    let made = of_ring.iter().position(|(_, said)| matches!(said.record.what, What::Made(..)));
    let (made, (sq, cq)) = match (made, part.entries) {
        (Some(made), _) => {
            let What::Made(sq, cq) = of_ring[made].1.record.what else { unreachable!("found") };
            (made, (sq, cq))
        }
        (None, Some(entries)) if !of_ring.is_empty() => (0, entries),
        (None, _) => {
            let (count, ring) = (said.len(), part.ring);
            return Err(format!(
                "{count} records, and none says how ring {ring} was made; if the beginning is \
                 missing, give --entries SQ,CQ"
            ));
        }
    };
    let ring = Ring::new(sq, cq, 0);
    let mut replay = Replay {
        numbers: Numbers::of(said),
        before: ring.clone(),
        ring,
        linter: Linter::default(),
        frames: Vec::new(),
        records: Vec::new(),
        marks: Vec::new(),
    };
    replay.play(&of_ring[made..]);
    let Replay { frames, .. } = replay;
    let count = frames.len();
    let frames: Vec<Frame> = frames.into_iter().skip(part.skip).take(part.limit).collect();
    if frames.is_empty() {
        return Err(format!("there are {count} frames, and {} are left out", part.skip));
    }
    let title = if frames.len() < count {
        let (from, to) = (part.skip + 1, part.skip + frames.len());
        format!("{name}, ring {}: frames {from} to {to} of {count}", part.ring)
    } else {
        format!("{name}, ring {}", part.ring)
    };
    Ok(Film { name: name.into(), title, frames })
}

impl Replay {
    fn play(&mut self, said: &[(usize, &Said)]) {
        let mut at = 0;
        while at < said.len() {
            let from = at;
            let what = match said[at].1.record.what {
                What::Made(sq, cq) => {
                    self.happens(said[at].1);
                    at += 1;
                    format!("A ring of {sq} and {cq} entries.")
                }
                What::Entered(submits, wants) => {
                    let end = said[at..].iter().position(|(_, said)| is_return(&said.record.what));
                    let end = end.map_or(said.len(), |end| at + end + 1);
                    self.write_ahead(&said[at..end]);
                    self.happens(said[at].1);
                    self.end_frame(entered(submits, wants));
                    said[at + 1..end].iter().for_each(|(_, said)| self.happens(said));
                    at = end;
                    self.summary(&said[from + 1..end])
                }
                _ => {
                    let is_other = |(_, said): &&(usize, &Said)| {
                        !matches!(said.record.what, What::Entered(..) | What::Made(..))
                    };
                    let count = said[at..].iter().take_while(is_other).count();
                    self.write_ahead(&said[at..at + count]);
                    said[at..at + count].iter().for_each(|(_, said)| self.happens(said));
                    at += count;
                    self.summary(&said[from..at])
                }
            };
            self.end_frame(what);
        }
    }

    /// Writes the entries that the kernel is about to take.
    fn write_ahead(&mut self, said: &[(usize, &Said)]) {
        for (at, _) in said {
            for id in self.numbers.taken.get(at).cloned().unwrap_or(0..0) {
                if self.ring.find(id).is_none() {
                    let (name, buffer) = self.numbers.name(id);
                    self.ring.write(id, &name, buffer.as_deref());
                }
            }
        }
    }

    fn happens(&mut self, said: &Said) {
        self.marks.extend(self.linter.look(&said.record));
        self.ring.happens(&said.record.what);
        self.records.push(said.line.clone());
    }

    fn end_frame(&mut self, what: String) {
        let after = self.ring.clone();
        let before = std::mem::replace(&mut self.before, after.clone());
        let (records, marks) = (std::mem::take(&mut self.records), std::mem::take(&mut self.marks));
        self.frames.push(Frame {
            what,
            code: String::new(),
            records,
            marks,
            before,
            after,
            counts_calls: true,
        });
        // A long run has thousands of requests; those that are over are shown once more.
        self.forget();
    }

    /// Lets go of results that no picture shows.
    fn forget(&mut self) {
        for request in &mut self.ring.requests {
            if request.place == Place::Taken && request.results.len() > 4 {
                request.results.drain(..request.results.len() - 4);
            }
        }
    }

    /// A sentence on what the records say.
    fn summary(&self, said: &[(usize, &Said)]) -> String {
        let mut parts = Vec::new();
        let mut done = Vec::new();
        for (_, said) in said {
            match &said.record.what {
                What::Posted(id, res, _) => {
                    let letter = self.ring.find(*id).map_or("a message".into(), tag);
                    done.push(format!("{letter} = {res}"));
                }
                What::Taken(1) => parts.push("The program takes a completion.".into()),
                What::Taken(count) => {
                    parts.push(format!("The program takes {count} completions."));
                }
                What::Returned(Ok(1)) => parts.push("The kernel consumes an entry.".into()),
                What::Returned(Ok(count)) if *count > 1 => {
                    parts.push(format!("The kernel consumes {count} entries."));
                }
                What::Returned(Err(errno)) => {
                    parts.push(format!("The enter fails: {}.", Errno::new(*errno)))
                }
                What::Polled(count) => parts.push(format!("The thread consumes {count}.")),
                What::Slept => parts.push("The thread falls asleep.".into()),
                What::Woken => parts.push("The thread wakes.".into()),
                What::Outside(..) => parts.push("Somebody else acts.".into()),
                What::Closed(left) => parts.push(format!("The ring closes: {left} in flight.")),
                _ => {}
            }
        }
        if done.len() > 6 {
            let more = done.len() - 5;
            done.truncate(5);
            done.push(format!("{more} more"));
        }
        if !done.is_empty() {
            parts.push(format!("Complete: {}.", done.join(", ")));
        }
        if parts.is_empty() { "Nothing that shows.".into() } else { parts.join(" ") }
    }
}

fn is_return(what: &What) -> bool {
    matches!(what, What::Returned(_))
}

fn entered(submits: u32, wants: u32) -> String {
    let entries = match submits {
        0 => "without entries".into(),
        1 => "with one entry".into(),
        count => format!("with {count} entries"),
    };
    let wait = match wants {
        0 => String::new(),
        1 => ", and waits for a completion".into(),
        count => format!(", and waits for {count} completions"),
    };
    format!("The program enters the kernel {entries}{wait}.")
}

/// All marks of a run, with their times.
pub fn marks(said: &[Said]) -> Vec<String> {
    let mut linter = Linter::default();
    let marked = said.iter().filter_map(|said| {
        let mark = linter.look(&said.record)?;
        let ring = said.record.ring.map_or(String::new(), |ring| format!(" ring {ring}:"));
        Some(format!("{:12.6}{ring} {mark}", said.record.at.as_secs_f64()))
    });
    marked.collect()
}

#[cfg(test)]
mod tests {
    use annulus::op::{Nop, Read, Write};
    use annulus::sim::{Faults, Sim};
    use annulus::{RawRing, Setup};

    use super::*;
    use crate::records;
    use crate::stories::STORIES;

    const ALL: Part = Part { ring: 0, entries: None, skip: 0, limit: usize::MAX };

    fn indices(ring: &Ring) -> [u32; 4] {
        [ring.sq_head, ring.sq_tail, ring.cq_head, ring.cq_tail]
    }

    #[test]
    fn a_replay_of_a_story_ends_where_the_story_ends() {
        for story in STORIES {
            let film = story.film().expect(story.name);
            let start = film.frames[0].before.sq_head;
            let lines: Vec<String> =
                film.frames.iter().flat_map(|frame| frame.records.clone()).collect();
            let said = records::read(&lines.join("\n"));
            let again = self::film(story.name, &said, ALL).expect(story.name);
            let (last, wanted) = (again.frames.last(), film.frames.last());
            let (last, wanted) = (&last.expect("one").after, &wanted.expect("one").after);
            let wanted_indices = indices(wanted).map(|index| index.wrapping_sub(start));
            assert_eq!(indices(last), wanted_indices, "{}", story.name);
            let places = |ring: &Ring| ring.requests.iter().map(|it| it.place).collect::<Vec<_>>();
            assert_eq!(places(last), places(wanted), "{}", story.name);
        }
    }

    /// A program with chains that break and completions that wait. Its errors do not matter.
    fn run(sim: &Sim, setup: Setup<'static>) -> Option<[u32; 4]> {
        let mut ring = setup.kernel(sim.kernel()).build().ok()?;
        let at = |raw: &RawRing| {
            let at = raw.positions();
            [at.sq_head, at.sq_tail, at.cq_head, at.cq_tail].map(annulus::sys::index::Index::to_raw)
        };
        let start = at(ring.raw())[0];
        for round in 0..6 {
            let (pipe, peer) = sim.pipe().ok()?;
            let chain = (Write::new(peer, b"abc"), Read::new(pipe, [0; 4]), Nop);
            let _ = ring.submit_chain(chain);
            let _ = ring.submit(Nop);
            let _ = ring.submit_and_wait(round % 3);
            let _ = ring.reap(|_| {});
        }
        let _ = sim.report();
        Some(at(ring.raw()).map(|index| index.wrapping_sub(start)))
    }

    #[test]
    fn any_run_is_replayed_to_the_indices_of_its_ring() {
        let mut count = 0;
        for seed in 0..300 {
            let sim = Sim::with_faults(seed, Faults { delay: 300, setup: 0, ..Faults::SOME });
            let Some(wanted) = run(&sim, Setup::plain(4)) else { continue };
            // After its end the ring goes away, which is recorded, too.
            let lines: Vec<String> = sim.trace().iter().map(ToString::to_string).collect();
            let said = records::read(&lines.join("\n"));
            assert_eq!(said.len(), lines.len(), "seed {seed}");
            let film = film("run", &said, ALL).expect("a ring");
            let ends = film.frames.iter().any(|frame| indices(&frame.after) == wanted);
            assert!(ends, "seed {seed}: never at {wanted:?}\n{}", lines.join("\n"));
            count += 1;
        }
        assert!(count > 250, "{count}");
    }

    #[test]
    fn a_run_whose_beginning_is_missing_is_replayed_from_there() {
        let mut count = 0;
        for seed in 0..20 {
            let sim = Sim::with_faults(seed, Faults { delay: 300, setup: 0, ..Faults::SOME });
            let Some(_) = run(&sim, Setup::plain(4)) else { continue };
            let trace = sim.trace();
            let part = Part { entries: Some((4, 8)), ..ALL };
            for cut in 1..trace.len() {
                let lines: Vec<String> = trace[cut..].iter().map(ToString::to_string).collect();
                let said = records::read(&lines.join("\n"));
                let Ok(film) = film("run", &said, part) else { continue };
                for frame in &film.frames {
                    let [sq_head, sq_tail, cq_head, cq_tail] = indices(&frame.after);
                    let what = &frame.what;
                    assert!(sq_tail.wrapping_sub(sq_head) <= 4, "seed {seed}, {cut}: {what}");
                    assert!(cq_tail.wrapping_sub(cq_head) <= 8, "seed {seed}, {cut}: {what}");
                    count += 1;
                }
            }
        }
        assert!(count > 1000, "{count}");
        let late = records::read("0.000000 ring 0: enter returns 3");
        assert!(film("run", &late, ALL).is_err_and(|text| text.contains("--entries")));
    }
}
