//! `Rings` over a scripted kernel: what is mapped for each layout, what is refused, what is
//! released, and how a ring is taken apart, put together and resized.
//!
//! Wrong descriptions by a kernel are in `geometry.rs`.
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

#[path = "../support/mod.rs"]
mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use annulus_sys::abi::{Cqe, Params, Sqe, Sqe128};
use annulus_sys::cq::CqeShape;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{
    CqRingFlags, Features, OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, SetupFlags, SqRingFlags,
};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::{Attached, Request, ResizeFailure, Rings, SetupFailure};
use annulus_sys::sq::{Full, SqeShape};
use annulus_sys::syscall::RingFd;
use support::backend::{Call, Script, ScriptedKernel};
use support::memory::UNTOUCHED;
use support::panics::complaint;

/// Four entries and eight completions.
fn rings(flags: SetupFlags) -> (Rings, Arc<Script>) {
    let (kernel, script) = ScriptedKernel::new();
    script.start_at(u32::MAX - 1);
    let request = Request { flags, ..Request::new(4) };
    let rings = Rings::setup(&kernel, &request).expect("a ring");
    (rings, script)
}

fn push(rings: &mut Rings, user_data: u64) -> Result<(), Full> {
    // SAFETY: the entry is a NOP, which points to nothing (OP1).
    unsafe { rings.sq().push(Sqe { user_data, ..Sqe::ZERO }) }
}

/// The offset and the length of each map that was asked for.
fn maps(script: &Script) -> Vec<(u64, usize)> {
    let calls = script.calls().into_iter();
    calls
        .filter_map(
            |call| if let Call::Map { offset, len } = call { Some((offset, len)) } else { None },
        )
        .collect()
}

#[test]
fn each_layout_is_mapped_where_and_as_long_as_it_is() {
    let none = SetupFlags::empty();
    // Eight completions from 320 to 448, or to 576; then four indices of the array.
    let cases = [
        (none, 256, 464, (464, 448)),
        (SetupFlags::SQE128, 512, 464, (464, 448)),
        (SetupFlags::CQE32, 256, 592, (592, 576)),
        (SetupFlags::NO_SQARRAY, 256, 448, (280, 448)),
        (SetupFlags::CQE_MIXED | SetupFlags::SQE_MIXED, 256, 464, (464, 448)),
    ];
    for (flags, sqes, both, (sq, cq)) in cases {
        let request = Request { flags, ..Request::new(4) };
        let (kernel, script) = ScriptedKernel::new();
        let rings = Rings::setup(&kernel, &request).expect("a ring");
        assert_eq!(maps(&script), [(OFF_SQES, sqes), (OFF_SQ_RING, both)], "{flags:?}");
        assert_eq!(script.maps_alive(), 2);
        drop(rings);
        assert_eq!((script.maps_alive(), script.is_open()), (0, false));

        let (kernel, script) = ScriptedKernel::new();
        script.set_features(Features::NODROP);
        let rings = Rings::setup(&kernel, &request).expect("a ring");
        let expected = [(OFF_SQES, sqes), (OFF_SQ_RING, sq), (OFF_CQ_RING, cq)];
        assert_eq!(maps(&script), expected, "{flags:?}");
        drop(rings);
        assert_eq!((script.maps_alive(), script.is_open()), (0, false));
    }
}

#[test]
fn a_feature_that_is_withheld_means_two_maps_of_the_same_memory() {
    let (kernel, script) = ScriptedKernel::new();
    let rings = Rings::setup(&kernel, &Request::new(4)).expect("a ring");
    let params = Params { features: Features::NODROP, ..*rings.base().params() };
    drop(rings);
    script.take_calls();
    let fd = RingFd::Owned(std::fs::File::open("/dev/null").expect("a file").into());
    // SAFETY: the parameters are those of the script's ring, which no other ring maps any more.
    let mut rings = unsafe { Rings::adopt(&kernel, fd, params) }.expect("a ring");
    assert_eq!(maps(&script), [(OFF_SQES, 256), (OFF_SQ_RING, 464), (OFF_CQ_RING, 448)]);
    assert!(script.post(7, 0));
    assert_eq!(rings.cq().pop().map(|cqe| cqe.user_data), Some(7));
}

