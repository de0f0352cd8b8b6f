//! A film as one HTML file with a slider. It needs nothing else, and runs from a disk.
//!
//! ```text
//!   #frame=5 ──► the section of frame 5 is shown, and its data is copied to <main>
//!   slider, arrow keys, buttons ──► the same
//! ```
//!
//! Without scripts all frames are shown, one below the other. What is shown can be read from the
//! attributes of `<main>`: `data-frame`, `data-sq-head`, `data-requests` and so on.

use std::fmt::Write;

use crate::frame::{Film, Frame};
use crate::model::{Owner, Place, tag};
use crate::svg::{self, STYLE, escape, hands};
use crate::wheel::{self, Which};

const PAGE_STYLE: &str = "\
:root{color-scheme:light dark}
body{margin:0;font:16px/1.45 system-ui,'Segoe UI',Roboto,sans-serif}
.scope{background:var(--ground);color:var(--ink);min-height:100vh;box-sizing:border-box;\
padding:16px}
main{max-width:760px;margin:0 auto}
h1{font-size:22px;margin:0 0 8px}
h2{font-size:17px;font-weight:400;margin:8px 0;min-height:3em}
h2 b{margin-right:8px}
code,pre{font:13px ui-monospace,'DejaVu Sans Mono',monospace}
.code{min-height:1.5em}
.wheels{display:flex;flex-wrap:wrap;justify-content:center;gap:0 12px}
.wheels svg{width:340px;max-width:100%;height:auto}
.calls{text-align:center;margin:4px 0}
.calls b{background:var(--ink);color:var(--ground);border-radius:12px;padding:2px 10px}
.calls i{font-style:normal;color:var(--kernel);margin-left:12px}
table{border-collapse:collapse;width:100%;font-size:14px;table-layout:fixed}
th{font-weight:400;color:var(--soft);padding:2px}
td{text-align:center;padding:2px;border-bottom:1px solid var(--line)}
td:first-child,th:first-child{text-align:left;width:32%}
.dot{display:inline-block;min-width:24px;line-height:24px;border-radius:12px;font-weight:700}
.chip{display:inline-block;border-radius:4px;padding:0 8px;margin:1px;white-space:nowrap}
.is-program{background:var(--program);color:var(--ground)}
.is-kernel{background:var(--kernel);color:var(--ground)}
.is-free{background:var(--free);color:var(--soft);outline:1px solid var(--line)}
.passed{background:linear-gradient(var(--ink),var(--ink)) center/100% 4px no-repeat}
pre{color:var(--soft);white-space:pre-wrap;overflow-wrap:anywhere}
.wrong{color:var(--mark);font-weight:600}
nav{display:none;gap:8px;align-items:center;position:sticky;bottom:0;background:var(--ground);\
padding:10px 0}
nav input{flex:1;min-width:0}
nav button{font:inherit;padding:4px 14px}
.scripted nav{display:flex}
.scripted section{display:none}.scripted section.now{display:block}
section{border-top:1px solid var(--line);padding-top:4px}
.legend{font-size:14px;color:var(--soft)}
";

const SCRIPT: &str = "\
const main = document.querySelector('main');
const sections = [...document.querySelectorAll('section')];
const slider = document.querySelector('input');
const shown = document.querySelector('output');
function show(number) {
  const at = Math.min(Math.max(Number(number) || 1, 1), sections.length);
  sections.forEach((section, index) => section.classList.toggle('now', index === at - 1));
  for (const { name, value } of sections[at - 1].attributes) {
    if (name.startsWith('data-')) main.setAttribute(name, value);
  }
  slider.value = at;
  shown.textContent = `${at} of ${sections.length}`;
  history.replaceState(null, '', `#frame=${at}`);
}
const asked = () => (location.hash.match(/^#frame=(\\d+)$/) || [])[1];
document.body.classList.add('scripted');
slider.addEventListener('input', () => show(slider.value));
document.querySelector('#back').addEventListener('click', () => show(Number(slider.value) - 1));
document.querySelector('#on').addEventListener('click', () => show(Number(slider.value) + 1));
addEventListener('hashchange', () => show(asked()));
addEventListener('keydown', (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && event.target !== slider) show(Number(slider.value) + step);
});
show(asked());
";

/// The film as a page.
pub fn document(film: &Film) -> String {
    let mut sections = String::new();
    for (at, frame) in film.frames.iter().enumerate() {
        add_section(&mut sections, at + 1, frame);
    }
    let count = film.frames.len();
    let title = escape(&film.title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}{PAGE_STYLE}</style>\n<body>\n<div class=\"scope\">\n\
         <main data-story=\"{}\" data-frames=\"{count}\">\n<h1>{title}</h1>\n{sections}\
         <nav><button id=\"back\" aria-label=\"one frame back\">←</button>\
         <input type=\"range\" min=\"1\" max=\"{count}\" value=\"1\" aria-label=\"frame\">\
         <button id=\"on\" aria-label=\"one frame on\">→</button><output></output></nav>\n\
         <p class=\"legend\">{}an index has the colour of the one who moves it</p>\n\
         </main>\n</div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        escape(&film.name),
        legend()
    )
}

