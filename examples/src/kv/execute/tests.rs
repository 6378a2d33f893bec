use super::*;
use crate::kv::command::parse;

/// One command after the other, at this time, and what each answers, in a notation of its own: one
/// line, `nil` for none, brackets around lists.
fn session(keys: &mut Keyspace, script: &str) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, expected) = line.split_once(" -> ").expect("command -> reply");
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        if args[0] == b"@" {
            keys.advance(std::str::from_utf8(args[1]).unwrap().parse().unwrap());
            continue;
        }
        match parse(&args) {
            Ok(operation) => execute(keys, &operation, &mut out),
            Err(error) => reply::error(&mut out, &error.to_string()),
        }
        assert_eq!(show(&out), expected, "{command}");
    }
}

fn show(reply: &[u8]) -> String {
    let mut text = String::from_utf8(reply.to_vec()).unwrap();
    assert!(text.ends_with("\r\n"));
    text.truncate(text.len() - 2);
    let lines: Vec<&str> = text.split("\r\n").collect();
    let mut words = Vec::new();
    for line in lines {
        match line.split_at(1) {
            ("$" | "*", "0") => words.push(format!("{}0", &line[..1])),
            ("$", _) => {}
            ("*", _) => words.push("*".into()),
            ("_", _) => words.push("nil".into()),
            (":" | "+", rest) => words.push(rest.into()),
            _ => words.push(line.into()),
        }
    }
    words.join(" ").trim_end().to_owned()
}

#[test]
fn strings() {
    session(
        &mut Keyspace::default(),
        "GET k -> nil
         SET k 1 -> OK
         GET k -> 1
         SET k 2 NX -> nil
         SET k 2 XX -> OK
         SET k 3 GET -> 2
         SET other 3 XX -> nil
         SET k 4 IFEQ 9 -> nil
         SET k 4 IFEQ 3 -> OK
         SETNX k 5 -> 0
         SETNX n 5 -> 1
         GETSET k six -> 4
         GETDEL k -> six
         GETDEL k -> nil
         APPEND k ab -> 2
         APPEND k cd -> 4
         STRLEN k -> 4
         GETRANGE k 1 -2 -> bc
         MSET {t}a 1 {t}b 2 -> OK
         MGET {t}a {t}b {t}c -> * 1 2 nil
         MSETNX {t}c 3 {t}a 4 -> 0
         MSETNX {t}c 3 {t}d 4 -> 1
         EXISTS {t}a {t}a {t}x -> 2
         DEL {t}a {t}b {t}x -> 2
         TYPE k -> string
         TYPE gone -> none",
    );
}

#[test]
fn numbers() {
    session(
        &mut Keyspace::default(),
        "INCR n -> 1
         INCRBY n 41 -> 42
         DECRBY n 2 -> 40
         DECR n -> 39
         GET n -> 39
         SET n 9223372036854775807 -> OK
         INCR n -> -ERR increment or decrement would overflow
         SET n 01 -> OK
         INCR n -> -ERR value is not an integer or out of range
         SET n word -> OK
         INCR n -> -ERR value is not an integer or out of range
         INCRBY n word -> -ERR value is not an integer or out of range",
    );
}

#[test]
fn expiry() {
    session(
        &mut Keyspace::default(),
        "@ 1000 -> .
         SET k v PX 500 -> OK
         PTTL k -> 500
         TTL k -> 1
         SET k w KEEPTTL -> OK
         PTTL k -> 500
         SET k w -> OK
         PTTL k -> -1
         PTTL gone -> -2
         EXPIRE k 10 -> 1
         EXPIRE k 5 GT -> 0
         EXPIRE k 20 GT -> 1
         EXPIRE k 30 NX -> 0
         EXPIRE k 15 LT -> 1
         PEXPIRE k 100 XX -> 1
         PERSIST k -> 1
         PERSIST k -> 0
         PEXPIRE k 100 XX -> 0
         SET k v EX 1 -> OK
         INCR n -> 1
         PEXPIRE n 100 -> 1
         INCR n -> 2
         PTTL n -> 100
         @ 1100 -> .
         GET n -> nil
         GET k -> v
         GETEX k PERSIST -> v
         @ 5000 -> .
         GET k -> v
         EXPIRE k -1 -> 1
         EXISTS k -> 0
         SET k v EX 0 -> -ERR invalid expire time in 'set' command",
    );
}

