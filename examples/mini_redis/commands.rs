//! The commands: a table, and what all of them have before them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::channels::{Channels, Outbox, Owner};
use crate::reply::Replies;
use crate::resp::{self, Command};
use crate::store::{Store, WrongKind};
use crate::{keys, lists, others, strings};

/// What all clients share, of all threads.
#[derive(Debug)]
pub struct Shared {
    pub store: Store,
    pub channels: Channels,
    pub clients: usize,
    pub most_clients: usize,
    pub commands: u64,
    /// The bytes that keys, values and subscriptions may be.
    pub memory: usize,
    /// The longest string.
    pub longest: usize,
}

/// What a command runs in.
#[derive(Debug)]
pub struct Context<'a> {
    pub shared: &'a mut Shared,
    pub client: &'a mut Talk,
    pub outbox: &'a Arc<Outbox>,
    /// Who has something in an outbox now, and does not know.
    pub told: &'a mut Vec<Owner>,
}

/// What is known of a client.
#[derive(Debug, Default)]
pub struct Talk {
    pub channels: BTreeSet<Vec<u8>>,
    /// It has said goodbye.
    pub is_over: bool,
}

/// Why a command is not done, in the words of Redis.
#[derive(Debug)]
pub enum Refusal {
    WrongKind,
    NotInteger,
    Syntax,
    Other(&'static str),
    Text(String),
}

/// How a command ends, besides its reply.
pub type Outcome = Result<(), Refusal>;
type Run = fn(&mut Context<'_>, &mut [Vec<u8>], &mut Replies) -> Outcome;

/// A command. The arguments that `run` gets begin behind the name.
pub struct Row {
    pub name: &'static str,
    /// With the name; negative if there may be more.
    pub arity: i64,
    pub kind: Kind,
    /// The places of its keys: the first, the last, and the step.
    pub keys: [i64; 3],
    run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It needs memory.
    Grows,
    Writes,
    Reads,
    /// It is allowed to who is subscribed.
    Always,
}

const fn row(name: &'static str, arity: i64, kind: Kind, keys: [i64; 3], run: Run) -> Row {
    Row { name, arity, kind, keys, run }
}

use Kind::{Always, Grows, Reads, Writes};

const NONE: [i64; 3] = [0, 0, 0];
const ONE: [i64; 3] = [1, 1, 1];
const ALL: [i64; 3] = [1, -1, 1];
const PAIRS: [i64; 3] = [1, -1, 2];

pub const TABLE: [Row; 33] = [
    row("append", 3, Grows, ONE, strings::append),
    row("command", -1, Reads, NONE, others::command),
    row("config", -2, Reads, NONE, others::config),
    row("dbsize", 1, Reads, NONE, others::dbsize),
    row("decr", 2, Grows, ONE, strings::decr),
    row("decrby", 3, Grows, ONE, strings::decrby),
    row("del", -2, Writes, ALL, keys::del),
    row("echo", 2, Reads, NONE, others::echo),
    row("exists", -2, Reads, ALL, keys::exists),
    row("expire", -3, Writes, ONE, keys::expire),
    row("flushall", -1, Writes, NONE, keys::flushall),
    row("get", 2, Reads, ONE, strings::get),
    row("incr", 2, Grows, ONE, strings::incr),
    row("incrby", 3, Grows, ONE, strings::incrby),
    row("info", -1, Reads, NONE, others::info),
    row("keys", 2, Reads, NONE, keys::keys),
    row("lpop", -2, Writes, ONE, lists::lpop),
    row("lpush", -3, Grows, ONE, lists::lpush),
    row("lrange", 4, Reads, ONE, lists::lrange),
    row("mget", -2, Reads, ALL, strings::mget),
    row("mset", -3, Grows, PAIRS, strings::mset),
    row("ping", -1, Always, NONE, others::ping),
    row("publish", 3, Reads, NONE, others::publish),
    row("quit", -1, Always, NONE, others::quit),
    row("rpush", -3, Grows, ONE, lists::rpush),
    row("set", -3, Grows, ONE, strings::set),
    row("strlen", 2, Reads, ONE, strings::strlen),
    row("subscribe", -2, Always, NONE, others::subscribe),
    row("ttl", 2, Reads, ONE, keys::ttl),
    row("pttl", 2, Reads, ONE, keys::pttl),
    row("pexpire", -3, Writes, ONE, keys::pexpire),
    row("type", 2, Reads, ONE, keys::kind),
    row("unsubscribe", -1, Always, NONE, others::unsubscribe),
];

/// Runs a command, and writes its reply.
pub fn run(context: &mut Context<'_>, mut command: Command, replies: &mut Replies) {
    context.shared.commands += 1;
    replies.begin();
    match dispatch(context, &mut command, replies) {
        Ok(()) => replies.end(),
        Err(why) => replies.error(why),
    }
}

fn dispatch(context: &mut Context<'_>, command: &mut [Vec<u8>], replies: &mut Replies) -> Outcome {
    let Some((name, arguments)) = command.split_first_mut() else { return Ok(()) };
    let is_called = |row: &&Row| row.name.as_bytes().eq_ignore_ascii_case(name);
    let Some(row) = TABLE.iter().find(is_called) else { return Err(unknown(name, arguments)) };
    let given = i64::try_from(arguments.len() + 1).unwrap_or(i64::MAX);
    let is_right = if row.arity < 0 { given >= -row.arity } else { given == row.arity };
    if !is_right {
        return Err(wrong_count(row.name));
    }
    let Shared { store, channels, memory, .. } = &*context.shared;
    if row.kind == Grows && store.used() + channels.used() > *memory {
        return Err(Refusal::Other(FULL));
    }
    if row.kind != Always && !context.client.channels.is_empty() {
        return Err(Refusal::Text(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
             are allowed in this context",
            row.name
        )));
    }
    (row.run)(context, arguments, replies)
}

/// No memory is left.
pub const FULL: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// There is no such command. As in Redis, not all that was sent comes back.
fn unknown(name: &[u8], arguments: &[Vec<u8>]) -> Refusal {
    const MOST: usize = 128;
    let mut said = Vec::new();
    for argument in arguments {
        if said.len() >= MOST {
            break;
        }
        let part = &argument[..argument.len().min(MOST - said.len())];
        said.extend([b"'", part, b"' "].concat());
    }
    let name = String::from_utf8_lossy(&name[..name.len().min(MOST)]);
    let said = String::from_utf8_lossy(&said);
    Refusal::Text(format!("ERR unknown command '{name}', with args beginning with: {said}"))
}

pub fn wrong_count(name: &str) -> Refusal {
    Refusal::Text(format!("ERR wrong number of arguments for '{name}' command"))
}

/// An argument that is to be a number.
pub fn integer(argument: &[u8]) -> Result<i64, Refusal> {
    resp::integer(argument).ok_or(Refusal::NotInteger)
}

impl From<WrongKind> for Refusal {
    fn from(_: WrongKind) -> Self {
        Self::WrongKind
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongKind => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::NotInteger => "ERR value is not an integer or out of range",
            Self::Syntax => "ERR syntax error",
            Self::Other(text) => text,
            Self::Text(text) => text,
        })
    }
}
