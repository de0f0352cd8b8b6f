//! Registered buffers and files: random programs on both kernels, and the rules for them.
//!
//! | a program | at random |
//! |---|---|
//! | registers, updates, unregisters tables | with tags, with holes, with mistakes |
//! | reads, writes, receives, sends | by descriptor or place, plain or in a registered buffer |
//! | opens, closes, installs | into places, which it names or the kernel finds |

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus::prep;
use annulus::sys::abi::Sqe;
use annulus::sys::abi_register::{FileIndexRange, FilesUpdate, RsrcRegister, RsrcUpdate2};
use annulus::sys::flags::{AcceptFlags, CancelFlags, FixedFdFlags, RecvSendFlags, SqeFlags};
use annulus::sys::flags_register::RsrcRegisterFlags;
use annulus::sys::opcode::{Opcode, RegisterOp};

use super::chance::Chance;
use super::scene::{Scene, at, both, seeded};

const AREA: usize = 64;
const PLACES: u32 = 4;
/// The ends of a program.
const READER: usize = 0;
const WRITER: usize = 1;
const FILE: usize = 4;
const ENDS: usize = 6;

/// A program's memory and files.
#[expect(clippy::vec_box, reason = "entries point to what is in the boxes")]
struct Tables {
    ends: Vec<OwnedFd>,
    /// One area for each end that may wait, and one for what does not wait.
    memory: Box<[[u8; AREA]; 4]>,
    /// Whether a request may wait for the end.
    waits: [bool; ENDS],
    /// Entries point into these.
    kept: Vec<Box<[u64; 4]>>,
    numbers: Vec<(Box<[i32; 3]>, [i32; 3])>,
    /// The requests that return a descriptor.
    gives: Vec<u64>,
}

impl Tables {
    fn new(it: &Scene<'_>) -> Self {
        let (reader, writer) = it.world.pipe();
        let (ours, theirs) = it.world.socket_pair();
        let ends = vec![
            reader,
            writer,
            ours,
            theirs,
            it.world.file(b"the contents of a file"),
            it.world.eventfd(),
        ];
        let memory =
            Box::new([*b"................................----------------================"; 4]);
        let (kept, numbers, gives) = Default::default();
        Self { ends, memory, waits: [false; ENDS], kept, numbers, gives }
    }

    /// Where an area lies.
    fn area(&mut self, which: usize) -> u64 {
        self.memory.as_mut_ptr().expose_provenance() as u64 + (which * AREA) as u64
    }

    /// What a place of a table of buffers is to name.
    fn buffer(&mut self, chance: &mut Chance) -> [u64; 2] {
        let start = self.area(chance.below(4) as usize);
        match chance.below(10) {
            0 => [0, 0],
            1 => [start, 0],
            2 => [0, 8],
            3 => [start + 16, 32],
            _ => [start, AREA as u64],
        }
    }

    fn number(&self, chance: &mut Chance) -> i32 {
        match chance.below(9) {
            0 => -1,
            1 => -2,
            2 => 9999,
            _ => self.ends[chance.below(6) as usize].as_raw_fd(),
        }
    }

    fn change_buffers(&mut self, it: &mut Scene<'_>, chance: &mut Chance) {
        let mut buffers: Vec<[u64; 2]> = (0..PLACES).map(|_| self.buffer(chance)).collect();
        let mut tags: Vec<u64> = (0..u64::from(PLACES)).map(|at| 1000 + it.next * 8 + at).collect();
        if chance.one_in(4) {
            tags[chance.below(4) as usize] = 0;
        }
        let (data, tags) =
            (at(&buffers[0]), if chance.one_in(3) { 0 } else { at::<u64>(&tags[0]) });
        match chance.below(9) {
            0 => it.register(RegisterOp::UNREGISTER_BUFFERS, None::<&mut u64>, 0),
            1 => {
                let count = chance.below(5);
                it.register(RegisterOp::BUFFERS, buffers.first_mut(), count);
            }
            2 | 3 => {
                let is_sparse = chance.one_in(3);
                let flags =
                    if is_sparse { RsrcRegisterFlags::SPARSE } else { RsrcRegisterFlags::empty() };
                let nr = chance.below(5);
                let data = if is_sparse && !chance.one_in(5) { 0 } else { data };
                let tags = if is_sparse { 0 } else { tags };
                let mut arg = RsrcRegister { nr, flags, data, tags, ..RsrcRegister::default() };
                it.register(RegisterOp::BUFFERS2, Some(&mut arg), 32);
            }
            _ => {
                let (offset, nr) = (chance.below(4), chance.below(3));
                let mut arg = RsrcUpdate2 { offset, data, tags, nr, ..RsrcUpdate2::default() };
                let size = if chance.one_in(9) { 16 } else { 32 };
                it.register(RegisterOp::BUFFERS_UPDATE, Some(&mut arg), size);
            }
        }
    }

