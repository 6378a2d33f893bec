//! Limits and refusals: every operation is answered, and only what was accepted is applied.

mod nodes;

use futures_lite::future::block_on;
use nodes::{GROUP, addresses, config, eventually, leader};
use ringleader::{
    Consistency, Engine, Entries, MembershipError, NodeId, ProposeError, ReadError, Replies,
    StateMachine, TransferError, TransferRefused,
};

/// Keeps the numbers that it is given.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl StateMachine for Numbers {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        let number = |payload: &[u8]| u64::from_le_bytes(payload.try_into().expect("eight bytes"));
        self.0.extend(entries.iter().map(|entry| number(entry.payload)));
    }
}

#[test]
fn with_tiny_limits_every_operation_is_answered_and_what_was_busy_comes_later() {
    const OPERATIONS: u64 = 2_000;
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let start = |node| {
        let mut config = config(&addresses, node, 1, dir.path());
        // No operation is lost to an election because this machine stood still.
        config.raft.election_timeout = std::time::Duration::from_secs(4);
        config.limits.inbox_requests = 2;
        // Room for four operations at once, of which three may be one group's.
        config.limits.shard_bytes = 160;
        config.limits.group_bytes = 120;
        Engine::start(config, |_| Box::new(Numbers::default())).expect("the node starts")
    };
    let engines: Vec<Engine> = (1..=3).map(start).collect();
    let handle = leader(&engines, GROUP);
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for number in 0..OPERATIONS {
        match handle.try_propose(GROUP, &number.to_le_bytes()) {
            Ok(proposed) => accepted.push((number, proposed)),
            Err(ProposeError::Busy) => refused.push(number),
            Err(error) => panic!("{error}"),
        }
    }
    let turned_away = refused.len() as u64;
    let mut applied = Vec::new();
    for (number, proposed) in accepted {
        match block_on(proposed) {
            Ok(_) => applied.push(number),
            Err(ProposeError::Busy) => refused.push(number),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((applied.len() + refused.len()) as u64, OPERATIONS);
    assert!(!applied.is_empty() && !refused.is_empty(), "{} refused", refused.len());
    let report = block_on(handle.report()).expect("it runs");
    let callers = report.shards[0].callers;
    assert_eq!(callers.turned_away, turned_away);
    assert_eq!(callers.refused_busy, refused.len() as u64 - turned_away);
    let numbers = |engine: &Engine| {
        let read = engine.handle();
        let read = read.inspect(GROUP, |numbers: &mut Numbers| numbers.0.clone());
        block_on(read).expect("the group is here")
    };
    let of_leader = block_on(handle.inspect(GROUP, |numbers: &mut Numbers| numbers.0.clone()));
    assert_eq!(of_leader.as_ref(), Ok(&applied), "what was refused was not applied");

    // Whoever waits gets through.
    for number in refused {
        eventually("room", || match block_on(handle.propose(GROUP, &number.to_le_bytes())) {
            Ok(_) => Some(()),
            Err(ProposeError::Busy) => None,
            Err(error) => panic!("{error}"),
        });
        applied.push(number);
    }
    for engine in &engines {
        eventually("a replica to have it all", || (numbers(engine) == applied).then_some(()));
    }
}

#[test]
fn without_a_majority_nothing_is_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(&addresses(3), 1, 1, dir.path());
    let timeout = config.raft.election_timeout;
    let engine = Engine::start(config, |_| Box::new(Numbers::default())).expect("it starts");
    let handle = engine.handle();
    let began = std::time::Instant::now();
    // Before it campaigns, and after it did in vain.
    while began.elapsed() < timeout * 3 {
        let refused = block_on(handle.propose(GROUP, &7_u64.to_le_bytes()));
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
        for change in [handle.add_voter(GROUP, NodeId(2)), handle.add_voter(GROUP, NodeId(3))] {
            assert_eq!(block_on(change), Err(MembershipError::NotLeader { leader: None }));
        }
        let refused = block_on(handle.remove_replica(GROUP, NodeId(2)));
        assert_eq!(refused, Err(MembershipError::NotLeader { leader: None }));
        let refused = block_on(handle.transfer_leadership(GROUP, None));
        let expected = TransferRefused::NotLeader { leader: None };
        assert_eq!(refused, Err(TransferError::Refused(expected)));
        let read =
            handle.read(GROUP, Consistency::Linearizable, |numbers: &Numbers| numbers.0.len());
        assert_eq!(block_on(read), Err(ReadError::NoLeader));
    }
    let status = block_on(handle.status(GROUP)).expect("the group is here");
    assert_eq!((status.term.0, status.last.index.0), (0, 0), "it asked, and changed nothing");
}
