//! The fields that are set on entries of every kind, each by a call of its own: so an entry is one
//! expression.
//!
//! ```text
//!   prep::read(fd, addr, len, offset).with_user_data(7).with_flags(SqeFlags::IO_LINK)
//! ```
//!
//! Leaves to others: what the fields of each operation mean (`annulus::prep`).

use crate::abi::Sqe;
use crate::flags::SqeFlags;

impl Sqe {
    /// Replaces the `user_data`, which comes back in each completion of the request.
    #[doc(alias("io_uring_sqe_set_data64", "io_uring_sqe_set_data"))]
    #[must_use]
    #[inline]
    pub const fn with_user_data(self, user_data: u64) -> Self {
        Self { user_data, ..self }
    }

    /// Adds flags.
    #[doc(alias = "io_uring_sqe_set_flags")]
    #[must_use]
    #[inline]
    pub const fn with_flags(self, flags: SqeFlags) -> Self {
        Self { flags: self.flags.union(flags), ..self }
    }

    /// Replaces `ioprio`: a priority, or the flags of a receive, a send or an accept.
    #[must_use]
    #[inline]
    pub const fn with_ioprio(self, ioprio: u16) -> Self {
        Self { ioprio, ..self }
    }

    /// Adds flags of the operation itself, such as `RWF_*` of a read (`rw_flags` and its like in
    /// the kernel's header).
    #[must_use]
    #[inline]
    pub const fn with_op_flags(self, op_flags: u32) -> Self {
        Self { op_flags: self.op_flags | op_flags, ..self }
    }

    /// Lets the kernel select a buffer of this group (`BUFFER_SELECT`).
    #[doc(alias = "io_uring_sqe_set_buf_group")]
    #[must_use]
    #[inline]
    pub const fn with_buf_group(self, group: u16) -> Self {
        Self { buf_index: group, ..self.with_flags(SqeFlags::BUFFER_SELECT) }
    }

    /// Acts with the credentials that were registered as this number. Since Linux 5.6.
    #[must_use]
    #[inline]
    pub const fn with_personality(self, personality: u16) -> Self {
        Self { personality, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcode::Opcode;

    #[test]
    fn each_call_sets_its_field_and_no_other() {
        let read = Sqe { opcode: Opcode::READ, fd: 3, addr: 9, len: 8, ..Sqe::ZERO };
        let link = SqeFlags::IO_LINK;
        assert_eq!(read.with_user_data(7), Sqe { user_data: 7, ..read });
        assert_eq!(read.with_ioprio(5), Sqe { ioprio: 5, ..read });
        assert_eq!(read.with_personality(2), Sqe { personality: 2, ..read });
        let linked = read.with_flags(link);
        assert_eq!(linked, Sqe { flags: link, ..read });
        let both = SqeFlags::IO_LINK | SqeFlags::BUFFER_SELECT;
        assert_eq!(linked.with_buf_group(4), Sqe { flags: both, buf_index: 4, ..read });
        assert_eq!(read.with_op_flags(1).with_op_flags(4), Sqe { op_flags: 5, ..read });
    }
}
