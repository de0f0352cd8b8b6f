//! Messages to an event loop: from senders that come and go.

use std::cell::RefCell;
use std::io;
use std::thread;
use std::time::Duration;

use annulus::WaitOptions;
use libtest_mimic::{Failed, Trial};

use super::{events, run};
use crate::harness::test;
use crate::watched::{quietly, unwind};

pub fn tests() -> Vec<Trial> {
    vec![
        test("messages_go_to_the_loop_until_the_last_sender_is_gone", &[], messages),
        test("messages_wait_for_their_closure_and_outlive_their_sender", &[], kept_messages),
        test("a_turn_without_a_limit_ends_when_the_last_sender_goes", &[], last_sender),
    ]
}

fn messages() -> Result<(), Failed> {
    for _ in 0..10 {
        let mut events = events(4, Vec::new());
        let sender = events.sender()?;
        events.on_message(|io, message| {
            io.state.push(message);
            if message == 2 { Err(io::Error::other("on purpose")) } else { Ok(()) }
        });
        let sending = thread::spawn(move || (1..=3).try_for_each(|message| sender.send(message)));
        let errors = RefCell::new(0);
        events.run(|_, _| *errors.borrow_mut() += 1)?;
        sending.join().expect("no panic")?;
        assert_eq!((events.state, errors.into_inner()), (vec![1, 2, 3], 1));
    }
    Ok(())
}

fn kept_messages() -> Result<(), Failed> {
    let mut events = events(4, Vec::new());
    let sender = events.sender()?;
    (1..=3).try_for_each(|message| sender.send(message))?;
    drop(sender);
    run(&mut events);
    assert!(events.state.is_empty(), "nothing handles them yet");
    events.on_message(|io, message| {
        if message == 1 {
            unwind();
        }
        io.state.push(message);
        Ok(())
    });
    assert!(quietly(|| run(&mut events)).is_err());
    run(&mut events);
    assert_eq!(events.state, [2, 3]);
    Ok(())
}

fn last_sender() -> Result<(), Failed> {
    let mut events = events(4, ());
    let sender = events.sender()?;
    let waiting = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(sender);
    });
    while events.turn(&WaitOptions::FOREVER, |_, error| panic!("{error}"))? {}
    waiting.join().expect("no panic");
    Ok(())
}
