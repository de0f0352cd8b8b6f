//! The servers on tokio, each for one thread.
//!
//! | server | a message is | a client is |
//! |---|---|---|
//! | `tokio-tungstenite` | framed for each client | a task, which takes it from a channel of tokio |
//! | `tokio, same frames` | framed once, by the code of `ws_fanout` | a place in a list; its task reads |
//!
//! The first is what one writes with that library: a slow client misses messages. The second is
//! `ws_fanout` with readiness in place of the ring, and each send is tried at once. Both send what
//! waits for a client by one call, as `ws_fanout` does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::{Notify, broadcast};
use tokio::task::{LocalSet, spawn_local};
use tokio_tungstenite::accept_async_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message};

use super::Kind;
use session::{Heard, Session, Shared};

#[path = "../../../examples/ws_fanout/session.rs"]
#[allow(dead_code, reason = "a server that ends says goodbye; these do not end")]
mod session;

/// Messages that may wait for one client: as many as `ws_fanout` has by default.
const QUEUE: usize = 64;
/// Bytes of the longest message, and of what is read at once, as there.
const LONGEST: usize = 65_536;
const BLOCK: usize = 4096;

/// Serves until it is killed. `Ours` is a program of its own, and is not asked for here.
pub fn run(kind: Kind) -> ! {
    let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
    let served = LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        let (all, _) = broadcast::channel(QUEUE);
        let room = Rc::new(RefCell::new(Vec::new()));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match kind {
                Kind::Tungstenite => drop(spawn_local(library(stream, all.clone()))),
                Kind::SameFrames | Kind::Ours => drop(spawn_local(same(stream, room.clone()))),
            }
        }
    });
    let served: io::Result<std::convert::Infallible> = served;
    panic!("the server fails: {}", served.unwrap_err())
}

/// A client by the library.
async fn library(stream: TcpStream, all: broadcast::Sender<Message>) -> Result<(), Error> {
    // Before it is greeted, so that it misses nothing.
    let mut news = all.subscribe();
    let config = WebSocketConfig::default().read_buffer_size(BLOCK);
    let config = config.max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    loop {
        select! {
            biased;
            said = socket.next() => match said {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    // There is a receiver: this task.
                    let _ = all.send(message);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            message = news.recv() => {
                // What it has missed it has missed.
                let Ok(message) = message else { continue };
                socket.feed(message).await?;
                while let Ok(more) = news.try_recv() {
                    socket.feed(more).await?;
                }
                socket.flush().await?;
            }
        }
    }
}

/// A client of the second server.
struct Client {
    stream: TcpStream,
    session: RefCell<Session>,
    queue: RefCell<VecDeque<Shared>>,
    /// Bytes of the first frame that are sent.
    sent: Cell<usize>,
    has_more: Notify,
}

type Room = Rc<RefCell<Vec<Rc<Client>>>>;

async fn same(stream: TcpStream, room: Room) -> io::Result<()> {
    let client = Rc::new(Client {
        stream,
        session: RefCell::new(Session::new(LONGEST)),
        queue: RefCell::default(),
        sent: Cell::new(0),
        has_more: Notify::new(),
    });
    room.borrow_mut().push(Rc::clone(&client));
    let served = talk(&client, &room).await;
    room.borrow_mut().retain(|other| !Rc::ptr_eq(other, &client));
    served
}

async fn talk(client: &Client, room: &Room) -> io::Result<()> {
    let mut block = [0; BLOCK];
    loop {
        select! {
            biased;
            ready = client.stream.readable() => {
                ready?;
                match client.stream.try_read(&mut block) {
                    Ok(0) => return Ok(()),
                    Ok(count) => hear(client, room, &block[..count])?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            () = client.has_more.notified() => {
                client.stream.writable().await?;
                client.send()?;
            }
        }
    }
}

fn hear(client: &Client, room: &Room, bytes: &[u8]) -> io::Result<()> {
    let heard = client.session.borrow_mut().hear(bytes);
    for what in heard {
        match what {
            Heard::Answer(frame) => client.enqueue(frame),
            Heard::Message(frame) => {
                for one in room.borrow().iter().filter(|one| one.session.borrow().is_talking()) {
                    one.enqueue(Rc::clone(&frame));
                }
            }
        }
    }
    for one in room.borrow().iter() {
        // Who cannot be sent to finds out by itself.
        let _ = one.send();
    }
    client.send()
}

impl Client {
    fn enqueue(&self, frame: Shared) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() < QUEUE {
            queue.push_back(frame);
        }
    }

    /// Sends until nothing waits, or the socket is full.
    fn send(&self) -> io::Result<()> {
        let mut queue = self.queue.borrow_mut();
        while let Some(first) = queue.front() {
            let written = match queue.len() {
                1 => self.stream.try_write(&first[self.sent.get()..]),
                _ => {
                    let rest = queue.iter().skip(1).map(|frame| &frame[..]);
                    let parts = std::iter::once(&first[self.sent.get()..]).chain(rest);
                    let parts: Vec<IoSlice<'_>> = parts.map(IoSlice::new).collect();
                    self.stream.try_write_vectored(&parts)
                }
            };
            match written {
                Ok(count) => self.sent.set(self.sent.get() + count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.has_more.notify_one();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            while queue.front().is_some_and(|frame| frame.len() <= self.sent.get()) {
                let frame = queue.pop_front().expect("it is there");
                self.sent.set(self.sent.get() - frame.len());
            }
        }
        Ok(())
    }
}
