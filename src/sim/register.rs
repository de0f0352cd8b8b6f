//! The register calls: each reads its argument, checks it as Linux does, and changes the ring.
//!
//! | call | changes |
//! |---|---|
//! | `BUFFERS` `BUFFERS2` `BUFFERS_UPDATE` `UNREGISTER_BUFFERS` | the table of buffers |
//! | `FILES` `FILES2` `FILES_UPDATE` `FILES_UPDATE2` `UNREGISTER_FILES` `FILE_ALLOC_RANGE` | the table of files |
//! | `PBUF_RING` `UNREGISTER_PBUF_RING` `PBUF_STATUS` | the groups of provided buffers |
//! | `EVENTFD` `EVENTFD_ASYNC` `UNREGISTER_EVENTFD` | the eventfd that completions signal (`signals`) |
//! | `PERSONALITY` `UNREGISTER_PERSONALITY` | who requests may be (`people`) |
//! | `RESTRICTIONS` `ENABLE_RINGS` | what the ring may do (`restrict`) |
//! | `CLOCK` `MEM_REGION` | what its waits go by (`waits`) |
//! | `CLONE_BUFFERS` | the table of buffers, from another ring's (`clones`) |
//! | `SYNC_CANCEL` | nothing: it ends requests (`sync_cancel`) |
//! | `PROBE` `QUERY` | nothing: they tell what there is (`query`) |
#![allow(unsafe_code, reason = "plays the kernel")]

use std::sync::Arc;

use annulus_sys::abi::Buf;
use annulus_sys::abi_register::{
    BufReg, BufStatus, FileIndexRange, RsrcRegister, RsrcUpdate, RsrcUpdate2,
};
use annulus_sys::errno::Errno;
use annulus_sys::flags_register::{PbufRingFlags, REGISTER_FILES_SKIP, RsrcRegisterFlags};
use annulus_sys::index::Entries;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::this_thread;

use super::block::{Block, is_mapped};
use super::buffers::Group;
use super::query::{probe, query};
use super::region::{copy_in, read_value, write_value};
use super::registered::{Buffer, Entry, Table, Thing};
use super::state::State;

/// The most buffers and files of a table, and the longest buffer.
pub(super) const MOST_BUFFERS: u32 = 1 << 14;
const MOST_FILES: u32 = 1 << 20;
const LONGEST: u64 = 1 << 30;

/// The calls that need no memory.
const FREES: [RegisterOp; 11] = [
    RegisterOp::ENABLE_RINGS,
    RegisterOp::CLOCK,
    RegisterOp::QUERY,
    RegisterOp::SYNC_CANCEL,
    RegisterOp::UNREGISTER_EVENTFD,
    RegisterOp::UNREGISTER_PERSONALITY,
    RegisterOp::UNREGISTER_RING_FDS,
    RegisterOp::UNREGISTER_BUFFERS,
    RegisterOp::UNREGISTER_FILES,
    RegisterOp::UNREGISTER_PBUF_RING,
    RegisterOp::PBUF_STATUS,
];

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Buffers,
    Files,
}

/// Where the things and tags of a call lie; 0 for none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrays {
    pub(super) things: u64,
    pub(super) tags: u64,
    pub(super) count: u32,
}

fn refused<T>(errno: i32) -> Result<T, Errno> {
    Err(Errno::new(errno))
}

