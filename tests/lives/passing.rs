//! Files that go from the table of one ring to that of another.
//!
//! ```text
//!   a sentinel ─► our table ─ PassFile ─► the helper's table ─► received, compared │ dropped
//! ```

use annulus::lease::{FileTable, FixedFile, PassedFile};
use annulus::op::{InstallFd, Outcome, PassFile};

use crate::claims::{About, Whose, ship_once};
use crate::make::lacking;
use crate::world::World;

/// Where files arrive.
#[derive(Debug)]
pub struct Arrivals {
    table: FileTable,
    held: Vec<FixedFile>,
}

impl Arrivals {
    /// A small table of the helper ring.
    pub fn new(aid: &mut annulus::Ring) -> Option<Self> {
        let table = lacking(aid.file_table(3))?;
        Some(Self { table, held: Vec::new() })
    }

    /// Fails unless every place is free again.
    pub fn finish(mut self) {
        self.held.clear();
        let (held, lost) = (self.table.held(), self.table.lost());
        assert!(held == 0, "OP3: {held} places of the other table are held, without a lease");
        assert!(lost == 0, "OP3: {lost} places of the other table are lost");
    }
}

/// Passes a file whose identity is known.
pub fn any(world: &mut World) {
    if !world.allows("pass file") {
        return;
    }
    let (Some(table), Some(arrivals)) = (&world.table, &world.arrivals) else { return };
    let Ok(sender) = arrivals.table.sender() else { return };
    let file = world.sentinels.copy();
    let Ok(file) = table.insert(&mut world.ring, &file) else { return };
    let op = PassFile::new(file, &sender).expect("the other ring is there");
    let about = world.about("pass file", Whose::Nobody);
    ship_once(world, about, op, passed);
}

fn passed(world: &mut World, about: &About, out: Outcome<PassedFile, FixedFile>) {
    let file = match out.result {
        Ok(file) => file,
        Err(error) => return world.failed(about, &error),
    };
    world.tally.borrow_mut().resource(about.kind);
    let (Some(aid), Some(arrivals)) = (&mut world.aid, &mut world.arrivals) else { return };
    if world.chance.one_in(3) {
        return drop(file); // Nobody receives it.
    }
    let Ok(file) = arrivals.table.receive(file) else { panic!("OP3: it is of this table") };
    let ticket = aid.submit(InstallFd::new(file.clone())).expect("it is idle");
    match aid.wait(ticket).expect("it does not wait").result {
        Ok(installed) => world.sentinels.check_other(installed),
        // Linux 6.8.
        Err(error) => assert!(error.raw_os_error() == Some(libc::EINVAL), "{error}"),
    }
    if world.chance.one_in(2) {
        arrivals.held.clear();
    }
    arrivals.held.push(file);
}
