//! Solutions of chapter 16: what is on the disk, and who waits for it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::rc::Rc;

use annulus::op::{Fsync, Read, RwFlags, Write};
use annulus::sys::flags::Features;
use annulus::{ChainEnd, Ring, Setup};

use crate::ring;

/// A file of a page, which has no name any more.
fn page(name: &str) -> (Rc<File>, Rc<File>) {
    let name = format!("annulus-book-{}-{name}", std::process::id());
    let path: PathBuf = std::env::temp_dir().join(name);
    fs::write(&path, [b'.'; 4096]).expect("it can be written");
    let written = File::options().write(true).open(&path).expect("it is there");
    let read = File::open(&path).expect("it is there");
    fs::remove_file(path).expect("it is there");
    (Rc::new(read), Rc::new(written))
}

/// Whether the kernel has made a worker thread for the rings of this thread.
pub fn has_worker() -> bool {
    let here = fs::read_link("/proc/thread-self").expect("it is this thread");
    let number = here.file_name().and_then(|name| name.to_str()).expect("a number");
    let worker = format!("iou-wrk-{number}");
    let threads = fs::read_dir("/proc/self/task").expect("the threads of this process");
    let names = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("comm")));
    names.flatten().any(|name| name.trim() == worker)
}

// ANCHOR: worker
#[test]
fn a_sync_takes_a_worker_thread_and_a_read_of_the_page_cache_does_not() {
    let Some(mut ring) = ring(Setup::new(4)) else { return };
    let (read, written) = page("worker");
    let read = ring.submit(Read::new(read, vec![0; 4096]).at(0)).expect("room");
    assert_eq!(ring.wait(read).expect("it ends").result.expect("a page"), 4096);
    assert!(!has_worker(), "its page was in memory");
    let sync = ring.submit(Fsync::new(written)).expect("room");
    ring.wait(sync).expect("it ends").result.expect("the disk works");
    // It is kept for a while, since more may come.
    // Before Linux 5.12 a worker was no thread of the process.
    assert_eq!(has_worker(), ring.features().contains(Features::NATIVE_WORKERS));
}
// ANCHOR_END: worker

// ANCHOR: group
/// Writes at these offsets, and one sync behind all of them. Returns where it broke.
fn commit(ring: &mut Ring, log: &Rc<File>, offsets: &[u64]) -> (ChainEnd, bool) {
    let write = |&at: &u64| Write::new(Rc::clone(log), "record").at(at);
    let writes: Vec<_> = offsets.iter().map(write).collect();
    let sync = Fsync::new(Rc::clone(log)).data_only();
    let chain = ring.submit_chain((writes, sync)).expect("room");
    let chain = ring.wait_chain(chain).expect("it ends");
    (chain.end, chain.outputs.1.result.is_ok())
}

#[test]
fn three_records_are_durable_after_one_sync_or_none_is() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (read, written) = page("group");
    let before = ring.stats();
    assert_eq!(commit(&mut ring, &written, &[0, 6, 12]), (ChainEnd::Complete, true));
    let after = ring.stats();
    assert_eq!((after.enters - before.enters, after.sqes - before.sqes), (1, 4));
    let check = ring.submit(Read::new(Rc::clone(&read), vec![0; 18]).at(0)).expect("room");
    assert_eq!(ring.wait(check).expect("it ends").buf, b"recordrecordrecord");
    // A file that cannot be written: the first write fails, and no sync says that all is well.
    let (end, is_durable) = commit(&mut ring, &read, &[0, 6, 12]);
    assert_eq!((end, is_durable), (ChainEnd::Broken { at: 0 }, false));
}
// ANCHOR_END: group

// ANCHOR: dsync
#[test]
fn a_durable_write_is_one_entry() {
    let Some(mut ring) = ring(Setup::new(4)) else { return };
    let (_, written) = page("dsync");
    let write = Write::new(Rc::clone(&written), "record").at(0).flags(RwFlags::DSYNC);
    let write = ring.submit(write).expect("room");
    assert_eq!(ring.wait(write).expect("it ends").result.expect("it is written"), 6);
    assert_eq!(ring.stats().sqes, 1);
    // What it cannot do: one sync for several writes. Three of these wait for the disk three times.
    let three = [0, 6, 12].map(|at| {
        let write = Write::new(Rc::clone(&written), "record").at(at).flags(RwFlags::DSYNC);
        ring.submit(write).expect("room")
    });
    for ticket in three {
        assert_eq!(ring.wait(ticket).expect("it ends").result.expect("it is written"), 6);
    }
}
// ANCHOR_END: dsync
