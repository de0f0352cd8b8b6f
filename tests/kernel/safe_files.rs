//! Operations on files, safe API: what each does, how each fails, and that all resources come back.
//!
//! | module | operations |
//! |---|---|
//! | here | `Read`, `Write`, `ReadV`, `WriteV`, `Fsync`, `Fallocate`, `Ftruncate`; whole transfers |
//! | `names` | `OpenAt`, `OpenAt2`, `Statx`, `Close` |
//! | `closing` | `Close::after` |
//! | `places` | `DirectTo`, `ClearFile` |
#![allow(unsafe_code, reason = "asks the C library what the standard library does not")]

#[path = "safe_files/closing.rs"]
mod closing;
#[path = "safe_files/names.rs"]
mod names;
#[path = "safe_files/places.rs"]
mod places;
#[path = "safe_files/told.rs"]
mod told;

use std::ffi::{CString, c_int};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _, pipe};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use annulus::op::{
    Cwd, Fallocate, FallocateMode, Fsync, Ftruncate, Gather, How, Offset, Op, OpenAt, Outcome,
    Read, ReadV, RwFlags, Scatter, Write, WriteV,
};
use annulus::sys::map::page_size;
use annulus::sys::opcode::Opcode;
use annulus::{Rejection, Ring, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, hangs_up, safe_ring, test};

const READ: Need = Need::Op(Opcode::READ);
const OPEN: Need = Need::Op(Opcode::OPENAT);
const TRUNCATE: Need = Need::Op(Opcode::FTRUNCATE);
const ALLOCATE: Need = Need::Op(Opcode::FALLOCATE);
/// Since Linux 5.19, as tables that the kernel fills.
const REGISTERED: Need = Need::Op(Opcode::SOCKET);

/// The tests.
pub fn tests() -> Vec<Trial> {
    let here = [transfers(), lasting(), whole()];
    let there = [closing::tests(), names::tests(), places::tests(), told::tests()];
    here.into_iter().chain(there).flatten().collect()
}

fn transfers() -> Vec<Trial> {
    vec![
        test("a_read_at_an_offset_leaves_the_files_position", &[READ], read_at),
        test("an_offset_that_no_file_has_is_not_the_files_position", &[READ], read_at_no_offset),
        test("what_cannot_be_read_gives_all_back", &[READ], read_refused),
        test("a_write_goes_where_its_flags_say", &[READ], write_flags),
        test("a_flag_that_nobody_knows_is_refused", &[READ], unknown_flag),
        test("a_write_that_nobody_will_read_fails", &[READ], write_refused),
        test("buffers_are_filled_one_after_the_other", &[], scatter),
        test("a_box_of_many_buffers_is_used_again", &[], many_buffers),
        test("vectored_transfers_give_all_back_when_they_fail", &[], vectored_refused),
        test("a_cancelled_vectored_read_gives_its_buffers_back", &[], vectored_cancelled),
    ]
}

fn lasting() -> Vec<Trial> {
    vec![
        test("a_file_is_made_durable", &[], fsync),
        test("a_range_gets_room_and_loses_it", &[ALLOCATE], fallocate),
        test("room_that_cannot_be_had_is_refused", &[ALLOCATE], fallocate_refused),
        test("a_file_is_cut_and_grows", &[TRUNCATE], ftruncate),
        test("a_registered_file_is_a_file_for_all_of_them", &[REGISTERED], registered),
    ]
}

fn whole() -> Vec<Trial> {
    vec![
        test("all_of_a_file_is_written_and_read", &[READ], whole_file),
        test("a_file_that_ends_too_early_is_an_error", &[READ], whole_too_short),
        test("all_of_a_pipe_is_read_however_it_comes", &[READ], whole_pipe),
        test("a_pipe_that_does_not_block_is_waited_for", &[READ, OPEN], whole_nonblocking),
        test("more_than_one_operation_can_move_is_written", &[READ], whole_huge),
        test("borrowed_buffers_are_moved_whole", &[READ], whole_borrowed),
    ]
}

pub fn small() -> Ring {
    safe_ring(Setup::new(4))
}

