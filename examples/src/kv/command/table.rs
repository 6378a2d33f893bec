//! The table of commands.

use std::cmp::Ordering;

use super::Action::{self, Everywhere, Operation, Service as Serve};
use super::parse as p;

/// A command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Number of arguments, the name included; negative: at least so many.
    pub arity: i8,
    /// Where its keys are.
    pub keys: Keys,
    /// Whether it may change something.
    pub write: bool,
    /// Whether it may take more memory.
    pub grows: bool,
    /// What it does.
    pub action: Action,
}

/// Which arguments are keys, as `COMMAND` says it: the first, the last (negative: counted from the
/// end) and the distance between two. All zero where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "see above")]
pub struct Keys {
    pub first: i8,
    pub last: i8,
    pub step: i8,
}

/// What concerns the connection or the server, and no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub enum Service {
    Asking,
    Auth,
    Client,
    Cluster,
    Command,
    Config,
    Echo,
    Group,
    Hello,
    Info,
    Operator,
    Ping,
    Quit,
    ReadOnly,
    ReadWrite,
    Reset,
    Select,
    Time,
}

const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
const ONE: Keys = Keys { first: 1, last: 1, step: 1 };
const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };
const TRIPLES: Keys = Keys { first: 1, last: -1, step: 3 };

const fn read(name: &'static str, arity: i8, keys: Keys, parse: super::Parse) -> Command {
    Command { name, arity, keys, write: false, grows: false, action: Operation(parse) }
}

const fn write(name: &'static str, arity: i8, keys: Keys, parse: super::Parse) -> Command {
    Command { name, arity, keys, write: true, grows: true, action: Operation(parse) }
}

/// A write that takes no memory, and is therefore done where none is left.
const fn shrink(name: &'static str, arity: i8, keys: Keys, parse: super::Parse) -> Command {
    Command { name, arity, keys, write: true, grows: false, action: Operation(parse) }
}

const fn every(name: &'static str, arity: i8, write: bool, parse: super::Parse) -> Command {
    Command { name, arity, keys: NONE, write, grows: false, action: Everywhere(parse) }
}

const fn serve(name: &'static str, arity: i8, service: Service) -> Command {
    Command { name, arity, keys: NONE, write: false, grows: false, action: Serve(service) }
}

/// All commands, in the order of their names.
pub const COMMANDS: &[Command] = &[
    write("append", 3, ONE, p::append),
    serve("asking", 1, Service::Asking),
    serve("auth", -2, Service::Auth),
    serve("client", -2, Service::Client),
    serve("cluster", -2, Service::Cluster),
    serve("command", -1, Service::Command),
    serve("config", -2, Service::Config),
    every("dbsize", 1, false, p::dbsize),
    write("decr", 2, ONE, p::decr),
    write("decrby", 3, ONE, p::decrby),
    shrink("del", -2, ALL, p::del),
    serve("echo", 2, Service::Echo),
    read("exists", -2, ALL, p::exists),
    shrink("expire", -3, ONE, p::expire),
    every("flushall", -1, true, p::flushall),
    every("flushdb", -1, true, p::flushall),
    read("get", 2, ONE, p::get),
    shrink("getdel", 2, ONE, p::getdel),
    shrink("getex", -2, ONE, p::getex),
    read("getrange", 4, ONE, p::getrange),
    write("getset", 3, ONE, p::getset),
    serve("hello", -1, Service::Hello),
    write("incr", 2, ONE, p::incr),
    write("incrby", 3, ONE, p::incrby),
    serve("info", -1, Service::Info),
    every("keys", 2, false, p::keys),
    shrink("kv.cad", 3, ONE, p::compare_and_delete),
    write("kv.cas", -4, TRIPLES, p::compare_and_set),
    serve("kv.cluster", -2, Service::Operator),
    shrink("kv.delrange", -3, ONE, p::delete_range),
    serve("kv.group", -3, Service::Group),
    write("kv.lock", 4, ONE, p::lock),
    read("kv.lockinfo", 2, ONE, p::lock_state),
    read("kv.range", -3, ONE, p::range),
    shrink("kv.renew", 4, ONE, p::renew),
    read("kv.revrange", -3, ONE, p::reverse_range),
    write("kv.seq", -2, ONE, p::sequence),
    read("kv.seqinfo", 2, ONE, p::sequence_state),
    shrink("kv.unlock", 3, ONE, p::unlock),
    read("mget", -2, ALL, p::mget),
    write("mset", -3, PAIRS, p::mset),
    write("msetnx", -3, PAIRS, p::msetnx),
    shrink("persist", 2, ONE, p::persist),
    shrink("pexpire", -3, ONE, p::pexpire),
    serve("ping", -1, Service::Ping),
    write("psetex", 4, ONE, p::psetex),
    read("pttl", 2, ONE, p::pttl),
    serve("quit", -1, Service::Quit),
    every("randomkey", 1, false, p::randomkey),
    serve("readonly", 1, Service::ReadOnly),
    serve("readwrite", 1, Service::ReadWrite),
    serve("reset", 1, Service::Reset),
    every("scan", -2, false, p::scan),
    serve("select", 2, Service::Select),
    write("set", -3, ONE, p::set),
    write("setex", 4, ONE, p::setex),
    write("setnx", 3, ONE, p::setnx),
    read("strlen", 2, ONE, p::strlen),
    serve("time", 1, Service::Time),
    read("touch", -2, ALL, p::exists),
    read("ttl", 2, ONE, p::ttl),
    read("type", 2, ONE, p::kind),
    shrink("unlink", -2, ALL, p::del),
];

/// The command of this name, in letters of any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let at = COMMANDS.binary_search_by(|command| compare(command.name.as_bytes(), name)).ok()?;
    COMMANDS.get(at)
}

/// Compares what is in lower case with what may be in any.
fn compare(lower: &[u8], any: &[u8]) -> Ordering {
    lower.iter().copied().cmp(any.iter().map(u8::to_ascii_lowercase))
}
