//! Advice on files, safe API.
//!
//! ```text
//!   written ─ SyncFileRange ─► clean ─ DontNeed ─► not cached ─ WillNeed ─► cached
//!                                                      └ a read that may not wait: EAGAIN
//! ```
//!
//! Advice has a visible effect only where there is a device behind the page cache; elsewhere those
//! tests are not run.
#![allow(unsafe_code, reason = "asks the C library what the standard library does not")]

use std::fs::File;
use std::io::{ErrorKind, pipe};
use std::ops::RangeBounds;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use annulus::Ring;
use annulus::op::{Fadvise, FileAdvice, Fsync, Read, ReadV, RwFlags, SyncFileRange, WriteBack};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, test};
use crate::safe_files::{Folder, errno, memory, run, small};

const ADVISE: Need = Need::Op(Opcode::FADVISE);
const SYNC: Need = Need::Op(Opcode::SYNC_FILE_RANGE);
const READ: Need = Need::Op(Opcode::READ);
/// Since Linux 5.19, as tables that the kernel fills.
const REGISTERED: Need = Need::Op(Opcode::SOCKET);
const DEVICE: Need = Need::Other(no_device);

pub fn tests() -> Vec<Trial> {
    vec![
        test("what_is_not_needed_is_no_longer_cached", &[ADVISE, READ, DEVICE], dropped),
        test("what_will_be_needed_is_read_ahead", &[ADVISE, READ, DEVICE], read_ahead),
        test("advice_on_more_than_4_gib_is_not_cut", &[ADVISE, READ, DEVICE], long),
        test("advice_on_a_length_that_no_file_has_is_refused", &[ADVISE], too_long),
        test("advice_on_nothing_is_an_error_and_not_about_all", &[ADVISE, SYNC], empty),
        test("advice_of_every_kind_is_taken", &[ADVISE], kinds),
        test("advice_on_a_pipe_is_refused", &[ADVISE, SYNC], pipes),
        test("advice_on_a_registered_file_is_the_same", &[ADVISE, SYNC, REGISTERED], registered),
        test("a_range_that_is_written_back_is_clean", &[SYNC, ADVISE, READ, DEVICE], written_back),
        test("writing_back_begins_and_is_waited_for", &[SYNC], steps),
        test("a_range_that_the_kernel_cannot_be_told_is_an_error", &[SYNC], sync_too_long),
    ]
}

/// The largest page that a machine has.
const PAGE: u64 = 65536;
/// So far from the first page that no kernel caches both as one.
const FAR: u64 = 64 * PAGE;

/// Whether the page at `offset` is cached: a read that may not wait tells. `None` where there are
/// no such reads.
fn cached(ring: &mut Ring, file: &Rc<File>, offset: u64) -> Option<bool> {
    let read = Read::new(Rc::clone(file), [0; 1]).at(offset).flags(RwFlags::NOWAIT);
    match run(ring, read).result {
        Ok(count) => Some(count == 1),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Some(false),
        Err(_) => None,
    }
}

fn is_cached(ring: &mut Ring, file: &Rc<File>, offset: u64) -> bool {
    cached(ring, file, offset).expect("the test would not run otherwise")
}

