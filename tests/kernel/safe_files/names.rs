//! Opening by name, closing, and the attributes of files.

use std::ffi::{CString, c_int};
use std::fs::{self, File};
use std::io::{PipeReader, Write as _, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use annulus::buf::{AlignedBuf, IoBuf, Region, SliceExt};
use annulus::op::{
    Close, Cwd, DioAlign, FileKind, Freshness, How, Mode, Offset, Op, OpenAt, OpenAt2, Outcome,
    Read, Stat, StatMask, Statx, Write,
};
use annulus::sys::flags::Features;
use annulus::sys::opcode::Opcode;
use annulus::{ChainEnd, Ring};
use libtest_mimic::{Failed, Trial};

use super::{Folder, OPEN, c, errno, opened_again, run, small};
use crate::harness::{Need, hangs_up, hangs_up_within, test};

const OPEN2: Need = Need::Op(Opcode::OPENAT2);
const CLOSE: Need = Need::Op(Opcode::CLOSE);
/// Since Linux 5.12, like the attempt to open a cached file.
const CACHED: Need = Need::Feature(Features::NATIVE_WORKERS);
const STATX: Need = Need::Op(Opcode::STATX);

/// The tests.
pub fn tests() -> Vec<Trial> {
    [opens(), stats(), ends()].into_iter().flatten().collect()
}

fn opens() -> Vec<Trial> {
    let tmpfile = Need::Other(no_nameless_files);
    vec![
        test("a_file_is_made_with_its_permissions", &[OPEN], open_creates),
        test("a_path_starts_at_its_directory", &[OPEN], open_below),
        test("what_cannot_be_opened_gives_all_back", &[OPEN], open_refused),
        test("every_descriptor_is_closed_on_exec", &[OPEN, OPEN2], open_flags),
        test("a_file_needs_no_name", &[OPEN, OPEN2, tmpfile], open_temporary),
        test("op3_a_descriptor_that_is_not_waited_for_is_closed", &[OPEN], open_detached),
        test("an_open_that_waits_is_interrupted", &[OPEN], open_cancelled),
        test("a_fifo_is_not_waited_for_unless_forced", &[OPEN, CACHED], open_fifo),
        test("a_bounded_path_does_not_lead_out", &[OPEN2], open_bounded),
        test("links_can_be_forbidden", &[OPEN2], open_no_links),
        test("a_path_that_is_not_cached_is_not_waited_for", &[OPEN2], open_cached),
    ]
}

fn stats() -> Vec<Trial> {
    vec![
        test("what_is_known_of_a_file_is_what_the_library_says", &[STATX], stat_agrees),
        test("an_open_file_needs_no_path", &[STATX], stat_of),
        test("a_link_can_be_looked_at_itself", &[STATX], stat_link),
        test("what_is_not_there_leaves_the_box_as_it_was", &[STATX], stat_refused),
        test("direct_transfers_are_aligned_as_the_kernel_says", &[STATX], stat_dio),
    ]
}

fn ends() -> Vec<Trial> {
    vec![
        test("a_closed_descriptor_is_closed_once", &[CLOSE], close),
        test("a_close_that_is_not_submitted_closes", &[CLOSE], close_dropped),
        test("a_close_that_never_began_gives_the_descriptor_back", &[CLOSE], close_cancelled),
        test("a_close_that_never_began_and_is_not_waited_for_closes", &[CLOSE], close_detached),
        test("the_descriptor_of_a_ring_comes_back", &[CLOSE], close_ring),
        test("a_close_that_is_taken_back_with_its_chain_closes", &[CLOSE], close_taken_back),
    ]
}

/// Whether every write end of the pipe is closed now.
pub fn hung_up(reader: &PipeReader) -> bool {
    hangs_up_within(reader, 0)
}

/// What is missing for files without a name, if anything is.
fn no_nameless_files() -> Option<String> {
    let opened =
        File::options().write(true).custom_flags(libc::O_TMPFILE).open(std::env::temp_dir());
    opened.err().map(|error| format!("needs O_TMPFILE where temporary files go: {error}"))
}

fn open_creates() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let path = c(&folder.path("new"));
    let how = How::read_write().create_new(Mode::new(0o600));
    let made = run(&mut ring, OpenAt::new(Cwd, path, how));
    let mut file = File::from(made.result?);
    assert_eq!((made.fd, made.buf.as_bytes()), (Cwd, folder.path("new").as_os_str().as_bytes()));
    file.write_all(b"text")?;
    let metadata = fs::metadata(folder.path("new"))?;
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o7777), (4, 0o600));
    let again = run(&mut ring, OpenAt::new(Cwd, made.buf, how));
    assert_eq!(errno(&again), Some(libc::EEXIST));
    let emptied = OpenAt::new(Cwd, again.buf, How::write().create(Mode::new(0o777)).truncate());
    let emptied = File::from(run(&mut ring, emptied).result?);
    let metadata = emptied.metadata()?;
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o7777), (0, 0o600));
    let mut appended =
        run(&mut ring, OpenAt::new(Cwd, c(&folder.path("new")), How::write().append()))
            .result
            .map(File::from)?;
    appended.write_all(b"a")?;
    file.write_all_at(b"b", 0)?;
    appended.write_all(b"c")?;
    assert_eq!(fs::read(folder.path("new"))?, b"bc");
    Ok(())
}