    fn change_files(&mut self, it: &mut Scene<'_>, chance: &mut Chance) {
        let mut fds: Vec<i32> = (0..PLACES).map(|_| self.number(chance)).collect();
        let tags: Vec<u64> = (0..u64::from(PLACES)).map(|at| 2000 + it.next * 8 + at).collect();
        let (data, tags) = (at(&fds[0]), if chance.one_in(3) { 0 } else { at::<u64>(&tags[0]) });
        match chance.below(12) {
            0 => it.register(RegisterOp::UNREGISTER_FILES, None::<&mut u64>, 0),
            1 => {
                let count = chance.below(5);
                it.register(RegisterOp::FILES, fds.first_mut(), count);
            }
            2..=4 => {
                let is_sparse = !chance.one_in(3);
                let flags =
                    if is_sparse { RsrcRegisterFlags::SPARSE } else { RsrcRegisterFlags::empty() };
                let nr = chance.below(5);
                let (data, tags) = if is_sparse { (0, 0) } else { (data, tags) };
                let mut arg = RsrcRegister { nr, flags, data, tags, ..RsrcRegister::default() };
                it.register(RegisterOp::FILES2, Some(&mut arg), 32);
            }
            5 | 6 => {
                let offset = chance.below(4);
                let mut arg = FilesUpdate { offset, resv: 0, fds: data };
                let count = chance.below(4);
                it.register(RegisterOp::FILES_UPDATE, Some(&mut arg), count);
            }
            7 => {
                let (off, len) = (chance.below(4), chance.below(4));
                let mut arg = FileIndexRange { off, len, resv: 0 };
                it.register(RegisterOp::FILE_ALLOC_RANGE, Some(&mut arg), 0);
            }
            _ => {
                let (offset, nr) = (chance.below(4), chance.below(3));
                let mut arg = RsrcUpdate2 { offset, data, tags, nr, ..RsrcUpdate2::default() };
                it.register(RegisterOp::FILES_UPDATE2, Some(&mut arg), 32);
            }
        }
    }

    /// An entry that transfers bytes, to or from an end that is free.
    fn transfer(&mut self, chance: &mut Chance) -> Option<Sqe> {
        let end = chance.below(5) as usize;
        let waits = matches!(end, READER | 2 | 3);
        if waits && std::mem::replace(&mut self.waits[end], true) {
            return None;
        }
        let start = self.area(if waits { end % 4 } else { 1 }) + u64::from(chance.below(8));
        let (len, index) = (chance.below(57), u16::try_from(chance.below(5)).expect("below 5"));
        let fd = self.ends[end].as_raw_fd();
        let offset = if end == FILE { u64::from(chance.below(30)) } else { u64::MAX };
        let writes = end == WRITER || (end == FILE && chance.one_in(2));
        let none = RecvSendFlags::empty();
        let half = u64::from(len / 2);
        let table = Box::new([start, half, start + half, u64::from(len) - half]);
        let (vectors, is_fixed) = (at(&*table), !chance.one_in(3));
        self.kept.push(table);
        Some(match (chance.below(4), writes) {
            _ if end == 2 || end == 3 => prep::recv(fd, start, len, 0, none),
            (0, true) if is_fixed => prep::writev_fixed(fd, vectors, 2, offset, 0, index),
            (0, false) if is_fixed => prep::readv_fixed(fd, vectors, 2, offset, 0, index),
            (_, true) if is_fixed => prep::write_fixed(fd, start, len, offset, index),
            (_, false) if is_fixed => prep::read_fixed(fd, start, len, offset, index),
            (_, true) => prep::write(fd, start, len, offset),
            (_, false) => prep::read(fd, start, len, offset),
        })
    }

