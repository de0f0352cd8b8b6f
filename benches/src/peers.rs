//! The loop of `nop` over runtimes: compio's driver, and tokio-uring.
//!
//! | way | pushes | waits | takes |
//! |---|---|---|---|
//! | `compio-driver` | `Proactor::push` of a NOP that we define: it has none | `poll` | `pop` |
//! | `tokio-uring` | the first poll of each `no_op` | its `epoll` | the next poll of each |
//!
//! tokio-uring never waits in its ring, so the ring cannot defer work until then
//! (`DEFER_TASKRUN`): in its place it has `COOP_TASKRUN`.

use std::future::{Future, poll_fn};
use std::mem::swap;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use compio_driver::{OpCode, OpEntry, Proactor, PushEntry};

use crate::ways::{Mode, Rounds};

/// A NOP, and the word that it carries to its completion.
struct Nop(u64);

// SAFETY: the entry points to nothing.
unsafe impl OpCode for Nop {
    type Control = ();

    fn create_entry(&mut self, _control: &mut ()) -> OpEntry {
        io_uring::opcode::Nop::new().build().into()
    }
}

pub fn compio(loops: Rounds) -> u64 {
    let Rounds { mode, batch, rounds } = loops;
    let mut builder = Proactor::builder();
    // Twice the batch: the driver adds an entry of its own to the first, and where that finds the
    // ring full, it takes the completions at once and then waits for more (0.12.5).
    builder.capacity(loops.entries() * 2);
    match mode {
        Mode::Deferred => {
            builder.single_issuer(true).defer_taskrun(true).taskrun_flag(true);
        }
        Mode::Plain => {}
        Mode::Sqpoll => {
            builder.sqpoll_idle(Duration::from_secs(1));
        }
    }
    let mut proactor = builder.build().expect("a proactor");
    let (mut pushed, mut waiting) = (Vec::new(), Vec::new());
    let mut sum = 0;
    for _ in 0..rounds {
        pushed.extend((0..batch).map(|word| match proactor.push(Nop(word.into())) {
            PushEntry::Pending(key) => key,
            PushEntry::Ready(_) => panic!("a NOP is completed by the kernel"),
        }));
        while !pushed.is_empty() {
            proactor.poll(None).expect("a poll");
            for key in pushed.drain(..) {
                match proactor.pop(key) {
                    PushEntry::Ready(done) => {
                        done.0.expect("a NOP succeeds");
                        sum += done.1.0;
                    }
                    PushEntry::Pending(key) => waiting.push(key),
                }
            }
            swap(&mut pushed, &mut waiting);
        }
    }
    sum
}

pub fn tokio_uring(loops: Rounds) -> u64 {
    let Rounds { mode, batch, rounds } = loops;
    let mut ring = tokio_uring::uring_builder();
    match mode {
        Mode::Deferred => {
            ring.setup_single_issuer().setup_coop_taskrun();
            ring.setup_taskrun_flag().setup_submit_all();
        }
        Mode::Plain => {}
        Mode::Sqpoll => {
            ring.setup_sqpoll(1000);
        }
    }
    let mut builder = tokio_uring::builder();
    builder.entries(loops.entries()).uring_builder(&ring);
    builder.start(async move {
        // The futures stay where they are: a new one takes the place of the last.
        let mut places: Vec<_> = (0..batch).map(|word| Box::pin(no_op(word.into()))).collect();
        let mut sum = batch_of(&mut places).await;
        for _ in 1..rounds {
            for (word, place) in (0..).zip(&mut places) {
                place.set(no_op(word));
            }
            sum += batch_of(&mut places).await;
        }
        sum
    })
}

async fn no_op(word: u64) -> u64 {
    tokio_uring::no_op().await.expect("a NOP succeeds");
    word
}

/// Waits for all of them, and returns the sum of what they return.
async fn batch_of<F: Future<Output = u64>>(places: &mut [Pin<Box<F>>]) -> u64 {
    let mut left: Vec<_> = places.iter_mut().collect();
    let mut sum = 0;
    poll_fn(|context| {
        left.retain_mut(|place| match place.as_mut().poll(context) {
            Poll::Ready(word) => {
                sum += word;
                false
            }
            Poll::Pending => true,
        });
        if left.is_empty() { Poll::Ready(sum) } else { Poll::Pending }
    })
    .await
}
