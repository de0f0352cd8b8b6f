//! Types that no kernel is needed for.

use std::mem::size_of;
use std::time::Duration;

use crate::io_uring::cqueue;
use crate::io_uring::opcode::{Nop, Read};
use crate::io_uring::squeue::{self, EntryMarker, Flags};
use crate::io_uring::types::{
    BufRingEntry, DestinationSlot, Fixed, Napi, NapiTracking, RecvMsgOut, SubmitArgs, Timespec,
};
use crate::io_uring::{EnterFlags, IoUring, Probe, register};

fn is_send_and_sync<T: Send + Sync>() {}

/// Whatever the entries are, as the peer's is.
fn any_ring_is<S: EntryMarker, C: cqueue::EntryMarker>() {
    is_send_and_sync::<IoUring<S, C>>();
}

#[test]
fn sizes_are_the_kernels() {
    assert_eq!(size_of::<squeue::Entry>(), 64);
    assert_eq!(size_of::<squeue::Entry128>(), 128);
    assert_eq!(size_of::<cqueue::Entry>(), 16);
    assert_eq!(size_of::<cqueue::Entry32>(), 32);
    assert_eq!(size_of::<BufRingEntry>(), 16);
    assert_eq!(size_of::<Timespec>(), 16);
    assert_eq!(size_of::<SubmitArgs<'_, '_>>(), 24);
    any_ring_is::<squeue::Entry, cqueue::Entry>();
    is_send_and_sync::<squeue::Entry>();
}

#[test]
fn flags_are_added_and_cleared() {
    let read = Read::new(Fixed(3), std::ptr::null_mut(), 0).build();
    let linked = read.flags(Flags::IO_LINK).flags(Flags::ASYNC);
    assert!(format!("{linked:?}").contains("FIXED_FILE | IO_LINK | ASYNC"), "{linked:?}");
    assert!(format!("{:?}", linked.clear_flags()).contains("SqeFlags(0x0)"));
}

#[test]
fn user_data_is_replaced_in_entries_of_either_size() {
    fn replace<E: EntryMarker>(mut entry: E) -> (u64, u64) {
        let before = entry.get_user_data();
        entry.set_user_data(before + 1);
        (before, entry.get_user_data())
    }
    let nop = Nop::new().build().user_data(u64::MAX - 1);
    assert_eq!(replace(nop.clone()), (u64::MAX - 1, u64::MAX));
    assert_eq!(replace(squeue::Entry128::from(nop)), (u64::MAX - 1, u64::MAX));
}

#[test]
fn a_slot_is_any_index_but_the_last_two() {
    for index in [0, 1, u32::MAX - 2] {
        assert!(DestinationSlot::try_from_slot_target(index).is_ok(), "{index}");
    }
    for index in [u32::MAX - 1, u32::MAX] {
        assert_eq!(DestinationSlot::try_from_slot_target(index).unwrap_err(), index);
    }
}

#[test]
fn completion_flags_are_read() {
    let buffer_7 = 7 << 16 | 1;
    assert_eq!(cqueue::buffer_select(buffer_7), Some(7));
    assert_eq!(cqueue::buffer_select(7 << 16), None);
    let all = [cqueue::more, cqueue::sock_nonempty, cqueue::notif, cqueue::buffer_more];
    for (bit, is_set) in (1..).zip(all) {
        assert!(is_set(1 << bit) && !is_set(!(1 << bit)), "bit {bit}");
    }
}

#[test]
fn a_received_message_is_split_where_its_header_says() {
    let mut buffer = Vec::new();
    for word in [4_u32, 20, 3, libc::MSG_TRUNC.cast_unsigned()] {
        buffer.extend(word.to_ne_bytes());
    }
    buffer.extend(*b"nameRM"); // The name has room for 6 bytes.
    buffer.extend(*b"controlC"); // The control data has room for 8, and 20 came.
    buffer.extend(*b"payload");
    // SAFETY: numbers and null pointers, which zeroes are.
    let mut header: libc::msghdr = unsafe { std::mem::MaybeUninit::zeroed().assume_init() };
    (header.msg_namelen, header.msg_controllen) = (6, 8);

    let message = RecvMsgOut::parse(&buffer, &header).unwrap();
    assert_eq!(message.name_data(), b"name");
    assert_eq!(message.control_data(), b"controlC");
    assert_eq!(message.payload_data(), b"pay");
    assert!(message.is_payload_truncated() && !message.is_name_data_truncated());
    assert_eq!((message.incoming_control_len(), message.incoming_payload_len()), (20, 3));
    assert!(RecvMsgOut::parse(&buffer[..29], &header).is_err(), "the control data is cut");
    assert!(RecvMsgOut::parse(&buffer[..30], &header).unwrap().payload_data().is_empty());
    header.msg_namelen = u32::MAX;
    assert!(RecvMsgOut::parse(&buffer, &header).is_err());
}

#[test]
fn a_span_beyond_the_kernels_is_its_longest() {
    let longest = format!("{:?}", Timespec::from(Duration::MAX));
    assert!(longest.contains(&i64::MAX.to_string()), "{longest}");
}

#[test]
fn small_types_say_what_they_are_told() {
    let mut entry = BufRingEntryBytes::new();
    entry.0.set_addr(1);
    entry.0.set_len(2);
    entry.0.set_bid(3);
    assert_eq!((entry.0.addr(), entry.0.len(), entry.0.bid()), (1, 2, 3));
    // SAFETY: the only entry, and so the first.
    let tail = unsafe { crate::io_uring::types::BufRingEntry::tail(&raw const entry.0) };
    assert_eq!(tail.addr() - (&raw const entry.0).addr(), 14);

    let napi = Napi::new().set_busy_poll_timeout(9).set_prefer_busy_poll(true);
    let napi = napi.set_tracking(NapiTracking::Static);
    assert!(napi.prefer_busy_poll() && napi.busy_poll_timeout() == 9);
    assert!(!Probe::new().is_supported(0));
    assert_eq!(register::SKIP_FILE, -2);
    assert_eq!(EnterFlags::GETEVENTS.bits(), 1);
}

/// An entry of a buffer ring has no constructor: it lies in memory.
struct BufRingEntryBytes(BufRingEntry);

impl BufRingEntryBytes {
    fn new() -> Self {
        // SAFETY: nothing but numbers, which zeroes are.
        Self(unsafe { std::mem::MaybeUninit::zeroed().assume_init() })
    }
}
