//! Operations on paths that open and look: `OPENAT`, `OPENAT2`, `STATX`.
//!
//! Leaves to others: those that change names (`naming`).

use annulus_sys::abi::OpenHow;

use super::request::{Path, PathJob, VALID, WITH_PATH};
use super::run::Try;
use super::state::State;
use super::trace::{EndId, RequestId};
use super::tree::{Access, Body, Last, NodeId, ROOT, Scope};
use super::world::{Kind, World};

/// What `STATX` tells: type, permissions, links, owner, number, size, blocks. The simulation has no
/// times.
const TOLD: u32 = libc::STATX_TYPE
    | libc::STATX_MODE
    | libc::STATX_NLINK
    | libc::STATX_UID
    | libc::STATX_GID
    | libc::STATX_INO
    | libc::STATX_SIZE
    | libc::STATX_BLOCKS;

impl State {
    /// Does what a request wants with its paths.
    pub(super) fn try_path(&mut self, id: RequestId, job: PathJob) -> Try {
        if let Some(done) = self.try_real_path(id, &job) {
            return done;
        }
        let world = &mut self.world;
        let done = match job {
            PathJob::Open { at, how, into } => match world.open_path(&at, how) {
                Ok(end) => {
                    let ring = self.requests[&id].ring;
                    return Try::Ends(self.give(ring, end, into));
                }
                Err(errno) => Err(errno),
            },
            PathJob::Stat { at, flags } => match world.stat(&at, flags) {
                Ok(bytes) => {
                    self.requests.get_mut(&id).expect("in flight").got = bytes;
                    Ok(())
                }
                Err(errno) => Err(errno),
            },
            PathJob::Rename { from, to, flags } => world.rename(&from, &to, flags),
            PathJob::Unlink { at, is_folder } => world.unlink(&at, is_folder),
            PathJob::MakeFolder { at, mode } => world.make_folder(&at, mode),
            PathJob::Link { from, to, flags } => world.link(&from, &to, flags),
            PathJob::Symlink { target, at } => world.symlink(target, &at),
        };
        Try::Ends(done.map_or_else(|errno| -errno, |()| 0))
    }
}

impl World {
    /// The folder that a path begins in.
    pub(super) fn scope(&self, path: &Path) -> Result<Scope, i32> {
        if path.dir == libc::AT_FDCWD || path.text.first() == Some(&b'/') {
            return Ok(Scope::of(ROOT));
        }
        self.node_of(path).map(Scope::of)
    }

    /// What the descriptor is open on from which a path begins.
    fn node_of(&self, path: &Path) -> Result<NodeId, i32> {
        let end = self.find_any(path.dir).ok_or(libc::EBADF)?;
        self.ends[end].opened.map(|opened| opened.node).ok_or(libc::ENOTDIR)
    }

    /// The scope of an `OPENAT2`.
    fn scope_of(&self, path: &Path, resolve: u64) -> Result<Scope, i32> {
        let confined = libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT;
        let known = confined
            | libc::RESOLVE_NO_SYMLINKS
            | libc::RESOLVE_NO_MAGICLINKS
            | libc::RESOLVE_NO_XDEV;
        if resolve & !known != 0 || resolve & confined == confined {
            return Err(libc::EINVAL);
        }
        let mut scope = self.scope(path)?;
        scope.has_no_links = resolve & libc::RESOLVE_NO_SYMLINKS != 0;
        if resolve & confined != 0 {
            scope.start = match path.dir {
                libc::AT_FDCWD => ROOT,
                _ => self.node_of(path)?,
            };
            scope.root = scope.start;
            scope.is_beneath = resolve & libc::RESOLVE_BENEATH != 0;
        }
        Ok(scope)
    }

    /// Opens a path: `openat2(2)`.
    fn open_path(&mut self, path: &Path, how: OpenHow) -> Result<EndId, i32> {
        let flags = checked(how)?;
        let has = |flag: i32| flags & flag != 0;
        let scope = self.scope_of(path, how.resolve)?;
        let creates = has(libc::O_CREAT) && !has(libc::O_PATH);
        let node = match creates {
            true => self.find_or_make(scope, path, how, 0)?,
            false => self.tree.find(scope, &path.text, !has(libc::O_NOFOLLOW))?,
        };
        let is_folder = self.tree.is_folder(node);
        if creates && is_folder {
            return Err(libc::EISDIR);
        }
        if has(libc::O_DIRECTORY) && !is_folder {
            return Err(libc::ENOTDIR);
        }
        if has(libc::O_PATH) {
            let access = Access { reads: false, writes: false, appends: false };
            return Ok(self.open(Kind::Path, node, access));
        }
        if matches!(self.tree.nodes[node].body, Body::Link(_)) {
            return Err(libc::ELOOP);
        }
        let mode = flags & libc::O_ACCMODE;
        let (reads, writes) = (mode == libc::O_RDONLY, mode == libc::O_WRONLY);
        let both = mode == libc::O_RDWR;
        if is_folder {
            let changes = !reads || has(libc::O_TRUNC);
            let access = Access { reads: true, writes: false, appends: false };
            return match changes {
                true => Err(libc::EISDIR),
                false => Ok(self.open(Kind::Folder, node, access)),
            };
        }
        if has(libc::O_TRUNC) {
            self.tree.bytes_mut(node).expect("a file").clear();
        }
        let (reads, writes) = (reads || both, writes || both);
        let access = Access { reads, writes, appends: has(libc::O_APPEND) };
        Ok(self.open(Kind::File, node, access))
    }

