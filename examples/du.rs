//! `du -s [PATH]...`: how much room a tree takes, by many statx at once.
//!
//! ```text
//!   directory ─► its names ─┬─► Statx ─┐  --at-once of them in flight,
//!       ▲                   ├─► Statx ─┤  each on a worker thread of the kernel
//!       │                   └─► Statx ─┤
//!       └── a directory ◄──────────────┴─► blocks, counted once for each file
//! ```
//!
//! | an entry | counts |
//! |---|---|
//! | a file, a directory, a link itself, anything else | its blocks, which for a file with holes are fewer than its bytes |
//! | a second name of a file | nothing: it is known by device and inode |
//! | on another file system, with `-x` | nothing, and nothing below it |
//! | cannot be looked at | nothing; it is told, and `du` fails in the end |
//!
//! Directories are read by `std::fs::read_dir`, which waits: io_uring has no operation for
//! `getdents(2)`. Paths are as long as the kernel allows, 4095 bytes.
//!
//! Look at: `--plain`, which asks by plain calls, one after the other, and at what each entry costs
//! (`--stats`). A `statx` cannot be tried, so on a ring each goes to a worker thread. That takes
//! processor time, which is lost where all is in memory and the machine has one core; and lets them
//! wait at the same time, for a disk or a server. Linux 5.6.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, DirEntry, File, Metadata, ReadDir};
use std::io;
use std::mem;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use annulus::op::{Cwd, FileKind, Stat, StatMask, Statx};
use annulus::{EventLoop, Io, Setup};
use clap::Parser;
use support::{Failure, Page, failed, up_to};

mod support;

/// Sums up the room that files take, in bytes, as `du -s --block-size=1` does.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Files, or directories with all that is in them
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Stay on the file system of each PATH
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Ask about so many at once, 1 to 4096
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = up_to(4096))]
    at_once: u32,
    /// Without a ring: by lstat(2), one after the other
    #[arg(long, conflicts_with = "at_once")]
    plain: bool,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// What is asked about each entry.
const WANTED: StatMask = {
    let (kind, links) = (StatMask::KIND.bits(), StatMask::NLINK.bits());
    let (inode, blocks) = (StatMask::INO.bits(), StatMask::BLOCKS.bits());
    StatMask::from_bits_retain(kind | links | inode | blocks)
};

/// The state of the loop: what is counted, and what is left.
struct Tree {
    /// The file system of the PATH.
    device: Option<u64>,
    one_file_system: bool,
    /// Whether a directory may come twice, because there are several PATHs.
    may_overlap: bool,
    /// Files with several names, by device and inode.
    seen: HashSet<(u64, u64)>,
    bytes: u64,
    entries: u64,
    failures: u64,
    /// The directory whose names are taken, and those that are to be read.
    now: Option<Folder>,
    later: Vec<PathBuf>,
    at_once: usize,
    under_way: usize,
    #[allow(clippy::vec_box, reason = "an operation owns the box, and gives it back")]
    spare: Vec<Box<Stat>>,
}

struct Folder {
    names: ReadDir,
    path: Rc<Path>,
    /// Where the names are looked up.
    dir: Rc<File>,
}

/// What counts about an entry.
struct Entry {
    device: u64,
    inode: u64,
    links: u64,
    blocks: u64,
    is_directory: bool,
}

impl From<&Stat> for Entry {
    fn from(stat: &Stat) -> Self {
        let (major, minor) = stat.device();
        Self {
            device: u64::from(major) << 32 | u64::from(minor),
            inode: stat.inode(),
            links: stat.links().into(),
            blocks: stat.blocks(),
            is_directory: stat.kind() == FileKind::Directory,
        }
    }
}

impl From<&Metadata> for Entry {
    fn from(stat: &Metadata) -> Self {
        Self {
            device: stat.dev(),
            inode: stat.ino(),
            links: stat.nlink(),
            blocks: stat.blocks(),
            is_directory: stat.is_dir(),
        }
    }
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { paths, one_file_system, at_once, plain, stats } = arguments;
    let mut tree = Tree {
        device: None,
        one_file_system,
        may_overlap: paths.len() > 1,
        seen: HashSet::new(),
        bytes: 0,
        entries: 0,
        failures: 0,
        now: None,
        later: Vec::new(),
        at_once: at_once as usize,
        under_way: 0,
        spare: Vec::new(),
    };
    let before = support::cpu_time();
    let (tree, line) = if plain {
        for path in &paths {
            tree.sum_up(path);
            tree.print(path, page)?;
        }
        let each = support::nanos_each(support::cpu_time() - before, tree.entries);
        (tree, format!("stats: no ring, {each} CPU ns per operation"))
    } else {
        let mut events = EventLoop::new(Setup::new(at_once.max(8)).build_for()?, tree);
        for path in &paths {
            begin(&mut events.io(), path).map_err(failed(path.display()))?;
            events.run(|_, error| support::tell(error))?;
            events.state.print(path, page)?;
        }
        let (cpu, total) = (support::cpu_time() - before, events.ring().raw().stats());
        let line = support::stats_line(total, events.state.entries, cpu);
        (events.state, line)
    };
    if stats {
        writeln!(
            page,
            "{} entries, {} could not be looked at or read",
            tree.entries, tree.failures
        )?;
        writeln!(page, "{line}")?;
    }
    match tree.failures {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} entries could not be looked at or read"))),
    }
}

