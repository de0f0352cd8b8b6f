//! What this kernel can do: asked, or tried once; never guessed from a version number.
//!
//! | | Linux 6.18 and later | before |
//! |---|---|---|
//! | features | the `features` of a small ring | the same |
//! | operations | `REGISTER_PROBE` | `REGISTER_PROBE` (5.6) |
//! | set-up flags | `REGISTER_QUERY` | each tried on a small ring |
//! | register calls | `REGISTER_QUERY` | each since 5.13 tried, with an address that names no memory; the older ones taken for granted |
//! | enter flags | `REGISTER_QUERY` | each tried, with nothing to do |
//!
//! Distributions carry features back and sandboxes take them away, so a version says little:
//! Debian's
//! 5.10 has the io_uring of 5.15.
//!
//! # Example
//!
//! ```
//! use annulus::Capabilities;
//! use annulus::sys::flags::SetupFlags;
//! use annulus::sys::opcode::Opcode;
//!
//! let here = Capabilities::detect()?;
//! assert!(here.has_op(Opcode::READ));
//! if !here.setup_flags().contains(SetupFlags::DEFER_TASKRUN) {
//!     println!("DEFER_TASKRUN needs Linux 6.1");
//! }
//! # Ok::<(), annulus::SetupError>(())
//! ```
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::ptr;

use annulus_sys::abi_query::{QueryHdr, QueryOpcode};
use annulus_sys::abi_register::{Probe, ProbeOp};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, Features, SetupFlags};
use annulus_sys::flags_register::{ProbeOpFlags, QueryOp};
use annulus_sys::kernel::Kernel;
use annulus_sys::opcode::{Opcode, RegisterOp};
use annulus_sys::rings::{Base, Request, Rings};
use annulus_sys::syscall::{EnterArg, ExtArg, RingRef};

use crate::denied::{self, SetupError};
use crate::register::{Asked, knows};

/// What a kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    features: Features,
    setup: SetupFlags,
    enter: EnterFlags,
    ops: [u64; 4],
    register: u64,
    source: Source,
}

/// Where the flags and the register calls were learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel said so (`REGISTER_QUERY`, since Linux 6.18).
    Asked,
    /// Each was tried once.
    Tried,
}

/// The operands of a `REGISTER_PROBE`: a header, and a place for each opcode there can be.
#[repr(C)]
struct ProbeArg {
    head: Probe,
    ops: [ProbeOp; 256],
}

/// How each register call that a supported kernel may lack is tried: on what, and with which count,
/// so that a kernel which knows it goes on to look at its argument.
const TRIED: [(RegisterOp, Asked, u32); 24] = [
    (RegisterOp::FILES2, Asked::RawRing, 32),
    (RegisterOp::FILES_UPDATE2, Asked::RawRing, 32),
    (RegisterOp::BUFFERS2, Asked::RawRing, 32),
    (RegisterOp::BUFFERS_UPDATE, Asked::RawRing, 32),
    (RegisterOp::IOWQ_AFF, Asked::RawRing, 8),
    (RegisterOp::IOWQ_MAX_WORKERS, Asked::RawRing, 2),
    (RegisterOp::RING_FDS, Asked::RawRing, 1),
    (RegisterOp::UNREGISTER_RING_FDS, Asked::RawRing, 1),
    (RegisterOp::PBUF_RING, Asked::RawRing, 1),
    (RegisterOp::UNREGISTER_PBUF_RING, Asked::RawRing, 1),
    (RegisterOp::SYNC_CANCEL, Asked::RawRing, 1),
    (RegisterOp::FILE_ALLOC_RANGE, Asked::RawRing, 0),
    (RegisterOp::PBUF_STATUS, Asked::RawRing, 1),
    (RegisterOp::NAPI, Asked::RawRing, 1),
    (RegisterOp::UNREGISTER_NAPI, Asked::RawRing, 1),
    (RegisterOp::CLOCK, Asked::RawRing, 0),
    (RegisterOp::CLONE_BUFFERS, Asked::RawRing, 1),
    (RegisterOp::SEND_MSG_RING, Asked::Task, 1),
    (RegisterOp::ZCRX_IFQ, Asked::RawRing, 1),
    (RegisterOp::RESIZE_RINGS, Asked::RawRing, 1),
    (RegisterOp::MEM_REGION, Asked::RawRing, 1),
    (RegisterOp::QUERY, Asked::Task, 0),
    (RegisterOp::ZCRX_CTRL, Asked::RawRing, 0),
    (RegisterOp::BPF_FILTER, Asked::RawRing, 1),
];

impl Capabilities {
    /// Finds out what the kernel that runs this process can do. Makes a few small rings.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when it makes no ring at all, or something stands before
    /// `io_uring_register(2)`, such as a seccomp filter: then nobody can say.
    pub fn detect() -> Result<Self, SetupError> {
        Self::detect_on(&Kernel::LINUX)
    }

    /// Finds out what `kernel` can do.
    pub(crate) fn detect_on(kernel: &Kernel) -> Result<Self, SetupError> {
        let rings = probing_ring(kernel)?;
        let base = rings.base();
        let features = base.params().features;
        let ops = probe(base).map_err(denied::explain_silence)?;
        Ok(match query(kernel) {
            Some(query) => Self {
                features,
                setup: SetupFlags::from_bits_retain(low_half(query.ring_setup_flags)),
                enter: EnterFlags::from_bits_retain(low_half(query.enter_flags)),
                ops,
                register: below(query.nr_register_opcodes),
                source: Source::Asked,
            },
            None => {
                let register = try_register(base);
                Self {
                    features,
                    setup: try_setup(kernel),
                    enter: try_enter(base, register),
                    ops,
                    register,
                    source: Source::Tried,
                }
            }
        })
    }

