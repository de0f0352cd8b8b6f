//! Commands about lists.

use std::mem::take;

use crate::commands::{Context, Outcome, Refusal, integer, wrong_count};
use crate::reply::{Replies, TOO_LONG};
use crate::resp;
use crate::store::End;

/// What a reply has around an item, and at its beginning: two lengths and line ends, at most.
const AROUND: usize = 48;

pub fn lpush(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    push(on, args, replies, End::Front)
}

pub fn rpush(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    push(on, args, replies, End::Back)
}

fn push(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies, end: End) -> Outcome {
    let Some((key, items)) = args.split_first_mut() else { return Ok(()) };
    let mut len = 0;
    for item in items {
        len = on.shared.store.push(key, take(item), end)?;
    }
    replies.count(len);
    Ok(())
}

pub fn lpop(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let store = &mut on.shared.store;
    match args {
        [key] => match store.pop_front(key)? {
            Some(item) => replies.bulk(&item),
            None => replies.no_bulk(),
        },
        [key, count] => {
            let count = resp::integer(count).and_then(|count| usize::try_from(count).ok());
            let why = Refusal::Other("ERR value is out of range, must be positive");
            let count = count.ok_or(why)?;
            let Some(len) = store.list(key)?.map(|list| list.len()) else {
                replies.no_array();
                return Ok(());
            };
            let count = count.min(len);
            let list = store.list(key)?.into_iter().flatten();
            let bytes = list.take(count).map(|item| item.len() + AROUND).sum();
            if !replies.has_room(bytes) {
                return Err(Refusal::Other(TOO_LONG)); // Before anything is gone.
            }
            replies.array(count);
            for _ in 0..count {
                replies.bulk(&store.pop_front(key)?.unwrap_or_default());
            }
        }
        _ => return Err(wrong_count("lpop")),
    }
    Ok(())
}

pub fn lrange(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let (first, last) = (integer(&args[1])?, integer(&args[2])?);
    let Some(list) = on.shared.store.list(&args[0])? else {
        replies.array(0);
        return Ok(());
    };
    let len = i64::try_from(list.len()).unwrap_or(i64::MAX);
    // A negative number counts from the end.
    let at = |number: i64| if number < 0 { number.saturating_add(len) } else { number };
    let (first, end) = (at(first).max(0), at(last).saturating_add(1).clamp(0, len));
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    let count = usize::try_from(end).unwrap_or(0).saturating_sub(first);
    replies.array(count);
    list.iter().skip(first).take(count).for_each(|item| replies.bulk(item));
    Ok(())
}
