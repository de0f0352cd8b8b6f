//! Zero-copy receive, raw API: a queue of a network card that fills memory of this process.
//!
//! ```text
//!   QueueSetup::new(Card { interface, queue }, 4096, area) ─► receive_queue ─► ReceiveQueue
//!                                                                                   │
//!   RECV_ZC ──► completion: offset and length ──► we read ──► recycle(off, len), flush
//! ```
//!
//! The ring must have large completions (`CQE32` or `CQE_MIXED`) and `DEFER_TASKRUN`, and the
//! caller `CAP_NET_ADMIN`. The card must split headers from data, and its flows must be steered to
//! the queue: `ethtool` sets up both. The queue exists, and the kernel writes to its memory, until
//! the ring, every descriptor that was [exported](ReceiveQueue::export) and every ring that
//! imported it are gone.
//!
//! | call | since |
//! |---|---|
//! | [`RawRing::receive_queue`] | Linux 6.15 |
//! | [`Area::Device`] | Linux 6.16 |
//! | [`ReceiveQueue::take_now`], [`export`](ReceiveQueue::export), [`RawRing::import_receive_queue`] | Linux 6.19 |
//! | [`QueueSetup::chunk`] | Linux 7.0 |
//! | [`Feed::Nowhere`] | Linux 7.1 |
//! | [`QueueSetup::report`], [`QueueSetup::stats`], [`ReceiveQueue::arm_event`] | Linux 7.2 |
//! | [`ReceiveQueue::add_area`] | Linux 7.3 |
//!
//! When the area is full, a request ends with `ENOMEM`: recycle, then receive again. It ends with
//! `ENOSPC` when its completions fill the completion queue. On Linux 7.1, a queue without a card
//! that had been full once was seen to wait silently instead.
//!
//! No machine that runs our tests has such a card, so they use a queue without one
//! ([`Feed::Nowhere`]). There every byte is copied, memory is taken page by page and never runs out
//! on the way in, and device memory is refused. Everything else works as with a card.
//!
//! Leaves to others: the request ([`prep::recv_zc`](crate::prep::recv_zc)), and reading its
//! completion ([`ZcrxCqe`]).
#![allow(unsafe_code, reason = "tells the kernel of memory")]

mod command;

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use annulus_sys::abi_register::RegionDesc;
use annulus_sys::abi_zcrx::{
    ZCRX_AREA_MASK, ZCRX_AREA_SHIFT, ZcrxAreaFlags, ZcrxAreaReg, ZcrxCqe, ZcrxCtrl, ZcrxEvent,
    ZcrxEventDesc, ZcrxEventDescFlags, ZcrxIfqReg, ZcrxRegFlags, ZcrxRqe, ZcrxStats,
};
use annulus_sys::index::Entries;
use annulus_sys::map::{Map, page_size};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::orderings::{AtomicU64, Counter, Observed, Published};
use annulus_sys::refill::RefillRing;
use annulus_sys::rings::Base;
use annulus_sys::slots::{Slots, Width};
use annulus_sys::sq::Full;

use super::call::Call;
use super::error::RegisterError;
use crate::raw::RawRing;
use command::{command, exported};

const QUEUE: &str = "a receive queue needs a ring with CQE32 or CQE_MIXED and DEFER_TASKRUN, 1 to \
                     32768 entries, and an area of whole pages";
const CURE: &str = "have CAP_NET_ADMIN";

/// Where the data comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// A queue of a network card.
    Card {
        /// The index of the interface.
        interface: u32,
        /// Which of its receive queues.
        queue: u32,
    },
    /// No card: every byte is copied, so that a program also runs without one. Since Linux 7.1.
    #[doc(alias = "ZCRX_REG_NODEV")]
    Nowhere,
}

/// The memory that a queue fills.
#[derive(Debug, Clone, Copy)]
pub enum Area<'a> {
    /// Memory of this process, in whole pages.
    Ours(NonNull<[u8]>),
    /// Memory of a device: all that the descriptor names. We never read it. Since Linux 6.16.
    #[doc(alias = "IORING_ZCRX_AREA_DMABUF")]
    Device {
        /// The descriptor by which the device shares the memory.
        dmabuf: BorrowedFd<'a>,
        /// Its size in bytes.
        len: u64,
    },
}

