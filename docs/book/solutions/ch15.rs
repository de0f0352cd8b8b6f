//! Solutions of chapter 15: bytes that no program has seen, and buffers that come back late.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use annulus::op::{SendZc, Splice, Tee};
use annulus::sys::flags::Features;
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, ChainEnd, Setup};

use crate::ch16::has_worker;
use crate::ring;

/// Both ends of a connection on this machine.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ours = TcpStream::connect(listener.local_addr().expect("an address"));
    (ours.expect("it listens"), listener.accept().expect("somebody connects").0)
}

// ANCHOR: sendfile
#[test]
fn a_file_goes_to_a_socket_through_a_pipe_by_one_enter() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let path = std::env::temp_dir().join(format!("annulus-book-splice-{}", std::process::id()));
    fs::write(&path, "a page of text").expect("it can be written");
    let file = File::open(&path).expect("it is there");
    fs::remove_file(path).expect("it is there");
    let (ours, mut theirs) = connected();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // As many bytes as there are: a splice that moves fewer breaks the chain.
    let fill = Splice::new(file, writer, 14).from_at(0);
    let empty = Splice::new(reader, ours, 14);
    let before = ring.stats().enters;
    let chain = ring.submit_chain((fill, empty)).expect("room");
    let chain = ring.wait_chain(chain).expect("it ends");
    assert_eq!((chain.end, ring.stats().enters - before), (ChainEnd::Complete, 1));
    let mut text = [0; 14];
    theirs.read_exact(&mut text).expect("it is there");
    assert_eq!(&text, b"a page of text");
    // No copy is in our memory, but neither did it happen here.
    assert_eq!(has_worker(), ring.features().contains(Features::NATIVE_WORKERS));
}
// ANCHOR_END: sendfile

#[test]
fn a_splice_moves_no_more_than_a_pipe_holds() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let path = std::env::temp_dir().join(format!("annulus-book-full-{}", std::process::id()));
    // More than any pipe has by default, also where pages are large.
    fs::write(&path, vec![b'.'; 4 << 20]).expect("it can be written");
    let file = File::open(&path).expect("it is there");
    fs::remove_file(path).expect("it is there");
    let (ours, _theirs) = connected();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let fill = Splice::new(file, writer, 4 << 20).from_at(0);
    let chain = ring.submit_chain((fill, Splice::new(reader, ours, 4 << 20))).expect("room");
    let chain = ring.wait_chain(chain).expect("it ends");
    let (filled, emptied) = chain.outputs;
    let count = filled.result.expect("the pipe has room");
    assert!(count > 0 && count < 4 << 20, "{count} bytes");
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    assert!(emptied.result.is_err(), "it never began");
}

// ANCHOR: twice
#[test]
fn a_send_without_a_copy_completes_twice_and_the_buffer_comes_second() {
    let has_it = Capabilities::detect().is_ok_and(|here| here.has_op(Opcode::SEND_ZC));
    if !has_it {
        return eprintln!("skipped: needs Linux 6.0");
    }
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (ours, mut theirs) = connected();
    let send = ring.submit(SendZc::new(ours, b"hello".to_vec())).expect("room");
    // The first: the socket has taken the bytes. Here the next send may be submitted.
    let taken = ring.next(&send).expect("it goes on");
    assert_eq!(taken.expect("an item").expect("room in the socket"), 5);
    let mut text = [0; 5];
    theirs.read_exact(&mut text).expect("it is there");
    // The second: the buffer is ours again.
    let sent = ring.wait(send).expect("it ends");
    assert_eq!((sent.result.expect("as before").bytes, sent.buf), (5, b"hello".to_vec()));
    assert_eq!((ring.stats().sqes, ring.stats().cqes), (1, 2));
}
// ANCHOR_END: twice

// ANCHOR: tee
#[test]
fn a_tee_shows_a_pipe_to_two_readers() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let has_it = Capabilities::detect().is_ok_and(|here| here.has_op(Opcode::TEE));
    if !has_it {
        return eprintln!("skipped: needs Linux 5.8");
    }
    let (mut first, mut writer) = std::io::pipe().expect("a pipe");
    let (mut second, to_second) = std::io::pipe().expect("a pipe");
    writer.write_all(b"news").expect("room in the pipe");
    let tee = Tee::new(first.try_clone().expect("a descriptor"), to_second, 4);
    let tee = ring.submit(tee).expect("room");
    assert_eq!(ring.wait(tee).expect("it ends").result.expect("both are pipes"), 4);
    for reader in [&mut first, &mut second] {
        let mut text = [0; 4];
        reader.read_exact(&mut text).expect("it is there");
        assert_eq!(&text, b"news");
    }
}
// ANCHOR_END: tee
