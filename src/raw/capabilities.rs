//! What this kernel can do: we ask it, or try each feature once, and never guess from a version.
//!
//! | | Linux 6.18 and later | before |
//! |---|---|---|
//! | features | the `features` of a small ring | the `features` of a small ring |
//! | operations | `REGISTER_PROBE` | `REGISTER_PROBE` (5.6) |
//! | setup flags | `REGISTER_QUERY` | each tried on a small ring |
//! | register calls | `REGISTER_QUERY` | each since 5.13 tried, with an address that names no memory; older ones assumed |
//! | enter flags | `REGISTER_QUERY` | each tried, with nothing to do |
//!
//! A version number says little, since distributions backport features and sandboxes take them
//! away: Debian's 5.10 has the io_uring of 5.15.
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

use crate::raw::RawRing;
use crate::raw::register::call::Call;
use crate::raw::register::{Asked, RegisterError, knows};
use crate::setup::setup_error;
use crate::setup::setup_error::SetupError;

/// What a kernel can do.
///
/// # Example
///
/// ```
/// use annulus::Capabilities;
/// use annulus::sys::opcode::Opcode;
///
/// let here = Capabilities::detect()?; // Makes a few rings, so do it once.
/// if here.has_op(Opcode::SEND_ZC) {
///     println!("zero-copy sends work");
/// } else {
///     println!("zero-copy sends need Linux 6.0: use plain sends");
/// }
/// # Ok::<(), annulus::SetupError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    features: Features,
    setup: SetupFlags,
    enter: EnterFlags,
    ops: [u64; 4],
    register: u64,
    source: Source,
}

/// How the flags and the register calls were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel listed them (`REGISTER_QUERY`, since Linux 6.18).
    Asked,
    /// Each was tried once.
    Tried,
}

/// The argument of a `REGISTER_PROBE`: a header, and space for every possible opcode.
#[repr(C)]
struct ProbeArg {
    head: Probe,
    ops: [ProbeOp; 256],
}

impl ProbeArg {
    fn empty() -> Self {
        Self { head: Probe::default(), ops: [ProbeOp::default(); 256] }
    }

    /// One bit for each operation that is supported.
    fn supported(&self) -> [u64; 4] {
        let mut ops = [0; 4];
        let supported = |op: &&ProbeOp| op.flags.contains(ProbeOpFlags::SUPPORTED);
        for op in self.ops.iter().take(usize::from(self.head.ops_len)).filter(supported) {
            ops[usize::from(op.op.0 / 64)] |= 1 << (op.op.0 % 64);
        }
        ops
    }
}

/// How to try each register call that a supported kernel may lack: on a ring or a task, and with
/// which count. The count is chosen so that a kernel that knows the call goes on to look at its
/// argument.
const TRIED: [(RegisterOp, Asked, u32); 24] = [
    (RegisterOp::FILES2, Asked::Ring, 32),
    (RegisterOp::FILES_UPDATE2, Asked::Ring, 32),
    (RegisterOp::BUFFERS2, Asked::Ring, 32),
    (RegisterOp::BUFFERS_UPDATE, Asked::Ring, 32),
    (RegisterOp::IOWQ_AFF, Asked::Ring, 8),
    (RegisterOp::IOWQ_MAX_WORKERS, Asked::Ring, 2),
    (RegisterOp::RING_FDS, Asked::Ring, 1),
    (RegisterOp::UNREGISTER_RING_FDS, Asked::Ring, 1),
    (RegisterOp::PBUF_RING, Asked::Ring, 1),
    (RegisterOp::UNREGISTER_PBUF_RING, Asked::Ring, 1),
    (RegisterOp::SYNC_CANCEL, Asked::Ring, 1),
    (RegisterOp::FILE_ALLOC_RANGE, Asked::Ring, 0),
    (RegisterOp::PBUF_STATUS, Asked::Ring, 1),
    (RegisterOp::NAPI, Asked::Ring, 1),
    (RegisterOp::UNREGISTER_NAPI, Asked::Ring, 1),
    (RegisterOp::CLOCK, Asked::Ring, 0),
    (RegisterOp::CLONE_BUFFERS, Asked::Ring, 1),
    (RegisterOp::SEND_MSG_RING, Asked::Task, 1),
    (RegisterOp::ZCRX_IFQ, Asked::Ring, 1),
    (RegisterOp::RESIZE_RINGS, Asked::Ring, 1),
    (RegisterOp::MEM_REGION, Asked::Ring, 1),
    (RegisterOp::QUERY, Asked::Task, 0),
    (RegisterOp::ZCRX_CTRL, Asked::Ring, 0),
    (RegisterOp::BPF_FILTER, Asked::Ring, 1),
];