/// What receive queue to make.
#[doc(alias = "io_uring_zcrx_ifq_reg")]
#[derive(Debug, Clone, Copy)]
pub struct QueueSetup<'a> {
    from: Feed,
    entries: u32,
    area: Area<'a>,
    chunk: u32,
    report: Option<ZcrxEventDesc>,
}

impl<'a> QueueSetup<'a> {
    /// A queue fed by `from`. It fills `area`, and gets memory back through a refill ring of
    /// `entries`, rounded up to a power of two.
    pub const fn new(from: Feed, entries: u32, area: Area<'a>) -> Self {
        Self { from, entries, area, chunk: 0, report: None }
    }

    /// How many bytes of the area the card takes at once: a power of two, at least a page. The card
    /// must support it, and the area must be contiguous in such pieces. Since Linux 7.0.
    #[doc(alias = "rx_buf_len")]
    pub const fn chunk(self, bytes: u32) -> Self {
        Self { chunk: bytes, ..self }
    }

    /// Reports these events, each by a completion with this `user_data` that names the event. Each
    /// event is reported once, until it is [armed](ReceiveQueue::arm_event) again. Since Linux 7.2.
    ///
    /// # Panics
    ///
    /// If the number of an event exceeds 31.
    #[doc(alias = "zcrx_event_desc")]
    #[track_caller]
    pub fn report(self, user_data: u64, events: &[ZcrxEvent]) -> Self {
        let bits = events.iter().map(|event| 1_u32.checked_shl(event.0).expect("a number to 31"));
        let type_mask = bits.fold(0, |mask, bit| mask | bit);
        let report = self.report.unwrap_or_default();
        Self { report: Some(ZcrxEventDesc { user_data, type_mask, ..report }), ..self }
    }

    /// Counts what had to be copied: see [`ReceiveQueue::stats`]. Since Linux 7.2.
    #[doc(alias = "ZCRX_EVENT_DESC_FLAG_STATS")]
    pub fn stats(self) -> Self {
        let report = self.report.unwrap_or_default();
        let flags = report.flags | ZcrxEventDescFlags::STATS;
        Self { report: Some(ZcrxEventDesc { flags, ..report }), ..self }
    }
}

/// A receive queue that is registered with a ring.
#[derive(Debug)]
pub struct ReceiveQueue {
    refill: RefillRing,
    /// The kernel's counters, if it counts.
    copied: Option<Copied>,
    /// For each area we know, what entries of the refill ring add to their offset.
    tokens: Vec<u64>,
    id: u32,
    base: Arc<Base>,
    /// The memory under the refill ring.
    region: Map,
}

/// The counters that the kernel keeps in the region of the refill ring.
#[derive(Debug)]
struct Copied {
    completions: Counter<AtomicU64>,
    bytes: Counter<AtomicU64>,
}

/// # Zero-copy receive
impl RawRing {
    /// Binds a receive queue to this ring. Since Linux 6.15.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Privilege`] without `CAP_NET_ADMIN`; [`RegisterError::Missing`] if there is
    /// no such interface; [`RegisterError::InUse`] if the queue is in use, also by a ring that
    /// could not map it and has not ended; [`RegisterError::Invalid`] if the ring cannot have a
    /// queue, or for a feature that this kernel lacks.
    ///
    /// # Safety
    ///
    /// The kernel must be free to write the area until this ring, every exported descriptor of the
    /// queue, and every ring that imports it are gone and idle (RG1); also after any error but a
    /// refusal by the kernel. Only the part that a completion names may be touched, until it is
    /// recycled. The `user_data` of its [reports](QueueSetup::report) must be one that whoever
    /// reaps the ring takes for nothing else: on a [`Ring`](crate::Ring), as
    /// [`raw_mut`](crate::Ring::raw_mut) says (OP2).
    #[doc(alias = "IORING_REGISTER_ZCRX_IFQ")]
    #[doc(alias = "io_uring_register_ifq")]
    pub unsafe fn receive_queue(
        &mut self,
        setup: &QueueSetup<'_>,
    ) -> Result<ReceiveQueue, RegisterError> {
        if setup.entries == 0 || setup.entries > 1 << 15 {
            return Err(RegisterError::Invalid { reason: QUEUE });
        }
        let mut area = area_of(setup.area);
        let mut reg = queue_of(setup.from, setup.entries.next_power_of_two());
        let bytes = reg.rq_entries as usize * size_of::<ZcrxRqe>();
        // The header, the entries, and the counters, each on pages of its own.
        let counts = page_size() + bytes.next_multiple_of(page_size());
        let has_counts =
            setup.report.is_some_and(|report| report.flags.contains(ZcrxEventDescFlags::STATS));
        let len = if has_counts { counts + page_size() } else { counts };
        let mut region = RegionDesc { size: len as u64, ..RegionDesc::default() };
        let mut report = setup.report.map(|report| match has_counts {
            true => ZcrxEventDesc { stats_offset: counts as u64, ..report },
            false => report,
        });
        reg.rx_buf_len = setup.chunk;
        reg.area_ptr = (&raw mut area).expose_provenance() as u64;
        reg.region_ptr = (&raw mut region).expose_provenance() as u64;
        if let Some(report) = &mut report {
            reg.event_desc = std::ptr::from_mut(report).expose_provenance() as u64;
        }
        // SAFETY: it names a live area, region and report; the area is as promised to
        // `receive_queue`, and the region is the kernel's own.
        unsafe { register(self.base(), &mut reg) }?;
        if report.is_some_and(|report| report.type_mask != 0) {
            self.expect_others();
        }
        let map = self.base().kernel().map(self.base().fd(), region.mmap_offset, len);
        let map = map.map_err(RegisterError::Other)?;
        // SAFETY: `reg` is as the kernel returned it, and `map` is of the queue it just registered.
        let refill = unsafe { refill_of(&map, &reg) };
        // SAFETY: the kernel counts there, since it was told to.
        let copied = has_counts.then(|| unsafe { counts_at(&map, counts) });
        let base = Arc::clone(self.base());
        let (tokens, id) = (vec![area.rq_area_token], reg.zcrx_id);
        Ok(ReceiveQueue { refill, copied, tokens, id, base, region: map })
    }