/// Asks about the PATH itself.
fn begin(io: &mut Io<'_, Tree>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let statx = Statx::at(Cwd, name, Stat::boxed()).no_follow().no_automount().want(WANTED);
    io.submit(statx, |io, looked| {
        let (stat, name) = looked.buf;
        take(io, Path::new(""), &name, looked.result, stat)
    })?;
    Ok(())
}

// ANCHOR: storm
/// Asks about more entries, as many as may be under way.
fn ask_more(io: &mut Io<'_, Tree>) -> io::Result<()> {
    while io.state.under_way < io.state.at_once
        && let Some((dir, folder, entry)) = io.state.next()
    {
        let name = CString::new(entry.file_name().into_vec())?;
        let stat = io.state.spare.pop().unwrap_or_else(Stat::boxed);
        let statx = Statx::at(dir, name, stat).no_follow().no_automount().want(WANTED);
        io.state.under_way += 1;
        io.submit(statx, move |io, looked| {
            io.state.under_way -= 1;
            let (stat, name) = looked.buf;
            take(io, &folder, &name, looked.result, stat)
        })?;
    }
    Ok(())
}
// ANCHOR_END: storm

/// An answer has come.
fn take(
    io: &mut Io<'_, Tree>,
    folder: &Path,
    name: &CStr,
    result: io::Result<()>,
    stat: Box<Stat>,
) -> io::Result<()> {
    let path = || folder.join(OsStr::from_bytes(name.to_bytes()));
    let tree = &mut *io.state;
    match result {
        Ok(()) if tree.count(&Entry::from(&*stat)) => tree.later.push(path()),
        Ok(()) => {}
        Err(error) => tree.fail("look at", &path(), &error),
    }
    tree.spare.push(stat);
    ask_more(io)
}

impl Tree {
    /// Counts an entry; `true` if it is a directory that is to be read.
    fn count(&mut self, entry: &Entry) -> bool {
        self.entries += 1;
        // The first is the PATH itself.
        let device = *self.device.get_or_insert(entry.device);
        if self.one_file_system && entry.device != device {
            return false;
        }
        let may_come_again = self.may_overlap || (entry.links > 1 && !entry.is_directory);
        if may_come_again && !self.seen.insert((entry.device, entry.inode)) {
            return false;
        }
        self.bytes += entry.blocks * 512;
        entry.is_directory
    }

    /// The next name in a directory, with the directory and its path.
    fn next(&mut self) -> Option<(Rc<File>, Rc<Path>, DirEntry)> {
        loop {
            let Some(Folder { names, path, dir }) = &mut self.now else {
                let path = self.later.pop()?;
                let opened = fs::read_dir(&path).and_then(|names| Ok((names, File::open(&path)?)));
                match opened {
                    Ok((names, dir)) => {
                        self.now = Some(Folder { names, path: path.into(), dir: Rc::new(dir) });
                    }
                    Err(error) => self.fail("read", &path, &error),
                }
                continue;
            };
            match names.next() {
                Some(Ok(entry)) => return Some((Rc::clone(dir), Rc::clone(path), entry)),
                Some(Err(error)) => {
                    let path = Rc::clone(path);
                    self.fail("read all of", &path, &error);
                }
                None => self.now = None,
            }
        }
    }

    /// The same without a ring.
    fn sum_up(&mut self, path: &Path) {
        let mut path = path.to_path_buf();
        loop {
            match fs::symlink_metadata(&path) {
                Ok(stat) if self.count(&Entry::from(&stat)) => self.later.push(path),
                Ok(_) => {}
                Err(error) => self.fail("look at", &path, &error),
            }
            let Some((_, _, entry)) = self.next() else { return };
            path = entry.path();
        }
    }

    fn fail(&mut self, what: &str, path: &Path, error: &io::Error) {
        self.failures += 1;
        support::tell(format_args!("cannot {what} {}: {error}", path.display()));
    }

    /// Prints the sum of a PATH, and begins another one.
    fn print(&mut self, path: &Path, page: &mut Page) -> Result<(), Failure> {
        let is_there = self.device.take().is_some();
        let bytes = mem::take(&mut self.bytes);
        if is_there {
            writeln!(page, "{bytes}\t{}", path.display())?;
        }
        Ok(())
    }
}