fn open_below() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    drop(folder.file("below", b"found"));
    let dir = Rc::new(folder.open());
    let opened = run(&mut ring, OpenAt::new(Rc::clone(&dir), c"below", How::read()));
    assert_eq!(std::io::read_to_string(File::from(opened.result?))?, "found");
    assert!(Rc::ptr_eq(&opened.fd, &dir));
    // The same file through a directory that can only be named.
    let path = How::path().directory();
    let named = run(&mut ring, OpenAt::new(Cwd, c(&folder.0), path)).result?;
    let opened = run(&mut ring, OpenAt2::new(named, c"below", How::read()));
    assert_eq!(std::io::read_to_string(File::from(opened.result?))?, "found");
    Ok(())
}

fn open_refused() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let file = folder.file("file", b"");
    let missing = run(&mut ring, OpenAt::new(folder.open(), c"missing", How::read()));
    assert_eq!(errno(&missing), Some(libc::ENOENT));
    assert_eq!(missing.buf, c"missing");
    let opened = run(&mut ring, OpenAt::new(missing.fd, c"file", How::read().directory()));
    assert_eq!(errno(&opened), Some(libc::ENOTDIR));
    let number = file.as_raw_fd();
    let opened = run(&mut ring, OpenAt2::new(file, c"file", How::read()));
    assert_eq!((errno(&opened), opened.fd.as_raw_fd()), (Some(libc::ENOTDIR), number));
    Ok(())
}

/// The flags with which a descriptor was opened, as the kernel reports them.
fn flags_of(fd: &OwnedFd) -> c_int {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("/proc");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("a line of flags");
    c_int::from_str_radix(flags.trim(), 8).expect("an octal number")
}

fn open_flags() -> Result<(), Failed> {
    const LARGEFILE: u32 = linux_raw_sys::general::O_LARGEFILE;
    let mut ring = small();
    for how in [How::read(), How::read().non_block(), How::path().no_follow()] {
        let plain = run(&mut ring, OpenAt::new(Cwd, c"/dev/null", how)).result?;
        let bounded = run(&mut ring, OpenAt2::new(Cwd, c"/dev/null", how)).result?;
        for flags in [flags_of(&plain), flags_of(&bounded)] {
            assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC, "{how:?}: {flags:#o}");
            let names = flags & libc::O_PATH != 0;
            assert_eq!(flags.cast_unsigned() & LARGEFILE == 0, names, "{how:?}: {flags:#o}");
        }
    }
    let fd = run(&mut ring, OpenAt::new(Cwd, c"/dev/null", How::write().append())).result?;
    let expected = libc::O_WRONLY | libc::O_APPEND;
    assert_eq!(flags_of(&fd) & (libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK), expected);
    Ok(())
}

fn open_temporary() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let how = How::read_write().temporary(Mode::new(0o640));
    let opened = run(&mut ring, OpenAt::new(Cwd, c(&folder.0), how));
    let nameless = File::from(opened.result?);
    assert_eq!((nameless.metadata()?.nlink(), fs::read_dir(&folder.0)?.count()), (0, 0));
    // `OPENAT2` takes permissions where a file is made, and nowhere else.
    let bounded = File::from(run(&mut ring, OpenAt2::new(Cwd, opened.buf, how)).result?);
    assert_eq!(bounded.metadata()?.permissions().mode() & 0o7137, 0);
    Ok(())
}

