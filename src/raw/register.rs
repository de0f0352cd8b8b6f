//! Calls to `io_uring_register(2)`: everything a ring is told other than by its requests.
//!
//! ```text
//!   RawRing, DisabledRing ─► Call { op, count } ─► io_uring_register(ring, op, arg, count)
//!                                                    └─ errno ─► RegisterError: cause, cure
//! ```
//!
//! Functions that take `&RawRing` change nothing that a [`Ring`](crate::Ring) relies on, so a safe
//! ring can call them through [`Ring::raw`](crate::Ring::raw). Functions that take `&mut RawRing`
//! belong to the raw API only; [`lease`](crate::lease) has the safe counterparts.
//!
//! Requests use registered memory until the last of them has ended. So a function that registers
//! memory is `unsafe`, and a function that unregisters it is not.
//!
//! | | call | since Linux | function | test |
//! |---|---|---|---|---|
//! | 0 | `BUFFERS` | 5.1 | [`RawRing::register_buffers`](crate::RawRing::register_buffers) | `a_registered_buffer_is_read_into_by_number` |
//! | 1 | `UNREGISTER_BUFFERS` | 5.1 | [`RawRing::unregister_buffers`](crate::RawRing::unregister_buffers) | `a_registered_buffer_is_read_into_by_number` |
//! | 2 | `FILES` | 5.1 | [`RawRing::register_files`](crate::RawRing::register_files) | `a_registered_file_is_read_when_its_descriptor_is_closed` |
//! | 3 | `UNREGISTER_FILES` | 5.1 | [`RawRing::unregister_files`](crate::RawRing::unregister_files) | `a_registered_file_is_read_when_its_descriptor_is_closed` |
//! | 4 | `EVENTFD` | 5.2 | [`RawRing::register_eventfd`](crate::RawRing::register_eventfd) | `completions_signal_the_eventfd` |
//! | 5 | `UNREGISTER_EVENTFD` | 5.2 | [`RawRing::unregister_eventfd`](crate::RawRing::unregister_eventfd) | `one_eventfd_a_ring` |
//! | 6 | `FILES_UPDATE` | 5.5 | [`RawRing::update_files`](crate::RawRing::update_files) | `places_of_files_are_changed_and_emptied` |
//! | 7 | `EVENTFD_ASYNC` | 5.6 | [`RawRing::register_eventfd_async`](crate::RawRing::register_eventfd_async) | `only_a_workers_completions_signal_the_async_eventfd` |
//! | 8 | `PROBE` | 5.6 | [`RawRing::probe`](crate::RawRing::probe), [`Capabilities::detect`](crate::Capabilities::detect) | `operations_are_known_or_not_as_said` |
//! | 9 | `PERSONALITY` | 5.6 | [`RawRing::register_personality`](crate::RawRing::register_personality) | `a_request_as_nobody_opens_no_file_of_roots` |
//! | 10 | `UNREGISTER_PERSONALITY` | 5.6 | [`RawRing::unregister_personality`](crate::RawRing::unregister_personality) | `a_request_runs_as_oneself` |
//! | 11 | `RESTRICTIONS` | 5.10 | [`RawRing::restrict`](crate::RawRing::restrict), [`DisabledRing::restrict`](crate::DisabledRing::restrict) | `a_ring_restricted_to_operations_registers_nothing` |
//! | 12 | `ENABLE_RINGS` | 5.10 | [`RawRing::enable`](crate::RawRing::enable), [`DisabledRing::enable`](crate::DisabledRing::enable) | `a_disabled_ring_is_enabled_where_it_will_live` |
//! | 13 | `FILES2` | 5.13 | [`RawRing::register_files_tagged`](crate::RawRing::register_files_tagged) | `a_tag_comes_when_its_file_is_let_go_of` |
//! | 14 | `FILES_UPDATE2` | 5.13 | [`RawRing::update_files_tagged`](crate::RawRing::update_files_tagged) | `a_tagged_update_tags_the_new_file` |
//! | 15 | `BUFFERS2` | 5.13 | [`RawRing::register_buffers_tagged`](crate::RawRing::register_buffers_tagged) | `a_tag_comes_when_its_buffer_is_let_go_of` |
//! | 16 | `BUFFERS_UPDATE` | 5.13 | [`RawRing::update_buffers`](crate::RawRing::update_buffers) | `buffers_are_put_into_an_empty_table_and_changed` |
//! | 17 | `IOWQ_AFF` | 5.14 | [`RawRing::set_worker_cpus`](crate::RawRing::set_worker_cpus) | `a_worker_runs_where_it_is_told_to` |
//! | 18 | `UNREGISTER_IOWQ_AFF` | 5.14 | [`RawRing::reset_worker_cpus`](crate::RawRing::reset_worker_cpus) | `a_worker_runs_where_it_is_told_to` |
//! | 19 | `IOWQ_MAX_WORKERS` | 5.15 | [`RawRing::set_max_workers`](crate::RawRing::set_max_workers) | `the_limits_of_workers_are_what_was_set` |
//! | 20 | `RING_FDS` | 5.18 | [`RawRing::register_ring_fd`](crate::RawRing::register_ring_fd) | `a_registered_ring_is_entered_by_its_index` |
//! | 21 | `UNREGISTER_RING_FDS` | 5.18 | [`RawRing::unregister_ring_fd`](crate::RawRing::unregister_ring_fd) | `a_dropped_ring_gives_its_index_back` |
//! | 22 | `PBUF_RING` | 5.19 | [`RawRing::buffer_group`](crate::RawRing::buffer_group) | `buffers_are_selected_in_order` |
//! | 23 | `UNREGISTER_PBUF_RING` | 5.19 | [`BufferGroup::unregister`](BufferGroup::unregister) | `a_group_that_there_is_not_has_no_head` |
//! | 24 | `SYNC_CANCEL` | 6.0 | [`RawRing::cancel_now`](crate::RawRing::cancel_now) | `one_is_cancelled_at_once_by_its_user_data` |
//! | 25 | `FILE_ALLOC_RANGE` | 6.0 | [`RawRing::set_file_alloc_range`](crate::RawRing::set_file_alloc_range) | `the_kernel_chooses_places_within_the_range` |
//! | 26 | `PBUF_STATUS` | 6.8 | [`RawRing::buffer_group_head`](crate::RawRing::buffer_group_head) | `the_head_of_a_group_counts_what_was_selected` |
//! | 27 | `NAPI` | 6.9 | [`RawRing::set_busy_poll`](crate::RawRing::set_busy_poll) | `the_kernel_tells_how_it_polled_before` |
//! | 28 | `UNREGISTER_NAPI` | 6.9 | [`RawRing::end_busy_poll`](crate::RawRing::end_busy_poll) | `the_kernel_tells_how_it_polled_before` |
//! | 29 | `CLOCK` | 6.12 | [`RawRing::set_wait_clock`](crate::RawRing::set_wait_clock) | `a_wait_goes_by_either_clock` |
//! | 30 | `CLONE_BUFFERS` | 6.12 | [`RawRing::clone_buffers`](crate::RawRing::clone_buffers) | `buffers_are_shared_with_another_ring` |
//! | 31 | `SEND_MSG_RING` | 6.13 | [`send_message`] | `a_message_without_a_ring_is_a_completion` |
//! | 32 | `ZCRX_IFQ` | 6.15 | [`RawRing::receive_queue`](crate::RawRing::receive_queue) | `what_a_queue_receives_lies_in_its_area` |
//! | 33 | `RESIZE_RINGS` | 6.13 | [`RawRing::resize`](crate::RawRing::resize) | `a_ring_grows_and_shrinks_in_use` |
//! | 34 | `MEM_REGION` | 6.13 | [`DisabledRing::register_wait_region`](crate::DisabledRing::register_wait_region) | `a_slot_of_a_region_bounds_a_wait` |
//! | 35 | `QUERY` | 6.18 | [`query`](query()) | `the_kernel_says_what_it_can_do` |
//! | 36 | `ZCRX_CTRL` | 6.19 | [`RawRing::zcrx_ctrl`](crate::RawRing::zcrx_ctrl) | `a_queue_reports_and_counts_what_it_copies` |
//! | 37 | `BPF_FILTER` | 7.0 | [`RawRing::add_filter`](crate::RawRing::add_filter) | `a_filter_refuses_by_the_user_data_of_a_request` |
//!
//! | variant | since Linux | function |
//! |---|---|---|
//! | `FILES2`, `BUFFERS2` with `SPARSE` | 5.19 | [`register_files_sparse`](crate::RawRing::register_files_sparse), [`register_buffers_sparse`](crate::RawRing::register_buffers_sparse) |
//! | `RESTRICTIONS`, `BPF_FILTER` for a task | 7.0 | [`restrict_task`], [`add_task_filter`] |
//! | `SYNC_CANCEL` for a ticket | 6.0 | [`Ring::cancel_now`](crate::Ring::cancel_now) |
//! | `SEND_MSG_RING` that ends no request | 6.13 | [`RingSender::send`](crate::RingSender::send) |
//! | `NAPI`, to add or remove one queue | 6.13 | [`add_napi_id`](crate::RawRing::add_napi_id), [`remove_napi_id`](crate::RawRing::remove_napi_id) |
//! | `ZCRX_IFQ`, from another ring | 6.19 | [`import_receive_queue`](crate::RawRing::import_receive_queue) |
//!
//! A safe ring cannot be resized: it has as many slots as its completion queue has entries, for
//! life.
//!
//! Leaves to others: buffers and files that are owned ([`lease`](crate::lease)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

