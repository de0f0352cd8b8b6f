//! Files, folders and links: random programs on both kernels.
//!
//! | a program | at random |
//! |---|---|
//! | opens | with every flag that matters, as a descriptor or into a place, also from what it has opened |
//! | makes, links, renames, removes | by paths that lead through links, dots and slashes, or nowhere |
//! | reads, writes, cuts, punches | what it has opened, whatever that is |
//!
//! Types, permissions of the owner, links and sizes are compared; times and owners are not.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use annulus::prep;
use annulus::sim::Sim;
use annulus::sys::abi::{OpenHow, Sqe};
use annulus::sys::abi_register::RsrcRegister;
use annulus::sys::flags::{FsyncFlags, SqeFlags};
use annulus::sys::flags_register::RsrcRegisterFlags;
use annulus::sys::opcode::RegisterOp;

use super::chance::Chance;
use super::scene::{Scene, at, both, seeded, with_faults};
use super::worlds::Folder;

const PATHS: [&str; 26] = [
    "a",
    "b",
    "c",
    "a",
    "b",
    "a/b",
    "a/c",
    "b/a",
    "c/b",
    "a/b/c",
    "a/",
    "b/",
    "./a",
    "a//b/",
    "a/../b",
    "a/.",
    "b/..",
    ".",
    "./",
    "none/x",
    "a/b/../../c",
    "",
    "b/./a",
    "c/c",
    "a/a",
    "a/a/b",
];
/// What is there when a program begins, if chance has it: folders end with a slash.
const FIRST: [&str; 6] = ["a/", "a/b", "b", "a/a/", "c/", "c/b"];

/// A program's memory and files.
struct Files {
    folder: Folder,
    texts: Vec<CString>,
    #[expect(clippy::vec_box, reason = "entries point to what is in the boxes")]
    hows: Vec<Box<OpenHow>>,
    buffers: Vec<(u64, Box<[u64; 32]>, bool)>,
    /// The requests that return a descriptor.
    gives: Vec<u64>,
}

impl Files {
    fn new(it: &mut Scene<'_>) -> Self {
        let folder = it.world.folder();
        let (flags, nr) = (RsrcRegisterFlags::SPARSE, 3);
        let mut arg = RsrcRegister { nr, flags, ..RsrcRegister::default() };
        it.register(RegisterOp::FILES2, Some(&mut arg), 32);
        let (texts, hows, buffers, gives) = Default::default();
        Self { folder, texts, hows, buffers, gives }
    }

    fn text(&mut self, text: &str) -> u64 {
        let text = CString::new(text).expect("no zero");
        if super::shows() {
            println!("{text:?}");
        }
        let address = text.as_ptr().expose_provenance() as u64;
        self.texts.push(text);
        address
    }

    fn path(&mut self, chance: &mut Chance) -> u64 {
        if chance.one_in(60) {
            return self.text(&"x".repeat(256));
        }
        let path = chance.among(&PATHS);
        self.text(path)
    }

    /// Where a path begins: mostly in the folder.
    fn dir(&self, it: &Scene<'_>, chance: &mut Chance) -> i32 {
        match chance.below(8) {
            0 if chance.one_in(4) => 9999,
            0 | 1 => chance.place(it.fds.len()).map_or(9998, |at| it.fds[at].as_raw_fd()),
            _ => self.folder.fd.as_raw_fd(),
        }
    }

    fn buffer(&mut self, it: &Scene<'_>, is_stat: bool) -> u64 {
        let buffer = Box::new([0x6161_6161_6161_6161_u64; 32]);
        let address = at(&*buffer);
        self.buffers.push((it.next, buffer, is_stat));
        address
    }

