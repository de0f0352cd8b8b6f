//! A replay: frames of the records of a run, which may have been a real one.
//!
//! ```text
//!   enter ─► frame: what the program has published
//!            frame: what the kernel has done, until it returned
//!   else ──► frame: what happened between two enters
//! ```
//!
//! What a program wrote shows only when it enters, since nothing is recorded before.

use annulus::sim::trace::What;
use annulus::sys::errno::Errno;

use crate::frame::{Film, Frame};
use crate::lint::Linter;
use crate::model::{Place, Ring, named, tag};
use crate::records::Said;

/// Which part of a run.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub ring: usize,
    /// So many frames are left out, and so many shown.
    pub skip: usize,
    pub limit: usize,
}

struct Replay {
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
    let is_of_ring = |said: &&Said| said.record.ring.is_none_or(|ring| ring == part.ring);
    let of_ring: Vec<&Said> = said.iter().filter(is_of_ring).collect();
    let made = of_ring.iter().position(|said| matches!(said.record.what, What::Made(..)));
    let Some(made) = made else {
        let count = said.len();
        let ring = part.ring;
        return Err(format!("{count} records, and none says how ring {ring} was made"));
    };
    let What::Made(sq, cq) = of_ring[made].record.what else { unreachable!("found just now") };
    let ring = Ring::new(sq, cq, 0);
    let mut replay = Replay {
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
    fn play(&mut self, said: &[&Said]) {
        let mut at = 0;
        while at < said.len() {
            let from = at;
            let what = match said[at].record.what {
                What::Made(sq, cq) => {
                    self.happens(said[at]);
                    at += 1;
                    format!("A ring of {sq} and {cq} entries.")
                }
                What::Entered(submits, wants) => {
                    let end = said[at..].iter().position(|said| is_return(&said.record.what));
                    let end = end.map_or(said.len(), |end| at + end + 1);
                    self.write_ahead(&said[at..end]);
                    self.happens(said[at]);
                    self.end_frame(entered(submits, wants));
                    said[at + 1..end].iter().for_each(|said| self.happens(said));
                    at = end;
                    self.summary(&said[from + 1..end])
                }
                _ => {
                    let is_other = |said: &&&Said| {
                        !matches!(said.record.what, What::Entered(..) | What::Made(..))
                    };
                    let count = said[at..].iter().take_while(is_other).count();
                    self.write_ahead(&said[at..at + count]);
                    said[at..at + count].iter().for_each(|said| self.happens(said));
                    at += count;
                    self.summary(&said[from..at])
                }
            };
            self.end_frame(what);
        }
    }

    /// Writes the entries that the kernel is about to take.
    fn write_ahead(&mut self, said: &[&Said]) {
        for said in said {
            let What::Began(id, opcode, bytes, _) = said.record.what else { continue };
            if self.ring.find(id).is_some() {
                continue;
            }
            let buffer = (bytes > 0).then(|| size(bytes));
            self.ring.write(&format!("#{id} {}", named(opcode)), buffer.as_deref());
            let request = self.ring.requests.last_mut().expect("written just now");
            request.id = id;
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
    fn summary(&self, said: &[&Said]) -> String {
        let mut parts = Vec::new();
        let mut done = Vec::new();
        for said in said {
            match &said.record.what {
                What::Posted(id, res, _) => {
                    let letter = self.ring.find(*id).map_or("a message".into(), tag);
                    done.push(format!("{letter} = {res}"));
                }
                What::Taken(count) => parts.push(format!("The program takes {count}.")),
                What::Returned(Ok(count)) if *count > 0 => {
                    parts.push(format!("The kernel consumes {count}."));
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

/// A number of bytes, short.
fn size(bytes: u32) -> String {
    match bytes {
        bytes if bytes >= 1024 && bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} B"),
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
