//! The bytes that liburing writes, decoded by our field names.
//!
//! Each row names a function of liburing, its arguments (each a number that appears nowhere else),
//! which field should hold which argument, and the 64 bytes that it wrote:
//!
//! ```text
//! io_uring_prep_fsync   fd=0x3110 fsync_flags=0x3220   FSYNC   fd=fd op_flags=fsync_flags   0300..
//! ```
//!
//! A field that the row does not name must be zero: nothing was written elsewhere.

use std::collections::BTreeMap;
use std::mem::offset_of;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{FILE_INDEX_ALLOC, SqeFlags};
use annulus_sys::opcode::Opcode;

use crate::{number, rows};

const GOLDEN: &str = include_str!("../data/sqe-golden.tsv");

/// Our fields, and how many bytes of the 64 each takes, at the offset that our struct gives it.
const FIELDS: &[(&str, usize, usize)] = &[
    ("flags", offset_of!(Sqe, flags), 1),
    ("ioprio", offset_of!(Sqe, ioprio), 2),
    ("fd", offset_of!(Sqe, fd), 4),
    ("off", offset_of!(Sqe, off), 8),
    ("addr", offset_of!(Sqe, addr), 8),
    ("len", offset_of!(Sqe, len), 4),
    ("op_flags", offset_of!(Sqe, op_flags), 4),
    ("user_data", offset_of!(Sqe, user_data), 8),
    ("buf_index", offset_of!(Sqe, buf_index), 2),
    ("personality", offset_of!(Sqe, personality), 2),
    ("file_index", offset_of!(Sqe, file_index), 4),
    ("addr3", offset_of!(Sqe, addr3), 8),
    ("pad2", offset_of!(Sqe, pad2), 8),
];

/// The bytes of a row, from their hexadecimal form.
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap()).collect()
}

/// The little-endian number in `bytes`.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The right side of the `=`: an argument, a number, a name, or two of them.
fn value(text: &str, arguments: &BTreeMap<&str, i128>) -> i128 {
    if let Some((left, right)) = text.split_once('+') {
        return value(left, arguments) + value(right, arguments);
    }
    if let Some((left, right)) = text.split_once('|') {
        return value(left, arguments) | value(right, arguments);
    }
    match text {
        "AT_FDCWD" => i128::from(libc::AT_FDCWD),
        "ALLOC(~0)" => i128::from(FILE_INDEX_ALLOC),
        "IOSQE_BUFFER_SELECT" => i128::from(SqeFlags::BUFFER_SELECT.bits()),
        _ => arguments.get(text).copied().unwrap_or_else(|| number(text)),
    }
}

/// The numbers that a row's statements write to our fields.
fn expected<'a>(row: &[&'a str]) -> BTreeMap<&'a str, i128> {
    let arguments: BTreeMap<_, _> = row[1]
        .split_whitespace()
        .filter_map(|argument| argument.split_once('='))
        .map(|(name, text)| (name, number(text)))
        .collect();
    let mut fields = BTreeMap::new();
    for (field, text) in row[3].split_whitespace().filter_map(|word| word.split_once('=')) {
        if field == "addr[lo]" {
            // Two arguments of 32 bits share the field: `level,[hi]=optname`.
            let (low, high) = text.split_once(",[hi]=").expect("the upper half follows");
            fields.insert("addr", value(low, &arguments) | value(high, &arguments) << 32);
        } else {
            fields.insert(field, value(text, &arguments));
        }
    }
    fields
}

#[test]
fn liburing_writes_each_argument_into_the_field_of_that_name() {
    let mut wrong = Vec::new();
    for row in rows(GOLDEN) {
        let sqe = bytes(row[4]);
        assert_eq!(sqe.len(), size_of::<Sqe>(), "{}", row[0]);
        let mut expected = expected(&row);
        for (field, offset, size) in FIELDS {
            let bits = 8 * size;
            let here = expected.remove(field).unwrap_or(0) & ((1 << bits) - 1);
            let there = word(&sqe[*offset..offset + size]);
            if here != i128::from(there) {
                wrong.push(format!("{}: {field} is {there:#x} and not {here:#x}", row[0]));
            }
        }
        assert!(expected.is_empty(), "{}: no such field: {expected:?}", row[0]);
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn liburing_writes_our_number_of_each_opcode() {
    let mut seen = 0;
    for row in rows(GOLDEN).filter(|row| row[2] != "(modifier)") {
        let opcode = Opcode(bytes(row[4])[offset_of!(Sqe, opcode)]);
        assert_eq!(opcode.name(), Some(row[2]), "{}", row[0]);
        seen += 1;
    }
    assert!(seen > 70, "the table shrank to {seen} rows");
}

#[test]
fn our_fields_cover_the_64_bytes_without_gap_or_overlap() {
    let mut end = size_of::<Opcode>();
    for (field, offset, size) in FIELDS {
        assert_eq!(*offset, end, "{field}");
        end += size;
    }
    assert_eq!(end, size_of::<Sqe>());
}
