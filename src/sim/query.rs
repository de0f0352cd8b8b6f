//! What a simulated kernel says that it can do: `PROBE`, and `QUERY`.
//!
//! | question | since | answer |
//! |---|---|---|
//! | `OPCODES` | 6.18 | how many operations the release has, and the flags that the simulation takes |
//! | `ZCRX` `ZCRX_EVENT` | 6.19, 7.2 | zeroes: as of a kernel without zero-copy receives |
//! | `SCQ` | 6.19 | what the words of a ring take |
#![allow(unsafe_code, reason = "reads and writes the arguments of calls")]

use std::ptr;

use annulus_sys::abi_query::{QueryHdr, QueryOpcode, QueryZcrx, QueryZcrxEvent};
use annulus_sys::abi_register::{Probe, ProbeOp};
use annulus_sys::errno::Errno;
use annulus_sys::flags_register::{ProbeOpFlags, QueryOp};
use annulus_sys::opcode::{Opcode, RegisterOp};

use super::backend::{FEATURES, FLAGS};
use super::enter::FLAGS_OF_ENTERS;
use super::layout::CQES;
use super::region::{copy_in, write_value};
use super::release::Release;
use super::request::KNOWN;
use super::submit::FLAGS_OF_ENTRIES;

/// How many questions a chain may have.
const MOST: u32 = 1000;
/// The size of an answer to `OPCODES` in Linux 6.18, which does not say how many questions there
/// are.
const FIRST_SIZE: usize = 40;

/// Says which operations there are.
///
/// # Safety
///
/// `arg` must point to a `Probe`, and `count` times a `ProbeOp` behind it.
pub(super) unsafe fn probe(arg: *mut libc::c_void, count: u32, release: Release) {
    let known: Vec<Opcode> =
        KNOWN.iter().copied().filter(|opcode| release.has(opcode.since())).collect();
    let last = known.iter().map(|opcode| opcode.0).max().unwrap_or(0);
    let len = u8::try_from(count).unwrap_or(u8::MAX).min(last + 1);
    let head = Probe { last_op: Opcode(last), ops_len: len, ..Probe::default() };
    // SAFETY: it points to a `Probe`, as promised to `probe`.
    unsafe { write_value(arg, head) };
    // SAFETY: behind the `Probe`, as promised to `probe`.
    let ops = unsafe { arg.byte_add(size_of::<Probe>()) }.cast::<ProbeOp>();
    for op in 0..len {
        let is_known = known.contains(&Opcode(op));
        let flags = if is_known { ProbeOpFlags::SUPPORTED } else { ProbeOpFlags::empty() };
        let op = ProbeOp { op: Opcode(op), flags, ..ProbeOp::default() };
        // SAFETY: one of `count`, as promised to `probe`.
        let at = unsafe { ops.add(usize::from(op.op.0)) };
        // SAFETY: one of `count`, as promised to `probe`.
        unsafe { write_value(at.cast(), op) };
    }
}

/// Answers a chain of questions.
///
/// # Safety
///
/// `address` must be 0 or point to a live `struct io_uring_query_hdr`, which names memory for as
/// many bytes as it says, and the next one.
pub(super) unsafe fn query(mut address: u64, count: u32, release: Release) -> Result<u32, Errno> {
    if count != 0 {
        return Err(Errno::new(libc::EINVAL));
    }
    for _ in 0..MOST {
        if address == 0 {
            return Ok(0);
        }
        // SAFETY: a live header, as promised to `query`.
        let asked = unsafe { copy_in::<QueryHdr>(address) }?;
        let answered = match answer(&asked, release) {
            // SAFETY: memory for so many bytes, as promised to `query`.
            Ok(bytes) => Ok(unsafe { fill(asked.query_data, asked.size, &bytes) }),
            Err(errno) => {
                // SAFETY: memory for so many bytes, as promised to `query`.
                unsafe { fill(asked.query_data, asked.size, &[]) };
                Err(errno)
            }
        };
        let (size, result) = match answered {
            Ok(size) => (size, 0),
            Err(errno) => (0, -errno),
        };
        let at = usize::try_from(address).expect("64 bits");
        let at = ptr::with_exposed_provenance_mut::<libc::c_void>(at);
        // SAFETY: a live header, as promised to `query`.
        unsafe { write_value(at, QueryHdr { size, result, ..asked }) };
        address = asked.next_entry;
    }
    Err(Errno::new(libc::ERANGE))
}