pub mod buffers;
pub mod busy;
pub(crate) mod call;
pub mod cancel;
pub(crate) mod error;
pub mod files;
pub mod filter;
pub mod groups;
pub mod message;
pub mod personality;
pub mod query;
pub mod region;
pub mod restrict;
pub mod workers;
pub mod zcrx;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use annulus_sys::abi::Timespec;
use annulus_sys::abi_register::{RsrcUpdate, SyncCancelReg};
use annulus_sys::errno::Errno;
use annulus_sys::kernel::Kernel;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::syscall::{RingFd, RingRef};

pub use buffers::ClonePart;
pub use busy::{BusyPoll, Prefer, Tracking, WaitClock};
pub use cancel::{CancelNow, EndedNow};
pub use error::RegisterError;
pub use files::FileSlot;
pub use filter::{Filter, add_task_filter};
pub use groups::{BufferGroup, Consumption};
pub use message::send_message;
pub use personality::Personality;
pub use query::{Answers, query};
pub use region::{RingMemory, WaitRegion, WaitSlot};
pub use restrict::{Restrictions, restrict_task};
pub use workers::{WorkerLimits, Workers};
pub use zcrx::{Area, Feed, QueueSetup, ReceiveQueue};

/// Lets the kernel choose the index.
const ANY_INDEX: u32 = u32::MAX;

