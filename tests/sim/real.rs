//! Real descriptors on a simulated kernel: what is done to them is what Linux does, at a simulated
//! time, with faults, and with accounts of the memory.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use annulus::sim::{Faults, Sim};
use annulus::sys::abi::{OpenHow, Sqe, Timespec};
use annulus::sys::flags::{CancelFlags, FsyncFlags, RecvSendFlags, SqeFlags, TimeoutFlags};
use annulus::sys::opcode::RegisterOp;
use annulus::{RawRing, Setup, op, prep};

use super::chance::Chance;
use super::scene::{Scene, at, both, seeded, with_faults};
use super::worlds::{Real, World as _};

/// A folder of this process, which is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("annulus-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    fn file(&self, contents: &[u8]) -> File {
        let path = self.0.join("file");
        std::fs::write(&path, contents).expect("room");
        File::options().read(true).write(true).open(path).expect("it is there")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("it is ours");
    }
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let count = file.read_at(&mut bytes, 0).expect("a file");
    bytes.truncate(count);
    bytes
}

/// A program that knows nothing of simulations: it writes a file in parts, cuts it, lengthens it,
/// and reads it again.
fn copies(sim: &Sim, file: File) -> std::io::Result<Vec<u8>> {
    let mut ring = Setup::new(8).kernel(sim.kernel()).build().expect("a ring");
    let file = Rc::new(file);
    let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let mut done = 0;
    while done < text.len() {
        let part = text[done..].to_vec();
        let write = ring.submit(op::Write::new(Rc::clone(&file), part).at(done as u64))?;
        done += ring.wait(write)?.result?;
    }
    let cut = ring.submit(op::Ftruncate::new(Rc::clone(&file), 900))?;
    ring.wait(cut)?.result?;
    let sync = ring.submit(op::Fsync::new(Rc::clone(&file)))?;
    ring.wait(sync)?.result?;
    let mut got = Vec::new();
    loop {
        let read = op::Read::new(Rc::clone(&file), Vec::with_capacity(300)).at(got.len() as u64);
        let read = ring.submit(read)?;
        let (count, buf) = ring.wait(read)?.ok()?;
        if count == 0 {
            return Ok(got);
        }
        got.extend_from_slice(&buf);
    }
}

#[test]
fn a_file_of_the_standard_library_is_written_and_read_with_faults() {
    let folder = Folder::new("sim-copies");
    let expected: Vec<u8> = (0..=255).cycle().take(900).collect();
    for seed in super::seeds(200) {
        let run = || {
            let sim = Sim::with_faults(seed, Faults { delay: 500, ..Faults::SOME });
            let file = folder.file(b"before");
            let got = copies(&sim, file.try_clone().expect("descriptors")).expect("no fault");
            assert_eq!((&got, &contents(&file)), (&expected, &expected), "seed {seed}");
            sim.check();
            (sim.digest(), sim.now(), sim.report().requests)
        };
        let first = run();
        assert_eq!(first, run(), "seed {seed}: one seed, one trace");
        assert!(first.1 > Duration::ZERO && first.2 >= 7);
    }
}

#[test]
fn transfers_of_a_real_file_are_short_by_the_luck_of_the_seed() {
    let folder = Folder::new("sim-short");
    let requests = |faults| {
        let sim = Sim::with_faults(1, faults);
        copies(&sim, folder.file(b"")).expect("no fault");
        sim.report().requests
    };
    assert_eq!(requests(Faults::NONE), 7);
    assert!(requests(Faults { short: 1000, ..Faults::NONE }) > 10);
}

fn raw(sim: &Sim) -> RawRing {
    Setup::plain(8).kernel(sim.kernel()).build_raw().expect("a ring")
}

