//! Tables of buffers: `struct iovec`.
#![allow(unsafe_code, reason = "reads what entries point to")]

use super::super::region::{Span, Use, read_value};

/// The most buffers of a vectored request.
pub(super) const MAX_VECTORS: u32 = 1024;

/// The memory that a table of `struct iovec` names.
pub(super) fn vectors_at(table: u64, count: u32, use_: Use) -> Vec<Span> {
    let at = |index: u64| table + index * size_of::<[u64; 2]>() as u64;
    let vector = |index| {
        // SAFETY: `count` live `struct iovec` of two words, for which the program vouched as it
        // pushed the entry (OP1).
        let [address, len] = unsafe { read_value::<[u64; 2]>(at(index)) };
        let len = usize::try_from(len).expect("64 bits");
        Span { address, len, use_ }
    };
    (0..u64::from(count)).map(vector).collect()
}
