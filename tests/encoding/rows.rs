//! The rows of a table of entries: names, arguments, and the entry that they make.

use std::collections::BTreeMap;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{FILE_INDEX_ALLOC, SqeFlags};
use annulus_sys::opcode::Opcode;

/// The arguments of a call, by name.
pub struct Arguments(BTreeMap<&'static str, i64>);

/// A function, its arguments, and the entry that it wrote.
pub struct Row {
    pub name: &'static str,
    pub arguments: Arguments,
    /// `None` for functions that change an existing entry.
    pub opcode: Option<Opcode>,
    /// `field=argument`, each.
    statements: &'static str,
    /// Hexadecimal, where liburing was run.
    bytes: Option<&'static str>,
}

/// The rows of `text`, without its comments.
pub fn table(text: &'static str) -> impl Iterator<Item = Row> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(Row::of)
}

impl Arguments {
    fn of(text: &'static str) -> Self {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name, number(value))).collect())
    }

    fn get(&self, name: &str) -> i64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no argument {name}"))
    }

    /// A descriptor, or another `int`.
    pub fn fd(&self, name: &str) -> i32 {
        self.get(name).try_into().expect("32 bits")
    }

    /// An address, an offset, or another number of 64 bits.
    pub fn word(&self, name: &str) -> u64 {
        self.get(name).cast_unsigned()
    }

    /// A length, flags, or another number of 32 bits.
    pub fn len(&self, name: &str) -> u32 {
        self.get(name).try_into().expect("32 bits")
    }

    /// An index in a table, or another number of 16 bits.
    pub fn index(&self, name: &str) -> u16 {
        self.get(name).try_into().expect("16 bits")
    }

    /// The right side of a statement's `=`: an argument, a number, a name, or two of them.
    fn value(&self, text: &str) -> i64 {
        if let Some((left, right)) = text.split_once('+') {
            return self.value(left) + self.value(right);
        }
        if let Some((left, right)) = text.split_once('|') {
            return self.value(left) | self.value(right);
        }
        match text {
            "AT_FDCWD" => libc::AT_FDCWD.into(),
            "ALLOC(~0)" => FILE_INDEX_ALLOC.into(),
            "IOSQE_BUFFER_SELECT" => SqeFlags::BUFFER_SELECT.bits().into(),
            _ => self.0.get(text).copied().unwrap_or_else(|| number(text)),
        }
    }
}

impl Row {
    fn of(line: &'static str) -> Self {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_else(|| panic!("too few columns: {line}"));
        let (name, arguments, opcode, statements) = (next(), next(), next(), next());
        let mut opcodes = (0..=u8::MAX).map(Opcode);
        let opcode = opcodes.find(|number| number.name() == Some(opcode));
        let arguments = Arguments::of(arguments);
        Self { name, arguments, opcode, statements, bytes: columns.next() }
    }

    /// The entry: from its bytes where liburing was run.
    pub fn entry(&self) -> Sqe {
        let Some(digits) = self.bytes else { return self.spelled() };
        assert_eq!(digits.len(), 2 * size_of::<Sqe>(), "{}", self.name);
        let word = |at: usize| {
            let digits = u64::from_str_radix(&digits[16 * at..16 * (at + 1)], 16);
            digits.expect("hexadecimal").swap_bytes()
        };
        Sqe::from_words(std::array::from_fn(word))
    }

    /// The entry that the statements make.
    pub fn spelled(&self) -> Sqe {
        let opcode = self.opcode.unwrap_or_else(|| panic!("{} has no opcode", self.name));
        let mut sqe = Sqe { opcode, ..Sqe::ZERO };
        for (field, text) in self.statements.split_whitespace().filter_map(|s| s.split_once('=')) {
            if field == "addr[lo]" {
                // Two arguments of 32 bits share the field: `level,[hi]=optname`.
                let (low, high) = text.split_once(",[hi]=").expect("the upper half follows");
                let both = self.arguments.value(low) | self.arguments.value(high) << 32;
                sqe.addr = both.cast_unsigned();
            } else {
                set(&mut sqe, field, self.arguments.value(text));
            }
        }
        sqe
    }
}

/// Sets a field; a negative number fills its bits.
fn set(sqe: &mut Sqe, field: &str, value: i64) {
    let [a, b, c, d, ..] = value.to_le_bytes();
    let half = u32::from_le_bytes([a, b, c, d]);
    match field {
        "flags" => sqe.flags = SqeFlags::from_bits_retain(a),
        "ioprio" => sqe.ioprio = u16::from_le_bytes([a, b]),
        "fd" => sqe.fd = half.cast_signed(),
        "off" => sqe.off = value.cast_unsigned(),
        "addr" => sqe.addr = value.cast_unsigned(),
        "len" => sqe.len = half,
        "op_flags" => sqe.op_flags = half,
        "buf_index" => sqe.buf_index = u16::from_le_bytes([a, b]),
        "file_index" => sqe.file_index = half,
        "addr3" => sqe.addr3 = value.cast_unsigned(),
        "pad2" => sqe.pad2 = value.cast_unsigned(),
        _ => panic!("there is no field {field}"),
    }
}

/// A number as the tables write it: decimal or hexadecimal, with a sign or without.
fn number(text: &str) -> i64 {
    let digits = text.strip_prefix("0x").map(|digits| i64::from_str_radix(digits, 16));
    let number = digits.unwrap_or_else(|| text.parse());
    number.unwrap_or_else(|error| panic!("{text}: {error}"))
}
