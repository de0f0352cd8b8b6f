//! The parser of `mini_redis`, without a server.

use proptest::prelude::*;

use crate::resp::{Broken, Command, Parser, integer};

/// The commands in `pieces`, and how it ends if it does.
fn parse(pieces: &[&[u8]], longest: usize) -> (Vec<Command>, Option<Broken>) {
    let (mut parser, mut commands) = (Parser::new(longest), Vec::new());
    for piece in pieces {
        parser.feed(piece);
        loop {
            match parser.next() {
                Ok(Some(command)) => commands.push(command),
                Ok(None) => break,
                Err(why) => return (commands, Some(why)),
            }
        }
    }
    (commands, None)
}

fn written(command: &Command) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend([word.as_slice(), b"\r\n"].concat());
    }
    bytes
}

fn command() -> impl Strategy<Value = Command> {
    let word = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec(word, 1..5)
}

proptest! {
    #[test]
    fn commands_are_what_was_written_wherever_the_bytes_are_split(
        commands in prop::collection::vec(command(), 0..5),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(written).collect();
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(parse(&one_by_one, 100), (commands.clone(), None));
        for at in 0..=bytes.len() {
            let (before, after) = bytes.split_at(at);
            prop_assert_eq!(parse(&[before, after], 100), (commands.clone(), None));
        }
    }

    #[test]
    fn any_bytes_mean_the_same_wherever_they_are_split(
        bytes in "([*$+a-c \"'\\\\x0-9-]|\r\n|\\*[0-9]\r\n|\\$[0-9]\r\n){0,40}",
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = bytes.as_bytes();
        let whole = parse(&[bytes], 100);
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(parse(&one_by_one, 100), whole.clone());
        let (before, after) = bytes.split_at(at.index(bytes.len() + 1));
        prop_assert_eq!(parse(&[before, after], 100), whole);
    }
}

#[test]
fn a_command_has_a_limit_and_so_have_its_strings() {
    let long = |len: usize| [format!("${len}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
    let said = |bytes: &[u8]| parse(&[bytes], 1000).1.map(|Broken(why)| why);
    assert_eq!(said(&[b"*1\r\n", long(1000).as_slice()].concat()), None);
    let invalid = Some("Protocol error: invalid bulk length".to_owned());
    assert_eq!(said(b"*1\r\n$1001\r\n"), invalid);
    let big = Some("Protocol error: too big command".to_owned());
    assert_eq!(said(&[b"*3\r\n", long(1000).as_slice(), &long(900), &long(100)].concat()), big);
    // Empty strings count too.
    let many = Some("Protocol error: invalid multibulk length".to_owned());
    assert_eq!((said(b"*83\r\n"), said(b"*84\r\n")), (None, many));
}

#[test]
fn a_number_is_written_in_one_way() {
    for (text, number) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("01", None),
        ("+1", None),
        ("-0", None),
        (" 1", None),
        ("", None),
    ] {
        assert_eq!(integer(text.as_bytes()), number, "{text:?}");
    }
}
