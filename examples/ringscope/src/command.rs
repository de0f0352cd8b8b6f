//! The command line: what each command reads, and where its picture goes.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Child, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::frame::Film;
use crate::perfetto::Clock;
use crate::records::Said;
use crate::replay::Part;
use crate::stage::Failure;
use crate::stories::{STORIES, Story};
use crate::weak::Listing;
use crate::{
    fdinfo, figures, html, listings, live, perfetto, plain, quiz, record, records, replay, svg,
    tty, weak_picture,
};

/// Watches io_uring rings: pictures of what a program does with them, without root
/// and eBPF.
#[derive(Debug, Parser)]
#[command(name = "ringscope", verbatim_doc_comment, after_help = stories())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows a story in the terminal, step by step with the arrow keys
    Demo {
        /// Which story
        #[arg(default_value = "demo")]
        story: String,
        /// Print all frames as text, without a terminal
        #[arg(long)]
        plain: bool,
    },
    /// Draws frames of a story as one SVG
    Svg {
        /// Which story
        story: String,
        /// Only these frames, counted from 1
        #[arg(long, value_name = "N,..", value_delimiter = ',')]
        frames: Vec<usize>,
        #[command(flatten)]
        to: To,
    },
    /// Draws a story as one HTML file with a slider
    Html {
        /// Which story
        story: String,
        #[command(flatten)]
        to: To,
    },
    /// Draws a story as a Chrome trace, for Perfetto
    Perfetto {
        /// Which story
        story: String,
        #[command(flatten)]
        to: To,
    },
    /// Records the small echo server on a ring of Linux, and prints the records
    Record {
        /// How many clients come, one after the other
        #[arg(long, value_name = "N", default_value_t = 2)]
        clients: u16,
        /// How often each asks
        #[arg(long, value_name = "N", default_value_t = 2)]
        rounds: u16,
        #[command(flatten)]
        to: To,
    },
    /// Shows the records of a run, in lines as `record` and `Sim::trace` print them
    Replay {
        /// The file; `-` is the standard input
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Shows how printed listings fail whose barriers are misplaced, and their right twins
    Weak {
        /// Which listing; without it, all of them
        listing: Option<String>,
        /// Draw it as one SVG
        #[arg(long, requires = "listing")]
        svg: bool,
        #[command(flatten)]
        to: To,
    },
    /// Draws the figures of the book into a folder
    Figures {
        /// The folder; in this repository `docs/book/src/figures`
        folder: PathBuf,
    },
    /// Asks where head and tail of the demo are after the next step
    Quiz {
        /// Another story
        #[arg(default_value = "demo")]
        story: String,
    },
    /// Lists the rings of this machine: of every process that may be read
    Ls,
    /// Shows the rings of a process, again every second
    Live {
        /// The number of the process
        pid: u32,
        /// Look once, and print
        #[arg(long)]
        once: bool,
        /// Milliseconds between two looks
        #[arg(long, value_name = "N", default_value_t = 1000)]
        every: u64,
    },
    /// Runs a program that prints records, and shows them
    Run {
        #[command(flatten)]
        how: How,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
}

/// What of a run is shown, and as what.
#[derive(Debug, Args)]
struct How {
    /// Which ring, if there are several
    #[arg(long, value_name = "N", default_value_t = 0)]
    ring: usize,
    /// How many entries its queues have, where the beginning of the run is missing
    #[arg(long, value_name = "SQ,CQ", value_parser = sizes)]
    entries: Option<(u32, u32)>,
    /// Leave the first frames out
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Show at most so many frames
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
    /// As what; `lint` prints only what is wrong, or slow
    #[arg(long = "as", value_name = "KIND", value_enum, default_value_t = Kind::Plain)]
    kind: Kind,
    #[command(flatten)]
    to: To,
}

/// What to make of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Plain,
    Tty,
    Svg,
    Html,
    Perfetto,
    Lint,
}

