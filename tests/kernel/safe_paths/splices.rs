//! Splices, safe API: bytes that go from file to file.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Seek as _, SeekFrom, Write as _, pipe};
use std::os::fd::{AsFd as _, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::Rejection;
use annulus::op::{Outcome, Splice, Tee};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, test};
use crate::safe_files::{Folder, errno, memory, run, small};

const SPLICE: Need = Need::Op(Opcode::SPLICE);
const TEE: Need = Need::Op(Opcode::TEE);
/// Since Linux 5.19, as tables that the kernel fills.
const REGISTERED: Need = Need::Op(Opcode::SOCKET);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_file_goes_through_a_pipe_into_another", &[SPLICE], copy),
        test("without_an_offset_a_splice_moves_the_files_position", &[SPLICE], positions),
        test("either_side_of_a_splice_is_a_registered_file", &[SPLICE, REGISTERED], registered),
        test("a_registered_file_of_another_ring_is_not_spliced", &[SPLICE, REGISTERED], foreign),
        test("what_cannot_be_spliced_gives_both_files_back", &[SPLICE], refused),
        test("a_splice_that_may_not_wait_does_not", &[SPLICE], non_block),
        test("a_splice_of_a_file_that_does_not_block_does_not_wait", &[SPLICE], either),
        test("a_splice_that_waits_is_cancelled", &[SPLICE], cancelled),
        test("the_end_of_a_pipe_is_no_bytes", &[SPLICE, TEE], end),
        test("what_is_in_a_pipe_is_shown_to_another", &[TEE], tee),
        test("a_tee_of_a_registered_pipe_is_the_same", &[TEE, REGISTERED], tee_registered),
        test("what_is_no_pipe_is_not_teed", &[TEE], tee_refused),
    ]
}

fn ends() -> std::io::Result<(Rc<PipeReader>, Rc<PipeWriter>)> {
    pipe().map(|(reader, writer)| (Rc::new(reader), Rc::new(writer)))
}

/// The first `N` bytes of a file.
fn text<const N: usize>(file: &File) -> std::io::Result<[u8; N]> {
    let mut text = [0; N];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}

fn copy() -> Result<(), Failed> {
    let (mut ring, (reader, writer)) = (small(), ends()?);
    let (from, to) = (Rc::new(memory(b"0123456789")), Rc::new(memory(b"----------")));
    let fill = Splice::new(Rc::clone(&from), Rc::clone(&writer), 100).from_at(6);
    let filled = run(&mut ring, fill);
    assert_eq!(filled.result?, 4, "as many as there are");
    assert!(Rc::ptr_eq(&filled.fd.0, &from) && Rc::ptr_eq(&filled.fd.1, &writer));
    let empty = Splice::new(Rc::clone(&reader), Rc::clone(&to), 3).to_at(1).more();
    let emptied = run(&mut ring, empty);
    assert_eq!(emptied.result?, 3, "as many as were asked for");
    assert!(Rc::ptr_eq(&emptied.fd.0, &reader) && Rc::ptr_eq(&emptied.fd.1, &to));
    assert_eq!(text(&to)?, *b"-678------");
    let mut rest = [0; 1];
    (&*reader).read_exact(&mut rest)?;
    assert_eq!(rest, *b"9", "it stays in the pipe");
    Ok(())
}

fn positions() -> Result<(), Failed> {
    let (mut ring, (reader, writer)) = (small(), ends()?);
    let (mut from, mut to) = (memory(b"0123456789"), memory(b"----------"));
    from.seek(SeekFrom::Start(2))?;
    to.seek(SeekFrom::Start(1))?;
    let fill = run(&mut ring, Splice::new(from, Rc::clone(&writer), 3));
    let empty = run(&mut ring, Splice::new(Rc::clone(&reader), to, 3));
    assert_eq!((fill.result?, empty.result?), (3, 3));
    let (mut from, mut to) = (fill.fd.0, empty.fd.1);
    assert_eq!((from.stream_position()?, to.stream_position()?), (5, 4));
    let fill = run(&mut ring, Splice::new(from, writer, 3).from_at(7));
    let empty = run(&mut ring, Splice::new(reader, to, 3).to_at(7));
    assert_eq!((fill.result?, empty.result?), (3, 3));
    (from, to) = (fill.fd.0, empty.fd.1);
    assert_eq!((from.stream_position()?, to.stream_position()?), (5, 4));
    assert_eq!(text(&to)?, *b"-234---789");
    Ok(())
}

