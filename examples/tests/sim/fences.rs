//! What locks and sequences are for, read from what callers were told and from nothing else.

use std::collections::BTreeMap;

use crate::answer::Output;
use crate::clients::Asked;
use crate::command::{Key, Wish};
use crate::faults::Counts;

/// A lock that was given to somebody.
struct Grant {
    key: Key,
    owner: u32,
    token: i64,
    called: u64,
    told: u64,
}

/// The history of a group, by the numbers of its operations.
pub(crate) fn check_history(history: &[(usize, &Asked)], counts: &mut Counts) {
    let mut grants = Vec::new();
    let mut taken: BTreeMap<Key, Vec<(i64, i64)>> = BTreeMap::new();
    for (_, Asked { command, called, returned, .. }) in history {
        let Some((told, output)) = *returned else { continue };
        let what = match (command.input.wish, output) {
            (Wish::Acquire { key, owner, .. }, Output::Number(token)) => {
                grants.push(Grant { key, owner, token, called: *called, told });
                "locks given"
            }
            (Wish::Acquire { .. }, Output::None) => "locks refused",
            (Wish::Renew { .. }, Output::Number(0)) => "locks lost before they were renewed",
            (Wish::Next { key, count }, Output::Number(first)) => {
                taken.entry(key).or_default().push((first, first + count as i64));
                "numbers given out"
            }
            (Wish::TimeToLive { .. }, Output::Number(1..)) => "keys seen that will expire",
            _ => continue,
        };
        counts.add(what, 1);
    }
    check_grants(grants);
    for (key, taken) in taken {
        // One that was deleted begins anew.
        if !history.iter().any(|(_, asked)| asked.command.input.wish.removes(key)) {
            check_taken(key, taken);
            counts.add("sequences that were never deleted", 1);
        }
    }
}

/// A token is one holder's, and none is given after a greater one.
fn check_grants(mut grants: Vec<Grant>) {
    let mut holders = BTreeMap::new();
    for Grant { key, owner, token, .. } in &grants {
        let holder = *holders.entry(*token).or_insert((*key, *owner));
        assert_eq!(holder, (*key, *owner), "fence: token {token} was given to two");
    }
    grants.sort_by_key(|grant| grant.called);
    let mut answered: Vec<(u64, i64, Key, u32)> =
        grants.iter().map(|of| (of.told, of.token, of.key, of.owner)).collect();
    answered.sort_unstable();
    let mut answered = answered.into_iter().peekable();
    // Of each lock: who was last given it, with which token.
    let mut highest: BTreeMap<Key, i64> = BTreeMap::new();
    for Grant { key, token, called, .. } in grants {
        while let Some((_, token, key, _)) = answered.next_if(|of| of.0 < called) {
            let known = highest.entry(key).or_insert(token);
            *known = token.max(*known);
        }
        let before = highest.get(&key).copied().unwrap_or_default();
        assert!(token >= before, "fence: token {token} was given after {before}");
    }
}

/// No number is given out twice.
fn check_taken(key: Key, mut taken: Vec<(i64, i64)>) {
    taken.sort_unstable();
    for pair in taken.windows(2) {
        let ((first, end), (next, _)) = (pair[0], pair[1]);
        assert!(end <= next, "sequence: key {key} gave out {next} twice: from {first} to {end}");
    }
}
