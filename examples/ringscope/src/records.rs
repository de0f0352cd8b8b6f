//! Records as text, and back: the lines that a program prints of a trace.
//!
//! ```text
//!     0.001250 ring 0: #1 completes with 5, CqeFlags(MORE)
//! ```
//!
//! Other lines of its output are passed over. So whatever prints
//! [`trace`](annulus::sim::Sim::trace) can be replayed, and so can the report of a failed run.

use std::time::Duration;

use annulus::sim::Record;
use annulus::sim::trace::What;
use annulus::sys::opcode::Opcode;

/// The flags of completions, by their names in a record.
const FLAGS: [(&str, u32); 7] = [
    ("BUFFER", 1),
    ("MORE", 1 << 1),
    ("SOCK_NONEMPTY", 1 << 2),
    ("NOTIF", 1 << 3),
    ("BUF_MORE", 1 << 4),
    ("SKIP", 1 << 5),
    ("CQE32", 1 << 15),
];

/// A record, and the line that it was.
#[derive(Debug, Clone)]
pub struct Said {
    pub record: Record,
    pub line: String,
}

/// The records of a text.
pub fn read(text: &str) -> Vec<Said> {
    text.lines().filter_map(parse).collect()
}

/// The record of a line, if it is one.
pub fn parse(line: &str) -> Option<Said> {
    let line = line.trim();
    let (seconds, rest) = line.split_once(' ')?;
    let (whole, part) = seconds.split_once('.')?;
    if part.len() != 6 {
        return None;
    }
    let micros = whole.parse::<u64>().ok()?.checked_mul(1_000_000)? + part.parse::<u64>().ok()?;
    let (ring, text) = match rest.strip_prefix("ring ").and_then(|rest| rest.split_once(": ")) {
        Some((ring, text)) => (Some(ring.parse().ok()?), text),
        None => (None, rest),
    };
    let what = what(text)?;
    let record = Record { at: Duration::from_micros(micros), ring, what };
    Some(Said { record, line: line.into() })
}

/// The words between the parts of a pattern with `{}` for each.
fn parts<'a, const N: usize>(text: &'a str, pattern: &str) -> Option<[&'a str; N]> {
    let mut pieces = pattern.split("{}");
    let mut rest = text.strip_prefix(pieces.next()?)?;
    let mut found = [""; N];
    for (slot, piece) in found.iter_mut().zip(pieces) {
        let end = if piece.is_empty() { rest.len() } else { rest.find(piece)? };
        *slot = &rest[..end];
        rest = &rest[end + piece.len()..];
    }
    rest.is_empty().then_some(found)
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn what(text: &str) -> Option<What> {
    if let Some(rest) = text.strip_prefix('#') {
        return of_request(rest);
    }
    match text {
        "the polling thread sleeps" => return Some(What::Slept),
        "the polling thread wakes" => return Some(What::Woken),
        "the polling thread dies" => return Some(What::Died),
        _ => {}
    }
    if let Some([sq, cq]) = parts(text, "{} submission and {} completion entries") {
        return Some(What::Made(number(sq)?, number(cq)?));
    }
    if let Some([left]) = parts(text, "closed, with {} requests in flight") {
        return Some(What::Closed(number(left)?));
    }
    if let Some([submits, wants]) = parts(text, "enter, {} to submit, wants {}") {
        return Some(What::Entered(number(submits)?, number(wants)?));
    }
    if let Some([count]) = parts(text, "enter returns {}") {
        return Some(What::Returned(Ok(number(count)?)));
    }
    if let Some([_, errno]) = parts(text, "enter fails: {} (os error {})") {
        return Some(What::Returned(Err(number(errno)?)));
    }
    if let Some([count]) = parts(text, "{} completions were taken") {
        return Some(What::Taken(number(count)?));
    }
    if let Some([bid, group]) = parts(text, "buffer {} of group {} is offered") {
        return Some(What::Offered(number(group)?, number(bid)?));
    }
    if let Some([_, bytes, end]) = parts(text, "outside: {} {} on {}") {
        return Some(What::Outside("act", number(end)?, number(bytes)?));
    }
    if let Some([left]) = parts(text, "nothing can happen; {} requests in flight") {
        return Some(What::Stalled(number(left)?));
    }
    if let Some([count]) = parts(text, "the polling thread takes {} entries") {
        return Some(What::Polled(number(count)?));
    }
    if let Some([text]) = parts(text, "BROKEN: {}") {
        return Some(What::Fault(text.into()));
    }
    let [end] = parts(text, "{} is closed")?;
    Some(What::Ended(number(end)?))
}

fn of_request(text: &str) -> Option<What> {
    if let Some([id]) = parts(text, "{}: the completion queue is full") {
        return Some(What::Overflowed(number(id)?));
    }
    if let Some([id]) = parts(text, "{}: the completion is lost") {
        return Some(What::Lost(number(id)?));
    }
    if let Some([id, rest]) = parts(text, "{} completes with {}") {
        let (res, flags) = rest.split_once(", ").unwrap_or((rest, ""));
        return Some(What::Posted(number(id)?, number(res)?, flags_of(flags)?));
    }
    let (text, end) = match text.split_once(", on ") {
        Some((text, end)) => (text, Some(number(end)?)),
        None => (text, None),
    };
    let [id, name, bytes] = parts(text, "{} {} of {} bytes")?;
    let opcode = Opcode::ALL.iter().find(|opcode| format!("{opcode:?}") == name);
    Some(What::Began(number(id)?, *opcode?, number(bytes)?, end))
}

fn flags_of(text: &str) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    let [names] = parts(text, "CqeFlags({})")?;
    let bits = names.split(" | ").map(|name| {
        let named = FLAGS.iter().find(|(known, _)| *known == name).map(|&(_, bits)| bits);
        let hex = || u32::from_str_radix(name.strip_prefix("0x")?, 16).ok();
        named.or_else(hex)
    });
    bits.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories::STORIES;

    #[test]
    fn what_is_printed_is_read_back() {
        let mut count = 0;
        for story in STORIES {
            let film = story.film().expect(story.name);
            for line in film.frames.iter().flat_map(|frame| &frame.records) {
                let said = parse(line).expect(line);
                let again = said.record.to_string();
                let again = again.trim_start().replace("outside: act", "outside: write");
                assert_eq!(again, line.replace("outside: connect", "outside: write"));
                count += 1;
            }
        }
        assert!(count > 80, "{count}");
    }

    #[test]
    fn other_lines_are_no_records() {
        for line in ["", "hello", "1.5 ring 0: enter returns 3", "0.000000 ring 0: hello"] {
            assert!(parse(line).is_none(), "{line}");
        }
        let failed = "  0.000001 ring 3: enter fails: Interrupted system call (os error 4)";
        assert_eq!(parse(failed).expect("one").record.what, What::Returned(Err(4)));
    }
}
