//! Operations on paths that change names: new ones, other ones, none any more.
//!
//! | | errors that it may find |
//! |---|---|
//! | `MKDIRAT` `SYMLINKAT` `LINKAT` | `EEXIST`, `ENOENT`; `EPERM` for a second name of a folder |
//! | `UNLINKAT` | `ENOENT`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`; `EINVAL`, `EBUSY` for `.` and `/` |
//! | `RENAMEAT` | those, and `EINVAL` for a folder that would be within itself |

use super::request::Path;
use super::tree::{Body, Last, NodeId, Spot, Tree};
use super::world::World;

/// The permissions that new files and folders do not get, as with `umask 022`.
pub(super) const MASK: u32 = 0o022;

/// Flags of a rename.
const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;

impl Tree {
    /// Gives a node a name.
    pub(super) fn add(&mut self, folder: NodeId, name: Vec<u8>, node: NodeId) {
        let is_folder = self.is_folder(node);
        self.names_mut(folder).insert(name, node);
        if let Body::Folder { parent, .. } = &mut self.nodes[node].body {
            *parent = folder;
        }
        self.nodes[node].links += if is_folder { 2 } else { 1 };
        self.nodes[folder].links += u32::from(is_folder);
    }

    /// Takes a name away.
    fn remove(&mut self, folder: NodeId, name: &[u8]) -> NodeId {
        let node = self.names_mut(folder).remove(name).expect("it was found");
        let is_folder = self.is_folder(node);
        self.nodes[node].links -= if is_folder { 2 } else { 1 };
        self.nodes[folder].links -= u32::from(is_folder);
        self.let_go(node);
        node
    }

    /// Whether a folder is another one, or lies in it.
    fn is_within(&self, mut folder: NodeId, other: NodeId) -> bool {
        while folder != other && folder != self.parent(folder) {
            folder = self.parent(folder);
        }
        folder == other
    }
}

impl World {
    /// Where a new name is to be, and the name. There is none yet.
    fn fresh(&self, path: &Path, is_folder: bool) -> Result<(NodeId, Vec<u8>), i32> {
        let spot = self.tree.spot(self.scope(path)?, &path.text)?;
        let Last::Name(name) = spot.last else { return Err(libc::EEXIST) };
        if self.tree.child(spot.folder, &name)?.is_some() {
            return Err(libc::EEXIST);
        }
        if spot.has_slash && !is_folder {
            return Err(libc::ENOENT);
        }
        Ok((spot.folder, name))
    }

    /// Gives a new node a name, unless its folder was removed.
    fn name(&mut self, folder: NodeId, name: Vec<u8>, node: NodeId) -> Result<(), i32> {
        if self.tree.nodes[folder].links == 0 {
            return Err(libc::ENOENT);
        }
        self.tree.add(folder, name, node);
        Ok(())
    }

    pub(super) fn make_folder(&mut self, path: &Path, mode: u32) -> Result<(), i32> {
        let (folder, name) = self.fresh(path, true)?;
        let made = self.tree.make_folder(folder, mode & 0o1777 & !MASK);
        self.name(folder, name, made)
    }

    pub(super) fn symlink(&mut self, target: Vec<u8>, path: &Path) -> Result<(), i32> {
        let (folder, name) = self.fresh(path, false)?;
        let made = self.tree.make(Body::Link(target), 0o777);
        self.name(folder, name, made)
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path, flags: i32) -> Result<(), i32> {
        let follows = match flags {
            0 => false,
            libc::AT_SYMLINK_FOLLOW => true,
            _ => return Err(libc::EINVAL),
        };
        let node = self.tree.find(self.scope(from)?, &from.text, follows)?;
        let (folder, name) = self.fresh(to, false)?;
        if self.tree.nodes[folder].links == 0 {
            return Err(libc::ENOENT);
        }
        match self.tree.is_folder(node) {
            true => Err(libc::EPERM),
            false => self.name(folder, name, node),
        }
    }

