//! The two worlds that a program runs in: Linux, and a simulation.
//!
//! What a test does from outside never waits.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use annulus::sim::{Release, Sim};
use annulus::sys::flags::SetupFlags;
use annulus::sys::map::Pages;
use annulus::{DisabledRing, RawRing, Setup, SetupError};

/// A kernel and the world behind it.
pub trait World {
    fn setup(&self, entries: u32, flags: SetupFlags) -> Option<RawRing>;
    /// A ring of whichever release this is.
    fn setup_here(&self, entries: u32, flags: SetupFlags) -> Option<RawRing> {
        self.setup(entries, flags)
    }
    /// A ring that must be enabled.
    fn setup_disabled(&self, entries: u32, flags: SetupFlags) -> Option<DisabledRing>;
    fn pipe(&self) -> (OwnedFd, OwnedFd);
    fn socket_pair(&self) -> (OwnedFd, OwnedFd);
    fn datagram_pair(&self) -> (OwnedFd, OwnedFd);
    /// A UDP socket on the local machine, and its address.
    fn udp(&self) -> (OwnedFd, SocketAddr);
    fn file(&self, contents: &[u8]) -> OwnedFd;
    fn eventfd(&self) -> OwnedFd;
    /// An empty folder, open.
    fn folder(&self) -> Folder;
    /// A listener, and its address.
    fn listener(&self) -> (OwnedFd, SocketAddr);
    /// A socket that is not connected.
    fn socket(&self) -> OwnedFd;
    fn connect(&self, address: SocketAddr) -> io::Result<OwnedFd>;
    fn read(&self, fd: BorrowedFd<'_>) -> io::Result<Vec<u8>>;
    fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize>;
    fn shut_down(&self, fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()>;
    /// Lets a little time pass.
    fn pause(&self);
    /// The simulation, if it is one.
    fn simulation(&self) -> Option<&Sim> {
        None
    }
}

/// Below other folders, so that `..` leads to nothing that other programs use.
const DEEP: &str = "v/w/x/y/z";

/// A folder that is removed at the end, if it is a real one.
pub struct Folder {
    pub fd: OwnedFd,
    path: Option<std::path::PathBuf>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            std::fs::remove_dir_all(path).expect("it is ours");
        }
    }
}

/// Linux.
pub struct Real;

fn asked(entries: u32, flags: SetupFlags) -> Setup<'static> {
    let plain = Setup::plain(entries).with(flags - SetupFlags::NO_MMAP);
    let polls = flags.contains(SetupFlags::SQPOLL);
    let plain = if polls { plain.sqpoll(Duration::from_millis(1)) } else { plain };
    let is_own = flags.contains(SetupFlags::NO_MMAP);
    if is_own { plain.own_memory(Pages::Ordinary) } else { plain }
}

/// Calls a libc function that returns a size.
fn sized(count: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn is_ready(fd: BorrowedFd<'_>, events: i16) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one live `struct pollfd`, as the count says.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// A ring of Linux, if the simulation is to be compared with this one.
fn compared<T>(build: impl Fn() -> Result<T, SetupError>) -> Option<T> {
    // The simulation was compared with 6.18, which is the first to have this flag.
    let newest = Setup::plain(4).with(SetupFlags::CQE_MIXED).build_raw();
    match newest.and_then(|_| build()) {
        Ok(ring) => Some(ring),
        Err(error) => {
            // Where the test's runner does not hide it.
            let why = format!("not compared with Linux before 6.18, or here: {error}\n");
            std::io::stderr().write_all(why.as_bytes()).expect("stderr");
            None
        }
    }
}

/// The release of Linux that runs here. Where 5.10 still runs, it has the rings of 5.15.
pub fn release_here() -> Release {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("there is one");
    let mut numbers = text.split(['.', '-']).map(|part| part.trim().parse::<u16>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(5)), Some(Ok(10))) => Release::new(5, 15),
        (Some(Ok(major)), Some(Ok(minor))) => Release::new(major, minor),
        _ => panic!("a release: {text}"),
    }
}

impl World for Real {
    fn setup(&self, entries: u32, flags: SetupFlags) -> Option<RawRing> {
        compared(|| asked(entries, flags).build_raw())
    }

    fn setup_here(&self, entries: u32, flags: SetupFlags) -> Option<RawRing> {
        match asked(entries, flags).build_raw() {
            Ok(ring) => Some(ring),
            Err(error) => {
                let why = format!("not compared with Linux, which makes no ring: {error}\n");
                std::io::stderr().write_all(why.as_bytes()).expect("stderr");
                None
            }
        }
    }

    fn setup_disabled(&self, entries: u32, flags: SetupFlags) -> Option<DisabledRing> {
        compared(|| asked(entries, flags).build_disabled())
    }