/// Writes an answer, as far as there is room, and zeroes behind it. Returns its length.
///
/// # Safety
///
/// There must be memory for `size` bytes.
unsafe fn fill(address: u64, size: u32, bytes: &[u8]) -> u32 {
    let room = size as usize;
    let mut all = bytes[..bytes.len().min(room)].to_vec();
    let len = u32::try_from(all.len()).expect("an answer is short");
    all.resize(room, 0);
    let at = usize::try_from(address).expect("64 bits");
    let at = ptr::with_exposed_provenance_mut::<u8>(at);
    // SAFETY: so many bytes, as promised to `fill`.
    unsafe { ptr::copy_nonoverlapping(all.as_ptr(), at, room) };
    len
}

/// The answer to a question, as bytes.
fn answer(asked: &QueryHdr, release: Release) -> Result<Vec<u8>, i32> {
    let known = [Some("6.18"), Some("6.19"), Some("6.19"), Some("7.2")];
    let is_known = |op: QueryOp| {
        let since = usize::try_from(op.0).ok().and_then(|op| known.get(op));
        since.is_some_and(|since| release.has(*since))
    };
    if !is_known(asked.query_op) {
        return Err(libc::EOPNOTSUPP);
    }
    if asked.resv != [0; 3] || asked.result != 0 || asked.size == 0 {
        return Err(libc::EINVAL);
    }
    Ok(match asked.query_op {
        QueryOp::OPCODES => {
            let count = (0..4).filter(|&op| is_known(QueryOp(op))).count();
            let mut bytes = opcodes(release, u32::try_from(count).expect("few"));
            if release.is_before(6, 19) {
                bytes.truncate(FIRST_SIZE);
            }
            bytes
        }
        // A `struct io_uring_query_scq`: the size of the words of a ring, and their alignment.
        QueryOp::SCQ => [u64::from(CQES), 64].map(u64::to_ne_bytes).concat(),
        QueryOp::ZCRX => vec![0; size_of::<QueryZcrx>()],
        _ => vec![0; size_of::<QueryZcrxEvent>()],
    })
}

/// The answer to `OPCODES`.
fn opcodes(release: Release, queries: u32) -> Vec<u8> {
    let ops = Opcode::ALL.iter().filter(|op| release.has(op.since())).count();
    let calls = RegisterOp::ALL.iter().filter(|op| release.has(op.since())).count();
    let flags = FLAGS.iter().filter(|flag| release.has(flag.since()));
    let features = FEATURES.iter().filter(|feature| release.has(feature.since()));
    let enters = FLAGS_OF_ENTERS.iter().filter(|flag| release.has(flag.since()));
    let it = QueryOpcode {
        nr_request_opcodes: u32::try_from(ops).expect("few"),
        nr_register_opcodes: u32::try_from(calls).expect("few"),
        feature_flags: features.fold(0, |all, flag| all | u64::from(flag.bits())),
        ring_setup_flags: flags.fold(0, |all, flag| all | u64::from(flag.bits())),
        enter_flags: enters.fold(0, |all, flag| all | u64::from(flag.bits())),
        sqe_flags: FLAGS_OF_ENTRIES.bits().into(),
        nr_query_opcodes: queries,
        pad: 0,
    };
    let mut bytes = Vec::new();
    bytes.extend([it.nr_request_opcodes, it.nr_register_opcodes].map(u32::to_ne_bytes).concat());
    let wide = [it.feature_flags, it.ring_setup_flags, it.enter_flags, it.sqe_flags];
    bytes.extend(wide.map(u64::to_ne_bytes).concat());
    bytes.extend([it.nr_query_opcodes, it.pad].map(u32::to_ne_bytes).concat());
    bytes
}
