//! Commands about text, and about text that is a number.

use std::mem::take;

use crate::commands::{Context, Outcome, Refusal, integer, wrong_count};
use crate::keys::{deadline, invalid_time};
use crate::reply::Replies;
use crate::resp;
use crate::store::Value;

pub fn get(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    match on.shared.store.text(&args[0])? {
        Some(text) => replies.bulk(text),
        None => replies.no_bulk(),
    }
    Ok(())
}

/// What SET is asked for beside a key and a value.
#[derive(Default)]
struct Asked<'a> {
    /// The span, and how many milliseconds one of it has.
    span: Option<(&'a [u8], i64)>,
    /// `Some(true)`: only if the key is there; `Some(false)`: only if not.
    if_there: Option<bool>,
}

/// Reads NX, XX, EX and PX. A number is looked at when all else is right, as Redis does.
fn asked(args: &[Vec<u8>]) -> Result<Asked<'_>, Refusal> {
    let mut asked = Asked::default();
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        let word = word.to_ascii_uppercase();
        match (word.as_slice(), asked.if_there, asked.span) {
            (b"NX", None | Some(false), _) => asked.if_there = Some(false),
            (b"XX", None | Some(true), _) => asked.if_there = Some(true),
            (b"EX" | b"PX", _, None) => {
                let unit = if word == b"EX" { 1000 } else { 1 };
                asked.span = Some((rest.next().ok_or(Refusal::Syntax)?, unit));
            }
            _ => return Err(Refusal::Syntax),
        }
    }
    Ok(asked)
}

pub fn set(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let store = &mut on.shared.store;
    let Asked { span, if_there } = asked(&args[2..])?;
    let until = |(span, unit)| match deadline(store.now, integer(span)?, unit, "set")? {
        Some(until) => Ok(until),
        None => Err(invalid_time("set")), // It would be over at once.
    };
    let until = span.map(until).transpose()?;
    let is_there = store.get(&args[0]).is_some();
    if if_there.is_some_and(|wanted| wanted != is_there) {
        replies.no_bulk();
        return Ok(());
    }
    store.set(take(&mut args[0]), Value::Text(take(&mut args[1])), until);
    replies.simple("OK");
    Ok(())
}

pub fn mget(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.array(args.len());
    for key in args {
        match on.shared.store.text(key) {
            Ok(Some(text)) => replies.bulk(text),
            _ => replies.no_bulk(),
        }
    }
    Ok(())
}

pub fn mset(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(wrong_count("mset"));
    }
    for pair in args.chunks_mut(2) {
        on.shared.store.set(take(&mut pair[0]), Value::Text(take(&mut pair[1])), None);
    }
    replies.simple("OK");
    Ok(())
}

pub fn strlen(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.count(on.shared.store.text(&args[0])?.map_or(0, <[u8]>::len));
    Ok(())
}

pub fn append(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let (longest, store) = (on.shared.longest, &mut on.shared.store);
    let before = store.text(&args[0])?.map_or(0, <[u8]>::len);
    if before + args[1].len() > longest {
        let why = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        return Err(Refusal::Other(why));
    }
    let len = store.change_text(&args[0], |text| {
        text.extend_from_slice(&args[1]);
        text.len()
    })?;
    replies.count(len);
    Ok(())
}

pub fn incr(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    add(on, &args[0], 1, replies)
}

pub fn decr(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    add(on, &args[0], -1, replies)
}

pub fn incrby(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    add(on, &args[0], integer(&args[1])?, replies)
}

pub fn decrby(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let by = integer(&args[1])?.checked_neg();
    add(on, &args[0], by.ok_or(Refusal::Other("ERR decrement would overflow"))?, replies)
}

fn add(on: &mut Context<'_>, key: &[u8], by: i64, replies: &mut Replies) -> Outcome {
    let store = &mut on.shared.store;
    let before = match store.text(key)? {
        Some(text) => resp::integer(text).ok_or(Refusal::NotInteger)?,
        None => 0,
    };
    let overflow = Refusal::Other("ERR increment or decrement would overflow");
    let sum = before.checked_add(by).ok_or(overflow)?;
    store.change_text(key, |text| *text = sum.to_string().into_bytes())?;
    replies.integer(sum);
    Ok(())
}
