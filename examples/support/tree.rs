//! A folder with all that is in it, as the pairs of files that are to be copied.
//!
//! | an entry | what becomes of it |
//! |---|---|
//! | a file | a pair, opened when it is asked for |
//! | a folder | made at once; gone through after the one that it is in |
//! | a symbolic link | made again, with the same target; it is not followed |
//! | anything else | left out, with a line on stderr |
//!
//! Like `cp -r`, it goes on after an entry that cannot be copied, and fails in the end. A folder is
//! writable for us until everything is in it; then it gets the permissions of its source.

use std::fs::{self, DirBuilder, DirEntry, Permissions, ReadDir};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::ends::{End, cannot, pair, refused, within};
use super::{Failure, tell};

/// What is left of a folder.
#[derive(Debug)]
pub struct Tree {
    /// The folder that we go through, and where its copy is.
    now: Option<(ReadDir, PathBuf)>,
    /// Folders that are made, and not gone through.
    later: Vec<(PathBuf, PathBuf)>,
    /// The permissions that folders get in the end.
    modes: Vec<(PathBuf, u32)>,
    /// How many folders there are, so far.
    pub folders: u64,
    failures: u64,
}

impl Tree {
    /// Makes the copy of the folder `source`: `dest`, or in it if it is there.
    pub fn new(source: &Path, dest: &Path) -> Result<Self, Failure> {
        let whole = fs::canonicalize(source).map_err(cannot("open", source))?;
        // `..` has no name of its own.
        let dest = within(&whole, dest);
        let mut tree =
            Self { now: None, later: Vec::new(), modes: Vec::new(), folders: 0, failures: 0 };
        let above = match dest.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let above = fs::canonicalize(above).map_err(cannot("write", &dest))?;
        if above.starts_with(&whole) {
            return Err(refused(source, "cannot be copied into itself"));
        }
        tree.make(source.to_path_buf(), dest)?;
        Ok(tree)
    }

    /// Makes the copy of a folder, still empty.
    fn make(&mut self, source: PathBuf, dest: PathBuf) -> Result<(), Failure> {
        let from = fs::metadata(&source).map_err(cannot("open", &source))?;
        let mode = from.permissions().mode() & 0o777;
        match DirBuilder::new().mode(mode | 0o700).create(&dest) {
            Ok(()) if mode & 0o700 != 0o700 => self.modes.push((dest.clone(), mode)),
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&dest).is_ok_and(|to| to.is_dir()) {
                    return Err(refused(&dest, "is in the way, and no directory"));
                }
            }
            Err(error) => return Err(cannot("make", &dest)(error)),
        }
        self.folders += 1;
        self.later.push((source, dest));
        Ok(())
    }

    /// The next entry, and where its copy is to be.
    fn entry(&mut self) -> Option<Result<(DirEntry, PathBuf), Failure>> {
        loop {
            if let Some((folder, dest)) = &mut self.now {
                match folder.next() {
                    Some(Ok(entry)) => {
                        let dest = dest.join(entry.file_name());
                        return Some(Ok((entry, dest)));
                    }
                    Some(Err(error)) => return Some(Err(cannot("make all of", dest)(error))),
                    None => self.now = None,
                }
            }
            let (source, dest) = self.later.pop()?;
            match fs::read_dir(&source) {
                Ok(folder) => self.now = Some((folder, dest)),
                Err(error) => return Some(Err(cannot("open", &source)(error))),
            }
        }
    }

    /// Makes what is no file; opens what is one.
    fn copy(&mut self, entry: &DirEntry, dest: PathBuf) -> Result<Option<(End, End)>, Failure> {
        let source = entry.path();
        let kind = entry.file_type().map_err(cannot("open", &source))?;
        if kind.is_file() {
            return pair(source, dest).map(Some);
        }
        if kind.is_dir() {
            return self.make(source, dest).map(|()| None);
        }
        if !kind.is_symlink() {
            return Err(refused(&source, "is no file, folder or symbolic link"));
        }
        let target = fs::read_link(&source).map_err(cannot("read", &source))?;
        // A link that is there is made again, as one cannot be overwritten.
        if fs::symlink_metadata(&dest).is_ok_and(|to| to.is_symlink()) {
            fs::remove_file(&dest).map_err(cannot("replace", &dest))?;
        }
        symlink(target, &dest).map_err(cannot("make", &dest))?;
        Ok(None)
    }

    /// Everything is copied: gives the folders their permissions, and says how much failed.
    pub fn end(self) -> Result<(), Failure> {
        for (dest, mode) in self.modes.iter().rev() {
            // Less the umask, which took its bits when the folder was made.
            let made = fs::metadata(dest).map_err(cannot("look at", dest))?.permissions().mode();
            let last = fs::set_permissions(dest, Permissions::from_mode(made & mode));
            last.map_err(cannot("change", dest))?;
        }
        match self.failures {
            0 => Ok(()),
            count => Err(Failure::Failed(format!("{count} entries were not copied"))),
        }
    }
}

impl Iterator for Tree {
    type Item = (End, End);

    fn next(&mut self) -> Option<(End, End)> {
        loop {
            let copied = self.entry()?.and_then(|(entry, dest)| self.copy(&entry, dest));
            match copied {
                Ok(Some(pair)) => return Some(pair),
                Ok(None) => {}
                Err(failure) => {
                    self.failures += 1;
                    match failure {
                        Failure::Failed(what) => tell(what),
                        Failure::Output(error) => tell(error),
                    }
                }
            }
        }
    }
}
