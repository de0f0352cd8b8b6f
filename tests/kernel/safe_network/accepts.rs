//! Accepts that wait first, and accepts that never wait.

use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use annulus::Ring;
use annulus::op::{Accept, AcceptMulti, Ending, Op};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, test};
use crate::safe_sockets::{begin, code, run, small};

const FLAGS: [Need; 1] = [Need::Other(knows_no_flags)];
const NO_FLAGS: [Need; 1] = [Need::Other(knows_flags)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("an_accept_that_does_not_wait_says_that_nobody_is_there", &FLAGS, no_wait),
        test("an_accept_that_waits_first_accepts_whoever_comes", &FLAGS, waits_first),
        test("accepts_that_do_not_wait_take_those_who_are_there", &FLAGS, many_no_wait),
        test("accepts_that_wait_first_accept_whoever_comes", &FLAGS, many_wait_first),
        test("before_a_kernel_knows_flags_of_accepts_it_refuses_them", &NO_FLAGS, unknown),
    ]
}

fn tried() -> Option<i32> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    code(run(&mut small(), Accept::new(listener).dont_wait()).result)
}

fn knows_no_flags() -> Option<String> {
    let refused = tried() == Some(libc::EINVAL);
    refused.then(|| "needs Linux 6.10: IORING_ACCEPT_DONTWAIT".to_owned())
}

fn knows_flags() -> Option<String> {
    let knows = tried() == Some(libc::EAGAIN);
    knows.then(|| "needs a kernel without IORING_ACCEPT_DONTWAIT".to_owned())
}

fn listener() -> Result<Rc<TcpListener>, Failed> {
    Ok(Rc::new(TcpListener::bind("127.0.0.1:0")?))
}

fn no_wait() -> Result<(), Failed> {
    let mut ring = small();
    let listener = listener()?;
    let one = || Accept::new(Rc::clone(&listener)).dont_wait();
    assert_eq!(code(run(&mut ring, one()).result), Some(libc::EAGAIN));
    assert_eq!(code(run(&mut ring, one().with_address()).result), Some(libc::EAGAIN));
    let after = Accept::new(Rc::clone(&listener)).with_address().dont_wait();
    assert_eq!(code(run(&mut ring, after).result), Some(libc::EAGAIN));
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (theirs, from) = run(&mut ring, one().with_address()).result?;
    assert_eq!(from.and_then(|from| from.as_inet()), Some(ours.local_addr()?));
    assert_eq!(TcpStream::from(theirs).peer_addr()?, ours.local_addr()?);
    let _ours = TcpStream::connect(listener.local_addr()?)?;
    assert!(run(&mut ring, one()).result.is_ok());
    // Both together have no effect but this.
    let _ours = TcpStream::connect(listener.local_addr()?)?;
    assert_eq!(code(run(&mut ring, one().poll_first()).result), Some(libc::EAGAIN));
    Ok(())
}

/// Begins `op`, checks that it waits, connects, and returns its output.
fn wakes<O: Op + 'static>(ring: &mut Ring, listener: &TcpListener, op: O) -> O::Output {
    let accept = begin(ring, op);
    assert_eq!(ring.in_flight(), 1);
    let _ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    ring.wait(accept).expect("it completes")
}

fn waits_first() -> Result<(), Failed> {
    let mut ring = small();
    let listener = listener()?;
    let one = || Accept::new(Rc::clone(&listener)).poll_first();
    assert!(wakes(&mut ring, &listener, one()).result.is_ok());
    let (_, from) = wakes(&mut ring, &listener, one().with_address()).result?;
    assert!(from.is_some_and(|from| from.as_inet().is_some()));
    let after = Accept::new(Rc::clone(&listener)).with_address().poll_first();
    assert!(wakes(&mut ring, &listener, after).result.is_ok());
    // One that is there already is accepted too.
    let _ours = TcpStream::connect(listener.local_addr()?)?;
    assert!(run(&mut ring, one()).result.is_ok());
    Ok(())
}

fn many_no_wait() -> Result<(), Failed> {
    let mut ring = small();
    let listener = listener()?;
    for count in [0, 1, 3] {
        let connect = || TcpStream::connect(listener.local_addr()?);
        let _ours = (0..count).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
        let accepts = begin(&mut ring, AcceptMulti::new(Rc::clone(&listener)).dont_wait());
        let mut came = 0;
        while let Some(connection) = ring.next(&accepts)? {
            connection?;
            came += 1;
        }
        let ended = ring.wait(accepts)?;
        let Ending::Failed(error) = ended.how else { return Err("it does not wait".into()) };
        assert_eq!(
            (came + ended.remaining.len(), error.raw_os_error()),
            (count, Some(libc::EAGAIN))
        );
    }
    Ok(())
}

fn many_wait_first() -> Result<(), Failed> {
    let mut ring = small();
    let listener = listener()?;
    let accepts = begin(&mut ring, AcceptMulti::new(Rc::clone(&listener)).poll_first());
    for _ in 0..3 {
        let _ours = TcpStream::connect(listener.local_addr()?)?;
        ring.next(&accepts)?.ok_or("a connection")??;
    }
    ring.cancel(&accepts)?;
    assert!(matches!(ring.wait(accepts)?.how, Ending::Cancelled));
    Ok(())
}

fn unknown() -> Result<(), Failed> {
    let mut ring = small();
    let listener = listener()?;
    let _ours = TcpStream::connect(listener.local_addr()?)?;
    for accept in
        [Accept::new(Rc::clone(&listener)).poll_first(), Accept::new(listener).dont_wait()]
    {
        assert_eq!(code(run(&mut ring, accept).result), Some(libc::EINVAL));
    }
    Ok(())
}
