//! Fetches many URLs at once, each within a limit of time, and says what came.
//!
//! ```text
//!   Socket ─► Connect ─► Send ─► Recv ─► .. ─► Recv, and with --out an OpenAt and Writes
//!      └──────── each step is linked to a timeout: what is left of the time ───┘
//! ```
//!
//! | a URL ends | with | stdout, stderr |
//! |---|---|---|
//! | when as many bytes have come as the answer has, or the server hangs up | its status | status, bytes of the body, URL |
//! | when its time is over, wherever it is then | a failure | the URL and the reason |
//! | refused, reset, cut short, or no answer to HTTP | a failure | the URL and the reason |
//!
//! Names are looked up before, by the standard library, which waits: no operation does that. It
//! asks in HTTP/1.0, so an answer comes in one piece, and it follows no redirection.
//!
//! Look at: `step`, which is all there is to limits and failures. Whatever a step owned (socket,
//! buffer, file) is dropped when it fails, and the limit needs no list of who is late. Linux 5.19.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::buf::{Slice, SliceExt as _};
use annulus::op::{
    Connect, Domain, How, Mode, Op, OpenAt, Recv, Send, SendFlags, Socket, SocketKind, Write,
};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, EventLoop, Io, Setup};
use clap::Parser;
use support::{Failure, Page, failed, up_to};

mod support;

/// Fetches URLs, and prints the status and the bytes of each.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// http://HOST[:PORT][/PATH]; without any, they are lines of stdin
    #[arg(value_name = "URL", value_parser = Url::parse)]
    urls: Vec<Url>,
    /// So many at once, 1 to 4096
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = up_to(4096))]
    at_once: u32,
    /// Give up on a URL after N seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = up_to(86_400))]
    limit: u32,
    /// Write the body of the first URL to DIR/1, and so on
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Clone)]
struct Url {
    text: String,
    /// With its port.
    host: String,
    /// The path, and what follows it.
    path: String,
}

/// The state of the loop.
struct Getter {
    fetches: Vec<Fetch>,
    /// The first that is not begun.
    next: usize,
    at_once: usize,
    under_way: usize,
    limit: Duration,
    out: Option<Rc<File>>,
    bytes: u64,
    failures: usize,
    /// Why nothing can be printed any more.
    silenced: Option<io::Error>,
}

struct Fetch {
    url: Url,
    addresses: VecDeque<SocketAddr>,
    /// Why there are none.
    unknown: Option<String>,
    /// Once it is begun.
    until: Option<Instant>,
    status: u16,
    bytes: u64,
}

/// An answer that is coming.
struct Incoming {
    stream: OwnedFd,
    /// The head, until it is whole.
    head: Option<Vec<u8>>,
    /// How many bytes of the body are to come, if the head says so.
    left: Option<u64>,
    file: Option<Rc<OwnedFd>>,
}

/// The longest head of an answer, and the bytes that are received at once.
const CHUNK: usize = 64 << 10;

impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or("it does not begin with http://")?;
        let rest = rest.split('#').next().unwrap_or_default();
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if host.is_empty() || host.contains('@') {
            return Err("it has no host, or a user".into());
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that are to be written as %XX".into());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host = if has_port { host.into() } else { format!("{host}:80") };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { text: text.into(), host, path: format!("{slash}{path}") })
    }
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { mut urls, at_once, limit, out, stats } = arguments;
    if !Capabilities::detect()?.has_op(Opcode::SOCKET) {
        return Err(Failure::Failed("sockets that a ring makes need Linux 5.19".into()));
    }
    if urls.is_empty() {
        for line in io::stdin().lines() {
            let line = line.map_err(failed("cannot read stdin"))?;
            urls.push(Url::parse(&line).map_err(failed(&line))?);
        }
    }
    let open = |dir| fs::create_dir_all(&dir).and_then(|()| File::open(&dir)).map(Rc::new);
    let getter = Getter {
        fetches: look_up(urls),
        next: 0,
        at_once: at_once as usize,
        under_way: 0,
        limit: Duration::from_secs(limit.into()),
        out: out.map(open).transpose().map_err(failed("no folder for the bodies"))?,
        bytes: 0,
        failures: 0,
        silenced: None,
    };
    let before = support::cpu_time();
    // Each has one step in flight, and its timeout.
    let mut events = EventLoop::new(Setup::new((2 * at_once).max(16)).build_for()?, getter);
    begin_more(&mut events.io());
    events.run(|_, error| support::tell(error))?;
    let cpu = support::cpu_time() - before;
    let (total, getter) = (events.ring().raw().stats(), &mut events.state);
    if let Some(error) = getter.silenced.take() {
        return Err(Failure::Output(error));
    }
    let all = getter.fetches.len();
    if stats {
        let Getter { bytes, failures, .. } = getter;
        writeln!(page, "fetched {} of {all} URLs, {bytes} bytes", all - *failures)?;
        writeln!(page, "{}", support::stats_line(total, all as u64, cpu))?;
    }
    match getter.failures {
        0 => Ok(()),
        failures => Err(Failure::Failed(format!("{failures} of {all} URLs were not fetched"))),
    }
}