#[test]
fn op1_memory_of_a_transfer_of_a_real_file_is_watched() {
    let folder = Folder::new("sim-op1");
    for reads in [false, true] {
        let sim = Sim::with_faults(1, Faults { delay: 1000, ..Faults::SOME });
        let file = folder.file(b"untouched");
        let mut ring = raw(&sim);
        let mut buf = [7_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        let fd = file.as_raw_fd();
        let sqe = if reads { prep::read(fd, addr, 8, 0) } else { prep::write(fd, addr, 8, 0) };
        // SAFETY: the buffer lives until the ring is gone; that it is written is what the test is
        // for (OP1).
        unsafe { ring.push(sqe) }.expect("room");
        ring.submit().expect("no fault");
        assert!(sim.report().is_clean());
        // SAFETY: this test's; the kernel still has it, on purpose (OP1).
        unsafe { (&raw mut buf).cast::<u8>().write_volatile(1) };
        sim.advance(Duration::from_secs(1));
        let report = sim.report();
        assert!(report.broken[0].starts_with("OP1: memory of #1"), "{report}");
        // From then on nothing of the machine is touched.
        assert_eq!(contents(&file), b"untouched");
        let result = ring.pop().map(|cqe| cqe.res);
        assert!(reads || result == Some(-libc::EIO), "{result:?}");
    }
}

/// What the requests of a scene on a real file of its world see.
fn scene(it: &mut Scene<'_>, file: &File) {
    let fd = file.as_raw_fd();
    let mut buf = [0_u8; 64];
    let addr = (&raw mut buf).expose_provenance() as u64;
    for (offset, len) in [(0, 5), (5, 64), (100, 8), (u64::MAX, 4), (u64::MAX, 4)] {
        it.push(prep::read(fd, addr, len, offset));
        it.take(1);
        it.say(format!("{:?}", &buf[..8]));
    }
    let half = [[addr, 3], [addr + 8, 3]];
    it.push(prep::readv(fd, at(&half), 2, 0, 0));
    it.take(1);
    it.say(format!("{:?}", &buf[..16]));
    it.push(prep::write(fd, addr, 8, 20));
    it.take(1);
    it.push(prep::writev(fd, at(&half), 2, u64::MAX, 0));
    it.take(1);
    it.push(prep::fsync(fd, FsyncFlags::empty()));
    it.take(1);
    for sqe in [prep::ftruncate(fd, 25), prep::fallocate(fd, 0, 0, 40)] {
        it.push(sqe); // One by one, since two workers would race.
        it.take(1);
    }
    it.push(prep::fallocate(fd, 77 << 20, 0, 40));
    it.take(1);
    it.push(prep::poll_add(fd, u32::from(libc::POLLIN.cast_unsigned())));
    it.take(1);
    let none = RecvSendFlags::empty();
    it.push(prep::recv(fd, addr, 8, 0, none));
    it.push(prep::send(fd, addr, 8, 0, none));
    it.push(prep::shutdown(fd, 0));
    it.push(prep::accept(fd, 0, 0, 0, annulus::sys::flags::AcceptFlags::empty()));
    it.take(4);
    // A chain goes on after a whole transfer, and not after a part.
    it.push(Sqe { flags: SqeFlags::IO_LINK, ..prep::read(fd, addr, 8, 0) });
    it.push(Sqe { flags: SqeFlags::IO_LINK, ..prep::read(fd, addr, 64, 36) });
    it.push(prep::nop());
    it.take(3);
    it.push(prep::cancel_fd(fd, CancelFlags::empty()));
    it.take(1);
    it.say(format!("{:?}", contents(file)));
}

#[test]
fn requests_on_a_real_file_see_on_the_simulated_kernel_what_they_see_on_linux() {
    let folder = Folder::new("sim-both");
    both("real file", |it| scene(it, &folder.file(b"the contents of a file")));
    both("real file, read only", |it| {
        drop(folder.file(b"contents"));
        let file = File::open(folder.0.join("file")).expect("it is there");
        scene(it, &file);
    });
    both("real file, appended to", |it| {
        drop(folder.file(b"contents"));
        let path = folder.0.join("file");
        let file = File::options().append(true).read(true).open(path).expect("it is there");
        scene(it, &file);
    });
}

#[test]
fn real_files_and_memory_are_registered() {
    let folder = Folder::new("sim-tables");
    both("real tables", |it| {
        let file = folder.file(b"the contents of a file");
        let mut buf = Box::new(*b"................");
        let mut iovec = [at(&*buf), 16];
        it.register(RegisterOp::BUFFERS, Some(&mut iovec), 1);
        it.register(RegisterOp::FILES, Some(&mut [file.as_raw_fd(), -1]), 2);
        let fd = file.as_raw_fd();
        it.push(prep::read_fixed(fd, iovec[0], 8, 4, 0));
        it.take(1);
        drop(file); // The table keeps it.
        it.push(Sqe { flags: SqeFlags::FIXED_FILE, ..prep::write_fixed(0, iovec[0], 4, 0, 0) });
        it.take(1);
        it.push(Sqe { flags: SqeFlags::FIXED_FILE, ..prep::read(1, iovec[0], 4, 0) });
        it.take(1);
        it.push(prep::fixed_fd_install(0, annulus::sys::flags::FixedFdFlags::empty()));
        it.take_fds(1);
        let again = File::from(it.fds.pop().expect("a descriptor"));
        it.say(format!("{:?} {:?}", contents(&again), std::mem::take(&mut *buf)));
        it.register::<u32>(RegisterOp::UNREGISTER_FILES, None, 0);
        it.register::<u32>(RegisterOp::UNREGISTER_BUFFERS, None, 0);
    });
}

#[test]
fn a_close_closes_the_descriptor_and_nothing_keeps_it_open() {
    both("real close", |it| {
        let (mut reader, writer) = std::io::pipe().expect("descriptors");
        let text = *b"last words";
        it.push(prep::write(writer.as_raw_fd(), at(&text), 10, u64::MAX));
        it.take(1);
        it.push(prep::close(writer.into_raw_fd()));
        it.take(1);
        let mut all = String::new();
        let count = reader.read_to_string(&mut all).map_err(|error| error.kind());
        it.say(format!("{count:?} {all}"));
    });
}

#[test]
fn what_a_request_has_used_is_let_go_of_with_its_completion() {
    let sim = Sim::new(1);
    let mut ring = raw(&sim);
    let (reader, writer) = std::io::pipe().expect("descriptors");
    let text = *b"last words";
    // SAFETY: the text lives until the write has ended, below (OP1).
    unsafe { ring.push(prep::write(writer.as_raw_fd(), at(&text), 10, 0)) }.expect("room");
    ring.submit_and_wait(1).expect("no fault");
    drop(writer);
    let mut polled = libc::pollfd { fd: reader.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one live `struct pollfd`, as the count says.
    assert_eq!(unsafe { libc::poll(&raw mut polled, 1, 0) }, 1);
    assert_eq!(polled.revents, libc::POLLHUP);
    sim.check();
}

#[test]
fn a_read_of_a_real_pipe_waits_for_bytes_and_for_its_end() {
    both("real pipe", |it| {
        let (reader, mut writer) = std::io::pipe().expect("descriptors");
        let mut buf = [0_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        it.push(prep::read(reader.as_raw_fd(), addr, 8, u64::MAX));
        it.take(0);
        it.say("nothing yet");
        writer.write_all(b"bytes").expect("room");
        it.take(1);
        it.say(format!("{buf:?}"));
        it.push(prep::read(reader.as_raw_fd(), addr, 8, u64::MAX));
        it.take(0);
        it.push(prep::cancel_fd(reader.as_raw_fd(), CancelFlags::empty()));
        it.take(2);
        it.push(prep::poll_add(reader.as_raw_fd(), u32::from(libc::POLLIN.cast_unsigned())));
        it.take(0);
        drop(writer);
        it.take(1);
        it.push(prep::read(reader.as_raw_fd(), addr, 8, u64::MAX));
        it.take(1);
    });
}

#[test]
fn an_enter_waits_for_a_real_pipe_when_nothing_else_can_happen() {
    let sim = Sim::new(1);
    let mut ring = Setup::new(8).kernel(sim.kernel()).build().expect("a ring");
    let (reader, mut writer) = std::io::pipe().expect("descriptors");
    let read = ring.submit(op::Read::new(reader, [0; 5])).expect("room");
    // Virtual time does not wait for it.
    let early = ring.wait_timeout(read, Duration::from_secs(3600)).expect_err("nothing comes");
    assert_eq!(sim.now(), Duration::from_secs(3600));
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(b"bytes").expect("room"));
        let done = ring.wait(early.ticket).expect("it comes");
        assert_eq!(done.buf, *b"bytes");
    });
    sim.check();
}

