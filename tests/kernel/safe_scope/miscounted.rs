//! Drained operations on kernels that count completions wrongly: they begin, or are rejected.
//!
//! ```text
//!   zero-copy send, multishot ─► drained ─┬─► begins, and ends        Linux 6.16
//!                                         └─► rejected, with words    before
//! ```

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulus::op::{Nop, Op as _, RecvMulti, SendZc, TimeoutMulti};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Rejection, Ring, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, safe_ring, test};

const ZERO_COPY: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
/// Multishot receives are as old.
const RECEIVES: [Need; 2] = [Need::Register(RegisterOp::PBUF_RING), Need::Op(Opcode::SEND_ZC)];
const TICKS: [Need; 1] = [crate::safe_time::timeouts::REPEATED];

/// Enough for any guest.
const LONG: Duration = Duration::from_secs(20);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_drained_operation_after_a_zero_copy_send_begins", &ZERO_COPY, after_zero_copy),
        test("a_drained_operation_after_a_full_multishot_begins", &RECEIVES, after_full),
        test("a_drained_operation_beside_a_multishot_begins", &RECEIVES, beside_multishot),
        test("a_drained_operation_after_a_cut_multishot_timeout_begins", &TICKS, after_ticks),
        test("a_drained_operation_after_a_whole_multishot_begins", &RECEIVES, after_whole),
    ]
}

/// The kernel counts requests.
fn counts_right() -> bool {
    here().has_op(Opcode::PIPE)
}

/// A drained operation and a drained chain end, or are rejected where the kernel counts wrongly.
fn drains(ring: &mut Ring) -> Result<(), Failed> {
    let drained = match ring.submit(Nop.drained()) {
        Ok(drained) => drained,
        Err(rejected) => {
            assert!(!counts_right(), "{}", rejected.why);
            assert!(matches!(rejected.why, Rejection::Invalid { .. }), "{}", rejected.why);
            assert!(rejected.why.to_string().contains("6.16"), "{}", rejected.why);
            let chain = ring.submit_chain((Nop.drained(), Nop)).expect_err("as well");
            assert_eq!(chain.why, rejected.why);
            let nop = ring.submit(Nop)?;
            ring.wait(nop)??; // Nothing holds it back.
            return Ok(());
        }
    };
    ring.wait_timeout(drained, LONG).map_err(|unfinished| unfinished.why)??;
    let chain = ring.submit_chain((Nop.drained(), Nop)).map_err(|rejected| rejected.why)?;
    ring.wait_chain(chain).map_err(|unfinished| unfinished.why)?;
    Ok(())
}

fn after_zero_copy() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let tcp = TcpStream::connect(listener.local_addr()?)?;
    let (unix, _other) = UnixStream::pair()?;
    for fd in [std::os::fd::OwnedFd::from(tcp), unix.into()] {
        let mut ring = safe_ring(Setup::plain(8));
        let send = ring.submit(SendZc::new(fd, b"hello")).map_err(|r| r.why)?;
        let _sent_or_refused = ring.wait(send).map_err(|unfinished| unfinished.why)?;
        drains(&mut ring)?;
    }
    Ok(())
}

/// A multishot that is told more than the completion queue takes.
fn after_full() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8).cq_entries(8));
    let bufs = ring.buf_ring(64, 16)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    let recv = ring.submit(RecvMulti::new(ours, &bufs)).map_err(|r| r.why)?;
    ring.submit_all()?;
    theirs.write_all(&[0; 16 * 40])?;
    drop(theirs);
    let mut leases = Vec::new();
    while let Some(lease) = ring.next(&recv)? {
        leases.push(lease);
    }
    let _ended = ring.wait(recv).map_err(|unfinished| unfinished.why)?;
    drains(&mut ring)
}

fn beside_multishot() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8).cq_entries(8));
    let bufs = ring.buf_ring(64, 16)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    let recv = ring.submit(RecvMulti::new(ours, &bufs)).map_err(|r| r.why)?;
    ring.submit_all()?;
    let drained = ring.submit(Nop.drained());
    theirs.write_all(&[0; 16 * 40])?;
    drop(theirs);
    match drained {
        Ok(drained) => {
            assert!(counts_right(), "the kernel may miss it");
            let mut leases = Vec::new();
            while let Some(lease) = ring.next(&recv)? {
                leases.push(lease);
            }
            let _ended = ring.wait(recv).map_err(|unfinished| unfinished.why)?;
            ring.wait_timeout(drained, LONG).map_err(|unfinished| unfinished.why)??;
        }
        Err(rejected) => {
            assert!(!counts_right(), "{}", rejected.why);
            ring.detach(recv);
            let again = ring.submit(Nop.drained()).expect_err("it is still in flight").why;
            assert_eq!(again, rejected.why);
        }
    }
    Ok(())
}

fn after_ticks() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(2).cq_entries(2));
    let ticks = TimeoutMulti::new(Duration::from_micros(100)).times(1000); // Or it might not end.
    let ticks = ring.submit(ticks).map_err(|r| r.why)?;
    ring.submit_all()?;
    std::thread::sleep(Duration::from_millis(5));
    while ring.next(&ticks)?.is_some() {}
    let _ended = ring.wait(ticks).map_err(|unfinished| unfinished.why)?;
    drains(&mut ring)
}

/// One that ends as it should is counted right everywhere.
fn after_whole() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8));
    let bufs = ring.buf_ring(8, 16)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    let recv = ring.submit(RecvMulti::new(ours, &bufs)).map_err(|r| r.why)?;
    theirs.write_all(&[0; 16 * 3])?;
    drop(theirs);
    while ring.next(&recv)?.is_some() {}
    let _ended = ring.wait(recv).map_err(|unfinished| unfinished.why)?;
    let drained = ring.submit(Nop.drained()).map_err(|rejected| rejected.why)?;
    ring.wait_timeout(drained, LONG).map_err(|unfinished| unfinished.why)??;
    Ok(())
}
