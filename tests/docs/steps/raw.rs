//! Step 1 of `docs/WRITING-A-RUNTIME.md`: a future of a read on the raw ring, and all that it takes
//! to keep it sound.
//!
//! ```text
//!   begin ─► [ slot: buffer, file, waker ] ─► ring ─► kernel
//!   take  ◄─ [ slot: result ]  ◄─ turn: user_data names the slot, the waker is woken
//! ```
#![allow(unsafe_code, reason = "pushes entries that point to memory")]

use std::future::poll_fn;
use std::io::{PipeReader, Write};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use annulus::sys::abi::Sqe;
use annulus::sys::errno::Errno;
use annulus::{EnterError, RawRing, Setup, prep};

/// What the kernel uses while a read is in flight, and who waits for its end.
struct InFlight {
    buf: Vec<u8>,
    _file: Rc<PipeReader>,
    waker: Option<Waker>,
    result: Option<i32>,
}

struct Driver {
    ring: RawRing,
    /// By slot. Its number is the `user_data` of the entry.
    slots: Vec<Option<InFlight>>,
}

impl Driver {
    /// Begins a read of as many bytes as `buf` has. Returns the slot, or `None` if there is none.
    fn begin(&mut self, file: &Rc<PipeReader>, mut buf: Vec<u8>) -> Option<usize> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let len = u32::try_from(buf.len()).ok()?;
        let address = buf.as_mut_ptr().expose_provenance() as u64;
        let sqe = Sqe { user_data: slot as u64, ..prep::read(file.as_raw_fd(), address, len, 0) };
        // SAFETY: the slot owns the bytes and the file, and is emptied only by `take`, after the
        // completion (OP1).
        unsafe { self.ring.push(sqe) }.ok()?;
        let _file = Rc::clone(file);
        self.slots[slot] = Some(InFlight { buf, _file, waker: None, result: None });
        Some(slot)
    }

    /// The result and the buffer of a read that has ended. Otherwise its end wakes the task.
    fn take(&mut self, slot: usize, context: &Context<'_>) -> Poll<(Result<u32, Errno>, Vec<u8>)> {
        let in_flight = self.slots[slot].as_mut().expect("it was begun");
        let Some(result) = in_flight.result else {
            in_flight.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let buf = self.slots[slot].take().expect("it was begun").buf;
        Poll::Ready((Errno::split(result), buf))
    }

    /// Submits what was begun, waits for an end, and wakes whose reads have ended. No waker may
    /// come back here.
    fn turn(&mut self) -> Result<(), EnterError> {
        let slots = &mut self.slots;
        let each = |cqe: annulus::sys::abi::Cqe| {
            let slot = usize::try_from(cqe.user_data).unwrap_or(usize::MAX);
            if let Some(Some(in_flight)) = slots.get_mut(slot) {
                in_flight.result = Some(cqe.res);
                in_flight.waker.take().into_iter().for_each(Waker::wake);
            }
        };
        self.ring.turn(1, each).map(drop)
    }
}

impl Drop for Driver {
    /// The kernel goes on with what is in flight when a ring is closed, so its memory stays (RG1).
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|in_flight| in_flight.result.is_none()) {
                std::mem::forget(slot.take());
            }
        }
    }
}

#[test]
fn a_future_of_a_read_on_the_raw_ring() {
    let ring = Setup::new(8).build_raw().expect("a ring");
    let mut driver = Driver { ring, slots: (0..8).map(|_| None).collect() };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let slot = driver.begin(&Rc::new(reader), vec![0; 16]).expect("a slot");
    let mut context = Context::from_waker(Waker::noop());
    let mut once = |driver: &mut Driver| {
        let read = pin!(poll_fn(|context| driver.take(slot, context)));
        read.poll(&mut context)
    };
    assert!(once(&mut driver).is_pending());
    writer.write_all(b"ready").expect("room");
    driver.turn().expect("a turn");
    let Poll::Ready((result, buf)) = once(&mut driver) else { panic!("it has ended") };
    assert_eq!((result, &buf[..5]), (Ok(5), &b"ready"[..]));
}
