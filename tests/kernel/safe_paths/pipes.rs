//! Pipes that a ring makes, and descriptors of files in its table, safe API.
#![allow(unsafe_code, reason = "asks the C library what the standard library does not")]

use std::fs::{File, read_dir};
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::{AsFd, AsRawFd};

use annulus::op::{Cwd, How, InstallFd, Nop, Op, OpenAt2, Pipe, PipeDirect, Read, Splice, Write};
use annulus::sys::opcode::Opcode;
use annulus::{Rejection, Ring};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, child_succeeds, test};
use crate::safe_files::{errno, memory, run, small};

const PIPE: Need = Need::Op(Opcode::PIPE);
const INSTALL: Need = Need::Op(Opcode::FIXED_FD_INSTALL);
/// Since Linux 5.19, as tables that the kernel fills.
const REGISTERED: Need = Need::Op(Opcode::SOCKET);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_pipe_is_made_and_carries_bytes", &[PIPE], carries),
        test("a_pipe_of_packets_keeps_them_apart", &[PIPE], packets),
        test("a_pipe_that_does_not_wait_says_so", &[PIPE], non_block),
        test("a_pipe_in_the_table_carries_bytes", &[PIPE], in_table),
        test("op3_a_pipe_that_does_not_fit_the_table_leaves_no_half", &[PIPE], full_table),
        test("op3_a_pipe_in_the_table_that_is_not_taken_is_closed", &[PIPE], in_table_for_nobody),
        test("a_pipe_in_the_table_of_another_ring_is_refused", &[PIPE], foreign),
        test("op3_pipes_that_are_not_taken_are_closed", &[PIPE], || {
            child_succeeds("pipes that are not taken leave nothing")
        }),
        test("a_process_without_descriptors_is_told", &[PIPE, INSTALL], || {
            child_succeeds("no more descriptors")
        }),
        test("a_file_of_the_table_gets_a_descriptor", &[INSTALL], install),
        test("a_descriptor_stays_open_on_exec_if_so_asked", &[INSTALL], keep_on_exec),
        test("a_file_of_another_table_gets_no_descriptor", &[INSTALL], install_foreign),
        test("a_path_within_bounds_is_opened_in_the_table", &[REGISTERED], openat2),
    ]
}

/// Whether a descriptor is closed on exec.
fn is_closed_on_exec(fd: &impl AsFd) -> bool {
    // SAFETY: takes numbers only, because `fcntl(2)` says so of `F_GETFD`.
    let flags = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFD) };
    assert!(flags >= 0);
    flags & libc::FD_CLOEXEC != 0
}

/// The flags with which a file is open.
fn status(fd: &impl AsFd) -> i32 {
    // SAFETY: takes numbers only, because `fcntl(2)` says so of `F_GETFL`.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) }
}

fn carries() -> Result<(), Failed> {
    let mut ring = small();
    let (mut reader, mut writer) = run(&mut ring, Pipe::new())?;
    assert!(is_closed_on_exec(&reader) && is_closed_on_exec(&writer));
    writer.write_all(b"through")?;
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    assert_eq!(text, "through");
    Ok(())
}

fn packets() -> Result<(), Failed> {
    let mut ring = small();
    let (mut reader, mut writer) = run(&mut ring, Pipe::new().packets())?;
    writer.write_all(b"one")?;
    writer.write_all(b"two")?;
    let mut text = [0; 6];
    assert_eq!(reader.read(&mut text)?, 3);
    assert_eq!(reader.read(&mut text[3..])?, 3);
    assert_eq!(&text, b"onetwo");
    Ok(())
}

fn non_block() -> Result<(), Failed> {
    let mut ring = small();
    let (mut reader, writer) = run(&mut ring, Pipe::new().non_block())?;
    assert_eq!(status(&writer) & libc::O_NONBLOCK, libc::O_NONBLOCK);
    let nothing = reader.read(&mut [0; 1]).expect_err("nobody has written");
    assert_eq!(nothing.raw_os_error(), Some(libc::EAGAIN));
    Ok(())
}

fn in_table() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(2)?;
    let (reader, writer) = run(&mut ring, Pipe::new().direct(&table))?;
    assert_eq!(table.held(), 2);
    let write = run(&mut ring, Write::new(writer, "by number"));
    assert_eq!(write.result?, 9);
    let moved = run(&mut ring, Splice::new(reader, memory(b""), 9).to_at(0));
    assert_eq!(moved.result?, 9);
    let mut text = [0; 9];
    let read = run(&mut ring, Read::new(moved.fd.1, [0; 9]).at(0));
    text.copy_from_slice(&read.buf);
    assert_eq!(&text, b"by number");
    drop((write.fd, moved.fd.0));
    assert_eq!(table.held(), 0);
    Ok(())
}

fn full_table() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(3)?;
    let first = run(&mut ring, Pipe::new().direct(&table))?;
    let refused = run(&mut ring, Pipe::new().direct(&table));
    assert_eq!(refused.expect_err("one is left").raw_os_error(), Some(libc::ENFILE));
    assert_eq!((table.held(), table.lost()), (2, 0));
    let last = table.insert(&mut ring, std::io::stdin())?;
    drop((first, last));
    run(&mut ring, Pipe::new().direct(&table))?;
    Ok(())
}

