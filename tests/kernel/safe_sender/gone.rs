//! Senders that go while the ring waits for them: the wait ends, and the next one is refused.

use std::io::{Write as _, pipe};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use annulus::op::Read;
use annulus::{EnterCause, Ring};
use libtest_mimic::Failed;

/// Waits until nothing can come any more.
fn wait_for_nothing(ring: &mut Ring) -> Result<(), Failed> {
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => ring.reap(|event| panic!("nothing was sent: {event:?}")).map(drop)?,
            Err(error) if error.cause == EnterCause::Interrupted => {}
            Err(error) => {
                let nothing = matches!(error.cause, EnterCause::NothingComing { .. });
                assert!(nothing, "{error}");
                return Ok(());
            }
        }
    }
}

/// The last sender goes, mostly while the ring waits.
pub fn last(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(sender);
    });
    wait_for_nothing(&mut ring)?;
    thread.join().expect("no panic");
    Ok(())
}

/// Each of several senders and clones may be the last.
pub fn at_once(mut ring: Ring) -> Result<(), Failed> {
    for _ in 0..200 {
        let start = Arc::new(Barrier::new(2));
        let senders = [ring.sender()?, ring.sender()?];
        let threads = senders.map(|sender| {
            let (start, clone) = (Arc::clone(&start), sender.clone());
            thread::spawn(move || {
                start.wait();
                drop(sender);
                drop(clone);
            })
        });
        wait_for_nothing(&mut ring)?;
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
    Ok(())
}

/// A wait for something else goes on.
pub fn beside(mut ring: Ring) -> Result<(), Failed> {
    let (reader, mut writer) = pipe()?;
    let sender = ring.sender()?;
    let read = ring.submit(Read::new(reader, [0; 1])).map_err(|rejected| rejected.why)?;
    let thread = thread::spawn(move || {
        drop(sender);
        thread::sleep(Duration::from_millis(20));
        writer.write_all(b"x").expect("there is a reader");
    });
    let read = ring.wait(read).map_err(|unfinished| unfinished.why)?;
    assert_eq!((read.result?, read.buf), (1, *b"x"));
    thread.join().expect("no panic");
    Ok(())
}
