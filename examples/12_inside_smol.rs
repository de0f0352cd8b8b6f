//! Inside smol: a web server of the files in a folder. Sockets are smol's, files the ring's.
//!
//! ```text
//!   smol, one thread
//!     a task for each client ── its sockets and timers ──► async-io ─► epoll
//!                            └─ reactor.run(OpenAt2, Read).await ──► ring ──► kernel
//!     a task ── reactor.drive ── async-io says when the ring's descriptor is readable
//! ```
//!
//! | | through the ring | by `smol::fs` |
//! |---|---|---|
//! | a read waits | in the kernel | in a thread of a pool |
//! | a client that goes | its task is dropped, and the read cancelled | the read runs on in its thread |
//! | `../../etc/passwd` | the kernel refuses it (`RESOLVE_BENEATH`) | the program must see to it |
//!
//! Look at: `serve`, where the reactor comes into a program of smol: a descriptor, and one task
//! that drives. Beside all of that, a timer of smol hangs up on whoever sends no request within ten
//! seconds. Try it: `12_inside_smol .`, and a browser. Linux 5.6.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use annulus::Setup;
use annulus::future::Reactor;
use annulus::op::{How, OpenAt2, Read};
use clap::Parser;
use smol::future::or;
use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use smol::net::{TcpListener, TcpStream};
use smol::{Async, LocalExecutor, Timer};
use support::{Failure, Page, failed, serving};

mod support;

/// Serves the files of a folder over HTTP, until it is told to stop (Ctrl-C).
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Whose files; for a folder in it, its index.html
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:8080")]
    address: String,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// The longest head of a request.
const HEAD: u64 = 8 << 10;
/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a read.
const BLOCK: usize = 64 << 10;

/// What the tasks share.
#[derive(Clone)]
struct Site {
    reactor: Reactor,
    folder: Rc<File>,
    /// Answers with a file, and the bytes in them.
    served: Rc<Cell<(u64, u64)>>,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    // Of a kind whose descriptor can be polled.
    let reactor = Reactor::new(Setup::plain(256).build_for()?);
    let folder = arguments.folder.display();
    let folder = File::open(&arguments.folder).map_err(failed(format_args!("{folder}")))?;
    let site = Site { reactor, folder: Rc::new(folder), served: Rc::default() };
    let before = support::cpu_time();
    let listening = failed(format_args!("cannot listen on {}", arguments.address).to_string());
    let listener = smol::block_on(TcpListener::bind(&arguments.address)).map_err(listening)?;
    let address = listener.local_addr().map_err(failed("no address"))?;
    let stop = serving::asked_to_stop()?;
    writeln!(page, "serving http://{address}/")?;
    let tasks = LocalExecutor::new();
    smol::block_on(tasks.run(serve(&tasks, &site, listener, stop))).map_err(failed("the end"))?;
    drop(tasks);
    let (files, bytes) = site.served.get();
    writeln!(page, "served {files} files, {bytes} bytes")?;
    if arguments.stats {
        let total = site.reactor.with_ring(|ring| ring.raw().stats());
        let cpu = support::cpu_time() - before;
        writeln!(page, "{}", support::stats_line(total, total.sqes, cpu))?;
    }
    Ok(())
}

/// Serves until it is told to stop, or the ring fails.
async fn serve<'a>(
    tasks: &LocalExecutor<'a>,
    site: &Site,
    listener: TcpListener,
    stop: std::os::unix::net::UnixStream,
) -> io::Result<()> {
    let fd = Async::new_nonblocking(site.reactor.fd()?)?;
    let driver = tasks.spawn(site.reactor.drive(move |context| fd.poll_readable(context)));
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((client, _)) => tasks.spawn(answer(site.clone(), client)).detach(),
                // No descriptor is left, for example: in a moment there may be one.
                Err(_) => drop(Timer::after(Duration::from_millis(100)).await),
            }
        }
    };
    let stop = Async::new(stop)?;
    or(or(stop.readable(), accept), async { Err(driver.await) }).await
}

/// One request, and its answer.
async fn answer(site: Site, mut client: TcpStream) -> io::Result<()> {
    let late = async {
        Timer::after(PATIENCE).await;
        Err(ErrorKind::TimedOut.into())
    };
    let Some(path) = or(request(client.clone()), late).await? else {
        return client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    };
    let Ok((file, name, len)) = open(&site, &path).await else {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n").await;
    };
    let kind = match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "txt" | "md" | "rs" | "toml" => "text/plain; charset=utf-8",
        "css" => "text/css",
        "js" => "text/javascript",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        _ => "application/octet-stream",
    };
    let head = format!("Content-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close");
    client.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes()).await?;
    let (file, mut buf, mut at) = (Rc::new(file), Vec::with_capacity(BLOCK), 0);
    while at < len {
        let read = site.reactor.run(Read::new(Rc::clone(&file), buf).at(at)).await?;
        // The file has become shorter: the client sees that something is missing.
        if read.result? == 0 {
            return Ok(());
        }
        // Nor more than was promised, if it has become longer.
        let rest = usize::try_from(len - at).unwrap_or(usize::MAX);
        buf = read.buf;
        buf.truncate(rest);
        client.write_all(&buf).await?;
        at += buf.len() as u64;
    }
    let (files, bytes) = site.served.get();
    site.served.set((files + 1, bytes + len));
    client.flush().await
}

/// The path that a client asks for, relative to the folder; `None` if it asks for anything else.
async fn request(client: TcpStream) -> io::Result<Option<String>> {
    let mut reader = BufReader::new(client.take(HEAD));
    let (mut first, mut line) = (String::new(), String::new());
    reader.read_line(&mut first).await?;
    while reader.read_line(&mut line).await? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    // Whoever has not ended the head asks for too much, or has gone.
    let mut words = first.split(' ');
    let (Some("GET"), Some(target), false) = (words.next(), words.next(), line.is_empty()) else {
        return Ok(None);
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Ok(decoded(path.trim_start_matches('/')))
}

/// The text with `%20` and the like as the bytes that they stand for.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut parts = path.split('%');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Opens a file of the folder, through the ring. Returns its name and its length, too.
async fn open(site: &Site, path: &str) -> io::Result<(File, String, u64)> {
    let path = if path.is_empty() { "." } else { path };
    for name in [path.to_owned(), format!("{path}/index.html")] {
        let at = CString::new(name.as_str())?;
        // Nothing outside of the folder, and no waiting for the writer of a FIFO.
        let how = How::read().non_block();
        let open = OpenAt2::new(Rc::clone(&site.folder), at, how).beneath();
        let file = File::from(site.reactor.run(open).await?.result?);
        let is = file.metadata()?;
        if is.is_file() {
            return Ok((file, name, is.len()));
        }
        if !is.is_dir() {
            break;
        }
    }
    Err(ErrorKind::NotFound.into())
}
