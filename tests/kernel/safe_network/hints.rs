//! Whether more data waits; and files of the table, which are not descriptors of the same number.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use annulus::lease::FixedFile;
use annulus::op::{
    Hinted, Recv, RecvBundle, RecvBundleMulti, RecvMsgMulti, RecvMulti, SendBundle, SendZcFixed,
    Waiting,
};
use annulus::sys::flags::Features;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Next, Ring};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, test};
use crate::safe_leases::buf_ring::{all_are_back, buffers};
use crate::safe_leases::patient;
use crate::safe_sockets::{begin, run, small, tcp};

/// The hint came with this.
const HINT: [Need; 1] = [Need::Op(Opcode::SOCKET)];
const MANY: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
const TABLE: [Need; 2] =
    [Need::Feature(Features::RECVSEND_BUNDLE), Need::Register(RegisterOp::FILE_ALLOC_RANGE)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_receive_tells_whether_more_waits", &HINT, receive),
        test("each_of_many_receives_tells_whether_more_waits", &MANY, receives),
        test("a_file_of_the_table_is_no_descriptor_of_its_number", &TABLE, of_the_table),
    ]
}

fn receive() -> Result<(), Failed> {
    let mut ring = small();
    let (mut ours, theirs) = tcp()?;
    ours.write_all(b"first, second")?;
    let (outcome, waiting) = run(&mut ring, Hinted::new(Recv::new(theirs, [0; 7])));
    assert_eq!((outcome.result?, waiting, &outcome.buf), (7, Waiting::Yes, b"first, "));
    let (outcome, waiting) = run(&mut ring, Hinted::new(Recv::new(outcome.fd, [0; 7])));
    assert_eq!((outcome.result?, waiting), (6, Waiting::Unknown));
    Ok(())
}

fn receives() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 8);
    let (mut ours, theirs) = tcp()?;
    ours.write_all(b"24 bytes, in three parts")?;
    let many = begin(&mut ring, Hinted::new(RecvMulti::new(theirs, &buffers)));
    let mut told = Vec::new();
    for _ in 0..3 {
        let (lease, waiting) = ring.next(&many)?.ok_or("it goes on")?;
        assert_eq!(lease?.len(), 8);
        told.push(waiting);
    }
    assert_eq!(told, [Waiting::Yes, Waiting::Yes, Waiting::Unknown]);
    assert!(matches!(ring.try_next(&many)?, Next::Pending));
    ring.cancel(&many)?;
    let (_ended, waiting) = ring.wait(many)?;
    assert_eq!(waiting, Waiting::Unknown);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

/// The first file of a table of its own: one whose number is a descriptor of this process too.
fn registered(ring: &mut Ring, fd: UnixStream) -> Result<FixedFile, Failed> {
    let table = ring.file_table(1)?;
    Ok(table.insert(ring, fd)?)
}

/// The other crate's `ReadMulti` loses the flag for a fixed file, and reads from the descriptor.
fn of_the_table() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 256);
    let (mut ours, theirs) = UnixStream::pair()?;
    let file = registered(&mut ring, theirs)?;
    ours.write_all(b"once")?;
    let outcome = run(&mut ring, RecvBundle::new(file, &buffers));
    assert_eq!(outcome.result?.ok_or("data")?.bytes(), 4);
    let many = begin(&mut ring, RecvBundleMulti::new(outcome.fd, &buffers));
    ours.write_all(b"bundle")?;
    assert_eq!(ring.next(&many)?.ok_or("data")??.bytes(), 6);
    ring.cancel(&many)?;
    let ended = ring.wait(many)?;
    let many = begin(&mut ring, RecvMsgMulti::new(ended.fd, &buffers));
    ours.write_all(b"message")?;
    assert_eq!(ring.next(&many)?.ok_or("data")??.payload(), b"message");
    ring.cancel(&many)?;
    let file = ring.wait(many)?.fd;
    let sends = patient(|| ring.send_ring(2, 16));
    let mut buf = sends.get().ok_or("free")?;
    buf.set_len(3);
    buf.copy_from_slice(b"out");
    buf.queue();
    let sent = run(&mut ring, SendBundle::new(file, sends));
    assert_eq!(sent.result?, 3);
    let mut bytes = [0; 3];
    ours.read_exact(&mut bytes)?;
    assert_eq!(&bytes, b"out");
    drop(sent.fd);
    all_are_back(&mut ring, &buffers);
    // And a registered buffer through a registered file.
    let mut ring = small();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut ours = std::net::TcpStream::connect(listener.local_addr()?)?;
    let table = ring.file_table(1)?;
    let file = table.insert(&mut ring, listener.accept()?.0)?;
    let pool = patient(|| ring.fixed_pool(1, 64));
    let mut buf = pool.get().ok_or("free")?;
    buf.set_len(64);
    let sent = run(&mut ring, SendZcFixed::new(file, buf));
    assert_eq!(sent.result?.bytes, 64);
    ours.read_exact(&mut [0; 64])?;
    Ok(())
}
