//! A ring as a wheel: slots are sectors, and heads and tails point at them.
//!
//! ```text
//!        tail ▾ (coloured by who moves it; an arc shows how far it moved)
//!       ╭──┬──╮
//!       ├──┼──┤      a sector: its owner's colour, the request's letter, the slot's number
//!       ╰──┴──╯
//! ```
//!
//! Drawn around (0, 0), within 172 to each side and 138 up and down.

use std::f64::consts::PI;
use std::fmt::Write;

use crate::frame::Frame;
use crate::model::{Owner, Ring, tag};

/// Which of the two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Submission,
    Completion,
}

const OUTER: f64 = 100.0;
const INNER: f64 = 44.0;
/// Beyond so many slots there is no room for words in them.
const LEGIBLE: u32 = 16;

/// An index that points at a slot.
#[derive(Debug, Clone, Copy)]
pub struct Pointer {
    pub name: &'static str,
    pub index: u32,
    pub before: u32,
    /// Who moves it.
    pub owner: Owner,
}

impl Which {
    pub fn name(self) -> &'static str {
        if self == Self::Submission { "SQ" } else { "CQ" }
    }

    pub fn title(self) -> &'static str {
        if self == Self::Submission { "submission ring" } else { "completion ring" }
    }

    pub fn entries(self, ring: &Ring) -> u32 {
        if self == Self::Submission { ring.sq_entries } else { ring.cq_entries }
    }

    /// The indices to show.
    pub fn pointers(self, frame: &Frame) -> Vec<Pointer> {
        let (now, then) = (&frame.after, &frame.before);
        let pointer = |name, owner, index, before| Pointer { name, index, before, owner };
        if self == Self::Completion {
            return vec![
                pointer("head", Owner::Program, now.cq_head, then.cq_head),
                pointer("tail", Owner::Kernel, now.cq_tail, then.cq_tail),
            ];
        }
        let mut pointers = vec![
            pointer("head", Owner::Kernel, now.sq_head, then.sq_head),
            pointer("tail", Owner::Program, now.sq_tail, then.sq_tail),
        ];
        if now.sq_written != now.sq_tail {
            let start = then.sq_written;
            pointers.push(pointer("next", Owner::Program, now.sq_written, start));
        }
        pointers
    }

    /// The owner of a slot, the letter of the request in it, and what its completion says.
    pub fn slot(self, ring: &Ring, slot: u32) -> (Owner, String, String) {
        if self == Self::Submission {
            let (owner, at) = ring.sq_slot(slot);
            return (owner, at.map_or(String::new(), tag), String::new());
        }
        let (owner, completion) = ring.cq_slot(slot);
        let Some(completion) = completion else {
            return (owner, String::new(), String::new());
        };
        let letter = completion.request.map_or("?".into(), tag);
        let is_short = (-9..=99).contains(&completion.res);
        let result =
            if is_short { format!("= {}", completion.res) } else { completion.res.to_string() };
        (owner, letter, result)
    }
}

/// A number with one decimal, and no minus before zero.
pub fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

fn at(radius: f64, angle: f64) -> (String, String) {
    (short(radius * angle.cos()), short(radius * angle.sin()))
}

/// Draws the wheel.
pub fn draw(out: &mut String, frame: &Frame, which: Which) {
    let entries = which.entries(&frame.after).max(1);
    let sector = 2.0 * PI / f64::from(entries);
    let middle = |slot: u32| f64::from(slot) * sector - PI / 2.0;
    for slot in 0..entries {
        draw_slot(out, frame, which, slot, (middle(slot), sector));
    }
    let _ = writeln!(
        out,
        "<text class=\"name\" y=\"2\">{}</text><text class=\"small\" y=\"19\">mask {}</text>",
        which.name(),
        entries - 1
    );
    let pointers = which.pointers(frame);
    let mask = entries - 1;
    for (number, pointer) in pointers.iter().enumerate() {
        let slot = pointer.index & mask;
        let here: Vec<&Pointer> =
            pointers.iter().filter(|other| other.index & mask == slot).collect();
        let rank = pointers[..number].iter().filter(|other| other.index & mask == slot).count();
        let spread = if here.len() > 1 { sector.min(1.6) / 2.0 } else { 0.0 };
        let offset = (half(rank) - half(here.len() - 1) / 2.0) * spread;
        let angle = middle(slot) + offset;
        let radius = 106.0 + 5.0 * half(number);
        let moved = pointer.index.wrapping_sub(pointer.before);
        if moved > 0 {
            let span = (f64::from(moved) * sector).min(2.0 * PI - 0.2);
            draw_arc(out, radius, angle - span, angle, pointer.owner);
        }
        let near = |other: &Pointer| {
            let apart = pointer.index.wrapping_sub(other.index) & mask;
            f64::from(apart.min(entries - apart)) * sector < 0.3
        };
        let near: Vec<&Pointer> = pointers.iter().filter(|other| near(other)).collect();
        let is_first = near.first().is_none_or(|first| first.name == pointer.name);
        let joined = (entries > 8 || near.len() > 2) && near.len() > 1;
        let labels = match (joined, is_first) {
            (false, _) => vec![pointer],
            (true, true) => near,
            (true, false) => vec![],
        };
        draw_pointer(out, angle, pointer);
        draw_labels(out, angle, &labels);
    }
}

