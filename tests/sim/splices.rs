//! Splices: random programs on both kernels, which move bytes over pipes, files and streams.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus::prep;
use annulus::sys::abi::Sqe;
use annulus::sys::abi_register::RsrcRegister;
use annulus::sys::flags::{CancelFlags, SpliceFlags, SqeFlags};
use annulus::sys::flags_register::RsrcRegisterFlags;
use annulus::sys::opcode::RegisterOp;

use super::chance::Chance;
use super::scene::{Scene, at, both, seeded, with_faults};

/// Three pipes, a pair of sockets, a file to read, an eventfd, a file to write: on Linux a pipe has
/// the pages of a file, and so what is written to the file later.
const OURS: usize = 6;
const FILE: usize = 8;
const OTHER: usize = 10;
const ENDS: usize = 11;

struct Splices {
    ends: Vec<OwnedFd>,
    /// Which end each splice that waits reads from.
    waits: HashMap<u64, usize>,
    #[expect(clippy::vec_box, reason = "entries point to what is in the boxes")]
    buffers: Vec<Box<[u8; 64]>>,
}

impl Splices {
    fn new(it: &Scene<'_>) -> Self {
        let mut ends = Vec::new();
        for _ in 0..3 {
            let (reader, writer) = it.world.pipe();
            ends.extend([reader, writer]);
        }
        let (ours, theirs) = it.world.socket_pair();
        let contents: Vec<u8> = (0..=250).cycle().take(9000).collect();
        ends.extend([ours, theirs, it.world.file(&contents), it.world.eventfd()]);
        ends.push(it.world.file(b"another file"));
        Self { ends, waits: HashMap::new(), buffers: vec![] }
    }

    fn waits_at(&self, end: usize) -> bool {
        self.waits.values().any(|&waits| waits == end)
    }

    fn offset(chance: &mut Chance, is_file: bool) -> u64 {
        match chance.below(12) {
            0 => u64::MAX,
            1 => 0,
            2 if is_file => u64::MAX - 5,
            _ if is_file => chance.below(9000).into(),
            _ => u64::MAX,
        }
    }

    fn splice(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Option<Sqe> {
        let is_odd = chance.one_in(8);
        let end = |chance: &mut Chance, usual: &[usize]| match is_odd {
            true => chance.below(11) as usize,
            false => chance.among(usual),
        };
        let from = end(chance, &[0, 2, 4, 0, 2, 4, OURS, FILE]);
        let to = end(chance, &[1, 3, 5, 1, 3, 5, OURS, OURS + 1, OTHER]);
        if self.waits_at(from) || to == FILE || from == OTHER {
            return None;
        }
        let (source, target) = (self.ends[from].as_raw_fd(), self.ends[to].as_raw_fd());
        let len = match chance.below(9) {
            0 => 0,
            1 | 2 => chance.below(20_000),
            _ => chance.below(60),
        };
        // What may wait goes one way, so that all end when the program closes what it has. A splice
        // that waits for a stream locks its pipe on Linux, so that even reads of it hang.
        let goes_on = from < to && to < OURS;
        let mut flags = if goes_on && chance.one_in(2) { 0 } else { libc::SPLICE_F_NONBLOCK };
        if flags == 0 {
            self.waits.insert(it.next, from);
        }
        flags |= if chance.one_in(30) { 1 << 20 } else { 0 };
        if chance.one_in(4) {
            let is_odd = chance.one_in(9);
            let sqe = prep::tee(source, target, len, flags);
            return Some(Sqe { off: u64::from(is_odd), ..sqe });
        }
        let from_offset = Self::offset(chance, from == FILE);
        let to_offset = Self::offset(chance, to == OTHER);
        Some(prep::splice(source, from_offset, target, to_offset, len, flags))
    }

    fn step(&mut self, it: &mut Scene<'_>, chance: &mut Chance) {
        match chance.below(8) {
            0..=3 => {
                let Some(sqe) = self.splice(it, chance) else { return };
                let links = chance.one_in(4);
                it.push(Sqe { flags: if links { SqeFlags::IO_LINK } else { sqe.flags }, ..sqe });
                if links {
                    it.push(prep::nop());
                }
            }
            4 | 5 => {
                let end = chance.among(&[1, 3, 5, OURS, OURS + 1]);
                let count = if chance.one_in(6) { 4000 } else { chance.below(60) as usize };
                let bytes: Vec<u8> = (0..=200).cycle().take(count).collect();
                let written = it.world.write(self.ends[end].as_fd(), &bytes);
                it.say(format!("{:?}", written.map_err(|error| error.raw_os_error())));
            }
            6 => {
                let end = chance.among(&[0, 2, 4, OURS, OURS + 1]);
                if self.waits_at(end) {
                    return;
                }
                let bytes = it.world.read(self.ends[end].as_fd());
                it.say(format!("{:?}", bytes.map_err(|error| error.raw_os_error())));
            }
            _ => {
                let buffer = Box::new([0_u8; 64]);
                let offset = chance.below(9000).into();
                let end = chance.among(&[FILE, OTHER]);
                it.push(prep::read(self.ends[end].as_raw_fd(), at(&*buffer), 64, offset));
                self.buffers.push(buffer);
            }
        }
        self.rest(it);
    }

    fn rest(&mut self, it: &mut Scene<'_>) {
        it.rest(|_| false);
        for (user_data, ..) in &it.last {
            self.waits.remove(user_data);
        }
    }
}

fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let mut splices = Splices::new(it);
    for _ in 0..chance.below(30) {
        splices.step(it, chance);
    }
    for end in [0, 2, 4, OURS, OURS + 1] {
        if !splices.waits_at(end) {
            let all = it.world.read(splices.ends[end].as_fd());
            it.say(format!("{:?}", all.map_err(|error| error.raw_os_error())));
        }
    }
    assert_eq!(splices.ends.len(), ENDS);
    // Those that read from a pipe see its end while the others are there.
    for writer in [1, 3, 5] {
        splices.ends[writer] = it.world.eventfd();
        splices.rest(it);
        splices.rest(it);
    }
    it.say(format!("{:?}", splices.buffers));
    // If a kernel did not end everything, it must not find other memory here (OP1).
    std::mem::forget(splices.buffers);
}

