//! `cat [FILE]...`: files of any kind and any length, one after the other, on stdout.
//!
//! | FILE | is read |
//! |---|---|
//! | a regular file | by offset, eight blocks at once, while the one before is written |
//! | of which it claims no size: `/proc`, a pipe, a device, `-` for stdin | as it comes, block by block |
//!
//! Look at: what ends a file. Not its size, which is a claim (`/proc` says 0, a log grows), nor a
//! short read, which any file may give; only a read of nothing. So behind the size it goes on, one
//! block at a time, and after a short read it asks again from there. Linux 5.6.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::{os::unix::fs::MetadataExt as _, process::ExitCode, rc::Rc};

use annulus::op::{Offset, Read};
use annulus::{Ring, Setup, Ticket};
use clap::{Arg, ArgAction, Command};

const BLOCK: usize = 128 << 10;
const DEPTH: usize = 8;

struct Cat {
    ring: Ring,
    stdout: Rc<OwnedFd>,
    spare: Vec<Vec<u8>>,
    blocks: u64,
    /// Whether stdout takes nothing more.
    is_over: bool,
}

// ANCHOR: file
impl Cat {
    /// Prints all of `file`, which claims to have `size` bytes, or 0 if it is to be read in order.
    fn print(&mut self, file: &Rc<File>, size: u64) -> io::Result<()> {
        let mut reads = VecDeque::new();
        let (mut at, mut asked) = (0, 0);
        loop {
            while reads.len() < DEPTH && (asked < size || reads.is_empty()) {
                let offset = if size > 0 { Offset::At(asked) } else { Offset::Current };
                reads.push_back(self.read(file, offset)?);
                asked += BLOCK as u64;
            }
            let Some(read) = reads.pop_front() else { return Ok(()) };
            let read = self.ring.wait(read)?;
            let count = match read.result {
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
                result => result.map(Some),
            };
            at += count.as_ref().map_or(0, |count| count.unwrap_or(0) as u64);
            // What was asked for behind it begins elsewhere, or is of no use.
            if at != asked - (reads.len() * BLOCK) as u64 {
                reads.drain(..).for_each(|read| self.ring.detach(read));
                asked = at;
            }
            match count? {
                Some(0) => return Ok(()),
                Some(_) => self.write(read.buf)?,
                None => {}
            }
        }
    }
    // ANCHOR_END: file

    fn read(&mut self, file: &Rc<File>, at: Offset) -> io::Result<Ticket<Read<Rc<File>, Vec<u8>>>> {
        let buf = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK));
        Ok(self.ring.submit(Read::new(Rc::clone(file), buf).offset(at))?)
    }

    /// The reads go on meanwhile.
    fn write(&mut self, buf: Vec<u8>) -> io::Result<()> {
        self.blocks += 1;
        let written = self.ring.write_all(Rc::clone(&self.stdout), buf, Offset::Current)?;
        self.spare.push(written.buf);
        self.is_over = written.result.is_err();
        written.result
    }

    fn file(&mut self, path: &str) -> io::Result<()> {
        let stdin = path == "-";
        let file = if stdin {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::open(path)?
        };
        let (from, to) = (file.metadata()?, File::from(self.stdout.try_clone()?).metadata()?);
        let is_same = (from.dev(), from.ino()) == (to.dev(), to.ino());
        if is_same && from.is_file() && from.len() > 0 {
            return Err(io::Error::other("it is the output, too, and would have no end"));
        }
        // Of stdin a part may have been read by others.
        let has_offsets = from.is_file() && !stdin;
        self.print(&Rc::new(file), if has_offsets { from.len() } else { 0 })
    }
}

fn main() -> io::Result<ExitCode> {
    let stats = Arg::new("stats").long("stats").action(ArgAction::SetTrue);
    let usage = Command::new("cat_small")
        .arg(Arg::new("FILE").num_args(0..).help("what to print; - is stdin, and so is none"))
        .arg(stats.help("print to stderr what the ring did in all"));
    let mut matches = usage.get_matches();
    let stats = matches.get_flag("stats");
    let paths: Vec<String> =
        matches.remove_many("FILE").map_or(vec!["-".into()], Iterator::collect);
    let stdout = Rc::new(io::stdout().as_fd().try_clone_to_owned()?);
    let ring = Setup::new(16).build()?;
    let mut cat = Cat { ring, stdout, spare: Vec::new(), blocks: 0, is_over: false };
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        match cat.file(&path) {
            Ok(()) => continue,
            // Its reader, such as `head`, has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => eprintln!("cat_small: {path}: {error}"),
        }
        code = ExitCode::FAILURE;
        if cat.is_over {
            break;
        }
    }
    if stats {
        eprintln!("stats: {} blocks, {} enters", cat.blocks, cat.ring.stats().enters);
    }
    Ok(code)
}