    /// Binds a queue that another ring exported. Returns its number on this ring, which `RECV_ZC`
    /// names. The refill ring stays with the other ring. Since Linux 6.19.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] if the descriptor is not an exported queue.
    #[doc(alias = "ZCRX_REG_IMPORT")]
    pub fn import_receive_queue(&mut self, exported: impl AsFd) -> Result<u32, RegisterError> {
        let mut reg = import_of(exported.as_fd());
        // SAFETY: an import names a descriptor, and no memory.
        unsafe { register(self.base(), &mut reg) }?;
        Ok(reg.zcrx_id)
    }
}

fn area_of(area: Area<'_>) -> ZcrxAreaReg {
    match area {
        Area::Ours(area) => {
            let addr = area.cast::<u8>().as_ptr().expose_provenance() as u64;
            ZcrxAreaReg { addr, len: area.len() as u64, ..ZcrxAreaReg::default() }
        }
        Area::Device { dmabuf, len } => {
            let dmabuf_fd = dmabuf.as_raw_fd().cast_unsigned();
            let flags = ZcrxAreaFlags::DMABUF;
            ZcrxAreaReg { len, flags, dmabuf_fd, ..ZcrxAreaReg::default() }
        }
    }
}

fn queue_of(from: Feed, rq_entries: u32) -> ZcrxIfqReg {
    match from {
        Feed::Card { interface, queue } => {
            ZcrxIfqReg { if_idx: interface, if_rxq: queue, rq_entries, ..ZcrxIfqReg::default() }
        }
        Feed::Nowhere => {
            ZcrxIfqReg { rq_entries, flags: ZcrxRegFlags::NODEV, ..ZcrxIfqReg::default() }
        }
    }
}

fn import_of(exported: BorrowedFd<'_>) -> ZcrxIfqReg {
    let if_idx = exported.as_raw_fd().cast_unsigned();
    ZcrxIfqReg { if_idx, flags: ZcrxRegFlags::IMPORT, ..ZcrxIfqReg::default() }
}

/// # Safety
///
/// What `reg` names must be live, and the memory of its area as for [`RawRing::receive_queue`].
unsafe fn register(base: &Base, reg: &mut ZcrxIfqReg) -> Result<(), RegisterError> {
    let call = Call::new(RegisterOp::ZCRX_IFQ, 1, QUEUE);
    // SAFETY: a live `struct io_uring_zcrx_ifq_reg`; what it names is as promised to `register`.
    let made = unsafe { call.make(base, std::ptr::from_mut(reg)) };
    made.map(drop).map_err(|error| {
        error
            .unless(libc::EPERM, RegisterError::Privilege { cure: CURE })
            .unless(
                libc::ENODEV,
                RegisterError::Missing { what: "network interface of that index" },
            )
            .unless(libc::EBADF, RegisterError::Invalid { reason: "it is no exported queue" })
    })
}

