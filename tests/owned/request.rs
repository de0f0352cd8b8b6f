//! A request that the kernel has, and the memory that it uses.
//!
//! ```text
//!   READ    every enter: still what the kernel wrote last? then other bytes, all over the buffer
//!   WRITE   every enter: still the bytes that were there when the request came?
//! ```
//!
//! So a buffer that is freed, moved or lent to another operation while a request has it is noticed
//! at the next enter, and by AddressSanitizer at once.
//!
//! # Safety
//!
//! Touches the memory that entries point to, which is what these tests are to prove sound (OP1);
//! once a fault was found, touches no memory any more.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::ptr;

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::{RecvSendFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

use super::chance::Chance;
use super::ledger::{OpId, Tie};

/// A request.
#[derive(Debug)]
pub struct Request {
    pub user_data: u64,
    /// The operation; `None` for an internal request.
    pub op: Option<OpId>,
    pub role: Role,
    pub region: Region,
    pub state: State,
    /// Which chain it belongs to, if any.
    pub chain: Option<u64>,
    pub tie: Tie,
    /// Never to be completed.
    pub stays: bool,
    /// How many completions with `F_MORE` it had.
    pub completions: u32,
    /// The buffer that it has selected.
    pub bid: Option<u16>,
}

/// The role of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Completes once.
    Plain,
    /// Cancels the request with that `user_data`.
    Cancel(u64),
    /// Bounds the request before it, as a link timeout.
    Clock,
    /// Fills a buffer of that group, selected when data comes.
    Picked(u16),
    /// Fills one buffer after the other.
    Many(u16),
    /// Completes, and notifies later.
    Notified,
}

/// The state of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for the requests before it in its chain.
    Waiting,
    Running,
    /// It is cancelled, and will complete as cancelled.
    Doomed,
}

/// Memory of a request.
#[derive(Debug, Clone, Default)]
pub struct Region {
    address: u64,
    len: usize,
    use_: Use,
    /// The bytes that must be there; `None` before the first touch.
    image: Option<Vec<u8>>,
}

/// What the kernel does with the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Use {
    #[default]
    Nothing,
    Reads,
    Writes,
}

impl Region {
    /// The `len` bytes at `address`.
    pub fn new(address: u64, len: u32, use_: Use) -> Self {
        Self { address, len: len as usize, use_, image: None }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// What the kernel has written there.
    pub fn written(&self) -> Vec<u8> {
        let image = self.image.as_ref().filter(|_| self.use_ == Use::Writes);
        image.cloned().unwrap_or_default()
    }

    /// Uses the memory; returns whether it is as the kernel left it.
    pub fn touch(&mut self, chance: &mut Chance) -> bool {
        match self.use_ {
            Use::Nothing => true,
            Use::Reads => {
                let now = self.read();
                let before = self.image.get_or_insert_with(|| now.clone());
                *before == now
            }
            Use::Writes => {
                let is_same = self.image.as_ref().is_none_or(|image| *image == self.read());
                if is_same {
                    self.write(chance.bytes(self.len));
                }
                is_same
            }
        }
    }

    /// Writes these bytes.
    pub fn write(&mut self, bytes: Vec<u8>) {
        let at = ptr::with_exposed_provenance_mut::<u8>(self.at());
        assert_eq!(bytes.len(), self.len);
        // SAFETY: memory of a request that the kernel has (OP1).
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, self.len) };
        self.image = Some(bytes);
    }

    fn read(&self) -> Vec<u8> {
        let at = ptr::with_exposed_provenance::<u8>(self.at());
        let mut bytes = vec![0; self.len];
        // SAFETY: memory of a request that the kernel has (OP1); the kernel has written it, or the
        // request offers it to be read.
        unsafe { ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), self.len) };
        bytes
    }

    fn at(&self) -> usize {
        usize::try_from(self.address).expect("64 bits")
    }
}

impl Request {
    /// The request that `sqe` asks for, or why the program cannot have pushed it.
    pub fn of(sqe: &Sqe, op: Option<OpId>) -> Result<Self, String> {
        let (role, use_) = match sqe.opcode {
            Opcode::NOP => (Role::Plain, Use::Nothing),
            Opcode::READ => (Role::Plain, Use::Writes),
            Opcode::WRITE => (Role::Plain, Use::Reads),
            Opcode::ASYNC_CANCEL => (Role::Cancel(sqe.addr), Use::Nothing),
            Opcode::LINK_TIMEOUT => (Role::Clock, Use::Reads),
            Opcode::SEND_ZC => (Role::Notified, Use::Reads),
            Opcode::RECV if sqe.flags.contains(SqeFlags::BUFFER_SELECT) => {
                let many = sqe.ioprio & RecvSendFlags::RECV_MULTISHOT.bits() != 0;
                let role = if many { Role::Many } else { Role::Picked };
                (role(sqe.buf_index), Use::Nothing)
            }
            other => return Err(format!("an entry with {other:?} was consumed")),
        };
        let len = match role {
            Role::Clock => u32::try_from(size_of::<Timespec>()).expect("16 bytes"),
            _ => sqe.len,
        };
        let tie = if sqe.flags.contains(SqeFlags::IO_HARDLINK) {
            Tie::Hard
        } else if sqe.flags.contains(SqeFlags::IO_LINK) {
            Tie::Soft
        } else {
            Tie::None
        };
        Ok(Self {
            user_data: sqe.user_data,
            op,
            role,
            region: Region::new(sqe.addr, len, use_),
            state: State::Running,
            chain: None,
            tie,
            stays: false,
            completions: 0,
            bid: None,
        })
    }

    /// Whether the kernel may complete it now.
    pub fn may_complete(&self) -> bool {
        !self.stays && self.state != State::Waiting
    }

    /// Whether it did everything it was asked to, having ended with `result`.
    pub fn succeeded(&self, result: i32) -> bool {
        match self.region.use_ {
            Use::Nothing => result >= 0,
            Use::Reads | Use::Writes => usize::try_from(result) == Ok(self.region.len),
        }
    }
}