/// A small count as a number to draw with.
fn half(count: usize) -> f64 {
    f64::from(u16::try_from(count).unwrap_or(u16::MAX))
}

fn draw_slot(
    out: &mut String,
    frame: &Frame,
    which: Which,
    slot: u32,
    (angle, sector): (f64, f64),
) {
    let (owner, letter, result) = which.slot(&frame.after, slot);
    let changed = which.slot(&frame.before, slot) != (owner, letter.clone(), result.clone());
    let gap = if sector > 6.0 { 0.001 } else { (0.012f64).min(sector / 8.0) };
    let (from, to) = (angle - sector / 2.0 + gap, angle + sector / 2.0 - gap);
    let large = i32::from(to - from > PI);
    let ((ax, ay), (bx, by)) = (at(OUTER, from), at(OUTER, to));
    let ((cx, cy), (dx, dy)) = (at(INNER, to), at(INNER, from));
    let class = format!("slot {}{}", owner.name(), if changed { " changed" } else { "" });
    let _ = write!(
        out,
        "<g data-slot=\"{slot}\" data-owner=\"{}\" data-holds=\"{letter}\"><path class=\"{class}\" \
         d=\"M{ax} {ay}A{OUTER} {OUTER} 0 {large} 1 {bx} {by}L{cx} {cy}\
         A{INNER} {INNER} 0 {large} 0 {dx} {dy}Z\"/>",
        owner.name()
    );
    if which.entries(&frame.after) <= LEGIBLE {
        let (x, y) = at(54.0, angle);
        let _ = write!(
            out,
            "<text class=\"number on-{}\" x=\"{x}\" y=\"{y}\" dy=\"4\">{slot}</text>",
            owner.name()
        );
        let (x, y) = at(79.0, angle);
        let dy = if result.is_empty() { 6 } else { 0 };
        if !letter.is_empty() {
            let _ = write!(
                out,
                "<text class=\"tag on-{}\" x=\"{x}\" y=\"{y}\" dy=\"{dy}\">{letter}</text>",
                owner.name()
            );
        }
        if !result.is_empty() {
            let _ = write!(
                out,
                "<text class=\"result on-{}\" x=\"{x}\" y=\"{y}\" dy=\"14\">{result}</text>",
                owner.name()
            );
        }
    }
    out.push_str("</g>\n");
}

/// How far a pointer moved.
fn draw_arc(out: &mut String, radius: f64, from: f64, to: f64, owner: Owner) {
    let large = i32::from(to - from > PI);
    let ((ax, ay), (bx, by)) = (at(radius, from), at(radius, to));
    let _ = writeln!(
        out,
        "<path class=\"moved by-{}\" d=\"M{ax} {ay}A{radius} {radius} 0 {large} 1 {bx} {by}\"/>",
        owner.name()
    );
}

fn draw_pointer(out: &mut String, angle: f64, pointer: &Pointer) {
    let ((ax, ay), (bx, by), (cx, cy)) =
        (at(102.0, angle), at(117.0, angle - 0.065), at(117.0, angle + 0.065));
    let _ = writeln!(
        out,
        "<path class=\"pointer at-{}\" d=\"M{ax} {ay}L{bx} {by}L{cx} {cy}Z\"/>",
        pointer.owner.name()
    );
}

/// The names of pointers that are close together: beside the wheel one below the other, above and
/// below it in a line.
fn draw_labels(out: &mut String, angle: f64, labels: &[&Pointer]) {
    let (x, y) = at(123.0, angle);
    let down = 5.0 + 5.0 * angle.sin();
    let anchor = match angle.cos() {
        cos if cos > 0.3 => "left",
        cos if cos < -0.3 => "right",
        _ => "",
    };
    if anchor.is_empty() && labels.len() > 1 {
        let part = |label: &&Pointer| {
            format!("<tspan class=\"of-{}\">{}</tspan>", label.owner.name(), label.name)
        };
        let parts: Vec<String> = labels.iter().map(part).collect();
        let (down, text) = (short(down), parts.join(" "));
        let _ =
            writeln!(out, "<text class=\"label\" x=\"{x}\" y=\"{y}\" dy=\"{down}\">{text}</text>");
        return;
    }
    for (number, label) in labels.iter().enumerate() {
        let line = half(number) - half(labels.len() - 1) / 2.0;
        let _ = writeln!(
            out,
            "<text class=\"label of-{} {anchor}\" x=\"{x}\" y=\"{y}\" dy=\"{}\">{}</text>",
            label.owner.name(),
            short(down + 16.0 * line),
            label.name
        );
    }
}