/// Where the output goes.
#[derive(Debug, Args)]
struct To {
    /// Write to this file, and not to the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl To {
    fn write(&self, text: &str) -> Result<(), Failure> {
        let Some(path) = &self.output else { return print(text) };
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

/// Prints; a reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Two sizes of queues.
fn sizes(text: &str) -> Result<(u32, u32), String> {
    let parse = |text: &str| text.trim().parse().ok().filter(|size: &u32| size.is_power_of_two());
    let sizes = text.split_once(',').and_then(|(sq, cq)| Some((parse(sq)?, parse(cq)?)));
    sizes.ok_or_else(|| "two powers of two, such as 8,16".into())
}

fn stories() -> String {
    let mut text = String::from("Stories:");
    for story in STORIES {
        text += &format!("\n  {:<10} {}", story.name, story.title);
    }
    text
}

/// An argument that means nothing: says so with a usage line, and ends with code 2.
fn refuse(text: &str) -> ! {
    Arguments::command().error(clap::error::ErrorKind::InvalidValue, text).exit()
}

fn film(story: &str) -> Result<Film, Failure> {
    Story::named(story).unwrap_or_else(|text| refuse(&text)).film()
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // A value that does not parse has no usage line of its own.
            if error.use_stderr() && !error.to_string().contains("Usage:") {
                eprintln!("{}", Arguments::command().render_usage());
            }
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringscope: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Demo { story, plain } => {
            let film = film(&story)?;
            if plain || !io::stdout().is_terminal() {
                print(&plain::text(&film))?;
            } else {
                tty::show(&film)?;
            }
        }
        Command::Svg { story, frames, to } => {
            let film = film(&story)?;
            let frames = film.choose(&frames).unwrap_or_else(|text| refuse(&text));
            to.write(&svg::document(&film, &frames))?;
        }
        Command::Html { story, to } => to.write(&html::document(&film(&story)?))?,
        Command::Perfetto { story, to } => {
            let film = film(&story)?;
            let lines = film.frames.iter().flat_map(|frame| &frame.records);
            let said: Vec<Said> = lines.filter_map(|line| records::parse(line)).collect();
            to.write(&perfetto::document(&said, Clock::Steps))?;
        }
        Command::Record { clients, rounds, to } => {
            let trace = record::echo(clients, rounds)?;
            let lines: String = trace.iter().map(|record| format!("{record}\n")).collect();
            to.write(&lines)?;
        }
        Command::Replay { file, how } => {
            let text = if file.as_os_str() == "-" {
                io::read_to_string(io::stdin())?
            } else {
                let failed = |error| format!("{}: {error}", file.display());
                std::fs::read_to_string(&file).map_err(failed)?
            };
            let name = file.file_stem().map_or("run".into(), |name| name.to_string_lossy());
            return show(&name, &records::read(&text), &how);
        }
        Command::Weak { listing, svg, to } => {
            let all = listings::all();
            let chosen: Vec<Listing> = match &listing {
                Some(name) => all.iter().filter(|one| one.name == name).cloned().collect(),
                None => all.clone(),
            };
            if chosen.is_empty() {
                let names: Vec<&str> = all.iter().map(|one| one.name).collect();
                refuse(&format!("no such listing; there are {}", names.join(", ")));
            }
            let text =
                if svg { weak_picture::document(&chosen[0]) } else { weak_picture::text(&chosen) };
            to.write(&text)?;
        }
        Command::Figures { folder } => figures::write(&folder)?,
        Command::Quiz { story } => {
            let (right, asked) = quiz::ask(&film(&story)?, io::stdin().lock(), io::stdout())?;
            return Ok(if right == asked { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Ls => print(&fdinfo::table(&fdinfo::of_machine()))?,
        Command::Live { pid, once, every } => {
            if once || !io::stdout().is_terminal() {
                print(&live::once(pid)?)?;
            } else {
                live::watch(pid, Duration::from_millis(every))?;
            }
        }
        Command::Run { how, program } => {
            let said = said_by(&program)?;
            let name = Path::new(&program[0]).file_name().unwrap_or(&program[0]);
            return show(&name.to_string_lossy(), &said, &how);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a program, and reads the records that it prints.
fn said_by(program: &[OsString]) -> Result<Vec<Said>, Failure> {
    let mut child = Child::new(&program[0]);
    child.args(&program[1..]).stdout(Stdio::piped()).stdin(Stdio::null());
    let name = program[0].to_string_lossy();
    let child = child.spawn().map_err(|error| format!("{name}: {error}"))?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        eprintln!("ringscope: {name} ends with {}", output.status);
    }
    Ok(records::read(&String::from_utf8_lossy(&output.stdout)))
}

/// Shows records. Marks make the exit code of `lint` 1.
fn show(name: &str, said: &[Said], how: &How) -> Result<ExitCode, Failure> {
    if said.is_empty() {
        return Err("there are no records: lines as `ringscope record` prints them".into());
    }
    match how.kind {
        Kind::Perfetto => how.to.write(&perfetto::document(said, Clock::Records))?,
        Kind::Lint => {
            let marks = replay::marks(said);
            let lines: String = marks.iter().map(|mark| format!("{mark}\n")).collect();
            how.to.write(&lines)?;
            return Ok(if marks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        kind => {
            let part =
                Part { ring: how.ring, entries: how.entries, skip: how.skip, limit: how.limit };
            let film = replay::film(name, said, part)?;
            match kind {
                Kind::Tty if io::stdout().is_terminal() => tty::show(&film)?,
                Kind::Html => how.to.write(&html::document(&film))?,
                Kind::Svg => how.to.write(&svg::document(&film, &film.choose(&[])?))?,
                _ => how.to.write(&plain::text(&film))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