    /// An entry that changes the table of files.
    fn change(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Sqe {
        let place = chance.below(PLACES + 1);
        let into = |sqe: Sqe, chance: &mut Chance| match chance.below(3) {
            0 => prep::direct_alloc(sqe),
            1 => prep::direct(sqe, place),
            _ => sqe,
        };
        match chance.below(6) {
            0 => Sqe { fd: chance.below(20).min(1).cast_signed(), ..prep::close_direct(place) },
            1 => {
                self.gives.push(it.next);
                let kind = libc::SOCK_STREAM | [0, libc::SOCK_CLOEXEC][chance.below(2) as usize];
                into(prep::socket(libc::AF_INET, kind.cast_unsigned().into(), 0), chance)
            }
            2 => {
                self.gives.push(it.next);
                let sqe = prep::fixed_fd_install(place.cast_signed(), FixedFdFlags::empty());
                let is_odd = chance.one_in(6);
                if is_odd { Sqe { flags: SqeFlags::empty(), ..sqe } } else { sqe }
            }
            3 => {
                let events = u32::from((libc::POLLIN | libc::POLLOUT).cast_unsigned());
                let sqe = prep::poll_add(place.cast_signed(), events);
                Sqe { flags: SqeFlags::FIXED_FILE, ..sqe }
            }
            _ => {
                let before = [(); 3].map(|()| self.number(chance));
                let numbers = Box::new(before);
                let address = at(&*numbers);
                self.numbers.push((numbers, before));
                let offset = if chance.one_in(2) { u32::MAX } else { chance.below(4) };
                prep::files_update(address, chance.below(4), offset)
            }
        }
    }

    fn step(&mut self, it: &mut Scene<'_>, chance: &mut Chance) {
        match chance.below(12) {
            0 | 1 => self.change_buffers(it, chance),
            2 | 3 => self.change_files(it, chance),
            4..=7 => {
                let Some(sqe) = self.transfer(chance) else { return };
                let place = chance.below(PLACES + 1).cast_signed();
                let is_fixed = chance.one_in(2);
                // By its place, the file may be any: only what cannot wait may be asked for then.
                let sqe = match sqe.opcode {
                    Opcode::RECV if is_fixed => {
                        let op_flags = libc::MSG_DONTWAIT.cast_unsigned();
                        Sqe { op_flags, flags: SqeFlags::FIXED_FILE, fd: place, ..sqe }
                    }
                    Opcode::WRITE | Opcode::WRITE_FIXED | Opcode::WRITEV_FIXED if is_fixed => {
                        Sqe { flags: SqeFlags::FIXED_FILE, fd: place, ..sqe }
                    }
                    _ => sqe,
                };
                it.push(sqe);
            }
            8 | 9 => {
                let sqe = self.change(it, chance);
                it.push(sqe);
            }
            10 => {
                let sqe = prep::cancel_fd(chance.below(5).cast_signed(), CancelFlags::FD_FIXED);
                it.push(sqe);
            }
            _ => {
                let fd = self.ends[chance.among(&[WRITER, 2, 3])].as_fd();
                let _ = it.world.write(fd, b"from outside");
            }
        }
        it.rest(|id| self.gives.contains(&id));
    }
}

fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let mut tables = Tables::new(it);
    for _ in 0..chance.below(16) {
        tables.step(it, chance);
    }
    for _ in 0..3 {
        it.push(prep::cancel(0, CancelFlags::ANY | CancelFlags::ALL));
        it.rest(|_| false);
    }
    it.say(format!("{:?}", tables.memory));
    for (numbers, before) in &tables.numbers {
        // Places have come where descriptors were.
        let changed =
            numbers.iter().zip(before).map(|(now, before)| (now != before).then_some(now));
        it.say(format!("{:?}", changed.collect::<Vec<_>>()));
    }
    it.register(RegisterOp::UNREGISTER_BUFFERS, None::<&mut u64>, 0);
    it.register(RegisterOp::UNREGISTER_FILES, None::<&mut u64>, 0);
    it.rest(|_| false);
    // If a kernel did not end everything, it must not find other memory here (RG1).
    std::mem::forget((tables.memory, tables.kept, tables.numbers));
}

