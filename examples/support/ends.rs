//! The two ends of a copy, and all that is checked before a file is created or truncated.
//!
//! | the destination | |
//! |---|---|
//! | is not there | made with the permissions of the source, less the umask, as `cp` does |
//! | is a file | overwritten; it keeps its permissions |
//! | is a directory | the copy goes into it |
//! | is the source | refused, since it would be emptied before it is read |

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use annulus::op::Offset;

use crate::support::progress::Progress;
use crate::support::{Failure, failed};

/// One end of the copy.
#[derive(Debug)]
pub struct End {
    path: PathBuf,
    /// The file, open.
    pub file: Rc<File>,
    /// The order of its blocks.
    pub order: Order,
}

/// The order in which an end handles its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Any order: each block has its offset.
    Any,
    /// One block after the other.
    Strict,
}

impl End {
    fn new(path: PathBuf, file: File, has_offsets: bool) -> Self {
        let order = if has_offsets { Order::Any } else { Order::Strict };
        Self { path, file: Rc::new(file), order }
    }

    /// What the ring is told of a place in the file.
    pub fn offset(&self, at: u64) -> Offset {
        match self.order {
            Order::Any => Offset::At(at),
            Order::Strict => Offset::Current,
        }
    }

    /// Of as many bytes as the file claims to have, or else as are wanted, if there is an end.
    pub fn progress(&self, limit: u64) -> Result<Progress, Failure> {
        let size = if self.order == Order::Any { self.metadata()?.len() } else { u64::MAX };
        let total = size.min(limit);
        Ok(Progress::of_bytes((total < u64::MAX).then_some(total)))
    }

    /// What the file is.
    pub fn metadata(&self) -> Result<Metadata, Failure> {
        self.file.metadata().map_err(|error| self.cannot("look at", error))
    }

    /// The error of an operation on the file.
    pub fn cannot(&self, what: &str, error: io::Error) -> Failure {
        Failure::of(format_args!("cannot {what} {}", self.path.display()), error)
    }
}

/// Opens both ends, for a source of any kind but a directory.
pub fn open(source: &Path, dest: &Path) -> Result<(End, End), Failure> {
    let from = fs::metadata(source).map_err(cannot("open", source))?;
    if from.is_dir() {
        return Err(refused(source, "is a directory, which takes --recursive"));
    }
    let dest = within(source, dest);
    // Before the source is opened: a FIFO would wait for its writer.
    if fs::metadata(&dest).is_ok_and(|to| is_same(&to, &from)) {
        return Err(same(source, &dest));
    }
    pair(source.to_path_buf(), dest)
}

/// The path of the copy: `dest`, or the name of the source in it if it is a directory.
pub fn within(source: &Path, dest: &Path) -> PathBuf {
    match (dest.is_dir(), source.file_name()) {
        (true, Some(name)) => dest.join(name),
        _ => dest.to_path_buf(),
    }
}

/// Opens a source that is no directory, and `dest` itself.
pub fn pair(source: PathBuf, dest: PathBuf) -> Result<(End, End), Failure> {
    let file = File::open(&source).map_err(cannot("open", &source))?;
    let from = file.metadata().map_err(cannot("open", &source))?;
    let has_size = from.is_file() && from.len() > 0;
    let source = End::new(source, file, has_size);

    // Like `cp`: the permissions of the source, less the umask.
    let mode = from.permissions().mode() & 0o777;
    match OpenOptions::new().write(true).create_new(true).mode(mode).open(&dest) {
        Ok(file) => Ok((source, End::new(dest, file, true))),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let dest = overwrite(&source, &from, dest)?;
            Ok((source, dest))
        }
        Err(error) => Err(cannot("write", &dest)(error)),
    }
}

/// Opens a destination that is there, and empties it.
fn overwrite(source: &End, from: &Metadata, dest: PathBuf) -> Result<End, Failure> {
    match fs::metadata(&dest) {
        Ok(to) if to.is_dir() => return Err(refused(&dest, "is a directory")),
        Ok(to) if is_same(&to, from) => return Err(same(&source.path, &dest)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(refused(&dest, "is a symbolic link to nothing"));
        }
        _ => {}
    }
    let file = OpenOptions::new().write(true).open(&dest).map_err(cannot("write", &dest))?;
    // Seen by its descriptor, whatever has become of its name meanwhile.
    let to = file.metadata().map_err(cannot("write", &dest))?;
    if is_same(&to, from) {
        return Err(same(&source.path, &dest));
    }
    // A file that was emptied is written to the disk when it is closed (ext4): not without need.
    if to.is_file() && to.len() > 0 {
        file.set_len(0).map_err(cannot("empty", &dest))?;
    }
    Ok(End::new(dest, file, to.is_file()))
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn same(source: &Path, dest: &Path) -> Failure {
    refused(source, &format!("and {} are the same file", dest.display()))
}

/// For `map_err`: `what` failed with the file at `path`.
pub fn cannot(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    failed(format!("cannot {what} {}", path.display()))
}

/// `path` is no file that we copy.
pub fn refused(path: &Path, why: &str) -> Failure {
    Failure::Failed(format!("{} {why}", path.display()))
}
