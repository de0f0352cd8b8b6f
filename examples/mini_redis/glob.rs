//! Patterns of KEYS: `*`, `?`, `[a-c]`, `[^x]`, `\` before what stands for itself.
//!
//! A star that fails later is tried one byte further, and only the last one: no pattern takes
//! longer than its length times that of the text.

/// Whether `text` is as `pattern` says.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Behind the last star, and what it has not swallowed yet.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            star = Some((pattern, text));
            continue;
        }
        if pattern.is_empty() && text.is_empty() {
            return true;
        }
        match (one(pattern, text.first().copied()), text) {
            (Some(rest), [_, left @ ..]) => (pattern, text) = (rest, left),
            _ => match star {
                Some((after, [_, left @ ..])) => {
                    (pattern, text) = (after, left);
                    star = Some((after, left));
                }
                _ => return false,
            },
        }
    }
}

/// What is left of `pattern` behind the part that stands for one byte, if that is `byte`.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<&[u8]> {
    let byte = byte?;
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let (is_in, rest) = set(rest, byte);
            is_in.then_some(rest)
        }
        [b'\\', literal, rest @ ..] => (*literal == byte).then_some(rest),
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Whether `byte` is in the set, and what is behind it. A set without an end goes to the end.
fn set(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (is_not, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut is_in = false;
    loop {
        rest = match rest {
            [] => return (is_in != is_not, rest),
            [b']', rest @ ..] => return (is_in != is_not, rest),
            [b'\\', literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
        };
    }
}