#[test]
fn a_full_real_pipe_takes_no_more_until_it_is_read() {
    let sim = Sim::new(1);
    let mut ring = raw(&sim);
    let (mut reader, writer) = std::io::pipe().expect("descriptors");
    let bytes = vec![7_u8; 4096];
    let mut written = 0;
    loop {
        let sqe =
            prep::write(writer.as_raw_fd(), bytes.as_ptr().expose_provenance() as u64, 4096, 0);
        // SAFETY: the bytes live until the ring is gone (OP1).
        unsafe { ring.push(sqe) }.expect("room");
        ring.submit().expect("no fault");
        ring.get_events().expect("no fault");
        let Some(cqe) = ring.pop() else { break };
        written += cqe.res;
    }
    assert_eq!(written, 1 << 16);
    reader.read_exact(&mut vec![0; 4096]).expect("it is there");
    ring.get_events().expect("no fault");
    assert_eq!(ring.pop().map(|cqe| cqe.res), Some(4096));
    sim.check();
}

#[test]
fn a_real_eventfd_is_signalled_and_read() {
    both("real eventfd", |it| {
        // SAFETY: takes two numbers, and no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a new descriptor, which nothing else owns.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        let file = File::open("/dev/null").expect("it is there");
        it.register(RegisterOp::EVENTFD, Some(&mut file.as_raw_fd()), 1);
        it.register(RegisterOp::EVENTFD, Some(&mut eventfd.as_raw_fd()), 1);
        it.push(prep::nop());
        it.take(1);
        it.register::<u32>(RegisterOp::UNREGISTER_EVENTFD, None, 0);
        let mut buf = [0_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        it.push(prep::read(eventfd.as_raw_fd(), addr, 8, u64::MAX));
        it.take(1);
        it.say(format!("{}", buf != [0; 8]));
    });
}

#[test]
fn paths_of_the_machine_are_opened_where_that_was_allowed() {
    let folder = Folder::new("sim-paths");
    let text = |name: &str| {
        let path = folder.0.join(name);
        CString::new(path.as_os_str().as_bytes()).expect("no zero")
    };
    let path = |text: &CString| text.as_ptr().expose_provenance() as u64;
    let (one, two, new) = (text("file"), text("other"), text("new"));
    let scene = |it: &mut Scene<'_>| {
        drop(folder.file(b"contents"));
        let cwd = libc::AT_FDCWD;
        it.push(prep::openat(cwd, path(&one), 0, 0));
        it.take_fds(1);
        let how = OpenHow { flags: 0, mode: 0, resolve: 0 };
        it.push(prep::openat2(cwd, path(&two), at(&how)));
        it.take_fds(1);
        it.push(prep::mkdirat(cwd, path(&new), 0o755));
        it.take(1);
        it.push(prep::renameat(cwd, path(&one), cwd, path(&two), 0));
        it.take(1);
        it.push(prep::linkat(cwd, path(&two), cwd, path(&one), 0));
        it.take(1);
        it.push(prep::unlinkat(cwd, path(&two), 0));
        it.push(prep::unlinkat(cwd, path(&new), libc::AT_REMOVEDIR.cast_unsigned()));
        it.take(2);
        it.push(prep::symlinkat(path(&new), cwd, path(&two)));
        it.take(1);
        let mut told = [0_u8; 256];
        let to = (&raw mut told).expose_provenance() as u64;
        it.push(prep::statx(cwd, path(&one), 0, libc::STATX_SIZE, to));
        it.take(1);
        it.say(format!("{:?}", &told[40..48]));
        it.push(prep::unlinkat(cwd, path(&two), 0));
        it.take(1);
    };
    both("real paths", |it| {
        if let Some(sim) = it.world.simulation() {
            sim.allow_real_paths(folder.0.as_os_str().as_bytes());
        }
        scene(it);
    });
    let sim = Sim::new(1);
    let mut ring = raw(&sim);
    // SAFETY: the path lives until the entry was consumed (OP1).
    unsafe { ring.push(prep::openat(libc::AT_FDCWD, path(&one), 0, 0)) }.expect("room");
    ring.submit_and_wait(1).expect("no fault");
    assert_eq!(ring.pop().map(|cqe| cqe.res), Some(-libc::ENOENT), "nobody has allowed it");
    sim.check();
}