/// The refill ring that `reg` locates in `map`.
///
/// # Safety
///
/// `reg` must be what the kernel returned, and `map` of its region.
unsafe fn refill_of(map: &Map, reg: &ZcrxIfqReg) -> RefillRing {
    let entries = Entries::new(reg.rq_entries).expect("SQ2: a power of two");
    let (head, tail) = (map.at(reg.offsets.head as usize, 1), map.at(reg.offsets.tail as usize, 1));
    let slots = map.at(reg.offsets.rqes as usize, entries.count() as usize);
    // SAFETY: in the map, because `at` checked, and the queue keeps it.
    let head = unsafe { Observed::new(head) };
    // SAFETY: in the map, because `at` checked, and the queue keeps it; only we store the tail.
    let tail = unsafe { Published::new(tail) };
    // SAFETY: in the map, because `at` checked, and the queue keeps it; any bytes are a `ZcrxRqe`.
    let slots = unsafe { Slots::new(slots, entries, Width::Single) };
    // SAFETY: the kernel takes what lies between head and tail, as promised to `refill_of`.
    unsafe { RefillRing::over(head, tail, slots) }
}

/// The counters at `offset` of `map`.
///
/// # Safety
///
/// The kernel must count there.
unsafe fn counts_at(map: &Map, offset: usize) -> Copied {
    let place = |offset| map.at::<AtomicU64>(offset, 1);
    let completions = place(offset + offset_of!(ZcrxStats, copy_count));
    let bytes = place(offset + offset_of!(ZcrxStats, copy_bytes));
    // SAFETY: in the map, because `at` checked, and the queue keeps it; only the kernel stores it.
    let completions = unsafe { Counter::new(completions) };
    // SAFETY: in the map, because `at` checked, and the queue keeps it; only the kernel stores it.
    let bytes = unsafe { Counter::new(bytes) };
    Copied { completions, bytes }
}