impl Fetch {
    fn new(url: Url, found: &Result<VecDeque<SocketAddr>, String>) -> Self {
        let (addresses, unknown) = (found.clone().unwrap_or_default(), found.clone().err());
        Self { url, addresses, unknown, until: None, status: 0, bytes: 0 }
    }

    /// Whether its time is over. A step that fails then was cancelled by its timeout.
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Looks up the hosts of all URLs, each once.
fn look_up(urls: Vec<Url>) -> Vec<Fetch> {
    let mut known = HashMap::new();
    let each = |url: Url| {
        let found = known.entry(url.host.clone()).or_insert_with(|| {
            let addresses = url.host.to_socket_addrs().map_err(|error| error.to_string())?;
            Ok(addresses.collect())
        });
        Fetch::new(url, found)
    };
    urls.into_iter().map(each).collect()
}

/// Begins as many fetches as may be under way.
fn begin_more(io: &mut Io<'_, Getter>) {
    while io.state.under_way < io.state.at_once && io.state.next < io.state.fetches.len() {
        let getter = &mut *io.state;
        let number = getter.next;
        (getter.next, getter.under_way) = (number + 1, getter.under_way + 1);
        let fetch = &mut getter.fetches[number];
        let begun = match fetch.unknown.take() {
            Some(why) => Err(io::Error::other(why)),
            None => {
                fetch.until = Some(Instant::now() + getter.limit);
                connect(io, number)
            }
        };
        if let Err(error) = begun {
            end(io, number, Err(error));
        }
    }
}

// ANCHOR: step
/// Submits a step of a fetch, within what is left of its time. If the step fails, or `next` does,
/// that is the end of the fetch.
fn step<O: Op + 'static>(
    io: &mut Io<'_, Getter>,
    number: usize,
    op: O,
    next: impl FnOnce(&mut Io<'_, Getter>, O::Output) -> io::Result<()> + 'static,
) -> io::Result<()> {
    let until = io.state.fetches[number].until;
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    io.submit_within(op, left.unwrap_or_default(), move |io, output| {
        if let Err(error) = next(io, output) {
            end(io, number, Err(error));
            begin_more(io);
        }
        Ok(())
    })?;
    Ok(())
}

/// Connects to the first address, or to the next if that fails, and asks.
fn connect(io: &mut Io<'_, Getter>, number: usize) -> io::Result<()> {
    let address = io.state.fetches[number].addresses.pop_front();
    let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = Socket::new(Domain::of(&address), SocketKind::STREAM);
    step(io, number, socket, move |io, socket| {
        step(io, number, Connect::new(socket?, address), move |io, connected| {
            let fetch = &io.state.fetches[number];
            match connected.result {
                Ok(()) => ask(io, number, connected.fd),
                Err(error) if fetch.addresses.is_empty() || fetch.is_over() => Err(error),
                Err(_) => connect(io, number),
            }
        })
    })
}
// ANCHOR_END: step

fn ask(io: &mut Io<'_, Getter>, number: usize, stream: OwnedFd) -> io::Result<()> {
    let Url { host, path, .. } = &io.state.fetches[number].url;
    let host = host.strip_suffix(":80").unwrap_or(host);
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
    let send = Send::new(stream, request.into_bytes()).flags(SendFlags::WAIT_ALL);
    step(io, number, send, move |io, sent| {
        if sent.result? < sent.buf.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let head = Some(Vec::new());
        let incoming = Incoming { stream: sent.fd, head, left: None, file: None };
        receive(io, number, Box::new(incoming), Vec::with_capacity(CHUNK))
    })
}

fn receive(
    io: &mut Io<'_, Getter>,
    number: usize,
    incoming: Box<Incoming>,
    buf: Vec<u8>,
) -> io::Result<()> {
    step(io, number, Recv::new(incoming, buf), move |io, received| {
        let (mut incoming, mut buf) = (received.fd, received.buf);
        if received.result? == 0 {
            incoming.may_end()?;
            done(io, number);
            return Ok(());
        }
        let Some(mut head) = incoming.head.take() else {
            return take(io, number, incoming, buf);
        };
        head.extend_from_slice(&buf);
        match incoming.understand(&head)? {
            Some((status, len)) => {
                io.state.fetches[number].status = status;
                buf.clear();
                buf.extend_from_slice(&head[len..]);
                open(io, number, incoming, buf)
            }
            None => {
                incoming.head = Some(head);
                receive(io, number, incoming, buf)
            }
        }
    })
}

/// Opens the file for the body, if there is to be one.
fn open(
    io: &mut Io<'_, Getter>,
    number: usize,
    mut incoming: Box<Incoming>,
    body: Vec<u8>,
) -> io::Result<()> {
    let Some(dir) = &io.state.out else { return take(io, number, incoming, body) };
    let name = CString::new((number + 1).to_string())?;
    let how = How::write().create(Mode::new(0o666)).truncate();
    let open = OpenAt::new(Rc::clone(dir), name, how);
    step(io, number, open, move |io, opened| {
        incoming.file = Some(Rc::new(opened.result?));
        take(io, number, incoming, body)
    })
}

/// Takes a part of the body: writes it, or only counts it.
fn take(
    io: &mut Io<'_, Getter>,
    number: usize,
    mut incoming: Box<Incoming>,
    mut body: Vec<u8>,
) -> io::Result<()> {
    if let Some(left) = &mut incoming.left {
        body.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= body.len() as u64;
    }
    let fetch = &mut io.state.fetches[number];
    let at = fetch.bytes;
    fetch.bytes += body.len() as u64;
    match incoming.file.clone() {
        Some(file) if !body.is_empty() => write(io, number, incoming, file, body.slice(..), at),
        _ => go_on(io, number, incoming, body),
    }
}

/// Writes `rest` at an offset of the file, and receives on.
fn write(
    io: &mut Io<'_, Getter>,
    number: usize,
    incoming: Box<Incoming>,
    file: Rc<OwnedFd>,
    rest: Slice<Vec<u8>>,
    at: u64,
) -> io::Result<()> {
    step(io, number, Write::new(file, rest).at(at), move |io, written| {
        let count = written.result?;
        let (start, end) = (written.buf.start() + count, written.buf.end());
        let buf = written.buf.into_inner();
        match count {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ if start == end => go_on(io, number, incoming, buf),
            _ => {
                let rest = buf.slice(start..end);
                write(io, number, incoming, written.fd, rest, at + count as u64)
            }
        }
    })
}

fn go_on(
    io: &mut Io<'_, Getter>,
    number: usize,
    incoming: Box<Incoming>,
    buf: Vec<u8>,
) -> io::Result<()> {
    if incoming.left != Some(0) {
        return receive(io, number, incoming, buf);
    }
    done(io, number);
    Ok(())
}

fn done(io: &mut Io<'_, Getter>, number: usize) {
    end(io, number, Ok(()));
    begin_more(io);
}

/// Tells how a fetch has ended.
fn end(io: &mut Io<'_, Getter>, number: usize, result: io::Result<()>) {
    let getter = &mut *io.state;
    getter.under_way -= 1;
    let fetch = &getter.fetches[number];
    let (status, bytes, text) = (fetch.status, fetch.bytes, &fetch.url.text);
    getter.bytes += bytes;
    match result {
        Ok(()) => {
            if let Err(error) = writeln!(io::stdout(), "{status} {bytes:>10} {text}") {
                getter.silenced = Some(error);
                io.stop();
            }
            return;
        }
        Err(_) if fetch.is_over() => {
            support::tell(format_args!("{text}: not done after {} s", getter.limit.as_secs()));
        }
        Err(error) => support::tell(format_args!("{text}: {error}")),
    }
    getter.failures += 1;
}

impl Incoming {
    /// Looks at a head. If it is whole, returns its status and its length.
    fn understand(&mut self, bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut head = httparse::Response::new(&mut headers);
        let len = match head.parse(bytes).map_err(io::Error::other)? {
            httparse::Status::Complete(len) => len,
            httparse::Status::Partial if bytes.len() < CHUNK => return Ok(None),
            httparse::Status::Partial => return Err(io::Error::other("its head has no end")),
        };
        let status = head.code.unwrap_or_default();
        for header in head.headers {
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(io::Error::other("it is in pieces, which HTTP/1.0 does not have"));
            }
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = str::from_utf8(header.value).ok();
                let left = text.and_then(|text| text.parse().ok());
                self.left = Some(left.ok_or(io::Error::other("its length is no number"))?);
            }
        }
        if matches!(status, 204 | 304) {
            self.left = Some(0);
        }
        Ok(Some((status, len)))
    }

    /// The server has hung up: whether it may.
    fn may_end(&self) -> io::Result<()> {
        match (&self.head, self.left) {
            (Some(_), _) => Err(io::Error::other("it hung up before it had answered")),
            (None, Some(left)) => Err(io::Error::other(format!("{left} bytes are missing"))),
            (None, None) => Ok(()),
        }
    }
}