#[test]
fn time_passes_between_requests_on_real_files() {
    let folder = Folder::new("sim-time");
    let sim = Sim::with_faults(
        3,
        Faults { delay: 1000, longest: Duration::from_secs(60), ..Faults::NONE },
    );
    let mut ring = raw(&sim);
    let file = folder.file(b"contents");
    let mut buf = [0_u8; 8];
    let addr = (&raw mut buf).expose_provenance() as u64;
    let hour = Timespec { tv_sec: 3600, tv_nsec: 0 };
    let read = Sqe { user_data: 1, ..prep::read(file.as_raw_fd(), addr, 8, 0) };
    for sqe in [prep::timeout(at(&hour), 0, TimeoutFlags::empty()), read] {
        // SAFETY: the buffer and the time live until the ring is gone (OP1).
        unsafe { ring.push(sqe) }.expect("room");
    }
    ring.submit().expect("no fault");
    assert!(ring.pop().is_none());
    // What is there at that time is read, and not what was there as it was submitted.
    file.write_all_at(b"CONTENTS", 0).expect("room");
    ring.submit_and_wait(1).expect("no fault");
    assert_eq!(ring.pop().map(|cqe| (cqe.user_data, cqe.res)), Some((1, 8)));
    assert_eq!(&buf, b"CONTENTS");
    assert!(sim.now() > Duration::ZERO && sim.now() < Duration::from_secs(3600));
}

