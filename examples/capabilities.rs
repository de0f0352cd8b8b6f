//! What the running kernel can do: each operation, register call, set-up flag, enter flag and
//! feature that Linux 7.3 has.
//!
//! ```text
//!   READ  yes                 it is here
//!   PIPE  needs Linux 6.16    this kernel is older
//!   NAPI  no                  this kernel is new enough, and was built or locked up without it
//! ```
//!
//! Look at: where the answers come from. Linux 6.18 and later answers a query; before, each feature
//! is tried once. The version decides nothing, because distributions backport features and
//! sandboxes remove them; it is printed only next to a missing feature, to explain why.
//!
//! `--json` prints the same for a program: `jq '.operations.PIPE.here'`.
//!
//! Linux 5.1.

use std::fs;
use std::process::ExitCode;

use annulus::Capabilities;
use annulus::raw::capabilities::Source;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use clap::Parser;
use support::{Failure, Page, failed};

mod support;

/// Prints what the io_uring of this kernel can do: yes, no, or since which Linux.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Print it for a program
    #[arg(long)]
    json: bool,
}

/// A feature that a kernel may have.
struct Row {
    name: &'static str,
    since: &'static str,
    here: bool,
}

/// A kind of features, with its name in JSON.
struct Section {
    title: &'static str,
    key: &'static str,
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(failed("cannot tell which Linux this is"))?;
    let here = Capabilities::detect()?;
    let sections = sections(&here);
    if arguments.json {
        return json(page, release.trim(), &here, &sections);
    }
    let source = match here.source() {
        Source::Asked => "the kernel was asked",
        Source::Tried => "each was tried once",
    };
    writeln!(page, "Linux {}; {source}", release.trim())?;
    for section in &sections {
        table(page, version(release.trim()), section)?;
    }
    Ok(())
}

/// Every feature of Linux 7.3, and whether it is here.
fn sections(here: &Capabilities) -> [Section; 5] {
    let row = |name, since: Option<_>, here| Row { name, since: since.unwrap_or("5.1"), here };
    let ops = Opcode::ALL
        .iter()
        .filter_map(|&op| op.name().map(|name| row(name, op.since(), here.has_op(op))));
    let calls = RegisterOp::ALL
        .iter()
        .filter_map(|&op| op.name().map(|name| row(name, op.since(), here.has_register(op))));
    let setup = SetupFlags::all();
    let setup = setup
        .iter_names()
        .map(|(name, flag)| row(name, flag.since(), here.setup_flags().contains(flag)));
    let enter = EnterFlags::all();
    let enter = enter
        .iter_names()
        .map(|(name, flag)| row(name, flag.since(), here.enter_flags().contains(flag)));
    let features = Features::all();
    let features = features
        .iter_names()
        .map(|(name, flag)| row(name, flag.since(), here.features().contains(flag)));
    [
        Section { title: "Operations", key: "operations", rows: ops.collect() },
        Section { title: "Register calls", key: "register_calls", rows: calls.collect() },
        Section { title: "Set-up flags", key: "setup_flags", rows: setup.collect() },
        Section { title: "Enter flags", key: "enter_flags", rows: enter.collect() },
        Section { title: "Features", key: "features", rows: features.collect() },
    ]
}

/// The two numbers of a release such as `6.18.44-cloud`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

/// The text next to a feature: yes, no, or what it needs.
fn answer(row: &Row, linux: (u32, u32)) -> String {
    match row.here {
        true => "yes".into(),
        false if version(row.since) <= linux => "no".into(),
        false => format!("needs Linux {}", row.since),
    }
}

/// Prints a section in two columns, which are read downwards.
fn table(page: &mut Page, linux: (u32, u32), section: &Section) -> Result<(), Failure> {
    let here = section.rows.iter().filter(|row| row.here).count();
    writeln!(page, "\n{}: {here} of {}", section.title, section.rows.len())?;
    let half = section.rows.len().div_ceil(2);
    for at in 0..half {
        let [left, right] = [at, at + half].map(|at| {
            section.rows.get(at).map(|row| format!("{:<22} {}", row.name, answer(row, linux)))
        });
        let line = format!(" {:<39} {}", left.unwrap_or_default(), right.unwrap_or_default());
        writeln!(page, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Prints everything as one object. The release string can be anything, so characters that would
/// have to be escaped are left out.
fn json(
    page: &mut Page,
    release: &str,
    here: &Capabilities,
    sections: &[Section],
) -> Result<(), Failure> {
    let plain = |sign: &char| sign.is_ascii_graphic() && !['"', '\\'].contains(sign);
    let release: String = release.chars().filter(plain).collect();
    let source = if here.source() == Source::Asked { "asked" } else { "tried" };
    writeln!(page, "{{\n  \"linux\": \"{release}\",\n  \"source\": \"{source}\",")?;
    for (at, section) in sections.iter().enumerate() {
        writeln!(page, "  \"{}\": {{", section.key)?;
        for (at, Row { name, since, here }) in section.rows.iter().enumerate() {
            let comma = if at + 1 < section.rows.len() { "," } else { "" };
            let row = format!("{{ \"here\": {here}, \"since\": \"{since}\" }}");
            writeln!(page, "    \"{name}\": {row}{comma}")?;
        }
        writeln!(page, "  }}{}", if at + 1 < sections.len() { "," } else { "" })?;
    }
    writeln!(page, "}}")
}
