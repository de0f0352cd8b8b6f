//! Buffers that the kernel selected and that no completion names: the ring finds them when nothing
//! can name them any more, offers them again, and asks the kernel only where there may be some.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use annulus::lease::BufRing;
use annulus::op::{Nop, Op, RecvBundle, RecvMulti, RecvProvided};
use annulus::raw::register::{Consumption, RingMemory};
use annulus::sys::abi::Cqe;
use annulus::sys::abi_register::{BufReg, BufStatus};
use annulus::sys::errno::Errno;
use annulus::sys::flags::CqeFlags;
use annulus::sys::opcode::RegisterOp;
use annulus::{Ring, Setup, Ticket};

use super::ends::named;
use crate::support::backend::{Enter, Script, ScriptedKernel};

/// A ring with four buffers of 16 bytes, whose kernel follows the test.
struct Rig {
    ring: Ring,
    script: Arc<Script>,
    buffers: BufRing,
    told: Arc<Told>,
}

/// The ring is restricted, so that it may not ask.
const REFUSED: u32 = u32::MAX - 1;

#[derive(Debug, Default)]
struct Told {
    /// How many buffers the kernel reports as selected; `u32::MAX` makes the call fail.
    head: AtomicU32,
    asked: AtomicU32,
    /// Where the ring of buffers lies.
    address: AtomicUsize,
}

impl Told {
    fn answer(&self, op: RegisterOp, arg: *mut libc::c_void) -> Option<Result<u32, Errno>> {
        match op {
            RegisterOp::PBUF_RING => {
                // SAFETY: a live `struct io_uring_buf_reg`, as promised to `Backend::register`.
                let reg = unsafe { arg.cast::<BufReg>().read() };
                let address = usize::try_from(reg.ring_addr).expect("an address");
                self.address.store(address, Ordering::Relaxed);
                Some(Ok(0))
            }
            RegisterOp::PBUF_STATUS => {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let head = self.head.load(Ordering::Relaxed);
                if head == u32::MAX {
                    return Some(Err(Errno::new(libc::EINVAL)));
                }
                if head == REFUSED {
                    return Some(Err(Errno::new(libc::EACCES)));
                }
                // SAFETY: a live `struct io_uring_buf_status`, as promised to `Backend::register`.
                unsafe { (*arg.cast::<BufStatus>()).head = head };
                Some(Ok(0))
            }
            RegisterOp::UNREGISTER_PBUF_RING => Some(Ok(0)),
            _ => None,
        }
    }
}

impl Rig {
    fn new(used: Consumption) -> Self {
        let (kernel, script) = ScriptedKernel::new();
        let mut ring: Ring = Setup::plain(8).kernel(kernel).build_for().expect("a ring");
        let told = Arc::new(Told::default());
        let says = Arc::clone(&told);
        script.on_register(move |op, arg, _| says.answer(op, arg));
        let buffers = ring.buf_ring_with(4, 16, RingMemory::User, used).expect("buffers");
        Self { ring, script, buffers, told }
    }

    /// Submits `op`, which the kernel takes.
    fn begin<O: Op + 'static>(&mut self, op: O) -> Ticket<O> {
        let ticket = self.ring.submit(op).map_err(|rejected| rejected.why).expect("room");
        self.script.enters(Enter::Consume(1));
        self.ring.submit_all().expect("submit");
        ticket
    }

    /// Posts a completion of the operation of this ticket, and reaps it.
    fn complete<O: Op>(&mut self, ticket: &Ticket<O>, res: i32, flags: CqeFlags) {
        // Each slot is used for the first time, or counts up: only the present generation is known.
        let user_data = u64::from(ticket.slot()) | self.lap(ticket) << 32;
        assert!(self.script.kernel(|kernel| kernel.post(Cqe { user_data, res, flags })));
        let mut ended = 0;
        self.ring.reap(|_| ended += 1).expect("nothing to ask for");
        assert_eq!(ended, 1);
    }

    /// How often the ticket's slot was used before, from its `Debug` text.
    fn lap<O>(&self, ticket: &Ticket<O>) -> u64 {
        let text = format!("{ticket:?}");
        let (_, lap) = text.split_once("generation: ").expect("it is said");
        lap.split(|c: char| !c.is_ascii_digit()).next().and_then(|lap| lap.parse().ok()).expect("")
    }

    /// How many buffers were offered in total.
    fn offered(&self) -> u16 {
        let tail = self.told.address.load(Ordering::Relaxed) + 14;
        // SAFETY: the tail of the ring of buffers, which the buffers keep.
        unsafe { std::ptr::with_exposed_provenance::<u16>(tail).read_volatile() }
    }

    /// The kernel goes on in the front buffer after its `into`th byte, without a completion.
    fn goes_on(&self, slot: usize, into: u64) {
        let entry = self.told.address.load(Ordering::Relaxed) + slot * 16;
        let addr = std::ptr::with_exposed_provenance_mut::<u64>(entry);
        // SAFETY: an entry of the ring of buffers, which the buffers keep.
        let was = unsafe { addr.read_volatile() };
        // SAFETY: the same entry, which nothing else uses, since the test is their kernel.
        unsafe { addr.write_volatile(was + into) };
    }

    fn asked(&self) -> u32 {
        self.told.asked.load(Ordering::Relaxed)
    }

    fn says(&self, head: u32) {
        self.told.head.store(head, Ordering::Relaxed);
    }
}