    fn pipe(&self) -> (OwnedFd, OwnedFd) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (reader.into(), writer.into())
    }

    fn socket_pair(&self) -> (OwnedFd, OwnedFd) {
        let (one, other) = UnixStream::pair().expect("two sockets");
        (one.into(), other.into())
    }

    fn datagram_pair(&self) -> (OwnedFd, OwnedFd) {
        let (one, other) = UnixDatagram::pair().expect("two sockets");
        (one.into(), other.into())
    }

    fn udp(&self) -> (OwnedFd, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("it is bound");
        (socket.into(), address)
    }

    fn file(&self, contents: &[u8]) -> OwnedFd {
        // SAFETY: a name that ends in zero, because it is a C string.
        let fd = unsafe { libc::memfd_create(c"differential".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a new descriptor, which nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let file = File::from(fd);
        std::os::unix::fs::FileExt::write_all_at(&file, contents, 0).expect("room");
        file.into()
    }

    fn eventfd(&self) -> OwnedFd {
        // SAFETY: takes two numbers, and no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a new descriptor, which nothing else owns.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    fn folder(&self) -> Folder {
        let name = std::env::temp_dir().join("annulus-XXXXXX").into_os_string().into_vec();
        let name = std::ffi::CString::new(name).expect("no zero").into_raw();
        // SAFETY: a name that ends in zero, which the call changes.
        assert!(!unsafe { libc::mkdtemp(name) }.is_null(), "a folder for temporary files");
        // SAFETY: from `into_raw`, and as long as it was, since only letters have changed.
        let name = unsafe { std::ffi::CString::from_raw(name) };
        let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(name.into_bytes()));
        let deep = path.join(DEEP);
        std::fs::create_dir_all(&deep).expect("it is ours");
        let fd = File::open(&deep).expect("a folder").into();
        Folder { fd, path: Some(path) }
    }

    fn listener(&self) -> (OwnedFd, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        (listener.into(), address)
    }

    fn socket(&self) -> OwnedFd {
        // SAFETY: takes three numbers, and no memory.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0);
        // SAFETY: a new descriptor, which nothing else owns.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    fn connect(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        TcpStream::connect(address).map(OwnedFd::from)
    }

    fn read(&self, fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        if !is_ready(fd, libc::POLLIN) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let mut bytes = vec![0; 4096];
        // SAFETY: so many bytes of this function's.
        let count = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        bytes.truncate(sized(count)?);
        Ok(bytes)
    }

    fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        if !is_ready(fd, libc::POLLOUT) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        // SAFETY: so many bytes of the caller's.
        sized(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
    }

    fn shut_down(&self, fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
        UnixStream::from(fd.try_clone_to_owned()?).shutdown(how)
    }

    fn pause(&self) {
        std::thread::sleep(std::time::Duration::from_micros(300));
    }
}

impl World for Sim {
    fn setup(&self, entries: u32, flags: SetupFlags) -> Option<RawRing> {
        Some(asked(entries, flags).kernel(self.kernel()).build_raw().expect("a simulated ring"))
    }

    fn setup_disabled(&self, entries: u32, flags: SetupFlags) -> Option<DisabledRing> {
        let setup = asked(entries, flags).kernel(self.kernel());
        Some(setup.build_disabled().expect("a simulated ring"))
    }

    fn pipe(&self) -> (OwnedFd, OwnedFd) {
        Self::pipe(self).expect("descriptors")
    }

    fn socket_pair(&self) -> (OwnedFd, OwnedFd) {
        Self::socket_pair(self).expect("descriptors")
    }

    fn datagram_pair(&self) -> (OwnedFd, OwnedFd) {
        Self::datagram_pair(self).expect("descriptors")
    }

    fn udp(&self) -> (OwnedFd, SocketAddr) {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = self.udp_socket(local).expect("descriptors");
        let address = self.local_address(&socket).expect("a socket");
        (socket, address.expect("it is bound"))
    }

    fn file(&self, contents: &[u8]) -> OwnedFd {
        Self::file(self, contents).expect("descriptors")
    }

    fn eventfd(&self) -> OwnedFd {
        Self::eventfd(self, 0).expect("descriptors")
    }

    fn folder(&self) -> Folder {
        let path = format!("/tmp/{DEEP}");
        Self::make_folder(self, &path).expect("nothing is in the way");
        Folder { fd: Self::open_folder(self, &path).expect("descriptors"), path: None }
    }

    fn listener(&self) -> (OwnedFd, SocketAddr) {
        let address = SocketAddr::from(([127, 0, 0, 1], 7777));
        (Self::listener(self, address).expect("descriptors"), address)
    }

    fn socket(&self) -> OwnedFd {
        Self::socket(self).expect("descriptors")
    }

    fn connect(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        Self::connect(self, address)
    }

    fn read(&self, fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        Self::read(self, fd, 4096)
    }

    fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, fd, bytes)
    }

    fn shut_down(&self, fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
        Self::shut_down(self, fd.as_fd(), how)
    }

    fn pause(&self) {
        self.advance(std::time::Duration::from_micros(300));
    }

    fn simulation(&self) -> Option<&Sim> {
        Some(self)
    }
}