impl State {
    /// A register call.
    ///
    /// # Safety
    ///
    /// As `Backend::register`: `arg` and `count` are what `op` asks for.
    pub(super) unsafe fn register(
        &mut self,
        ring: usize,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        use What::{Buffers, Files};
        self.admit(ring, op)?;
        let address = arg.expose_provenance() as u64;
        let plain = Arrays { things: address, tags: 0, count };
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise vouches for all")]
        // SAFETY: the argument of `op`, as promised to `register`.
        unsafe {
            match op {
                RegisterOp::BUFFERS => self.make_table(ring, Buffers, plain),
                RegisterOp::FILES => self.make_table(ring, Files, plain),
                RegisterOp::BUFFERS2 => self.make_table_2(ring, Buffers, address, count),
                RegisterOp::FILES2 => self.make_table_2(ring, Files, address, count),
                RegisterOp::FILES_UPDATE => self.update_files(ring, address, count),
                RegisterOp::FILES_UPDATE2 => self.update_2(ring, Files, address, count),
                RegisterOp::BUFFERS_UPDATE => self.update_2(ring, Buffers, address, count),
                RegisterOp::UNREGISTER_BUFFERS => self.drop_table(ring, Buffers, address, count),
                RegisterOp::UNREGISTER_FILES => self.drop_table(ring, Files, address, count),
                RegisterOp::FILE_ALLOC_RANGE => self.allot_files(ring, address, count),
                RegisterOp::CLONE_BUFFERS => self.clone_buffers(ring, address, count),
                RegisterOp::PBUF_RING => self.add_group(ring, copy_in::<BufReg>(address)?),
                RegisterOp::UNREGISTER_PBUF_RING => {
                    let reg = copy_in::<BufReg>(address)?;
                    self.group(ring, reg.bgid)?;
                    self.rings[ring].groups.retain(|group| group.id != reg.bgid);
                    Ok(0)
                }
                RegisterOp::PBUF_STATUS => {
                    let mut status = copy_in::<BufStatus>(address)?;
                    let id = u16::try_from(status.buf_group);
                    let group = id.map_err(|_| Errno::new(libc::ENOENT))?;
                    status.head = self.group(ring, group)?.head().into();
                    write_value(arg, status);
                    Ok(0)
                }
                RegisterOp::RING_FDS => self.change_ring_fds(arg, count, true),
                RegisterOp::UNREGISTER_RING_FDS => self.change_ring_fds(arg, count, false),
                RegisterOp::IOWQ_MAX_WORKERS => self.limit_workers(ring, arg, count),
                RegisterOp::RESIZE_RINGS if count == 1 => self.resize(ring, arg),
                _ => self.register_other(ring, op, arg, count),
            }
        }
    }

    /// A call that is not about tables.
    ///
    /// # Safety
    ///
    /// As `Backend::register`: `arg` and `count` are what `op` asks for.
    unsafe fn register_other(
        &mut self,
        ring: usize,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        let address = arg.expose_provenance() as u64;
        let is_bare = arg.is_null() && count == 0;
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one promise vouches for all")]
        // SAFETY: the argument of `op`, as promised to `register_other`.
        unsafe {
            match op {
                RegisterOp::EVENTFD if count == 1 => self.register_signal(ring, address, false),
                RegisterOp::EVENTFD_ASYNC if count == 1 => {
                    self.register_signal(ring, address, true)
                }
                RegisterOp::UNREGISTER_EVENTFD if is_bare => self.unregister_signal(ring),
                RegisterOp::PERSONALITY if is_bare => self.rings[ring].people.register(),
                RegisterOp::UNREGISTER_PERSONALITY if arg.is_null() => {
                    self.rings[ring].people.unregister(count)
                }
                RegisterOp::RESTRICTIONS => self.restrict(ring, address, count),
                RegisterOp::ENABLE_RINGS if is_bare => self.enable(ring),
                RegisterOp::CLOCK => self.set_clock(address, count),
                RegisterOp::MEM_REGION => self.add_region(ring, address, count),
                RegisterOp::QUERY => query(address, count, self.release),
                RegisterOp::PROBE => {
                    probe(arg, count, self.release);
                    Ok(0)
                }
                _ => refused(libc::EINVAL),
            }
        }
    }

    /// A call that names no ring.
    ///
    /// # Safety
    ///
    /// As `Backend::register`: `arg` and `count` are what `op` asks for.
    pub(super) unsafe fn register_blind(
        &mut self,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        if op != RegisterOp::QUERY || !self.release.has(op.since()) {
            return refused(libc::EINVAL);
        }
        let address = arg.expose_provenance() as u64;
        // SAFETY: as promised to `register_blind`.
        unsafe { query(address, count, self.release) }
    }