#[test]
fn the_request_is_asked_as_it_was_made() {
    let (kernel, script) = ScriptedKernel::new();
    let other = std::fs::File::open("/dev/null").expect("a file");
    // SAFETY: no ring is there to share its fate, because the kernel is a script.
    let attached = unsafe { Attached::to(other.as_fd()) };
    let request = Request {
        cq_entries: Some(64),
        flags: SetupFlags::SQPOLL | SetupFlags::SQ_AFF,
        sq_thread_cpu: 3,
        sq_thread_idle: 50,
        attach: Some(attached),
        ..Request::new(5)
    };
    let rings = Rings::setup(&kernel, &request).expect("a ring");
    let Call::Setup { entries, params } = script.calls()[0] else { panic!("no setup") };
    let flags =
        SetupFlags::SQPOLL | SetupFlags::SQ_AFF | SetupFlags::CQSIZE | SetupFlags::ATTACH_WQ;
    assert_eq!((entries, params.cq_entries, params.flags), (5, 64, flags));
    assert_eq!((params.sq_thread_cpu, params.sq_thread_idle), (3, 50));
    let (sq, cq) = rings.halves();
    assert_eq!((sq.entries(), cq.entries()), (8, 64));
}

#[test]
fn cq2_a_mixed_ring_is_never_so_short_that_it_loses_a_completion() {
    let none = SetupFlags::empty();
    let cases = [
        // (entries, cq_entries) and the request; 0 leaves it to the kernel.
        (SetupFlags::CQE_MIXED, 1, None, 4),
        (SetupFlags::CQE_MIXED, 1, Some(1), 4),
        (SetupFlags::CQE_MIXED, 2, Some(2), 4),
        (SetupFlags::CQE_MIXED, 2, Some(3), 3),
        (SetupFlags::CQE_MIXED, 2, None, 0),
        (SetupFlags::CQE_MIXED, u32::MAX, Some(8), 8),
        (none, 1, None, 0),
        (none, 1, Some(1), 1),
    ];
    for (flags, entries, cq_entries, asked) in cases {
        let (kernel, script) = ScriptedKernel::new();
        let request = Request { flags, cq_entries, ..Request::new(entries) };
        drop(Rings::setup(&kernel, &request));
        let Call::Setup { params, .. } = script.calls()[0] else { panic!("no setup") };
        let sized = params.flags.contains(SetupFlags::CQSIZE);
        assert_eq!((params.cq_entries, sized), (asked, asked > 0), "{flags:?} {entries}");
    }
}

#[test]
fn the_flags_decide_what_lies_in_the_slots() {
    use SetupFlags as F;
    for (flags, sqe, cqe) in [
        (F::empty(), SqeShape::Single, CqeShape::Single),
        (F::SQE128 | F::CQE32, SqeShape::Double, CqeShape::Double),
        (F::SQE_MIXED | F::CQE_MIXED, SqeShape::Mixed, CqeShape::Mixed),
    ] {
        let (mut rings, script) = rings(flags);
        let (sq, cq) = rings.halves();
        assert_eq!((sq.shape(), cq.shape()), (sqe, cqe));
        let wide = Sqe128 { first: Sqe { user_data: 9, ..Sqe::ZERO }, rest: [0x77; 8] };
        // SAFETY: the entry is a NOP, which points to nothing (OP1).
        let pushed = unsafe { rings.sq().push_wide(wide) };
        assert_eq!(pushed.is_ok(), sqe != SqeShape::Single);
        if pushed.is_ok() {
            rings.sq().flush();
            assert_eq!(script.kernel(|kernel| kernel.consume_wide()), Some(wide));
        }
    }
}

#[test]
fn sq3_the_index_array_is_the_identity() {
    let (_rings, script) = rings(SetupFlags::empty());
    assert_eq!(script.memory(|memory| memory.array()), [0, 1, 2, 3]);
}

