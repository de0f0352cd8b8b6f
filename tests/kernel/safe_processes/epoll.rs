//! Epolls: which files are watched, which events are reported, and what is refused.
#![allow(unsafe_code, reason = "makes epolls")]

use std::fs::File;
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use annulus::op::{EpollCtl, EpollEvent, EpollWait, PollEvents};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use super::{begin, cancelled, errno, goes_on, run, small};
use crate::harness::{Need, test};

const CTL: Need = Need::Op(Opcode::EPOLL_CTL);
const WAIT: Need = Need::Op(Opcode::EPOLL_WAIT);

pub fn tests() -> Vec<Trial> {
    vec![
        test("an_epoll_watches_what_it_is_told_to", &[CTL], watches),
        test("what_cannot_be_watched_comes_back", &[CTL], not_watched),
        test("an_epoll_event_is_reported_edge_or_level", &[CTL], edge_or_level),
        test("an_epoll_is_waited_for_through_the_ring", &[CTL, WAIT], waited_for),
        test("events_are_added_where_there_is_room", &[CTL, WAIT], many_events),
        test("a_wait_for_an_epoll_is_cancelled", &[WAIT], wait_cancelled),
        test("a_wait_for_what_is_no_epoll_gives_all_back", &[WAIT], wait_refused),
        test("a_registered_epoll_is_waited_for", &[CTL, WAIT], wait_registered),
    ]
}

