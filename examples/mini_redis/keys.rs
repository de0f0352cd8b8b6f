//! Commands about keys, whatever they have.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::commands::{Context, Outcome, Refusal, integer};
use crate::glob;
use crate::reply::Replies;
use crate::store::Value;

pub fn del(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.count(args.iter().filter(|key| on.shared.store.delete(key)).count());
    Ok(())
}

/// A key that is named twice counts twice.
pub fn exists(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.count(args.iter().filter(|key| on.shared.store.get(key).is_some()).count());
    Ok(())
}

pub fn kind(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.simple(match on.shared.store.get(&args[0]) {
        Some(Value::Text(_)) => "string",
        Some(Value::List(_)) => "list",
        None => "none",
    });
    Ok(())
}

pub fn expire(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    expire_in(on, args, replies, 1000, "expire")
}

pub fn pexpire(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    expire_in(on, args, replies, 1, "pexpire")
}

/// In so many units of `unit` milliseconds; at once, if that is past.
fn expire_in(
    on: &mut Context<'_>,
    args: &[Vec<u8>],
    replies: &mut Replies,
    unit: i64,
    name: &str,
) -> Outcome {
    if let Some(option) = args.get(2) {
        let option = String::from_utf8_lossy(option);
        return Err(Refusal::Text(format!("ERR Unsupported option {option}")));
    }
    let span = integer(&args[1])?;
    let store = &mut on.shared.store;
    let was_there = match deadline(store.now, span, unit, name)? {
        Some(until) => store.expire_at(&args[0], until),
        None => store.delete(&args[0]),
    };
    replies.integer(i64::from(was_there));
    Ok(())
}

/// The time after `span` units of `unit` milliseconds; `None` if that is past, or now.
pub fn deadline(
    now: Instant,
    span: i64,
    unit: i64,
    name: &str,
) -> Result<Option<Instant>, Refusal> {
    // Redis counts from 1970, and has 63 bits for it.
    let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let date = i64::try_from(date).unwrap_or(i64::MAX);
    let millis = span.checked_mul(unit).filter(|millis| millis.checked_add(date).is_some());
    match u64::try_from(millis.ok_or_else(|| invalid_time(name))?) {
        Ok(millis) if millis > 0 => match now.checked_add(Duration::from_millis(millis)) {
            None => Err(invalid_time(name)),
            until => Ok(until),
        },
        _ => Ok(None),
    }
}

pub fn invalid_time(name: &str) -> Refusal {
    Refusal::Text(format!("ERR invalid expire time in '{name}' command"))
}

pub fn ttl(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.integer(left(on, &args[0], |left| (left.as_millis() + 500) / 1000));
    Ok(())
}

pub fn pttl(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.integer(left(on, &args[0], |left| left.as_millis()));
    Ok(())
}

/// How long `key` has: -1 is forever, and -2 that it is not there.
fn left(on: &mut Context<'_>, key: &[u8], in_units: fn(Duration) -> u128) -> i64 {
    let store = &mut on.shared.store;
    let now = store.now;
    let span = |until: Instant| in_units(until.duration_since(now));
    match store.until(key) {
        Some(Some(until)) => i64::try_from(span(until)).unwrap_or(i64::MAX),
        Some(None) => -1,
        None => -2,
    }
}

pub fn keys(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let found = on.shared.store.keys(|key| glob::matches(&args[0], key));
    replies.array(found.len());
    found.iter().for_each(|key| replies.bulk(key));
    Ok(())
}

pub fn flushall(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let is_known =
        |word: &[u8]| word.eq_ignore_ascii_case(b"SYNC") || word.eq_ignore_ascii_case(b"ASYNC");
    if args.len() > 1 || !args.iter().all(|word| is_known(word)) {
        return Err(Refusal::Syntax);
    }
    on.shared.store.clear();
    replies.simple("OK");
    Ok(())
}
