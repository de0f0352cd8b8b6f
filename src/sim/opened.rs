//! Files that are open: reads, writes and changes of their length, at an offset or the position.

use super::trace::EndId;
use super::tree::{Access, Body, NodeId, Opened};
use super::world::{Io, Kind, World};

/// The longest file.
const LONGEST: u64 = 1 << 30;

impl World {
    /// An end that is open on a node.
    pub(super) fn open(&mut self, kind: Kind, node: NodeId, access: Access) -> EndId {
        let end = self.make(kind);
        self.ends[end].opened = Some(Opened { node, access });
        self.tree.open(node);
        end
    }

    /// A file without a name.
    pub(super) fn make_file(&mut self, bytes: Vec<u8>) -> EndId {
        let node = self.tree.make(Body::File(bytes), 0o777);
        self.open(Kind::File, node, Access::BOTH)
    }

    /// What a file is open on.
    pub(super) fn opened(&self, at: EndId) -> Opened {
        self.ends[at].opened.expect("files and folders are open on a node")
    }

    pub(super) fn read_file(&mut self, at: EndId, most: usize, offset: Option<u64>) -> Io<Vec<u8>> {
        let Opened { node, access } = self.opened(at);
        if !access.reads {
            return Io::Fails(libc::EBADF);
        }
        let end = &mut self.ends[at];
        let from = offset.unwrap_or(end.position);
        let all = self.tree.bytes(node).expect("a file");
        let start = usize::try_from(from).unwrap_or(usize::MAX).min(all.len());
        let bytes = all[start..][..most.min(all.len() - start)].to_vec();
        if offset.is_none() {
            end.position += bytes.len() as u64;
        }
        Io::Done(bytes)
    }

    pub(super) fn write_file(&mut self, at: EndId, bytes: &[u8], offset: Option<u64>) -> Io<usize> {
        let Opened { node, access } = self.opened(at);
        if !access.writes {
            return Io::Fails(libc::EBADF);
        }
        let end = &mut self.ends[at];
        let all = self.tree.bytes_mut(node).expect("a file");
        let appends = access.appends && !bytes.is_empty();
        let from = if appends { all.len() as u64 } else { offset.unwrap_or(end.position) };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let to = from.checked_add(bytes.len()).filter(|&to| to as u64 <= LONGEST);
        let Some(to) = to else { return Io::Fails(libc::EFBIG) };
        if !bytes.is_empty() {
            if to > all.len() {
                all.resize(to, 0);
            }
            all[from..to].copy_from_slice(bytes);
        }
        if offset.is_none() {
            end.position = to as u64;
        }
        Io::Done(bytes.len())
    }

    /// Sets the length of a file: `ftruncate(2)`.
    pub(super) fn truncate(&mut self, at: EndId, len: u64) -> Io<()> {
        if self.ends[at].kind == Kind::Real {
            return self.truncate_real(at, len);
        }
        let end = &self.ends[at];
        let is_open = end.opened.is_some_and(|opened| opened.access.writes);
        if end.kind != Kind::File || !is_open || len > i64::MAX.cast_unsigned() {
            return Io::Fails(libc::EINVAL);
        }
        if len > LONGEST {
            return Io::Fails(libc::EFBIG);
        }
        let node = self.opened(at).node;
        let len = usize::try_from(len).expect("64 bits");
        self.tree.bytes_mut(node).expect("a file").resize(len, 0);
        Io::Done(())
    }

    /// Makes room in a file, or a hole: `fallocate(2)`.
    pub(super) fn allocate(&mut self, at: EndId, mode: i32, offset: u64, len: u64) -> Io<()> {
        if self.ends[at].kind == Kind::Real {
            return self.allocate_real(at, mode, offset, len);
        }
        let (keep, hole) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
        let most = i64::MAX.cast_unsigned();
        if offset > most || len > most || len == 0 {
            return Io::Fails(libc::EINVAL);
        }
        if mode != 0 && mode != keep && mode != keep | hole {
            return Io::Fails(libc::EOPNOTSUPP);
        }
        let end = &self.ends[at];
        match end.kind {
            Kind::Reader | Kind::Folder => return Io::Fails(libc::EBADF),
            Kind::Writer => return Io::Fails(libc::ESPIPE),
            Kind::File if !self.opened(at).access.writes => return Io::Fails(libc::EBADF),
            Kind::File => {}
            _ => return Io::Fails(libc::ENODEV),
        }
        if offset + len > LONGEST && mode & hole == 0 {
            return Io::Fails(libc::EFBIG);
        }
        let node = self.opened(at).node;
        let bytes = self.tree.bytes_mut(node).expect("a file");
        let place = |at: u64| usize::try_from(at).expect("64 bits");
        let (from, to) = (place(offset), place(offset + len));
        if mode & hole != 0 {
            let (from, to) = (from.min(bytes.len()), to.min(bytes.len()));
            bytes[from..to].fill(0);
        } else if mode == 0 && to > bytes.len() {
            bytes.resize(to, 0);
        }
        Io::Done(())
    }
}
