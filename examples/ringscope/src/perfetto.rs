//! Records as a Chrome trace, which Perfetto (ui.perfetto.dev) and `chrome://tracing` show.
//!
//! | | |
//! |---|---|
//! | process | a ring |
//! | thread 1 | enters: from the call to its return |
//! | tracks of their own | requests: from the kernel's taking the entry to the last completion |
//! | instants | completions that were taken, overflow, the polling thread |
//! | counters | requests in flight, completions to take |
//!
//! In the stories virtual time mostly stands still, so there each record is a microsecond after the
//! one before.

use std::collections::BTreeMap;
use std::fmt::Write;

use annulus::sim::trace::{RequestId, What};
use annulus::sys::flags::CqeFlags;

use crate::model::named;
use crate::records::Said;

/// Whose time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// That of the records.
    Records,
    /// A microsecond more for each.
    Steps,
}

#[derive(Debug, Default)]
struct Counts {
    flight: u32,
    ready: u32,
    is_inside: bool,
}

/// The trace, in JSON.
pub fn document(said: &[Said], clock: Clock) -> String {
    let mut events = Vec::new();
    let mut rings: BTreeMap<usize, Counts> = BTreeMap::new();
    let mut names: BTreeMap<(usize, RequestId), String> = BTreeMap::new();
    for (number, said) in said.iter().enumerate() {
        let Some(ring) = said.record.ring else { continue };
        let micros = said.record.at.as_nanos() / 1000;
        let steps = if clock == Clock::Steps { number as u128 } else { 0 };
        let at = Place { ring, micros: micros + steps };
        let counts = rings.entry(ring).or_default();
        add(&mut events, &at, &said.record.what, counts, &mut names);
    }
    let mut out = String::from("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
    for ring in rings.keys() {
        let _ = writeln!(
            out,
            "{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{ring},\"tid\":1,\
             \"args\":{{\"name\":\"ring {ring}\"}}}},\n\
             {{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{ring},\"tid\":1,\
             \"args\":{{\"name\":\"enters\"}}}}{}",
            if events.is_empty() { "" } else { "," }
        );
    }
    out.push_str(&events.join(",\n"));
    out.push_str("\n]}\n");
    out
}

struct Place {
    ring: usize,
    micros: u128,
}

impl Place {
    fn event(&self, phase: &str, name: &str, more: &str) -> String {
        format!(
            "{{\"ph\":\"{phase}\",\"name\":\"{}\",\"pid\":{},\"tid\":1,\"ts\":{}{more}}}",
            escape(name),
            self.ring,
            self.micros
        )
    }
}

fn add(
    events: &mut Vec<String>,
    at: &Place,
    what: &What,
    counts: &mut Counts,
    names: &mut BTreeMap<(usize, RequestId), String>,
) {
    let instant = |name: &str| at.event("i", name, ",\"s\":\"t\"");
    match what {
        What::Entered(submits, wants) => {
            let more = format!(",\"args\":{{\"submits\":{submits},\"wants\":{wants}}}");
            events.push(at.event("B", "enter", &more));
            counts.is_inside = true;
            return;
        }
        What::Returned(answer) => {
            if std::mem::take(&mut counts.is_inside) {
                let answer = answer.map_or_else(|errno| -i64::from(errno), i64::from);
                events.push(at.event("E", "enter", &format!(",\"args\":{{\"returns\":{answer}}}")));
            }
            return;
        }
        What::Began(id, opcode, bytes, _) => {
            let name = format!("#{id} {}", named(*opcode));
            let more = format!(
                ",\"cat\":\"request\",\"id\":\"{}.{id}\",\"args\":{{\"bytes\":{bytes}}}",
                at.ring
            );
            events.push(at.event("b", &name, &more));
            names.insert((at.ring, *id), name);
            counts.flight += 1;
        }
        What::Posted(id, res, flags) => {
            counts.ready += 1;
            let is_last = !CqeFlags::from_bits_retain(*flags).contains(CqeFlags::MORE);
            let key = (at.ring, *id);
            let Some(name) = (if is_last { names.remove(&key) } else { names.get(&key).cloned() })
            else {
                return events.push(instant(&format!("completion {res}")));
            };
            let more = format!(
                ",\"cat\":\"request\",\"id\":\"{}.{id}\",\"args\":{{\"res\":{res}}}",
                at.ring
            );
            events.push(at.event(if is_last { "e" } else { "n" }, &name, &more));
            counts.flight -= u32::from(is_last);
        }
        What::Taken(count) => {
            counts.ready = counts.ready.saturating_sub(*count);
            events.push(instant(&format!("takes {count}")));
        }
        What::Made(..) | What::Offered(..) => return,
        other => return events.push(instant(&other.to_string())),
    }
    let more =
        format!(",\"args\":{{\"in flight\":{},\"to take\":{}}}", counts.flight, counts.ready);
    events.push(at.event("C", "requests", &more));
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out
}