fn open_detached() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let ticket = ring.submit(OpenAt::new(Cwd, opened_again(&writer), How::write()));
    ring.detach(ticket.map_err(|rejected| rejected.why)?);
    ring.submit_all()?;
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    assert!(!hung_up(&reader));
    drop(writer);
    assert!(hangs_up(&reader), "somebody still has the other writer");
    Ok(())
}

/// A FIFO in `folder`.
fn fifo(folder: &Folder) -> CString {
    let path = c(&folder.path("fifo"));
    // SAFETY: a live string that ends with a zero, and nothing else that points anywhere.
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    path
}

fn open_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let path = fifo(&folder);
    let ticket = ring.submit(OpenAt::new(Cwd, path.clone(), How::read()).forced());
    let ticket = ticket.map_err(|rejected| rejected.why)?;
    ring.submit_all()?;
    // Mostly enough for the worker thread to begin; if not, the open is cancelled before it begins.
    thread::sleep(Duration::from_millis(20));
    ring.cancel(&ticket)?;
    let opened = ring.wait(ticket)?;
    assert!(matches!(errno(&opened), Some(libc::EINTR | libc::ECANCELED)), "{opened:?}");
    assert_eq!(opened.buf, path);
    Ok(())
}

fn open_fifo() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let path = fifo(&folder);
    let unread = run(&mut ring, OpenAt::new(Cwd, path.clone(), How::write()));
    assert_eq!(errno(&unread), Some(libc::ENXIO));
    let reader = run(&mut ring, OpenAt::new(Cwd, path.clone(), How::read())).result?;
    assert_eq!(flags_of(&reader) & libc::O_NONBLOCK, 0, "reading it waits anyway");
    run(&mut ring, OpenAt::new(Cwd, path.clone(), How::write())).result?;
    drop(reader);
    // A worker waits for the other end, wherever that is opened.
    let reader = ring.submit(OpenAt::new(Cwd, path, How::read()).forced());
    let reader = reader.map_err(|rejected| rejected.why)?;
    ring.submit_all()?;
    let writer = File::options().write(true).open(folder.path("fifo"))?;
    ring.wait(reader)?.result?;
    drop(writer);
    Ok(())
}

fn open_bounded() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    drop(folder.file("outside", b"outside"));
    fs::create_dir(folder.path("root"))?;
    fs::write(folder.path("root/outside"), "inside")?;
    let dir = Rc::new(File::open(folder.path("root"))?);
    let open = |path| OpenAt2::new(Rc::clone(&dir), path, How::read());
    let text = |opened: Outcome<OwnedFd, _, _>| std::io::read_to_string(File::from(opened.result?));
    assert_eq!(text(run(&mut ring, open(c"../outside")))?, "outside");
    let led_out = run(&mut ring, open(c"../outside").beneath());
    assert_eq!((errno(&led_out), led_out.buf), (Some(libc::EXDEV), c"../outside"));
    assert_eq!(text(run(&mut ring, open(c"../outside").in_root()))?, "inside");
    assert_eq!(text(run(&mut ring, open(c"/outside").in_root()))?, "inside");
    assert_eq!(text(run(&mut ring, open(c"outside").beneath().no_mounts()))?, "inside");
    let mount = OpenAt2::new(Cwd, c"/proc/self/comm", How::read()).no_mounts();
    assert_eq!(errno(&run(&mut ring, mount)), Some(libc::EXDEV));
    Ok(())
}

fn open_no_links() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    drop(folder.file("file", b""));
    std::os::unix::fs::symlink("file", folder.path("link"))?;
    let open = |path| OpenAt2::new(folder.open(), path, How::read());
    run(&mut ring, open(c"link").no_magic_links()).result?;
    assert_eq!(errno(&run(&mut ring, open(c"link").no_symlinks())), Some(libc::ELOOP));
    run(&mut ring, open(c"file").no_symlinks()).result?;
    let own = |how| OpenAt2::new(Cwd, c"/proc/self/exe", how);
    run(&mut ring, own(How::read())).result?;
    let refused = run(&mut ring, own(How::read()).no_magic_links());
    assert_eq!(errno(&refused), Some(libc::ELOOP));
    let followed = run(&mut ring, OpenAt::new(folder.open(), c"link", How::read().no_follow()));
    assert_eq!(errno(&followed), Some(libc::ELOOP));
    Ok(())
}

