//! What the older interface for asynchronous reads does with an empty pipe, and what a ring does.
#![allow(unsafe_code, reason = "calls io_setup, io_submit, io_getevents and io_destroy")]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use annulus::Setup;
use annulus::op::Read;

use crate::ring;

/// `struct iocb`, of which a read (`IOCB_CMD_PREAD`, 0) uses three fields.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    addr: u64,
    len: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    iocb: u64,
    result: i64,
    result2: i64,
}

/// The context of `io_setup(2)`, or a reason on stderr.
fn context() -> Option<libc::c_ulong> {
    let mut context: libc::c_ulong = 0;
    // SAFETY: the call writes one word, which is ours and live.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, 4, &raw mut context) };
    if made == 0 { Some(context) } else { skipped("io_setup") }
}

fn skipped<T>(call: &str) -> Option<T> {
    eprintln!("skipped: {call}: {}", std::io::Error::last_os_error());
    None
}

// ANCHOR: waits
#[test]
fn aio_waits_within_submit_where_a_ring_does_not() {
    let Some(context) = context() else { return };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut byte = 0_u8;
    let addr = std::ptr::from_mut(&mut byte).expose_provenance() as u64;
    let fd = reader.as_raw_fd().cast_unsigned();
    let mut read = Iocb { fd, addr, len: 1, ..Iocb::default() };
    let list = [std::ptr::from_mut(&mut read).expose_provenance()];
    let submitted = thread::scope(|scope| {
        // SAFETY: the list, what it names and the byte live until the event is taken below, because
        // they are this function's own.
        let submit = || unsafe { libc::syscall(libc::SYS_io_submit, context, 1, list.as_ptr()) };
        let submit = scope.spawn(submit);
        thread::sleep(Duration::from_millis(200));
        assert!(!submit.is_finished(), "the pipe is empty, and the call has not returned");
        writer.write_all(b"x").expect("room in the pipe");
        submit.join().expect("no panic")
    });
    assert_eq!(submitted, 1);
    assert_eq!(event(context).result, 1);

    let Some(mut ring) = ring(Setup::new(4)) else { return };
    let ticket = ring.submit(Read::new(reader, vec![0])).expect("room");
    ring.submit_all().expect("it is taken, and the pipe is empty");
    writer.write_all(b"y").expect("room in the pipe");
    assert_eq!(ring.wait(ticket).expect("it goes on").ok().expect("a byte"), (1, vec![b'y']));
}
// ANCHOR_END: waits

/// The one event of a context, which ends here.
fn event(context: libc::c_ulong) -> Event {
    let mut event = Event::default();
    let no_limit = std::ptr::null::<libc::timespec>();
    let call = libc::SYS_io_getevents;
    // SAFETY: there is room for one event, because `event` is ours and live.
    let taken = unsafe { libc::syscall(call, context, 1, 1, &raw mut event, no_limit) };
    assert_eq!(taken, 1);
    // SAFETY: takes a number only; nothing is in flight there.
    unsafe { libc::syscall(libc::SYS_io_destroy, context) };
    event
}