/// Enables a disabled ring.
pub(crate) fn enable(base: &Base) -> Result<(), Errno> {
    // SAFETY: takes no argument, because `io_uring_register(2)` says so.
    unsafe { base.register(RegisterOp::ENABLE_RINGS, ptr::null_mut(), 0) }.map(drop)
}

/// Registers the ring's descriptor with this thread, and returns the index that names it.
pub(crate) fn name_ring(base: &Base) -> Result<u32, Errno> {
    let RingFd::Owned(fd) = base.fd() else { return Err(Errno::new(libc::EBADF)) };
    let data = u64::from(fd.as_raw_fd().cast_unsigned());
    let mut update = RsrcUpdate { offset: ANY_INDEX, resv: 0, data };
    let arg = (&raw mut update).cast();
    // SAFETY: one live `struct io_uring_rsrc_update`, which the kernel writes and does not keep,
    // because it copies in and out.
    unsafe { base.register(RegisterOp::RING_FDS, arg, 1) }?;
    assert!(update.offset != ANY_INDEX, "the kernel registered the ring, and chose no index");
    Ok(update.offset)
}

/// Unregisters the ring that this thread registered at `index`. Fails with `ECHILD` in a forked
/// child without asking the kernel, since there the index may name one of the child's own rings.
pub(crate) fn forget_ring(base: &Base, index: u32) -> Result<(), Errno> {
    let mut update = RsrcUpdate { offset: index, resv: 0, data: 0 };
    let arg = (&raw mut update).cast();
    // SAFETY: one live `struct io_uring_rsrc_update`, which the kernel does not keep, because it
    // copies.
    unsafe { base.register(RegisterOp::UNREGISTER_RING_FDS, arg, 1) }.map(drop)
}

