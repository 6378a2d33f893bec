//! Commands that concern the connection, or the server, and no key.

use super::cluster;
use super::info;
use super::operator;
use super::session::{Handled, Session};
use crate::kv::command::{self, Args, COMMANDS, Command, Refusal, Service};
use crate::kv::glob;
use crate::kv::resp::reply;

/// What those may say who have not said who they are.
pub(crate) fn is_for_strangers(command: &Command) -> bool {
    use Service::{Auth, Hello, Quit, Reset};
    let of_strangers = [Auth, Hello, Quit, Reset];
    matches!(command.action, command::Action::Service(service) if of_strangers.contains(&service))
}

/// Answers a command of a number of arguments that the table allows.
pub(crate) fn serve(session: &mut Session, service: Service, args: Args<'_, '_>) -> Handled {
    let client = std::rc::Rc::clone(&session.client);
    match service {
        Service::Ping => return ping(session, args),
        Service::Echo => client.answer(|out| reply::bulk(out, args[1])),
        Service::Auth => return auth(session, args),
        Service::Hello => return hello(session, args),
        Service::Reset => return reset(session),
        Service::Quit => {
            client.answer(reply::ok);
            return Handled::Close;
        }
        Service::Select => return select(session, args),
        Service::ReadOnly | Service::ReadWrite => {
            session.read_only = service == Service::ReadOnly;
            client.answer(reply::ok);
        }
        // Slots never move between groups, so nobody is told to ask.
        Service::Asking => client.answer(reply::ok),
        Service::Time => {
            let now = session.shard.node.clock.now();
            client.answer(|out| {
                reply::array(out, 2);
                reply::bulk(out, (now / 1000).to_string().as_bytes());
                reply::bulk(out, (now % 1000 * 1000).to_string().as_bytes());
            });
        }
        Service::Client => return client_command(session, args),
        Service::Command => return commands(session, args),
        Service::Config => return config(session, args),
        Service::Info => {
            let text = info::text(session, &args[1..]);
            client.answer(|out| reply::text(out, &text));
        }
        Service::Cluster => return cluster::serve(session, args),
        Service::Operator => return operator::serve(session, args),
        Service::Group => return session.refuse(&Refusal::Syntax),
    }
    Handled::Done
}

fn ping(session: &Session, args: Args<'_, '_>) -> Handled {
    match args[1..] {
        [] => session.client.answer(|out| reply::status(out, "PONG")),
        [word] => session.client.answer(|out| reply::bulk(out, word)),
        _ => return session.refuse(&Refusal::Arity("ping")),
    }
    Handled::Done
}

/// Compares all of both, whatever they have in common.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b));
    one.len() == other.len() && differing == 0
}