/// Detaches `op` once it has been submitted, and waits for an entry after it: `op` is done then,
/// since the kernel makes pipes while it submits.
fn give_up<O: Op + 'static>(ring: &mut Ring, op: O) {
    let ticket = ring.submit(op).map_err(|rejected| rejected.why).expect("room");
    ring.detach(ticket);
    run(ring, Nop).expect("it does nothing");
}

fn in_table_for_nobody() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(2)?;
    for _ in 0..3 {
        give_up(&mut ring, Pipe::new().direct(&table));
        assert_eq!((table.held(), table.lost()), (0, 0));
    }
    run(&mut ring, Pipe::new().direct(&table))?;
    Ok(())
}

fn foreign() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let table = other.file_table(2)?;
    let refused = ring.submit(Pipe::new().direct(&table)).map(drop);
    assert_eq!(refused.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    let pipe: PipeDirect = Pipe::new().direct(&table);
    run(&mut other, pipe)?;
    Ok(())
}

fn descriptors() -> usize {
    read_dir("/proc/self/fd").expect("they are listed").count()
}

/// In a process of its own, since descriptors are counted.
pub fn for_nobody() {
    let mut ring = small();
    let before = descriptors();
    for _ in 0..5 {
        give_up(&mut ring, Pipe::new());
    }
    assert_eq!(descriptors(), before);
    let (silent, writer) = pipe().expect("a pipe");
    // A pipe that is never made, because its entry is cancelled together with the one before it.
    let read = Read::new(silent, [0; 1]);
    let tickets = ring.submit_chain((read, Pipe::new())).map_err(|rejected| rejected.why);
    let (read, made) = tickets.expect("room").into_tickets();
    ring.submit_all().expect("submit");
    ring.cancel(&read).expect("cancel");
    let made = ring.wait(made).expect("wait").expect_err("never began");
    assert_eq!(made.raw_os_error(), Some(libc::ECANCELED));
    drop((ring.wait(read), writer));
    assert_eq!(descriptors(), before);
    // Pipes whose tickets are not redeemed when the ring is dropped.
    for _ in 0..3 {
        drop(ring.submit(Pipe::new()).map_err(|rejected| rejected.why).expect("room"));
    }
    ring.submit_all().expect("submit");
    drop(ring);
    assert_eq!(descriptors(), before - 1, "the ring's own is gone, and nothing else came");
}

/// In a process of its own, whose limit is lowered.
pub fn no_more_descriptors() {
    let mut ring = small();
    let table = ring.file_table(2).expect("a table");
    let file = table.insert(&mut ring, memory(b"text")).expect("a place");
    // All numbers below the limit are taken; so there is no other.
    let next = memory(b"").as_raw_fd();
    let limit = libc::rlimit { rlim_cur: next.cast_unsigned().into(), rlim_max: 4096 };
    // SAFETY: a live `struct rlimit`, which the kernel reads, because `setrlimit(2)` says so.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let installed = run(&mut ring, InstallFd::new(file));
    assert_eq!(errno(&installed), Some(libc::EMFILE));
    let made = run(&mut ring, Pipe::new()).expect_err("no descriptors");
    assert_eq!(made.raw_os_error(), Some(libc::EMFILE));
    let read = run(&mut ring, Read::new(installed.fd, [0; 4]).at(0));
    assert_eq!((read.result.expect("read"), &read.buf), (4, b"text"), "it came back");
    drop(read.fd);
    run(&mut ring, Pipe::new().direct(&table)).expect("that needs no descriptors");
}

fn install() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(2)?;
    // Not at the place whose number is that of its descriptor.
    let _first = table.insert(&mut ring, std::io::stdin())?;
    let file = table.insert(&mut ring, memory(b"text"))?;
    let installed = run(&mut ring, InstallFd::new(file));
    let fd = installed.result?;
    assert!(is_closed_on_exec(&fd));
    assert_eq!(table.held(), 2, "it stays there");
    drop(installed.fd);
    let read = run(&mut ring, Read::new(File::from(fd), [0; 4]).at(0));
    assert_eq!((read.result?, &read.buf), (4, b"text"), "it is a file of its own");
    Ok(())
}

fn keep_on_exec() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(1)?;
    let file = table.insert(&mut ring, memory(b"text"))?;
    let installed = run(&mut ring, InstallFd::new(file).keep_on_exec());
    assert!(!is_closed_on_exec(&installed.result?));
    Ok(())
}

fn install_foreign() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let table = other.file_table(1)?;
    let file = table.insert(&mut other, memory(b"text"))?;
    let refused = ring.submit(InstallFd::new(file)).map(drop);
    assert_eq!(refused.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    assert_eq!(table.held(), 0);
    Ok(())
}

fn openat2() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(1)?;
    let dir = File::open("/proc/self")?;
    let open = OpenAt2::new(dir, c"stat", How::read()).beneath().direct(&table);
    let opened = run(&mut ring, open);
    let read = run(&mut ring, Read::new(opened.result?, Vec::with_capacity(64)));
    let text = read.ok()?.1;
    assert!(text.starts_with(std::process::id().to_string().as_bytes()));
    let open = OpenAt2::new(opened.fd, c"../self/stat", How::read()).beneath().direct(&table);
    let escaped = run(&mut ring, open);
    assert_eq!((errno(&escaped), escaped.buf), (Some(libc::EXDEV), c"../self/stat"));
    let open = OpenAt2::new(Cwd, c"/proc/self/stat", How::read()).direct(&table);
    run(&mut ring, open).result?;
    Ok(())
}
