//! A report as one page of HTML, with its plots in it, and as Markdown, with its plots beside it.

use std::fmt::Write;

use super::plots::Plot;
use crate::measure::Measured;
use crate::table::Report;

/// A benchmark in the report.
pub struct Chapter {
    /// What is measured, in a sentence.
    pub about: &'static str,
    pub report: Report,
    pub plots: Vec<Plot>,
}

/// The head of the report: lines about the machine, the day and the command.
pub type Head = [String];

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }
h2 { margin-top: 3rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
summary { cursor: pointer; margin: .5rem 0; }
figure { margin: 1rem 0; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181a1b; } }
";

const COLUMNS: [&str; 5] = ["", "CPU time, ns", "middle half", "wall, ns", "rate, M/s"];

/// The cells of a row.
fn cells(Measured { name, cpu, wall }: &Measured) -> [String; 5] {
    [
        name.clone(),
        format!("{:.1}", cpu.median),
        format!("{:.1} – {:.1}", cpu.low, cpu.high),
        format!("{:.1}", wall.median),
        format!("{:.3}", 1e3 / wall.median),
    ]
}

pub fn html(head: &Head, chapters: &[Chapter]) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    let viewport = "<meta name=\"viewport\" content=\"width=device-width\">";
    let title = "<title>annulus, measured</title>";
    page += &format!("{viewport}\n{title}\n<style>{STYLE}</style>\n<h1>annulus, measured</h1>\n");
    list(&mut page, head);
    for Chapter { about, report, plots } in chapters {
        page += &format!("<h2>{}</h2>\n<p>{}</p>\n", escape(report.title), escape(about));
        for Plot { name, svg } in plots {
            page += &format!("<figure><h3>{}</h3>\n{svg}</figure>\n", escape(name));
        }
        let unit = escape(report.unit);
        page += &format!("<details open><summary>All figures, for each {unit}</summary>\n");
        for (name, rows) in &report.sections {
            page += &format!("<h3>{}</h3>\n<table>\n", escape(name));
            row(&mut page, "th", &COLUMNS.map(str::to_owned));
            rows.iter().for_each(|one| row(&mut page, "td", &cells(one)));
            page += "</table>\n";
        }
        page += "</details>\n";
        list(&mut page, &report.notes);
    }
    page + "</html>\n"
}

fn list(page: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let lines: String = lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    *page += &format!("<ul>\n{lines}</ul>\n");
}

fn row(page: &mut String, tag: &str, cells: &[String]) {
    let cell = |cell: &String| format!("<{tag}>{}</{tag}>", escape(cell));
    *page += &format!("<tr>{}</tr>\n", cells.iter().map(cell).collect::<String>());
}

/// As Markdown. The plots are in files beside it, numbered from 1.
pub fn markdown(head: &Head, chapters: &[Chapter]) -> String {
    let mut page = String::from("# annulus, measured\n\n");
    let mut files = 0;
    head.iter().for_each(|line| page += &format!("- {line}\n"));
    for Chapter { about, report, plots } in chapters {
        page += &format!("\n## {}\n\n{about}\n", report.title);
        for Plot { name, .. } in plots {
            files += 1;
            page += &format!("\n![{name}](plot-{files}.svg)\n");
        }
        for (name, rows) in &report.sections {
            page += &format!("\n### {name}\n\n| {} |\n", COLUMNS.join(" | "));
            page += "|---|---:|---:|---:|---:|\n";
            for one in rows {
                let _ = writeln!(page, "| {} |", cells(one).join(" | "));
            }
        }
        if !report.notes.is_empty() {
            page += "\n";
        }
        report.notes.iter().for_each(|note| page += &format!("- {note}\n"));
    }
    page
}

/// A plot in a file of its own, whose text has the colour that the reader prefers.
pub fn alone(svg: &str) -> String {
    let style = "<style>svg { color: #222 } \
                 @media (prefers-color-scheme: dark) { svg { color: #ddd } }</style>";
    let (head, rest) = svg.split_once('>').expect("an element");
    format!("{head}>{style}{rest}")
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
