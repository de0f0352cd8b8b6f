//! Registered files.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;

use annulus::lease::{FileTable, FixedFile, RegisterError};
use annulus::op::{InsertFile, Read, Write};
use annulus::sys::opcode::RegisterOp;
use annulus::{Ring, Setup};
use libtest_mimic::{Failed, Trial};

use super::{Random, in_a_forked_child, of_another_ring, patient, pipe, ring};
use crate::harness::{Need, child_succeeds, hangs_up, hangs_up_within, here, safe_ring, test};

pub const FILES: [Need; 1] = [Need::Other(has_no_tables)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("registered_files_carry_bytes", &FILES, carry_bytes),
        test("a_registered_file_closes_with_its_last_clone", &FILES, closes_with_its_last_clone),
        test("a_registered_file_stays_open_for_what_is_in_flight", &FILES, stays_open_in_flight),
        test("a_registered_file_closes_late_before_6_13", &FILES, closes_late),
        test("a_full_table_of_files_says_so", &FILES, full),
        test("a_file_inserted_but_not_taken_is_closed", &FILES, inserted_for_nobody),
        test("random_use_loses_no_place_for_files", &FILES, random_use),
        test("a_place_that_cannot_be_emptied_is_given_up", &FILES, given_up),
        test("registered_files_close_with_their_ring", &FILES, close_with_their_ring),
        test("registered_files_are_refused_on_another_ring", &FILES, another_ring),
        test("a_ring_has_one_table_of_files_at_a_time", &FILES, one_table),
        test("a_table_of_no_size_is_refused_with_a_message", &[], no_size),
        test("a_table_longer_than_the_limit_names_the_limit", &FILES, beyond_the_limit),
        test("a_forked_child_that_drops_registered_files_harms_nothing", &FILES, || {
            child_succeeds("a forked child drops registered files")
        }),
    ]
}

/// A table that the kernel fills can only be tried.
fn has_no_tables() -> Option<String> {
    match safe_ring(Setup::new(1)).file_table(1) {
        Ok(_) => None,
        Err(why) => Some(format!("needs Linux 5.19: {why}")),
    }
}

pub fn table(ring: &mut Ring, count: u32) -> FileTable {
    patient(|| ring.file_table(count))
}

/// Writes `text` to `file`.
fn write(ring: &mut Ring, file: FixedFile, text: &'static str) {
    let write = ring.submit(Write::new(file, text)).expect("submit");
    assert_eq!(ring.wait(write).expect("wait").result.expect("write"), text.len());
}

/// Inserts as many files as there are places, and finds that there are no more.
pub fn all_are_back(ring: &mut Ring, table: &FileTable) {
    assert_eq!((table.held(), table.lost()), (0, 0));
    let (from, _to) = pipe();
    let insert = |ring: &mut Ring| table.insert(ring, &from);
    let files: Vec<FixedFile> =
        (0..table.count()).map(|_| insert(ring).expect("a free place")).collect();
    assert_eq!((files.len(), table.held()), (table.count(), table.count()));
    let refused = insert(ring).expect_err("one more than there are places");
    assert_eq!(refused.raw_os_error(), Some(libc::ENFILE));
}

fn carry_bytes() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 4);
    let (from, mut to) = pipe();
    let file = table.insert(&mut ring, from)?;
    for text in [&b"one"[..], b"two"] {
        to.write_all(text)?;
        let read = ring.submit(Read::new(file.clone(), Vec::with_capacity(8)))?;
        let outcome = ring.wait(read)?;
        assert_eq!((outcome.result?, &outcome.buf[..]), (3, text));
    }
    // The wrong way round.
    let failed = ring.submit(Write::new(file.clone(), "x"))?;
    let failed = ring.wait(failed)?.result.expect_err("it is for reading");
    assert_eq!(failed.raw_os_error(), Some(libc::EBADF));
    let borrowed = table.insert(&mut ring, to.as_fd())?;
    write(&mut ring, borrowed, "three");
    to.write_all(b", four")?;
    let read = ring.submit(Read::new(file, Vec::with_capacity(16)))?;
    assert_eq!(ring.wait(read)?.ok()?.1, b"three, four");
    all_are_back(&mut ring, &table);
    Ok(())
}

fn closes_with_its_last_clone() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    for _ in 0..2 {
        let (mut from, to) = pipe();
        let file = table.insert(&mut ring, to)?;
        let clone = file.clone();
        drop(file);
        assert_eq!(table.held(), 1);
        write(&mut ring, clone.clone(), "open");
        drop(clone);
        assert_eq!(table.held(), 0);
        let mut text = String::new();
        from.read_to_string(&mut text)?; // Until the last write end is closed.
        assert_eq!(text, "open");
    }
    all_are_back(&mut ring, &table);
    Ok(())
}

