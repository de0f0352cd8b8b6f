//! Requests on the kernel of this machine.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::io_uring::opcode::{Accept, Read, ReadMulti, Recv, Send, Timeout, Write};
use crate::io_uring::squeue::Flags;
use crate::io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use crate::io_uring::{EnterFlags, IoUring, Parameters, cqueue};
use crate::{nop, or_skip, ring, run, taken};

#[test]
fn what_is_written_is_read() {
    let mut ring = ring();
    let path = std::env::temp_dir().join(format!("annulus-compat-{}", std::process::id()));
    std::fs::write(&path, "").unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (text, mut buf) = (b"over and under", [0; 14]);
    let write = Write::new(Fd(file.as_raw_fd()), text.as_ptr(), 14).offset(3).build();
    assert_eq!(run(&mut ring, &write).result(), 14);
    let read = Read::new(Fd(file.as_raw_fd()), buf.as_mut_ptr(), 14).offset(3).build();
    assert_eq!(run(&mut ring, &read).result(), 14);
    assert_eq!(&buf, text);
    let read = Read::new(Fd(-1), buf.as_mut_ptr(), 14).build();
    assert_eq!(run(&mut ring, &read).result(), -libc::EBADF);
}

#[test]
fn an_echo_answers() {
    let mut ring = ring();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let none = std::ptr::null_mut();
    let accept = Accept::new(Fd(listener.as_raw_fd()), none, none.cast()).build();
    let server = run(&mut ring, &accept).result();
    assert!(server > 0, "{server}");
    let mut buf = [0; 32];
    for text in ["one", "two and three"] {
        client.write_all(text.as_bytes()).unwrap();
        let count = run(&mut ring, &Recv::new(Fd(server), buf.as_mut_ptr(), 32).build()).result();
        assert_eq!(usize::try_from(count), Ok(text.len()));
        let len = count.cast_unsigned();
        run(&mut ring, &Send::new(Fd(server), buf.as_ptr(), len).build());
        let mut answer = vec![0; text.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text.as_bytes());
    }
    // SAFETY: the connection's own descriptor, which nobody else closes.
    unsafe { libc::close(server) };
}

#[test]
fn times_end_with_etime() {
    let mut ring = ring();
    let span = Timespec::from(Duration::from_millis(20));
    let start = Instant::now();
    assert_eq!(run(&mut ring, &Timeout::new(&raw const span).build()).result(), -libc::ETIME);
    assert!(start.elapsed() >= Duration::from_millis(20));

    let args = SubmitArgs::new().timespec(&span);
    let answer = ring.submitter().submit_with_args(1, &args);
    assert_eq!(answer.unwrap_err().raw_os_error(), Some(libc::ETIME));
    let far = ring.submitter().submit_with_args_and_flags(1, &args, EnterFlags::SQ_WAKEUP);
    assert_eq!(far.unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

/// The stock crate says that a mask has 128 bytes, which the kernel refuses.
#[test]
fn a_wait_takes_a_signal_mask() {
    let mut ring = ring();
    // SAFETY: nothing but numbers, which zeroes are.
    let mut mask: libc::sigset_t = unsafe { std::mem::MaybeUninit::zeroed().assume_init() };
    // SAFETY: a live mask, which it writes.
    unsafe { libc::sigemptyset(&raw mut mask) };
    let span = Timespec::new().nsec(1_000_000);
    let args = SubmitArgs::new().sigmask(&mask).timespec(&span);
    let answer = ring.submitter().submit_with_args(1, &args);
    assert_eq!(answer.unwrap_err().raw_os_error(), Some(libc::ETIME));
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.submission().push(&nop(3)) }.unwrap();
    assert_eq!(ring.submitter().submit_with_args(1, &args).unwrap(), 1);
    assert_eq!(taken(&mut ring), [3]);
}

/// The stock crate asks for no completions there, so none ever comes without a wait.
#[test]
fn cq5_a_submission_posts_what_was_deferred() {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    let Some(mut ring) = or_skip(builder.build(8), "DEFER_TASKRUN") else { return };
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut buf = [0; 4];
    let recv = Recv::new(Fd(far.as_raw_fd()), buf.as_mut_ptr(), 4).build().user_data(5);
    // SAFETY: the buffer and the socket live until the completion was taken (OP1).
    unsafe { ring.submission().push(&recv) }.unwrap();
    assert_eq!(ring.submit().unwrap(), 1);
    near.write_all(b"text").unwrap();
    assert_eq!(ring.submit().unwrap(), 0);
    assert_eq!(taken(&mut ring), [5]);
    assert_eq!(&buf, b"text");
}

/// The kernel keeps what finds the queue full, and posts it when it is asked.
#[test]
fn cq5_completions_that_overflow_are_fetched() {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(8);
    let mut ring = builder.build(8).unwrap();
    if !ring.params().is_feature_nodrop() {
        return eprintln!("skipped: this kernel drops completions (Linux 5.5)");
    }
    for round in 0..3 {
        for at in 0..8 {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.submission().push(&nop(8 * round + at)) }.unwrap();
        }
        ring.submit().unwrap();
    }
    assert!(ring.submission().cq_overflow());
    let mut all = taken(&mut ring);
    for _ in 0..8 {
        ring.submit().unwrap();
        all.extend(taken(&mut ring));
    }
    assert_eq!(all, (0..24).collect::<Vec<_>>());
}

