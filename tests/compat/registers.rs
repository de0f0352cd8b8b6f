//! Register calls.

use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use crate::io_uring::opcode::{Nop, Read, ReadFixed, Recv};
use crate::io_uring::register::{Restriction, SKIP_FILE};
use crate::io_uring::types::{CancelBuilder, Fd, Fixed, Timespec, io_uring_zcrx_ifq_reg};
use crate::io_uring::{IoUring, Probe};
use crate::{nop, or_skip, ring, run, taken};

#[test]
fn a_probe_knows_the_operations_again_and_again() {
    let (ring, mut probe) = (ring(), Probe::new());
    for _ in 0..2 {
        if or_skip(ring.submitter().register_probe(&mut probe), "probe (Linux 5.6)").is_none() {
            return;
        }
        assert!(probe.is_supported(Nop::CODE) && !probe.is_supported(255));
    }
    assert!(format!("{probe:?}").starts_with("{NOP, READV"), "{probe:?}");
}

#[test]
fn registered_files_and_buffers_are_used() {
    let mut ring = ring();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let submitter = ring.submitter();
    submitter.register_files(&[-1, -1, file.as_raw_fd()]).unwrap();
    assert_eq!(submitter.register_files_update(0, &[file.as_raw_fd(), SKIP_FILE]).unwrap(), 2);
    let mut memory = vec![0_u8; 4096];
    let buffers = [libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: 4096 }];
    // SAFETY: the memory lives until it is unregistered below (RG1).
    unsafe { submitter.register_buffers(&buffers) }.unwrap();
    for index in [0, 2] {
        let read = ReadFixed::new(Fixed(index), memory.as_mut_ptr(), 4, 0).build();
        assert_eq!(run(&mut ring, &read).result(), 4);
        assert_eq!(&memory[..4], b"\x7fELF");
    }
    let read = Read::new(Fixed(1), memory.as_mut_ptr(), 4).build();
    assert_eq!(run(&mut ring, &read).result(), -libc::EBADF);
    ring.submitter().unregister_buffers().unwrap();
    ring.submitter().unregister_files().unwrap();
    let twice = ring.submitter().unregister_files();
    assert_eq!(twice.unwrap_err().raw_os_error(), Some(libc::ENXIO));
}

/// In the stock crate each submitter that is dropped leaks one of a thread's 16 places.
#[test]
fn a_thread_needs_one_place_for_a_ring_however_often_it_asks() {
    let mut ring = ring();
    for number in 0..40 {
        let mut submitter = ring.submitter();
        let registered = submitter.register_ring_fd();
        if or_skip(registered, "registered rings (Linux 5.18)").is_none() {
            return;
        }
        assert_eq!(submitter.register_ring_fd().unwrap_err().raw_os_error(), Some(libc::EEXIST));
        // SAFETY: the only submission queue.
        let mut sq = unsafe { ring.submission_shared() };
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { sq.push(&nop(number)) }.unwrap();
        drop(sq);
        assert_eq!(submitter.submit_and_wait(1).unwrap(), 1);
        if number % 2 == 0 {
            submitter.unregister_ring_fd().unwrap();
            let twice = submitter.unregister_ring_fd();
            assert_eq!(twice.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
        assert_eq!(taken(&mut ring), [number]);
    }
    // Dropped rings give their places back: more than 16 on one thread.
    for _ in 0..40 {
        crate::ring().submitter().register_ring_fd().unwrap();
    }
}

#[test]
fn an_eventfd_tells_until_it_is_silenced() {
    let mut ring = ring();
    // SAFETY: a new descriptor, which is closed at the end.
    let eventfd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
    let count = || {
        let mut count = 0_u64;
        // SAFETY: a live number of 8 bytes, as an eventfd gives.
        unsafe { libc::read(eventfd, (&raw mut count).cast(), 8) };
        count
    };
    ring.submitter().register_eventfd(eventfd).unwrap();
    run(&mut ring, &nop(0));
    assert_eq!(count(), 1);
    ring.completion().disable_eventfd();
    assert!(ring.completion().eventfd_disabled());
    run(&mut ring, &nop(0));
    assert_eq!(count(), 0);
    ring.completion().enable_eventfd();
    assert!(!ring.completion().eventfd_disabled());
    run(&mut ring, &nop(0));
    assert_eq!(count(), 1);
    ring.submitter().unregister_eventfd().unwrap();
    // SAFETY: ours, and nobody uses it again.
    unsafe { libc::close(eventfd) };
}

#[test]
fn a_restricted_ring_does_what_it_may() {
    let mut builder = IoUring::builder();
    builder.setup_r_disabled();
    let Some(mut ring) = or_skip(builder.build(4), "disabled rings (Linux 5.10)") else { return };
    assert_eq!(ring.submit().unwrap_err().raw_os_error(), Some(libc::EBADFD));
    let mut only = [Restriction::sqe_op(Nop::CODE), Restriction::register_op(12)];
    ring.submitter().register_restrictions(&mut only).unwrap();
    ring.submitter().register_enable_rings().unwrap();
    assert_eq!(run(&mut ring, &nop(1)).result(), 0);
    let read = Read::new(Fd(0), std::ptr::null_mut(), 0).build();
    assert_eq!(run(&mut ring, &read).result(), -libc::EACCES);
}

#[test]
fn a_request_is_cancelled_at_once() {
    let mut ring = ring();
    let (_near, far) = UnixStream::pair().unwrap();
    let mut buf = [0; 4];
    let recv = Recv::new(Fd(far.as_raw_fd()), buf.as_mut_ptr(), 4).build().user_data(5);
    // SAFETY: the buffer and the socket live until the completion was taken (OP1).
    unsafe { ring.submission().push(&recv) }.unwrap();
    ring.submit().unwrap();
    let (second, five) = (Some(Timespec::new().sec(1)), CancelBuilder::user_data(5));
    let cancelled = ring.submitter().register_sync_cancel(second, five);
    if or_skip(cancelled, "cancel at once (Linux 6.0)").is_none() {
        (&_near).write_all(b"text").unwrap();
    }
    ring.submit_and_wait(1).unwrap();
    assert_eq!(taken(&mut ring), [5]);
    let none = ring.submitter().register_sync_cancel(None, CancelBuilder::user_data(6));
    assert!(none.is_err());
}

/// The stock crate lets the kernel write through the shared reference.
#[test]
fn a_receive_queue_is_not_registered_by_a_shared_reference() {
    let (ring, queue) = (ring(), io_uring_zcrx_ifq_reg::default());
    let refused = ring.submitter().register_ifq(&queue).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
    assert!(refused.to_string().contains("register_ifq_mut"));
}

#[test]
fn the_rest_answers_as_the_kernel_does() {
    let ring = ring();
    let submitter = ring.submitter();
    if let Some(id) = or_skip(submitter.register_personality(), "personality (Linux 5.6)") {
        submitter.unregister_personality(id).unwrap();
        assert!(submitter.unregister_personality(id).is_err());
    }
    let mut limits = [0; 2];
    let limited = submitter.register_iowq_max_workers(&mut limits);
    if or_skip(limited, "limits of workers (Linux 5.15)").is_some() {
        assert!(limits.iter().all(|&limit| limit > 0), "{limits:?}");
    }
    if or_skip(submitter.register_files_sparse(4), "sparse tables (Linux 5.19)").is_some() {
        submitter.register_buffers_sparse(4).unwrap();
        submitter.unregister_buffers().unwrap();
    }
    assert!(submitter.unregister_buf_ring(9).is_err());
    assert!(submitter.register_eventfd(-1).is_err());
}
