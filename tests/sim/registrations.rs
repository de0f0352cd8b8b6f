//! Register calls on both kernels: queries, rings that begin disabled, restrictions, clones of
//! buffers, personalities.

use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;

use annulus::prep;
use annulus::raw::register::Restrictions;
use annulus::sim::{Release, Sim};
use annulus::sys::abi::Sqe;
use annulus::sys::abi_query::{QueryHdr, QueryOpcode};
use annulus::sys::abi_register::{ClockRegister, CloneBuffers, Restriction};
use annulus::sys::flags::{EnterFlags, FixedFdFlags, SetupFlags, SqeFlags};
use annulus::sys::flags_register::{CloneBuffersFlags, QueryOp, RestrictionOp};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::sys::rings::Base;
use annulus::sys::syscall::{EnterArg, RingFd, RingRef};
use annulus::{RawRing, Setup};

use super::scene::{Scene, both};
use super::worlds::{Real, World};

/// Calls `register` of another ring than the scene's, and says what it returns.
pub fn register<T>(
    it: &mut Scene<'_>,
    ring: &Base,
    op: RegisterOp,
    arg: Option<&mut T>,
    count: u32,
) {
    let arg = arg.map_or(ptr::null_mut(), |arg| ptr::from_mut(arg).cast());
    // SAFETY: what a scenario passes lives during the call, and what it registers until the ring
    // is gone.
    let result = unsafe { ring.register(op, arg, count) };
    it.say(format!("{op:?} {:?}", result.map_err(|errno| errno.raw())));
}

/// Pushes one entry to another ring, and says what becomes of it.
pub fn run(it: &mut Scene<'_>, ring: &mut RawRing, sqe: Sqe) {
    // SAFETY: what the entries of these scenarios point to lives until they have ended (OP1).
    unsafe { ring.push(sqe) }.expect("room");
    let submitted = ring.submit().map_err(|error| error.to_string());
    let mut seen = None;
    for _ in 0..300 {
        let _ = ring.get_events();
        seen = ring.pop();
        if seen.is_some() {
            break;
        }
        it.world.pause();
    }
    it.say(format!("{:?} {submitted:?} {:?}", sqe.opcode, seen.map(|cqe| cqe.res)));
}

/// Enters another ring, and says what it returns.
pub fn enter(it: &mut Scene<'_>, ring: &Base, wait: u32, flags: EnterFlags, arg: EnterArg<'_>) {
    // SAFETY: nothing was pushed that points to anything (OP1).
    let result = unsafe { ring.kernel().enter(ring.fd().by_ref(), 0, wait, flags, arg) };
    it.say(format!("enter {:?}", result.map_err(|errno| errno.raw())));
}

pub fn number(ring: &Base) -> i32 {
    let RingFd::Owned(fd) = ring.fd() else { panic!("it has a descriptor") };
    fd.as_raw_fd()
}

pub const WAITS: EnterFlags = EnterFlags::GETEVENTS;

#[test]
fn a_query_is_answered_as_far_as_its_memory_goes() {
    let ask = |it: &mut Scene<'_>, op: u32, size: u32, more: QueryHdr| {
        let mut answer = [0xaa_u8; 64];
        let query_data = (&raw mut answer).expose_provenance() as u64;
        let mut hdr = QueryHdr { query_data, query_op: QueryOp(op), size, ..more };
        it.register(RegisterOp::QUERY, Some(&mut hdr), 0);
        let zeroes = answer.iter().filter(|&&byte| byte == 0).count() > 8;
        let rest = answer.iter().filter(|&&byte| byte == 0xaa).count();
        it.say(format!("{} {} {zeroes} {rest}", hdr.size, hdr.result));
    };
    both("query", |it| {
        let none = QueryHdr::default();
        for size in [0, 4, 24, 40] {
            ask(it, 0, size, none);
        }
        ask(it, 77, 24, none);
        ask(it, 0, 24, QueryHdr { resv: [0, 1, 0], ..none });
        ask(it, 0, 24, QueryHdr { result: 1, ..none });
        let mut hdr = QueryHdr { next_entry: 0, ..none };
        it.register(RegisterOp::QUERY, Some(&mut hdr), 1);
        it.register::<QueryHdr>(RegisterOp::QUERY, None, 0);
        // A chain that never ends.
        let mut answer = QueryOpcode::default();
        let mut ring = Box::new(QueryHdr {
            query_data: (&raw mut answer).expose_provenance() as u64,
            size: 40,
            ..none
        });
        ring.next_entry = (&raw mut *ring).expose_provenance() as u64;
        it.register(RegisterOp::QUERY, Some(&mut *ring), 0);
    });
}