#[test]
fn where_there_is_no_index_array_nothing_is_written() {
    let (_rings, script) = rings(SetupFlags::NO_SQARRAY);
    assert_eq!(script.memory(|memory| memory.array()), [UNTOUCHED; 4]);
}

#[test]
fn the_atomics_are_those_that_the_kernel_uses() {
    let (mut rings, script) = rings(SetupFlags::empty());
    script.kernel(|kernel| {
        kernel.sq_flags.store(SqRingFlags::NEED_WAKEUP.bits());
        kernel.dropped.publish(annulus_sys::index::Index::from_raw(5));
        kernel.overflow.publish(annulus_sys::index::Index::from_raw(6));
    });
    let (sq, cq) = rings.halves();
    assert_eq!((sq.flags(), sq.dropped()), (SqRingFlags::NEED_WAKEUP, 5));
    assert!(sq.needs_wakeup());
    assert_eq!((cq.hints(), cq.overflow()), (SqRingFlags::NEED_WAKEUP, 6));
    assert!(rings.cq().set_flags(CqRingFlags::EVENTFD_DISABLED));
    assert_eq!(script.kernel(|kernel| kernel.cq_flags.now()), CqRingFlags::EVENTFD_DISABLED.bits());
}

#[test]
fn a_kernel_without_a_place_for_our_flags_is_not_told() {
    let (kernel, script) = ScriptedKernel::new();
    script.tamper(|params, _| params.cq_off.flags = 0);
    let mut rings = Rings::setup(&kernel, &Request::new(4)).expect("a ring");
    assert_eq!(rings.cq().flags(), None);
    assert!(!rings.cq().set_flags(CqRingFlags::EVENTFD_DISABLED));
    assert_eq!(rings.sq().indices().head.to_raw(), 0, "what lies at 0 is the head");
}

#[test]
fn a_refused_setup_maps_nothing() {
    let (kernel, script) = ScriptedKernel::new();
    script.fail_setup(libc::EPERM);
    let refused = Rings::setup(&kernel, &Request::new(4)).expect_err("refused");
    assert_eq!(refused, SetupFailure::Setup(Errno::new(libc::EPERM)));
    script.know(SetupFlags::CQSIZE);
    let request = Request { flags: SetupFlags::NO_SQARRAY, ..Request::new(4) };
    let refused = Rings::setup(&kernel, &request).expect_err("refused");
    assert_eq!(refused, SetupFailure::Setup(Errno::new(libc::EINVAL)));
    assert_eq!(maps(&script), []);
}

#[test]
fn a_map_that_fails_lets_go_of_everything() {
    for (features, count) in [(Features::SINGLE_MMAP, 2), (Features::empty(), 3)] {
        for before in 0..count {
            let (kernel, script) = ScriptedKernel::new();
            script.set_features(features);
            script.fail_map(before, libc::ENOMEM);
            let failure = Rings::setup(&kernel, &Request::new(4)).expect_err("no memory");
            assert_eq!(failure, SetupFailure::Map(Errno::new(libc::ENOMEM)));
            assert_eq!(maps(&script).len(), before as usize + 1);
            assert_eq!((script.maps_alive(), script.is_open()), (0, false));
        }
    }
}

#[test]
fn halves_outlive_the_descriptor_and_each_other() {
    let (mut rings, script) = rings(SetupFlags::empty());
    push(&mut rings, 1).expect("room");
    assert!(script.is_open());
    let (mut sq, mut cq, base) = rings.split();
    drop(base);
    assert_eq!((script.maps_alive(), script.is_open()), (2, false));
    thread::scope(|scope| {
        scope.spawn(move || {
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            unsafe { sq.push(Sqe { user_data: 2, ..Sqe::ZERO }) }.expect("room");
            assert_eq!(sq.flush(), 2);
        });
    });
    assert_eq!(script.maps_alive(), 2, "the completion half holds both maps");
    for user_data in [1, 2] {
        let sqe = script.kernel(|kernel| kernel.consume());
        assert_eq!(sqe.map(|sqe| sqe.user_data), Some(user_data));
        assert!(script.post(user_data, 0));
    }
    let mut seen = Vec::new();
    assert_eq!(cq.drain(|cqe| seen.push(cqe.user_data)).count, 2);
    assert_eq!(seen, [1, 2]);
    drop(cq);
    assert_eq!(script.maps_alive(), 0);
}