    /// Refuses a call that is unknown, of another thread than the ring's, not allowed, or unlucky.
    pub(super) fn admit(&mut self, ring: usize, op: RegisterOp) -> Result<(), Errno> {
        if !self.release.has(op.since()) {
            return refused(libc::EINVAL);
        }
        if self.rings[ring].thread.is_some_and(|thread| thread != this_thread()) {
            return refused(libc::EEXIST);
        }
        if !self.allows_call(ring, op) {
            return refused(libc::EACCES);
        }
        if !FREES.contains(&op) && self.luck.hits(self.faults.register) {
            return refused(libc::ENOMEM);
        }
        Ok(())
    }

    fn table(&mut self, ring: usize, what: What) -> &mut Table {
        let ring = &mut self.rings[ring];
        if what == What::Buffers { &mut ring.buffers } else { &mut ring.files }
    }

    /// # Safety
    ///
    /// `address` must point to as many bytes as the call asks for, which `size` says.
    unsafe fn make_table_2(
        &mut self,
        ring: usize,
        what: What,
        address: u64,
        size: u32,
    ) -> Result<u32, Errno> {
        if size as usize != size_of::<RsrcRegister>() {
            return refused(libc::EINVAL);
        }
        // SAFETY: a live `struct io_uring_rsrc_register`, as promised to `make_table_2`.
        let asked = unsafe { copy_in::<RsrcRegister>(address) }?;
        let RsrcRegister { nr: count, flags, resv2, data: things, tags } = asked;
        let is_sparse = flags.contains(RsrcRegisterFlags::SPARSE);
        let is_unknown = count == 0 || resv2 != 0 || !RsrcRegisterFlags::SPARSE.contains(flags);
        if is_unknown || (is_sparse && things != 0) {
            return refused(libc::EINVAL);
        }
        // SAFETY: `count` things and tags, as promised to `make_table_2`.
        unsafe { self.make_table(ring, what, Arrays { things, tags, count }) }
    }

    /// # Safety
    ///
    /// The arrays must be live.
    unsafe fn make_table(&mut self, ring: usize, what: What, from: Arrays) -> Result<u32, Errno> {
        let (most, too_many) = match what {
            What::Buffers => (MOST_BUFFERS, libc::EINVAL),
            What::Files => (MOST_FILES, libc::EMFILE),
        };
        if self.table(ring, what).len() > 0 {
            return refused(libc::EBUSY);
        }
        if from.count == 0 {
            return refused(libc::EINVAL);
        }
        if from.count > most {
            return refused(too_many);
        }
        let mut places = Vec::new();
        for at in 0..from.count {
            // SAFETY: one of `count`, as promised to `make_table`.
            let made = unsafe { self.entry(what, from, at) };
            match made {
                Ok(entry) => places.push(entry),
                Err(errno) => {
                    // Nobody is told of these.
                    for entry in places.into_iter().flatten() {
                        self.let_go(ring, Arc::new(Entry { tag: 0, ..entry }));
                    }
                    return Err(errno);
                }
            }
        }
        let places = places.into_iter().map(|entry| entry.map(Arc::new));
        *self.table(ring, what) = Table::new(places.collect());
        Ok(0)
    }

