//! The capabilities that are reported for a kernel, checked against trying them.
#![allow(unsafe_code, reason = "tries things on the kernel")]

use std::fmt::Write as _;
use std::ptr;

use annulus::raw::capabilities::Source;
use annulus::sys::abi::{Sqe, Sqe128};
use annulus::sys::abi_register::Restriction;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::flags_register::RestrictionOp;
use annulus::sys::kernel::Kernel;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::sys::rings::{Attached, Request, Rings, SetupFailure};
use annulus::{Capabilities, DisabledRing, RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::denied::{companion, install};
use crate::harness::{Need, Part, child, child_succeeds, here, patient, ring, test};

/// The parts that play in a child process.
pub const PARTS: &[Part] =
    &[("find out without asking", find_out_without_asking), ("find out often", find_out_often)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("set_up_flags_are_taken_or_not_as_said", &[], set_up_flags),
        test("operations_are_known_or_not_as_said", &[], operations),
        test("a_ring_is_asked_for_its_operations", &[], probe),
        test("register_calls_go_with_what_they_came_with", &[], register_calls),
        test("enter_flags_go_with_what_they_came_with", &[], enter_flags),
        test("a_kernel_that_can_be_asked_is_asked", &[], source),
        test("trying_finds_what_asking_finds", &[Need::Register(RegisterOp::QUERY)], || {
            let output = child("find out without asking");
            let tried = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            // The filter has hidden the question itself from the child.
            assert_eq!(tried, table(here(), &[RegisterOp::QUERY]));
            Ok(())
        }),
        test("each_release_has_what_it_is_known_to_have", &[Need::Other(debians)], known_releases),
        test("finding_out_leaks_no_descriptor", &[], || child_succeeds("find out often")),
    ]
}

fn set_up_flags() -> Result<(), Failed> {
    let other = ring(Setup::plain(1));
    for (name, flag) in SetupFlags::all().iter_names() {
        let mut request = Request::new(1);
        request.flags = flag | companion(flag);
        if request.flags.contains(SetupFlags::CQSIZE) {
            request.flags -= SetupFlags::CQSIZE;
            request.cq_entries = Some(2);
        }
        if request.flags.contains(SetupFlags::ATTACH_WQ) {
            request.flags -= SetupFlags::ATTACH_WQ;
            // SAFETY: both are made here, and only to see that the kernel makes them.
            request.attach = other.fd().map(|fd| unsafe { Attached::to(fd) });
        }
        let refused = match Rings::setup(&Kernel::LINUX, &request) {
            Err(SetupFailure::Setup(errno)) => errno.is(libc::EINVAL),
            Err(SetupFailure::Map(_) | SetupFailure::OwnMemory(_)) | Ok(_) => false,
        };
        assert_eq!(!refused, here().setup_flags().contains(flag), "{name}");
    }
    Ok(())
}

/// A ring that exists says what a small one of our own says.
fn probe() -> Result<(), Failed> {
    let operations = ring(Setup::new(4)).probe()?;
    let has = |op: &Opcode| here().has_op(*op);
    let expected: Vec<_> = (0..=u8::MAX).map(Opcode).filter(has).collect();
    assert_eq!(operations.iter().collect::<Vec<_>>(), expected);
    assert!(expected.iter().all(|&op| operations.has(op) && op <= operations.last()));
    assert!(!operations.has(Opcode(u8::MAX)) && operations.last() < Opcode(u8::MAX));
    Ok(())
}

/// On a ring whose restrictions allow only a NOP, the kernel answers `EACCES` to an operation that
/// it knows, and runs none.
fn operations() -> Result<(), Failed> {
    let wide = SetupFlags::SQE_MIXED & here().setup_flags();
    let disabled = patient(|| Setup::plain(4).with(wide).build_disabled())?;
    allow_only_nops(&disabled);
    let mut ring = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    for number in 0..=u8::MAX {
        let op = Opcode(number);
        let res = try_op(&mut ring, op, !wide.is_empty())?;
        let known = match -res {
            libc::EINVAL => false,
            libc::EACCES => true,
            0 if op == Opcode::NOP => true,
            other => panic!("{op:?}: {other}"),
        };
        assert_eq!(known, here().has_op(op), "{op:?}");
    }
    Ok(())
}