impl ReceiveQueue {
    /// The number by which `RECV_ZC` names the queue.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Gives back `len` bytes of the area, which `cqe` has named. The kernel sees it after
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] if the kernel has not yet taken what was given back before: flush, and
    /// [`take_now`](Self::take_now).
    ///
    /// # Panics
    ///
    /// If `cqe` names an area that was not added through this value.
    ///
    /// # Safety
    ///
    /// The completion must be of this queue, with `len` as its result, and nothing may touch the
    /// bytes any more. Recycle each completion only once.
    #[track_caller]
    pub unsafe fn recycle(&mut self, cqe: ZcrxCqe, len: u32) -> Result<(), Full> {
        let area = cqe.off >> ZCRX_AREA_SHIFT;
        let of_area = |token: &&u64| **token >> ZCRX_AREA_SHIFT == area;
        let token = self.tokens.iter().find(of_area).expect("an area of this queue");
        let entry = ZcrxRqe { off: cqe.off & !ZCRX_AREA_MASK | token, len, pad: 0 };
        // SAFETY: as promised to `recycle`.
        unsafe { self.refill.push(entry) }
    }

    /// Hands the recycled memory to the kernel, which takes it when the card needs it. Without a
    /// card, or if another ring receives, it takes it only [when told to](Self::take_now).
    pub fn flush(&mut self) {
        self.refill.flush();
    }

    /// Makes the kernel take the recycled memory now. Since Linux 6.19.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    #[doc(alias = "ZCRX_CTRL_FLUSH_RQ")]
    pub fn take_now(&mut self) -> Result<(), RegisterError> {
        // SAFETY: the command names no memory, since it has only a number.
        unsafe { command(&self.base, &mut ZcrxCtrl::flush_rq(self.id)) }
    }

    /// Makes a descriptor by which [another ring](RawRing::import_receive_queue) can receive from
    /// this queue. Since Linux 6.19.
    ///
    /// # Errors
    ///
    /// The kernel's error. Panics if the kernel returns something other than a descriptor (OP3).
    #[doc(alias = "ZCRX_CTRL_EXPORT")]
    pub fn export(&self) -> Result<OwnedFd, RegisterError> {
        let mut ctrl = ZcrxCtrl::export(self.id);
        // SAFETY: the command names no memory, since it has only a number.
        unsafe { command(&self.base, &mut ctrl) }?;
        // SAFETY: the command has succeeded, and nobody else saw its answer (OP3).
        Ok(unsafe { exported(&ctrl) })
    }

    /// How much was copied, if the queue [counts it](QueueSetup::stats). `None` in a forked child.
    #[doc(alias = "zcrx_stats")]
    pub fn stats(&self) -> Option<ZcrxStats> {
        let Copied { completions, bytes } =
            self.copied.as_ref().filter(|_| self.region.is_here())?;
        Some(ZcrxStats { copy_count: completions.total(), copy_bytes: bytes.total() })
    }

    /// Arms an event that was reported, so that it can be reported again. Since Linux 7.2.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    #[doc(alias = "ZCRX_CTRL_ARM_EVENT")]
    pub fn arm_event(&self, event: ZcrxEvent) -> Result<(), RegisterError> {
        // SAFETY: the command names no memory, since it has only numbers.
        unsafe { command(&self.base, &mut ZcrxCtrl::arm_event(self.id, event)) }
    }

    /// Adds memory for the kernel to fill, as the next area, counted from 0. Completions name the
    /// area in the upper 16 bits of their offset. Since Linux 7.3.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    ///
    /// # Safety
    ///
    /// As for [`RawRing::receive_queue`].
    #[doc(alias = "ZCRX_CTRL_ADD_AREA")]
    pub unsafe fn add_area(&mut self, area: Area<'_>) -> Result<(), RegisterError> {
        let mut area = area_of(area);
        let address = (&raw mut area).expose_provenance() as u64;
        // SAFETY: it names a live area, whose memory is as promised to `add_area`.
        unsafe { command(&self.base, &mut ZcrxCtrl::add_area(self.id, address)) }?;
        self.tokens.push(area.rq_area_token);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_what_the_kernel_reads() {
        let card = queue_of(Feed::Card { interface: 3, queue: 5 }, 64);
        let read = (card.if_idx, card.if_rxq, card.rq_entries, card.flags.bits());
        assert_eq!(read, (3, 5, 64, 0));
        let nowhere = queue_of(Feed::Nowhere, 64);
        assert_eq!((nowhere.if_idx, nowhere.rq_entries, nowhere.flags.bits()), (0, 64, 2));
        let file = std::fs::File::open("/dev/null").unwrap();
        let import = import_of(file.as_fd());
        assert_eq!((import.if_idx, import.flags.bits()), (file.as_raw_fd().cast_unsigned(), 1));
        assert_eq!((import.rq_entries, import.area_ptr, import.region_ptr), (0, 0, 0));
    }

    #[test]
    #[should_panic(expected = "OP3: the kernel exported")]
    fn op3_a_number_below_zero_is_not_taken_for_a_descriptor() {
        let ctrl = ZcrxCtrl { zc_export: [u64::MAX; 6], ..ZcrxCtrl::export(0) };
        // SAFETY: takes no descriptor, because this number is none.
        drop(unsafe { exported(&ctrl) });
    }

    #[test]
    fn a_report_is_what_the_kernel_reads() {
        let mut memory = [0_u8; 16];
        let area = Area::Ours(NonNull::from(&mut memory[..]));
        let plain = QueueSetup::new(Feed::Nowhere, 64, area).chunk(8192);
        assert_eq!((plain.chunk, plain.report), (8192, None));
        let both = plain.report(7, &[ZcrxEvent::COPY]).stats();
        let flags = ZcrxEventDescFlags::STATS;
        let wanted = ZcrxEventDesc { user_data: 7, type_mask: 2, flags, ..Default::default() };
        assert_eq!(both.report, Some(wanted));
        let other_way = plain.stats().report(7, &[ZcrxEvent::COPY]);
        assert_eq!(other_way.report, both.report);
    }

    #[test]
    fn an_area_is_what_the_kernel_reads() {
        let mut memory = [0_u8; 16];
        let area = area_of(Area::Ours(NonNull::from(&mut memory[..])));
        assert_eq!((area.addr, area.len), (memory.as_ptr().addr() as u64, 16));
        assert_eq!((area.flags.bits(), area.dmabuf_fd, area.resv2), (0, 0, [0; 2]));
        let file = std::fs::File::open("/dev/null").unwrap();
        let area = area_of(Area::Device { dmabuf: file.as_fd(), len: 8192 });
        assert_eq!((area.addr, area.len, area.flags.bits()), (0, 8192, 1));
        assert_eq!(area.dmabuf_fd, file.as_raw_fd().cast_unsigned());
    }
}