    /// Whether the kernel has the operation.
    pub fn has_op(&self, op: Opcode) -> bool {
        self.ops[usize::from(op.0 / 64)] & 1 << (op.0 % 64) != 0
    }

    /// Whether the kernel has the register call.
    pub fn has_register(&self, op: RegisterOp) -> bool {
        op.0 < u64::BITS && self.register & 1 << op.0 != 0
    }

    /// The set-up flags that the kernel takes.
    pub fn setup_flags(&self) -> SetupFlags {
        self.setup
    }

    /// The enter flags that the kernel takes.
    pub fn enter_flags(&self) -> EnterFlags {
        self.enter
    }

    /// What the kernel's rings can do.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Where the flags and the register calls were learned from.
    pub fn source(&self) -> Source {
        self.source
    }
}

/// A small ring on which every register call can be tried: some want deferred task work, some large
/// completions.
fn probing_ring(kernel: &Kernel) -> Result<Rings, SetupError> {
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN | SetupFlags::CQE32;
    let request = Request { flags: deferring, ..Request::new(1) };
    if let Ok(rings) = Rings::setup(kernel, &request) {
        return Ok(rings);
    }
    let request = Request::new(1);
    Rings::setup(kernel, &request).map_err(|failure| denied::explain(failure, &request))
}

/// The operations that the kernel has.
fn probe(base: &Base) -> Result<[u64; 4], Errno> {
    let mut arg = ProbeArg { head: Probe::default(), ops: [ProbeOp::default(); 256] };
    // SAFETY: a zeroed probe with places for 256 operations, alive during the call, and not kept,
    // because the kernel copies it in and out.
    let probed = unsafe { base.register(RegisterOp::PROBE, (&raw mut arg).cast(), 256) };
    match probed {
        // Before Linux 5.6 the call was not there, nor any kernel that we know.
        Err(errno) if errno.is(libc::EINVAL) => return Ok([0; 4]),
        probed => probed?,
    };
    let mut ops = [0; 4];
    let supported = |op: &&ProbeOp| op.flags.contains(ProbeOpFlags::SUPPORTED);
    for op in arg.ops.iter().take(usize::from(arg.head.ops_len)).filter(supported) {
        ops[usize::from(op.op.0 / 64)] |= 1 << (op.op.0 % 64);
    }
    Ok(ops)
}

/// What the kernel says of itself; `None` before Linux 6.18.
fn query(kernel: &Kernel) -> Option<QueryOpcode> {
    let mut answer = QueryOpcode::default();
    let mut question = QueryHdr {
        query_data: ptr::from_mut(&mut answer).expose_provenance() as u64,
        query_op: QueryOp::OPCODES,
        size: 48,
        ..QueryHdr::default()
    };
    const { assert!(size_of::<QueryOpcode>() == 48) };
    let arg = ptr::from_mut(&mut question).cast();
    // SAFETY: one live question that names a live answer of the size it says; neither is kept,
    // because the call is synchronous.
    let asked = unsafe { kernel.register(RingRef::NONE, RegisterOp::QUERY, arg, 0) };
    (asked.is_ok() && question.result == 0).then_some(answer)
}

/// Tries each register call that a supported kernel may lack. The older ones came with the probe.
fn try_register(base: &Base) -> u64 {
    let oldest = below(RegisterOp::FILES2.0);
    TRIED.iter().filter(|(op, on, count)| knows(base, *on, *op, *count)).fold(
        oldest,
        |known, row| {
            // What undoes a call came with it.
            let undoes = if row.0 == RegisterOp::IOWQ_AFF { 1 << (row.0.0 + 1) } else { 0 };
            known | 1 << row.0.0 | undoes
        },
    )
}

/// Tries each set-up flag on a small ring.
fn try_setup(kernel: &Kernel) -> SetupFlags {
    let tried = SetupFlags::all().iter_names().map(|(_, flag)| flag);
    tried.filter(|&flag| denied::accepts(kernel, flag)).collect()
}

/// Tries each enter flag with nothing to do; two are known by the register call they belong to.
fn try_enter(base: &Base, register: u64) -> EnterFlags {
    let accepts = |flag: EnterFlags| match flag {
        EnterFlags::REGISTERED_RING => register & 1 << RegisterOp::RING_FDS.0 != 0,
        EnterFlags::EXT_ARG_REG => register & 1 << RegisterOp::MEM_REGION.0 != 0,
        _ => {
            let arg = match flag {
                EnterFlags::EXT_ARG => EnterArg::Ext(ExtArg::default()),
                _ => EnterArg::None,
            };
            // SAFETY: the ring is ours and empty, so there is no request (OP1).
            unsafe { base.kernel().enter(base.fd().by_ref(), 0, 0, flag, arg) }.is_ok()
        }
    };
    EnterFlags::all().iter_names().map(|(_, flag)| flag).filter(|&flag| accepts(flag)).collect()
}

/// The bits of all numbers below `count`.
fn below(count: u32) -> u64 {
    1_u64.checked_shl(count).map_or(u64::MAX, |bit| bit - 1)
}

/// The flags that a 32-bit word can carry.
fn low_half(bits: u64) -> u32 {
    let [a, b, c, d, ..] = bits.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
