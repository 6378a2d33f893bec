//! Quorum arithmetic against a definition that only counts: all configurations of up to five
//! incoming and up to five outgoing voters, disjoint, overlapping or the same.

use ringleader::raft::Configuration;
use ringleader::raft::quorum::VoteResult;
use ringleader_net::DataId;
use ringleader_wal::NodeId;

/// Incoming voters are 1..=a; outgoing are `b` nodes from `shift` on.
fn configurations() -> impl Iterator<Item = (Vec<NodeId>, Vec<NodeId>)> {
    let range = |from: u64, count: u64| (from..from + count).map(NodeId).collect::<Vec<_>>();
    (0..=5u64).flat_map(move |a| {
        (0..=5u64).flat_map(move |b| {
            let shifts = if b == 0 { 1..=1 } else { 1..=a + 1 };
            shifts.map(move |shift| (range(1, a), range(shift, b)))
        })
    })
}

fn is_majority(voters: &[NodeId], agrees: impl Fn(NodeId) -> bool) -> bool {
    voters.iter().filter(|voter| agrees(**voter)).count() * 2 > voters.len()
}

fn is_quorum(incoming: &[NodeId], outgoing: &[NodeId], agrees: impl Fn(NodeId) -> bool) -> bool {
    is_majority(incoming, &agrees) && (outgoing.is_empty() || is_majority(outgoing, &agrees))
}

#[test]
fn votes_are_counted_in_both_halves() {
    for (incoming, outgoing) in configurations() {
        let configuration = Configuration::new(&incoming, &outgoing);
        let members: Vec<_> = configuration.members().collect();
        for ballots in 0..3usize.pow(members.len() as u32) {
            let vote = |node| {
                let at = members.iter().position(|member| *member == node).expect("a member");
                match ballots / 3usize.pow(at as u32) % 3 {
                    0 => None,
                    1 => Some(true),
                    _ => Some(false),
                }
            };
            let expected = if is_quorum(&incoming, &outgoing, |node| vote(node) == Some(true)) {
                VoteResult::Won
            } else if is_quorum(&incoming, &outgoing, |node| vote(node) != Some(false)) {
                VoteResult::Pending
            } else {
                VoteResult::Lost
            };
            let result = configuration.vote_result(vote);
            assert_eq!(result, expected, "{configuration:?}, ballots {ballots}");
        }
    }
}

#[test]
fn a_value_is_reached_when_both_halves_reached_it() {
    for (incoming, outgoing) in configurations() {
        let configuration = Configuration::new(&incoming, &outgoing);
        let members: Vec<_> = configuration.members().collect();
        // Every way to order the members, ties included, when there are few of them; otherwise
        // the first twenty thousand.
        let levels = members.len().max(1);
        for case in 0..levels.pow(members.len() as u32).min(20_000) {
            let value = |node| {
                let at = members.iter().position(|member| *member == node).expect("a member");
                case / levels.pow(at as u32) % levels
            };
            let reached_at = |level| is_quorum(&incoming, &outgoing, |node| value(node) >= level);
            let expected =
                (!incoming.is_empty()).then(|| (0..levels).rev().find(|level| reached_at(*level)));
            assert_eq!(
                configuration.reached(value),
                expected.flatten(),
                "{configuration:?} {case}"
            );
        }
    }
}

#[test]
fn members_are_listed_once_in_order() {
    let configuration =
        Configuration::new(&[NodeId(3), NodeId(1), NodeId(3)], &[NodeId(1), NodeId(2)]);
    assert!(configuration.members().eq([NodeId(1), NodeId(3), NodeId(2)]));
    assert!(configuration.contains(NodeId(2)) && !configuration.contains(NodeId(4)));
}

#[test]
fn nobody_is_no_quorum() {
    let nobody = Configuration::default();
    assert_eq!(nobody.reached(|_| 1), None);
    assert_eq!(nobody.vote_result(|_| Some(true)), VoteResult::Lost);
}

fn nodes(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

#[test]
fn a_configuration_survives_its_encoding() {
    let plain = Configuration::new(&nodes(&[3, 1, 2]), &[]);
    let joint = Configuration::new(&nodes(&[1, 4, 9]), &nodes(&[1, 2, 3]));
    let with_learners = joint.clone().with_learners(&nodes(&[3, 7]));
    let some = with_learners.identified(|node| (node.0 > 2).then_some(DataId(u128::MAX - 7)));
    assert_eq!((some.data(NodeId(9)), some.data(NodeId(2))), (Some(DataId(u128::MAX - 7)), None));
    assert!(!some.is_identified() && some.identified(|_| Some(DataId(1))).is_identified());
    assert_eq!(some.identified(|_| None), with_learners);
    for configuration in [Configuration::default(), plain, joint, with_learners.clone(), some] {
        let json = serde_json::to_string(&configuration).expect("it can be written");
        assert_eq!(serde_json::from_str::<Configuration>(&json).ok(), Some(configuration.clone()));
        let bytes = configuration.encode();
        assert_eq!(Configuration::decode(&bytes), Ok(configuration));
    }
    assert!(with_learners.members().eq(nodes(&[1, 4, 9, 2, 3, 7])));
    let largest: Vec<NodeId> = (1..=62).map(NodeId).collect();
    let largest =
        Configuration::new(&largest[..15], &largest[15..30]).with_learners(&largest[30..]);
    assert_eq!(Configuration::decode(&largest.encode()), Ok(largest));
}

/// Whatever a byte or the length is changed to, what is accepted is a configuration that encodes to
/// the very same bytes.
#[test]
fn damaged_configurations_are_refused() {
    let joint = Configuration::new(&nodes(&[1, 4]), &nodes(&[1, 2])).with_learners(&nodes(&[2]));
    let bytes = joint.identified(|node| (node.0 < 4).then_some(DataId(9))).encode();
    let accepted = |bytes: &[u8]| match Configuration::decode(bytes) {
        Ok(configuration) => assert_eq!(configuration.encode(), bytes),
        Err(error) => assert!(!error.to_string().is_empty()),
    };
    for at in 0..bytes.len() {
        assert!(Configuration::decode(&bytes[..at]).is_err(), "{at} bytes");
        for value in 0..=u8::MAX {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            accepted(&damaged);
        }
    }
    assert!(Configuration::decode(&[&bytes[..], &[0]].concat()).is_err());
    let record = [&[5], &[0; 7][..], &[4], &[0; 23]].concat();
    let nobody_decides = [&[2, 0, 32, 0, 1, 0, 0, 0], &record[..]].concat();
    let error = Configuration::decode(&nobody_decides).expect_err("refused").to_string();
    assert!(error.contains("without voters"), "{error}");
    let earlier = [&[1, 0, 16, 0, 1, 0, 0, 0], &record[..16]].concat();
    let error = Configuration::decode(&earlier).expect_err("refused").to_string();
    assert!(error.contains("of version 1"), "{error}");
}