/// Runs `op` to its end.
pub fn run<O: Op + 'static>(ring: &mut Ring, op: O) -> O::Output {
    let ticket = ring.submit(op).map_err(|rejected| rejected.why).expect("room");
    ring.wait(ticket).expect("it completes")
}

/// The error of an operation.
pub fn errno<T, F, B>(outcome: &Outcome<T, F, B>) -> Option<c_int> {
    outcome.result.as_ref().err()?.raw_os_error()
}

/// A directory of the test's own, which is removed when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("annulus-files-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory of our own");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file that holds `text`, opened to read and write.
    pub fn file(&self, name: &str, text: &[u8]) -> File {
        fs::write(self.path(name), text).expect("a file of our own");
        File::options().read(true).write(true).open(self.path(name)).expect("it is there")
    }

    pub fn open(&self) -> File {
        File::open(&self.0).expect("it is there")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("nobody else removes it");
    }
}

pub fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero in it")
}

/// A file in memory.
pub fn memory(text: &[u8]) -> File {
    // SAFETY: the name is a string of the program's, which lives forever.
    let number = unsafe { libc::memfd_create(c"annulus".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(number >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor, which nothing else owns.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    file.write_all_at(text, 0).expect("there is memory");
    file
}

/// A path that opens the file of `fd` again.
pub fn opened_again(fd: &impl AsRawFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("no zero in it")
}

fn read_at() -> Result<(), Failed> {
    let mut ring = small();
    let mut file = memory(b"0123456789");
    file.seek(SeekFrom::Start(2))?;
    let file = Rc::new(file);
    let read = run(&mut ring, Read::new(Rc::clone(&file), [0; 4]).at(5));
    assert_eq!((read.result?, &read.buf), (4, b"5678"));
    let read = run(&mut ring, Read::new(Rc::clone(&file), [0; 4]));
    assert_eq!((read.result?, &read.buf), (4, b"2345"), "from its own position");
    let read = run(&mut ring, Read::new(file, [b'-'; 6]));
    assert_eq!((read.result?, &read.buf), (4, b"6789--"), "which moved along");
    Ok(())
}

fn read_at_no_offset() -> Result<(), Failed> {
    let mut ring = small();
    let mut file = memory(b"abc");
    file.rewind()?;
    let read = run(&mut ring, Read::new(file, [0; 3]).at(u64::MAX));
    assert_eq!(errno(&read), Some(libc::EINVAL));
    assert_eq!((read.fd.try_clone()?.stream_position()?, read.buf), (0, [0; 3]));
    Ok(())
}

fn read_refused() -> Result<(), Failed> {
    let mut ring = small();
    let (_reader, writer) = pipe()?;
    let number = writer.as_raw_fd();
    let read = run(&mut ring, Read::new(writer, vec![1, 2, 3]));
    assert_eq!(errno(&read), Some(libc::EBADF), "it was opened for writing");
    assert_eq!((read.fd.as_raw_fd(), read.buf), (number, vec![1, 2, 3]));
    Ok(())
}

fn write_flags() -> Result<(), Failed> {
    let mut ring = small();
    let file = Rc::new(memory(b"abcdef"));
    let over = Write::new(Rc::clone(&file), "XY").at(1).flags(RwFlags::DSYNC);
    assert_eq!(run(&mut ring, over).result?, 2);
    let behind = Write::new(Rc::clone(&file), "Z").at(0).flags(RwFlags::APPEND | RwFlags::SYNC);
    assert_eq!(run(&mut ring, behind).result?, 1);
    let read = run(&mut ring, Read::new(file, Vec::with_capacity(64)).at(0));
    assert_eq!((read.result?, &read.buf[..7]), (7, &b"aXYdefZ"[..]));
    // Nothing to read, and no waiting; before Linux 6.4, no such thing for pipes.
    let (reader, _writer) = pipe()?;
    let read = run(&mut ring, Read::new(reader, [0; 1]).flags(RwFlags::NOWAIT));
    assert!(matches!(errno(&read), Some(libc::EAGAIN | libc::EOPNOTSUPP)), "{read:?}");
    Ok(())
}

fn unknown_flag() -> Result<(), Failed> {
    let mut ring = small();
    let flags = RwFlags::from_bits_retain(1 << 30);
    let write = run(&mut ring, Write::new(memory(b""), "x").at(0).flags(flags));
    assert_eq!(errno(&write), Some(libc::EOPNOTSUPP));
    assert_eq!((write.fd.metadata()?.len(), write.buf), (0, "x"));
    let readv = ReadV::new(write.fd, ([0; 1], [0; 1])).flags(flags);
    assert_eq!(errno(&run(&mut ring, readv)), Some(libc::EOPNOTSUPP));
    Ok(())
}

fn write_refused() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    drop(reader);
    assert!(hangs_up(&writer));
    let write = run(&mut ring, Write::new(writer, "words".to_owned()));
    assert_eq!(errno(&write), Some(libc::EPIPE));
    assert_eq!(write.buf, "words");
    Ok(())
}

fn scatter() -> Result<(), Failed> {
    let mut ring = small();
    let file = Rc::new(memory(b""));
    let mut shared = vec![b'-'; 3];
    shared.reserve_exact(2);
    let gather = WriteV::new(Rc::clone(&file), ("head", Rc::new(b"body".to_vec()), [b'!'])).at(2);
    let write = run(&mut ring, gather);
    assert_eq!((write.result?, write.buf.1.as_slice()), (9, &b"body"[..]));
    let bufs = ([0; 6], shared, Vec::with_capacity(9));
    let read = run(&mut ring, ReadV::new(Rc::clone(&file), bufs).at(0));
    let (count, (first, second, third)) = read.ok()?;
    // Eleven bytes: six, then as many as the vector has room for, then the rest.
    assert_eq!((count, &first), (11, b"\0\0head"));
    assert_eq!([second, third].concat(), b"body!");
    // From the file's own position, which no operation above moved, but the library did not either.
    let read = run(&mut ring, ReadV::new(file, [[0; 4], [7; 4]]));
    assert_eq!((read.result?, read.buf), (8, [*b"\0\0he", *b"adbo"]));
    Ok(())
}

fn many_buffers() -> Result<(), Failed> {
    let mut ring = small();
    let file = Rc::new(memory(b""));
    let lines = std::array::from_fn::<_, 200, _>(|line| format!("line {line}\n"));
    let text = lines.concat();
    let write = run(&mut ring, WriteV::boxed(Rc::clone(&file), Gather::boxed(lines)).at(0));
    assert_eq!(write.result?, text.len());
    assert_eq!(write.buf.into_inner().len(), 200);
    let mut bufs = Scatter::boxed([const { [0_u8; 16] }; 100]);
    let mut found = Vec::new();
    while found.len() < text.len() {
        let read = ReadV::boxed(Rc::clone(&file), bufs).at(found.len() as u64);
        let (count, back) = run(&mut ring, read).ok()?;
        assert!(count > 0, "the file is longer");
        bufs = back;
        found.extend_from_slice(&bufs.bufs().as_flattened()[..count]);
    }
    assert_eq!(found, text.as_bytes());
    Ok(())
}

fn vectored_refused() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let read = run(&mut ring, ReadV::new(writer, (vec![1, 2], [3])));
    assert_eq!(errno(&read), Some(libc::EBADF));
    assert_eq!(read.buf, (vec![1, 2], [3]));
    let write = run(&mut ring, WriteV::boxed(reader, Gather::boxed(["a", "b"])));
    assert_eq!(errno(&write), Some(libc::EBADF));
    assert_eq!(write.buf.into_inner(), ["a", "b"]);
    Ok(())
}

fn vectored_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = pipe()?;
    let ticket = ring.submit(ReadV::new(reader, (vec![9], [8]))).map_err(|r| r.why)?;
    ring.submit_all()?;
    ring.cancel(&ticket)?;
    let read = ring.wait(ticket)?;
    assert!(matches!(errno(&read), Some(libc::ECANCELED | libc::EINTR)), "{read:?}");
    assert_eq!(read.buf, (vec![9], [8]));
    Ok(())
}

