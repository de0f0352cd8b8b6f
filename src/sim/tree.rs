//! The files and folders of the simulated world, and how a path leads to one.
//!
//! ```text
//!   /           Folder: names ──┬── File: bytes      a node has as many links as names lead to it;
//!   └ folder ►                  ├── Folder           one without links and openings is empty
//!                               └── Link: a path
//! ```
//!
//! Everything is allowed, as it is to root. Leaves to others: the operations (`paths`, `naming`).

use std::collections::BTreeMap;

/// The number of a node.
pub(super) type NodeId = usize;

/// The folder at `/`, which is the current one, too.
pub(super) const ROOT: NodeId = 0;

/// The longest name, and the most links on the way of a path.
const LONGEST: usize = 255;
const MOST_LINKS: u32 = 40;

/// What a node is.
#[derive(Debug)]
pub(super) enum Body {
    File(Vec<u8>),
    Folder { names: BTreeMap<Vec<u8>, NodeId>, parent: NodeId },
    Link(Vec<u8>),
}

/// A file, a folder or a link.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) body: Body,
    /// The permissions.
    pub(super) mode: u32,
    /// How many names it has.
    pub(super) links: u32,
    /// How many ends are open on it.
    openings: u32,
}

/// What an end is open on, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) node: NodeId,
    pub(super) access: Access,
}

/// What an open file may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) reads: bool,
    pub(super) writes: bool,
    /// Whether it writes at the end of the file (`O_APPEND`).
    pub(super) appends: bool,
}

impl Access {
    pub(super) const BOTH: Self = Self { reads: true, writes: true, appends: false };
}

/// Where a path may lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// The folder that a relative path begins in.
    pub(super) start: NodeId,
    /// What `/` is, and what `..` does not leave.
    pub(super) root: NodeId,
    /// Whether it may not leave the start (`RESOLVE_BENEATH`).
    pub(super) is_beneath: bool,
    /// Whether it may not follow links (`RESOLVE_NO_SYMLINKS`).
    pub(super) has_no_links: bool,
}

impl Scope {
    pub(super) fn of(start: NodeId) -> Self {
        Self { start, root: ROOT, is_beneath: false, has_no_links: false }
    }
}

/// The last part of a path, and the folder in which it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) folder: NodeId,
    pub(super) last: Last,
    /// Whether a slash follows.
    pub(super) has_slash: bool,
}

/// The last part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Last {
    Name(Vec<u8>),
    /// `.`
    Here,
    /// `..`
    Up,
    /// Nothing behind the first slash.
    Root,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Self { nodes: Vec::new() };
        tree.make(Body::Folder { names: BTreeMap::new(), parent: ROOT }, 0o755);
        tree.nodes[ROOT].links = 2;
        tree
    }
}

impl Tree {
    /// A node without a name.
    pub(super) fn make(&mut self, body: Body, mode: u32) -> NodeId {
        self.nodes.push(Node { body, mode, links: 0, openings: 0 });
        self.nodes.len() - 1
    }

    /// A new folder, without a name.
    pub(super) fn make_folder(&mut self, parent: NodeId, mode: u32) -> NodeId {
        self.make(Body::Folder { names: BTreeMap::new(), parent }, mode)
    }

    /// An end is opened on a node.
    pub(super) fn open(&mut self, node: NodeId) {
        self.nodes[node].openings += 1;
    }

    /// An end is gone.
    pub(super) fn close(&mut self, node: NodeId) {
        self.nodes[node].openings -= 1;
        self.let_go(node);
    }

    /// Forgets the contents of a file that nothing leads to any more.
    pub(super) fn let_go(&mut self, at: NodeId) {
        let node = &mut self.nodes[at];
        if let Body::File(bytes) = &mut node.body
            && node.links == 0
            && node.openings == 0
        {
            *bytes = Vec::new();
        }
    }