/// Whether the page at `offset` leaves the cache after advice on `range`. The advice is given as
/// often as it takes: the kernel keeps pages that somebody uses at the moment, such as another
/// processor that lists them.
fn is_gone(ring: &mut Ring, file: &Rc<File>, offset: u64, range: impl RangeBounds<u64>) -> bool {
    let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
    for _ in 0..1000 {
        let advice = Fadvise::new(Rc::clone(file), FileAdvice::DontNeed).range(bounds);
        run(ring, advice).result.expect("the kernel takes the advice");
        if !is_cached(ring, file, offset) {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

/// A file of two distant pages and the hole between, on the device, and cached.
fn file(ring: &mut Ring) -> (Folder, Rc<File>) {
    let folder = Folder::new();
    let len = usize::try_from(FAR + PAGE).expect("it is small");
    let file = Rc::new(folder.file("cached", &vec![7; len]));
    run(ring, Fsync::new(Rc::clone(&file))).result.expect("the device takes it");
    (folder, file)
}

fn no_device() -> Option<String> {
    let mut ring = small();
    let (_folder, file) = file(&mut ring);
    let before = cached(&mut ring, &file, 0);
    // SAFETY: takes numbers only, because `posix_fadvise(2)` says so.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let after = cached(&mut ring, &file, 0);
    let reason = "needs temporary files on a device, and not in memory";
    ((before, after) != (Some(true), Some(false))).then(|| reason.to_owned())
}

fn dropped() -> Result<(), Failed> {
    let mut ring = small();
    let (_folder, file) = file(&mut ring);
    let part = Fadvise::new(Rc::clone(&file), FileAdvice::DontNeed).range(FAR..FAR + PAGE);
    let advised = run(&mut ring, part);
    advised.result?;
    assert!(Rc::ptr_eq(&advised.fd, &file));
    assert!(is_gone(&mut ring, &file, FAR, FAR..FAR + PAGE));
    assert!(is_cached(&mut ring, &file, 0), "it was not named");
    assert!(is_gone(&mut ring, &file, 0, ..), "all of it was named");
    Ok(())
}

fn read_ahead() -> Result<(), Failed> {
    let mut ring = small();
    let (_folder, file) = file(&mut ring);
    assert!(is_gone(&mut ring, &file, FAR, ..));
    // The pages come after a while, and a busy kernel need not begin at once.
    while !is_cached(&mut ring, &file, FAR) {
        let soon = Fadvise::new(Rc::clone(&file), FileAdvice::WillNeed).range(FAR..);
        run(&mut ring, soon).result?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Cut to 32 bits, the range would be of one page.
fn long() -> Result<(), Failed> {
    let mut ring = small();
    let (_folder, file) = file(&mut ring);
    let all = Fadvise::new(Rc::clone(&file), FileAdvice::DontNeed).range(0..(1 << 32) + PAGE);
    let advised = run(&mut ring, all);
    match advised.result {
        Ok(()) => assert!(is_gone(&mut ring, &file, FAR, 0..(1 << 32) + PAGE)),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert!(!here().has_op(Opcode::BIND), "Linux 6.11 can");
            assert!(is_cached(&mut ring, &file, 0) && is_cached(&mut ring, &file, FAR));
        }
    }
    Ok(())
}

/// Cut to 32 bits, it would be 0, which is all of the file.
fn too_long() -> Result<(), Failed> {
    let mut ring = small();
    let advise = Fadvise::new(memory(b"text"), FileAdvice::DontNeed).range(0..1 << 63);
    let advised = run(&mut ring, advise);
    assert_eq!(errno(&advised), Some(libc::EINVAL));
    assert_eq!(advised.fd.metadata()?.len(), 4);
    Ok(())
}

fn empty() -> Result<(), Failed> {
    let mut ring = small();
    let advise = Fadvise::new(memory(b"text"), FileAdvice::WillNeed).range(2..2);
    let advised = run(&mut ring, advise);
    let error = advised.result.expect_err("it is about nothing");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::InvalidInput, None));
    assert!(error.to_string().contains("empty range"), "{error}");
    let synced = run(&mut ring, SyncFileRange::new(advised.fd).range(2..2));
    let error = synced.result.expect_err("it is about nothing");
    assert!(error.to_string().contains("empty range"), "{error}");
    Ok(())
}

fn kinds() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let mut file = folder.file("a", b"text");
    let kinds = [
        FileAdvice::Normal,
        FileAdvice::Random,
        FileAdvice::Sequential,
        FileAdvice::WillNeed,
        FileAdvice::DontNeed,
        FileAdvice::NoReuse,
    ];
    for advice in kinds {
        let advised = run(&mut ring, Fadvise::new(file, advice).range(1..=2));
        assert!(advised.result.is_ok(), "{advice:?}: {:?}", advised.result);
        file = advised.fd;
    }
    let read = run(&mut ring, ReadV::new(file, ([0; 2], [0; 2])).at(0));
    assert_eq!((read.result?, read.buf), (4, (*b"te", *b"xt")), "it is the same file");
    Ok(())
}

fn pipes() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = pipe()?;
    let number = reader.as_raw_fd();
    let advised = run(&mut ring, Fadvise::new(reader, FileAdvice::WillNeed));
    assert_eq!(errno(&advised), Some(libc::ESPIPE));
    let synced = run(&mut ring, SyncFileRange::new(advised.fd));
    assert_eq!((errno(&synced), synced.fd.as_raw_fd()), (Some(libc::ESPIPE), number));
    Ok(())
}

fn registered() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(1)?;
    let file = table.insert(&mut ring, memory(b"text"))?;
    let advised = run(&mut ring, Fadvise::new(file, FileAdvice::Sequential));
    advised.result?;
    let synced = run(&mut ring, SyncFileRange::new(advised.fd).range(..2));
    synced.result?;
    drop(synced.fd);
    assert_eq!(table.held(), 0);
    Ok(())
}

fn written_back() -> Result<(), Failed> {
    let mut ring = small();
    let (_folder, file) = file(&mut ring);
    let len = usize::try_from(FAR + PAGE).expect("it is small");
    file.write_all_at(&vec![8; len], 0)?;
    let synced = run(&mut ring, SyncFileRange::new(Rc::clone(&file)).range(FAR..FAR + PAGE));
    synced.result?;
    assert!(Rc::ptr_eq(&synced.fd, &file));
    // Pages that still have to be written cannot be dropped.
    assert!(is_gone(&mut ring, &file, FAR, FAR..));
    let read = run(&mut ring, Read::new(file, [0; 1]).at(FAR));
    assert_eq!((read.result?, read.buf), (1, [8]), "and it was written");
    Ok(())
}

fn steps() -> Result<(), Failed> {
    let (mut ring, folder) = (small(), Folder::new());
    let mut file = folder.file("a", b"text");
    for step in [WriteBack::Begin, WriteBack::Wait, WriteBack::BeginAgain, WriteBack::Whole] {
        let synced = run(&mut ring, SyncFileRange::new(file).range(1..).only(step));
        assert!(synced.result.is_ok(), "{step:?}: {:?}", synced.result);
        file = synced.fd;
    }
    Ok(())
}

fn sync_too_long() -> Result<(), Failed> {
    let mut ring = small();
    let synced = run(&mut ring, SyncFileRange::new(memory(b"text")).range(0..1 << 32));
    let error = synced.result.expect_err("33 bits");
    assert!(error.to_string().contains("leave its end open"), "{error}");
    let beyond = run(&mut ring, SyncFileRange::new(synced.fd).range(1 << 63..));
    assert_eq!(errno(&beyond), Some(libc::EINVAL), "no file has such an offset");
    run(&mut ring, SyncFileRange::new(beyond.fd).range(1 << 40..)).result?;
    Ok(())
}
