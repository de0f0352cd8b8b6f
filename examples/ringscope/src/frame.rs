//! Frames: what a story or a replay is made of, and every picture is drawn from.
//!
//! A frame has the state after something happened, and the state before, so that a picture can show
//! what changed.

use crate::model::{Place, Ring, tag};

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What happened, as a sentence.
    pub what: String,
    /// The line of the program that did it; empty if nothing of the program did.
    pub code: String,
    /// The records since the frame before.
    pub records: Vec<String>,
    /// What is wrong with it.
    pub marks: Vec<String>,
    pub before: Ring,
    pub after: Ring,
    /// Whether system calls are counted; those of another process are not.
    pub counts_calls: bool,
}

/// Frames, with a name.
#[derive(Debug, Clone)]
pub struct Film {
    pub name: String,
    pub title: String,
    pub frames: Vec<Frame>,
}

impl Film {
    /// Leaves only these frames, counted from 1, with their numbers.
    ///
    /// # Errors
    ///
    /// One of them is not there.
    pub fn choose(&self, numbers: &[usize]) -> Result<Vec<(usize, &Frame)>, String> {
        if numbers.is_empty() {
            return Ok(self.frames.iter().enumerate().map(|(at, frame)| (at + 1, frame)).collect());
        }
        let find = |&number: &usize| {
            let frame = number.checked_sub(1).and_then(|at| self.frames.get(at));
            let count = self.frames.len();
            frame
                .map(|frame| (number, frame))
                .ok_or_else(|| format!("`{}` has no frame {number}, but 1 to {count}", self.name))
        };
        numbers.iter().map(find).collect()
    }
}

/// The most requests that a picture shows.
const SHOWN: usize = 8;

impl Frame {
    /// The requests to show, by their places in the list: those that are not over, those that ended
    /// just now, and then the last ones, up to a number.
    pub fn shown(&self) -> Vec<usize> {
        let requests = &self.after.requests;
        if requests.len() <= SHOWN {
            return (0..requests.len()).collect();
        }
        let is_over = |at: &usize| {
            let before = self.before.requests.get(*at).map(|request| request.place);
            requests[*at].place == Place::Taken && before == Some(Place::Taken)
        };
        let mut shown: Vec<usize> = (0..requests.len()).filter(|at| !is_over(at)).collect();
        if shown.len() > SHOWN {
            shown.drain(..shown.len() - SHOWN);
        }
        shown
    }

    /// Where the request at a place of the list was before; `None` if it is new.
    pub fn place_before(&self, at: usize) -> Option<Place> {
        self.before.requests.get(at).map(|request| request.place)
    }

    /// The state in words, one line for each thing: for those who do not see the picture.
    pub fn describe(&self) -> Vec<String> {
        let ring = &self.after;
        let mut lines = vec![
            format!(
                "Submission ring of {}: head {}, tail {}, written up to {}.",
                ring.sq_entries, ring.sq_head, ring.sq_tail, ring.sq_written
            ),
            format!(
                "Completion ring of {}: head {}, tail {}; {} to take.",
                ring.cq_entries,
                ring.cq_head,
                ring.cq_tail,
                ring.ready.len()
            ),
        ];
        for (at, request) in self.shown().into_iter().map(|at| (at, &ring.requests[at])) {
            let place = match request.place {
                Place::Ours => "written, not published",
                Place::Queued => "in the submission ring",
                Place::Kernel => "with the kernel",
                Place::Ready => "in the completion ring",
                Place::Taken => "taken",
            };
            lines.push(format!("{} {}: {place}.", tag(at), request.name));
        }
        lines
    }
}