#[test]
fn compare_and_set() {
    session(
        &mut Keyspace::default(),
        "MSET {t}a 1 {t}b 2 -> OK
         KV.CAS {t}a 1 10 {t}b 3 20 -> 0
         MGET {t}a {t}b -> * 1 2
         KV.CAS {t}a 1 10 {t}b 2 20 -> 1
         MGET {t}a {t}b -> * 10 20
         KV.CAS {t}c x y -> 0
         KV.CAD {t}a 1 -> 0
         KV.CAD {t}a 10 -> 1
         EXISTS {t}a -> 0",
    );
}

#[test]
fn ordered_ranges() {
    session(
        &mut Keyspace::default(),
        "MSET {t}a 1 {t}b 2 {t}c 3 {t}d 4 -> OK
         KV.RANGE {t}b {t}d -> * {t}b 2 {t}c 3
         KV.RANGE {t}b + -> * {t}b 2 {t}c 3 {t}d 4
         KV.RANGE {t}a + LIMIT 2 KEYS -> * {t}a {t}b
         KV.REVRANGE {t}a + LIMIT 2 -> * {t}d 4 {t}c 3
         KV.RANGE {t}d {t}a -> *0
         KV.RANGE {t}a other -> -CROSSSLOT Keys in request don't hash to the same slot
         KV.DELRANGE {t}b {t}d -> 2
         KV.RANGE {t} + KEYS -> * {t}a {t}d
         KV.DELRANGE {t} + LIMIT 1 -> 1
         DBSIZE -> 1",
    );
}

#[test]
fn locks_are_fenced_and_end_with_their_lease() {
    session(
        &mut Keyspace::default(),
        "@ 1000 -> .
         KV.LOCK l me 500 -> 1
         KV.LOCK l other 500 -> nil
         KV.LOCK l me 600 -> 1
         KV.LOCKINFO l -> * me 1 600
         KV.RENEW l 1 700 -> 1
         KV.RENEW l 2 700 -> 0
         KV.UNLOCK l 2 -> 0
         @ 1700 -> .
         KV.LOCKINFO l -> nil
         KV.RENEW l 1 700 -> 0
         KV.LOCK l other 500 -> 2
         KV.UNLOCK l 1 -> 0
         KV.UNLOCK l 2 -> 1
         KV.LOCK l me 500 -> 3
         GET l -> -WRONGTYPE Operation against a key holding the wrong kind of value (a lock or a sequence)
         SET l x -> -WRONGTYPE Operation against a key holding the wrong kind of value (a lock or a sequence)
         PERSIST l -> 0
         EXPIRE l 1000 -> 0
         TYPE l -> lock
         KV.LOCK l me 0 -> -ERR a lease must be 1 to 86400000 milliseconds",
    );
}

#[test]
fn sequences_give_every_number_once() {
    session(
        &mut Keyspace::default(),
        "KV.SEQ s -> 1
         KV.SEQ s 10 -> 2
         KV.SEQ s -> 12
         KV.SEQINFO s -> 12
         KV.SEQINFO none -> 0
         SET s 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value (a lock or a sequence)
         INCR s -> -WRONGTYPE Operation against a key holding the wrong kind of value (a lock or a sequence)
         KV.SEQ s 9223372036854775807 -> -ERR the sequence has no more numbers
         KV.SEQ s 0 -> -ERR a count must be 1 or more
         KV.SEQ s -> 13",
    );
}