#[test]
fn what_was_split_joins_again_and_nothing_else_does() {
    let (one, script) = rings(SetupFlags::empty());
    let (two, _other) = rings(SetupFlags::empty());
    let (sq1, cq1, base1) = one.split();
    let (sq2, cq2, base2) = two.split();
    let (sq1, cq2, base1) = Rings::join(sq1, cq2, base1).expect_err("two rings");
    let (sq2, cq1, base2) = Rings::join(sq2, cq1, base2).expect_err("two rings");
    let mut one = Rings::join(sq1, cq1, base1).expect("one ring");
    assert!(Rings::join(sq2, cq2, base2).is_ok());
    push(&mut one, 3).expect("room");
    assert_eq!(one.sq().flush(), 1);
    assert_eq!(script.kernel(|kernel| kernel.visible()), 1);
}

#[test]
fn halves_do_not_join_with_the_base_of_another_ring() {
    let (one, _script) = rings(SetupFlags::empty());
    let (two, _other) = rings(SetupFlags::empty());
    let (sq, cq, _base) = one.split();
    assert!(Rings::join(sq, cq, Arc::clone(two.base())).is_err());
}

#[test]
fn rg1_own_memory_is_leaked_unless_it_was_found_idle() {
    let (mut rings, script) = rings(SetupFlags::NO_MMAP);
    let Call::Setup { params, .. } = script.calls()[0] else { panic!("no setup") };
    let given = [params.cq_off.user_addr, params.sq_off.user_addr];
    assert!(given.iter().all(|&address| address != 0 && address % 4096 == 0));
    assert_eq!(maps(&script), []);
    push(&mut rings, 1).expect("room");
    assert_eq!(rings.sq().flush(), 1);
    drop(rings);
    let late = script.kernel(|kernel| (kernel.consume(), kernel.post(Cqe::ZERO)));
    assert_eq!(late, (Some(Sqe { user_data: 1, ..Sqe::ZERO }), true), "the memory is still there");
    assert_eq!(given.map(is_own_memory), [true, true]);

    let (rings, script) = self::rings(SetupFlags::NO_MMAP);
    let Call::Setup { params, .. } = script.calls()[0] else { panic!("no setup") };
    // SAFETY: nothing was ever submitted, and no thread polls.
    unsafe { rings.found_idle() };
    drop(rings);
    assert!(!is_own_memory(params.cq_off.user_addr));
    assert!(!is_own_memory(params.sq_off.user_addr));

    let (kernel, script) = ScriptedKernel::new();
    script.fail_setup(libc::ENOMEM);
    let request = Request { flags: SetupFlags::NO_MMAP, ..Request::new(4) };
    assert!(Rings::setup(&kernel, &request).is_err());
    let Call::Setup { params, .. } = script.calls()[0] else { panic!("no setup") };
    assert!(!is_own_memory(params.cq_off.user_addr), "no ring was made");
    assert!(!is_own_memory(params.sq_off.user_addr), "no ring was made");
}

/// Whether `address` is in a mapping that a child does not inherit. In this binary only the test
/// above makes such mappings.
fn is_own_memory(address: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("procfs");
    let mut inside = false;
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let hex = |text| u64::from_str_radix(text, 16).ok();
        if let Some((Some(start), Some(end))) = range.map(|(start, end)| (hex(start), hex(end))) {
            inside = (start..end).contains(&address);
        } else if inside && line.starts_with("VmFlags:") {
            return line.split(' ').any(|flag| flag == "wf");
        }
    }
    false
}

#[test]
fn a_ring_without_a_descriptor_is_let_go_of_by_its_index() {
    let flags = SetupFlags::NO_MMAP | SetupFlags::REGISTERED_FD_ONLY;
    let (rings, script) = rings(flags);
    assert_eq!(maps(&script), []);
    script.take_calls();
    drop(rings);
    let calls = script.calls();
    assert_eq!(calls, [Call::Register { op: RegisterOp::UNREGISTER_RING_FDS, count: 1 }]);
}