    /// The thing at `at`, which is used from now on; `None` for an empty place.
    ///
    /// # Safety
    ///
    /// The arrays must be live, and `at` below their count.
    unsafe fn entry(&mut self, what: What, from: Arrays, at: u32) -> Result<Option<Entry>, Errno> {
        let (things, tags, at) = (from.things, from.tags, u64::from(at));
        let tag = match tags {
            0 => 0,
            // SAFETY: a live tag, as promised to `entry`.
            _ => unsafe { read_value::<u64>(tags + 8 * at) },
        };
        let empty = if tag == 0 { Ok(None) } else { refused(libc::EINVAL) };
        if things == 0 {
            return empty;
        }
        let thing = match what {
            What::Buffers => {
                // SAFETY: a live `struct iovec` of two words, as promised to `entry`.
                let [address, len] = unsafe { read_value::<[u64; 2]>(things + 16 * at) };
                match (address, len) {
                    (0, 0) => return empty,
                    (0, _) | (_, 0) => return refused(libc::EFAULT),
                    _ if len > LONGEST || !is_mapped(address, len) => return refused(libc::EFAULT),
                    _ => Thing::Buffer(Buffer { address, len }),
                }
            }
            What::Files => {
                // SAFETY: a live number, as promised to `entry`.
                let fd = unsafe { read_value::<i32>(things + 4 * at) };
                if fd == -1 {
                    return empty;
                }
                let end = self.end_at(fd).ok_or(Errno::new(libc::EBADF))?;
                self.world.ends[end].users += 1;
                Thing::File(end)
            }
        };
        Ok(Some(Entry { thing, tag }))
    }

    /// # Safety
    ///
    /// `address` must point to as many bytes as the call asks for, which `size` says.
    unsafe fn update_2(
        &mut self,
        ring: usize,
        what: What,
        address: u64,
        size: u32,
    ) -> Result<u32, Errno> {
        if size as usize != size_of::<RsrcUpdate2>() {
            return refused(libc::EINVAL);
        }
        // SAFETY: a live `struct io_uring_rsrc_update2`, as promised to `update_2`.
        let asked = unsafe { copy_in::<RsrcUpdate2>(address) }?;
        let RsrcUpdate2 { offset, resv, data: things, tags, nr: count, resv2 } = asked;
        if count == 0 || resv != 0 || resv2 != 0 {
            return refused(libc::EINVAL);
        }
        // SAFETY: `count` things and tags, as promised to `update_2`.
        unsafe { self.update(ring, what, offset, Arrays { things, tags, count }) }
    }

    /// # Safety
    ///
    /// `address` must point to a `struct io_uring_rsrc_update` of `count` files.
    unsafe fn update_files(&mut self, ring: usize, address: u64, count: u32) -> Result<u32, Errno> {
        if count == 0 {
            return refused(libc::EINVAL);
        }
        // SAFETY: as promised to `update_files`.
        let asked = unsafe { copy_in::<RsrcUpdate>(address) }?;
        if asked.resv != 0 {
            return refused(libc::EINVAL);
        }
        let from = Arrays { things: asked.data, tags: 0, count };
        // SAFETY: `count` numbers, as promised to `update_files`.
        unsafe { self.update(ring, What::Files, asked.offset, from) }
    }

    /// Changes places from `offset` on. Returns how many.
    ///
    /// # Safety
    ///
    /// The arrays must be live.
    pub(super) unsafe fn update(
        &mut self,
        ring: usize,
        what: What,
        offset: u32,
        from: Arrays,
    ) -> Result<u32, Errno> {
        let end = offset.checked_add(from.count).ok_or(Errno::new(libc::EOVERFLOW))? as usize;
        let len = self.table(ring, what).len();
        if len == 0 {
            return refused(libc::ENXIO);
        }
        if end > len {
            return refused(libc::EINVAL);
        }
        for done in 0..from.count {
            // SAFETY: one of `count`, as promised to `update`.
            let result = unsafe { self.update_one(ring, what, offset, from, done) };
            if let Err(errno) = result {
                return if done > 0 { Ok(done) } else { Err(errno) };
            }
        }
        Ok(from.count)
    }

