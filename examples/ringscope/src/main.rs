//! Watches io_uring rings: pictures of what a program does with them, without root and eBPF.
//!
//! ```text
//!   story ─► stage ─► model ─► frames ─┬─► svg, html     (wheel: one ring)
//!   records of a run ─► replay ────────┤
//!                                      └─► plain ─► tty
//! ```
//!
//! | module | idea |
//! |---|---|
//! | `model` | a ring at one moment: who owns which slot, and where each request is |
//! | `frame` | what happened, with the state before and after |
//! | `stage`, `stories` | small programs on the simulated kernel |
//! | `records`, `replay` | the records of a run, read from what it printed |
//! | `record` | a server on Linux, recorded |
//! | `lint` | marks on what is wrong, or slow |
//! | `fdinfo`, `live` | the rings of other processes, from `/proc` |
//! | `weak`, `listings`, `weak_picture` | barriers that are misplaced, and what comes of it |
//! | `figures` | which pictures the book has |
//! | `quiz` | asks for the next indices |
//! | `wheel`, `svg`, `html`, `plain`, `tty`, `perfetto` | pictures |
//! | `command` | the command line |

mod command;
mod fdinfo;
mod figures;
mod frame;
mod html;
mod lint;
mod listings;
mod live;
mod model;
mod perfetto;
mod plain;
mod quiz;
mod record;
mod records;
mod replay;
mod stage;
mod stories;
mod svg;
mod tty;
mod weak;
mod weak_picture;
mod wheel;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
