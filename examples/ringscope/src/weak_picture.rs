//! A failing order as text, and as a picture: two threads, and memory between them.
//!
//! ```text
//!   program's lines                    kernel's lines
//!   ┌ 4 read cqe[0] ┐ ◄── old ──                         time runs down
//!                     ── new ──  ┌ 1 cqe[0] = new ┐
//!   the right twin: which of these steps its barriers forbid, and why
//! ```

use std::fmt::Write;

use crate::svg::{STYLE, WIDTH, broken, escape};
use crate::weak::{Act, Line, Listing, Step, Word, order, overtaken, search};

/// A failing order, and how its right twin escapes it.
#[derive(Debug)]
struct Account {
    steps: Vec<Step>,
    orders: usize,
    failures: usize,
    right_orders: usize,
    /// The step that the twin's barriers forbid, counted from 0, and why.
    escape: String,
}

fn account(listing: &Listing) -> Account {
    let wrong = search(listing, &listing.program);
    let steps = wrong.failing.expect("a test holds every listing to it");
    let right_orders = search(listing, &listing.right).orders;
    let escape = escape_of(listing, &steps);
    Account { steps, orders: wrong.orders, failures: wrong.failures, right_orders, escape }
}

/// Which pair of lines the twin keeps in order, that the failing order exchanges.
fn escape_of(listing: &Listing, steps: &[Step]) -> String {
    // Head is loaded and stored, so a word alone does not say which access it is.
    let access = |line: &Line| Some((line.act.word()?, line.act.is_load()));
    let ran: Vec<(Word, bool)> = steps
        .iter()
        .filter(|step| !step.is_kernel)
        .filter_map(|step| access(&listing.program[step.line]))
        .collect();
    let right = &listing.right;
    let ahead_in_run = |early: (Word, bool), late: (Word, bool)| {
        let at = |access| ran.iter().position(|&other| other == access);
        at(late) < at(early)
    };
    for late in 0..right.len() {
        for early in 0..late {
            let (Some(a), Some(b)) = (access(&right[early]), access(&right[late])) else {
                continue;
            };
            if !ahead_in_run(a, b) {
                continue;
            }
            let Some(why) = order(right, early, late) else { continue };
            return format!("Line {} cannot run ahead of line {}: {why}.", late + 1, early + 1);
        }
    }
    String::new()
}

/// What a step did.
fn did(listing: &Listing, step: &Step) -> (Word, String, bool) {
    let lines = if step.is_kernel { &listing.kernel } else { &listing.program };
    let act = lines[step.line].act;
    let word = act.word().expect("only accesses run");
    (word, (listing.said)(word, step.value), act.is_load())
}

/// The lines that a step ran ahead of, in words.
fn ahead(listing: &Listing, steps: &[Step], at: usize) -> Option<String> {
    let lines = if steps[at].is_kernel { &listing.kernel } else { &listing.program };
    let passed = overtaken(lines, steps, at);
    let numbers: Vec<String> = passed.iter().map(|line| (line + 1).to_string()).collect();
    (!numbers.is_empty()).then(|| format!("ahead of {}", numbers.join(", ")))
}

/// All listings as text, or one.
pub fn text(listings: &[Listing]) -> String {
    let mut out = String::new();
    for listing in listings {
        let account = account(listing);
        let _ = writeln!(out, "{}: {}", listing.name, listing.title);
        let _ = writeln!(out, "printed in: {}\n", listing.source);
        let _ = writeln!(out, "    {:<46}the kernel", "the program");
        let count = listing.program.len().max(listing.kernel.len());
        for at in 0..count {
            let of = |lines: &[Line]| {
                lines.get(at).map_or(String::new(), |line| format!("{} {}", at + 1, line.text))
            };
            let row = format!("    {:<46}{}", of(&listing.program), of(&listing.kernel));
            let _ = writeln!(out, "{}", row.trim_end());
        }
        out.push('\n');
        for (at, step) in account.steps.iter().enumerate() {
            let (word, value, is_load) = did(listing, step);
            let who = if step.is_kernel { "kernel " } else { "program" };
            let verb = if is_load { "reads" } else { "stores" };
            let passed = ahead(listing, &account.steps, at);
            let passed = passed.map_or(String::new(), |passed| format!("   <- {passed}"));
            let what = format!("line {}: {verb} {} = {value}", step.line + 1, word.name());
            let _ = writeln!(out, "  {}. {who} {what}{passed}", at + 1);
        }
        let _ = writeln!(out, "\n  FAILS: {}", listing.failure);
        let (failures, orders) = (account.failures, account.orders);
        let _ = writeln!(out, "  Orders that fail: {failures} of {orders}.\n");
        let _ = writeln!(out, "  the right twin");
        for (at, line) in listing.right.iter().enumerate() {
            let _ = writeln!(out, "    {} {}", at + 1, line.text);
        }
        let right = account.right_orders;
        let _ = writeln!(out, "  {} None of its {right} orders fails.\n", account.escape);
    }
    out
}

/// The first step's height, and the columns.
const ROW: u32 = 46;
const LEFT: u32 = 16;
const RIGHT: u32 = 418;
const BOX: u32 = 266;

