//! Zero-copy receive says in words why there is no queue.
//!
//! No machine that runs these tests has a network card that splits headers, which is what the
//! effect takes. What the kernel reads is held in `src/register/zcrx.rs`, the refill ring in
//! `sys/refill.rs`.
#![allow(unsafe_code, reason = "lends memory to the kernel")]

use std::ptr::NonNull;

use annulus::lease::RegisterError;
use annulus::register::Feed;
use annulus::sys::abi_zcrx::ZcrxCtrl;
use annulus::sys::flags::SetupFlags;
use annulus::sys::map::{Map, Pages};
use annulus::sys::opcode::RegisterOp;
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{DEFERRING, Need, here, is_root, ring, test};

const QUEUES: [Need; 2] = [Need::Register(RegisterOp::ZCRX_IFQ), Need::Setup(DEFERRING)];
const COMMANDS: [Need; 2] = [Need::Register(RegisterOp::ZCRX_CTRL), Need::Setup(DEFERRING)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_queue_of_no_card_is_refused_in_words", &QUEUES, no_card),
        test("a_queue_is_of_a_ring_with_large_completions", &QUEUES, small_completions),
        test("a_queue_has_a_sensible_number_of_entries", &[], sizes),
        test("what_is_no_queue_is_not_imported", &QUEUES, no_import),
        test("a_command_to_no_queue_is_refused_in_words", &COMMANDS, no_queue),
        test("a_command_to_a_queue_before_6_19_says_so", &[Need::Other(commands)], says_so),
    ]
}

fn commands() -> Option<String> {
    let has = here().has_register(RegisterOp::ZCRX_CTRL);
    has.then(|| "needs a kernel without ZCRX_CTRL".to_owned())
}

fn large() -> RawRing {
    ring(Setup::plain(4).with(DEFERRING | SetupFlags::CQE32))
}

/// Asks for a queue of an interface that there is not, to fill memory that is leaked.
fn queue(ring: &mut RawRing, entries: u32) -> RegisterError {
    let map = Map::own(1 << 16, Pages::Ordinary).expect("memory");
    let area = NonNull::slice_from_raw_parts(map.at::<u8>(0, 1 << 16), 1 << 16);
    let _ = map.address();
    let feed = Feed::Card { interface: 0x7fff_fff0, queue: 0 };
    // SAFETY: the memory is leaked by its owner, and touched by nobody (RG1).
    unsafe { ring.receive_queue(feed, entries, area) }.expect_err("there is no such interface")
}

fn no_card() -> Result<(), Failed> {
    let error = queue(&mut large(), 64);
    let unsupported = matches!(error, RegisterError::Unsupported { .. });
    let missing = error == RegisterError::Missing { what: "network interface of that index" };
    let privilege = matches!(error, RegisterError::Privilege { .. });
    // A kernel may be built without it.
    assert!(unsupported || if is_root() { missing } else { privilege }, "{error}");
    Ok(())
}

fn small_completions() -> Result<(), Failed> {
    let error = queue(&mut ring(Setup::plain(4).with(DEFERRING)), 64);
    let invalid = matches!(error, RegisterError::Invalid { .. });
    // Kernels differ in what they look at first, and may be built without it.
    let privilege = matches!(error, RegisterError::Privilege { .. }) && !is_root();
    let unsupported = matches!(error, RegisterError::Unsupported { .. });
    assert!(invalid || privilege || unsupported, "{error}");
    Ok(())
}

fn sizes() -> Result<(), Failed> {
    for entries in [0, (1 << 15) + 1, u32::MAX] {
        let error = queue(&mut ring(Setup::plain(4)), entries);
        assert!(matches!(error, RegisterError::Invalid { .. }), "{entries}: {error}");
    }
    Ok(())
}

fn no_import() -> Result<(), Failed> {
    let file = std::fs::File::open("/dev/null")?;
    let error = large().import_receive_queue(file).expect_err("it is no queue");
    assert!(!matches!(error, RegisterError::NotHere | RegisterError::Enabled), "{error}");
    Ok(())
}

fn command(ring: &RawRing) -> RegisterError {
    // SAFETY: the command names no memory.
    unsafe { ring.zcrx_ctrl(&mut ZcrxCtrl::flush_rq(99)) }.expect_err("there is no such queue")
}

fn no_queue() -> Result<(), Failed> {
    let error = command(&large());
    let missing = error == RegisterError::Missing { what: "receive queue of that number" };
    // A kernel may be built without it.
    assert!(missing || matches!(error, RegisterError::Unsupported { .. }), "{error}");
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let error = command(&ring(Setup::plain(4)));
    assert_eq!(error.to_string(), "ZCRX_CTRL needs Linux 6.19");
    Ok(())
}
