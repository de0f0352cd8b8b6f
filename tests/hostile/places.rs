//! Completions that lie about the slot of a file that was passed to another ring.

use std::sync::{Arc, Mutex};

use annulus::lease::{FileSender, FileTable, FixedFile, PassedFile};
use annulus::op::{Cwd, How, OpenAt, PassFile};
use annulus::{Ring, Setup};
use annulus_sys::abi::Cqe;
use annulus_sys::abi_register::FilesUpdate;
use annulus_sys::opcode::RegisterOp;

use crate::support::backend::{Enter, Script, ScriptedKernel};

/// How long each table is.
const PLACES: u32 = 4;

/// A ring with a table, about which the kernel reports only what the script says.
struct Side {
    ring: Ring,
    table: FileTable,
    script: Arc<Script>,
    /// The slots that were emptied, in order.
    closed: Arc<Mutex<Vec<u32>>>,
}

impl Side {
    fn new() -> Self {
        let (kernel, script) = ScriptedKernel::new();
        let mut ring = Setup::plain(8).kernel(kernel).build().expect("a ring");
        let closed = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&closed);
        script.on_register(move |op, arg, _| {
            if op != RegisterOp::FILES_UPDATE {
                return Some(Ok(0));
            }
            // SAFETY: a live `struct io_uring_files_update`, as the call is made with.
            let update = unsafe { arg.cast::<FilesUpdate>().read() };
            told.lock().expect("no thread panics").push(update.offset);
            Some(Ok(1))
        });
        let table = ring.file_table(PLACES).expect("the script knows it");
        Self { ring, table, script, closed }
    }

    /// A file at slot `place`, opened there.
    fn open(&mut self, place: i32) -> FixedFile {
        self.answers(place);
        let open = OpenAt::new(Cwd, c"/dev/null", How::read()).direct(&self.table);
        let open = self.ring.submit(open).expect("room");
        self.ring.wait(open).expect("it completes").result.expect("a place that is free")
    }

    /// Passes `file`, which the kernel reports to be at slot `place`.
    fn pass(&mut self, file: &FixedFile, to: &FileSender, place: i32) -> PassedFile {
        self.answers(place);
        let pass = PassFile::new(file.clone(), to).expect("its ring is there");
        let pass = self.ring.submit(pass).expect("room");
        self.ring.wait(pass).expect("it completes").result.expect("the script says so")
    }

    /// The next entry completes with `res`.
    fn answers(&self, res: i32) {
        self.script.enters(Enter::Run(Box::new(move |kernel, _| {
            let sqe = kernel.consume().expect("an entry");
            assert!(kernel.post(Cqe { user_data: sqe.user_data, res, ..Cqe::ZERO }));
            Ok(1)
        })));
    }

    fn closed(&self) -> Vec<u32> {
        self.closed.lock().expect("no thread panics").clone()
    }
}

#[test]
fn op3_a_held_place_stays_open_whoever_drops_a_passed_file_that_is_said_to_be_there() {
    let (mut ours, mut theirs) = (Side::new(), Side::new());
    let (held, file) = (theirs.open(2), ours.open(0));
    let sender = theirs.table.sender().expect("it has a descriptor");
    for place in [2, i32::MAX, 4, 2] {
        drop(ours.pass(&file, &sender, place));
        theirs.table.sender().expect("it is there"); // Closes unclaimed files.
        assert_eq!((theirs.closed(), theirs.table.held()), (vec![], 1), "{place}");
    }
    drop(held);
    assert_eq!((theirs.closed(), theirs.table.held()), (vec![2], 0), "its holder closes it, once");
}

#[test]
fn op3_a_held_place_is_received_by_no_other_file() {
    let (mut ours, mut theirs) = (Side::new(), Side::new());
    let (held, file) = (theirs.open(0), ours.open(0));
    let sender = theirs.table.sender().expect("it has a descriptor");
    let passed = ours.pass(&file, &sender, 0);
    let Err(passed) = theirs.table.receive(passed) else { panic!("place 0 is held") };
    drop(passed);
    theirs.table.sender().expect("it is there");
    assert_eq!((theirs.closed(), theirs.table.held()), (vec![], 1));
    let passed = ours.pass(&file, &sender, 1);
    let Ok(received) = theirs.table.receive(passed) else { panic!("place 1 is free") };
    drop((received, held));
    assert_eq!(theirs.closed(), [1, 0]);
}

#[test]
fn op3_a_passed_file_that_is_not_wanted_is_closed_where_it_is() {
    let (mut ours, mut theirs) = (Side::new(), Side::new());
    let (_held, file) = (theirs.open(0), ours.open(0));
    let sender = theirs.table.sender().expect("it has a descriptor");
    drop([ours.pass(&file, &sender, 3), ours.pass(&file, &sender, 1)]);
    theirs.table.sender().expect("it is there");
    assert_eq!((theirs.closed(), theirs.table.held()), (vec![3, 1], 1));
}
