//! Control data: the control messages that accompany a socket message, one after the other.
//!
//! ```text
//!   │ len │ SOL_SOCKET │ SCM_RIGHTS │ fd │ fd │ │ len │ SOL_IP │ IP_TTL │ 64 │ │ …
//!   └──────────── HEAD ─────────────┘           └ at the next multiple of 8
//! ```
//!
//! Lengths in it are clamped to the data there is. Descriptors travel in it as numbers. The owner
//! of the data takes them out once, and shows only the other messages.
//!
//! Keeps OP3. Leaves to others: which bytes the kernel wrote; what received control messages say
//! (`received`); which ones may be sent (`send`).
#![allow(unsafe_code, reason = "turns numbers into descriptors")]

pub(crate) mod received;
pub(crate) mod send;

use std::os::fd::{FromRawFd, OwnedFd};

pub(crate) use send::SendControl;

/// The header of each control message: its length including this header, its level, and its type.
pub(crate) const HEAD: usize = 16;
const _: () = assert!(HEAD == size_of::<libc::cmsghdr>());

/// `SCM_PIDFD`, since Linux 6.5: a descriptor of the sender's process.
pub(crate) const PIDFD: i32 = 4;

/// `UDP_SEGMENT`: the size of the datagrams into which the kernel cuts what is sent.
const UDP_SEGMENT: i32 = 103;
/// `UDP_GRO`: the size of the datagrams that the kernel put together.
const UDP_GRO: i32 = 104;

/// One control message as the kernel wrote it, except those that carry descriptors. Its methods
/// read the data of the common ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control<'a> {
    /// Its protocol level (`SOL_SOCKET`, `IPPROTO_IP`).
    pub level: i32,
    /// Its type (`SCM_TIMESTAMP`, `IP_PKTINFO`).
    pub kind: i32,
    /// Its data.
    pub data: &'a [u8],
}

/// The descriptors that came with a message.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// Descriptors that the sender passed, in order.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The sender's process (`SCM_PIDFD`).
    pub(crate) process: Option<OwnedFd>,
}

impl Came {
    pub(crate) fn is_empty(&self) -> bool {
        self.descriptors.is_empty() && self.process.is_none()
    }
}

/// The position of one control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    level: i32,
    kind: i32,
    start: usize,
    end: usize,
}

impl Found {
    /// The control message at offset `at`. `None` when there is none, or when it would not lie
    /// inside.
    fn at(control: &[u8], at: usize) -> Option<Self> {
        let (len, rest) = control.get(at..)?.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let len = usize::try_from(u64::from_ne_bytes(*len)).ok()?;
        let end = at.checked_add(len)?;
        let fits = len >= HEAD && end <= control.len();
        let (level, kind) = (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind));
        fits.then_some(Self { level, kind, start: at + HEAD, end })
    }

    /// Where the next control message may begin.
    fn after(self) -> usize {
        self.end.next_multiple_of(8)
    }

    /// Whether its data is a list of descriptors.
    fn names_descriptors(self) -> bool {
        self.level == libc::SOL_SOCKET && matches!(self.kind, libc::SCM_RIGHTS | PIDFD)
    }
}

/// The messages in `control` that carry no descriptors.
pub(crate) fn messages(control: &[u8]) -> impl Iterator<Item = Control<'_>> {
    let mut at = 0;
    let all = std::iter::from_fn(move || {
        let found = Found::at(control, at)?;
        at = found.after();
        Some(found)
    });
    let others = all.filter(|found| !found.names_descriptors());
    others.map(|Found { level, kind, start, end }| {
        let data = control.get(start..end).unwrap_or_default();
        Control { level, kind, data }
    })
}

/// Writes a control message of this level and type to `control` at offset `at`, and returns where
/// it ends.
pub(crate) fn put(control: &mut [u8], at: usize, name: (i32, i32), data: &[u8]) -> usize {
    let end = at + HEAD + data.len();
    let (head, place) = control[at..end].split_at_mut(HEAD);
    head[..8].copy_from_slice(&((HEAD + data.len()) as u64).to_ne_bytes());
    head[8..12].copy_from_slice(&name.0.to_ne_bytes());
    head[12..].copy_from_slice(&name.1.to_ne_bytes());
    place.copy_from_slice(data);
    end
}

/// Takes every descriptor out of `control`, and leaves -1 in its place.
///
/// # Safety
///
/// The kernel wrote each descriptor in `control` for the caller, and no code has taken it yet
/// (OP3).
pub(crate) unsafe fn adopt(control: &mut [u8]) -> Came {
    let (mut came, mut at) = (Came::default(), 0);
    while let Some(found) = Found::at(control, at) {
        at = found.after();
        if !found.names_descriptors() {
            continue;
        }
        for place in control[found.start..found.end].chunks_exact_mut(4) {
            let number = i32::from_ne_bytes([place[0], place[1], place[2], place[3]]);
            place.fill(0xff);
            if number < 0 {
                continue;
            }
            // SAFETY: the kernel made the descriptor for this message, as promised to `adopt`. It
            // is taken once, because -1 stands in its place now (OP3).
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            match found.kind {
                PIDFD => came.process = Some(descriptor),
                _ => came.descriptors.push(descriptor),
            }
        }
    }
    came
}