#[test]
fn a_ring_with_an_index_array_is_not_resized_since_the_kernel_would_not_say_where_it_is() {
    let (mut rings, script) = busy(SetupFlags::empty());
    let refused = rings.resize(16, None).expect_err("refused");
    assert_eq!(refused, ResizeFailure::Refused(Errno::new(libc::EINVAL)));
    assert_eq!(script.calls(), [], "once it was asked, there would be no way back");
    finishes(rings, &script);
}

#[test]
fn a_ring_that_the_kernel_would_tear_is_not_resized_while_something_is_in_it() {
    let wide = [SetupFlags::SQE128, SetupFlags::SQE_MIXED, SetupFlags::CQE32];
    for flags in wide.map(|flags| flags | SetupFlags::NO_SQARRAY) {
        let (mut rings, script) = busy(flags);
        let refused = rings.resize(16, None).expect_err("refused");
        assert_eq!(refused, ResizeFailure::Refused(Errno::new(libc::EBUSY)));
        assert_eq!(script.calls(), [], "once it was asked, there would be no way back");
        finishes(rings, &script);
    }
}

#[test]
fn a_rewinding_ring_is_not_resized_while_something_is_written() {
    let (mut rings, script) = rings(SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY);
    push(&mut rings, 1).expect("room");
    script.take_calls();
    let refused = rings.resize(16, None).expect_err("refused");
    assert_eq!(refused, ResizeFailure::Refused(Errno::new(libc::EBUSY)));
    assert_eq!(script.calls(), [], "the kernel sees no index of it, and would copy nothing");
    assert_eq!(rings.sq().flush(), 1);
}

/// A ring that has wrapped, with an entry flushed, another written, and a completion unpopped.
fn busy(flags: SetupFlags) -> (Rings, Arc<Script>) {
    let (mut rings, script) = rings(flags);
    for user_data in [1, 2] {
        push(&mut rings, user_data).expect("room");
    }
    assert_eq!(rings.sq().flush(), 2);
    assert_eq!(script.kernel(|kernel| kernel.consume()).map(|sqe| sqe.user_data), Some(1));
    assert!([7, 8, 9].iter().all(|&user_data| script.post(user_data, 0)));
    assert_eq!(rings.cq().pop().map(|cqe| cqe.user_data), Some(7));
    push(&mut rings, 3).expect("room");
    script.take_calls();
    (rings, script)
}

/// Checks that a [`busy`] ring has nothing lost and nothing twice.
fn finishes(mut rings: Rings, script: &Script) {
    let (pushed, ended, popped) = (rings.sq().pushed(), rings.cq().ended(), rings.cq().popped());
    assert_eq!((pushed, ended), (3, 1));
    assert_eq!(popped, 1);
    for user_data in [8, 9] {
        assert_eq!(rings.cq().pop().map(|cqe| cqe.user_data), Some(user_data));
    }
    assert_eq!((rings.cq().pop(), rings.cq().popped()), (None, 3));
    assert_eq!(rings.sq().flush(), 2);
    for user_data in [2, 3] {
        let sqe = script.kernel(|kernel| kernel.consume());
        assert_eq!(sqe.map(|sqe| sqe.user_data), Some(user_data));
    }
    assert_eq!(script.kernel(|kernel| kernel.consume()), None);
}

#[test]
fn sq1_cq1_a_resized_ring_goes_on_where_it_was() {
    for flags in [SetupFlags::NO_SQARRAY, SetupFlags::NO_SQARRAY | SetupFlags::CQE_MIXED] {
        for (entries, cq_entries) in [(16, None), (2, Some(2)), (4, Some(64))] {
            let (mut rings, script) = busy(flags);
            rings.resize(entries, cq_entries).expect("a kernel that can");
            let (sq, cq) = rings.halves();
            let cq_entries = cq_entries.unwrap_or(2 * entries);
            let mixed = flags.contains(SetupFlags::CQE_MIXED);
            let expected = (entries, if mixed { cq_entries.max(4) } else { cq_entries });
            assert_eq!((sq.entries(), cq.entries()), expected);
            assert_eq!(sq.room(), entries - 2);
            assert_eq!(maps(&script).len(), 2);
            assert_eq!(script.maps_alive(), 2, "the old maps are gone");
            let array = script.memory(|memory| memory.array());
            assert!(array.iter().all(|&word| word == UNTOUCHED));
            finishes(rings, &script);
        }
    }
}

