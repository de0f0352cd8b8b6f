//! What an operation gives back that was rejected, or that nobody submitted: everything.
//!
//! A ring without a free slot rejects whatever it is given. So each operation of `annulus::op` is
//! given to one, and its output is asked for what the operation was made of.

use std::fs::File;
use std::io;
use std::net::{Shutdown as Direction, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use annulus::Ticket;
use annulus::buf::AlignedBuf;
use annulus::lease::{BufRing, FileTable, FixedFile, FixedPool};
use annulus::op::*;
use annulus::sys::errno::Errno;
use annulus::sys::flags::Features;
use annulus::{EnterCause, EnterError, Rejected, Rejection, Ring, Setup, Step as _, StepExt as _};

/// A ring whose slots are all taken, and what its operations may name.
struct Full {
    ring: Ring,
    other: Ring,
    pool: FixedPool,
    /// What Linux has since 5.19.
    leased: Option<(BufRing, FileTable)>,
    file: Option<FixedFile>,
    poll: Ticket<Poll<File>>,
    polls: Ticket<PollMulti<File>>,
    timeout: Ticket<Timeout>,
    _nops: Vec<Ticket<Nop>>,
}

/// `None`, with the reason on stderr, where there are no rings.
fn full() -> Option<Full> {
    let made = Setup::new(4).build().and_then(|ring| Ok((ring, Setup::new(4).build()?)));
    let (mut ring, other) = made.map_err(|error| eprintln!("skipped: {error}")).ok()?;
    let pool = ring.fixed_pool(1, 64).expect("a pool");
    let leased = ring.buf_ring(2, 64).and_then(|it| Ok((it, ring.file_table(4)?))).ok();
    let file = leased.as_ref().map(|(_, table)| {
        let insert = ring.submit(InsertFile::new(null(), table)).expect("room");
        ring.wait(insert).expect("it ends").result.expect("a place")
    });
    let poll = ring.submit(Poll::new(null(), PollEvents::IN)).expect("room");
    let polls = ring.submit(PollMulti::new(null(), PollEvents::IN)).expect("room");
    let timeout = ring.submit(Timeout::new(Duration::from_secs(1000))).expect("room");
    let mut nops = Vec::new();
    while ring.vacant() > 0 {
        nops.push(ring.submit(Nop).expect("room"));
    }
    Some(Full { ring, other, pool, leased, file, poll, polls, timeout, _nops: nops })
}

fn null() -> File {
    File::open("/dev/null").expect("it is always there")
}

/// An owner of a descriptor, and its number.
fn some() -> (OwnedFd, i32) {
    let fd = OwnedFd::from(null());
    let number = fd.as_raw_fd();
    (fd, number)
}

/// An output that has an error.
trait Has {
    fn error(&self) -> Option<i32>;
}

impl<T, F, B> Has for Outcome<T, F, B> {
    fn error(&self) -> Option<i32> {
        self.result.as_ref().err().and_then(io::Error::raw_os_error)
    }
}

impl<T> Has for io::Result<T> {
    fn error(&self) -> Option<i32> {
        self.as_ref().err().and_then(io::Error::raw_os_error)
    }
}

impl<F, T> Has for Ended<F, T> {
    fn error(&self) -> Option<i32> {
        assert!(self.remaining.is_empty());
        match &self.how {
            Ending::Failed(error) => error.raw_os_error(),
            Ending::Cancelled => Some(libc::ECANCELED),
            other => panic!("{other:?}"),
        }
    }
}

impl Has for CancelOutcome {
    fn error(&self) -> Option<i32> {
        if let Self::Failed(error) = self { error.raw_os_error() } else { None }
    }
}

impl Has for UpdateOutcome {
    fn error(&self) -> Option<i32> {
        if let Self::Failed(error) = self { error.raw_os_error() } else { None }
    }
}

impl<T: Has, U> Has for (T, U) {
    fn error(&self) -> Option<i32> {
        self.0.error()
    }
}

impl Full {
    /// The output of `op` once the ring has rejected it.
    #[track_caller]
    fn reject<O: Op + 'static>(&mut self, op: O) -> O::Output
    where
        O::Output: Has,
    {
        let Err(rejected) = self.ring.submit(op) else { panic!("there is no slot") };
        let number = match rejected.why {
            Rejection::NoSlot => libc::EBUSY,
            Rejection::Unsupported { .. } => libc::EOPNOTSUPP, // `SendV` before Linux 6.10.
            why => panic!("{why}"),
        };
        let output = rejected.into_output();
        assert_eq!(output.error(), Some(number));
        output
    }
}

/// The address of a vector's bytes, which stays as long as the vector lives.
fn at(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr()
}

/// Bytes with a place of their own, which they keep while they are moved.
fn bytes() -> (Vec<u8>, usize) {
    let bytes = vec![7; 3];
    let place = at(&bytes);
    (bytes, place)
}

#[test]
fn a_rejected_transfer_gives_file_and_buffer_back() {
    let Some(mut full) = full() else { return };
    let ((buf, place), (fd, number)) = (bytes(), some());
    let Outcome { fd, buf, .. } = full.reject(Read::new(fd, buf).at(9));
    let Outcome { fd, buf, .. } = full.reject(Write::new(fd, buf).priority(IoPriority::IDLE));
    let Outcome { fd, buf, .. } = full.reject(ReadV::new(fd, (buf, [0; 3])));
    let Outcome { fd, buf, .. } = full.reject(WriteV::new(fd, buf));
    let Outcome { fd, buf, .. } = full.reject(ReadV::boxed(fd, Scatter::boxed(buf)));
    let (buf, other) = buf.into_inner();
    let Outcome { fd, buf, .. } = full.reject(Send::new(fd, buf).forced());
    let to = "127.0.0.1:9".parse::<SocketAddr>().expect("an address");
    let Outcome { fd, buf, .. } = full.reject(SendTo::new(fd, buf, to));
    let (Outcome { fd, buf, .. }, _) = full.reject(Hinted::new(Recv::new(fd, buf)));
    let Outcome { fd, buf, .. } = full.reject(SendV::new(fd, (buf, other)));
    let Outcome { fd, buf, .. } = full.reject(SendMsg::new(fd, buf).to(to));
    let Outcome { fd, buf, .. } = full.reject(RecvMsg::new(fd, buf).with_address());
    let Outcome { fd, buf, .. } = full.reject(SendMsgZc::new(fd, buf));
    let Outcome { fd, buf, .. } = full.reject(SendZc::new(fd, buf.0));
    assert_eq!((at(&buf), &buf[..], other, fd.as_raw_fd()), (place, &[7; 3][..], [0; 3], number));
}

#[test]
fn a_rejected_message_keeps_the_descriptors_that_are_attached_to_it() {
    let Some(mut full) = full() else { return };
    let mut header = MsgHeader::new();
    header.attach(null()).expect("one fits");
    let Outcome { fd, buf: (_, header), .. } =
        full.reject(SendMsg::new(some().0, ["a file"]).with(header));
    assert!(format!("{header:?}").contains("attached: 1"), "{header:?}");
    let Outcome { buf: (_, mut header), .. } = full.reject(RecvMsg::new(fd, [[0; 8]]).with(header));
    assert!(header.take_descriptors().is_empty(), "none has arrived");
}

#[test]
fn a_rejected_operation_gives_its_registered_buffer_back() {
    let Some(mut full) = full() else { return };
    let ((fd, number), mut page) = (some(), full.pool.get().expect("it is free"));
    page.set_len(3);
    page.copy_from_slice(b"abc");
    let Outcome { fd, buf, .. } = full.reject(ReadFixed::new(fd, page));
    let Outcome { fd, buf, .. } = full.reject(WriteFixed::new(fd, buf));
    let Outcome { fd, buf, .. } = full.reject(ReadVFixed::new(fd, buf, [0..1, 2..3]));
    let Outcome { fd, buf, .. } = full.reject(WriteVFixed::new(fd, buf, [0..1, 2..3]));
    let Outcome { fd, buf, .. } = full.reject(SendZcFixed::new(fd, buf));
    let Outcome { fd, buf: [buf], .. } = full.reject(SendMsgZcFixed::new(fd, buf));
    let Outcome { buf, .. } = full.reject(NopBuf::new(buf));
    assert_eq!((&buf[..], fd.as_raw_fd()), (&b"abc"[..], number));
}

#[test]
fn a_rejected_operation_that_owns_only_files_gives_them_back() {
    let Some(mut full) = full() else { return };
    let ((fd, number), (other, second)) = (some(), some());
    let Outcome { fd, .. } = full.reject(Fsync::new(fd));
    let Outcome { fd, .. } = full.reject(Fallocate::new(fd, 0, 1));
    let Outcome { fd, .. } = full.reject(Ftruncate::new(fd, 0));
    let Outcome { fd, .. } = full.reject(Fadvise::new(fd, FileAdvice::Normal));
    let Outcome { fd, .. } = full.reject(SyncFileRange::new(fd));
    let Outcome { fd, .. } = full.reject(NopFile::new(fd));
    let (_, fd) = full.reject(Cancel::fd(fd));
    let Outcome { fd, .. } = full.reject(Poll::new(fd, PollEvents::IN));
    let Ended { fd, .. } = full.reject(PollMulti::new(fd, PollEvents::IN));
    let Outcome { fd, .. } = full.reject(WaitId::new(fd, ChildEvents::EXITED));
    let Outcome { fd: (fd, other), .. } = full.reject(Splice::new(fd, other, 1));
    let Outcome { fd: (fd, other), .. } = full.reject(Tee::new(fd, other, 1));
    let add = EpollCtl::add(fd, other, EpollEvent::new(PollEvents::IN, 7));
    let Outcome { fd, buf: other, .. } = full.reject(add);
    let Outcome { fd, buf, .. } = full.reject(EpollWait::new(fd, Vec::with_capacity(2)));
    assert!(buf.capacity() >= 2);
    let Outcome { fd, .. } = full.reject(Close::new(fd));
    let fd = fd.expect("it was not closed");
    assert_eq!((fd.as_raw_fd(), other.as_raw_fd()), (number, second));
}

#[test]
fn a_rejected_operation_gives_its_socket_back() {
    let Some(mut full) = full() else { return };
    let (fd, number) = some();
    let address = "127.0.0.1:9".parse::<SocketAddr>().expect("an address");
    let Outcome { fd, .. } = full.reject(Bind::new(fd, address));
    let Outcome { fd, .. } = full.reject(Listen::new(fd));
    let Outcome { fd, .. } = full.reject(Accept::new(fd));
    let Outcome { fd, .. } = full.reject(Accept::new(fd).with_address());
    let Ended { fd, .. } = full.reject(AcceptMulti::new(fd));
    let Outcome { fd, .. } = full.reject(Connect::new(fd, address));
    let Outcome { fd, .. } = full.reject(Shutdown::new(fd, Direction::Both));
    let Outcome { fd, .. } = full.reject(Unread::new(fd));
    let Outcome { fd, .. } = full.reject(Unsent::new(fd));
    let Outcome { fd, .. } = full.reject(GetOption::new(fd, SocketOption::BROADCAST));
    let Outcome { fd, .. } = full.reject(SetOption::new(fd, SocketOption::BROADCAST, true));
    let Outcome { fd, .. } = full.reject(GetName::of(fd));
    assert_eq!(fd.as_raw_fd(), number);
}

#[test]
fn a_rejected_operation_on_paths_gives_them_back() {
    let Some(mut full) = full() else { return };
    let path = c"a path".to_owned();
    let place = path.as_ptr().addr();
    let ((fd, number), other) = (some(), c"another");
    let Outcome { fd, buf: path, .. } = full.reject(OpenAt::new(fd, path, How::read()));
    let Outcome { fd, buf: path, .. } = full.reject(OpenAt2::new(fd, path, How::read()));
    let Outcome { fd, buf: path, .. } = full.reject(UnlinkAt::new(fd, path));
    let Outcome { fd, buf: path, .. } = full.reject(MkdirAt::new(fd, path, Mode::default()));
    let Outcome { fd, buf: (_, path), .. } = full.reject(SymlinkAt::new(other, fd, path));
    let Outcome { fd: (fd, _), buf, .. } = full.reject(RenameAt::new(fd, path, Cwd, other));
    let Outcome { fd: (fd, _), buf, .. } = full.reject(LinkAt::new(fd, buf.0, Cwd, other));
    let statx = full.reject(Statx::at(fd, buf.0, Stat::boxed()));
    let Outcome { fd, buf: (_, path), .. } = statx;
    assert_eq!((path.as_ptr().addr(), fd.as_raw_fd()), (place, number));

    let (value, its_place) = bytes();
    let Outcome { fd: path, buf, .. } = full.reject(Getxattr::new(path, c"user.a", value));
    let Outcome { fd: path, buf, .. } = full.reject(Setxattr::new(path, buf.0, buf.1));
    let Outcome { fd, buf, .. } = full.reject(Fgetxattr::new(fd, buf.0, buf.1));
    let Outcome { fd, buf, .. } = full.reject(Fsetxattr::new(fd, buf.0, buf.1));
    assert_eq!((path.as_ptr().addr(), fd.as_raw_fd()), (place, number));
    assert_eq!((buf.0, at(&buf.1)), (c"user.a", its_place));
}

#[test]
fn a_rejected_operation_gives_memory_and_words_back() {
    let Some(mut full) = full() else { return };
    let map = AlignedBuf::new(4096, 4096);
    let place = at(&map);
    let Outcome { buf, .. } = full.reject(Madvise::new(map, MemoryAdvice::Normal));
    assert_eq!(at(&buf), place);
    let word = Arc::new(AtomicU32::new(0));
    let Outcome { buf, .. } = full.reject(FutexWait::new(Arc::clone(&word), 0));
    let Outcome { buf, .. } = full.reject(FutexWake::new(buf, 1));
    let Outcome { buf, .. } = full.reject(FutexWaitV::new(FutexSet::new().with(buf, 0)));
    assert_eq!(Arc::strong_count(&word), 2);
    drop(buf);
    assert_eq!(Arc::strong_count(&word), 1);
}

#[test]
fn a_rejected_operation_on_pools_and_tables_leaves_them_usable() {
    let Some(mut full) = full() else { return };
    let (Some((buffers, table)), Some(file)) = (full.leased.clone(), full.file.clone()) else {
        return eprintln!("skipped: buffer rings and file tables are of Linux 5.19");
    };
    let (fd, number) = some();
    let Ended { fd, .. } = full.reject(ReadMulti::new(fd, &buffers));
    let Outcome { fd, .. } = full.reject(RecvProvided::new(fd, &buffers));
    let Ended { fd, .. } = full.reject(RecvMulti::new(fd, &buffers));
    let Ended { fd, .. } = full.reject(RecvMsgMulti::new(fd, &buffers));
    let Outcome { fd, .. } = full.reject(InsertFile::new(fd, &table));
    let open = OpenAt::new(fd, c"a path", How::read());
    let Outcome { fd, buf: path, .. } = full.reject(open.direct(&table));
    let open = OpenAt::new(fd, path, How::read());
    let Outcome { fd, .. } = full.reject(open.direct_to(&file));
    assert_eq!(fd.as_raw_fd(), number);
    let Outcome { fd: file, .. } = full.reject(InstallFd::new(file));
    let Outcome { fd: file, .. } = full.reject(ClearFile::new(file));
    let theirs = full.other.file_table(2).expect("a table").sender();
    if let Ok(to) = theirs {
        let Outcome { .. } = full.reject(PassFile::new(file, &to).expect("a sender"));
    }
    if let Ok(send) = full.ring.send_ring(2, 16) {
        let queue = send.queue();
        let mut word = queue.get().expect("two are free");
        word.set_len(3);
        word.queue();
        let Outcome { fd, buf: send, .. } = full.reject(SendBundle::new(fd, send));
        assert_eq!((fd.as_raw_fd(), send.queue().bytes()), (number, 3));
    }
    let Outcome { fd, .. } = full.reject(RecvBundle::new(some().0, &buffers));
    let Ended { .. } = full.reject(RecvBundleMulti::new(fd, &buffers));
    assert!(full.reject(Pipe::new().direct(&table)).is_err());
}

#[test]
fn a_rejected_operation_that_owns_nothing_tells_the_reason() {
    let Some(mut full) = full() else { return };
    assert!(full.reject(Nop.drained()).is_err());
    assert!(full.reject(Nop.answering(Ok(7))).is_err());
    assert!(full.reject(Pipe::new()).is_err());
    assert!(full.reject(Socket::new(Domain::V4, SocketKind::STREAM)).is_err());
    assert!(full.reject(Timeout::new(Duration::ZERO)).is_err());
    assert!(full.reject(TimeoutMulti::new(Duration::ZERO)).is_err());
    let (remove, cancel) = (PollRemove::new(&full.poll), Cancel::ticket(&full.poll));
    let update = PollUpdate::new(&full.polls, PollEvents::OUT);
    let expire = TimeoutRemove::new(&full.timeout);
    let delay = TimeoutUpdate::new(&full.timeout, Duration::ZERO);
    assert_eq!(full.reject(cancel).count(), 0);
    assert_eq!(full.reject(remove).count(), 0);
    assert_eq!(full.reject(expire).count(), 0);
    assert!(matches!(full.reject(update), UpdateOutcome::Failed(_)));
    assert!(matches!(full.reject(delay), UpdateOutcome::Failed(_)));
    let who = full.ring.register_personality().expect("credentials");
    assert!(full.reject(Nop.acting_as(who)).is_err());
    if let Ok(to) = full.other.sender() {
        assert!(full.reject(Message::new(&to, 7).expect("it fits")).is_err());
    }
}

#[test]
fn each_operation_that_the_library_lists_was_rejected_here() {
    let (listed, here) = (include_str!("../../src/op/mod.rs"), include_str!("rejected.rs"));
    let rows = listed.lines().filter_map(|line| line.strip_prefix("//! | "));
    let operations = rows.skip(1).filter_map(|row| row.split_once(" | ")).map(|(_, names)| names);
    let made_by = [
        ("Prioritized", ".priority("),
        ("ActingAs", ".acting_as("),
        ("Drained", ".drained("),
        ("Forced", ".forced("),
        ("Direct", ".direct("),
        ("PipeDirect", "Pipe::new().direct("),
        ("NopAnswer", ".answering("),
        ("CancelFd", "Cancel::fd("),
        ("Nop", "Nop."),
    ];
    let mut count = 0;
    for name in operations.flat_map(|names| names.split("[`").skip(1)) {
        let name = name.split('`').next().expect("a name");
        let maker = made_by.iter().find(|(made, _)| *made == name);
        let maker = maker.map_or_else(|| format!("{name}::"), |(_, maker)| (*maker).to_owned());
        assert!(here.contains(&maker), "{name} is not rejected above");
        count += 1;
    }
    assert!(count > 80, "{count}");
}

#[test]
fn an_operation_that_nobody_submits_is_as_if_it_was_cancelled() {
    let ((buf, place), (fd, number)) = (bytes(), some());
    let Outcome { fd, buf, result } = Recv::new(fd, buf).into_output();
    assert_eq!(result.expect_err("it never began").raw_os_error(), Some(libc::ECANCELED));
    assert_eq!((at(&buf), fd.as_raw_fd()), (place, number));
    let Outcome { fd, .. } = Close::new(fd).into_output();
    assert_eq!(fd.map(|fd| fd.as_raw_fd()), Some(number));
}

#[test]
fn a_rejected_chain_gives_the_buffers_of_its_steps_back() {
    let Some(mut full) = full() else { return };
    let ((buf, place), (fd, number)) = (bytes(), some());
    let read = Read::new(fd, buf).within(Duration::from_secs(1));
    let Err(rejected) = full.ring.submit_chain((Nop.hard(), read)) else { panic!("no slot") };
    let (nop, read) = rejected.op;
    assert!(nop.into_inner().into_output().is_err());
    let Outcome { fd, buf, .. } = read.into_inner().into_output();
    assert_eq!((at(&buf), fd.as_raw_fd()), (place, number));
}

#[test]
fn a_rejection_has_the_error_number_that_fits() {
    let enter = EnterError { submitted: 0, cause: EnterCause::Interrupted };
    for (why, number) in [
        (Rejection::NoSlot, libc::EBUSY),
        (Rejection::QueueFull, libc::EBUSY),
        (Rejection::BufRingBusy, libc::EBUSY),
        (Rejection::Drained, libc::EBUSY),
        (Rejection::Invalid { reason: "a mistake" }, libc::EINVAL),
        (Rejection::ChainTooLong { count: 9, entries: 8 }, libc::EINVAL),
        (Rejection::OtherRing, libc::EBADF),
        (Rejection::Unsupported { needs: Features::NODROP }, libc::EOPNOTSUPP),
        (Rejection::Stopping, libc::ECANCELED),
        (Rejection::OtherProcess, libc::ECHILD),
        (Rejection::Enter(enter), libc::EINTR),
    ] {
        assert_eq!(why.errno(), Errno::new(number));
        assert_eq!(io::Error::from(why).raw_os_error(), Some(number));
        // An error that is made from all of it keeps the text.
        let error = io::Error::from(Rejected { op: Nop, user: (), why });
        assert_eq!((error.raw_os_error(), error.to_string()), (None, why.to_string()));
    }
}
