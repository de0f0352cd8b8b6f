//! Places of the file table that are known beforehand: who holds them, and which file lies there.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use annulus::lease::{FileTable, FixedFile};
use annulus::op::{
    Accept, AcceptMulti, ClearFile, Cwd, Domain, How, Nop, OpenAt, Outcome, Read, Recv, Socket,
    SocketKind,
};
use annulus::{ChainEnd, Rejection, Ring, Setup, Step as _};
use libtest_mimic::{Failed, Trial};

use super::{Folder, REGISTERED};
use crate::harness::{Need, safe_ring, test};

const TABLES: [Need; 1] = [REGISTERED];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_file_is_opened_read_and_closed_in_one_chain", &TABLES, in_one_chain),
        test("op3_a_place_is_ours_whatever_lies_there", &TABLES, is_held),
        test("what_cannot_be_opened_leaves_the_placeholder", &TABLES, not_opened),
        test("a_place_is_filled_again_and_again", &TABLES, again),
        test("a_connection_and_a_socket_go_to_their_place", &TABLES, sockets),
        test("a_place_of_another_ring_is_refused", &TABLES, of_another_ring),
        test("op3_a_place_that_is_given_up_in_flight_is_free_again", &TABLES, given_up),
    ]
}

fn with_table(count: u32) -> Result<(Ring, FileTable), Failed> {
    let mut ring = safe_ring(Setup::new(8));
    let table = ring.file_table(count)?;
    Ok((ring, table))
}

/// A file with these bytes.
fn path(folder: &Folder, name: &str, bytes: &str) -> Result<CString, Failed> {
    let path = folder.path(name);
    fs::write(&path, bytes)?;
    Ok(CString::new(path.into_os_string().into_encoded_bytes())?)
}

/// What a read of the place gives.
fn read(ring: &mut Ring, place: &FixedFile) -> io::Result<Vec<u8>> {
    let ticket = ring.submit(Read::new(place.clone(), Vec::with_capacity(64)).at(0))?;
    let read = ring.wait(ticket).map_err(|unfinished| unfinished.why)?;
    read.result.map(|_| read.buf)
}

fn is_placeholder(ring: &mut Ring, place: &FixedFile) -> bool {
    read(ring, place).is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
}

fn in_one_chain() -> Result<(), Failed> {
    let (folder, (mut ring, table)) = (Folder::new(), with_table(2)?);
    let mut place = table.reserve(&mut ring)?;
    for text in ["first", "second"] {
        let path = path(&folder, "data", text)?;
        let open = OpenAt::new(Cwd, path, How::read()).direct_to(&place);
        let read = Read::new(place.clone(), Vec::with_capacity(64)).hard();
        let chain = ring.submit_chain((open, read, ClearFile::new(place)));
        let chain = ring.wait_chain(chain.map_err(|rejected| rejected.why)?);
        let chain = chain.map_err(|unfinished| unfinished.why)?;
        assert_eq!(chain.end, ChainEnd::Complete);
        let (open, read, clear) = chain.outputs;
        drop(open.result?);
        assert_eq!((read.result?, &read.buf[..]), (text.len(), text.as_bytes()));
        clear.result?;
        place = clear.fd;
        drop(read.fd);
        assert!(is_placeholder(&mut ring, &place));
        assert_eq!((table.held(), table.lost()), (1, 0));
    }
    drop(place);
    assert_eq!((table.held(), table.lost()), (0, 0));
    Ok(())
}

/// The kernel fills every place but ours.
fn is_held() -> Result<(), Failed> {
    let (folder, (mut ring, table)) = (Folder::new(), with_table(2)?);
    let path = path(&folder, "data", "bytes")?;
    let place = table.reserve(&mut ring)?;
    let only_other = |ring: &mut Ring| -> Result<(), Failed> {
        let other = table.insert(ring, io::pipe()?.0)?;
        let full =
            table.insert(ring, io::pipe()?.0).expect_err("there is one place, and it is ours");
        assert_eq!(full.raw_os_error(), Some(libc::ENFILE), "OP3: {full}");
        drop(other);
        Ok(())
    };
    only_other(&mut ring)?;
    let open = ring.submit(OpenAt::new(Cwd, path, How::read()).direct_to(&place))?;
    drop(ring.wait(open)?.result?);
    only_other(&mut ring)?;
    assert_eq!(read(&mut ring, &place)?, b"bytes");
    let clear = ring.submit(ClearFile::new(place.clone()))?;
    let Outcome { result, fd, .. } = ring.wait(clear)?;
    result?;
    drop(fd);
    only_other(&mut ring)?;
    assert!(is_placeholder(&mut ring, &place));
    drop(place);
    let both = [table.insert(&mut ring, io::pipe()?.0)?, table.insert(&mut ring, io::pipe()?.0)?];
    assert_eq!(table.held(), 2);
    drop(both);
    Ok(())
}