fn null() -> std::fs::File {
    std::fs::File::open("/dev/null").expect("there is one")
}

#[test]
fn br1_what_an_ended_bundle_had_selected_is_offered_again() {
    let mut rig = Rig::new(Consumption::Whole);
    for lap in 1..5 {
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.says(u32::from(lap) * 3);
        rig.complete(&bundle, -libc::ECANCELED, CqeFlags::empty());
        assert_eq!((rig.offered(), rig.asked()), (4 + lap * 3, lap.into()));
        assert_eq!(rig.buffers.leased(), 0);
        drop(rig.ring.try_take(bundle).expect("it has ended"));
    }
}

#[test]
fn br1_what_a_later_completion_passes_over_is_offered_again() {
    for used in [Consumption::Whole, Consumption::Incremental { min_left: 0 }] {
        let mut rig = Rig::new(used);
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.complete(&bundle, 16, named(2));
        assert_eq!((rig.offered(), rig.asked(), rig.buffers.leased()), (6, 0, 1));
        // A bundle of no buffer passes over nothing.
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.complete(&bundle, 16, named(9));
        assert_eq!((rig.offered(), rig.buffers.leased()), (6, 1));
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.complete(&bundle, 16, named(2));
        assert_eq!((rig.offered(), rig.buffers.leased()), (6, 1), "leased already");
        // The order is now that of offering: 3, 0, 1.
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.complete(&bundle, 16, named(0));
        assert_eq!((rig.offered(), rig.buffers.leased()), (7, 2));
    }
}

#[test]
fn br1_parts_of_what_is_passed_over_are_waited_for() {
    let mut rig = Rig::new(Consumption::Incremental { min_left: 0 });
    let part = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.goes_on(0, 6);
    rig.complete(&part, 6, named(0) | CqeFlags::BUF_MORE);
    let part = rig.ring.try_take(part).expect("it has ended").result.expect("data");
    // The kernel has given up the rest of the buffer, and reported nothing.
    let next = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&next, 6, named(1) | CqeFlags::BUF_MORE);
    assert_eq!((rig.offered(), rig.buffers.leased()), (4, 2), "a part of it is held");
    drop(part);
    assert_eq!((rig.offered(), rig.buffers.leased()), (5, 1));
}

#[test]
fn br1_a_part_begins_where_the_kernel_goes_on() {
    let mut rig = Rig::new(Consumption::Incremental { min_left: 0 });
    let part = rig.begin(RecvProvided::new(null(), &rig.buffers));
    // A worker thread has taken 8 bytes and filled 3.
    rig.goes_on(0, 8);
    rig.complete(&part, 3, named(0) | CqeFlags::BUF_MORE);
    let first = rig.ring.try_take(part).expect("it has ended").result.expect("it").expect("data");
    let part = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&part, 4, named(0) | CqeFlags::BUF_MORE);
    let second = rig.ring.try_take(part).expect("it has ended").result.expect("it").expect("data");
    assert_eq!(second.as_ptr().addr() - first.as_ptr().addr(), 8);
    assert_eq!((first.len(), second.len()), (3, 4));
}

#[test]
fn br1_a_buffer_is_given_up_when_the_kernel_says_so_too() {
    for (head, offered, leased) in [(0, 4, 0), (1, 5, 0), (u32::MAX, 4, 0)] {
        let mut rig = Rig::new(Consumption::Incremental { min_left: 0 });
        let part = rig.begin(RecvProvided::new(null(), &rig.buffers));
        rig.says(head);
        if head == 0 {
            rig.goes_on(0, 3);
        }
        // No further completion is announced, though there is room.
        rig.complete(&part, 3, named(0));
        let part = rig.ring.try_take(part).expect("it has ended").result.expect("it");
        assert_eq!((rig.asked(), rig.buffers.leased()), (1, 1));
        drop(part);
        assert_eq!((rig.offered(), rig.buffers.leased()), (offered, leased), "{head}");
        let next = rig.begin(RecvProvided::new(null(), &rig.buffers));
        let bid = if head == 0 { 0 } else { 1 };
        rig.complete(&next, 13, named(bid) | CqeFlags::BUF_MORE);
        let next = rig.ring.try_take(next).expect("it has ended").result.expect("it");
        assert_eq!(next.expect("data").len(), 13, "behind the 3, or in a buffer of its own");
    }
    // The ring does not ask about a full buffer.
    let mut rig = Rig::new(Consumption::Incremental { min_left: 0 });
    let part = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&part, 16, named(0));
    drop(rig.ring.try_take(part));
    assert_eq!((rig.asked(), rig.offered()), (0, 5));
}