fn opcodes(ring: &RawRing) -> Option<QueryOpcode> {
    let mut answer = QueryOpcode::default();
    let query_data = (&raw mut answer).expose_provenance() as u64;
    let mut hdr = QueryHdr { query_data, size: 48, ..QueryHdr::default() };
    let (kernel, arg) = (ring.base().kernel(), (&raw mut hdr).cast());
    // SAFETY: one live header, and an answer that is as long as it says.
    let asked = unsafe { kernel.register(RingRef::NONE, RegisterOp::QUERY, arg, 0) };
    asked.is_ok().then_some(answer)
}

#[test]
fn a_query_without_a_ring_tells_no_more_than_linux_does() {
    let sim = Sim::new(1).like(Release::V6_18);
    let ring = World::setup(&sim, 4, SetupFlags::empty()).expect("a ring");
    let simulated = opcodes(&ring).expect("it knows the call");
    assert_eq!((simulated.nr_request_opcodes, simulated.nr_register_opcodes), (63, 36));
    assert_eq!(simulated.nr_query_opcodes, 0, "not told by 6.18");
    let newest = World::setup(&Sim::new(1), 4, SetupFlags::empty()).expect("a ring");
    assert_eq!(
        opcodes(&newest).map(|it| (it.nr_request_opcodes, it.nr_query_opcodes)),
        Some((65, 4))
    );
    let old = Sim::new(1).like(Release::V6_12);
    assert_eq!(opcodes(&World::setup(&old, 4, SetupFlags::empty()).expect("a ring")), None);
    let Some(ring) = Real.setup(4, SetupFlags::empty()) else { return };
    let real = opcodes(&ring).expect("6.18 or later");
    let has = |simulated: u64, real: u64| simulated & !real == 0;
    assert!(simulated.nr_request_opcodes <= real.nr_request_opcodes);
    assert!(simulated.nr_register_opcodes <= real.nr_register_opcodes);
    assert!(has(simulated.feature_flags, real.feature_flags));
    assert!(has(simulated.ring_setup_flags, real.ring_setup_flags));
    assert!(has(simulated.enter_flags, real.enter_flags));
    assert!(has(simulated.sqe_flags, real.sqe_flags));
}

fn restriction(opcode: RestrictionOp, number: u8) -> Restriction {
    Restriction { opcode, register_op: number, ..Restriction::default() }
}

#[test]
fn a_disabled_ring_is_registered_with_and_not_entered() {
    both("disabled", |it| {
        let Some(disabled) = it.world.setup_disabled(4, it.flags) else { return };
        let base = Arc::clone(disabled.rings().base());
        enter(it, &base, 0, WAITS, EnterArg::None);
        it.push(prep::msg_ring(number(&base), 1, 2));
        it.take(1);
        register(it, &base, RegisterOp::ENABLE_RINGS, Some(&mut 0_u32), 0);
        register::<u32>(it, &base, RegisterOp::ENABLE_RINGS, None, 1);
        register::<u32>(it, &base, RegisterOp::PERSONALITY, None, 0);
        let mut ring = disabled.enable_raw().expect("it is disabled");
        register::<u32>(it, &base, RegisterOp::ENABLE_RINGS, None, 0);
        run(it, &mut ring, prep::nop());
        let mut none = restriction(RestrictionOp::SQE_OP, 0);
        register(it, &base, RegisterOp::RESTRICTIONS, Some(&mut none), 1);
        it.register::<u32>(RegisterOp::ENABLE_RINGS, None, 0);
    });
}

