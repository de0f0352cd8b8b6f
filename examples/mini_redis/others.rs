//! Commands about the connection, about channels, and about the server.

use std::mem::take;

use crate::commands::{Context, FULL, Kind, Outcome, Refusal, TABLE, wrong_count};
use crate::glob;
use crate::reply::Replies;

pub fn ping(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    match args {
        [] | [_] if !on.client.channels.is_empty() => {
            replies.array(2);
            replies.bulk(b"pong");
            replies.bulk(args.first().map_or(b"", |text| text));
        }
        [] => replies.simple("PONG"),
        [text] => replies.bulk(text),
        _ => return Err(wrong_count("ping")),
    }
    Ok(())
}

pub fn echo(_: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.bulk(&args[0]);
    Ok(())
}

pub fn quit(on: &mut Context<'_>, _: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    on.client.is_over = true;
    replies.simple("OK");
    Ok(())
}

/// Each channel has an answer of its own.
pub fn subscribe(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    for channel in args {
        let shared = &mut *on.shared;
        if shared.store.used() + shared.channels.used() > shared.memory {
            return Err(Refusal::Other(FULL));
        }
        let is_new = on.client.channels.insert(channel.clone());
        replies.array(3);
        replies.bulk(b"subscribe");
        replies.bulk(channel);
        replies.count(on.client.channels.len());
        if is_new {
            // The answer first: a message must not come before it, also from another thread.
            on.outbox.put(replies);
            shared.channels.add(channel, on.outbox);
        }
        replies.begin();
    }
    Ok(())
}

pub fn unsubscribe(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let mut channels = match args.is_empty() {
        true => on.client.channels.iter().cloned().collect(),
        false => args.iter_mut().map(take).collect::<Vec<_>>(),
    };
    if channels.is_empty() {
        replies.array(3);
        replies.bulk(b"unsubscribe");
        replies.no_bulk();
        replies.count(0);
    }
    for channel in channels.drain(..) {
        if on.client.channels.remove(&channel) {
            on.shared.channels.remove(&channel, on.outbox.owner);
        }
        replies.begin();
        replies.array(3);
        replies.bulk(b"unsubscribe");
        replies.bulk(&channel);
        replies.count(on.client.channels.len());
    }
    Ok(())
}

pub fn publish(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.count(on.shared.channels.publish(&args[0], &args[1], on.told));
    Ok(())
}

pub fn dbsize(on: &mut Context<'_>, _: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    replies.count(on.shared.store.len());
    Ok(())
}

pub fn info(on: &mut Context<'_>, _: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let shared = &*on.shared;
    let text = format!(
        "# Server\r\nredis_mode:standalone\r\nprocess_id:{}\r\n\
         # Clients\r\nconnected_clients:{}\r\nmaxclients:{}\r\n\
         # Memory\r\nused_memory:{}\r\nmaxmemory:{}\r\n\
         # Stats\r\ntotal_commands_processed:{}\r\nexpired_keys:{}\r\n\
         # Keyspace\r\ndb0:keys={}\r\n",
        std::process::id(),
        shared.clients,
        shared.most_clients,
        shared.store.used() + shared.channels.used(),
        shared.memory,
        shared.commands,
        shared.store.expired(),
        shared.store.len(),
    );
    replies.bulk(text.as_bytes());
    Ok(())
}

/// What `redis-cli` asks at its start, and a client that wants to know where keys are.
pub fn command(_: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    match args.first().map(|word| word.to_ascii_uppercase()).as_deref() {
        None => {
            replies.array(TABLE.len());
            for row in &TABLE {
                replies.array(6);
                replies.bulk(row.name.as_bytes());
                replies.integer(row.arity);
                let flags: &[&str] = match row.kind {
                    Kind::Grows => &["write", "denyoom"],
                    Kind::Writes => &["write"],
                    Kind::Reads | Kind::Always => &["readonly"],
                };
                replies.array(flags.len());
                flags.iter().for_each(|flag| replies.simple(flag));
                row.keys.iter().for_each(|&place| replies.integer(place));
            }
        }
        Some(b"COUNT") => replies.count(TABLE.len()),
        // It has no documents.
        Some(b"DOCS") => replies.array(0),
        Some(_) => return Err(unknown_word("COMMAND", &args[0])),
    }
    Ok(())
}

/// `CONFIG GET`, for the settings that there are, and for those that `redis-benchmark` asks for.
pub fn config(on: &mut Context<'_>, args: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    if !args[0].eq_ignore_ascii_case(b"GET") {
        return Err(unknown_word("CONFIG", &args[0]));
    }
    if args.len() < 2 {
        return Err(wrong_count("config|get"));
    }
    let settings = [
        ("appendonly", "no".into()),
        ("maxclients", on.shared.most_clients.to_string()),
        ("maxmemory", on.shared.memory.to_string()),
        ("proto-max-bulk-len", on.shared.longest.to_string()),
        ("save", String::new()),
    ];
    let is_wanted = |name: &str| {
        args[1..].iter().any(|word| glob::matches(&word.to_ascii_lowercase(), name.as_bytes()))
    };
    let found: Vec<_> = settings.iter().filter(|(name, _)| is_wanted(name)).collect();
    replies.array(2 * found.len());
    for (name, value) in found {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    Ok(())
}

fn unknown_word(command: &str, word: &[u8]) -> Refusal {
    let word = String::from_utf8_lossy(&word[..word.len().min(128)]);
    Refusal::Text(format!("ERR unknown subcommand '{word}'. Try {command} HELP."))
}
