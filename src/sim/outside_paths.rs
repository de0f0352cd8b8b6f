//! The files and folders of the world, from outside of the rings.

use std::io;
use std::os::fd::OwnedFd;

use super::Sim;
use super::outside::given;
use super::tree::{Access, Body, NodeId, ROOT, Scope, Tree};
use super::world::Kind;

/// # Paths
///
/// The world has a tree of folders and files, which is empty at first. The current folder is `/`.
/// Nothing is denied, as to root.
impl Sim {
    /// Lets paths below a folder be those of the machine: `OPENAT` opens its files, and what
    /// `UNLINKAT`, `RENAMEAT` and others do is done to it. The text of a path decides, which must
    /// be absolute. Paths from real folders that the program has opened are then real, too.
    ///
    /// Descriptors that the simulation did not make need no such leave: reads, writes and others
    /// are passed on to them.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::sim::Sim;
    /// use annulus::{Setup, op};
    /// use std::os::unix::ffi::OsStrExt;
    ///
    /// let folder = std::env::temp_dir();
    /// let path = folder.join(format!("annulus-sim-{}", std::process::id()));
    /// std::fs::write(&path, b"real")?;
    /// let sim = Sim::new(1);
    /// sim.allow_real_paths(folder.as_os_str().as_bytes());
    /// let mut ring = Setup::new(8).kernel(sim.kernel()).build()?;
    /// let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    /// let open = ring.submit(op::OpenAt::new(op::Cwd, name, op::How::read()))?;
    /// let (file, _) = ring.wait(open)?.ok()?;
    /// let read = ring.submit(op::Read::new(file, [0; 4]))?;
    /// assert_eq!(ring.wait(read)?.buf, *b"real");
    /// std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allow_real_paths(&self, below: impl AsRef<[u8]>) {
        let below = below.as_ref();
        let cut = below.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        self.state().world.roots.push(below[..cut].to_vec());
    }

    /// Makes a folder at a path, and those on the way that are missing.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` if a file is in the way.
    pub fn make_folder(&self, path: impl AsRef<[u8]>) -> io::Result<()> {
        let mut state = self.state();
        made(&mut state.world.tree, path.as_ref()).map(drop).map_err(io::Error::from_raw_os_error)
    }

    /// Puts a file with these contents at a path, and makes the folders on the way that are
    /// missing. The contents of a file that is there are replaced.
    ///
    /// # Errors
    ///
    /// `EISDIR` if a folder is there, `ENOTDIR` if a file is in the way, `ENOENT` for a path
    /// without a name.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::sim::Sim;
    /// use annulus::{Setup, op};
    ///
    /// let sim = Sim::new(1);
    /// sim.put_file("/etc/motd", b"welcome")?;
    /// let mut ring = Setup::new(8).kernel(sim.kernel()).build()?;
    /// let open = ring.submit(op::OpenAt::new(op::Cwd, c"/etc/motd", op::How::read()))?;
    /// let (file, _) = ring.wait(open)?.ok()?;
    /// let read = ring.submit(op::Read::new(file, [0; 7]))?;
    /// assert_eq!(ring.wait(read)?.buf, *b"welcome");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_file(&self, path: impl AsRef<[u8]>, contents: impl Into<Vec<u8>>) -> io::Result<()> {
        let path = path.as_ref();
        let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (folders, name) = path.split_at(cut);
        let mut state = self.state();
        let tree = &mut state.world.tree;
        let put = made(tree, folders).and_then(|folder| match tree.child(folder, name)? {
            _ if matches!(name, b"" | b"." | b"..") => Err(libc::ENOENT),
            Some(_) => {
                let found = tree.find(Scope::of(folder), name, true)?;
                *tree.bytes_mut(found).ok_or(libc::EISDIR)? = contents.into();
                Ok(())
            }
            None => {
                let file = tree.make(Body::File(contents.into()), 0o644);
                tree.add(folder, name.to_vec(), file);
                Ok(())
            }
        });
        put.map_err(io::Error::from_raw_os_error)
    }

    /// The contents of the file at a path.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `ELOOP` as for `open(2)`; `EISDIR` for a folder.
    pub fn get_file(&self, path: impl AsRef<[u8]>) -> io::Result<Vec<u8>> {
        let state = self.state();
        let tree = &state.world.tree;
        let found = tree.find(Scope::of(ROOT), path.as_ref(), true);
        let bytes = found.and_then(|at| tree.bytes(at).cloned().ok_or(libc::EISDIR));
        bytes.map_err(io::Error::from_raw_os_error)
    }

    /// The names in the folder at a path, in the order of their bytes.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `ELOOP` as for `open(2)`.
    pub fn list_folder(&self, path: impl AsRef<[u8]>) -> io::Result<Vec<Vec<u8>>> {
        let state = self.state();
        let names = folder(&state.world.tree, path.as_ref())
            .map(|at| state.world.tree.names(at).keys().cloned().collect());
        names.map_err(io::Error::from_raw_os_error)
    }

    /// Opens the folder at a path, so that other paths can begin in it.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `ELOOP` as for `open(2)`; `EMFILE`.
    pub fn open_folder(&self, path: impl AsRef<[u8]>) -> io::Result<OwnedFd> {
        let mut state = self.state();
        let at = folder(&state.world.tree, path.as_ref()).map_err(io::Error::from_raw_os_error)?;
        let access = Access { reads: true, writes: false, appends: false };
        let end = state.world.open(Kind::Folder, at, access);
        given(state.world.descriptor(end))
    }
}

/// The folder at a path.
fn folder(tree: &Tree, path: &[u8]) -> Result<NodeId, i32> {
    let at = tree.find(Scope::of(ROOT), path, true)?;
    if tree.is_folder(at) { Ok(at) } else { Err(libc::ENOTDIR) }
}

/// The folder at a path, with those on the way made.
fn made(tree: &mut Tree, path: &[u8]) -> Result<NodeId, i32> {
    let mut at = ROOT;
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        at = match tree.find(Scope::of(at), part, true) {
            Ok(found) => found,
            Err(libc::ENOENT) if tree.child(at, part)?.is_none() => {
                let new = tree.make_folder(at, 0o755);
                tree.add(at, part.to_vec(), new);
                new
            }
            Err(errno) => return Err(errno),
        };
        if !tree.is_folder(at) {
            return Err(libc::ENOTDIR);
        }
    }
    Ok(at)
}