#[test]
fn a_restricted_ring_does_what_is_named() {
    both("restricted", |it| {
        let Some(disabled) = it.world.setup_disabled(4, it.flags) else { return };
        let base = Arc::clone(disabled.rings().base());
        let call = RegisterOp::RESTRICTIONS;
        let mut bad = [restriction(RestrictionOp(9), 0)];
        register(it, &base, call, Some(&mut bad), 1);
        let mut bad = [restriction(RestrictionOp::SQE_OP, 200)];
        register(it, &base, call, Some(&mut bad), 1);
        register::<u32>(it, &base, call, None, 1);
        let calls = [RegisterOp::ENABLE_RINGS, RegisterOp::PERSONALITY];
        let mut good = [
            restriction(RestrictionOp::REGISTER_OP, u8::try_from(calls[0].0).expect("small")),
            restriction(RestrictionOp::REGISTER_OP, u8::try_from(calls[1].0).expect("small")),
            restriction(RestrictionOp::SQE_OP, Opcode::NOP.0),
            restriction(RestrictionOp::SQE_FLAGS_ALLOWED, SqeFlags::IO_LINK.bits()),
            restriction(RestrictionOp::SQE_FLAGS_REQUIRED, SqeFlags::ASYNC.bits()),
        ];
        register(it, &base, call, Some(&mut good), 1000);
        register(it, &base, call, Some(&mut good), 5);
        register(it, &base, call, Some(&mut good), 5);
        // It does not count before the ring is enabled.
        register(it, &base, RegisterOp::CLOCK, Some(&mut ClockRegister::default()), 1);
        let mut ring = disabled.enable_raw().expect("it is disabled");
        register::<u32>(it, &base, calls[1], None, 0);
        register(it, &base, RegisterOp::CLOCK, Some(&mut ClockRegister::default()), 1);
        let forced = Sqe { flags: SqeFlags::ASYNC, ..prep::nop() };
        run(it, &mut ring, prep::nop());
        run(it, &mut ring, forced);
        run(it, &mut ring, Sqe { flags: SqeFlags::ASYNC | SqeFlags::IO_DRAIN, ..forced });
        run(it, &mut ring, Sqe { opcode: Opcode::SHUTDOWN, ..forced });
        run(it, &mut ring, Sqe { opcode: Opcode(200), ..forced });
        run(
            it,
            &mut ring,
            Sqe { opcode: Opcode::SHUTDOWN, flags: SqeFlags::from_bits_retain(0x80), ..forced },
        );
        run(
            it,
            &mut ring,
            Sqe { opcode: Opcode::SHUTDOWN, flags: SqeFlags::BUFFER_SELECT, ..forced },
        );
    });
}

#[test]
fn a_class_in_which_nothing_is_named_is_open_since_7_0() {
    for (release, calls) in [(Release::V6_18, false), (Release::new(7, 0), true)] {
        let sim = Sim::new(1).like(release);
        let ring = sim.setup_disabled(4, SetupFlags::empty()).expect("a ring");
        let base = Arc::clone(ring.rings().base());
        let mut nop = restriction(RestrictionOp::SQE_OP, Opcode::NOP.0);
        let call = |op, arg: *mut libc::c_void, count| {
            // SAFETY: what the call reads is live, and is not kept, since it is copied.
            unsafe { base.register(op, arg, count) }
        };
        call(RegisterOp::RESTRICTIONS, (&raw mut nop).cast(), 1).expect("it is disabled");
        call(RegisterOp::ENABLE_RINGS, ptr::null_mut(), 0).expect("it is disabled");
        let asked = call(RegisterOp::PERSONALITY, ptr::null_mut(), 0);
        assert_eq!(asked.is_ok(), calls, "{release:?}: {asked:?}");
    }
    // The safe way to say it.
    let sim = Sim::new(1);
    let mut disabled = Setup::new(4).kernel(sim.kernel()).build_disabled().expect("a ring");
    disabled.restrict(&Restrictions::new().allow(Opcode::NOP)).expect("it is disabled");
    let mut ring = disabled.enable().expect("it is disabled");
    let nop = ring.submit(annulus::op::Nop).expect("room");
    assert!(ring.wait(nop).expect("it ends").is_ok());
    let (reader, _writer) = sim.pipe().expect("descriptors");
    let read = ring.submit(annulus::op::Read::new(reader, [0; 8])).expect("room");
    let refused = ring.wait(read).expect("it ends").result.expect_err("it is not allowed");
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    drop(ring);
    sim.check();
}

/// A buffer of a table: its address, and its length.
fn iovec(bytes: &mut [u8; 8]) -> [u64; 2] {
    [bytes.as_mut_ptr().expose_provenance() as u64, 8]
}