/// One listing as a picture.
pub fn document(listing: &Listing) -> String {
    let account = account(listing);
    let mut body = String::new();
    let mut y = 30;
    let title = format!("{}: {}", listing.name, listing.title);
    let _ =
        writeln!(body, "<text class=\"what frame\" x=\"20\" y=\"{y}\">{}</text>", escape(&title));
    for line in broken(&format!("Printed in {}.", listing.source), 92) {
        y += 19;
        let _ = writeln!(body, "<text class=\"small left\" x=\"20\" y=\"{y}\">{line}</text>");
    }
    y += 30;
    let below = draw_listing(&mut body, "the program, wrong", &listing.program, (LEFT, y));
    y = below.max(draw_listing(&mut body, "the kernel", &listing.kernel, (RIGHT, y))) + 22;
    let _ = writeln!(
        body,
        "<path class=\"rule\" d=\"M20 {0}H680\"/><text class=\"small\" x=\"350\" y=\"{1}\">\
         memory</text><text class=\"small left\" x=\"{LEFT}\" y=\"{1}\">an order that its barriers \
         allow</text>",
        y - 12,
        y + 8
    );
    y += 26;
    for at in 0..account.steps.len() {
        draw_step(&mut body, listing, &account.steps, at, y);
        y += ROW;
    }
    y += 14;
    for line in broken(listing.failure, 76) {
        let _ = writeln!(body, "<text class=\"what wrong\" x=\"20\" y=\"{y}\">{line}</text>");
        y += 20;
    }
    y += 14;
    let _ = writeln!(body, "<path class=\"rule\" d=\"M20 {}H680\"/>", y - 22);
    let end = draw_listing(&mut body, "the right twin", &listing.right, (LEFT, y));
    let words = format!("{} None of its {} orders fails.", account.escape, account.right_orders);
    for (at, line) in (0..).zip(broken(&words, 36)) {
        let y = y + 20 + 20 * at;
        let _ = writeln!(body, "<text class=\"left\" x=\"{RIGHT}\" y=\"{y}\">{line}</text>");
    }
    finish(listing, &account, &body, end.max(y + 90) + 14)
}

fn finish(listing: &Listing, account: &Account, body: &str, height: u32) -> String {
    let steps: Vec<String> = account
        .steps
        .iter()
        .map(|step| {
            let (word, value, is_load) = did(listing, step);
            let who = if step.is_kernel { "kernel" } else { "program" };
            let verb = if is_load { "reads" } else { "stores" };
            format!("The {who} {verb} {} = {value}.", word.name())
        })
        .collect();
    let told = format!("{} {} {}", steps.join(" "), listing.failure, account.escape);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title\" \
         aria-describedby=\"desc\" style=\"max-width:100%;height:auto\">\n\
         <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n",
        escape(listing.title),
        escape(&told)
    )
}

fn is_ordering(act: Act) -> bool {
    !matches!(act, Act::Load(_) | Act::Store(..))
}

/// Draws lines with their numbers; those that order others stand out. Returns where they end.
fn draw_listing(out: &mut String, name: &str, lines: &[Line], (x, top): (u32, u32)) -> u32 {
    let _ = writeln!(out, "<text class=\"small left\" x=\"{x}\" y=\"{top}\">{name}</text>");
    let mut y = top;
    for (at, line) in lines.iter().enumerate() {
        y += 19;
        let weight = if is_ordering(line.act) { " font-weight=\"700\"" } else { "" };
        let text = escape(line.text).replace("   ", "&#160;&#160;&#160;");
        let _ = writeln!(
            out,
            "<text class=\"code left\" x=\"{x}\" y=\"{y}\"{weight}>{}&#160; {text}</text>",
            at + 1
        );
    }
    y
}

fn draw_step(out: &mut String, listing: &Listing, steps: &[Step], at: usize, y: u32) {
    let step = &steps[at];
    let (word, value, is_load) = did(listing, step);
    let (lines, owner, x) = if step.is_kernel {
        (&listing.kernel, "kernel", RIGHT)
    } else {
        (&listing.program, "program", LEFT)
    };
    let text = escape(lines[step.line].text.trim());
    let middle = y + 17;
    let _ = writeln!(
        out,
        "<g data-step=\"{}\" data-thread=\"{owner}\" data-line=\"{}\">\
         <rect class=\"{owner}\" x=\"{x}\" y=\"{y}\" width=\"{BOX}\" height=\"26\" rx=\"5\"/>\
         <text class=\"code left on-{owner}\" x=\"{}\" y=\"{}\">{}&#160; {text}</text>\
         <text x=\"350\" y=\"{}\">{} = {value}</text>",
        at + 1,
        step.line + 1,
        x + 8,
        y + 18,
        step.line + 1,
        y + 5,
        word.name()
    );
    // An arrow: from the box to memory for a store, and back for a load.
    let (edge, inner) = if step.is_kernel { (RIGHT - 4, 300) } else { (LEFT + BOX + 4, 400) };
    let (from, to) = if is_load { (inner, edge) } else { (edge, inner) };
    let back = if from < to { to - 8 } else { to + 8 };
    let _ = writeln!(
        out,
        "<path class=\"by-{owner}\" fill=\"none\" stroke-width=\"2\" d=\"M{from} {middle}H{to}\"/>\
         <path class=\"at-{owner}\" d=\"M{to} {middle}L{back} {}V{}Z\"/>",
        middle - 4,
        middle + 4
    );
    if let Some(passed) = ahead(listing, steps, at) {
        let _ = writeln!(
            out,
            "<text class=\"wrong left\" x=\"{}\" y=\"{}\">↑ {passed}</text>",
            x + 8,
            y + 40
        );
    }
    out.push_str("</g>\n");
}
