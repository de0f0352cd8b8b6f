//! The rings of a process, as they are now, and again every second.
//!
//! What `/proc` tells is one look at the queues: who is in flight, and what is written but not
//! published, does not show.

use std::io::ErrorKind;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode};

use crate::fdinfo::{self, Found};
use crate::frame::{Film, Frame};
use crate::model::{Completion, Place, Ring};
use crate::stage::Failure;
use crate::tty;

/// One look at each ring of a process.
///
/// # Errors
///
/// It has none, or may not be read.
pub fn look(pid: u32, before: Option<&Film>) -> Result<Film, Failure> {
    let found = fdinfo::of_process(pid).map_err(|kind| match kind {
        ErrorKind::PermissionDenied => {
            format!("process {pid} is another user's: ask as that user, or as root")
        }
        ErrorKind::NotFound => format!("there is no process {pid}"),
        kind => format!("process {pid}: {kind}"),
    })?;
    if found.is_empty() {
        return Err(format!("process {pid} has no ring that a descriptor leads to").into());
    }
    let command = &found[0].command;
    let title = format!("process {pid}, {command}: rings: {}", found.len());
    let frames: Vec<Frame> = found
        .iter()
        .enumerate()
        .map(|(at, found)| frame(found, before.and_then(|film| film.frames.get(at))))
        .collect();
    Ok(Film { name: "ring".into(), title, frames })
}

fn frame(found: &Found, before: Option<&Frame>) -> Frame {
    let after = ring(found);
    let before = before.map_or_else(|| after.clone(), |frame| frame.after.clone());
    let mut what = format!("{}, descriptor {}.", found.command, found.fd);
    if found.info.thread.is_some() {
        what += &format!(" Polling thread {}.", found.thread());
    }
    if found.info.polls > 0 {
        what += &format!(" Requests that wait for a file to be ready: {}.", found.info.polls);
    }
    let mut marks = Vec::new();
    if found.info.overflow > 0 {
        marks.push(format!("overflow: completions that found no room: {}", found.info.overflow));
    }
    let (code, records) = (String::new(), Vec::new());
    Frame { what, code, records, marks, before, after, counts_calls: false }
}

fn ring(found: &Found) -> Ring {
    let info = &found.info;
    let mut ring = Ring::new(info.sq_entries, info.cq_entries, info.sq_head);
    for name in &info.pending {
        ring.write(0, name, None);
    }
    ring.publish();
    (ring.sq_tail, ring.sq_written) = (info.sq_tail, info.sq_tail);
    (ring.cq_head, ring.cq_tail) = (info.cq_head, info.cq_tail);
    for request in &mut ring.requests {
        request.place = Place::Queued;
    }
    let unread = info.unread.iter();
    ring.ready =
        unread.map(|&res| Completion { request: None, res, is_last: true, buffer: None }).collect();
    ring
}

/// Looks again and again, until the user has seen enough or the process has ended.
///
/// # Errors
///
/// The terminal fails, or the process has no ring any more.
pub fn watch(pid: u32, pause: Duration) -> Result<(), Failure> {
    let mut film = look(pid, None)?;
    let mut terminal = ratatui::try_init()?;
    let mut step = || -> Result<bool, Failure> {
        terminal.draw(|canvas| tty::draw_all(canvas, &film))?;
        if event::poll(pause)? && is_end(&event::read()?) {
            return Ok(false);
        }
        film = look(pid, Some(&film))?;
        Ok(true)
    };
    let outcome = loop {
        match step() {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    ratatui::try_restore()?;
    outcome
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_break =
        key.code == KeyCode::Char('c') && key.modifiers.contains(event::KeyModifiers::CONTROL);
    is_break || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

/// Prints what a look shows, once.
///
/// # Errors
///
/// Those of [`look`], and of the output.
pub fn once(pid: u32) -> Result<String, Failure> {
    let film = look(pid, None)?;
    Ok(crate::plain::text(&film))
}
