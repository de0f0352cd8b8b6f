//! A stage: a ring on the simulated kernel, on which a story is played, step by step.
//!
//! ```text
//!   story ─► submit, enter, reap ─► ring ─► Sim ─► records ──┐
//!      └──── what is written, and lent ─────────────────────►├─► model ─► frames
//! ```
//!
//! The state comes from the records. At each frame it is compared with what the ring itself says
//! ([`positions`](annulus::RawRing::positions)); a story whose pictures are wrong panics.

use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::op::Op;
use annulus::sim::trace::What;
use annulus::sim::{Faults, Sim};
use annulus::{Ring, Setup, Ticket};

use crate::frame::{Film, Frame};
use crate::lint::Linter;
use crate::model;

/// Why a story cannot be told.
pub type Failure = Box<dyn std::error::Error>;

/// A ring, and what was seen of it.
#[derive(Debug)]
pub struct Stage {
    pub sim: Sim,
    pub ring: Ring,
    model: model::Ring,
    before: model::Ring,
    /// How many records were read.
    read: usize,
    linter: Linter,
    frames: Vec<Frame>,
}

impl Stage {
    /// A ring on a simulated kernel. The seed decides where its indices begin,
    /// and how long what is delayed.
    ///
    /// # Errors
    ///
    /// The ring cannot be made.
    pub fn new(seed: u64, faults: Faults, setup: Setup<'_>) -> Result<Self, Failure> {
        let sim = Sim::with_faults(seed, faults);
        let ring = setup.kernel(sim.kernel()).build()?;
        let raw = ring.raw();
        let start = raw.positions().sq_head.to_raw();
        let mut model = model::Ring::new(raw.sq_entries(), raw.cq_entries(), start);
        if raw.flags().contains(annulus::sys::flags::SetupFlags::SQPOLL) {
            model.poller = Some(model::Poller::Awake);
        }
        let before = model.clone();
        let linter = Linter::default();
        Ok(Self { sim, ring, model, before, read: 0, linter, frames: Vec::new() })
    }

    /// Writes an entry, which the kernel does not see yet, and names it.
    ///
    /// # Errors
    ///
    /// There is no room.
    pub fn submit<O: Op + 'static>(
        &mut self,
        name: &str,
        buffer: Option<&str>,
        op: O,
    ) -> Result<Ticket<O>, Failure> {
        let ticket = self.ring.submit(op).map_err(|rejected| rejected.to_string())?;
        self.wrote(name, buffer);
        Ok(ticket)
    }

    /// Names an entry that was written by other means. There is one ring, so its number is that of
    /// the entries before it, and one more.
    pub fn wrote(&mut self, name: &str, buffer: Option<&str>) {
        let id = u32::try_from(self.model.requests.len() + 1).expect("a story is short");
        self.model.write(id, name, buffer);
    }

    /// Submits what was written: with a polling thread that is awake, without an enter.
    ///
    /// # Errors
    ///
    /// Those of the enter.
    pub fn enter(&mut self) -> Result<(), Failure> {
        self.ring.submit_all()?;
        self.model.publish();
        Ok(())
    }

    /// Submits what was written, and waits.
    ///
    /// # Errors
    ///
    /// Those of the enter.
    pub fn enter_and_wait(&mut self, want: u32) -> Result<(), Failure> {
        self.ring.submit_and_wait(want)?;
        Ok(())
    }

    /// Somebody else writes to a pipe or a socket.
    ///
    /// # Errors
    ///
    /// There is no room.
    pub fn arrives(&mut self, peer: &OwnedFd, bytes: &[u8]) -> Result<(), Failure> {
        self.sim.write(peer, bytes)?;
        // What is due by now happens, without an enter.
        self.sim.advance(Duration::ZERO);
        Ok(())
    }

    /// Lets time pass until a completion is posted, for a second at most.
    pub fn until_posted(&mut self) {
        let tail = |stage: &Self| stage.ring.raw().positions().cq_tail;
        let start = tail(self);
        for _ in 0..1_000_000 {
            if tail(self) != start {
                return;
            }
            self.sim.advance(Duration::from_micros(1));
        }
    }

    /// Takes all completions.
    ///
    /// # Errors
    ///
    /// Those of an enter, if the kernel holds completions back.
    pub fn reap(&mut self) -> Result<(), Failure> {
        self.ring.reap(|_| {})?;
        Ok(())
    }

    /// Ends a frame.
    pub fn frame(&mut self, what: &str, code: &str) {
        // A report is a look at what the program has done.
        let _ = self.sim.report();
        let trace = self.sim.trace();
        let (mut records, mut marks) = (Vec::new(), Vec::new());
        for record in &trace[self.read..] {
            marks.extend(self.linter.look(record));
            if !matches!(record.what, What::Made(..)) {
                self.model.happens(&record.what);
            }
            records.push(record.to_string().trim_start().to_owned());
        }
        self.read = trace.len();
        self.compare();
        let after = self.model.clone();
        let before = std::mem::replace(&mut self.before, after.clone());
        let (what, code) = (what.into(), code.into());
        self.frames.push(Frame { what, code, records, marks, before, after, counts_calls: true });
    }

    /// The pictures must show what the ring says.
    fn compare(&self) {
        let real = self.ring.raw().positions();
        let real = [real.sq_head, real.sq_tail, real.sq_written, real.cq_head, real.cq_tail]
            .map(annulus::sys::index::Index::to_raw);
        let model::Ring { sq_head, sq_tail, sq_written, cq_head, cq_tail, .. } = self.model;
        let ours = [sq_head, sq_tail, sq_written, cq_head, cq_tail];
        assert_eq!(ours, real, "frame {}: the model is wrong", self.frames.len() + 1);
    }

    /// The end of the story.
    pub fn film(self, name: &str, title: &str) -> Film {
        Film { name: name.into(), title: title.into(), frames: self.frames }
    }
}