fn fsync() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let file = Rc::new(folder.file("durable", b"bytes"));
    let synced = run(&mut ring, Fsync::new(Rc::clone(&file)));
    synced.result?;
    assert!(Rc::ptr_eq(&synced.fd, &file));
    run(&mut ring, Fsync::new(file).data_only()).result?;
    let (reader, _writer) = pipe()?;
    let refused = run(&mut ring, Fsync::new(reader));
    assert_eq!(errno(&refused), Some(libc::EINVAL), "a pipe lasts no longer than its ends");
    Ok(())
}

fn fallocate() -> Result<(), Failed> {
    let mut ring = small();
    // Holes are whole pages.
    let page = page_size();
    let bytes = page as u64;
    let file = Rc::new(memory(&vec![7; 2 * page]));
    let mut change = |room, from, count| {
        let allocate = Fallocate::new(Rc::clone(&file), from * bytes, count * bytes).mode(room);
        run(&mut ring, allocate).result?;
        let metadata = file.metadata()?;
        let (len, stored) = (metadata.len(), metadata.blocks() * 512);
        assert_eq!((len % bytes, stored % bytes), (0, 0));
        Ok::<_, std::io::Error>((len / bytes, stored / bytes))
    };
    assert_eq!(change(FallocateMode::Reserve, 1, 2)?, (3, 3));
    assert_eq!(change(FallocateMode::ReserveKeepSize, 3, 1)?, (3, 4));
    assert_eq!(change(FallocateMode::Punch, 1, 2)?, (3, 2));
    let mut text = vec![1; 3 * page];
    file.read_exact_at(&mut text, 0)?;
    assert_eq!((&text[..page], &text[page..]), (&vec![7; page][..], &vec![0; 2 * page][..]));
    Ok(())
}