    pub(super) fn unlink(&mut self, path: &Path, is_folder: bool) -> Result<(), i32> {
        let spot = self.tree.spot(self.scope(path)?, &path.text)?;
        let name = match (spot.last, is_folder) {
            (Last::Name(name), _) => name,
            (_, false) => return Err(libc::EISDIR),
            (Last::Here, true) => return Err(libc::EINVAL),
            (Last::Up, true) => return Err(libc::ENOTEMPTY),
            (Last::Root, true) => return Err(libc::EBUSY),
        };
        let node = self.tree.child(spot.folder, &name)?.ok_or(libc::ENOENT)?;
        match (&self.tree.nodes[node].body, is_folder) {
            (Body::Folder { .. }, false) => return Err(libc::EISDIR),
            (Body::Folder { names, .. }, true) if !names.is_empty() => {
                return Err(libc::ENOTEMPTY);
            }
            (Body::Folder { .. }, true) => {}
            (_, true) => return Err(libc::ENOTDIR),
            (_, false) if spot.has_slash => return Err(libc::ENOTDIR),
            (_, false) => {}
        }
        self.tree.remove(spot.folder, &name);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, flags: u32) -> Result<(), i32> {
        if flags & !(NOREPLACE | EXCHANGE) != 0 || flags == NOREPLACE | EXCHANGE {
            return Err(libc::EINVAL);
        }
        let old = self.tree.spot(self.scope(from)?, &from.text)?;
        let new = self.tree.spot(self.scope(to)?, &to.text)?;
        let Last::Name(old_name) = old.last.clone() else { return Err(libc::EBUSY) };
        let Last::Name(new_name) = new.last.clone() else {
            return Err(if flags == NOREPLACE { libc::EEXIST } else { libc::EBUSY });
        };
        let node = self.tree.child(old.folder, &old_name)?.ok_or(libc::ENOENT)?;
        let other = self.tree.child(new.folder, &new_name)?;
        if other.is_some() && flags == NOREPLACE {
            return Err(libc::EEXIST);
        }
        self.check_rename((&old, node), (&new, other), flags == EXCHANGE)?;
        if other == Some(node) {
            return Ok(());
        }
        if self.tree.nodes[new.folder].links == 0 {
            return Err(libc::ENOENT);
        }
        let is_folder = self.tree.is_folder(node);
        match other {
            Some(other) if flags != EXCHANGE => {
                let is_other = self.tree.is_folder(other);
                match (is_folder, is_other) {
                    (true, false) => return Err(libc::ENOTDIR),
                    (false, true) => return Err(libc::EISDIR),
                    (true, true) if !self.tree.names(other).is_empty() => {
                        return Err(libc::ENOTEMPTY);
                    }
                    _ => drop(self.tree.remove(new.folder, &new_name)),
                }
                self.shift(old.folder, &old_name, new.folder, new_name);
            }
            Some(_) => {
                let aside = b"\0".to_vec();
                self.shift(new.folder, &new_name, new.folder, aside.clone());
                self.shift(old.folder, &old_name, new.folder, new_name);
                self.shift(new.folder, &aside, old.folder, old_name);
            }
            None => self.shift(old.folder, &old_name, new.folder, new_name),
        }
        Ok(())
    }

    /// Gives a node another name. An end is open on it meanwhile, so it keeps its contents.
    fn shift(&mut self, from: NodeId, old: &[u8], to: NodeId, new: Vec<u8>) {
        let node = self.tree.names(from)[old];
        self.tree.open(node);
        self.tree.remove(from, old);
        self.tree.add(to, new, node);
        self.tree.close(node);
    }

    /// What `renameat2(2)` checks before it asks the file system.
    fn check_rename(
        &self,
        (old, node): (&Spot, NodeId),
        (new, other): (&Spot, Option<NodeId>),
        exchanges: bool,
    ) -> Result<(), i32> {
        let tree = &self.tree;
        let is_folder = tree.is_folder(node);
        match other {
            None if exchanges => return Err(libc::ENOENT),
            Some(other) if exchanges && !tree.is_folder(other) && new.has_slash => {
                return Err(libc::ENOTDIR);
            }
            _ => {}
        }
        if !is_folder && (old.has_slash || (!exchanges && new.has_slash)) {
            return Err(libc::ENOTDIR);
        }
        if is_folder && tree.is_within(new.folder, node) {
            return Err(libc::EINVAL);
        }
        match other {
            Some(other) if tree.is_folder(other) && tree.is_within(old.folder, other) => {
                Err(if exchanges { libc::EINVAL } else { libc::ENOTEMPTY })
            }
            _ => Ok(()),
        }
    }
}