    /// The contents of a file; `None` for another node.
    pub(super) fn bytes(&self, at: NodeId) -> Option<&Vec<u8>> {
        match &self.nodes[at].body {
            Body::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The contents of a file, to change them.
    pub(super) fn bytes_mut(&mut self, at: NodeId) -> Option<&mut Vec<u8>> {
        match &mut self.nodes[at].body {
            Body::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn is_folder(&self, at: NodeId) -> bool {
        matches!(self.nodes[at].body, Body::Folder { .. })
    }

    /// The names in a folder, which the node is.
    pub(super) fn names(&self, at: NodeId) -> &BTreeMap<Vec<u8>, NodeId> {
        match &self.nodes[at].body {
            Body::Folder { names, .. } => names,
            _ => unreachable!("a folder"),
        }
    }

    pub(super) fn names_mut(&mut self, at: NodeId) -> &mut BTreeMap<Vec<u8>, NodeId> {
        match &mut self.nodes[at].body {
            Body::Folder { names, .. } => names,
            _ => unreachable!("a folder"),
        }
    }

    pub(super) fn parent(&self, at: NodeId) -> NodeId {
        match self.nodes[at].body {
            Body::Folder { parent, .. } => parent,
            _ => unreachable!("a folder"),
        }
    }

    /// The node with a name in a folder.
    pub(super) fn child(&self, folder: NodeId, name: &[u8]) -> Result<Option<NodeId>, i32> {
        if !self.is_folder(folder) {
            return Err(libc::ENOTDIR);
        }
        if name.len() > LONGEST {
            return Err(libc::ENAMETOOLONG);
        }
        Ok(self.names(folder).get(name).copied())
    }

    /// The last part of a path, and its folder.
    pub(super) fn spot(&self, scope: Scope, path: &[u8]) -> Result<Spot, i32> {
        self.spot_from(scope, path, &mut 0)
    }

    /// The node that a path leads to.
    pub(super) fn find(&self, scope: Scope, path: &[u8], follows: bool) -> Result<NodeId, i32> {
        self.find_from(scope, path, follows, &mut 0)
    }

    fn spot_from(&self, scope: Scope, path: &[u8], links: &mut u32) -> Result<Spot, i32> {
        let is_absolute = path.first() == Some(&b'/');
        if is_absolute && scope.is_beneath {
            return Err(libc::EXDEV);
        }
        let mut folder = if is_absolute { scope.root } else { scope.start };
        if !self.is_folder(folder) {
            return Err(libc::ENOTDIR);
        }
        let has_slash = path.last() == Some(&b'/');
        let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        let Some(mut last) = parts.next() else {
            return Ok(Spot { folder, last: Last::Root, has_slash });
        };
        for part in parts {
            folder = self.step(scope, folder, std::mem::replace(&mut last, part), links)?;
            if !self.is_folder(folder) {
                return Err(libc::ENOTDIR);
            }
        }
        let last = match last {
            b"." => Last::Here,
            b".." => Last::Up,
            name => Last::Name(name.to_vec()),
        };
        Ok(Spot { folder, last, has_slash })
    }

    /// Where a part of a path leads from a folder. Links are followed.
    fn step(
        &self,
        scope: Scope,
        folder: NodeId,
        part: &[u8],
        links: &mut u32,
    ) -> Result<NodeId, i32> {
        match part {
            b"." => Ok(folder),
            b".." => self.up(scope, folder),
            name => {
                let child = self.child(folder, name)?.ok_or(libc::ENOENT)?;
                self.follow(scope, folder, child, links)
            }
        }
    }

    fn up(&self, scope: Scope, folder: NodeId) -> Result<NodeId, i32> {
        match folder == scope.root {
            true if scope.is_beneath => Err(libc::EXDEV),
            true => Ok(folder),
            false => Ok(self.parent(folder)),
        }
    }

    /// The node itself; or, if it is a link in `folder`, what it leads to.
    fn follow(
        &self,
        scope: Scope,
        folder: NodeId,
        node: NodeId,
        links: &mut u32,
    ) -> Result<NodeId, i32> {
        let Body::Link(target) = &self.nodes[node].body else { return Ok(node) };
        *links += 1;
        if *links > MOST_LINKS || scope.has_no_links {
            return Err(libc::ELOOP);
        }
        self.find_from(Scope { start: folder, ..scope }, target, true, links)
    }

    fn find_from(
        &self,
        scope: Scope,
        path: &[u8],
        follows: bool,
        links: &mut u32,
    ) -> Result<NodeId, i32> {
        let spot = self.spot_from(scope, path, links)?;
        let node = match &spot.last {
            Last::Here | Last::Root => spot.folder,
            Last::Up => self.up(scope, spot.folder)?,
            Last::Name(name) => {
                let child = self.child(spot.folder, name)?.ok_or(libc::ENOENT)?;
                match follows || spot.has_slash {
                    true => self.follow(scope, spot.folder, child, links)?,
                    false => child,
                }
            }
        };
        if spot.has_slash && !self.is_folder(node) {
            return Err(libc::ENOTDIR);
        }
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/a/f`, `/a/up → ..`, `/l → a`, `/loop → loop`.
    fn small() -> (Tree, NodeId, NodeId) {
        let mut tree = Tree::default();
        let a = tree.make_folder(ROOT, 0o755);
        let f = tree.make(Body::File(b"f".to_vec()), 0o644);
        let up = tree.make(Body::Link(b"..".to_vec()), 0o777);
        let link = tree.make(Body::Link(b"a".to_vec()), 0o777);
        let around = tree.make(Body::Link(b"loop".to_vec()), 0o777);
        tree.names_mut(ROOT).extend([(b"a".to_vec(), a), (b"l".to_vec(), link)]);
        tree.names_mut(ROOT).insert(b"loop".to_vec(), around);
        tree.names_mut(a).extend([(b"f".to_vec(), f), (b"up".to_vec(), up)]);
        (tree, a, f)
    }

    #[test]
    fn paths_lead_through_folders_and_links() {
        let (tree, a, f) = small();
        let find = |path: &[u8]| tree.find(Scope::of(ROOT), path, true);
        assert_eq!(find(b"/a/f"), Ok(f));
        assert_eq!(find(b"l//./f"), Ok(f));
        assert_eq!(find(b"a/up/l/../a/"), Ok(a));
        assert_eq!(find(b"../../.."), Ok(ROOT));
        assert_eq!(find(b"a/f/"), Err(libc::ENOTDIR));
        assert_eq!(find(b"a/f/.."), Err(libc::ENOTDIR));
        assert_eq!(find(b"a/none"), Err(libc::ENOENT));
        assert_eq!(find(b"loop"), Err(libc::ELOOP));
        assert_eq!(find(&[b'x'; 256]), Err(libc::ENAMETOOLONG));
    }

    #[test]
    fn a_scope_is_not_left() {
        let (tree, a, f) = small();
        let beneath = Scope { start: a, root: a, is_beneath: true, has_no_links: false };
        assert_eq!(tree.find(beneath, b"f", true), Ok(f));
        for path in [&b"/f"[..], b"..", b"up", b"../a/f"] {
            assert_eq!(tree.find(beneath, path, true), Err(libc::EXDEV));
        }
        let inside = Scope { is_beneath: false, ..beneath };
        assert_eq!(tree.find(inside, b"/../up/f", true), Ok(f));
        let plain = Scope { has_no_links: true, ..Scope::of(ROOT) };
        assert_eq!(tree.find(plain, b"l/f", true), Err(libc::ELOOP));
        assert!(tree.find(plain, b"l", false).is_ok());
    }
}