#[test]
#[should_panic = "BR1: the kernel goes on before what it has filled"]
fn br1_a_kernel_that_goes_back_is_named() {
    let mut rig = Rig::new(Consumption::Incremental { min_left: 0 });
    rig.ring.set_drop_timeout(std::time::Duration::ZERO);
    let part = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&part, 3, named(0) | CqeFlags::BUF_MORE);
    let _ticket = rig.begin(RecvProvided::new(null(), &rig.buffers));
}

#[test]
fn br1_what_is_in_flight_may_name_what_was_selected() {
    let mut rig = Rig::new(Consumption::Whole);
    let forced = rig.begin(RecvProvided::new(null(), &rig.buffers).forced());
    let other = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.says(2);
    rig.complete(&forced, -libc::ECANCELED, CqeFlags::empty());
    assert_eq!((rig.offered(), rig.asked()), (4, 0), "the other may have selected them");
    rig.complete(&other, 16, named(1));
    assert_eq!((rig.offered(), rig.asked(), rig.buffers.leased()), (5, 1, 1), "that of `forced`");
    // Where the kernel does not say, it is asked once, and again at the next end without data.
    rig.says(u32::MAX);
    let forced = rig.begin(RecvProvided::new(null(), &rig.buffers).forced());
    let other = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&forced, -libc::ECANCELED, CqeFlags::empty());
    assert_eq!(rig.asked(), 1);
    rig.complete(&other, 16, named(2));
    assert_eq!((rig.offered(), rig.asked()), (5, 2));
    let filled = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&filled, 16, named(3));
    assert_eq!(rig.asked(), 2);
    let last = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&last, -libc::ENOBUFS, CqeFlags::empty());
    assert_eq!((rig.offered(), rig.asked()), (5, 3));
}

#[test]
fn br1_what_is_passed_over_among_others_waits_until_none_is_in_flight() {
    let mut rig = Rig::new(Consumption::Incremental { min_left: 0 });
    let slow = rig.begin(RecvMulti::new(null(), &rig.buffers));
    let quick = rig.begin(RecvMulti::new(null(), &rig.buffers));
    // The slow receive has selected buffer 0, and a worker thread is to fill it.
    rig.complete(&quick, 16, named(1) | CqeFlags::MORE);
    assert_eq!(rig.offered(), 5, "buffer 1 came, and went back since nobody took it: not buffer 0");
    rig.says(2);
    rig.complete(&quick, -libc::ECANCELED, CqeFlags::empty());
    assert_eq!((rig.offered(), rig.asked()), (5, 0));
    rig.complete(&slow, -libc::ECANCELED, CqeFlags::empty());
    assert_eq!((rig.offered(), rig.asked()), (6, 1));
    drop((rig.ring.try_take(slow), rig.ring.try_take(quick)));
}

/// Linux 6.16 and 6.17 name a buffer that they have not selected, and select it later.
#[test]
fn br1_what_a_failure_names_is_offered_again_if_the_kernel_has_selected_it() {
    let mut rig = Rig::new(Consumption::Whole);
    let failing = |rig: &mut Rig, head| {
        let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
        rig.says(head);
        rig.complete(&receive, -libc::EAGAIN, named(0));
        assert!(rig.ring.try_take(receive).expect("it has ended").result.is_err());
        rig.offered()
    };
    assert_eq!(failing(&mut rig, 0), 4, "the kernel has selected none");
    assert_eq!(failing(&mut rig, 1), 5, "it has selected that one");
    // A buffer that it had not selected belongs to the operation whose completion names it later.
    assert_eq!(failing(&mut rig, 4), 5, "buffer 0 is behind the others now");
    let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&receive, 3, named(0));
    let lease = rig.ring.try_take(receive).expect("it has ended").result.expect("data");
    assert_eq!(lease.expect("a buffer").len(), 3);
}