fn epoll() -> OwnedFd {
    // SAFETY: takes a number only, because that is its signature.
    let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(number >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor, which nothing else owns, because that is what success means.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The `u64` of each event that an epoll reports now, as `epoll_wait(2)` returns it.
fn reported(epoll: &OwnedFd) -> Vec<u64> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    // SAFETY: room for eight events, because that is what `events` is.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 8, 0) };
    let count = usize::try_from(count).expect("a success");
    events[..count].iter().map(|event| event.u64).collect()
}

fn watches() -> Result<(), Failed> {
    let mut ring = small();
    let epoll = Rc::new(epoll());
    let (mut reader, mut writer) = pipe()?;
    let reading = Rc::new(reader.try_clone()?);
    writer.write_all(b"x")?;
    let event = EpollEvent::new(PollEvents::IN, 7);
    let added = run(&mut ring, EpollCtl::add(Rc::clone(&epoll), Rc::clone(&reading), event));
    added.result?;
    assert_eq!(reported(&epoll), [7]);
    let again = run(&mut ring, EpollCtl::add(Rc::clone(&epoll), Rc::clone(&reading), event));
    assert_eq!(errno(&again), Some(libc::EEXIST));
    let event = EpollEvent::new(PollEvents::IN, 8);
    run(&mut ring, EpollCtl::modify(Rc::clone(&epoll), Rc::clone(&reading), event)).result?;
    assert_eq!(reported(&epoll), [8]);
    run(&mut ring, EpollCtl::remove(Rc::clone(&epoll), Rc::clone(&reading))).result?;
    assert_eq!(reported(&epoll), []);
    let gone = run(&mut ring, EpollCtl::remove(Rc::clone(&epoll), Rc::clone(&reading)));
    assert_eq!(errno(&gone), Some(libc::ENOENT));
    let gone = run(&mut ring, EpollCtl::modify(Rc::clone(&epoll), reading, event));
    assert_eq!(errno(&gone), Some(libc::ENOENT));
    reader.read_exact(&mut [0])?;
    Ok(())
}

fn not_watched() -> Result<(), Failed> {
    let mut ring = small();
    let event = EpollEvent::new(PollEvents::IN, 7);
    let (here, there) = (epoll(), File::open("/proc/self/exe")?);
    let (epoll_number, file_number) = (here.as_raw_fd(), there.as_raw_fd());
    let refused = run(&mut ring, EpollCtl::add(here, there, event));
    assert_eq!(errno(&refused), Some(libc::EPERM), "a regular file");
    assert_eq!((refused.fd.as_raw_fd(), refused.buf.as_raw_fd()), (epoll_number, file_number));
    let (reader, writer) = pipe()?;
    let refused = run(&mut ring, EpollCtl::add(writer, reader, event));
    assert_eq!(errno(&refused), Some(libc::EINVAL), "a pipe watches nothing");
    let itself = Rc::new(refused.buf);
    let refused = run(&mut ring, EpollCtl::add(Rc::clone(&itself), itself, event));
    assert_eq!(errno(&refused), Some(libc::EINVAL), "nor itself");
    Ok(())
}

fn edge_or_level() -> Result<(), Failed> {
    let mut ring = small();
    let epoll = Rc::new(epoll());
    let (reader, mut writer) = pipe()?;
    let reader = Rc::new(reader);
    writer.write_all(b"x")?;
    let level = EpollEvent::new(PollEvents::IN, 1);
    let cases = [
        (level, [1, 1]),
        (level.edge_triggered(), [1, 0]),
        (level.one_shot(), [1, 0]),
        (level.keep_awake(), [1, 1]),
        (level.exclusive(), [1, 1]),
    ];
    for (event, counts) in cases {
        run(&mut ring, EpollCtl::add(Rc::clone(&epoll), Rc::clone(&reader), event)).result?;
        assert_eq!([reported(&epoll).len(), reported(&epoll).len()], counts, "{event:?}");
        run(&mut ring, EpollCtl::remove(Rc::clone(&epoll), Rc::clone(&reader))).result?;
    }
    Ok(())
}

fn waited_for() -> Result<(), Failed> {
    let mut ring = small();
    let epoll = Rc::new(epoll());
    let (reader, mut writer) = pipe()?;
    let event = EpollEvent::new(PollEvents::IN, u64::MAX);
    let _reader = run(&mut ring, EpollCtl::add(Rc::clone(&epoll), reader, event)).buf;
    let wait = begin(&mut ring, EpollWait::new(Rc::clone(&epoll), Vec::with_capacity(4)));
    let wait = goes_on(&mut ring, wait);
    writer.write_all(b"x")?;
    let came = ring.wait(wait)?;
    assert_eq!((came.result?, &came.buf[..]), (1, &[event][..]));
    // A level-triggered event is reported again, into the same vector.
    let came = run(&mut ring, EpollWait::new(came.fd, came.buf));
    assert_eq!((came.result?, came.buf), (1, vec![event]));
    Ok(())
}

fn many_events() -> Result<(), Failed> {
    let mut ring = small();
    let epoll = Rc::new(epoll());
    let mut pipes = Vec::new();
    for word in 0..3 {
        let (reader, mut writer) = pipe()?;
        writer.write_all(b"x")?;
        let event = EpollEvent::new(PollEvents::IN, word).one_shot();
        pipes.push((run(&mut ring, EpollCtl::add(Rc::clone(&epoll), reader, event)).buf, writer));
    }
    // As many as there is capacity for, from the front: a full vector is filled again.
    let old = EpollEvent::new(PollEvents::OUT, 99);
    let events = vec![old; 2].into_boxed_slice().into_vec();
    let came = run(&mut ring, EpollWait::new(Rc::clone(&epoll), events));
    assert_eq!((came.result?, came.buf.len()), (2, 2));
    let rest = run(&mut ring, EpollWait::new(epoll, Vec::with_capacity(8)));
    let mut data: Vec<_> = came.buf.iter().chain(&rest.buf).map(EpollEvent::data).collect();
    data.sort_unstable();
    assert_eq!((data, rest.result?), (vec![0, 1, 2], 1));
    Ok(())
}

fn wait_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let epoll = epoll();
    let number = epoll.as_raw_fd();
    let wait = begin(&mut ring, EpollWait::new(epoll, Vec::with_capacity(4)));
    let ended = cancelled(&mut ring, wait);
    assert_eq!(errno(&ended), Some(libc::ECANCELED));
    assert_eq!((ended.fd.as_raw_fd(), ended.buf.len()), (number, 0));
    assert!(ended.buf.capacity() >= 4);
    Ok(())
}

fn wait_refused() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = pipe()?;
    let number = reader.as_raw_fd();
    let ended = run(&mut ring, EpollWait::new(reader, Vec::with_capacity(4)));
    assert_eq!((errno(&ended), ended.fd.as_raw_fd()), (Some(libc::EINVAL), number));
    let no_room = run(&mut ring, EpollWait::new(epoll(), Vec::new()));
    assert_eq!((errno(&no_room), no_room.buf), (Some(libc::EINVAL), Vec::new()));
    Ok(())
}

fn wait_registered() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(2)?;
    let epoll = Rc::new(epoll());
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"x")?;
    let event = EpollEvent::new(PollEvents::IN, 3);
    let _reader = run(&mut ring, EpollCtl::add(Rc::clone(&epoll), reader, event)).buf;
    let fixed = table.insert(&mut ring, &*epoll)?;
    drop(epoll);
    let came = run(&mut ring, EpollWait::new(fixed, Vec::with_capacity(4)));
    assert_eq!((came.result?, came.buf), (1, vec![event]));
    Ok(())
}