fn allow_only_nops(disabled: &DisabledRing) {
    let mut only = Restriction {
        opcode: RestrictionOp::SQE_OP,
        register_op: Opcode::NOP.0,
        resv: 0,
        resv2: [0; 3],
    };
    let arg = ptr::from_mut(&mut only).cast();
    // SAFETY: one live `struct io_uring_restriction`, which the call does not keep, because the
    // kernel copies it.
    let restricted = unsafe { disabled.rings().base().register(RegisterOp::RESTRICTIONS, arg, 1) };
    assert_eq!(restricted, Ok(0));
}

fn try_op(ring: &mut RawRing, op: Opcode, wide_fits: bool) -> Result<i32, Failed> {
    let sqe = Sqe { opcode: op, fd: -1, ..Sqe::ZERO };
    if wide_fits && [Opcode::NOP128, Opcode::URING_CMD128].contains(&op) {
        let sqe = Sqe128 { first: sqe, ..Sqe128::ZERO };
        // SAFETY: it points to nothing, because all of it is zero (OP1).
        unsafe { ring.push_wide(sqe) }?;
    } else {
        // SAFETY: it points to nothing, because all of it is zero (OP1).
        unsafe { ring.push(sqe) }?;
    }
    ring.submit_and_wait(1)?;
    let cqe = ring.pop().ok_or("a completion")?;
    // The padding that a wide entry leaves at the end of the ring is a NOP of its own.
    ring.drain(|_| ())?;
    Ok(cqe.res)
}

/// Features and flags of one release come with the register calls of that release.
fn register_calls() -> Result<(), Failed> {
    let here = here();
    let flags = |flag| here.setup_flags().contains(flag);
    let features = |feature| here.features().contains(feature);
    let pairs = [
        (RegisterOp::PROBE, features(Features::FAST_POLL)),
        (RegisterOp::RESTRICTIONS, flags(SetupFlags::R_DISABLED)),
        (RegisterOp::ENABLE_RINGS, flags(SetupFlags::R_DISABLED)),
        (RegisterOp::BUFFERS2, features(Features::RSRC_TAGS)),
        (RegisterOp::PBUF_RING, flags(SetupFlags::SQE128)),
        (RegisterOp::SYNC_CANCEL, flags(SetupFlags::SINGLE_ISSUER)),
        (RegisterOp::FILE_ALLOC_RANGE, flags(SetupFlags::SINGLE_ISSUER)),
        (RegisterOp::CLOCK, features(Features::MIN_TIMEOUT)),
        (RegisterOp::ZCRX_IFQ, here.has_op(Opcode::RECV_ZC)),
        (RegisterOp::RESIZE_RINGS, flags(SetupFlags::HYBRID_IOPOLL)),
        (RegisterOp::MEM_REGION, flags(SetupFlags::HYBRID_IOPOLL)),
        (RegisterOp::QUERY, flags(SetupFlags::CQE_MIXED)),
        (RegisterOp::ZCRX_CTRL, flags(SetupFlags::SQE_MIXED)),
        (RegisterOp::BPF_FILTER, flags(SetupFlags::SQ_REWIND)),
    ];
    for (op, came) in pairs {
        assert_eq!(here.has_register(op), came, "{op:?}");
    }
    assert!(!here.has_register(RegisterOp(63)));
    assert!(!here.has_register(RegisterOp(64)));
    Ok(())
}

fn enter_flags() -> Result<(), Failed> {
    let (here, flags) = (here(), here().enter_flags());
    assert!(flags.contains(EnterFlags::GETEVENTS | EnterFlags::SQ_WAKEUP | EnterFlags::SQ_WAIT));
    let pairs = [
        (EnterFlags::EXT_ARG, here.features().contains(Features::EXT_ARG)),
        (EnterFlags::REGISTERED_RING, here.has_register(RegisterOp::RING_FDS)),
        (EnterFlags::ABS_TIMER, here.features().contains(Features::MIN_TIMEOUT)),
        (EnterFlags::EXT_ARG_REG, here.has_register(RegisterOp::MEM_REGION)),
        (EnterFlags::NO_IOWAIT, here.features().contains(Features::NO_IOWAIT)),
    ];
    for (flag, came) in pairs {
        assert_eq!(flags.contains(flag), came, "{flag:?}");
    }
    Ok(())
}

