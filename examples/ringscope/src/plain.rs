//! Frames as lines of text, each piece with a tint: printed without it, or shown in a terminal
//! with it (`tty`).
//!
//! ```text
//!      0        1
//!   ┌────────┬────────┐
//!   │   A    │        │      what is in the slot
//!   │ kernel │  free  │      whose it is
//!   └────────┴────────┘
//!      head     tail         where the indices point
//! ```

use crate::frame::{Film, Frame};
use crate::model::{Owner, Place, tag};
use crate::svg::{broken, hands, state};
use crate::wheel::Which;

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    Plain,
    Strong,
    Soft,
    Wrong,
    Of(Owner),
}

/// A line: pieces, each with its tint.
pub type Line = Vec<(Tint, String)>;

/// The width of a slot, and how many stand side by side.
const CELL: usize = 8;
const ABREAST: u32 = 8;
/// A ring with more slots is told, not drawn.
const MOST: u32 = 32;
const COLUMNS: usize = 78;

/// All of a film, as text.
pub fn text(film: &Film) -> String {
    let mut text = format!("{}\n", film.title);
    for at in 0..film.frames.len() {
        text.push('\n');
        for line in lines(film, at) {
            let line: String = line.iter().map(|(_, piece)| piece.as_str()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// The lines of one frame, counted from 0.
pub fn lines(film: &Film, at: usize) -> Vec<Line> {
    let frame = &film.frames[at];
    let count = film.frames.len();
    let mut lines: Vec<Line> =
        vec![vec![(Tint::Soft, format!("{} {} of {count}", film.name, at + 1))]];
    for line in broken(&frame.what, COLUMNS) {
        lines.push(vec![(Tint::Strong, line)]);
    }
    if !frame.code.is_empty() {
        lines.push(vec![(Tint::Soft, format!("  {}", frame.code))]);
    }
    for mark in &frame.marks {
        lines.push(vec![(Tint::Wrong, format!("! {mark}"))]);
    }
    if frame.counts_calls {
        lines.push(calls(frame));
    }
    for which in [Which::Submission, Which::Completion] {
        add_ring(&mut lines, frame, which);
    }
    add_requests(&mut lines, frame);
    lines
}

fn calls(frame: &Frame) -> Line {
    let calls = frame.after.enters - frame.before.enters;
    let (tint, now) = match calls {
        0 => (Tint::Soft, "no system call".into()),
        1 => (Tint::Strong, "1 system call".into()),
        count => (Tint::Strong, format!("{count} system calls")),
    };
    let mut line = vec![(tint, now), (Tint::Soft, format!(", {} so far", frame.after.enters))];
    for state in state(frame) {
        line.push((Tint::Plain, "   ".into()));
        line.push((Tint::Of(Owner::Kernel), state));
    }
    line
}

fn add_ring(lines: &mut Vec<Line>, frame: &Frame, which: Which) {
    let entries = which.entries(&frame.after);
    let mask = entries.wrapping_sub(1);
    lines.push(Line::new());
    let mut title = vec![(Tint::Strong, format!("{}, mask {mask}:", which.title()))];
    for pointer in which.pointers(frame) {
        title.push((
            Tint::Of(pointer.owner),
            format!("  {} {} & {mask} = {}", pointer.name, pointer.index, pointer.index & mask),
        ));
    }
    lines.push(title);
    if entries > MOST {
        return add_told(lines, frame, which);
    }
    for first in (0..entries).step_by(ABREAST as usize) {
        add_row(lines, frame, which, first..entries.min(first + ABREAST));
    }
}

/// The slots that are not free, in words.
fn add_told(lines: &mut Vec<Line>, frame: &Frame, which: Which) {
    let mut line = vec![(Tint::Plain, "  ".into())];
    for slot in 0..which.entries(&frame.after) {
        let (owner, letter, result) = which.slot(&frame.after, slot);
        if owner != Owner::Free {
            line.push((Tint::Of(owner), format!("{slot}: {letter} {result}  ")));
        }
    }
    if line.len() == 1 {
        line.push((Tint::Soft, "all slots are free".into()));
    }
    lines.push(line);
}

/// Slots side by side.
fn add_row(lines: &mut Vec<Line>, frame: &Frame, which: Which, slots: std::ops::Range<u32>) {
    let rule = |left: &str, between: &str, right: &str| -> Line {
        let cells = vec!["─".repeat(CELL); slots.len()];
        vec![(Tint::Soft, format!("  {left}{}{right}", cells.join(between)))]
    };
    let numbers: String = slots.clone().map(|slot| format!("{slot:^0$} ", CELL)).collect();
    lines.push(vec![(Tint::Soft, format!("   {numbers}"))]);
    lines.push(rule("┌", "┬", "┐"));
    let mut held = vec![(Tint::Soft, "  │".into())];
    let mut owned = held.clone();
    for slot in slots.clone() {
        let (owner, letter, result) = which.slot(&frame.after, slot);
        let what = format!("{letter} {result}");
        held.push((Tint::Of(owner), format!("{:^1$}", what.trim(), CELL)));
        held.push((Tint::Soft, "│".into()));
        owned.push((Tint::Of(owner), format!("{:^1$}", owner.name(), CELL)));
        owned.push((Tint::Soft, "│".into()));
    }
    lines.push(held);
    lines.push(owned);
    lines.push(rule("└", "┴", "┘"));
    add_pointers(lines, frame, which, &slots);
}

/// The names of the indices, each below its slot.
fn add_pointers(lines: &mut Vec<Line>, frame: &Frame, which: Which, slots: &std::ops::Range<u32>) {
    let mask = which.entries(&frame.after).wrapping_sub(1);
    let mut rows: Vec<Vec<Option<(Owner, &str)>>> = Vec::new();
    for pointer in which.pointers(frame) {
        let slot = pointer.index & mask;
        if !slots.contains(&slot) {
            continue;
        }
        let at = (slot - slots.start) as usize;
        let row = match rows.iter().position(|row| row[at].is_none()) {
            Some(row) => row,
            None => {
                rows.push(vec![None; slots.len()]);
                rows.len() - 1
            }
        };
        rows[row][at] = Some((pointer.owner, pointer.name));
    }
    for row in rows {
        let mut line = vec![(Tint::Plain, "   ".into())];
        for cell in row {
            line.push(match cell {
                Some((owner, name)) => (Tint::Of(owner), format!("{name:^0$} ", CELL)),
                None => (Tint::Plain, " ".repeat(CELL + 1)),
            });
        }
        lines.push(line);
    }
}

fn add_requests(lines: &mut Vec<Line>, frame: &Frame) {
    let shown = frame.shown();
    if !shown.is_empty() {
        lines.push(Line::new());
        let names: String = Place::ALL.iter().map(|place| format!("{:<8}", place.name())).collect();
        lines.push(vec![(Tint::Soft, format!("  {:26}{names}buffer", ""))]);
    }
    for at in shown {
        let request = &frame.after.requests[at];
        let from = frame.place_before(at).unwrap_or(Place::Ours);
        let mut line = vec![
            (Tint::Strong, format!("  {:<3}", tag(at))),
            (Tint::Plain, format!("{:<23}", request.name)),
        ];
        for place in Place::ALL {
            line.push(match place {
                place if place == request.place => {
                    (Tint::Of(hands(place)), format!("{:<8}", format!("({})", tag(at))))
                }
                place if place < request.place && place >= from => {
                    (Tint::Strong, "═══════>".into())
                }
                _ => (Tint::Soft, "·       ".into()),
            });
        }
        if let Some(buffer) = &request.buffer {
            let owner = request.buffer_owner();
            line.push((Tint::Of(owner), format!("{buffer}, {}'s", owner.name())));
        }
        lines.push(line);
        if request.results.len() > 1 {
            let results: Vec<String> = request.results.iter().map(i32::to_string).collect();
            lines.push(vec![(Tint::Soft, format!("     results: {}", results.join(", ")))]);
        }
    }
    if !frame.after.pool.is_empty() {
        let mut line = vec![(Tint::Plain, "  buffers of the ring:".into())];
        for (bid, &owner) in frame.after.pool.iter().enumerate() {
            line.push((Tint::Of(owner), format!("  {bid} {}", owner.name())));
        }
        lines.push(line);
    }
}
