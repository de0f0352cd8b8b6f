//! The file that is measured, and what may be done to it.
//!
//! | the file | is read | is written |
//! |---|---|---|
//! | none given | a new one, which is gone in the end | likewise |
//! | not there yet | it is made, and stays | likewise |
//! | there | as it is | refused without `--overwrite` |
//!
//! A new file is written in full, and to the disk, before anything is measured. A file that was
//! only made longer would be read without the disk: it has nothing there.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::support::{Failure, failed};

/// The file. It is removed in the end, if nobody named it.
#[derive(Debug)]
pub struct Scratch {
    pub path: PathBuf,
    is_ours: bool,
}

impl Scratch {
    /// The file at `path`, or a new one of `size` bytes.
    pub fn new(
        path: Option<PathBuf>,
        size: u64,
        writes: bool,
        overwrite: bool,
    ) -> Result<Self, Failure> {
        let is_ours = path.is_none();
        let own = || std::env::temp_dir().join(format!("mini_fio-{}", std::process::id()));
        let path = path.unwrap_or_else(own);
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        let shown = path.display().to_string();
        match made {
            Ok(file) => {
                let it = Self { path, is_ours };
                let filled = fill(file, size);
                filled.map_err(failed(format!("cannot fill {shown}")))?;
                Ok(it)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if writes && !overwrite {
                    let why = "is there, and would be written over: add --overwrite";
                    return Err(Failure::Failed(format!("{shown} {why}")));
                }
                Ok(Self { path, is_ours })
            }
            Err(error) => Err(Failure::of(format_args!("cannot make {shown}"), error)),
        }
    }

    /// Opens it; with `flags`, such as `O_DIRECT`.
    pub fn open(&self, writes: bool, flags: i32) -> Result<File, Failure> {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(writes).custom_flags(flags).open(&self.path);
        opened.map_err(failed(format!("cannot open {}", self.path.display())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn fill(mut file: File, size: u64) -> std::io::Result<()> {
    let bytes: Vec<u8> =
        (0..1 << 20_u32).map(|at: u32| at.to_le_bytes()[at as usize % 4]).collect();
    let mut left = usize::try_from(size).map_err(|_| ErrorKind::FileTooLarge)?;
    while left > 0 {
        let part = left.min(bytes.len());
        file.write_all(&bytes[..part])?;
        left -= part;
    }
    file.sync_all()
}
