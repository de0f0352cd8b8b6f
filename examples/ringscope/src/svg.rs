//! Frames as one SVG: the wheels, the way of each request, and who has which buffer.
//!
//! ```text
//!   caption, line of the program
//!   SQ wheel        enter?        CQ wheel
//!   indices         state         indices
//!   request  ours ── SQ ── kernel ── CQ ── taken   buffer
//! ```
//!
//! The text depends on the frames only, so a picture in a book changes only if the story does. It
//! brings its colours and its ground for light and dark, and is made for 700 pixels.

use std::fmt::Write;

use crate::frame::{Film, Frame};
use crate::model::{Owner, Place, Poller, tag};
use crate::wheel::{self, Which};

pub const WIDTH: u32 = 700;
/// Where the lanes are.
const LANES: [u32; 5] = [250, 330, 410, 490, 570];
const ROW: u32 = 27;
/// The most letters in a line of a caption.
const LINE: usize = 80;

/// Colours and letters, for light and for dark.
pub const STYLE: &str = "\
svg,.scope{--ink:#1c2733;--soft:#5b6875;--line:#c3ccd5;--ground:#fff;--free:#f3f5f7;\
--program:#2563a8;--kernel:#b4500d;--mark:#a4123f}
@media (prefers-color-scheme:dark){svg,.scope{--ink:#e8edf2;--soft:#a3b0bd;--line:#4a5765;\
--ground:#171c22;--free:#232a32;--program:#6cb0f5;--kernel:#f2a15c;--mark:#ff7d9d}}
svg text{font-family:system-ui,'Segoe UI',Roboto,sans-serif;fill:var(--ink);font-size:14px;\
text-anchor:middle}
.ground{fill:var(--ground)}
.slot{stroke:var(--line);stroke-width:1}
.changed{stroke:var(--ink);stroke-width:2.5}
.program{fill:var(--program)}.kernel{fill:var(--kernel)}.free{fill:var(--free)}
.moved{fill:none;stroke-width:3}
.by-program{stroke:var(--program)}.by-kernel{stroke:var(--kernel)}
.at-program{fill:var(--program)}.at-kernel{fill:var(--kernel)}
svg .of-program{fill:var(--program)}svg .of-kernel{fill:var(--kernel)}
svg .on-program,svg .on-kernel{fill:var(--ground)}svg .on-free{fill:var(--soft)}
svg .name{font-size:20px;font-weight:700}
svg .small{font-size:13px;fill:var(--soft)}
svg .number{font-size:12px}
svg .tag{font-size:18px;font-weight:700}
svg .result{font-size:12px}
svg .label{font-size:14px;font-weight:600}
svg .what{font-size:15px;text-anchor:start}
svg .frame{font-weight:700}
svg .left{text-anchor:start}svg .right{text-anchor:end}
svg .code{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:13px}
svg .wrong{fill:var(--mark);font-weight:600}
.track{stroke:var(--line);stroke-width:2}
.way{stroke:var(--ink);stroke-width:4}
.done{fill:var(--ground);stroke:var(--soft);stroke-width:2}
.rule{stroke:var(--line);stroke-width:1}
.call{fill:var(--ink)}.no-call{fill:none;stroke:var(--line);stroke-width:1.5}
svg .on-call{fill:var(--ground)}
";

/// Text for SVG and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The frames of a film, by their numbers, below each other.
pub fn document(film: &Film, frames: &[(usize, &Frame)]) -> String {
    let mut body = String::new();
    let mut top = 0;
    for (number, frame) in frames {
        let _ = writeln!(
            body,
            "<g id=\"frame-{number}\" transform=\"translate(0 {top})\" {}>",
            data(*number, frame)
        );
        let name = format!("Frame {number}: {}", frame.what);
        let _ = writeln!(body, "<title>{}</title>", escape(&name));
        let height = draw(&mut body, *number, frame);
        body.push_str("</g>\n");
        top += height;
    }
    let height = top + 38;
    let told = |(number, frame): &(usize, &Frame)| {
        format!("Frame {number}. {} {}", frame.what, frame.describe().join(" "))
    };
    let told: Vec<String> = frames.iter().map(told).collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title\" \
         aria-describedby=\"desc\" style=\"max-width:100%;height:auto\">\n\
         <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{body}",
        escape(&film.title),
        escape(&told.join("\n"))
    );
    let _ = writeln!(out, "<g transform=\"translate(0 {top})\">");
    draw_legend(&mut out);
    out.push_str("</g>\n</svg>\n");
    out
}

/// The state, for whoever reads the file by a program.
pub fn data(number: usize, frame: &Frame) -> String {
    let ring = &frame.after;
    let places: Vec<String> = ring
        .requests
        .iter()
        .enumerate()
        .map(|(at, request)| format!("{}:{}", tag(at), request.place.name()))
        .collect();
    format!(
        "data-frame=\"{number}\" data-sq-head=\"{}\" data-sq-tail=\"{}\" data-sq-written=\"{}\" \
         data-cq-head=\"{}\" data-cq-tail=\"{}\" data-enters=\"{}\" data-held=\"{}\" \
         data-requests=\"{}\"",
        ring.sq_head,
        ring.sq_tail,
        ring.sq_written,
        ring.cq_head,
        ring.cq_tail,
        ring.enters,
        ring.held.len(),
        places.join(" ")
    )
}

/// Breaks a sentence into lines.
pub fn broken(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// Draws one frame; returns how high it is.
fn draw(out: &mut String, number: usize, frame: &Frame) -> u32 {
    let mut y = 10;
    let lines = broken(&frame.what, LINE);
    for (at, line) in lines.iter().enumerate() {
        y += 20;
        let number = if at == 0 {
            format!("<tspan class=\"frame\">{number}</tspan> &#160;")
        } else {
            String::new()
        };
        let x = if at == 0 { 20 } else { 38 };
        let _ = writeln!(out, "<text class=\"what\" x=\"{x}\" y=\"{y}\">{number}{}</text>", {
            escape(line)
        });
    }
    if !frame.code.is_empty() {
        y += 20;
        let code = escape(&frame.code);
        let _ = writeln!(out, "<text class=\"code left\" x=\"38\" y=\"{y}\">{code}</text>");
    }
    for mark in &frame.marks {
        y += 20;
        let mark = escape(mark);
        let _ = writeln!(out, "<text class=\"wrong left\" x=\"38\" y=\"{y}\">! {mark}</text>");
    }
    let middle = y + 152;
    for (x, which) in [(170, Which::Submission), (530, Which::Completion)] {
        let name = which.name();
        let _ = writeln!(out, "<g data-ring=\"{name}\" transform=\"translate({x} {middle})\">");
        wheel::draw(out, frame, which);
        draw_indices(out, frame, which);
        out.push_str("</g>\n");
    }
    let _ = writeln!(out, "<g transform=\"translate(350 {})\">", y + 30);
    draw_call(out, frame);
    out.push_str("</g>\n");
    let below =
        middle + 152 + 18 * if frame.after.sq_written == frame.after.sq_tail { 1 } else { 2 };
    let _ = writeln!(out, "<g transform=\"translate(350 {})\">", middle + 152);
    draw_state(out, frame);
    out.push_str("</g>\n");
    let end = draw_lanes(out, frame, below + 30);
    let _ = writeln!(out, "<path class=\"rule\" d=\"M20 {0}H{1}\"/>", end + 14, WIDTH - 20);
    end + 20
}

/// The indices below a wheel, and which slots they mean.
pub fn draw_indices(out: &mut String, frame: &Frame, which: Which) {
    let mask = which.entries(&frame.after).wrapping_sub(1);
    for (pointer, y) in which.pointers(frame).iter().zip([152, 170, 188]) {
        let _ = writeln!(
            out,
            "<text class=\"code of-{}\" y=\"{y}\">{} {} &amp; {mask} = slot {}</text>",
            pointer.owner.name(),
            pointer.name,
            pointer.index,
            pointer.index & mask
        );
    }
}

/// Whether there was a system call.
fn draw_call(out: &mut String, frame: &Frame) {
    let calls = frame.after.enters - frame.before.enters;
    let (class, text_class) = if calls > 0 { ("call", "on-call") } else { ("no-call", "small") };
    let text = match calls {
        0 => "no system call".into(),
        1 => "1 system call".into(),
        count => format!("{count} system calls"),
    };
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"-56\" y=\"-17\" width=\"112\" height=\"25\" rx=\"12\"/>\
         <text class=\"{text_class}\" font-size=\"13\">{text}</text>\
         <text class=\"small\" y=\"26\">{} so far</text>",
        frame.after.enters
    );
}

/// What else is to be known of a ring, in a few words each.
pub fn state(frame: &Frame) -> Vec<String> {
    let ring = &frame.after;
    let mut lines = Vec::new();
    match ring.poller {
        Some(Poller::Awake) => lines.push("thread: awake".into()),
        Some(Poller::Asleep) => {
            lines.push("thread: asleep".into());
            lines.push("NEED_WAKEUP".into());
        }
        Some(Poller::Dead) => lines.push("thread: dead".into()),
        None => {}
    }
    if !ring.held.is_empty() {
        let tags = ring.held.iter().map(|held| held.request.map_or("?".into(), tag));
        lines.push("OVERFLOW".into());
        lines.push(format!("held back: {}", tags.collect::<Vec<_>>().join(" ")));
    }
    lines
}

fn draw_state(out: &mut String, frame: &Frame) {
    for (line, y) in state(frame).iter().zip((0..).step_by(18)) {
        let _ = writeln!(out, "<text class=\"of-kernel\" y=\"{y}\">{line}</text>");
    }
}

/// The way of each request, and its buffer.
fn draw_lanes(out: &mut String, frame: &Frame, top: u32) -> u32 {
    let mut y = top;
    let shown = frame.shown();
    if !shown.is_empty() {
        for (place, x) in Place::ALL.iter().zip(LANES) {
            let name = place.name();
            let _ = writeln!(out, "<text class=\"small\" x=\"{x}\" y=\"{y}\">{name}</text>");
        }
        if shown.iter().any(|&at| frame.after.requests[at].buffer.is_some()) {
            let _ = writeln!(out, "<text class=\"small\" x=\"648\" y=\"{y}\">its buffer</text>");
        }
    }
    for at in shown {
        y += ROW;
        draw_lane(out, frame, at, y);
    }
    if !frame.after.pool.is_empty() {
        y += ROW + 4;
        let _ = writeln!(out, "<text class=\"left\" x=\"24\" y=\"{y}\">buffers of the ring</text>");
        for (bid, owner) in frame.after.pool.iter().enumerate() {
            let x = 230 + 40 * bid;
            let _ = writeln!(
                out,
                "<rect class=\"{0}\" x=\"{x}\" y=\"{1}\" width=\"34\" height=\"20\" rx=\"4\" \
                 data-buffer=\"{bid}\" data-owner=\"{0}\"/>\
                 <text class=\"on-{0}\" x=\"{2}\" y=\"{y}\">{bid}</text>",
                owner.name(),
                y - 15,
                x + 17
            );
        }
    }
    y
}

/// Whose hands a request is in.
pub fn hands(place: Place) -> Owner {
    match place {
        Place::Ours | Place::Ready => Owner::Program,
        Place::Queued | Place::Kernel => Owner::Kernel,
        Place::Taken => Owner::Free,
    }
}

fn draw_lane(out: &mut String, frame: &Frame, at: usize, y: u32) {
    let request = &frame.after.requests[at];
    let middle = y - 5;
    let name = escape(&request.name);
    let letter = tag(at);
    let _ = writeln!(
        out,
        "<g data-request=\"{letter}\" data-place=\"{}\"><text class=\"left\" x=\"24\" y=\"{y}\">\
         <tspan font-weight=\"700\">{letter}</tspan> &#160;{name}</text>\
         <path class=\"track\" d=\"M{} {middle}H{}\"/>",
        request.place.name(),
        LANES[0],
        LANES[4]
    );
    let x = LANES[request.place.number()];
    let from = frame.place_before(at).map_or(LANES[0], |place| LANES[place.number()]);
    if from < x {
        let _ = writeln!(out, "<path class=\"way\" d=\"M{from} {middle}H{x}\"/>");
    }
    let class = match hands(request.place) {
        Owner::Free => "done",
        owner => owner.name(),
    };
    let on = if class == "done" { "on-free" } else { "on-program" };
    let _ = writeln!(
        out,
        "<circle class=\"{class}\" cx=\"{x}\" cy=\"{middle}\" r=\"11\"/>\
         <text class=\"{on}\" font-weight=\"700\" x=\"{x}\" y=\"{y}\">{letter}</text>"
    );
    if !request.results.is_empty() {
        let results: Vec<String> = request.results.iter().map(i32::to_string).collect();
        // Beyond the last lane there is the buffer.
        let (class, x) =
            if request.place == Place::Taken { ("right", x - 15) } else { ("left", x + 15) };
        let _ = writeln!(
            out,
            "<text class=\"small {class}\" x=\"{x}\" y=\"{}\">= {}</text>",
            y - 9,
            results.join(", ")
        );
    }
    if let Some(buffer) = &request.buffer {
        let owner = request.buffer_owner().name();
        let _ = writeln!(
            out,
            "<rect class=\"{owner}\" x=\"618\" y=\"{}\" width=\"60\" height=\"20\" rx=\"4\" \
             data-buffer=\"{letter}\" data-owner=\"{owner}\"/>\
             <text class=\"on-{owner}\" x=\"648\" y=\"{y}\">{}</text>",
            y - 15,
            escape(buffer)
        );
    }
    out.push_str("</g>\n");
}

/// What the colours mean.
fn draw_legend(out: &mut String) {
    let words = ["the program's", "the kernel's", "free"];
    for ((owner, words), x) in Owner::ALL.iter().zip(words).zip([24, 160, 288]) {
        let _ = writeln!(
            out,
            "<rect class=\"slot {}\" x=\"{x}\" y=\"8\" width=\"16\" height=\"16\" rx=\"3\"/>\
             <text class=\"small left\" x=\"{}\" y=\"21\">{words}</text>",
            owner.name(),
            x + 23
        );
    }
    let _ = writeln!(
        out,
        "<path class=\"pointer at-program\" d=\"M362 24L355 9H369Z\"/>\
         <path class=\"pointer at-kernel\" d=\"M380 24L373 9H387Z\"/>\
         <text class=\"small left\" x=\"395\" y=\"21\">an index, coloured by who moves it</text>"
    );
}
