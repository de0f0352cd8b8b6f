//! Small files, read by a thousand tasks of tokio: through a reactor that runs inside it, and by
//! `tokio::fs`.
//!
//! ```text
//!   tokio, one thread
//!     1,000 tasks ── reactor.run(op).await ──► ring ──► kernel      no other thread
//!     1,000 tasks ── tokio::fs ──► its pool of threads ──► kernel   for each call
//! ```
//!
//! Each file has 4 KiB and begins with its number. The tasks share one counter of what is to be
//! read next, and one sum of the numbers that they found, so a wrong or missing read shows. All
//! files are in the page cache, where a thread has least to wait for.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use annulus::Setup;
use annulus::future::Reactor;
use annulus::op::{Cwd, How, OpenAt, Read};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};

use crate::machine;
use crate::measure::{Contender, race};
use crate::table::Report;

const TITLE: &str = "Small files, read by 1,000 tasks of tokio, from the page cache";
const TASKS: usize = 1000;
const FILES: u64 = 1000;
const BYTES: usize = 4096;

/// A folder of small files. It is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(dir: &Path) -> Result<Self, String> {
        let folder = Self(dir.join(format!("annulus-bench-tasks-{}", std::process::id())));
        let failed = |error| format!("{}: {error}", folder.0.display());
        std::fs::create_dir(&folder.0).map_err(failed)?;
        let mut bytes = [0; BYTES];
        for number in 0..FILES {
            bytes[..8].copy_from_slice(&number.to_ne_bytes());
            std::fs::write(folder.path(number), bytes).map_err(failed)?;
        }
        Ok(folder)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.join(number.to_string())
    }

    fn paths(&self) -> Rc<Vec<PathBuf>> {
        Rc::new((0..FILES).map(|number| self.path(number)).collect())
    }

    fn open(&self, number: u64) -> File {
        File::open(self.path(number)).expect("there is room for so many descriptors")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the tasks share: the reads that are still to be made, and the sum of what was found.
struct Work {
    next: Cell<u64>,
    count: u64,
    sum: Cell<u64>,
}

impl Work {
    /// The number of the file to read next, as long as there are any.
    fn take(&self) -> Option<usize> {
        let next = self.next.get();
        self.next.set(next + 1);
        (next < self.count).then_some((next % FILES) as usize)
    }

    fn found(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), BYTES);
        let number = u64::from_ne_bytes(bytes[..8].try_into().expect("a file is longer"));
        self.sum.set(self.sum.get() + number);
    }

    /// The sum of the numbers of all files that are read.
    fn expected(&self) -> u64 {
        (0..self.count).map(|index| index % FILES).sum()
    }
}

/// Runs the tasks, which share the work, until all of it is done.
fn run_tasks<F>(
    runtime: &Runtime,
    driver: Option<&Reactor>,
    count: u64,
    task: impl Fn(Rc<Work>) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let work = Rc::new(Work { next: Cell::new(0), count, sum: Cell::new(0) });
    LocalSet::new().block_on(runtime, async {
        let driver = driver.map(|reactor| spawn_local(reactor.drive_in_tokio().expect("a driver")));
        let tasks: Vec<_> = (0..TASKS).map(|_| spawn_local(task(Rc::clone(&work)))).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        driver.inspect(|driver| driver.abort());
    });
    assert_eq!(work.sum.get(), work.expected());
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().expect("a runtime")
}

fn reactor() -> Reactor {
    let setup = Setup::plain(256).cq_entries(2 * TASKS as u32);
    Reactor::new(setup.build_for().expect("a ring"))
}

/// Opened, read and closed: each by one call of `tokio::fs`, which is one job for its threads.
fn whole_by_tokio(folder: &Folder) -> Contender<'_> {
    let (runtime, paths) = (runtime(), folder.paths());
    Contender::new("tokio::fs::read", move |count| {
        run_tasks(&runtime, None, count, |work| {
            let paths = Rc::clone(&paths);
            async move {
                while let Some(file) = work.take() {
                    work.found(&tokio::fs::read(&paths[file]).await.expect("a read"));
                }
            }
        });
    })
}

/// Opened and read through the ring; closed by the drop of the file.
fn whole_by_ring(folder: &Folder) -> Contender<'_> {
    let path = |path: &PathBuf| CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    let paths = folder.paths().iter().map(path).map(Rc::<CStr>::from).collect();
    let (runtime, reactor, paths): (_, _, Rc<Vec<_>>) = (runtime(), reactor(), Rc::new(paths));
    Contender::new("annulus, reactor in tokio", move |count| {
        run_tasks(&runtime, Some(&reactor), count, |work| {
            let (reactor, paths) = (reactor.clone(), Rc::clone(&paths));
            async move {
                let mut buf = Vec::with_capacity(BYTES);
                while let Some(file) = work.take() {
                    let open = OpenAt::new(Cwd, Rc::clone(&paths[file]), How::read());
                    let open = reactor.run(open);
                    let file = open.await.expect("submitted").result.expect("a file");
                    let read = reactor.run(Read::new(file, buf).at(0)).await.expect("submitted");
                    read.result.expect("a read");
                    work.found(&read.buf);
                    buf = read.buf;
                }
            }
        });
    })
}