fn registered() -> Result<(), Failed> {
    let (mut ring, (reader, writer)) = (small(), ends()?);
    let table = ring.file_table(4)?;
    let (from, to) = (memory(b"both by number"), Rc::new(memory(b"--------------")));
    // Registered in an order in which no slot has the number of a descriptor that would also work.
    let [w, r] = [table.insert(&mut ring, &*writer)?, table.insert(&mut ring, &*reader)?];
    let [f, t] = [table.insert(&mut ring, &from)?, table.insert(&mut ring, &*to)?];
    assert_eq!(run(&mut ring, Splice::new(f, w, 14).from_at(0)).result?, 14);
    assert_eq!(run(&mut ring, Splice::new(r.clone(), t.clone(), 4).to_at(0)).result?, 4);
    // One of them by its slot, the other by its descriptor.
    assert_eq!(run(&mut ring, Splice::new(r, Rc::clone(&to), 4).to_at(4)).result?, 4);
    let last = run(&mut ring, Splice::new(Rc::clone(&reader), t, 6).to_at(8));
    assert_eq!(last.result?, 6);
    assert!(Rc::ptr_eq(&last.fd.0, &reader));
    assert_eq!(text(&to)?, *b"both by number");
    drop(last.fd.1);
    assert_eq!(table.held(), 0);
    Ok(())
}