impl Capabilities {
    /// Finds out what the running kernel can do. Makes a few small rings for that.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the kernel makes no ring at all, or if something such as a seccomp filter
    /// refuses `io_uring_register(2)`, so that we cannot ask.
    pub fn detect() -> Result<Self, SetupError> {
        Self::detect_on(&Kernel::LINUX)
    }

    /// Finds out what `kernel` can do.
    pub(crate) fn detect_on(kernel: &Kernel) -> Result<Self, SetupError> {
        let rings = probing_ring(kernel)?;
        let base = rings.base();
        let features = base.params().features;
        let ops = probe(base).map_err(setup_error::explain_silence)?;
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

    /// Whether the kernel supports the operation.
    pub fn has_op(&self, op: Opcode) -> bool {
        contains(&self.ops, op)
    }

    /// Whether the kernel supports the register call.
    pub fn has_register(&self, op: RegisterOp) -> bool {
        op.0 < u64::BITS && self.register & 1 << op.0 != 0
    }

    /// The setup flags that the kernel accepts.
    pub fn setup_flags(&self) -> SetupFlags {
        self.setup
    }

    /// The enter flags that the kernel accepts.
    pub fn enter_flags(&self) -> EnterFlags {
        self.enter
    }

    /// The features of the kernel's rings.
    pub fn features(&self) -> Features {
        self.features
    }

    /// How the flags and the register calls were found.
    pub fn source(&self) -> Source {
        self.source
    }
}

/// The operations that the kernel of a ring has: [`RawRing::probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    ops: [u64; 4],
    last: Opcode,
}

impl Operations {
    /// Whether the kernel supports the operation.
    pub fn has(&self, op: Opcode) -> bool {
        contains(&self.ops, op)
    }

    /// The last operation that the kernel has a number for, supported or not.
    pub fn last(&self) -> Opcode {
        self.last
    }

    /// The operations that the kernel supports, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Opcode> + use<> {
        let ops = self.ops;
        (0..=u8::MAX).map(Opcode).filter(move |&op| contains(&ops, op))
    }
}

/// # Asking which operations there are
impl RawRing {
    /// Asks the kernel of this ring which operations it has. Makes one call;
    /// [`Capabilities::detect`] makes rings of its own, and finds out more. Since Linux 5.6:
    /// `IORING_REGISTER_PROBE` in `io_uring_register(2)`.
    ///
    /// It says what the kernel has, and not what this ring may do: a restricted ring, which must
    /// be allowed to ask, gets the same answer.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Restricted`] if the ring or the task may not ask;
    /// [`RegisterError::Unsupported`] before Linux 5.6; [`RegisterError::OtherProcess`] in a forked
    /// child.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::sys::opcode::Opcode;
    ///
    /// let operations = Setup::new(4).build_raw()?.probe()?;
    /// assert!(operations.has(Opcode::READ) && operations.last() >= Opcode::READ);
    /// println!("{} operations", operations.iter().count());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("IORING_REGISTER_PROBE", "io_uring_register_probe", "io_uring_get_probe_ring"))]
    pub fn probe(&self) -> Result<Operations, RegisterError> {
        const UNSUPPORTED: RegisterError =
            RegisterError::Unsupported { what: "PROBE", since: "5.6" };
        let mut arg = ProbeArg::empty();
        let call = Call::new(RegisterOp::PROBE, 256, "it has room for each operation");
        // SAFETY: a zeroed probe with space for 256 operations, alive during the call, and not
        // kept, because the kernel copies it in and out.
        let asked = unsafe { call.make(self.base(), &raw mut arg) };
        match asked {
            Ok(_) => Ok(Operations { ops: arg.supported(), last: arg.head.last_op }),
            Err(RegisterError::Invalid { .. }) => Err(UNSUPPORTED),
            Err(error) => Err(error),
        }
    }
}

