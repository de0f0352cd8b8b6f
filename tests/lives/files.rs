//! Connections that are accepted, plain and into the table, and messages from one ring to another.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::rc::Rc;

use annulus::lease::FixedFile;
use annulus::op::{Accept, AcceptMulti, Ended, Ending, Message, Outcome};

use crate::claims::{About, Whose, ship_many, ship_once};
use crate::receives;
use crate::world::World;

/// A listener, and the connections that clients made.
#[derive(Debug)]
pub struct Listener {
    fd: Rc<UnixListener>,
    address: SocketAddr,
    /// Connections that were not seen yet, each by its number.
    waiting: BTreeSet<u32>,
    made: u32,
    /// Connections that were accepted into the table, where they have no number.
    direct: usize,
    /// An operation was detached, and may have accepted some.
    pub adrift: bool,
}

impl Listener {
    pub fn new() -> Self {
        // A unique name, in any process: the kernel chooses one.
        let (fd, address) = (0..)
            .find_map(|number: u32| {
                let name = format!("annulus-lives-{}-{number}", std::process::id());
                let address = SocketAddr::from_abstract_name(name).expect("a short name");
                let fd = UnixListener::bind_addr(&address).ok()?;
                Some((fd, address))
            })
            .expect("a free name");
        let (waiting, fd) = (BTreeSet::new(), Rc::new(fd));
        Self { fd, address, waiting, made: 0, direct: 0, adrift: false }
    }

    /// A client connects, sends its number, and closes.
    pub fn connect(&mut self) {
        if self.waiting.len() + self.direct > 20 {
            return;
        }
        let mut peer = UnixStream::connect_addr(&self.address).expect("room in the queue");
        if let Err(error) = peer.write_all(&self.made.to_le_bytes()) {
            // Accepted for a detached operation, or for a full table, and closed.
            assert!(error.kind() == ErrorKind::BrokenPipe, "room for four bytes: {error}");
            self.adrift = true;
            return;
        }
        self.waiting.insert(self.made);
        self.made += 1;
    }

    /// Fails unless it is a connection that was not seen yet.
    fn check(&mut self, connection: OwnedFd) {
        let mut number = [0; 4];
        UnixStream::from(connection).read_exact(&mut number).expect("four bytes wait");
        let number = u32::from_le_bytes(number);
        assert!(self.waiting.remove(&number), "OP3: connection {number} came twice, or never");
    }

    /// All operations have ended: connections that were not accepted are still there, and no
    /// others.
    pub fn finish(mut self) {
        if self.adrift {
            return;
        }
        self.fd.set_nonblocking(true).expect("it is a socket");
        while let Ok((connection, _)) = self.fd.accept() {
            self.check(connection.into());
        }
        let (left, direct) = (self.waiting.len(), self.direct);
        assert!(left == direct, "OP3: {left} connections were lost, and {direct} are in the table");
    }
}

/// Submits an operation that completes with a descriptor, or a message.
pub fn any(world: &mut World) {
    match world.chance.below(8) {
        0 => return message(world),
        1..=2 => return receives::peer_sends_descriptor(world),
        3..=4 => {
            if let Some(listener) = &mut world.listener {
                listener.connect();
            }
            return;
        }
        _ => {}
    }
    let Some(listener) = &world.listener else { return };
    let fd = Rc::clone(&listener.fd);
    let table = world.table.clone();
    match (table, world.chance.below(4)) {
        (Some(table), 0) if world.allows("accept direct") => {
            let about = world.about("accept direct", Whose::Listener);
            ship_once(world, about, Accept::new(fd).direct(&table), accepted_direct);
        }
        (Some(table), 1) if world.allows("accept multi direct") => {
            let about = world.about("accept multi direct", Whose::Listener);
            ship_many(world, about, AcceptMulti::new(fd).direct(&table), carries_file, ends);
        }
        (_, 0 | 2) if world.allows("accept") => {
            let about = world.about("accept", Whose::Listener);
            ship_once(world, about, Accept::new(fd), accepted);
        }
        _ if world.allows("accept multi") => {
            let about = world.about("accept multi", Whose::Listener);
            ship_many(world, about, AcceptMulti::new(fd), carries_fd, ends);
        }
        _ => {}
    }
}

/// Sends a message to the helper ring, and checks that it arrives.
fn message(world: &mut World) {
    let Some(aid) = &mut world.aid else { return };
    let Ok(sender) = aid.sender() else { return };
    let about_number = world.about("message", Whose::Nobody);
    let Ok(op) = Message::new(&sender, about_number.number) else { return };
    ship_once(world, about_number, op, |world, about, result| match result {
        Ok(()) => world.tally.borrow_mut().resource(about.kind),
        Err(error) => world.failed(about, &error),
    });
    if let Some(aid) = &mut world.aid {
        aid.reap(|_| ()).expect("messages are taken");
    }
}

fn took(world: &mut World, about: &About, connection: OwnedFd) {
    world.tally.borrow_mut().resource(about.kind);
    if let Some(listener) = &mut world.listener {
        listener.check(connection);
    }
}

/// It is held for a while, or dropped at once.
fn took_file(world: &mut World, about: &About, file: FixedFile) {
    world.tally.borrow_mut().resource(about.kind);
    if let Some(listener) = &mut world.listener {
        listener.direct += 1;
    }
    if world.chance.one_in(2) {
        world.files.clear();
    }
    world.files.push(file);
}

fn accepted<F>(world: &mut World, about: &About, out: Outcome<OwnedFd, F>) {
    match out.result {
        Ok(connection) => took(world, about, connection),
        Err(error) => world.failed(about, &error),
    }
}

fn accepted_direct<F>(world: &mut World, about: &About, out: Outcome<FixedFile, F>) {
    match out.result {
        Ok(file) => took_file(world, about, file),
        Err(error) => no_place(world, about, &error),
    }
}

/// A connection for which the table has no place is closed by the kernel.
fn no_place(world: &mut World, about: &About, error: &std::io::Error) {
    if error.raw_os_error() == Some(libc::ENFILE)
        && let Some(listener) = &mut world.listener
    {
        listener.adrift = true;
    }
    world.failed(about, error);
}

fn carries_fd(world: &mut World, about: &About, item: std::io::Result<OwnedFd>) {
    match item {
        Ok(connection) => took(world, about, connection),
        Err(error) => world.failed(about, &error),
    }
}

fn carries_file(world: &mut World, about: &About, item: std::io::Result<FixedFile>) {
    match item {
        Ok(file) => took_file(world, about, file),
        Err(error) => no_place(world, about, &error),
    }
}

fn ends<F, T>(world: &mut World, about: &About, ended: Ended<F, T>) {
    if let Ending::Failed(error) = ended.how {
        no_place(world, about, &error);
    }
}

/// The device and inode number of the file of a descriptor.
pub fn identity(fd: impl AsFd) -> (u64, u64) {
    use std::os::linux::fs::MetadataExt as _;
    let fd = fd.as_fd().try_clone_to_owned().expect("a descriptor");
    let data = std::fs::File::from(fd).metadata().expect("every file has that");
    (data.st_dev(), data.st_ino())
}