/// Which completions signal an eventfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    /// All of them.
    All,
    /// Only those that did not complete inside a submit.
    Async,
}

/// Registers an eventfd that completions signal.
pub(crate) fn notify(base: &Base, eventfd: BorrowedFd<'_>, on: Signals) -> Result<(), Errno> {
    let op = match on {
        Signals::All => RegisterOp::EVENTFD,
        Signals::Async => RegisterOp::EVENTFD_ASYNC,
    };
    let mut fd = eventfd.as_raw_fd();
    let arg = (&raw mut fd).cast();
    // SAFETY: one live descriptor number; the kernel takes a reference to the file, not to the
    // number, because `io_uring_register(2)` says so.
    unsafe { base.register(op, arg, 1) }.map(drop)
}

/// Unregisters the eventfd.
pub(crate) fn silence(base: &Base) -> Result<(), Errno> {
    // SAFETY: takes no argument, because `io_uring_register(2)` says so.
    unsafe { base.register(RegisterOp::UNREGISTER_EVENTFD, ptr::null_mut(), 0) }.map(drop)
}

/// Cancels the request with this `user_data` at once, without an entry, and waits only the shortest
/// possible time for its end. Since Linux 6.0.
pub(crate) fn cancel_now(base: &Base, user_data: u64) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 1 };
    let mut reg = SyncCancelReg { addr: user_data, fd: -1, timeout, ..SyncCancelReg::default() };
    let arg = (&raw mut reg).cast();
    // We ignore the answer: the request's own completion says whether it ended.
    // SAFETY: one live `struct io_uring_sync_cancel_reg`, which the kernel does not keep, because
    // it copies.
    let _ = unsafe { base.register(RegisterOp::SYNC_CANCEL, arg, 1) };
}

/// Whether the kernel knows `op`. Makes the call with an address that names no usable memory: any
/// answer but `EINVAL`, `EOPNOTSUPP`, `EBADF` and a filter's `ENOSYS` means yes. `count` is the
/// count that `op` requires.
pub(crate) fn knows(base: &Base, ring: Asked, op: RegisterOp, count: u32) -> bool {
    match ring {
        Asked::Ring => answers(base.kernel(), base.fd().by_ref(), op, count),
        Asked::Task => answers(base.kernel(), RingRef::NONE, op, count),
    }
}

fn answers(kernel: &Kernel, ring: RingRef<'_>, op: RegisterOp, count: u32) -> bool {
    // An address in the kernel's half, so copying from it fails, whatever is mapped here.
    let nowhere = ptr::without_provenance_mut(1 << 63);
    // SAFETY: the kernel can neither read nor write at the address, so the call changes nothing.
    let answer = unsafe { kernel.register(ring, op, nowhere, count) };
    !answer.is_err_and(|errno| {
        let no = [libc::EINVAL, libc::EOPNOTSUPP, libc::EBADF, libc::ENOSYS];
        no.iter().any(|&number| errno.is(number))
    })
}

/// What a register call applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A ring.
    Ring,
    /// The task, with no ring named.
    Task,
}
