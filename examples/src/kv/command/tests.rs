use proptest::prelude::*;

use super::*;
use crate::kv::operation::LogEntry;

fn args(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

fn refused(line: &str, says: &str) {
    let error = parse(&args(line)).unwrap_err().to_string();
    assert!(error.contains(says), "{line}: {error}");
}

#[test]
fn names_are_found_in_any_case() {
    assert!(COMMANDS.is_sorted_by_key(|command| command.name));
    assert!(COMMANDS.iter().all(|command| find(command.name.as_bytes()).is_some()));
    assert_eq!(find(b"GeT").unwrap().name, "get");
    assert!(find(b"gett").is_none() && find(b"ge").is_none() && find(b"").is_none());
}

#[test]
fn what_is_wrong_is_said() {
    refused("get", "wrong number of arguments for 'get'");
    refused("get a b", "wrong number of arguments for 'get'");
    refused("getx a", "unknown command 'getx'");
    refused("set a b NX XX", "syntax");
    refused("set a b EX", "syntax");
    refused("set a b EX x", "not an integer");
    refused("set a b EX 9223372036854775807", "invalid expire time in 'set'");
    refused("mset a b c", "wrong number");
    refused("mset a b c d", "CROSSSLOT");
    refused("kv.cas a b", "wrong number");
    refused("kv.cas a b c d e", "wrong number");
    refused("decrby a -9223372036854775808", "overflow");
    refused("scan x", "invalid cursor");
    refused("scan 0 COUNT 0", "syntax");
    refused("flushall NOW", "syntax");
}

#[test]
fn keys_are_where_the_table_says() {
    let positions = |line: &str| {
        let args = args(line);
        let (positions, step) = find(args[0]).unwrap().key_positions(args.len()).unwrap();
        positions.step_by(step).collect::<Vec<_>>()
    };
    assert_eq!(positions("get a"), [1]);
    assert_eq!(positions("del a b c"), [1, 2, 3]);
    assert_eq!(positions("mset a 1 b 2"), [1, 3]);
    assert_eq!(positions("kv.cas a 1 2 b 3 4"), [1, 4]);
    assert_eq!(find(b"ping").unwrap().slot(&args("ping")), Ok(None));
}

/// Commands with arguments that make sense more often than not.
fn lines() -> impl Strategy<Value = String> {
    let words = "EX|PX|NX|XX|GET|KEEPTTL|LIMIT|KEYS|COUNT|MATCH|[0-9]{1,3}|-1|k|\\{t\\}[a-c]|\\+";
    let names = COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>();
    let words = proptest::collection::vec(words, 0..7);
    (proptest::sample::select(names), words)
        .prop_map(|(name, words)| [vec![name.to_owned()], words].concat().join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_parses_stands_in_the_log_as_it_was_meant(line in lines()) {
        let mut bytes = Vec::new();
        if let Ok(operation) = parse(&args(&line)) {
            let entry = LogEntry { now: 1_700_000_000_000, operation };
            entry.encode(&mut bytes);
            prop_assert_eq!(LogEntry::decode(&bytes), Some(entry));
        }
    }
}