#[test]
fn random_programs_with_splices_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("splices", 600, program);
}

#[test]
fn op1_holds_for_random_programs_with_splices_and_faults() {
    with_faults(300, program);
}

#[test]
fn a_splice_fills_the_pages_of_a_pipe_and_reads_from_the_table() {
    both("full pipe", |it| {
        let (reader, writer) = it.world.pipe();
        let file = it.world.file(&vec![7; 100_000]);
        let (flags, nr) = (RsrcRegisterFlags::SPARSE, 3);
        let mut arg = RsrcRegister { nr, flags, ..RsrcRegister::default() };
        it.register(RegisterOp::FILES2, Some(&mut arg), 32);
        let fds = [file.as_raw_fd(), reader.as_raw_fd()];
        it.push(prep::files_update(at(&fds), 2, 0));
        it.take(1);
        let fixed = SpliceFlags::FD_IN_FIXED.bits();
        let (to, dont) = (writer.as_raw_fd(), libc::SPLICE_F_NONBLOCK);
        for sqe in [
            prep::splice(2, 0, to, u64::MAX, 10, fixed),
            prep::splice(0, 100, to, u64::MAX, 100_000, fixed),
            prep::splice(0, 100, to, u64::MAX, 100_000, fixed | dont),
            prep::splice(1, u64::MAX, file.as_raw_fd(), 50, 3996, fixed),
            prep::splice(0, 10, to, u64::MAX, 9, fixed | dont),
            prep::splice(0, 10, to, u64::MAX, 9, fixed | dont),
        ] {
            it.push(sqe);
            it.take(1);
        }
        it.say(format!("{:?}", it.world.read(reader.as_fd()).map(|bytes| bytes.len())));
        drop(reader);
        it.push(prep::files_update(at(&[-1, -1]), 2, 0));
        it.take(1);
        it.push(prep::splice(file.as_raw_fd(), 0, to, u64::MAX, 9, 0));
        it.take(1);
    });
}

#[test]
fn a_splice_that_waits_is_interrupted_by_its_cancel() {
    both("cancel", |it| {
        let ((reader, _first), (_second, writer)) = (it.world.pipe(), it.world.pipe());
        let (from, to) = (reader.as_raw_fd(), writer.as_raw_fd());
        let splice = prep::splice(from, u64::MAX, to, u64::MAX, 9, 0);
        it.push(Sqe { flags: SqeFlags::IO_LINK, ..splice });
        it.push(prep::nop());
        it.take(0);
        // A worker thread has to begin with it.
        for _ in 0..20 {
            it.world.pause();
        }
        it.push(prep::cancel(0, CancelFlags::empty()));
        it.take(3);
        // On Linux something else may have interrupted the worker before, so that nothing is found.
        let found = it.lines.pop();
        assert!(
            found.is_some_and(|line| line.starts_with("2: -114") || line.starts_with("2: -2 "))
        );
    });
}
