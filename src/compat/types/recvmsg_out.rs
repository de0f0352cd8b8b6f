//! What a multishot receive wrote into its buffer.
//!
//! ```text
//!   header │ name, msg_namelen bytes │ control, msg_controllen bytes │ payload
//! ```

use annulus_sys::abi::RecvmsgOut;

/// A message in the buffer that [`RecvMsgMulti`](super::super::opcode::RecvMsgMulti) filled.
#[derive(Debug)]
pub struct RecvMsgOut<'buf> {
    header: RecvmsgOut,
    /// How many bytes the name has room for.
    name_room: usize,
    name: &'buf [u8],
    control: &'buf [u8],
    payload: &'buf [u8],
}

impl<'buf> RecvMsgOut<'buf> {
    /// Splits the buffer. `msghdr` is that of the request, whose lengths say where the parts lie.
    ///
    /// # Errors
    ///
    /// When the buffer is shorter than the header, the name and the control data have room for.
    #[expect(clippy::result_unit_err, reason = "the signature of the peer")]
    pub fn parse(buffer: &'buf [u8], msghdr: &libc::msghdr) -> Result<Self, ()> {
        let (header, rest) = header(buffer).ok_or(())?;
        let name_room = msghdr.msg_namelen as usize;
        let (name, rest) = rest.split_at_checked(name_room).ok_or(())?;
        #[allow(clippy::unnecessary_cast, reason = "musl's type is narrower")]
        let (control, payload) = rest.split_at_checked(msghdr.msg_controllen as usize).ok_or(())?;
        Ok(Self {
            header,
            name_room,
            name: up_to(name, header.namelen),
            control: up_to(control, header.controllen),
            payload: up_to(payload, header.payloadlen),
        })
    }

    /// The length of the sender's address, which may be more than there was room for.
    pub fn incoming_name_len(&self) -> u32 {
        self.header.namelen
    }

    /// Whether the address was longer than there was room for.
    pub fn is_name_data_truncated(&self) -> bool {
        self.header.namelen as usize > self.name_room
    }

    /// The sender's address.
    pub fn name_data(&self) -> &[u8] {
        self.name
    }

    /// The length of the control data.
    pub fn incoming_control_len(&self) -> u32 {
        self.header.controllen
    }

    /// Whether control data was lost for lack of room.
    pub fn is_control_data_truncated(&self) -> bool {
        self.flags() & libc::MSG_CTRUNC.cast_unsigned() != 0
    }

    /// The control data.
    pub fn control_data(&self) -> &[u8] {
        self.control
    }

    /// Whether the payload was longer than there was room for.
    pub fn is_payload_truncated(&self) -> bool {
        self.flags() & libc::MSG_TRUNC.cast_unsigned() != 0
    }

    /// The payload.
    pub fn payload_data(&self) -> &[u8] {
        self.payload
    }

    /// The length of the payload, which may be more than there was room for.
    pub fn incoming_payload_len(&self) -> u32 {
        self.header.payloadlen
    }

    /// `MSG_*`, as `msg_flags` of `recvmsg(2)`.
    pub fn flags(&self) -> u32 {
        self.header.flags
    }
}

/// The header, and what follows it.
fn header(buffer: &[u8]) -> Option<(RecvmsgOut, &[u8])> {
    let (words, rest) = buffer.split_at_checked(size_of::<RecvmsgOut>())?;
    let (words, _) = words.as_chunks::<4>();
    let [namelen, controllen, payloadlen, flags] = <[[u8; 4]; 4]>::try_from(words).ok()?;
    let word = u32::from_ne_bytes;
    let header = RecvmsgOut {
        namelen: word(namelen),
        controllen: word(controllen),
        payloadlen: word(payloadlen),
        flags: word(flags),
    };
    Some((header, rest))
}

/// The part of `room` that was filled: all of it, if more came.
fn up_to(room: &[u8], len: u32) -> &[u8] {
    &room[..room.len().min(len as usize)]
}
