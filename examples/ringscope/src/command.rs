//! The command line: what each command reads, and where its picture goes.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::frame::Film;
use crate::stage::Failure;
use crate::stories::{STORIES, Story};
use crate::{html, plain, svg, tty};

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
    }
    Ok(ExitCode::SUCCESS)
}