#[test]
fn br1_what_a_failure_names_among_others_waits_until_none_is_in_flight() {
    let mut rig = Rig::new(Consumption::Whole);
    let other = rig.begin(RecvProvided::new(null(), &rig.buffers));
    let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
    // The other receive may have selected it, and its completion may still come.
    rig.says(1);
    rig.complete(&receive, -libc::EAGAIN, named(0));
    drop(rig.ring.try_take(receive).expect("it has ended"));
    assert_eq!((rig.offered(), rig.buffers.leased()), (4, 0));
    rig.complete(&other, 3, named(0));
    let lease = rig.ring.try_take(other).expect("it has ended").result.expect("data");
    assert_eq!(lease.as_ref().expect("a buffer").len(), 3);
    drop(lease);
    assert_eq!(rig.offered(), 5, "once");
    // The other had not, and the failing one had: it is found when nothing is in flight.
    let other = rig.begin(RecvProvided::new(null(), &rig.buffers));
    let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.says(3);
    rig.complete(&receive, -libc::EINTR, named(1));
    drop(rig.ring.try_take(receive).expect("it has ended"));
    assert_eq!(rig.offered(), 5);
    rig.complete(&other, 3, named(2));
    assert_eq!(rig.offered(), 6, "though the last completion carried data");
    drop(rig.ring.try_take(other).expect("it has ended"));
    assert_eq!((rig.offered(), rig.buffers.leased()), (7, 0));
}

#[test]
fn br1_what_a_failure_names_is_believed_where_nothing_can_be_asked() {
    let mut rig = Rig::new(Consumption::Whole);
    rig.says(u32::MAX);
    let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&receive, -libc::EINTR, named(0));
    drop(rig.ring.try_take(receive).expect("it has ended"));
    assert_eq!((rig.offered(), rig.asked()), (5, 1), "Linux before 6.8");
    // Where the ring is restricted from asking, it does not know, and must not offer the buffer
    // twice.
    let mut rig = Rig::new(Consumption::Whole);
    rig.says(REFUSED);
    let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&receive, -libc::EINTR, named(0));
    drop(rig.ring.try_take(receive).expect("it has ended"));
    assert_eq!((rig.offered(), rig.buffers.leased()), (4, 0));
}

#[test]
fn br1_a_bundle_that_names_no_buffer_is_what_lies_at_the_front() {
    let mut rig = Rig::new(Consumption::Whole);
    let first = rig.begin(RecvBundle::new(null(), &rig.buffers));
    rig.complete(&first, 16, named(0));
    let first = rig.ring.try_take(first).expect("it has ended").result.expect("it").expect("data");
    for (head, some) in [(4, true), (3, false), (u32::MAX, false)] {
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.says(head);
        rig.complete(&bundle, 33, CqeFlags::empty());
        let result = rig.ring.try_take(bundle).expect("it has ended").result;
        assert_eq!(result.is_ok(), some, "{head}");
        if let Ok(bundle) = result {
            let bundle = bundle.expect("data");
            assert_eq!((bundle.bytes(), bundle.buffers(), rig.buffers.leased()), (33, 3, 4));
        }
    }
    assert_eq!((first.bytes(), rig.buffers.leased()), (16, 1));
    // A single buffer is named by its completion, or belongs to no operation.
    let one = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.says(8);
    rig.complete(&one, 16, CqeFlags::empty());
    assert!(rig.ring.try_take(one).expect("it has ended").result.is_err());
}

#[test]
fn nothing_is_asked_where_every_buffer_is_named() {
    let mut rig = Rig::new(Consumption::Whole);
    for result in [-libc::ENOBUFS, -libc::ECANCELED, 0] {
        let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
        rig.complete(&receive, result, CqeFlags::empty());
        drop(rig.ring.try_take(receive));
    }
    assert_eq!(rig.asked(), 0);
    // A kernel that does not answer is asked each time, and the ring concludes nothing.
    rig.says(u32::MAX);
    for asked in 1..4 {
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.complete(&bundle, -libc::ENOBUFS, CqeFlags::empty());
        drop(rig.ring.try_take(bundle));
        assert_eq!((rig.asked(), rig.offered()), (asked, 4));
    }
    let nop = rig.begin(Nop);
    rig.complete(&nop, 0, CqeFlags::empty());
}

#[test]
fn br1_a_success_that_names_no_buffer_is_no_end_of_the_stream() {
    let mut rig = Rig::new(Consumption::Whole);
    let held = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&held, 16, named(3));
    for flags in [CqeFlags::empty(), named(3), named(4), named(u16::MAX)] {
        let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
        rig.complete(&receive, 5, flags);
        let result = rig.ring.try_take(receive).expect("it has ended").result;
        assert!(result.expect_err("bytes came").to_string().contains("named nothing that is ours"));
        let bundle = rig.begin(RecvBundle::new(null(), &rig.buffers));
        rig.complete(&bundle, 5, flags);
        let result = rig.ring.try_take(bundle).expect("it has ended").result;
        assert!(result.expect_err("bytes came").to_string().contains("named nothing that is ours"));
    }
    let receive = rig.begin(RecvProvided::new(null(), &rig.buffers));
    rig.complete(&receive, 0, CqeFlags::empty());
    assert!(rig.ring.try_take(receive).expect("it has ended").result.expect("the end").is_none());
}
