//! One client's side of RFC 6455, without a socket: bytes go in, messages and replies come out.
//!
//! ```text
//!   bytes ─► Greeting ── 101 ──► Talking ─► messages, each as the frame that goes to everybody
//!               └── 400           │  └────► replies: a pong, a close
//!                    └─► Over ◄───┘
//! ```
//!
//! The crate `tungstenite` reads heads and frames, and checks them. It wants a stream; what it gets
//! are two buffers, so no call of it ever waits.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::rc::Rc;

use tungstenite::error::CapacityError;
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// A frame as it goes over the wire, one for all who get it.
pub type Shared = Rc<Vec<u8>>;

/// The longest head of a handshake.
const HEAD: usize = 8 << 10;
const REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/// How far the conversation is.
pub struct Session {
    state: State,
    /// The longest message.
    longest: usize,
}

enum State {
    /// The head, as far as it has come.
    Greeting(Vec<u8>),
    Talking(Box<WebSocketContext>),
    Over,
}

/// A frame, and who gets it.
pub enum Heard {
    Message(Shared),
    /// For this client alone: an answer.
    Answer(Shared),
}

/// What `tungstenite` takes for a stream.
struct Wire<'a> {
    coming: &'a [u8],
    going: Vec<u8>,
}

impl Session {
    /// A client that has just connected, and may send messages of `longest` bytes.
    pub fn new(longest: usize) -> Self {
        Self { state: State::Greeting(Vec::new()), longest }
    }

    /// Whether it gets messages.
    pub fn is_talking(&self) -> bool {
        matches!(self.state, State::Talking(_))
    }

    /// Whether it has nothing to say or to hear any more, once the last reply is sent.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes what has come, and returns what follows from it, in this order: whoever gets a message
    /// has got the answer to its greeting before.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Heard> {
        let mut heard = Vec::new();
        match &mut self.state {
            State::Greeting(head) => {
                head.extend_from_slice(bytes);
                if let Some((answer, next)) = greet(head, self.longest) {
                    heard.push(Heard::Answer(Rc::new(answer)));
                    self.state = next;
                    self.talk(&[], &mut heard); // What came behind the head.
                }
            }
            State::Talking(_) => self.talk(bytes, &mut heard),
            State::Over => {}
        }
        heard
    }

    // ANCHOR: talk
    /// Reads frames until the bytes are used up.
    fn talk(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) {
        let State::Talking(context) = &mut self.state else { return };
        let mut wire = Wire { coming: bytes, going: Vec::new() };
        loop {
            // A ping or a close is answered by the next call.
            let read = context.read(&mut wire);
            if !wire.going.is_empty() {
                heard.push(Heard::Answer(Rc::new(mem::take(&mut wire.going))));
            }
            match read {
                Ok(Message::Text(text)) => heard.push(frame(Data::Text, text.into())),
                Ok(Message::Binary(bytes)) => heard.push(frame(Data::Binary, bytes)),
                Ok(_) => {}
                // No more bytes.
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                Err(why) => {
                    // Nothing, if it was the client who closed.
                    let _ = context.close(&mut wire, Some(farewell(&why)));
                    if !wire.going.is_empty() {
                        heard.push(Heard::Answer(Rc::new(wire.going)));
                    }
                    self.state = State::Over;
                    return;
                }
            }
        }
    }
    // ANCHOR_END: talk
}

/// Answers the head, if all of it is there.
fn greet(head: &mut Vec<u8>, longest: usize) -> Option<(Vec<u8>, State)> {
    let mut answer = Vec::new();
    let greeted = match Request::try_parse(head) {
        Ok(None) if head.len() < HEAD => return None,
        Ok(None) => Err(Error::AttackAttempt),
        Ok(Some((len, request))) => create_response(&request)
            .and_then(|yes| write_response(&mut answer, &yes))
            .map(|()| len),
        Err(error) => Err(error),
    };
    let Ok(len) = greeted else {
        return Some((REFUSED.to_vec(), State::Over));
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    let rest = head.split_off(len);
    let context = WebSocketContext::from_partially_read(rest, Role::Server, Some(config));
    Some((answer, State::Talking(Box::new(context))))
}

// ANCHOR: frame
/// A message as a frame of a server: not masked, so it is alike for all who get it.
fn frame(kind: Data, payload: tungstenite::Bytes) -> Heard {
    Heard::Message(written(Frame::message(payload, OpCode::Data(kind), true)))
}
// ANCHOR_END: frame

/// Whether this is the frame of a message, and neither a head nor an answer.
pub fn is_message(frame: &Shared) -> bool {
    frame.first().is_some_and(|first| matches!(first & 0xf, 1 | 2) && first & 0x80 != 0)
}

/// The last frame of a server that ends.
pub fn going_away() -> Shared {
    written(Frame::close(Some(CloseFrame { code: CloseCode::Away, reason: "".into() })))
}

fn written(frame: Frame) -> Shared {
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes).expect("a Vec takes everything");
    Rc::new(bytes)
}

/// What a client is told that breaks a rule.
fn farewell(why: &Error) -> CloseFrame {
    let code = match why {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    };
    CloseFrame { code, reason: "".into() }
}

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.coming.is_empty() {
            true => Err(ErrorKind::WouldBlock.into()),
            false => self.coming.read(buf),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.going.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