/// Whether the name and password are right.
fn authenticate(session: &mut Session, user: &[u8], password: &[u8]) -> bool {
    let expected = session.shard.node.settings.password.as_deref().unwrap_or_default();
    let right = user == b"default" && same(password, expected.as_bytes());
    session.authenticated |= right;
    right
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

fn auth(session: &mut Session, args: Args<'_, '_>) -> Handled {
    if session.shard.node.settings.password.is_none() {
        return session.say(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        );
    }
    let right = match args[1..] {
        [password] => authenticate(session, b"default", password),
        [user, password] => authenticate(session, user, password),
        _ => return session.refuse(&Refusal::Syntax),
    };
    if !right {
        return session.say(WRONG_PASSWORD);
    }
    session.client.answer(reply::ok);
    Handled::Done
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
fn hello(session: &mut Session, args: Args<'_, '_>) -> Handled {
    if !session.client.is_idle() {
        return Handled::Blocked;
    }
    let resp3 = match args.get(1) {
        None => session.client.speaks_resp3(),
        Some(&b"2") => false,
        Some(&b"3") => true,
        Some(_) => return session.say("NOPROTO unsupported protocol version"),
    };
    let mut rest = args.get(2..).unwrap_or_default();
    while let Some((word, behind)) = rest.split_first() {
        rest = match behind {
            [user, password, behind @ ..] if word.eq_ignore_ascii_case(b"auth") => {
                if !authenticate(session, user, password) {
                    return session.say(WRONG_PASSWORD);
                }
                behind
            }
            [name, behind @ ..] if word.eq_ignore_ascii_case(b"setname") => {
                session.name = name.to_vec();
                behind
            }
            _ => return session.refuse(&Refusal::Syntax),
        };
    }
    if !session.authenticated {
        return session.say(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        );
    }
    session.client.speak(resp3);
    let (id, plain) = (session.id as i64, session.plain);
    session.client.answer(|out| {
        reply::map(out, 7);
        let mut text = |name: &str, value: &str| {
            reply::bulk(out, name.as_bytes());
            reply::bulk(out, value.as_bytes());
        };
        text("server", "redis");
        text("version", info::REDIS_VERSION);
        text("mode", info::mode(plain));
        text("role", "master");
        reply::bulk(out, b"proto");
        reply::integer(out, if resp3 { 3 } else { 2 });
        reply::bulk(out, b"id");
        reply::integer(out, id);
        reply::bulk(out, b"modules");
        reply::array(out, 0);
    });
    Handled::Done
}

fn reset(session: &mut Session) -> Handled {
    if !session.client.is_idle() {
        return Handled::Blocked;
    }
    session.client.speak(false);
    session.read_only = false;
    session.name.clear();
    session.authenticated = session.shard.node.settings.password.is_none();
    session.client.answer(|out| reply::status(out, "RESET"));
    Handled::Done
}

fn select(session: &Session, args: Args<'_, '_>) -> Handled {
    if args[1] != b"0" {
        return session.say("ERR SELECT is not allowed in cluster mode");
    }
    session.client.answer(reply::ok);
    Handled::Done
}

fn client_command(session: &mut Session, args: Args<'_, '_>) -> Handled {
    let client = std::rc::Rc::clone(&session.client);
    let word = args[1].to_ascii_lowercase();
    match (&word[..], &args[2..]) {
        (b"id", []) => client.answer(|out| reply::integer(out, session.id as i64)),
        (b"getname", []) => client.answer(|out| match session.name.is_empty() {
            true => reply::null(out),
            false => reply::bulk(out, &session.name),
        }),
        (b"setname", [name]) => {
            if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
                return session.say(
                    "ERR Client names cannot contain spaces, newlines or special characters.",
                );
            }
            session.name = name.to_vec();
            client.answer(reply::ok);
        }
        // What the client library is called, and what we don't have and need not do.
        (b"setinfo", [_, _]) | (b"no-evict" | b"no-touch", [_]) => client.answer(reply::ok),
        (b"info", []) => {
            let text = info::client(session);
            client.answer(|out| reply::text(out, &text));
        }
        _ => return session.refuse(&Refusal::UnknownSub("client", shown(args[1]))),
    }
    Handled::Done
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned()
}

fn commands(session: &Session, args: Args<'_, '_>) -> Handled {
    let client = &session.client;
    let word = args.get(1).map(|word| word.to_ascii_lowercase());
    let rest = args.get(2..).unwrap_or_default();
    match word.as_deref() {
        None => client.answer(|out| {
            reply::array(out, COMMANDS.len());
            COMMANDS.iter().for_each(|command| describe(out, command));
        }),
        Some(b"count") => client.answer(|out| reply::integer(out, COMMANDS.len() as i64)),
        Some(b"docs") => client.answer(|out| reply::map(out, 0)),
        Some(b"list") => client.answer(|out| {
            reply::array(out, COMMANDS.len());
            COMMANDS.iter().for_each(|command| reply::bulk(out, command.name.as_bytes()));
        }),
        Some(b"info") => client.answer(|out| {
            reply::array(out, rest.len());
            for name in rest {
                match command::find(name) {
                    Some(command) => describe(out, command),
                    None => reply::null(out),
                }
            }
        }),
        Some(b"getkeys") => return get_keys(session, rest),
        Some(other) => return session.refuse(&Refusal::UnknownSub("command", shown(other))),
    }
    Handled::Done
}

fn get_keys(session: &Session, args: Args<'_, '_>) -> Handled {
    let found = args.first().and_then(|name| command::find(name));
    let Some(command) = found else { return session.say("ERR Invalid command specified") };
    if let Err(refusal) = command.check(args) {
        return session.refuse(&refusal);
    }
    let Some((positions, step)) = command.key_positions(args.len()) else {
        return session.say("ERR The command has no key arguments");
    };
    let keys: Vec<_> = args.get(positions).unwrap_or_default().iter().step_by(step).collect();
    session.client.answer(|out| {
        reply::array(out, keys.len());
        keys.iter().for_each(|key| reply::bulk(out, key));
    });
    Handled::Done
}

/// A command as `COMMAND` describes it.
fn describe(out: &mut Vec<u8>, command: &Command) {
    let Command { name, arity, keys, write, grows, action } = command;
    let mut flags = Vec::new();
    let keyless = matches!(action, command::Action::Service(_));
    flags.push(if *write {
        "write"
    } else if keyless {
        "loading"
    } else {
        "readonly"
    });
    if *grows {
        flags.push("denyoom");
    }
    reply::array(out, 10);
    reply::bulk(out, name.as_bytes());
    reply::integer(out, (*arity).into());
    reply::set(out, flags.len());
    flags.iter().for_each(|flag| reply::status(out, flag));
    let positions = [keys.first, keys.last, keys.step];
    positions.into_iter().for_each(|number| reply::integer(out, number.into()));
    // Categories, tips, key specifications and subcommands.
    (0..4).for_each(|_| reply::array(out, 0));
}

/// Settings as far as clients ask for them.
fn config(session: &Session, args: Args<'_, '_>) -> Handled {
    if !args[1].eq_ignore_ascii_case(b"get") {
        return session.refuse(&Refusal::UnknownSub("config", shown(args[1])));
    }
    if args.len() < 3 {
        return session.refuse(&Refusal::Arity("config|get"));
    }
    let settings = &session.shard.node.settings;
    let all = [
        ("appendfsync", "always".to_owned()),
        ("appendonly", "yes".into()),
        ("cluster-enabled", if session.plain { "no" } else { "yes" }.into()),
        ("databases", "1".into()),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", settings.memory_limit.to_string()),
        ("maxmemory-policy", "noeviction".into()),
        ("proto-max-bulk-len", settings.limits.bulk.to_string()),
        ("save", String::new()),
        ("timeout", "0".into()),
    ];
    let wanted = |name: &str| {
        let matches =
            |pattern: &&[u8]| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes());
        args[2..].iter().any(matches)
    };
    let found: Vec<_> = all.iter().filter(|(name, _)| wanted(name)).collect();
    session.client.answer(|out| {
        reply::map(out, found.len());
        for (name, value) in found {
            reply::bulk(out, name.as_bytes());
            reply::bulk(out, value.as_bytes());
        }
    });
    Handled::Done
}
