//! Each rule that a program breaks is reported, with its name; so is a wait that can never end.
//!
//! The programs use the raw API, which lets them break the rules.

use std::os::fd::{AsRawFd, OwnedFd};

use annulus::sim::Sim;
use annulus::sys::abi::Sqe;
use annulus::sys::abi_register::BufReg;
use annulus::sys::flags::SqeFlags;
use annulus::sys::flags_register::PbufRingFlags;
use annulus::sys::groups::{Group, RingMemory};
use annulus::sys::index::Entries;
use annulus::{EnterCause, RawRing, Setup, prep};

use super::unmapped::Unmapped;

struct Bench {
    sim: Sim,
    ring: RawRing,
    reader: OwnedFd,
    writer: OwnedFd,
    buf: Box<[u8; 64]>,
}

impl Bench {
    fn new() -> Self {
        let sim = Sim::new(3);
        let ring = Setup::plain(4).kernel(sim.kernel()).build_raw().expect("a ring");
        let (reader, writer) = sim.pipe().expect("descriptors");
        Self { sim, ring, reader, writer, buf: Box::new([1; 64]) }
    }

    fn push(&mut self, sqe: Sqe) {
        // SAFETY: `buf` lives as long as the bench; a test that writes to it breaks OP1 on purpose.
        unsafe { self.ring.push(sqe) }.expect("room");
    }

    fn addr(&mut self) -> u64 {
        self.buf.as_mut_ptr().expose_provenance() as u64
    }

    /// A read that waits.
    fn read(&mut self) {
        let addr = self.addr();
        self.push(Sqe { user_data: 7, ..prep::read(self.reader.as_raw_fd(), addr, 64, 0) });
        self.ring.submit().expect("no fault");
    }

    /// What the kernel says is broken, once it has looked.
    fn broken(&self) -> String {
        self.sim.report().broken.join("; ")
    }
}

#[test]
fn op1_a_write_to_the_buffer_of_a_read_in_flight_is_reported() {
    let mut bench = Bench::new();
    bench.read();
    assert_eq!(bench.broken(), "");
    bench.buf[10] = 5;
    assert!(bench.broken().starts_with("OP1: memory of #1 READ"), "{}", bench.broken());
}

#[test]
fn op1_a_change_of_what_is_being_written_is_reported() {
    let mut bench = Bench::new();
    while bench.sim.write(&bench.writer, &[0; 4096]).is_ok() {}
    let addr = bench.addr();
    let write = prep::write(bench.writer.as_raw_fd(), addr, 64, 0);
    bench.push(write);
    bench.ring.submit().expect("no fault");
    bench.buf[63] = 5;
    assert!(bench.broken().starts_with("OP1: memory of #1 WRITE"), "{}", bench.broken());
}

#[test]
fn op1_a_buffer_is_poison_while_the_kernel_has_it_and_whole_again_when_it_is_back() {
    let mut bench = Bench::new();
    bench.read();
    assert_eq!(*bench.buf, [0xDD; 64]);
    bench.sim.write(&bench.writer, b"four").expect("room");
    bench.ring.wait(1).expect("it comes");
    assert_eq!(bench.ring.pop().map(|cqe| cqe.res), Some(4));
    assert_eq!(bench.buf[..6], *b"four\x01\x01");
    bench.sim.check();
}

#[test]
fn op2_a_user_data_that_names_two_requests_is_reported() {
    let mut bench = Bench::new();
    bench.read();
    bench.push(Sqe { user_data: 7, ..prep::nop() });
    bench.ring.submit().expect("no fault");
    assert!(bench.broken().starts_with("OP2: #2 NOP"), "{}", bench.broken());
}

#[test]
fn rg1_memory_that_changes_after_the_ring_was_closed_is_reported() {
    let mut bench = Bench::new();
    bench.read();
    drop(std::mem::replace(
        &mut bench.ring,
        Setup::plain(4).kernel(bench.sim.kernel()).build_raw().expect("a ring"),
    ));
    bench.buf[0] = 9;
    assert!(bench.broken().starts_with("RG1: memory of #1 READ"), "{}", bench.broken());
}

#[test]
fn br1_buffers_that_are_offered_twice_or_written_are_reported() {
    for is_twice in [true, false] {
        let mut bench = Bench::new();
        let entries = Entries::new(4).expect("a power of two");
        let (base, none) = (bench.ring.base(), PbufRingFlags::empty());
        let group = Group::register(base, 5, entries, RingMemory::User, none);
        let mut group = group.expect("a group");
        let mut memory = Box::new([0_u8; 32]);
        let addr = memory.as_mut_ptr().expose_provenance() as u64;
        for at in 0..2 {
            let bid = if is_twice { 1 } else { at };
            // SAFETY: the group lives to the end of the loop, and no child is forked.
            let ring = unsafe { group.ring() };
            // SAFETY: the memory outlives the ring; the rest is broken on purpose (BR1).
            unsafe { ring.push(addr + 16 * u64::from(at), 16, bid) }.expect("room");
            ring.flush();
        }
        let first = bench.broken();
        assert_eq!(first.starts_with("BR1: buffer 1 is offered twice"), is_twice, "{first}");
        if !is_twice {
            memory[3] = 8;
            let (ours, theirs) = bench.sim.socket_pair().expect("descriptors");
            bench.sim.write(&theirs, b"x").expect("room");
            let flags = annulus::sys::flags::RecvSendFlags::empty();
            bench.push(prep::recv_provided(ours.as_raw_fd(), 0, 5, 0, flags));
            bench.ring.submit().expect("no fault");
            assert!(bench.broken().starts_with("BR1: buffer 0 of group 5"), "{}", bench.broken());
        }
    }
}

