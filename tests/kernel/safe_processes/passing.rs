//! Files that are passed from one ring's table to another's.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::sync::mpsc;
use std::thread;

use annulus::lease::{FileTable, FixedFile, PassedFile, RegisterError};
use annulus::op::{Outcome, PassFile, Read};
use annulus::sys::flags::SetupFlags;
use annulus::{Event, Rejection, Ring, SendError};
use libtest_mimic::{Failed, Trial};

use super::{errno, run, small};
use crate::harness::{Need, test};

/// Since Linux 6.3, as telling the place; no set-up flag came with that, so the next.
const PASSES: Need = Need::Setup(SetupFlags::NO_MMAP);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_file_goes_to_another_ring", &[PASSES], goes),
        test("a_file_goes_to_the_ring_of_another_thread", &[PASSES], goes_to_thread),
        test("op3_a_file_that_is_not_received_is_closed", &[PASSES], nobody_receives),
        test("op3_a_file_whose_passing_is_given_up_is_closed", &[PASSES], given_up),
        test("a_file_that_has_no_place_comes_back", &[PASSES], no_place),
        test("a_file_is_received_by_its_table_only", &[PASSES], other_table),
        test("a_file_is_passed_to_no_ring_that_is_gone", &[PASSES], gone),
        test("a_table_stays_while_files_are_under_way_to_it", &[PASSES], under_way),
        test("a_file_is_not_passed_to_its_own_ring", &[PASSES], own_ring),
        test("a_file_is_passed_by_its_own_ring", &[PASSES], foreign_file),
    ]
}

/// A ring with a table of `count` places.
fn with_table(count: u32) -> Result<(Ring, FileTable), Failed> {
    let mut ring = small();
    let table = ring.file_table(count)?;
    Ok((ring, table))
}

/// A registered pipe to read from, and its other end.
fn registered(ring: &mut Ring, table: &FileTable) -> Result<(FixedFile, PipeWriter), Failed> {
    let (reader, writer): (PipeReader, _) = pipe()?;
    Ok((table.insert(ring, reader)?, writer))
}

/// Passes `file`, which must go.
fn pass(
    ring: &mut Ring,
    file: &FixedFile,
    to: &FileTable,
) -> Result<Outcome<PassedFile, FixedFile>, Failed> {
    Ok(run(ring, PassFile::new(file.clone(), &to.sender()?)?))
}

fn read(ring: &mut Ring, file: FixedFile) -> Result<u8, Failed> {
    let read = run(ring, Read::new(file, [0; 1]));
    assert_eq!(read.result?, 1);
    Ok(read.buf[0])
}

fn goes() -> Result<(), Failed> {
    let ((mut from, source), (mut to, target)) = (with_table(1)?, with_table(2)?);
    let (file, mut writer) = registered(&mut from, &source)?;
    let passed = pass(&mut from, &file, &target)?;
    drop((passed.fd, file));
    assert_eq!((source.held(), target.held()), (0, 0));
    let received = target.receive(passed.result?).map_err(|_| "it is of this table")?;
    assert_eq!(target.held(), 1);
    writer.write_all(b"x")?;
    assert_eq!(read(&mut to, received)?, b'x');
    assert_eq!(target.held(), 0);
    Ok(())
}

fn goes_to_thread() -> Result<(), Failed> {
    let (give, take) = mpsc::channel();
    let (pass_on, receive) = mpsc::channel::<PassedFile>();
    let thread = thread::spawn(move || -> Result<u8, String> {
        let told = |failed: Failed| failed.message().unwrap_or("?").to_owned();
        let (mut ring, table) = with_table(4).map_err(told)?;
        let senders = (table.sender().map_err(|e| e.to_string())?, ring.sender());
        give.send(senders).map_err(|e| e.to_string())?;
        // Woken, first by the kernel to do the work, then by a message.
        let mut came = false;
        while !came {
            ring.submit_and_wait(1).map_err(|e| e.to_string())?;
            let each = |event: Event<'_, ()>| came |= matches!(event, Event::Message(7));
            ring.reap(each).map_err(|e| e.to_string())?;
        }
        let passed = receive.recv().map_err(|e| e.to_string())?;
        let file = table.receive(passed).map_err(|_| "not of this table")?;
        read(&mut ring, file).map_err(told)
    });
    let (files, messages) = take.recv()?;
    let (mut from, source) = with_table(1)?;
    let (file, mut writer) = registered(&mut from, &source)?;
    writer.write_all(b"y")?;
    let passed = run(&mut from, PassFile::new(file, &files)?);
    pass_on.send(passed.result?)?;
    messages?.send(7)?;
    assert_eq!(thread.join().expect("no panic")?, b'y');
    Ok(())
}

