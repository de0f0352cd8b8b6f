//! A listener whose every connection is accepted exactly once.
//!
//! ```text
//!   client: connect, its number, close ──► listener ── Accept │ AcceptMulti ──► the number, once
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::rc::Rc;

use annulus::op::{Accept, AcceptMulti, Ended, Ending, Outcome};

use super::act::{Act, Hall};
use super::tally::Count;
use super::trouble::{Check, Trouble, finding, may_end};

/// How often descriptors may be lacking until no more are accepted.
const PATIENCE: u32 = 40;

/// Who came, and who did not.
#[derive(Debug, Default)]
struct Guests {
    waiting: BTreeSet<u32>,
    seen: u32,
    /// An accept is in flight.
    open: bool,
    lacks: u32,
}

/// A listener, and a desk that accepts.
pub struct Door {
    guests: Rc<RefCell<Guests>>,
    listener: Rc<OwnedFd>,
    address: SocketAddr,
    made: u32,
    most: u32,
    desk: usize,
}

impl Door {
    pub fn new(hall: &mut Hall) -> Result<Self, Trouble> {
        let name = format!("annulus-soak-{}-{:x}", std::process::id(), hall.chance.next());
        let address = SocketAddr::from_abstract_name(name)?;
        let listener = Rc::new(OwnedFd::from(UnixListener::bind_addr(&address)?));
        let most = 1 + hall.chance.below(12);
        let desk = hall.chance.below(u32::try_from(hall.desks.len()).unwrap_or(1)) as usize;
        Ok(Self { guests: Rc::default(), listener, address, made: 0, most, desk })
    }

    /// A client comes, says its number, and goes.
    fn connect(&mut self) -> Check {
        let mut client = UnixStream::connect_addr(&self.address)?;
        client.write_all(&self.made.to_le_bytes())?;
        self.guests.borrow_mut().waiting.insert(self.made);
        self.made += 1;
        Ok(())
    }
}

impl Guests {
    fn came(&mut self, connection: OwnedFd) -> Check {
        let mut number = [0; 4];
        UnixStream::from(connection).read_exact(&mut number)?;
        let number = u32::from_le_bytes(number);
        self.seen += 1;
        if self.waiting.remove(&number) {
            return Ok(());
        }
        finding(format!("connection {number} was accepted twice, or never made"))
    }

    fn item(&mut self, item: io::Result<OwnedFd>) -> Check {
        match item {
            Ok(connection) => self.came(connection),
            Err(error) => {
                self.lacks += 1;
                may_end("an accept", &error)
            }
        }
    }

    fn ended<F>(&mut self, ended: Ended<F, io::Result<OwnedFd>>) -> Check {
        self.open = false;
        ended.remaining.into_iter().try_for_each(|item| self.item(item))?;
        match ended.how {
            Ending::Failed(error) => self.item(Err(error)),
            _ => Ok(()),
        }
    }
}

impl Act for Door {
    fn step(&mut self, hall: &mut Hall) -> Check {
        if self.made < self.most && hall.chance.one_in(2) {
            self.connect()?;
        }
        if self.guests.borrow().open || self.is_over() {
            return Ok(());
        }
        let (desk, listener) = (&mut hall.desks[self.desk], Rc::clone(&self.listener));
        let (guests, same) = (Rc::clone(&self.guests), Rc::clone(&self.guests));
        let accepted = if desk.chance.one_in(3) {
            desk.submit(Accept::new(listener), move |outcome: Outcome<OwnedFd, _>| {
                let mut guests = guests.borrow_mut();
                guests.open = false;
                guests.item(outcome.result)
            })
        } else {
            desk.submit_many(
                AcceptMulti::new(listener),
                move |item| guests.borrow_mut().item(item),
                move |ended| same.borrow_mut().ended(ended),
            )
        }?;
        self.guests.borrow_mut().open |= accepted;
        Ok(())
    }

    fn is_over(&self) -> bool {
        let guests = self.guests.borrow();
        guests.seen == self.most || guests.lacks > PATIENCE
    }

    fn end(self: Box<Self>, hall: &mut Hall, _: bool) -> Check {
        hall.tally.add(Count::Connections, self.guests.borrow().seen.into());
        hall.outlive(self.listener);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "a listener"
    }
}
