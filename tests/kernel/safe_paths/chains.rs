//! Which operations break a chain when they fail.
//!
//! Before Linux 6.0 all of them did. Since then some of the kernel's handlers report an error, but
//! do not mark the request as failed: the entries after it in a chain run.

use std::io::pipe;

use annulus::Ring;
use annulus::op::{
    Cwd, Fadvise, Fallocate, FallocateMode, FileAdvice, Fsync, Ftruncate, Getxattr, How, LinkAt,
    Madvise, MapChange, MkdirAt, Mode, Nop, Op, OpenAt, Read, RenameAt, Setxattr, Splice, Stat,
    Statx, SymlinkAt, SyncFileRange, UnlinkAt,
};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};
use memmap2::MmapMut;

use crate::harness::{Need, here, test};
use crate::safe_files::{memory, small};

pub fn tests() -> Vec<Trial> {
    vec![
        test("these_operations_break_a_chain_when_they_fail", &[ALL], breaking),
        test("these_operations_do_not_since_linux_6_0", &[ALL], going_on),
        test("a_file_that_cannot_be_cut_does_not_break_a_chain", &[TRUNCATE], truncate),
    ]
}

/// The youngest of them: since Linux 5.19. Before, one by one would tell nothing else.
const ALL: Need = Need::Op(Opcode::GETXATTR);
const TRUNCATE: Need = Need::Op(Opcode::FTRUNCATE);

/// A path that does not exist.
const NONE: &std::ffi::CStr = c"/proc/no/such/file";

/// Whether the entry after `op`, which fails, runs anyway.
fn goes_on<O: Op + 'static>(ring: &mut Ring, op: O) -> bool {
    let tickets = ring.submit_chain((op, Nop)).map_err(|rejected| rejected.why);
    let (failing, next) = tickets.expect("room").into_tickets();
    ring.detach(failing);
    ring.wait(next).expect("it completes").is_ok()
}

fn breaking() -> Result<(), Failed> {
    let mut ring = small();
    let ring = &mut ring;
    let (reader, writer) = pipe()?;
    assert!(!goes_on(ring, Read::new(writer, [0; 1])));
    assert!(!goes_on(ring, OpenAt::new(Cwd, NONE, How::read())));
    assert!(!goes_on(ring, Splice::new(memory(b"a"), memory(b"b"), 1)));
    assert!(!goes_on(ring, Fadvise::new(reader, FileAdvice::WillNeed)));
    Ok(())
}

fn going_on() -> Result<(), Failed> {
    let mut ring = small();
    let ring = &mut ring;
    let since_then = here().has_op(Opcode::SEND_ZC);
    let went_on = [
        goes_on(ring, Fsync::new(pipe()?.0)),
        goes_on(ring, SyncFileRange::new(pipe()?.0)),
        goes_on(ring, Fallocate::new(memory(b""), 0, 1).mode(FallocateMode::Collapse)),
        goes_on(ring, Statx::at(Cwd, NONE, Stat::boxed())),
        goes_on(ring, RenameAt::new(Cwd, NONE, Cwd, NONE)),
        goes_on(ring, UnlinkAt::new(Cwd, NONE)),
        goes_on(ring, MkdirAt::new(Cwd, NONE, Mode::new(0o700))),
        goes_on(ring, SymlinkAt::new(c"a", Cwd, NONE)),
        goes_on(ring, LinkAt::new(Cwd, NONE, Cwd, NONE)),
        goes_on(ring, Getxattr::new(NONE, c"user.a", Vec::new())),
        goes_on(ring, Setxattr::new(NONE, c"user.a", "value")),
        goes_on(ring, Madvise::change(MmapMut::map_anon(4096)?, MapChange::Punch)),
    ];
    assert_eq!(went_on, [since_then; 12]);
    Ok(())
}

fn truncate() -> Result<(), Failed> {
    let mut ring = small();
    assert!(goes_on(&mut ring, Ftruncate::new(pipe()?.0, 0)));
    Ok(())
}