fn stays_open_in_flight() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 1);
    let (from, mut to) = pipe();
    let file = table.insert(&mut ring, from)?;
    let read = ring.submit(Read::new(file, Vec::with_capacity(8)))?;
    ring.submit_all()?;
    assert_eq!(table.held(), 1, "the operation has it");
    let (other, _to) = pipe();
    let refused = table.insert(&mut ring, &other).expect_err("its place is not free");
    assert_eq!(refused.raw_os_error(), Some(libc::ENFILE));
    to.write_all(b"data")?;
    assert_eq!(ring.wait(read)?.ok()?.1, b"data");
    assert_eq!(table.held(), 0);
    drop(table.insert(&mut ring, &other)?);
    all_are_back(&mut ring, &table);
    Ok(())
}

fn closes_late() -> Result<(), Failed> {
    let at_once = here().has_register(RegisterOp::RESIZE_RINGS);
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let (silent, mut to) = pipe();
    let silent = table.insert(&mut ring, silent)?;
    let (from, writer) = pipe();
    let writer = table.insert(&mut ring, writer)?;
    let read = ring.submit(Read::new(silent, Vec::with_capacity(8)))?;
    ring.submit_all()?;
    drop(writer);
    assert_eq!(table.held(), 1, "its place is free in any case");
    // Twice as long as older kernels wait where nothing is in flight.
    let milliseconds = if at_once { 60_000 } else { 2_000 };
    assert_eq!(hangs_up_within(&from, milliseconds), at_once);
    to.write_all(b"data")?;
    assert_eq!(ring.wait(read)?.ok()?.1, b"data");
    assert!(hangs_up(&from));
    all_are_back(&mut ring, &table);
    Ok(())
}

fn full() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 3);
    all_are_back(&mut ring, &table);
    let (from, to) = pipe();
    let insert = ring.submit(InsertFile::new(from, &table))?;
    let inserted = ring.wait(insert)?;
    let file = inserted.result?;
    let rest = [table.insert(&mut ring, &to)?, table.insert(&mut ring, &to)?];
    let insert = ring.submit(InsertFile::new(inserted.fd, &table))?;
    let refused = ring.wait(insert)?;
    assert_eq!(refused.result.expect_err("full").raw_os_error(), Some(libc::ENFILE));
    drop(file);
    let insert = ring.submit(InsertFile::new(refused.fd, &table))?;
    drop((ring.wait(insert)?.result?, rest));
    all_are_back(&mut ring, &table);
    Ok(())
}

fn inserted_for_nobody() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let (mut from, to) = pipe();
    // Detached before it completes, after, and never taken until the ring is dropped.
    let early = ring.submit(InsertFile::new(to.try_clone()?, &table))?;
    ring.detach(early);
    while ring.in_flight() > 0 {
        ring.submit_and_wait(0)?;
        ring.reap(|event| panic!("no ticket is for {event:?}"))?;
    }
    all_are_back(&mut ring, &table);
    let late = ring.submit(InsertFile::new(to.try_clone()?, &table))?;
    ring.submit_and_wait(1)?;
    ring.reap(|_| ())?;
    ring.detach(late);
    all_are_back(&mut ring, &table);
    let never = ring.submit(InsertFile::new(to, &table))?;
    ring.submit_and_wait(1)?;
    drop((never, ring));
    assert_eq!(from.read(&mut [0])?, 0, "every write end is closed");
    assert_eq!(table.held(), 0);
    Ok(())
}

/// Whatever is inserted, cloned, used and dropped: every lease keeps its file, and no slot is lost.
fn random_use() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 5);
    let mut random = Random(5);
    let mut held: Vec<(FixedFile, u8)> = Vec::new();
    for lap in 0..500_u16 {
        let name = lap.to_le_bytes()[0];
        match random.below(4) {
            0 if held.len() < 5 => {
                // Each holds its own byte, over and over.
                let (from, mut to) = pipe();
                to.write_all(&[name; 64])?;
                held.push((table.insert(&mut ring, from)?, name));
            }
            1 if !held.is_empty() => drop(held.swap_remove(random.below(held.len()))),
            2 if !held.is_empty() => {
                let (file, name) = &held[random.below(held.len())];
                let read = ring.submit(Read::new(file.clone(), [0; 1]))?;
                let (count, byte) = ring.wait(read)?.ok()?;
                assert!(count == 0 || byte[0] == *name, "lap {lap}");
            }
            _ => drop(held.first().cloned()),
        }
        assert_eq!(table.held(), held.len(), "lap {lap}");
    }
    held.clear();
    all_are_back(&mut ring, &table);
    Ok(())
}