fn fallocate_refused() -> Result<(), Failed> {
    let mut ring = small();
    let nothing = run(&mut ring, Fallocate::new(memory(b"abc"), 0, 0));
    assert_eq!(errno(&nothing), Some(libc::EINVAL), "no bytes at all");
    let cut = Fallocate::new(nothing.fd, 0, 4096).mode(FallocateMode::Collapse);
    let cut = run(&mut ring, cut);
    assert_eq!(errno(&cut), Some(libc::EOPNOTSUPP), "memory has no such thing");
    assert_eq!(cut.fd.metadata()?.len(), 3);
    Ok(())
}

fn ftruncate() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let file = folder.file("cut", b"0123456789");
    let cut = run(&mut ring, Ftruncate::new(file, 4));
    cut.result?;
    assert_eq!(fs::read(folder.path("cut"))?, b"0123");
    run(&mut ring, Ftruncate::new(cut.fd, 6)).result?;
    assert_eq!(fs::read(folder.path("cut"))?, b"0123\0\0");
    let refused = run(&mut ring, Ftruncate::new(File::open(folder.path("cut"))?, 0));
    assert_eq!(errno(&refused), Some(libc::EINVAL), "it was opened for reading");
    assert_eq!(refused.fd.metadata()?.len(), 6);
    Ok(())
}

fn registered() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(1)?;
    let memory = memory(b"");
    let file = table.insert(&mut ring, &memory)?;
    let allocated = run(&mut ring, Fallocate::new(file, 0, 4096));
    allocated.result?;
    let write = run(&mut ring, WriteV::new(allocated.fd, ("by ", "number")).at(0));
    assert_eq!(write.result?, 9);
    let synced = run(&mut ring, Fsync::new(write.fd));
    synced.result?;
    let read = run(&mut ring, ReadV::new(synced.fd, ([0; 3], [0; 6])).at(0));
    assert_eq!((read.result?, &read.buf), (9, &(*b"by ", *b"number")));
    let whole = ring.write_all(read.fd, *b"BY", Offset::At(0))?;
    whole.result?;
    let whole = ring.read_exact(whole.fd, [0; 9], Offset::At(0))?;
    whole.result?;
    assert_eq!(&whole.buf, b"BY number");
    // Another ring has no such number.
    let refused = small().submit(Fsync::new(whole.fd)).map(drop);
    assert_eq!(refused.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    Ok(())
}

/// Bytes of which no two neighbours are alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(len).collect()
}