fn open_cached() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    // The name was never looked up, so its absence is not cached.
    let opened = run(&mut ring, OpenAt2::new(folder.open(), c"unheard-of", How::read()).cached());
    let known = [libc::EAGAIN, libc::ENOENT];
    // Before Linux 5.12 there is no such thing.
    let refused = errno(&opened) == Some(libc::EINVAL);
    assert!(refused || known.map(Some).contains(&errno(&opened)), "{opened:?}");
    if !refused {
        drop(folder.file("heard-of", b""));
        let opened = OpenAt2::new(opened.fd, c"heard-of", How::read()).cached();
        run(&mut ring, opened).result?;
    }
    Ok(())
}

fn stat_agrees() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let file = folder.file("known", &[1; 5000]);
    file.set_permissions(Mode::new(0o604).into())?;
    file.sync_all()?;
    let mask = StatMask::BASIC | StatMask::BTIME;
    let statx =
        Statx::at(folder.open(), c"known", Stat::boxed()).want(mask).fresh(Freshness::Forced);
    let ((), (stat, path)) = run(&mut ring, statx).ok()?;
    let known = file.metadata()?;
    assert_eq!((path, stat.kind(), stat.mode()), (c"known", FileKind::Regular, Mode::new(0o604)));
    assert!(stat.mask().contains(StatMask::BASIC));
    assert_eq!((stat.size(), stat.blocks()), (known.size(), known.blocks()));
    assert_eq!((stat.inode(), u64::from(stat.links())), (known.ino(), known.nlink()));
    assert_eq!((stat.uid(), stat.gid()), (known.uid(), known.gid()));
    assert_eq!(u64::from(stat.block_size()), known.blksize());
    let (major, minor) = stat.device();
    assert_eq!(libc::makedev(major, minor), known.dev());
    assert_eq!(stat.modified().to_system_time(), known.modified().ok());
    assert_eq!(stat.accessed().to_system_time(), known.accessed().ok());
    assert_eq!(stat.created().and_then(|time| time.to_system_time()), known.created().ok());
    let changed = (stat.changed().seconds(), i64::from(stat.changed().nanoseconds()));
    assert_eq!(changed, (known.ctime(), known.ctime_nsec()));
    assert_eq!((stat.dio(), stat.atomic_write()), (None, None), "nobody asked");
    Ok(())
}

fn stat_of() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = pipe()?;
    let number = reader.as_raw_fd();
    let statx = run(&mut ring, Statx::of(reader, Stat::boxed()));
    statx.result?;
    assert_eq!((statx.fd.as_raw_fd(), statx.buf.0.kind()), (number, FileKind::Fifo));
    // The same box, for a device.
    let null = File::options().write(true).open("/dev/null")?;
    let statx = run(&mut ring, Statx::of(null, statx.buf.0).no_automount());
    statx.result?;
    assert_eq!(statx.buf.0.kind(), FileKind::CharDevice);
    assert_eq!(statx.buf.0.special_device(), (1, 3));
    let here = run(&mut ring, Statx::of(Cwd, statx.buf.0));
    here.result?;
    assert_eq!(here.buf.0.inode(), fs::metadata(".")?.ino());
    Ok(())
}

fn stat_link() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    std::os::unix::fs::symlink("nowhere", folder.path("link"))?;
    let look = |out| Statx::at(folder.open(), c"link", out);
    let followed = run(&mut ring, look(Stat::boxed()));
    assert_eq!(errno(&followed), Some(libc::ENOENT));
    let statx = run(&mut ring, look(followed.buf.0).no_follow().fresh(Freshness::Cached));
    statx.result?;
    assert_eq!((statx.buf.0.kind(), statx.buf.0.size()), (FileKind::Symlink, 7));
    Ok(())
}

fn stat_refused() -> Result<(), Failed> {
    let mut ring = small();
    let ((), (stat, _)) = run(&mut ring, Statx::at(Cwd, c"/proc", Stat::boxed())).ok()?;
    let (before, address) = (*stat, std::ptr::from_ref(&*stat));
    let missing = run(&mut ring, Statx::at(Cwd, c"/proc/missing", stat));
    assert_eq!(errno(&missing), Some(libc::ENOENT));
    assert_eq!((*missing.buf.0, std::ptr::from_ref(&*missing.buf.0)), (before, address));
    Ok(())
}

