//! A write-ahead log: each line of stdin is a record, and its number is printed when the record is
//! on the disk.
//!
//! ```text
//!   stdin ─► Read ─► records that wait          a read and a commit are on their way together
//!                         │ all of them
//!                         ▼
//!   log   ◄─ Write ── linked ──► Fsync ─► "17": records up to that one are on the disk
//! ```
//!
//! Look at: how many records one commit takes (`--stats`). While the disk works for one group, the
//! next one gathers; so a slow disk makes the groups longer, and not the queue. `--read` prints
//! what is in a log, and tells of a record that is torn. Linux 5.6.

use std::io::{self, Read as _, Write as _};
use std::{fs::File, mem, rc::Rc};

use annulus::op::{Fsync, Read, Write};
use annulus::{ChainTicket, Ring, Setup};
use clap::{Arg, ArgAction::SetTrue, Command};

/// FNV-1a of a record and of its number, so that no record passes for another one.
fn sum(number: u64, bytes: &[u8]) -> u32 {
    let all = number.to_le_bytes().into_iter().chain(bytes.iter().copied());
    all.fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

// ANCHOR: whole
/// The first record of `log`, and what is behind it; `None` if it is not whole.
fn first(number: u64, log: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = log.split_first_chunk()?;
    let (sum_of, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (bytes, rest) = rest.split_at_checked(len)?;
    (sum(number, bytes) == u32::from_le_bytes(*sum_of)).then_some((bytes, rest))
}
// ANCHOR_END: whole

type Commit = ChainTicket<(Write<Rc<File>, Vec<u8>>, Fsync<Rc<File>>)>;

// ANCHOR: commit
/// One write of all that waits, and behind it one sync, which begins when the write has ended.
fn commit(ring: &mut Ring, log: &Rc<File>, at: u64, records: Vec<u8>) -> io::Result<Commit> {
    let write = Write::new(Rc::clone(log), records).at(at);
    let sync = Fsync::new(Rc::clone(log)).data_only();
    Ok(ring.submit_chain((write, sync))?)
}
// ANCHOR_END: commit

/// Appends the lines of stdin to a log of `number` records in `end` bytes. Returns how many records
/// and how many commits those were.
fn append(ring: &mut Ring, log: &Rc<File>, mut number: u64, mut end: u64) -> io::Result<[u64; 2]> {
    let (before, mut commits, mut durable) = (number, 0, number);
    let (mut waiting, mut line) = (Vec::new(), Vec::new());
    let mut reading = Some(ring.submit(Read::new(io::stdin(), Vec::with_capacity(1 << 16)))?);
    let mut writing = None;
    // ANCHOR: turn
    while reading.is_some() || writing.is_some() || !waiting.is_empty() {
        if writing.is_none() && !waiting.is_empty() {
            writing = Some(commit(ring, log, end, mem::take(&mut waiting))?);
            (durable, commits) = (number, commits + 1);
        }
        ring.submit_and_wait(1)?;
        ring.reap(|_| ())?;
        if let Some(ticket) = writing.take() {
            match ring.try_take_chain(ticket) {
                Err(ticket) => writing = Some(ticket),
                Ok(chain) => {
                    let (write, sync) = chain.outputs;
                    end += write.result? as u64;
                    sync.result?; // Also if the write was short.
                    writeln!(io::stdout(), "{durable}")?;
                }
            }
        }
        // ANCHOR_END: turn
        if let Some(ticket) = reading.take() {
            match ring.try_take(ticket) {
                Err(ticket) => reading = Some(ticket),
                Ok(read) => {
                    if read.result? == 0 {
                        continue; // The end. A line without an end is no record.
                    }
                    for part in read.buf.split_inclusive(|&byte| byte == b'\n') {
                        line.extend_from_slice(part);
                        if line.pop_if(|byte| *byte == b'\n').is_some() {
                            number += 1;
                            let len = u32::try_from(line.len()).map_err(io::Error::other)?;
                            waiting.extend(len.to_le_bytes());
                            waiting.extend(sum(number, &line).to_le_bytes());
                            waiting.append(&mut line);
                        }
                    }
                    reading = Some(ring.submit(Read::new(read.fd, read.buf))?);
                }
            }
        }
    }
    Ok([number - before, commits])
}

fn main() -> io::Result<()> {
    let flag = |name: &'static str, help| Arg::new(name).long(name).action(SetTrue).help(help);
    let usage = Command::new("wal_small")
        .arg(Arg::new("LOG").required(true).help("the log; made if it is not there"))
        .arg(flag("read", "print its records, and append nothing"))
        .arg(flag("stats", "print what the ring did in all"));
    let mut matches = usage.get_matches();
    let path: String = matches.remove_one("LOG").unwrap();
    let (prints, mut old) = (matches.get_flag("read"), Vec::new());
    let opened = File::options().read(true).write(!prints).create(!prints).open(&path);
    let log = Rc::new(opened?);
    (&*log).read_to_end(&mut old)?;
    // ANCHOR: recover
    let (mut number, mut rest) = (0, &old[..]);
    while let Some((record, behind)) = first(number + 1, rest) {
        (number, rest) = (number + 1, behind);
        if prints {
            io::stdout().write_all(&[record, b"\n"].concat())?;
        }
    }
    let end = old.len() - rest.len();
    if !rest.is_empty() {
        eprintln!("{number} records are whole; what is behind byte {end} is torn");
    }
    // ANCHOR_END: recover
    if prints {
        return Ok(());
    }
    log.set_len(end as u64)?; // What is torn was told to nobody.
    let mut ring = Setup::new(8).build()?;
    let [records, commits] = append(&mut ring, &log, number, end as u64)?;
    if matches.get_flag("stats") {
        let enters = ring.stats().enters;
        eprintln!("stats: {records} records, {commits} commits, {enters} enters");
    }
    Ok(())
}
