//! Control data: what the kernel writes beside a message's bytes, one message after the other.
//!
//! ```text
//!   │ len │ SOL_SOCKET │ SCM_RIGHTS │ fd │ fd │ │ len │ SOL_IP │ IP_TTL │ 64 │ │ …
//!   └──────────── HEAD ─────────────┘           └ at the next multiple of 8
//! ```
//!
//! Its lengths are taken for no more than there is. Descriptors travel in it as numbers: whoever
//! has the data takes them out, once, and shows the rest only.
//!
//! Keeps OP3. Leaves to others: which bytes are the kernel's word.
#![allow(unsafe_code, reason = "takes numbers for descriptors")]

use std::os::fd::{FromRawFd, OwnedFd};

/// Before each control message: its length with these bytes, its level and its kind.
pub(super) const HEAD: usize = 16;
const _: () = assert!(HEAD == size_of::<libc::cmsghdr>());

/// `SCM_PIDFD`, since Linux 6.5: a descriptor of the sender's process.
pub(super) const PIDFD: i32 = 4;

/// One control message, other than those with descriptors, as the kernel wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control<'a> {
    /// The protocol that it is of (`SOL_SOCKET`, `IPPROTO_IP`).
    pub level: i32,
    /// What it is (`SCM_TIMESTAMP`, `IP_PKTINFO`).
    pub kind: i32,
    /// Its bytes.
    pub data: &'a [u8],
}

/// The descriptors that came with a message.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// Those that the sender passed, in order.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The sender's process.
    pub(crate) process: Option<OwnedFd>,
}

impl Came {
    pub(crate) fn is_empty(&self) -> bool {
        self.descriptors.is_empty() && self.process.is_none()
    }
}

/// Where one control message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    level: i32,
    kind: i32,
    start: usize,
    end: usize,
}

impl Found {
    /// The control message at `at`. `None` when there is none, or it would not lie inside.
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

    /// Where the next may begin.
    fn after(self) -> usize {
        self.end.next_multiple_of(8)
    }

    /// Whether it is made of numbers of descriptors.
    fn names_descriptors(self) -> bool {
        self.level == libc::SOL_SOCKET && matches!(self.kind, libc::SCM_RIGHTS | PIDFD)
    }
}

/// The messages in `control` that are no numbers of descriptors.
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

/// Takes every descriptor out of `control`, and leaves -1 in its place.
///
/// # Safety
///
/// The kernel wrote each number there that names a descriptor, for whoever calls, and nobody has
/// taken it yet (OP3).
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
            // SAFETY: the kernel made it for this message, as promised to `adopt`; and it is taken
            // once, since -1 stands there now (OP3).
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            match found.kind {
                PIDFD => came.process = Some(descriptor),
                _ => came.descriptors.push(descriptor),
            }
        }
    }
    came
}