/// The answer of `statx(2)` about direct transfers.
fn dio_of(fd: &OwnedFd) -> Option<DioAlign> {
    let mut stat = Stat::boxed();
    let out = (&raw mut *stat).cast();
    let mask = StatMask::DIOALIGN.bits();
    // SAFETY: a live string that ends with a zero, and memory that is as large as the kernel's
    // struct, because `Stat` has its layout.
    let done = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, out) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    stat.dio()
}

fn stat_dio() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    let file = OwnedFd::from(folder.file("direct", &[5; 8192]));
    let statx = Statx::of(file, Stat::boxed()).want(StatMask::DIOALIGN | StatMask::SIZE);
    let statx = run(&mut ring, statx);
    statx.result?;
    let (stat, dio) = (&statx.buf.0, statx.buf.0.dio());
    assert_eq!((stat.size(), dio), (8192, dio_of(&statx.fd)));
    let Some(DioAlign { mem_align, offset_align }) = dio else {
        return Ok(()); // Before Linux 6.1, and where no transfer is direct.
    };
    let direct = OpenAt::new(folder.open(), c"direct", How::read().direct());
    let direct = run(&mut ring, direct).result?;
    let align = mem_align.max(offset_align) as usize;
    let mut buf = AlignedBuf::new(4096.max(align), align);
    buf.set_len(buf.capacity());
    let read = ring.read_exact(direct, buf.slice(..offset_align as usize), Offset::At(0))?;
    read.result?;
    assert!(read.buf.as_ref().iter().all(|&byte| byte == 5));
    Ok(())
}

fn close() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let closed = run(&mut ring, Close::new(writer));
    closed.result?;
    assert!(closed.fd.is_none());
    assert!(hangs_up(&reader));
    Ok(())
}

fn close_dropped() -> Result<(), Failed> {
    let (reader, writer) = pipe()?;
    drop(Close::new(writer));
    assert!(hangs_up(&reader));
    Ok(())
}

/// A chain that breaks before its end, since there is nothing to read: a close that never begins.
fn broken_chain(ring: &mut Ring, close: Close) -> Result<Option<OwnedFd>, Failed> {
    let (ended, _) = pipe()?;
    let tickets = ring.submit_chain((Read::new(ended, [0; 8]), close)).map_err(|r| r.why)?;
    let chain = ring.wait_chain(tickets)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    let (read, closed) = chain.outputs;
    assert_eq!((read.result?, errno(&closed)), (0, Some(libc::ECANCELED)));
    Ok(closed.fd)
}

fn close_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let number = writer.as_raw_fd();
    let back = broken_chain(&mut ring, Close::new(writer))?.expect("it is open");
    assert_eq!((back.as_raw_fd(), hung_up(&reader)), (number, false));
    run(&mut ring, Close::new(back)).result?;
    assert!(hangs_up(&reader));
    Ok(())
}

fn close_detached() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    drop(broken_chain(&mut ring, Close::new(writer))?);
    assert!(hangs_up(&reader));
    let (reader, writer) = pipe()?;
    let ticket = ring.submit(Close::new(writer)).map_err(|rejected| rejected.why)?;
    ring.detach(ticket);
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    assert!(hangs_up(&reader));
    Ok(())
}

/// A buffer that gives no address.
struct Refuses;

impl IoBuf for Refuses {
    fn region(&self) -> Region<'_> {
        panic!("as told");
    }
}

/// A device, which might have answered a close itself, had it been asked.
fn close_taken_back() -> Result<(), Failed> {
    let mut ring = small();
    let null = File::options().write(true).open("/dev/null")?;
    let number = null.as_raw_fd();
    let chain = (Close::new(null), Write::new(pipe()?.1, Refuses));
    let panicked = catch_unwind(AssertUnwindSafe(|| ring.submit_chain(chain)));
    assert!(panicked.is_err(), "submitted");
    // Nothing, or a file that another thread has opened since.
    let link = fs::read_link(format!("/proc/self/fd/{number}"));
    assert_ne!(link.ok().as_deref(), Some(Path::new("/dev/null")), "it leaked");
    Ok(())
}

fn close_ring() -> Result<(), Failed> {
    let mut ring = small();
    let other = ring.raw().as_fd().try_clone_to_owned()?;
    let number = other.as_raw_fd();
    let closed = run(&mut ring, Close::new(other));
    assert_eq!(errno(&closed), Some(libc::EBADF));
    let back = closed.fd.expect("it is open");
    assert_eq!(back.as_raw_fd(), number);
    assert!(back.try_clone().is_ok());
    Ok(())
}