/// Files that are open already: each read is one job for tokio's threads, as in `tokio::fs::File`,
/// without the seek that this would need besides.
fn open_by_tokio(folder: &Folder) -> Contender<'_> {
    let runtime = runtime();
    let files: Rc<Vec<Arc<File>>> =
        Rc::new((0..FILES).map(|file| Arc::new(folder.open(file))).collect());
    Contender::new("tokio, spawn_blocking", move |count| {
        run_tasks(&runtime, None, count, |work| {
            let files = Rc::clone(&files);
            async move {
                let mut buf = vec![0; BYTES];
                while let Some(file) = work.take() {
                    let file = Arc::clone(&files[file]);
                    let read =
                        spawn_blocking(move || file.read_exact_at(&mut buf, 0).map(|()| buf));
                    buf = read.await.expect("no panic").expect("a read");
                    work.found(&buf);
                }
            }
        });
    })
}

fn open_by_ring(folder: &Folder) -> Contender<'_> {
    let (runtime, reactor) = (runtime(), reactor());
    let files: Rc<Vec<Rc<File>>> =
        Rc::new((0..FILES).map(|file| Rc::new(folder.open(file))).collect());
    Contender::new("annulus, reactor in tokio", move |count| {
        run_tasks(&runtime, Some(&reactor), count, |work| {
            let (reactor, files) = (reactor.clone(), Rc::clone(&files));
            async move {
                let mut buf = Vec::with_capacity(BYTES);
                while let Some(file) = work.take() {
                    let read = Read::new(Rc::clone(&files[file]), buf).at(0);
                    let read = reactor.run(read).await.expect("submitted");
                    read.result.expect("a read");
                    work.found(&read.buf);
                    buf = read.buf;
                }
            }
        });
    })
}

/// Reads files in the folder `dir`.
pub fn run(dir: &Path, samples: u32) -> Result<Report, String> {
    let open = machine::descriptors();
    if open < 4 * FILES {
        return Err(format!("RLIMIT_NOFILE allows {open} descriptors; this needs {}", 4 * FILES));
    }
    let folder = Folder::new(dir)?;
    let whole = race(vec![whole_by_tokio(&folder), whole_by_ring(&folder)], 60, samples);
    let open = race(vec![open_by_tokio(&folder), open_by_ring(&folder)], 60, samples);
    Ok(Report {
        title: TITLE,
        unit: "read",
        sections: vec![("opened, read, closed".to_owned(), whole), ("open".to_owned(), open)],
        notes: vec![format!("{TASKS} tasks, {FILES} files of {BYTES} bytes in the page cache")],
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    /// What `annulus-bench tasks --json` printed when docs/PERFORMANCE.md was written.
    fn measured() -> Vec<(String, String, [f64; 3])> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance/tasks.json");
        let text = fs::read_to_string(path).expect("the figures are there");
        let found: Value = serde_json::from_str(&text).expect("what `--json` prints");
        let rows = |section: &Value| {
            let files = section["name"].as_str().expect("a name").to_owned();
            let row = move |row: &Value| {
                let cpu = |at: usize| row["cpu_ns"][at].as_f64().expect("a time") / 1e3;
                let name = row["name"].as_str().expect("a name").to_owned();
                (files.clone(), name, [cpu(0), cpu(1), cpu(2)])
            };
            section["rows"].as_array().expect("rows").iter().map(row).collect::<Vec<_>>()
        };
        found["sections"].as_array().expect("sections").iter().flat_map(rows).collect()
    }

    #[test]
    fn the_published_table_has_the_figures_of_one_run() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PERFORMANCE.md");
        let page = fs::read_to_string(path).expect("the page is there");
        for (files, name, [low, median, high]) in measured() {
            let row = format!("| {files} | {name} | {median:.1} | {low:.1} to {high:.1} |");
            assert!(page.contains(&row), "docs/PERFORMANCE.md lacks the row\n{row}");
        }
    }

    #[test]
    fn a_read_through_the_ring_takes_less_cpu_time_than_one_by_tokio() {
        for pair in measured().chunks(2) {
            let [(files, tokio, theirs), (_, ring, ours)] = pair else { panic!("pairs") };
            assert!(tokio.starts_with("tokio") && ring.starts_with("annulus"), "{tokio}, {ring}");
            assert!(ours[2] < theirs[0], "{files}: {ring} {ours:?}, {tokio} {theirs:?}");
        }
    }
}