fn legend() -> String {
    let words = ["the program's", "the kernel's", "free"];
    let chip = |(owner, words): (&Owner, &str)| {
        format!("<span class=\"chip is-{}\">{words}</span> ", owner.name())
    };
    Owner::ALL.iter().zip(words).map(chip).collect()
}

fn add_section(out: &mut String, number: usize, frame: &Frame) {
    let _ = writeln!(
        out,
        "<section id=\"frame-{number}\" {}>\n<h2><b>{number}</b>{}</h2>",
        svg::data(number, frame),
        escape(&frame.what)
    );
    let _ = writeln!(out, "<div class=\"code\"><code>{}</code></div>", escape(&frame.code));
    for mark in &frame.marks {
        let _ = writeln!(out, "<div class=\"wrong\">! {}</div>", escape(mark));
    }
    add_calls(out, frame);
    out.push_str("<div class=\"wheels\">\n");
    for which in [Which::Submission, Which::Completion] {
        let words = frame.describe();
        let words = &words[usize::from(which == Which::Completion)];
        let _ = writeln!(
            out,
            "<svg viewBox=\"-170 -138 340 334\" role=\"img\" aria-label=\"{}\" data-ring=\"{}\">",
            escape(words),
            which.name()
        );
        wheel::draw(out, frame, which);
        svg::draw_indices(out, frame, which);
        out.push_str("</svg>\n");
    }
    out.push_str("</div>\n");
    add_requests(out, frame);
    let records: Vec<String> = frame.records.iter().map(|record| escape(record)).collect();
    let _ = writeln!(out, "<pre>{}</pre>\n</section>", records.join("\n"));
}

fn add_calls(out: &mut String, frame: &Frame) {
    let calls = match frame.after.enters - frame.before.enters {
        0 => "no system call".into(),
        1 => "<b>1 system call</b>".into(),
        count => format!("<b>{count} system calls</b>"),
    };
    let states = svg::state(frame);
    let states = states.iter().map(|state| format!("<i>{}</i>", escape(state)));
    let _ = writeln!(
        out,
        "<div class=\"calls\">{calls}, {} so far{}</div>",
        frame.after.enters,
        states.collect::<String>()
    );
}

fn add_requests(out: &mut String, frame: &Frame) {
    let shown = frame.shown();
    let has_buffers = shown.iter().any(|&at| frame.after.requests[at].buffer.is_some());
    if !shown.is_empty() {
        let places: String =
            Place::ALL.iter().map(|place| format!("<th>{}</th>", place.name())).collect();
        let buffer = if has_buffers { "<th>its buffer</th>" } else { "" };
        let _ = writeln!(out, "<table><tr><th></th>{places}{buffer}</tr>");
        shown.into_iter().for_each(|at| add_request(out, frame, at, has_buffers));
        out.push_str("</table>\n");
    }
    if !frame.after.pool.is_empty() {
        out.push_str("<p>buffers of the ring: ");
        for (bid, owner) in frame.after.pool.iter().enumerate() {
            let owner = owner.name();
            let _ = write!(
                out,
                "<span class=\"chip is-{owner}\" data-buffer=\"{bid}\" data-owner=\"{owner}\">\
                 {bid}</span>"
            );
        }
        out.push_str("</p>\n");
    }
}

fn add_request(out: &mut String, frame: &Frame, at: usize, has_buffers: bool) {
    let request = &frame.after.requests[at];
    let from = frame.place_before(at).unwrap_or(Place::Ours);
    let letter = tag(at);
    let results: Vec<String> = request.results.iter().map(i32::to_string).collect();
    let results =
        if results.is_empty() { String::new() } else { format!(" = {}", results.join(", ")) };
    let _ = write!(
        out,
        "<tr data-request=\"{letter}\" data-place=\"{}\"><td><b>{letter}</b> {}{results}</td>",
        request.place.name(),
        escape(&request.name)
    );
    for place in Place::ALL {
        let is_passed = place < request.place && place >= from;
        let class = if is_passed { " class=\"passed\"" } else { "" };
        let dot = if place == request.place {
            format!("<span class=\"dot is-{}\">{letter}</span>", hands(place).name())
        } else {
            String::new()
        };
        let _ = write!(out, "<td{class}>{dot}</td>");
    }
    if has_buffers {
        let owner = request.buffer_owner().name();
        let chip = request.buffer.as_ref().map(|buffer| {
            format!(
                "<span class=\"chip is-{owner}\" data-buffer=\"{letter}\" \
                 data-owner=\"{owner}\">{}</span>",
                escape(buffer)
            )
        });
        let _ = write!(out, "<td>{}</td>", chip.unwrap_or_default());
    }
    out.push_str("</tr>\n");
}