    /// The node of a path that may be new. A link leads to where the file is to be.
    fn find_or_make(
        &mut self,
        scope: Scope,
        path: &Path,
        how: OpenHow,
        links: u32,
    ) -> Result<NodeId, i32> {
        let excludes = how.flags & u64::from(libc::O_EXCL.cast_unsigned()) != 0;
        let follows = how.flags & u64::from(libc::O_NOFOLLOW.cast_unsigned()) == 0;
        let spot = self.tree.spot(scope, &path.text)?;
        let Last::Name(name) = spot.last else {
            let found = self.tree.find(scope, &path.text, true)?;
            return if excludes { Err(libc::EEXIST) } else { Ok(found) };
        };
        if spot.has_slash {
            return Err(libc::EISDIR);
        }
        let Some(found) = self.tree.child(spot.folder, &name)? else {
            if self.tree.nodes[spot.folder].links == 0 {
                return Err(libc::ENOENT);
            }
            let mode = u32::try_from(how.mode & 0o7777).expect("few bits");
            let made = self.tree.make(Body::File(vec![]), mode & !super::naming::MASK);
            self.tree.add(spot.folder, name, made);
            return Ok(made);
        };
        if excludes {
            return Err(libc::EEXIST);
        }
        let Body::Link(target) = &self.tree.nodes[found].body else { return Ok(found) };
        if !follows {
            return Err(libc::ELOOP);
        }
        if scope.has_no_links || links == 40 {
            return Err(libc::ELOOP);
        }
        let next = Path { text: target.clone(), ..path.clone() };
        self.find_or_make(Scope { start: spot.folder, ..scope }, &next, how, links + 1)
    }

    /// What `statx(2)` tells of a path.
    fn stat(&self, path: &Path, flags: i32) -> Result<Vec<u8>, i32> {
        let sync = libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC;
        let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH | sync;
        if flags & !known != 0 || flags & sync == sync {
            return Err(libc::EINVAL);
        }
        let at = match path.text.is_empty() {
            true if path.dir == libc::AT_FDCWD => ROOT,
            // Pipes and sockets have no node to tell of.
            true => self.node_of(path).map_err(|errno| match errno {
                libc::ENOTDIR => libc::EINVAL,
                other => other,
            })?,
            false => {
                let follows = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
                self.tree.find(self.scope(path)?, &path.text, follows)?
            }
        };
        let node = &self.tree.nodes[at];
        let (kind, size) = match &node.body {
            Body::File(bytes) => (libc::S_IFREG, bytes.len()),
            Body::Folder { .. } => (libc::S_IFDIR, 4096),
            Body::Link(target) => (libc::S_IFLNK, target.len()),
        };
        let (size, number) = (size as u64, at as u64 + 1);
        let mode = u16::try_from(kind | node.mode).expect("16 bits");
        let mut bytes = Vec::new();
        bytes.extend([TOLD, 4096, 0, 0, node.links, 0, 0].map(u32::to_ne_bytes).concat());
        bytes.extend(mode.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend([number, size, size.div_ceil(4096) * 8].map(u64::to_ne_bytes).concat());
        bytes.resize(256, 0);
        Ok(bytes)
    }
}

/// The flags of an open, if they go together.
fn checked(how: OpenHow) -> Result<i32, i32> {
    let flags = u32::try_from(how.flags).map_err(|_| libc::EINVAL)?.cast_signed();
    let has = |flag: i32| flags & flag != 0;
    if flags & !VALID != 0 || how.mode & !0o7777 != 0 || (how.mode != 0 && !has(libc::O_CREAT)) {
        return Err(libc::EINVAL);
    }
    if has(libc::O_PATH) && flags & !WITH_PATH != 0 {
        return Err(libc::EINVAL);
    }
    let both = libc::O_CREAT | libc::O_DIRECTORY;
    if flags & both == both || flags & libc::O_ACCMODE == libc::O_ACCMODE {
        return Err(libc::EINVAL);
    }
    // The folders of the simulation have no files without a name.
    if has(libc::O_TMPFILE & !libc::O_DIRECTORY) {
        return Err(libc::EOPNOTSUPP);
    }
    Ok(flags)
}