fn whole_file() -> Result<(), Failed> {
    let mut ring = small();
    let file = Rc::new(memory(b""));
    let text = pattern(3 << 20);
    let write = ring.write_all(Rc::clone(&file), text, Offset::At(10))?;
    write.result?;
    assert!(Rc::ptr_eq(&write.fd, &file));
    assert_eq!(file.metadata()?.len(), 10 + (3 << 20));
    let read = ring.read_exact(file, vec![0; 3 << 20].into_boxed_slice(), Offset::At(10))?;
    read.result?;
    assert!(read.buf[..] == write.buf[..]);
    let read = ring.read_exact(read.fd, Vec::new(), Offset::At(u64::MAX))?;
    assert!(read.result.is_ok(), "no bytes are no operation");
    Ok(())
}

fn whole_too_short() -> Result<(), Failed> {
    let mut ring = small();
    let read = ring.read_exact(memory(b"abc"), vec![b'-'; 5], Offset::At(1))?;
    let error = read.result.expect_err("there are two bytes");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("after 2 of 5 bytes"), "{error}");
    assert_eq!(read.buf, b"bc---");
    let (_reader, writer) = pipe()?;
    let read = ring.read_exact(writer, [0; 2], Offset::Current)?;
    assert_eq!(errno(&read), Some(libc::EBADF));
    Ok(())
}

fn whole_pipe() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let text = pattern(100_000);
    let sent = text.clone();
    let sender =
        thread::spawn(move || sent.chunks(777).try_for_each(|part| writer.write_all(part)));
    let read = ring.read_exact(reader, vec![0; text.len()], Offset::Current)?;
    read.result?;
    assert!(read.buf == text);
    sender.join().expect("the sender returns")?;
    let (mut reader, writer) = pipe()?;
    let receiver = thread::spawn(move || {
        let mut found = Vec::new();
        reader.read_to_end(&mut found).map(|_| found)
    });
    // More than a pipe holds.
    let write = ring.write_all(writer, text, Offset::Current)?;
    write.result?;
    drop(write.fd);
    assert!(receiver.join().expect("the receiver returns")? == write.buf);
    Ok(())
}

fn whole_nonblocking() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let open = OpenAt::new(Cwd, opened_again(&reader), How::read().non_block());
    let nonblocking = run(&mut ring, open).result?;
    let sender = thread::spawn(move || {
        [b"ab", b"cd"].into_iter().try_for_each(|part| {
            thread::sleep(Duration::from_millis(5));
            writer.write_all(part)
        })
    });
    let read = ring.read_exact(nonblocking, [0; 4], Offset::Current)?;
    read.result?;
    assert_eq!(&read.buf, b"abcd");
    sender.join().expect("the sender returns")?;
    Ok(())
}

fn whole_huge() -> Result<(), Failed> {
    let mut ring = small();
    let len = (2 << 30) + 4096;
    // Never touched, so it takes no memory; and bytes written to `/dev/null` are not read.
    let map = memmap2::MmapOptions::new().len(len).no_reserve_swap().map_anon()?;
    let null = File::options().write(true).open("/dev/null")?;
    let once = run(&mut ring, Write::new(null.try_clone()?, map)).ok()?;
    assert!(once.0 < len);
    ring.write_all(null, once.1, Offset::Current)?.result?;
    Ok(())
}

fn whole_borrowed() -> Result<(), Failed> {
    let mut ring = small();
    let file = memory(b"");
    let text = pattern(5000);
    let mut found = vec![0; 5000];
    ring.scope(|s| {
        s.write_all(file.as_fd(), &text[..], Offset::At(0))?.result?;
        let (head, tail) = found.split_at_mut(1234);
        s.read_exact(&file, tail, Offset::At(1234))?.result?;
        let read = s.read_exact(&file, head, Offset::At(0))?;
        read.result?;
        assert_eq!(read.buf[..], text[..1234], "the borrow comes back");
        let ended = s.read_exact(&file, read.buf, Offset::At(4000))?.result;
        assert_eq!(ended.expect_err("too short").kind(), ErrorKind::UnexpectedEof);
        Ok::<_, std::io::Error>(())
    })?;
    assert_eq!(found[1234..], text[1234..]);
    Ok(())
}