fn not_opened() -> Result<(), Failed> {
    let (mut ring, table) = with_table(1)?;
    let place = table.reserve(&mut ring)?;
    let open = OpenAt::new(Cwd, c"/nowhere/at/all", How::read()).direct_to(&place);
    let read = Read::new(place.clone(), Vec::with_capacity(64));
    let chain = ring.submit_chain((open, read, Nop)).map_err(|rejected| rejected.why)?;
    let chain = ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    let (open, read, nop) = chain.outputs;
    assert_eq!(open.result.expect_err("nowhere").raw_os_error(), Some(libc::ENOENT));
    assert_eq!(read.result.expect_err("never begun").raw_os_error(), Some(libc::ECANCELED));
    assert!(nop.is_err());
    drop(read.fd);
    assert!(is_placeholder(&mut ring, &place));
    drop(place);
    assert_eq!((table.held(), table.lost()), (0, 0));
    Ok(())
}

/// Each file takes the place of the one before it, and all clones name the new one.
fn again() -> Result<(), Failed> {
    let (folder, (mut ring, table)) = (Folder::new(), with_table(1)?);
    let place = table.reserve(&mut ring)?;
    let clone = place.clone();
    for text in ["one", "two", "three"] {
        let path = path(&folder, text, text)?;
        let open = ring.submit(OpenAt::new(Cwd, path, How::read()).direct_to(&place))?;
        let opened = ring.wait(open)?.result?;
        for file in [&opened, &place, &clone] {
            assert_eq!(read(&mut ring, file)?, text.as_bytes());
        }
        assert_eq!(table.held(), 1);
    }
    Ok(())
}

fn sockets() -> Result<(), Failed> {
    let (mut ring, table) = with_table(2)?;
    let place = table.reserve(&mut ring)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let accept = ring.submit(Accept::new(listener).direct_to(&place))?;
    let Outcome { result, fd: listener, .. } = ring.wait(accept)?;
    drop(result?);
    client.write_all(b"hello")?;
    let recv = ring.submit(Recv::new(place.clone(), Vec::with_capacity(8)))?;
    assert_eq!(ring.wait(recv)?.ok()?.1, b"hello");
    // The connection is closed when something else takes its place. On older kernels that is when
    // no operation on a registered file is in flight any more.
    let socket = Socket::new(Domain::UNIX, SocketKind::STREAM).direct_to(&place);
    let socket = ring.submit(socket)?;
    drop(ring.wait(socket)??);
    assert_eq!(client.read(&mut [0; 1])?, 0, "the connection is closed");
    // A multishot gets the other place, and no more.
    let accept = ring.submit(AcceptMulti::new(listener.try_clone()?).direct(&table))?;
    let _clients =
        [TcpStream::connect(listener.local_addr()?)?, TcpStream::connect(listener.local_addr()?)?];
    let accepted = ring.next(&accept)?.ok_or("it ended")??;
    if let Some(Ok(_second)) = ring.next(&accept)? {
        panic!("OP3: a second place was free, and it was ours");
    }
    assert_eq!(table.held(), 2);
    ring.detach(accept);
    drop((accepted, place));
    Ok(())
}

fn of_another_ring() -> Result<(), Failed> {
    let ((mut ring, _table), (mut other, abroad)) = (with_table(1)?, with_table(1)?);
    let place = abroad.reserve(&mut other)?;
    let open = OpenAt::new(Cwd, c"/dev/null", How::read()).direct_to(&place);
    assert_eq!(ring.submit(open).expect_err("of another ring").why, Rejection::OtherRing);
    let clear = ring.submit(ClearFile::new(place)).expect_err("of another ring");
    assert_eq!(clear.why, Rejection::OtherRing);
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let (folder, (mut ring, table)) = (Folder::new(), with_table(1)?);
    for _ in 0..5 {
        let path = path(&folder, "data", "bytes")?;
        let place = table.reserve(&mut ring)?;
        let open = ring.submit(OpenAt::new(Cwd, path, How::read()).direct_to(&place));
        ring.detach(open.map_err(|rejected| rejected.why)?);
        let clear = ring.submit(ClearFile::new(place)).map_err(|rejected| rejected.why)?;
        ring.detach(clear);
        while ring.in_flight() > 0 {
            ring.submit_and_wait(1)?;
            ring.reap(|_| ())?;
        }
        assert_eq!((table.held(), table.lost()), (0, 0));
    }
    Ok(())
}
