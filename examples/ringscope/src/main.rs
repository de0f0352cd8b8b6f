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
//! | `lint` | marks on what is wrong, or slow |
//! | `wheel`, `svg`, `html`, `plain`, `tty` | pictures |
//! | `command` | the command line |

mod command;
mod frame;
mod html;
mod lint;
mod model;
mod plain;
mod stage;
mod stories;
mod svg;
mod tty;
mod wheel;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