fn source() -> Result<(), Failed> {
    let asked = here().source() == Source::Asked;
    assert_eq!(asked, here().has_register(RegisterOp::QUERY));
    assert_eq!(asked, here().setup_flags().contains(SetupFlags::CQE_MIXED));
    assert_eq!(*here(), Capabilities::detect()?, "the second time finds the same");
    Ok(())
}

/// Everything in `found` but `without`, as text.
fn table(found: &Capabilities, without: &[RegisterOp]) -> String {
    let mut table = String::new();
    let ops = (0..=u8::MAX).filter(|&op| found.has_op(Opcode(op)));
    let calls = (0..64).map(RegisterOp);
    let calls = calls.filter(|&op| found.has_register(op) && !without.contains(&op));
    let (setup, enter, features) = (found.setup_flags(), found.enter_flags(), found.features());
    writeln!(table, "{setup:?}\n{enter:?}\n{features:?}").expect("a string takes it");
    writeln!(table, "{:?}\n{:?}", ops.collect::<Vec<_>>(), calls.collect::<Vec<_>>())
        .expect("a string takes it");
    table
}

/// In a process whose filter answers the question with `EINVAL`, as older kernels do.
fn find_out_without_asking() {
    let register = u32::try_from(libc::SYS_io_uring_register).expect("a small number");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EINVAL.unsigned_abs();
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    install(&mut [
        step(0x20, 0, 0, 0),                       // load the number of the call
        step(0x15, 0, 3, register),                // to the end unless it is this
        step(0x20, 0, 0, 24),                      // load its second argument
        step(0x15, 0, 1, RegisterOp::QUERY.0),     // skip one unless it is this
        step(0x06, 0, 0, refuse),                  // refuse
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW), // allow
    ]);
    let found = patient(Capabilities::detect).expect("it can be found out");
    assert_eq!(found.source(), Source::Tried);
    assert!(!found.has_register(RegisterOp::QUERY));
    print!("{}", table(&found, &[]));
}

/// Debian's kernels: how many register calls each has, and how many operations.
const RELEASES: [(&str, u32, u8); 11] = [
    ("5.10.", 20, 37),
    ("6.1.", 26, 49),
    ("6.12.", 31, 58),
    ("6.16.", 35, 63),
    ("6.17.", 35, 63),
    ("6.18.", 36, 63),
    ("6.19.", 37, 65),
    ("7.0.", 38, 65),
    ("7.1.", 38, 65),
    ("7.2.", 38, 65),
    ("7.3", 38, 65),
];

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

fn debians() -> Option<String> {
    let release = release();
    let debian = std::fs::read_to_string("/proc/version").unwrap_or_default().contains("Debian");
    let known = RELEASES.iter().any(|(series, ..)| release.starts_with(series));
    (!debian || !known).then(|| "needs one of Debian's kernels".to_owned())
}

fn known_releases() -> Result<(), Failed> {
    let release = release();
    let row = RELEASES.iter().find(|(series, ..)| release.starts_with(series));
    let &(_, calls, ops) = row.ok_or("a known release")?;
    let found: Vec<u32> = (0..64).filter(|&op| here().has_register(RegisterOp(op))).collect();
    assert_eq!(found, (0..calls).collect::<Vec<_>>(), "{release}");
    let found: Vec<u8> = (0..=u8::MAX).filter(|&op| here().has_op(Opcode(op))).collect();
    assert_eq!(found, (0..ops).collect::<Vec<_>>(), "{release}");
    Ok(())
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

fn find_out_often() {
    let before = descriptors();
    for _ in 0..5 {
        patient(Capabilities::detect).expect("it can be found out");
    }
    assert_eq!(descriptors(), before);
}