/// The polling thread is woken when it sleeps, and left alone when it does not.
#[test]
fn sq5_a_polling_thread_consumes() {
    let mut builder = IoUring::builder();
    builder.setup_sqpoll(1);
    let Some(mut ring) = or_skip(builder.build(8), "SQPOLL") else { return };
    assert!(ring.params().is_setup_sqpoll());
    let span = Timespec::new().sec(10);
    let at_most = SubmitArgs::new().timespec(&span);
    for round in 0..20 {
        if round % 5 == 0 {
            std::thread::sleep(Duration::from_millis(20)); // Until it sleeps.
        }
        let mut sq = ring.submission();
        // SAFETY: a NOP points to nothing (OP1).
        while unsafe { sq.push(&nop(round)) }.is_err() {
            std::thread::yield_now();
        }
        drop(sq);
        // Not forever, if nobody wakes it.
        ring.submitter().submit_with_args(1, &at_most).unwrap();
        assert_eq!(taken(&mut ring), [round]);
    }
    let mut sq = ring.submission();
    for at in 0..8 {
        // SAFETY: likewise (OP1).
        unsafe { sq.push(&nop(at)) }.unwrap();
    }
    sq.sync();
    drop(sq);
    ring.submitter().submit_with_args(8, &at_most).unwrap();
    ring.submitter().squeue_wait().unwrap();
    assert_eq!(taken(&mut ring).len(), 8);
}

/// In the stock crate before 0.7.15, it read from the descriptor with the number of the index.
#[test]
fn a_multishot_read_uses_the_registered_file() {
    let mut ring = ring();
    let (reader, mut writer) = io::pipe().unwrap();
    ring.submitter().register_files(&[reader.as_raw_fd()]).unwrap();
    let read = ReadMulti::new(Fixed(0), 0, 1).build();
    writer.write_all(b"x").unwrap();
    let result = run(&mut ring, &read).result();
    if result == -libc::EINVAL {
        return eprintln!("skipped: this kernel has no multishot read (Linux 6.7)");
    }
    assert_eq!(result, -libc::ENOBUFS, "the group is empty");
}

#[test]
fn a_link_runs_in_its_order_and_ends_where_it_fails() {
    let mut ring = ring();
    let fails = Read::new(Fd(-1), std::ptr::null_mut(), 0).build().flags(Flags::IO_LINK);
    let entries = [nop(0).flags(Flags::IO_LINK), fails.user_data(1), nop(2)];
    // SAFETY: nothing is pointed to (OP1).
    unsafe { ring.submission().push_multiple(&entries) }.unwrap();
    ring.submit_and_wait(3).unwrap();
    let mut results: Vec<_> =
        ring.completion().map(|cqe| (cqe.user_data(), cqe.result())).collect();
    results.sort_unstable();
    assert_eq!(results, [(0, 0), (1, -libc::EBADF), (2, -libc::ECANCELED)]);
}

#[test]
fn a_ring_is_taken_over_by_its_descriptor() {
    // All zeroes ask for the kernel's defaults.
    let mut params: [u32; 30] = [0; 30];
    let (call, pointer) = (libc::SYS_io_uring_setup, params.as_mut_ptr());
    // SAFETY: `params` is as large as the kernel's struct.
    let fd = i32::try_from(unsafe { libc::syscall(call, 4, pointer) }).unwrap();
    // SAFETY: laid out as the kernel's struct, which the kernel has filled in.
    let params: Parameters = unsafe { params.as_ptr().cast::<Parameters>().read_unaligned() };
    // SAFETY: a new ring, which is ours.
    let mut ring = unsafe { IoUring::from_fd(fd, params) }.unwrap();
    assert_eq!((ring.as_raw_fd(), ring.params().sq_entries()), (fd, 4));
    let cqe: cqueue::Entry = run(&mut ring, &nop(11));
    assert_eq!((cqe.user_data(), cqe.result(), cqe.flags()), (11, 0, 0));
}