#[test]
fn random_programs_with_tables_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("tables", 600, program);
}

#[test]
fn connections_are_accepted_into_places() {
    both("accept direct", |it| {
        let (listener, address) = it.world.listener();
        let (flags, nr) = (RsrcRegisterFlags::SPARSE, 2);
        let mut arg = RsrcRegister { nr, flags, ..RsrcRegister::default() };
        let multi = prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::MULTISHOT);
        it.push(prep::direct(multi, 0));
        it.take(1);
        it.register(RegisterOp::FILES2, Some(&mut arg), 32);
        it.push(prep::direct_alloc(multi));
        it.take(0);
        let clients: Vec<_> =
            (0..2).map(|_| it.world.connect(address).expect("it listens")).collect();
        it.take(2);
        it.world.write(clients[1].as_fd(), b"by place").expect("room");
        let mut buf = [0_u8; 8];
        let addr = (&raw mut buf).expose_provenance() as u64;
        let recv = prep::recv(1, addr, 8, 0, RecvSendFlags::empty());
        it.push(Sqe { flags: SqeFlags::FIXED_FILE, ..recv });
        it.take(1);
        it.say(format!("{buf:?}"));
        // The table is full: the connection is closed, and the accept ends.
        let late = it.world.connect(address).expect("it listens");
        it.take(1);
        it.say(format!("{:?}", it.world.read(late.as_fd()).map_err(|error| error.kind())));
        it.push(prep::close_direct(1));
        it.take(1);
        it.say(format!("{:?}", it.world.read(clients[1].as_fd())));
        let one = prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::empty());
        it.push(prep::direct(one, 0));
        it.push(prep::direct(Sqe { op_flags: libc::SOCK_CLOEXEC.cast_unsigned(), ..one }, 0));
        let _third = it.world.connect(address).expect("it listens");
        it.take(2);
        // The connection that was in the place is closed.
        it.say(format!("{:?}", it.world.read(clients[0].as_fd())));
    });
}

#[test]
fn a_zero_copy_send_reads_a_registered_buffer() {
    both("send_zc fixed", |it| {
        let (listener, address) = it.world.listener();
        let client = it.world.connect(address).expect("it listens");
        let (pair, _other) = it.world.socket_pair();
        let bytes = Box::new(*b"zero copies");
        let mut iovec = [at(&*bytes), 11];
        it.register(RegisterOp::BUFFERS, Some(&mut iovec), 1);
        let none = RecvSendFlags::empty();
        let fd = client.as_raw_fd();
        it.push(prep::send_zc_fixed(fd, at(&*bytes), 11, 0, none, 0));
        it.take(2);
        it.push(prep::send_zc_fixed(fd, at(&*bytes), 12, 0, none, 0));
        it.take(2);
        it.push(prep::send_zc_fixed(fd, at(&*bytes), 11, 0, none, 1));
        it.take(2);
        it.push(prep::send_zc_fixed(pair.as_raw_fd(), at(&*bytes), 12, 0, none, 0));
        it.take(2);
        it.push(prep::send(fd, at(&*bytes), 11, 0, RecvSendFlags::FIXED_BUF));
        it.take(1);
        it.push(prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::empty()));
        it.take_fds(1);
        let received = it.world.read(it.fds[0].as_fd());
        it.say(format!("{received:?}"));
    });
}