#[test]
fn a_ring_whose_halves_are_not_its_own_is_not_resized() {
    let flags = SetupFlags::NO_SQARRAY | SetupFlags::CQE32 | SetupFlags::SQE128;
    let ((mut rings, script), (mut other, other_script)) = (self::rings(flags), self::rings(flags));
    // What the kernel would tear lies in the half that was swapped away.
    // SAFETY: the entry is a NOP, which points to nothing (OP1).
    unsafe { rings.sq().push(Sqe::ZERO) }.expect("room");
    for swaps_sq in [true, false] {
        let swap = |one: &mut Rings, two: &mut Rings| match swaps_sq {
            true => std::mem::swap(one.sq(), two.sq()),
            false => std::mem::swap(one.cq(), two.cq()),
        };
        swap(&mut rings, &mut other);
        script.take_calls();
        for (rings, script) in [(&mut rings, &script), (&mut other, &other_script)] {
            let refused = rings.resize(16, None).expect_err("refused");
            assert_eq!(refused, ResizeFailure::Refused(Errno::new(libc::EXDEV)), "{swaps_sq}");
            assert!(!script.take_calls().iter().any(|call| matches!(call, Call::Register { .. })));
        }
        swap(&mut rings, &mut other);
    }
    other.resize(16, None).expect("it is whole again, and empty");
}

#[test]
fn a_refused_resize_leaves_the_ring_as_it_was() {
    let (mut rings, script) = busy(SetupFlags::NO_SQARRAY);
    script.on_register(|op, _, _| {
        (op == RegisterOp::RESIZE_RINGS).then_some(Err(Errno::new(libc::EBUSY)))
    });
    let refused = rings.resize(16, None).expect_err("refused");
    assert_eq!(refused, ResizeFailure::Refused(Errno::new(libc::EBUSY)));
    assert_eq!((maps(&script), rings.sq().entries()), (vec![], 4));
    finishes(rings, &script);

    let (mut rings, script) = busy(SetupFlags::NO_SQARRAY);
    let refused = rings.resize(1, None).expect_err("two entries wait to be consumed");
    assert_eq!(refused, ResizeFailure::Refused(Errno::new(libc::EOVERFLOW)));
    finishes(rings, &script);
}

#[test]
fn a_resized_ring_that_cannot_be_mapped_is_reported() {
    for before in [0, 1] {
        let (mut rings, script) = busy(SetupFlags::NO_SQARRAY);
        script.fail_map(before, libc::ENOMEM);
        let failure = rings.resize(16, None).expect_err("no memory");
        assert_eq!(failure, ResizeFailure::Map(Errno::new(libc::ENOMEM)));
        drop(rings);
        assert_eq!((script.maps_alive(), script.is_open()), (0, false));
    }
}

#[test]
fn sq1_cq1_a_resize_that_loses_our_place_is_named() {
    use support::memory::Block;
    let (mut rings, script) = rings(SetupFlags::NO_SQARRAY);
    script.tamper(|params, memory| {
        for offset in [params.sq_off.head, params.sq_off.tail] {
            memory.store(Block::Sq, offset, 0);
        }
    });
    assert!(complaint(|| rings.resize(16, None)).contains("SQ1"));
    let (mut rings, script) = self::rings(SetupFlags::NO_SQARRAY);
    script.tamper(|params, memory| {
        for offset in [params.cq_off.head, params.cq_off.tail] {
            memory.store(Block::Cq, offset, 0);
        }
    });
    assert!(complaint(|| rings.resize(16, None)).contains("CQ1"));
}