    /// # Safety
    ///
    /// The arrays must be live, and `at` below their count.
    unsafe fn update_one(
        &mut self,
        ring: usize,
        what: What,
        offset: u32,
        from: Arrays,
        at: u32,
    ) -> Result<(), Errno> {
        let place = (offset + at) as usize;
        if what == What::Files {
            let number = from.things + 4 * u64::from(at);
            // SAFETY: a live number, as promised to `update_one`.
            if unsafe { read_value::<i32>(number) } == REGISTER_FILES_SKIP {
                let at = from.tags + 8 * u64::from(at);
                // SAFETY: a live tag, as promised to `update_one`.
                let has_tag = from.tags != 0 && unsafe { read_value::<u64>(at) } != 0;
                return if has_tag { refused(libc::EINVAL) } else { Ok(()) };
            }
        }
        // SAFETY: as promised to `update_one`.
        let entry = unsafe { self.entry(what, from, at) };
        // A descriptor that is not open empties the place; another mistake leaves it alone.
        let empties = match &entry {
            Ok(_) => true,
            Err(errno) => what == What::Files && errno.raw() == libc::EBADF,
        };
        if empties && let Some(old) = self.table(ring, what).empty(place) {
            self.let_go(ring, old);
        }
        if let Some(entry) = entry? {
            self.table(ring, what).fill(place, entry);
        }
        Ok(())
    }

    fn drop_table(
        &mut self,
        ring: usize,
        what: What,
        address: u64,
        count: u32,
    ) -> Result<u32, Errno> {
        if address != 0 || count != 0 {
            return refused(libc::EINVAL);
        }
        if self.table(ring, what).len() == 0 {
            return refused(libc::ENXIO);
        }
        for entry in self.table(ring, what).clear() {
            self.let_go(ring, entry);
        }
        Ok(0)
    }

    /// # Safety
    ///
    /// `address` must be 0, or point to a `struct io_uring_file_index_range`.
    unsafe fn allot_files(&mut self, ring: usize, address: u64, count: u32) -> Result<u32, Errno> {
        if address == 0 || count != 0 {
            return refused(libc::EINVAL);
        }
        // SAFETY: as promised to `allot_files`.
        let FileIndexRange { off, len, resv } = unsafe { copy_in(address) }?;
        let end = off.checked_add(len).ok_or(Errno::new(libc::EOVERFLOW))? as usize;
        let table = self.table(ring, What::Files);
        if resv != 0 || end > table.len() {
            return refused(libc::EINVAL);
        }
        table.allot(off as usize, end);
        Ok(0)
    }

    pub(super) fn group(&mut self, ring: usize, id: u16) -> Result<&mut Group, Errno> {
        let groups = &mut self.rings[ring].groups;
        groups.iter_mut().find(|group| group.id == id).ok_or(Errno::new(libc::ENOENT))
    }

    /// # Safety
    ///
    /// The ring that it describes is memory of the program's until it is unregistered (RG1).
    unsafe fn add_group(&mut self, ring: usize, reg: BufReg) -> Result<u32, Errno> {
        let entries = Entries::new(reg.ring_entries).filter(|it| it.count() <= 1 << 15);
        let Some(entries) = entries else { return refused(libc::EINVAL) };
        let since = [(PbufRingFlags::MMAP, "6.4"), (PbufRingFlags::INC, "6.12")];
        let known = since.into_iter().filter(|(_, since)| self.release.has(Some(since)));
        let known: PbufRingFlags = known.map(|(flag, _)| flag).collect();
        if !known.contains(reg.flags) || reg.min_left != 0 {
            return refused(libc::EINVAL);
        }
        if self.group(ring, reg.bgid).is_ok() {
            return refused(libc::EEXIST);
        }
        let is_incremental = reg.flags.contains(PbufRingFlags::INC);
        let is_ours = reg.flags.contains(PbufRingFlags::MMAP);
        let block = is_ours.then(|| Block::new(entries.count() as usize * size_of::<Buf>()));
        let place = match &block {
            Some(block) => Some(block.base()),
            None => Group::place(reg.ring_addr),
        };
        let Some(place) = place else { return refused(libc::EFAULT) };
        // SAFETY: the group's own block, or the program's memory, as promised to `add_group`.
        let mut group = unsafe { Group::new(reg.bgid, place, entries, is_incremental) };
        group.block = block;
        self.rings[ring].groups.push(group);
        Ok(0)
    }
}