#[test]
fn buffers_are_cloned_from_one_ring_to_another() {
    both("clones", |it| {
        let Some(mut ring) = it.world.setup(4, SetupFlags::empty()) else { return };
        let mut memory = Box::new([*b"first ..", *b"second..", *b"third .."]);
        let [one, two, three] = &mut *memory;
        let mut table = [iovec(one), iovec(two), [0, 0], iovec(three)];
        let (_reader, writer) = it.world.pipe();
        let src_fd = number(ring.base()).cast_unsigned();
        let none = CloneBuffers { src_fd, ..CloneBuffers::default() };
        let clone = |it: &mut Scene<'_>, asked: CloneBuffers| {
            it.register(RegisterOp::CLONE_BUFFERS, Some(&mut { asked }), 1);
        };
        clone(it, none);
        register(it, ring.base(), RegisterOp::BUFFERS, Some(&mut table), 4);
        for bad in [
            CloneBuffers { src_fd: 9999, ..none },
            CloneBuffers { src_fd: writer.as_raw_fd().cast_unsigned(), ..none },
            CloneBuffers { src_off: 1, ..none },
            CloneBuffers { dst_off: 1, ..none },
            CloneBuffers { nr: 5, ..none },
            CloneBuffers { nr: 2, src_off: 3, ..none },
            CloneBuffers { nr: 2, src_off: u32::MAX, ..none },
            CloneBuffers { nr: 2, dst_off: u32::MAX, ..none },
            CloneBuffers { nr: 2, dst_off: 1 << 14, ..none },
            CloneBuffers { pad: [0, 0, 1], ..none },
            CloneBuffers { flags: CloneBuffersFlags::from_bits_retain(4), ..none },
        ] {
            clone(it, bad);
        }
        clone(it, none);
        clone(it, none);
        let [one, two, _, three] = table.map(|[address, _]| address);
        let write =
            |addr: u64, place: u16| prep::write_fixed(writer.as_raw_fd(), addr, 8, u64::MAX, place);
        for (place, addr) in [(0, one), (1, two), (2, three), (3, three), (4, one)] {
            it.push(write(addr, place));
            it.take(1);
        }
        let flags = CloneBuffersFlags::DST_REPLACE;
        clone(it, CloneBuffers { flags, src_off: 1, nr: 1, dst_off: 5, ..none });
        clone(it, CloneBuffers { flags, src_off: 3, nr: 1, dst_off: 0, ..none });
        for (place, addr) in [(0, one), (1, two), (5, two), (4, one)] {
            it.push(write(addr, place));
            it.take(1);
        }
        // The other ring's are its own.
        register::<u32>(it, ring.base(), RegisterOp::UNREGISTER_BUFFERS, None, 0);
        it.push(write(two, 1));
        it.take(1);
        run(it, &mut ring, write(two, 1));
        // The memory stays while the ring has it (RG1).
        it.register::<u32>(RegisterOp::UNREGISTER_BUFFERS, None, 0);
    });
}

#[test]
fn a_personality_is_named_by_its_number() {
    both("personality", |it| {
        let (register, none) = (RegisterOp::PERSONALITY, None::<&mut u32>);
        it.register(register, none, 0);
        it.register(register, None::<&mut u32>, 0);
        it.register(register, None::<&mut u32>, 1);
        it.register(register, Some(&mut 0_u32), 0);
        for personality in [1, 2, 3, 65_535] {
            it.push(Sqe { personality, ..prep::nop() });
            it.take(1);
        }
        let unregister = RegisterOp::UNREGISTER_PERSONALITY;
        it.register(unregister, None::<&mut u32>, 1);
        it.register(unregister, None::<&mut u32>, 1);
        it.register(unregister, Some(&mut 0_u32), 2);
        it.register(unregister, None::<&mut u32>, 65_536 + 2);
        it.push(Sqe { personality: 1, ..prep::nop() });
        it.push(Sqe { personality: 2, ..prep::nop() });
        it.take(2);
        it.push(Sqe { personality: 2, ..prep::msg_ring(9999, 0, 0) });
        it.take(1);
        let install = prep::fixed_fd_install(0, FixedFdFlags::empty());
        it.push(Sqe { personality: 2, ..install });
        it.take(1);
        it.register(register, None::<&mut u32>, 0);
    });
}
