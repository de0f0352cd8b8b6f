//! Sends: copied and not, of bytes of our own, of registered buffers, of several parts.
//!
//! | medium | operations |
//! |---|---|
//! | pipe | `Write`, `WriteV`, `WriteFixed` |
//! | socket | `Send`, `SendMsg`, `Write`, `WriteFixed`; of TCP also `SendZc` |

use std::io;
use std::rc::Rc;

use annulus::lease::FixedBuf;
use annulus::op::{
    Outcome, Send, SendFlags, SendMsg, SendZc, Sent, Target, Write, WriteFixed, WriteV,
};

use super::chance::{bytes, compare};
use super::desk::Desk;
use super::flow::{End, Medium, Shared, length};
use super::trouble::{Check, Trouble};

/// Submits a send of the next bytes.
pub fn any(desk: &mut Desk, medium: Medium, end: &End, flow: &Shared) -> Check {
    let (key, at, left) = {
        let it = flow.borrow();
        (it.key, it.sent, usize::try_from(it.total - it.sent).unwrap_or(usize::MAX))
    };
    let len = length(&mut desk.chance).min(left);
    let part = Part { flow: Rc::clone(flow), key, at, len };
    let accepted = match end {
        End::Fd(fd) => one(desk, medium, Rc::clone(fd), part),
        End::Fixed(file) => one(desk, medium, file.clone(), part),
    }?;
    flow.borrow_mut().sending |= accepted;
    Ok(())
}

/// Some bytes of a stream.
#[derive(Clone)]
struct Part {
    flow: Shared,
    key: u64,
    at: u64,
    len: usize,
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        bytes(self.key, self.at, self.len)
    }

    /// They were sent, or some, or none; and what was given has come back unchanged.
    fn ends(self, result: io::Result<usize>, back: &[u8]) -> Check {
        compare(self.key, self.at, back)?;
        let mut flow = self.flow.borrow_mut();
        flow.sending = false;
        flow.went(result)
    }
}

fn one<F: Target + 'static>(
    desk: &mut Desk,
    medium: Medium,
    fd: F,
    part: Part,
) -> Result<bool, Trouble> {
    let kind = desk.chance.below(6);
    if kind == 0
        && let Some(buf) = desk.fixed.as_ref().and_then(|pool| pool.get())
    {
        return fixed(desk, fd, buf, part);
    }
    let (bytes, flags) =
        (part.bytes(), desk.chance.among(&[SendFlags::default(), SendFlags::WAIT_ALL]));
    let same = part.clone();
    let ends = move |outcome: Outcome<usize, F, Vec<u8>>| same.ends(outcome.result, &outcome.buf);
    match (medium, kind) {
        (_, 1) => {
            let (head, tail) = halves(bytes);
            let both = move |outcome: Outcome<usize, F, [Vec<u8>; 2]>| {
                part.ends(outcome.result, &outcome.buf.concat())
            };
            match medium {
                Medium::Pipe => desk.submit(WriteV::new(fd, [head, tail]), both),
                _ => desk.submit(SendMsg::new(fd, [head, tail]).flags(flags), both),
            }
        }
        (Medium::Pipe, _) | (_, 2) => desk.submit(Write::new(fd, bytes), ends),
        (Medium::Tcp, 3..) => {
            let send = SendZc::new(fd, bytes).flags(flags);
            let ends = |outcome: Outcome<Sent, F, Vec<u8>>| {
                part.ends(outcome.result.map(|sent| sent.bytes), &outcome.buf)
            };
            desk.submit_many(send, |_| Ok(()), ends)
        }
        _ => desk.submit(Send::new(fd, bytes).flags(flags), ends),
    }
}

/// From a registered buffer.
fn fixed<F: Target + 'static>(
    desk: &mut Desk,
    fd: F,
    mut buf: FixedBuf,
    part: Part,
) -> Result<bool, Trouble> {
    let len = part.len.min(buf.capacity());
    buf.set_len(len);
    buf.copy_from_slice(&part.bytes()[..len]);
    let ends = move |outcome: Outcome<usize, F, FixedBuf>| part.ends(outcome.result, &outcome.buf);
    desk.submit(WriteFixed::new(fd, buf), ends)
}

fn halves(mut bytes: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let tail = bytes.split_off(bytes.len() / 2);
    (bytes, tail)
}