fn foreign() -> Result<(), Failed> {
    let (mut ring, mut other, (reader, writer)) = (small(), small(), ends()?);
    let table = other.file_table(2)?;
    let (r, w) = (table.insert(&mut other, &*reader)?, table.insert(&mut other, &*writer)?);
    let from = ring.submit(Splice::new(r.clone(), Rc::clone(&writer), 1)).map(drop);
    assert_eq!(from.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    let to = ring.submit(Splice::new(Rc::clone(&reader), w.clone(), 1)).map(drop);
    assert_eq!(to.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    let tee = ring.submit(Tee::new(r, writer, 1)).map(drop);
    assert_eq!(tee.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    let tee = ring.submit(Tee::new(reader, w, 1)).map(drop);
    assert_eq!(tee.map_err(|rejected| rejected.why), Err(Rejection::OtherRing));
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let (mut ring, (reader, writer), folder) = (small(), ends()?, Folder::new());
    (&*writer).write_all(b"in the pipe")?;
    let (from, to) = (memory(b"text"), memory(b"----"));
    let (from_fd, to_fd) = (from.as_raw_fd(), to.as_raw_fd());
    let no_pipe = run(&mut ring, Splice::new(from, to, 4));
    assert_eq!(errno(&no_pipe), Some(libc::EINVAL));
    let (from, to) = no_pipe.fd;
    assert_eq!((from.as_raw_fd(), to.as_raw_fd()), (from_fd, to_fd));
    let offset = run(&mut ring, Splice::new(Rc::clone(&reader), to, 4).from_at(0));
    assert_eq!(errno(&offset), Some(libc::ESPIPE), "a pipe has no offsets");
    let beyond = run(&mut ring, Splice::new(from, Rc::clone(&writer), 4).from_at(u64::MAX));
    assert_eq!(errno(&beyond), Some(libc::EINVAL), "and this is one, not the file's position");
    let circle = run(&mut ring, Splice::new(Rc::clone(&reader), Rc::clone(&writer), 4));
    assert_eq!(errno(&circle), Some(libc::EINVAL));
    let turned = run(&mut ring, Splice::new(Rc::clone(&writer), offset.fd.1, 4));
    assert_eq!(errno(&turned), Some(libc::EBADF), "that end is for writing");
    drop(folder.file("log", b""));
    let log = File::options().append(true).open(folder.path("log"))?;
    let appending = run(&mut ring, Splice::new(reader, log, 4));
    assert_eq!(errno(&appending), Some(libc::EINVAL));
    assert_eq!(appending.fd.1.metadata()?.len(), 0);
    Ok(())
}

fn non_block() -> Result<(), Failed> {
    let (mut ring, (reader, _writer)) = (small(), ends()?);
    let empty = run(&mut ring, Splice::new(Rc::clone(&reader), memory(b""), 4).non_block());
    assert_eq!(errno(&empty), Some(libc::EAGAIN));
    let (_other, to) = ends()?;
    let tee = run(&mut ring, Tee::new(reader, to, 4).non_block());
    assert_eq!(errno(&tee), Some(libc::EAGAIN));
    Ok(())
}

/// One of the two is enough.
fn either() -> Result<(), Failed> {
    let mut ring = small();
    for which in [0, 1] {
        let (reader, _writer) = ends()?;
        let (_reader, writer) = ends()?;
        let either = [reader.as_fd(), writer.as_fd()][which].try_clone_to_owned()?;
        // The call is the same for each kind of file.
        UnixStream::from(either).set_nonblocking(true)?;
        let splice = run(&mut ring, Splice::new(reader, writer, 4));
        assert_eq!(errno(&splice), Some(libc::EAGAIN), "{which}");
    }
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let (mut ring, (reader, writer)) = (small(), ends()?);
    let to = memory(b"----");
    let mut ticket = ring.submit(Splice::new(Rc::clone(&reader), to, 4)).map_err(|r| r.why)?;
    ring.submit_all()?;
    // A cancel misses what a worker thread is just starting (seen on 6.1).
    let splice = loop {
        ring.cancel(&ticket)?;
        match ring.wait_timeout(ticket, Duration::from_millis(100)) {
            Ok(splice) => break splice,
            Err(unfinished) => ticket = unfinished.ticket,
        }
    };
    // It has begun or not: 512 is the kernel's internal error for an interrupted wait for a pipe.
    let code = errno(&splice);
    assert!(matches!(code, Some(libc::ECANCELED | libc::EINTR | 512)), "{splice:?}");
    assert_eq!(text(&splice.fd.1)?, *b"----");
    (&*writer).write_all(b"stay")?;
    let mut stayed = [0; 4];
    (&*reader).read_exact(&mut stayed)?;
    assert_eq!(stayed, *b"stay");
    Ok(())
}

fn end() -> Result<(), Failed> {
    let (mut ring, (reader, writer)) = (small(), ends()?);
    drop(writer);
    let (_other, to) = ends()?;
    let splice = run(&mut ring, Splice::new(Rc::clone(&reader), memory(b""), 4));
    let tee = run(&mut ring, Tee::new(reader, to, 4));
    assert_eq!((splice.result?, tee.result?), (0, 0));
    Ok(())
}

fn tee() -> Result<(), Failed> {
    let (mut ring, (reader, writer), (other, to)) = (small(), ends()?, ends()?);
    (&*writer).write_all(b"for both")?;
    let tee = run(&mut ring, Tee::new(Rc::clone(&reader), Rc::clone(&to), 3));
    let Outcome { result, fd, .. } = tee;
    assert_eq!(result?, 3);
    assert!(Rc::ptr_eq(&fd.0, &reader) && Rc::ptr_eq(&fd.1, &to));
    let (mut shown, mut kept) = ([0; 3], [0; 8]);
    (&*other).read_exact(&mut shown)?;
    (&*reader).read_exact(&mut kept)?;
    assert_eq!((shown, kept), (*b"for", *b"for both"));
    Ok(())
}

fn tee_registered() -> Result<(), Failed> {
    let (mut ring, (reader, writer), (other, to)) = (small(), ends()?, ends()?);
    let table = ring.file_table(2)?;
    (&*writer).write_all(b"by number")?;
    // The slot of one is not that of the other.
    let (t, f) = (table.insert(&mut ring, &*to)?, table.insert(&mut ring, &*reader)?);
    assert_eq!(run(&mut ring, Tee::new(f.clone(), t, 9)).result?, 9);
    let mut shown = [0; 9];
    (&*other).read_exact(&mut shown)?;
    assert_eq!(shown, *b"by number");
    assert_eq!(run(&mut ring, Tee::new(f, to, 2)).result?, 2);
    assert_eq!((&*other).read(&mut shown)?, 2);
    Ok(())
}

fn tee_refused() -> Result<(), Failed> {
    let (mut ring, (reader, writer)) = (small(), ends()?);
    let file = memory(b"text");
    let number = file.as_raw_fd();
    let from_file = run(&mut ring, Tee::new(file, Rc::clone(&writer), 4));
    assert_eq!(errno(&from_file), Some(libc::EINVAL));
    assert_eq!(from_file.fd.0.as_raw_fd(), number);
    let circle = run(&mut ring, Tee::new(reader, writer, 4));
    assert_eq!(errno(&circle), Some(libc::EINVAL));
    Ok(())
}