/// A random program on a file of the machine, in both worlds: chains of what may be done to it.
fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let file = File::from(Real.file(b"the contents of a file"));
    let mut kept = Vec::new();
    for _ in 0..=chance.below(10) {
        let steps = chance.below(3) + 1;
        for step in 0..steps {
            let mut buf = Box::new([0_u8; 64]);
            buf.copy_from_slice(&chance.bytes(64));
            let addr = buf.as_mut_ptr().expose_provenance() as u64;
            let len = chance.below(65);
            let offset = chance.among(&[0, 3, 20, 60, 200, u64::MAX]);
            let half = u64::from(len / 2);
            let table = Box::new([[addr, half], [addr + half, u64::from(len) - half]]);
            let fd = if chance.one_in(12) { 9999 } else { file.as_raw_fd() };
            let sqe = match chance.below(8) {
                0 | 1 => prep::read(fd, addr, len, offset),
                2 | 3 => prep::write(fd, addr, len, offset),
                4 => prep::readv(fd, at(&*table), 2, offset, 0),
                5 => prep::writev(fd, at(&*table), 2, offset, 0),
                6 => prep::ftruncate(fd, u64::from(chance.below(100))),
                _ => {
                    let mode = chance.among(&[0, 1, 3, 2, 77 << 20]);
                    prep::fallocate(fd, mode, u64::from(chance.below(50)), len.into())
                }
            };
            let links = [SqeFlags::IO_LINK, SqeFlags::IO_HARDLINK];
            let link = if step + 1 < steps { chance.among(&links) } else { SqeFlags::empty() };
            let force = if chance.one_in(4) { SqeFlags::ASYNC } else { SqeFlags::empty() };
            it.push(Sqe { flags: link | force, ..sqe });
            kept.push((buf, table));
        }
        it.rest(|_| false);
        it.say(format!("{:?}", contents(&file)));
    }
    let buffers: Vec<_> = kept.iter().map(|(buf, _)| &buf[..]).collect();
    it.say(format!("{buffers:?}"));
    // With faults, some may still be in flight: the kernel must not find other memory here (RG1).
    std::mem::forget(kept);
}

#[test]
fn random_programs_on_real_files_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("real files", 300, program);
}

#[test]
fn random_programs_on_real_files_keep_every_rule_with_faults() {
    with_faults(300, program);
}
