//! Steps 1 and 2: one thread, which asks who has sent something, and then reads and writes.
//!
//! | | before it waits | the wait | looks through |
//! |---|---|---|---|
//! | poll(2) | nothing | hands over all descriptors | all of them, here and in the kernel |
//! | epoll(7) | a call for each new client | hands over none | those that are ready |
//!
//! Both say who is ready, and do nothing for it: a read and a write follow. A descriptor that is
//! ready may be so no longer, so none of them may block.
//!
//! The step "lied" is step 1 with the mistake of a benchmark of 2020: that read into a buffer of
//! two requests and sent all of it back, whatever had come. See `honest_small`.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{self, Errno};
use rustix::net::{self, SocketFlags};

use crate::support::{Failure, failed};
use crate::{Done, Server};

/// The server of steps 1 and 2, and the one that lies.
pub struct Readiness {
    epoll: Option<OwnedFd>,
    /// The listener, what tells us to stop, and the clients, by descriptor.
    listener: OwnedFd,
    stop: OwnedFd,
    clients: BTreeMap<u64, Client>,
    ready: Vec<u64>,
    /// How long a request is, if the server is to lie about it.
    lies: Option<usize>,
    done: Done,
}

struct Client {
    stream: OwnedFd,
    /// What could not be written at once.
    rest: Vec<u8>,
}

/// The name of a file in the events.
fn name(file: &OwnedFd) -> u64 {
    u64::from(file.as_raw_fd().unsigned_abs())
}

impl Readiness {
    /// Step 1. `lies` is the length of a request, if the server is to lie about it.
    pub fn poll(listener: OwnedFd, stop: OwnedFd, lies: Option<usize>) -> Result<Self, Failure> {
        io::ioctl_fionbio(&listener, true).map_err(failed("cannot listen"))?;
        let (clients, ready, done) = Default::default();
        Ok(Self { epoll: None, listener, stop, clients, ready, lies, done })
    }

    /// Step 2.
    pub fn epoll(listener: OwnedFd, stop: OwnedFd) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("there is no epoll"))?;
        for file in [&listener, &stop] {
            let data = EventData::new_u64(name(file));
            epoll::add(&epoll, file, data, EventFlags::IN).map_err(failed("cannot listen"))?;
        }
        Ok(Self { epoll: Some(epoll), ..Self::poll(listener, stop, None)? })
    }

    // ANCHOR: wait
    /// Waits until somebody is ready, and notes who.
    fn wait(&mut self) -> io::Result<()> {
        self.ready.clear();
        if let Some(epoll) = &self.epoll {
            let mut events = Vec::with_capacity(256);
            epoll::wait(epoll, spare_capacity(&mut events), None)?;
            self.ready.extend(events.iter().map(|event| event.data.u64()));
            return Ok(());
        }
        let files = [&self.listener, &self.stop].map(|file| PollFd::new(file, PollFlags::IN));
        let clients = self.clients.values().map(|client| {
            let is_behind = !client.rest.is_empty();
            PollFd::new(&client.stream, if is_behind { PollFlags::OUT } else { PollFlags::IN })
        });
        let mut files: Vec<_> = files.into_iter().chain(clients).collect();
        poll(&mut files, None)?;
        let names = [name(&self.listener), name(&self.stop)];
        let names = names.into_iter().chain(self.clients.keys().copied());
        let is_ready = |(name, file): (u64, &PollFd)| (!file.revents().is_empty()).then_some(name);
        self.ready.extend(names.zip(&files).filter_map(is_ready));
        Ok(())
    }
    // ANCHOR_END: wait

    /// Accepts everybody who waits for it.
    fn accept(&mut self) -> Result<(), Failure> {
        loop {
            self.done.calls += 1;
            match net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(stream) => self.admit(stream)?,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(error) => return Err(Failure::of("cannot accept", error)),
            }
        }
    }

    fn admit(&mut self, stream: OwnedFd) -> Result<(), Failure> {
        if let Some(epoll) = &self.epoll {
            self.done.calls += 1;
            let data = EventData::new_u64(name(&stream));
            let added = epoll::add(epoll, &stream, data, EventFlags::IN);
            added.map_err(failed("cannot watch a client"))?;
        }
        self.clients.insert(name(&stream), Client { stream, rest: Vec::new() });
        Ok(())
    }

    // ANCHOR: echo
    /// Reads, unless something is left to be written, and writes. Whether the client is there.
    fn echo(client: &mut Client, lies: Option<usize>, done: &mut Done) -> io::Result<bool> {
        if client.rest.is_empty() {
            done.calls += 1;
            client.rest.resize(lies.map_or(4096, |request| 2 * request), 0);
            let count = io::read(&client.stream, &mut client.rest[..])
                .inspect_err(|_| client.rest.clear())?;
            if count == 0 {
                return Ok(false);
            }
            if lies.is_none() {
                client.rest.truncate(count);
            }
        }
        done.calls += 1;
        let sent = io::write(&client.stream, &client.rest)?;
        done.bytes += sent as u64;
        client.rest.drain(..sent);
        Ok(true)
    }
    // ANCHOR_END: echo

    /// Serves a client that is ready, and drops it when it is gone.
    fn serve(&mut self, ready: u64) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(&ready) else { return Ok(()) };
        let was_behind = !client.rest.is_empty();
        let is_there = match Self::echo(client, self.lies, &mut self.done) {
            Ok(is_there) => is_there,
            Err(errno) => [Errno::AGAIN, Errno::INTR].contains(&errno),
        };
        if !is_there {
            self.clients.remove(&ready);
            self.done.calls += 1;
            return Ok(());
        }
        let is_behind = !client.rest.is_empty();
        if let Some(epoll) = &self.epoll
            && is_behind != was_behind
        {
            self.done.calls += 1;
            let events = if is_behind { EventFlags::OUT } else { EventFlags::IN };
            let data = EventData::new_u64(ready);
            let changed = epoll::modify(epoll, &client.stream, data, events);
            changed.map_err(failed("cannot watch a client"))?;
        }
        Ok(())
    }
}

impl Server for Readiness {
    fn turn(&mut self) -> Result<(), Failure> {
        self.done.calls += 1;
        match self.wait() {
            Ok(()) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(Failure::of("cannot wait", error)),
        }
        for ready in std::mem::take(&mut self.ready) {
            if ready == name(&self.stop) {
                self.done.stopped = true;
            } else if ready == name(&self.listener) {
                self.accept()?;
            } else {
                self.serve(ready)?;
            }
        }
        Ok(())
    }

    fn done(&self) -> Done {
        self.done
    }
}