/// A small ring on which every register call can be tried: some calls need deferred task work, some
/// need large completions.
fn probing_ring(kernel: &Kernel) -> Result<Rings, SetupError> {
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN | SetupFlags::CQE32;
    let request = Request { flags: deferring, ..Request::new(1) };
    if let Ok(rings) = Rings::setup(kernel, &request) {
        return Ok(rings);
    }
    let request = Request::new(1);
    Rings::setup(kernel, &request).map_err(|failure| setup_error::explain(failure, &request))
}

/// Whether the kernel of a ring supports an operation, as far as it tells.
pub(crate) fn has_op(base: &Base, op: Opcode) -> bool {
    probe(base).is_ok_and(|ops| contains(&ops, op))
}

fn contains(ops: &[u64; 4], op: Opcode) -> bool {
    ops[usize::from(op.0 / 64)] & 1 << (op.0 % 64) != 0
}

/// Whether a poll that completes once survives an update to events that are there already. Linux
/// 6.0 to 6.18 forget it; a release of such a series may be mended, but does not say so.
pub(crate) fn keeps_updated_polls(base: &Base) -> bool {
    // `SEND_ZC` came with Linux 6.0, and `SQE_MIXED` with 6.19. A kernel without a network knows
    // the number, too. A ring that may not ask is on the safe side.
    let is_old = last_op(base).is_ok_and(|last| last != 0 && last < Opcode::SEND_ZC.0);
    let is_new = |known: QueryOpcode| {
        SetupFlags::from_bits_retain(low_half(known.ring_setup_flags))
            .contains(SetupFlags::SQE_MIXED)
    };
    is_old || query(base.kernel()).is_some_and(is_new)
}

/// The operations that the kernel supports.
fn probe(base: &Base) -> Result<[u64; 4], Errno> {
    ask(base).map(|arg| arg.supported())
}

/// The number of the last operation that the kernel has a place for, supported or not; 0 if it does
/// not say.
fn last_op(base: &Base) -> Result<u8, Errno> {
    ask(base).map(|arg| arg.head.last_op.0)
}

/// What the kernel tells about its operations; nothing before Linux 5.6.
fn ask(base: &Base) -> Result<ProbeArg, Errno> {
    let mut arg = ProbeArg::empty();
    // SAFETY: a zeroed probe with space for 256 operations, alive during the call, and not kept,
    // because the kernel copies it in and out.
    let probed = unsafe { base.register(RegisterOp::PROBE, (&raw mut arg).cast(), 256) };
    match probed {
        // The call does not exist before Linux 5.6: we report no operations there.
        Err(errno) if errno.is(libc::EINVAL) => {}
        probed => drop(probed?),
    }
    Ok(arg)
}

/// What the kernel reports about itself; `None` before Linux 6.18.
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

/// Tries each register call that a supported kernel may lack. The older calls came with the probe.
fn try_register(base: &Base) -> u64 {
    let oldest = below(RegisterOp::FILES2.0);
    TRIED.iter().filter(|(op, on, count)| knows(base, *on, *op, *count)).fold(
        oldest,
        |known, row| {
            // The call that undoes this one came with it.
            let undoes = if row.0 == RegisterOp::IOWQ_AFF { 1 << (row.0.0 + 1) } else { 0 };
            known | 1 << row.0.0 | undoes
        },
    )
}

/// Tries each setup flag on a small ring.
fn try_setup(kernel: &Kernel) -> SetupFlags {
    let tried = SetupFlags::all().iter_names().map(|(_, flag)| flag);
    tried.filter(|&flag| setup_error::accepts(kernel, flag)).collect()
}

/// Tries each enter flag with nothing to do. Two flags follow from the register call they belong
/// to.
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

/// The flags in the lower 32 bits.
fn low_half(bits: u64) -> u32 {
    let [a, b, c, d, ..] = bits.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_bit() {
        assert_eq!([0, 1, 13, 63, 64].map(below), [0, 1, 0x1FFF, u64::MAX >> 1, u64::MAX]);
        let some = Capabilities {
            features: Features::empty(),
            setup: SetupFlags::empty(),
            enter: EnterFlags::empty(),
            ops: [0; 4],
            register: 1 | 1 << 35 | 1 << 63,
            source: Source::Tried,
        };
        let has = |number| some.has_register(RegisterOp(number));
        let has = [0, 1, 35, 63, 64, u32::MAX].map(has);
        assert_eq!(has, [true, false, true, true, false, false]);
    }
}