/// The kernel refuses to close a file, since the table was unregistered.
fn given_up() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let (from, _to) = pipe();
    let file = table.insert(&mut ring, from)?;
    let (base, nothing) = (ring.raw().base(), std::ptr::null_mut());
    // SAFETY: takes no argument, because `io_uring_register(2)` says so.
    unsafe { base.register(RegisterOp::UNREGISTER_FILES, nothing, 0) }?;
    drop(file);
    assert_eq!((table.held(), table.lost(), table.count()), (0, 1, 2));
    Ok(())
}

fn close_with_their_ring() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let (mut from, to) = pipe();
    let file = table.insert(&mut ring, to)?;
    let clone = file.clone();
    let (_, other) = pipe();
    drop(ring);
    assert_eq!(from.read(&mut [0])?, 0, "every write end is closed");
    // It names nothing now, in this ring's table or another's.
    let mut second = safe_ring(Setup::new(4));
    let seconds = self::table(&mut second, 2);
    let there = seconds.insert(&mut second, other)?;
    drop(of_another_ring(second.submit(Write::new(file, "x"))));
    drop(clone);
    assert_eq!((table.held(), seconds.held()), (0, 1));
    drop(there);
    all_are_back(&mut second, &seconds);
    Ok(())
}

fn another_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (ring(), safe_ring(Setup::new(4)));
    let table = table(&mut ring, 2);
    let (mut from, to) = pipe();
    let op = of_another_ring(other.submit(InsertFile::new(to, &table)));
    let insert = ring.submit(op)?;
    let file = ring.wait(insert)?.result?;
    let op = of_another_ring(other.submit(Write::new(file, "mine")));
    let write = ring.submit(op)?;
    drop(ring.wait(write)?);
    let mut text = String::new();
    from.read_to_string(&mut text)?;
    assert_eq!(text, "mine");
    all_are_back(&mut ring, &table);
    Ok(())
}

fn one_table() -> Result<(), Failed> {
    let mut ring = ring();
    let first = table(&mut ring, 2);
    let again = ring.file_table(1).expect_err("there is one");
    assert!(again.to_string().starts_with("one table of registered files per ring"));
    let (from, mut to) = pipe();
    let file = first.insert(&mut ring, from)?;
    let insert = ring.submit(InsertFile::new(to.try_clone()?, &first))?;
    drop((file, first));
    assert!(matches!(ring.file_table(1), Err(RegisterError::InUse { .. })), "in flight");
    let file = ring.wait(insert)?.result?;
    assert!(matches!(ring.file_table(1), Err(RegisterError::InUse { .. })), "held");
    drop(file);
    let second = table(&mut ring, 5);
    all_are_back(&mut ring, &second);
    to.write_all(b"").map_err(Into::into)
}

fn no_size() -> Result<(), Failed> {
    let mut ring = ring();
    for count in [0, (1 << 20) + 1, u32::MAX] {
        let refused = ring.file_table(count).expect_err("no kernel takes it");
        assert!(refused.to_string().contains("1 to 1048576"), "{refused}");
    }
    match ring.file_table(2) {
        Ok(table) => all_are_back(&mut ring, &table),
        Err(refused) => assert!(refused.to_string().ends_with("needs Linux 5.19"), "{refused}"),
    }
    Ok(())
}

fn beyond_the_limit() -> Result<(), Failed> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = line.and_then(|line| line.split_whitespace().next()).ok_or("a limit")?;
    let limit: u32 = limit.parse()?;
    if limit < 1 << 20 {
        let refused = ring().file_table(limit + 1).expect_err("it is beyond the limit");
        assert_eq!(refused, RegisterError::TooManyFiles { count: limit + 1, limit: limit.into() });
        assert!(refused.to_string().contains("ulimit -n"), "{refused}");
    }
    Ok(())
}

pub fn forked_child_drops() {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let ((mut from, to), (other, mut to_other)) = (pipe(), pipe());
    let file = table.insert(&mut ring, to).expect("a free place");
    let in_flight = table.insert(&mut ring, other).expect("a free place");
    let read = ring.submit(Read::new(in_flight, Vec::with_capacity(8))).expect("submit");
    ring.submit_all().expect("submit");
    let mut shared = Some((ring, table, file));
    in_a_forked_child(|| drop(shared.take()));
    let (mut ring, table, file) = shared.take().expect("the child took its own");
    assert_eq!(table.held(), 2);
    to_other.write_all(b"data").expect("write");
    assert_eq!(ring.wait(read).expect("wait").ok().expect("read").1, b"data");
    write(&mut ring, file, "the parent's");
    let mut text = String::new();
    from.read_to_string(&mut text).expect("read");
    assert_eq!(text, "the parent's");
    all_are_back(&mut ring, &table);
}