#[test]
fn a_wait_that_cannot_end_is_an_error_with_what_is_in_flight() {
    let mut bench = Bench::new();
    bench.read();
    let error = bench.ring.wait(1).expect_err("nobody writes");
    let EnterCause::Other(errno) = error.cause else { panic!("{error}") };
    assert_eq!(errno.raw(), libc::EDEADLK);
    let report = bench.sim.report();
    assert_eq!(report.stalls, [["#1 READ of 64 bytes, Begun".to_owned()]]);
    assert!(report.is_clean() && !report.is_settled());
    let text = report.to_string();
    assert!(text.contains("again: run the program on `Sim::with_faults(3, faults)`"), "{text}");
}

#[test]
fn what_was_not_taken_and_what_is_in_flight_is_counted() {
    let mut bench = Bench::new();
    bench.read();
    bench.push(prep::nop());
    bench.ring.submit().expect("no fault");
    let report = bench.sim.report();
    assert_eq!((report.in_flight.len(), report.untaken, report.abandoned), (1, 1, 0));
    drop(bench.ring);
    let report = bench.sim.report();
    assert_eq!((report.in_flight.len(), report.untaken, report.abandoned), (0, 0, 1));
    assert!(report.is_clean() && !report.is_settled());
}

#[test]
fn what_the_kernel_does_not_know_is_refused() {
    let mut bench = Bench::new();
    let addr = bench.addr();
    let fd = bench.reader.as_raw_fd();
    let select = SqeFlags::BUFFER_SELECT;
    let entries = [
        (Sqe { op_flags: 1, ..prep::read(fd, addr, 8, 0) }, -libc::EINVAL),
        (Sqe { opcode: annulus::sys::opcode::Opcode::EPOLL_CTL, ..Sqe::ZERO }, -libc::EINVAL),
        (Sqe { flags: select, ..prep::nop() }, -libc::EOPNOTSUPP),
        (Sqe { flags: SqeFlags::from_bits_retain(0x80), ..prep::nop() }, -libc::EINVAL),
        (prep::read(-1, addr, 8, 0), -libc::EBADF),
    ];
    for (sqe, res) in entries {
        bench.push(sqe);
        bench.ring.submit_and_wait(1).expect("no fault");
        assert_eq!(bench.ring.pop().map(|cqe| cqe.res), Some(res), "{sqe:?}");
    }
    let mut reg = BufReg { ring_entries: 3, ..BufReg::default() };
    let op = annulus::sys::opcode::RegisterOp::PBUF_RING;
    // SAFETY: a live `struct io_uring_buf_reg`, which is refused.
    let made = unsafe { bench.ring.base().register(op, (&raw mut reg).cast(), 1) };
    assert_eq!(made.map_err(|errno| errno.raw()), Err(libc::EINVAL));
    let unknown = annulus::sys::flags::SetupFlags::from_bits_retain(1 << 30);
    let other = Setup::plain(4).with(unknown);
    assert!(other.kernel(bench.sim.kernel()).build_raw().is_err());
    bench.sim.check();
}

#[test]
fn op1_rg1_a_registered_buffer_that_is_written_in_flight_or_unmapped_is_reported() {
    for unmaps in [false, true] {
        let mut bench = Bench::new();
        let map = Unmapped::new(4096);
        let start = map.memory().cast::<u8>();
        let mut iovec = libc::iovec { iov_base: start.as_ptr().cast(), iov_len: 4096 };
        let op = annulus::sys::opcode::RegisterOp::BUFFERS;
        let base = bench.ring.base();
        // SAFETY: a live iovec; that its memory goes is what the test is for (RG1).
        let made = unsafe { base.register(op, (&raw mut iovec).cast(), 1) };
        assert_eq!(made, Ok(0));
        let addr = start.as_ptr().expose_provenance() as u64;
        bench.push(prep::read_fixed(bench.reader.as_raw_fd(), addr, 64, 0, 0));
        if unmaps {
            // SAFETY: no code uses it any more; the kernel still has it, on purpose (RG1).
            unsafe { map.unmap() };
            bench.ring.submit().expect("no fault");
            let broken = bench.broken();
            assert!(broken.starts_with("RG1: memory is registered, and not mapped"), "{broken}");
        } else {
            bench.ring.submit().expect("no fault");
            assert_eq!(bench.broken(), "");
            // SAFETY: the start of this test's map; the kernel still has it, on purpose (OP1).
            unsafe { start.write(1) };
            assert!(bench.broken().starts_with("OP1: memory of #1 READ_FIXED"));
        }
    }
}
