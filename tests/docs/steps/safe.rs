//! Step 2 of `docs/WRITING-A-RUNTIME.md`: a future of any operation on the safe ring. The ring has
//! the slots, the waker is the user value, and nothing is unsafe.

use std::cell::RefCell;
use std::future::Future;
use std::io::Write;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use annulus::op::{Op, Read};
use annulus::{EnterError, Event, Rejected, Ring, Setup, Ticket};

type Shared = Rc<RefCell<Ring<Option<Waker>>>>;

/// An operation in flight.
struct Running<O: Op + 'static> {
    ring: Shared,
    ticket: Option<Ticket<O>>,
}

impl<O: Op + 'static> Unpin for Running<O> {}

fn begin<O: Op + 'static>(ring: &Shared, op: O) -> Result<Running<O>, Rejected<O, Option<Waker>>> {
    let ticket = ring.borrow_mut().submit_for(op, None)?;
    Ok(Running { ring: Rc::clone(ring), ticket: Some(ticket) })
}

impl<O: Op + 'static> Future for Running<O> {
    type Output = O::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O::Output> {
        let ticket = self.ticket.take().expect("polled after it was ready");
        let mut ring = self.ring.borrow_mut();
        let ticket = match ring.try_take(ticket) {
            Ok(output) => return Poll::Ready(output),
            Err(ticket) => ticket,
        };
        let before = ring.user(&ticket).replace(context.waker().clone());
        drop(ring);
        drop(before); // It may be the last one of its task, whose drop may come back here.
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl<O: Op + 'static> Drop for Running<O> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut ring = self.ring.borrow_mut();
            // If there is no room to ask, the operation ends as ever.
            let _ = ring.cancel(&ticket);
            ring.detach(ticket);
        }
    }
}

/// Submits what was begun, waits for so many ends, and wakes whose operations have ended.
fn turn(ring: &Shared, want: u32) -> Result<(), EnterError> {
    let mut woken = Vec::new();
    let mut turned = ring.borrow_mut();
    turned.turn(want, |event| {
        if let Event::Ended { user, .. } = event {
            woken.extend(user.take());
        }
    })?;
    drop(turned); // A waker may poll, and so come back here.
    woken.into_iter().for_each(Waker::wake);
    Ok(())
}

#[test]
fn a_future_of_any_operation_on_the_safe_ring() {
    let ring: Shared = Rc::new(RefCell::new(Setup::new(8).build_for().expect("a ring")));
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let reader = Rc::new(reader);
    let mut context = Context::from_waker(Waker::noop());

    let read = begin(&ring, Read::new(Rc::clone(&reader), Vec::with_capacity(16)));
    let mut read = pin!(read.expect("a slot"));
    assert!(read.as_mut().poll(&mut context).is_pending());
    writer.write_all(b"ready").expect("room");
    turn(&ring, 1).expect("a turn");
    let Poll::Ready(outcome) = read.as_mut().poll(&mut context) else { panic!("it has ended") };
    assert_eq!(outcome.buf, b"ready");

    // Dropped in the middle: the ring keeps the buffer until the kernel is done with it.
    drop(begin(&ring, Read::new(Rc::clone(&reader), vec![0; 16])));
    while ring.borrow().in_flight() > 0 {
        turn(&ring, 1).expect("a turn");
    }
    assert_eq!(Rc::strong_count(&reader), 2, "ours, and that of the first output");
}