fn nobody_receives() -> Result<(), Failed> {
    let ((mut from, source), (_to, target)) = (with_table(1)?, with_table(1)?);
    let (file, _writer) = registered(&mut from, &source)?;
    for _ in 0..5 {
        let sender = target.sender()?;
        drop(run(&mut from, PassFile::new(file.clone(), &sender)?).result?);
        // Only the thread of the table closes the file, and it learns of that now.
        let full = run(&mut from, PassFile::new(file.clone(), &sender)?);
        assert_eq!(errno(&full), Some(libc::ENFILE));
    }
    assert_eq!((target.held(), target.lost()), (0, 0));
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let ((mut from, source), (_to, target)) = (with_table(1)?, with_table(1)?);
    let (file, _writer) = registered(&mut from, &source)?;
    for _ in 0..5 {
        let ticket = from.submit(PassFile::new(file.clone(), &target.sender()?)?);
        from.detach(ticket.map_err(|rejected| rejected.why)?);
        from.submit_all()?;
        // Completes on the way of another.
        run(&mut from, annulus::op::Nop)?;
        from.reap(|_| ())?;
    }
    let passed = pass(&mut from, &file, &target)?.result?;
    assert!(target.receive(passed).is_ok());
    Ok(())
}

fn no_place() -> Result<(), Failed> {
    let ((mut from, source), (mut to, target)) = (with_table(1)?, with_table(1)?);
    let (_taken, _other) = registered(&mut to, &target)?;
    let (file, _writer) = registered(&mut from, &source)?;
    let full = pass(&mut from, &file, &target)?;
    assert_eq!(errno(&full), Some(libc::ENFILE));
    drop((full.fd, file));
    assert_eq!(source.held(), 0, "it came back");
    Ok(())
}

fn other_table() -> Result<(), Failed> {
    let ((mut from, source), (_to, target)) = (with_table(1)?, with_table(1)?);
    let (_third, other) = with_table(1)?;
    other.sender()?;
    let (file, _writer) = registered(&mut from, &source)?;
    let passed = pass(&mut from, &file, &target)?.result?;
    let Err(passed) = other.receive(passed) else { return Err("it is not there".into()) };
    let Err(passed) = source.receive(passed) else { return Err("nor here".into()) };
    assert!(target.receive(passed).is_ok());
    Ok(())
}

fn gone() -> Result<(), Failed> {
    let ((mut from, source), (to, target)) = (with_table(1)?, with_table(1)?);
    let (file, _writer) = registered(&mut from, &source)?;
    let sender = target.sender()?;
    let under_way = PassFile::new(file.clone(), &sender)?;
    let passed = pass(&mut from, &file, &target)?.result?;
    drop(to);
    assert_eq!(PassFile::new(file, &sender).err(), Some(SendError::Closed));
    assert!(target.sender().is_err());
    let Err(passed) = target.receive(passed) else { return Err("its ring is gone".into()) };
    // Operations that were made before find no slot, or one that ends with the ring.
    drop(run(&mut from, under_way));
    drop((passed, target));
    Ok(())
}

fn under_way() -> Result<(), Failed> {
    let ((mut from, source), (mut to, target)) = (with_table(1)?, with_table(1)?);
    let (file, _writer) = registered(&mut from, &source)?;
    let passed = pass(&mut from, &file, &target)?.result?;
    drop(target);
    let taken = to.file_table(1).err();
    assert!(matches!(taken, Some(RegisterError::InUse { .. })), "{taken:?}");
    drop(passed);
    let target = to.file_table(2)?;
    let passed = pass(&mut from, &file, &target)?.result?;
    assert!(target.receive(passed).is_ok());
    Ok(())
}

fn own_ring() -> Result<(), Failed> {
    let (mut ring, table) = with_table(2)?;
    let (file, _writer) = registered(&mut ring, &table)?;
    let refused = pass(&mut ring, &file, &table)?;
    assert_eq!(errno(&refused), Some(libc::EINVAL));
    Ok(())
}

fn foreign_file() -> Result<(), Failed> {
    let ((mut from, source), (mut to, target)) = (with_table(1)?, with_table(1)?);
    let (file, _writer) = registered(&mut from, &source)?;
    let rejected = to.submit(PassFile::new(file, &target.sender()?)?);
    assert_eq!(rejected.map_err(|rejected| rejected.why).err(), Some(Rejection::OtherRing));
    Ok(())
}
