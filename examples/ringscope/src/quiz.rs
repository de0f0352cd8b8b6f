//! A quiz on the demo: a state is shown, and the next indices are asked for.

use std::io::{self, BufRead, Write};

use crate::frame::Film;
use crate::plain;

/// Asks about each step of a film, and says how many answers were right.
///
/// # Errors
///
/// The input or the output fails.
pub fn ask(film: &Film, input: impl BufRead, mut out: impl Write) -> io::Result<(u32, u32)> {
    let mut lines = input.lines();
    let (mut right, mut asked) = (0, 0);
    writeln!(out, "After each step: where are head and tail? Answer with four numbers,")?;
    writeln!(out, "SQ head, SQ tail, CQ head, CQ tail; an empty line shows the answer.\n")?;
    for at in 1..film.frames.len() {
        for line in plain::lines(film, at - 1).iter().skip(1) {
            let line: String = line.iter().map(|(_, text)| text.as_str()).collect();
            writeln!(out, "{}", line.trim_end())?;
        }
        let frame = &film.frames[at];
        writeln!(out, "\nNext: {}", frame.what)?;
        write!(out, "SQ head, SQ tail, CQ head, CQ tail? ")?;
        out.flush()?;
        let Some(answer) = lines.next().transpose()? else { break };
        asked += 1;
        let ring = &frame.after;
        let wanted = [ring.sq_head, ring.sq_tail, ring.cq_head, ring.cq_tail];
        let given: Vec<Option<u32>> = answer
            .split(|letter: char| letter.is_whitespace() || letter == ',')
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().ok())
            .collect();
        if given == wanted.map(Some) {
            right += 1;
            writeln!(out, "\nRight.\n")?;
        } else {
            let [sq_head, sq_tail, cq_head, cq_tail] = wanted;
            writeln!(out, "\nNot so: SQ {sq_head} to {sq_tail}, CQ {cq_head} to {cq_tail}.\n")?;
        }
    }
    writeln!(out, "\n{right} of {asked} right.")?;
    Ok((right, asked))
}
