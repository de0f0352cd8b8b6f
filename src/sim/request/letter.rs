//! Entries about messages: a `struct msghdr`, and what it names.
//!
//! ```text
//!   msghdr ──► name · buffers · control data      RECVMSG updates it; nothing is sent as control
//! ```
#![allow(unsafe_code, reason = "reads what entries point to")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;

use super::super::region::{Span, Use, read_value};
use super::net::{address_at, receive, send};
use super::vectors::{MAX_VECTORS, vectors_at};
use super::{How, Job};

/// A `struct msghdr` as words: the name and its length, the buffers and how many, the control data
/// and its length, the flags.
const WORDS: usize = 7;
const HEADER: usize = 8 * WORDS;

/// The parts of a message around its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) struct Envelope {
    /// The room for an address, and for control data.
    pub(in crate::sim) name: usize,
    pub(in crate::sim) control: usize,
    /// How many of the request's memories are no buffers: the header, and the address.
    pub(in crate::sim) others: usize,
    /// The most bytes that a selected buffer gets; 0 for as many as it holds.
    pub(in crate::sim) limit: usize,
}

/// What is known of a message that has come.
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct Letter {
    /// The address from which it came.
    pub(in crate::sim) from: Vec<u8>,
    /// `MSG_TRUNC`.
    pub(in crate::sim) flags: i32,
}

fn header(sqe: &Sqe) -> [u64; WORDS] {
    // SAFETY: a live `struct msghdr` of so many words, for which the program vouched (OP1).
    unsafe { read_value(sqe.addr) }
}

fn given_len(words: &[u64; WORDS]) -> i32 {
    i32::from_ne_bytes(words[1].to_ne_bytes()[..4].try_into().expect("four bytes"))
}

/// The length of a name; none if there is no name.
fn name_len(words: &[u64; WORDS]) -> Result<usize, i32> {
    match usize::try_from(given_len(words)) {
        _ if words[0] == 0 => Ok(0),
        Ok(len) => Ok(len.min(128)),
        Err(_) => Err(libc::EINVAL),
    }
}

pub(super) fn receive_message(sqe: &Sqe) -> Result<(Job, Vec<Span>), i32> {
    let Job::Recv(mut how) = receive(sqe)? else { unreachable!("as `receive` makes it") };
    let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
    let words = header(sqe);
    let (name, control) = (name_len(&words)?, usize::try_from(words[5]).expect("64 bits"));
    // With room for control data, it is not tried again for the rest (v6.18).
    how.whole &= control == 0;
    // Again and again, the length counts even without a name.
    let name = match how.repeats {
        true => usize::try_from(given_len(&words)).map_err(|_| libc::EOVERFLOW)?,
        false => name,
    };
    let mut spans = Vec::new();
    if !how.repeats {
        spans.push(Span { address: sqe.addr, len: HEADER, use_: Use::Both });
    }
    if name > 0 && !how.repeats {
        spans.push(Span { address: words[0], len: name, use_: Use::Writes });
    }
    let others = spans.len();
    let mut limit = 0;
    match words[3] {
        2.. if selects => return Err(libc::EINVAL),
        1 if selects => limit = vectors_at(words[2], 1, Use::Writes)[0].len,
        0 if selects => {}
        count => spans.extend(vectors_at(words[2], vectors(count)?, Use::Writes)),
    }
    Ok((Job::RecvMessage(how, Envelope { name, control, others, limit }), spans))
}

pub(super) fn send_message(sqe: &Sqe) -> Result<(Job, Vec<Span>), i32> {
    if sqe.off != 0 || sqe.file_index != 0 {
        return Err(libc::EINVAL);
    }
    let Job::Send(how) = send(sqe)? else { unreachable!("as `send` makes it") };
    let words = header(sqe);
    let spans = vectors_at(words[2], vectors(words[3])?, Use::Reads);
    let to = match name_len(&words)? {
        0 => None,
        len => Some(address_at(words[0], len)?),
    };
    if words[4] != 0 && words[5] != 0 {
        return Err(libc::EINVAL);
    }
    Ok((Job::Send(How { to, ..how }), spans))
}

fn vectors(count: u64) -> Result<u32, i32> {
    u32::try_from(count).ok().filter(|&count| count <= MAX_VECTORS).ok_or(libc::EMSGSIZE)
}