    fn open(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Sqe {
        let (dir, path) = (self.dir(it, chance), self.path(chance));
        let mut flags = chance.among(&[libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR]);
        for (flag, rarity) in [
            (libc::O_CREAT, 2),
            (libc::O_EXCL, 5),
            (libc::O_TRUNC, 5),
            (libc::O_APPEND, 4),
            (libc::O_DIRECTORY, 6),
            (libc::O_NOFOLLOW, 6),
            (libc::O_PATH, 9),
            (libc::O_CLOEXEC, 3),
        ] {
            flags |= if chance.one_in(rarity) { flag } else { 0 };
        }
        let flags = flags.cast_unsigned();
        let sqe = if chance.one_in(2) {
            prep::openat(dir, path, flags, 0o700)
        } else {
            let creates = flags & libc::O_CREAT.cast_unsigned() != 0;
            let mode = if creates != chance.one_in(20) { 0o600 } else { 0 };
            let resolve = match chance.below(12) {
                0 | 1 => libc::RESOLVE_BENEATH,
                2 | 3 => libc::RESOLVE_IN_ROOT,
                4 => libc::RESOLVE_NO_SYMLINKS,
                5 => libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT,
                6 => 1 << 20,
                _ => 0,
            };
            let how = Box::new(OpenHow { flags: flags.into(), mode, resolve });
            let address = at(&*how);
            self.hows.push(how);
            prep::openat2(dir, path, address)
        };
        match chance.below(6) {
            0 => prep::direct_alloc(sqe),
            1 => prep::direct(sqe, chance.below(4)),
            _ => {
                self.gives.push(it.next);
                sqe
            }
        }
    }

    /// An entry that changes names.
    fn change(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Sqe {
        let (dir, path) = (self.dir(it, chance), self.path(chance));
        let (other_dir, other) = (self.dir(it, chance), self.path(chance));
        match chance.below(8) {
            0 | 1 => prep::mkdirat(dir, path, 0o700),
            2 => {
                let targets = ["a", "b", "../a", "c/", "nowhere", ".", "a/b", "..", "c", "b/c", ""];
                let target = self.text(chance.among(&targets));
                prep::symlinkat(target, dir, path)
            }
            3 => {
                let flags = [0, 0, libc::AT_SYMLINK_FOLLOW, 1 << 20];
                let flags = chance.among(&flags).cast_unsigned();
                prep::linkat(dir, path, other_dir, other, flags)
            }
            4 | 5 => {
                let flags = chance.among(&[0, 0, 0, 1, 2, 3, 1 << 9]);
                prep::renameat(dir, path, other_dir, other, flags)
            }
            6 => prep::unlinkat(dir, path, 0),
            _ => {
                let flags = chance.among(&[libc::AT_REMOVEDIR, libc::AT_REMOVEDIR, 1]);
                prep::unlinkat(dir, path, flags.cast_unsigned())
            }
        }
    }

    /// An entry for something that was opened.
    fn use_one(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Option<Sqe> {
        let is_place = chance.one_in(4);
        let fd = match is_place {
            true => chance.below(3).cast_signed(),
            false => it.fds[chance.place(it.fds.len())?].as_raw_fd(),
        };
        let (len, offset) = (chance.below(60), u64::from(chance.below(80)));
        let offset = if chance.one_in(3) { u64::MAX } else { offset };
        let sqe = match chance.below(9) {
            0..=2 => prep::read(fd, self.buffer(it, false), len, offset),
            3..=5 => prep::write(fd, self.buffer(it, false), len, offset),
            6 => prep::ftruncate(fd, if chance.one_in(9) { u64::MAX } else { len.into() }),
            7 => {
                let (keep, hole) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
                let mode = chance.among(&[0, keep, keep | hole, hole, 1 << 20]);
                let offset = if chance.one_in(9) { offset } else { offset.min(99) };
                prep::fallocate(fd, mode.cast_unsigned(), offset, len.into())
            }
            _ => prep::fsync(fd, FsyncFlags::empty()),
        };
        let flags = if is_place { SqeFlags::FIXED_FILE } else { SqeFlags::empty() };
        Some(Sqe { flags, ..sqe })
    }

    fn stat(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Sqe {
        let (dir, path) = (self.dir(it, chance), self.path(chance));
        let flags = [0, libc::AT_SYMLINK_NOFOLLOW, libc::AT_EMPTY_PATH, 1 << 20, 0x6000];
        let flags = chance.among(&flags).cast_unsigned();
        let mask = if chance.one_in(20) { 1 << 31 } else { libc::STATX_BASIC_STATS };
        prep::statx(dir, path, flags, mask, self.buffer(it, true))
    }

    fn entry(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Option<Sqe> {
        Some(match chance.below(10) {
            0..=2 => self.open(it, chance),
            3..=5 => self.change(it, chance),
            6 => self.stat(it, chance),
            7 if chance.one_in(3) => prep::close_direct(chance.below(4)),
            _ => self.use_one(it, chance)?,
        })
    }

    fn step(&mut self, it: &mut Scene<'_>, chance: &mut Chance) {
        for _ in 0..chance.below(3) {
            let Some(sqe) = self.entry(it, chance) else { continue };
            let more = chance.among(&[SqeFlags::IO_LINK, SqeFlags::IO_HARDLINK, SqeFlags::ASYNC]);
            let flags = sqe.flags | if chance.one_in(6) { more } else { SqeFlags::IO_LINK };
            it.push(Sqe { flags, ..sqe });
            if !flags.intersects(SqeFlags::IO_LINK | SqeFlags::IO_HARDLINK) {
                self.rest(it);
            }
        }
        if let Some(sqe) = self.entry(it, chance) {
            it.push(sqe);
        }
        self.rest(it);
        if it.fds.len() > 9 {
            let which = chance.below(9) as usize;
            drop(it.fds.remove(which));
        }
    }

    fn rest(&mut self, it: &mut Scene<'_>) {
        it.rest(|id| self.gives.contains(&id));
    }
}

/// What is compared of a `struct statx`.
fn shown(stat: &[u64; 32]) -> String {
    let bytes: Vec<u8> = stat.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mode = u32::from(u16::from_ne_bytes([bytes[28], bytes[29]])) & 0o170_700;
    let links = u32::from_ne_bytes(bytes[16..20].try_into().expect("four bytes"));
    let size = (mode & libc::S_IFMT != libc::S_IFDIR).then_some(stat[5]);
    format!("{mode:o} {links} {size:?}")
}

fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let mut files = Files::new(it);
    let dir = files.folder.fd.as_raw_fd();
    for path in FIRST {
        if chance.one_in(3) {
            continue;
        }
        let text = files.text(path);
        let flags = libc::O_CREAT | libc::O_RDWR;
        if !path.ends_with('/') {
            files.gives.push(it.next);
        }
        it.push(match path.ends_with('/') {
            true => prep::mkdirat(dir, text, 0o700),
            false => prep::openat(dir, text, flags.cast_unsigned(), 0o600),
        });
        files.rest(it);
    }
    for _ in 0..chance.below(30) {
        files.step(it, chance);
    }
    // What is there in the end.
    for path in ["a", "b", "c", "a/a", "a/b", "a/c", "b/a", "b/b", "b/c", "c/a", "c/b"] {
        let text = files.text(path);
        let none = libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
        let to = files.buffer(it, true);
        it.push(prep::statx(dir, text, none, libc::STATX_BASIC_STATS, to));
        files.gives.push(it.next);
        it.push(prep::openat(dir, text, 0, 0));
        files.rest(it);
        let Some(fd) = it.fds.pop() else { continue };
        let to = files.buffer(it, false);
        it.push(prep::read(fd.as_raw_fd(), to, 256, 0));
        files.rest(it);
    }
    for (id, buffer, is_stat) in &files.buffers {
        it.say(format!("{id}: {}", if *is_stat { shown(buffer) } else { format!("{buffer:x?}") }));
    }
    // If a kernel did not end everything, it must not find other memory here (OP1).
    std::mem::forget(std::mem::take(&mut files.buffers));
}

#[test]
fn random_programs_with_paths_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("paths", 600, program);
}

#[test]
fn op1_holds_for_random_programs_with_paths_and_faults() {
    with_faults(300, program);
}

#[test]
fn long_paths_many_links_and_longer_arguments_are_refused() {
    both("odd paths", |it| {
        let mut files = Files::new(it);
        let dir = files.folder.fd.as_raw_fd();
        let long = files.text(&"a/".repeat(2048));
        let around = files.text("around");
        let (first, second) = (files.text("first"), files.text("second"));
        let how = OpenHow::default();
        for sqe in [
            prep::openat(dir, long, 0, 0),
            prep::symlinkat(around, dir, around),
            prep::openat(dir, around, 0, 0),
            prep::openat(dir, around, libc::O_CREAT.cast_unsigned(), 0o600),
            prep::symlinkat(second, dir, first),
            // The link leads nowhere, so that is where the file is made.
            prep::openat(dir, first, (libc::O_CREAT | libc::O_RDWR).cast_unsigned(), 0o600),
            prep::statx(dir, second, 0, 0, files.buffer(it, true)),
            Sqe { len: 23, ..prep::openat2(dir, second, at(&how)) },
            Sqe { flags: SqeFlags::FIXED_FILE, ..prep::openat(0, second, 0, 0) },
            Sqe { ioprio: 1, ..prep::openat(dir, second, 0, 0) },
            Sqe { file_index: 1, ..prep::mkdirat(dir, second, 0) },
        ] {
            it.push(sqe);
            it.take_fds(1);
        }
    });
}

#[test]
fn a_test_fills_the_tree_and_looks_at_it() {
    let sim = Sim::new(1);
    sim.put_file("/etc/app/config", "one").expect("nothing is in the way");
    sim.put_file("/etc/app/config", "two").expect("nothing is in the way");
    assert_eq!(sim.get_file("etc/app/../app/config").expect("it is there"), b"two");
    assert_eq!(sim.list_folder("/etc").expect("a folder"), [b"app"]);
    let errno = |error: std::io::Error| error.raw_os_error();
    assert_eq!(sim.get_file("/etc").map_err(errno), Err(Some(libc::EISDIR)));
    assert_eq!(sim.put_file("/etc", "x").map_err(errno), Err(Some(libc::EISDIR)));
    assert_eq!(sim.put_file("/etc/", "x").map_err(errno), Err(Some(libc::ENOENT)));
    assert_eq!(sim.list_folder("/none").map_err(errno), Err(Some(libc::ENOENT)));
    let in_the_way = sim.make_folder("/etc/app/config/more");
    assert_eq!(in_the_way.map_err(errno), Err(Some(libc::ENOTDIR)));
}
