//! `ringleader survey`: what each of some nodes has of the groups, side by side, for whoever has to
//! decide which of them is to go on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use ringleader::admin::SOCKET;
use ringleader::raft::era::Era;
use ringleader::report::{GroupReport, Table};
use ringleader::shard::SnapshotSurvey;
use ringleader::{Configuration, GroupId, LogIndex, LogPosition, NodeId, Term};
use ringleader_wal::RecoveredGroup;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::log::survey;
use crate::members::who;
use crate::node::ask_at;

#[derive(Args)]
pub(crate) struct Survey {
    /// Data directories of nodes that run (they are asked) or do not (their logs are read)
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// The state machines keep their own state: a log may begin where no snapshot reaches
    #[arg(long)]
    own_state: bool,
}

/// What a node has of a group.
struct Replica {
    node: NodeId,
    dir: PathBuf,
    is_running: bool,
    term: Term,
    last: LogPosition,
    /// Known on a running node only.
    commit: Option<LogIndex>,
    /// None if the log does not say: the founders', or a snapshot's.
    members: Option<Configuration>,
}

type Groups = BTreeMap<GroupId, Vec<Replica>>;

pub(crate) fn run(Survey { dirs, own_state }: &Survey, json: bool) -> Result<(), Failure> {
    let mut groups = Groups::new();
    let (mut damaged, mut missing) = (Vec::new(), None);
    for dir in dirs {
        match look(dir, *own_state, &mut groups) {
            Ok(damage) => damaged.extend(damage),
            // The others may still have what is needed.
            Err(failure) => {
                damaged.push(failure.to_string());
                missing.get_or_insert(failure);
            }
        }
    }
    for replicas in groups.values_mut() {
        replicas.sort_by_key(|replica| (std::cmp::Reverse(rank(replica)), replica.node));
    }
    let text = match json {
        true => format!("{:#}\n", document(&groups, &damaged)),
        false => tables(&groups, &damaged),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Failure::Output)?;
    match missing {
        Some(failure) => Err(failure),
        None if damaged.is_empty() => Ok(()),
        None => Err(Failure::Damaged(damaged.len())),
    }
}

/// Who is before whom in an election (thesis, section 3.6.1): the first has all that any of them
/// knows committed.
fn rank(replica: &Replica) -> (Term, LogIndex) {
    (replica.last.term, replica.last.index)
}

/// The logs in it that can't be read.
fn look(dir: &Path, own_state: bool, groups: &mut Groups) -> Result<Vec<String>, Failure> {
    if !dir.join(SOCKET).exists() {
        return look_at_logs(dir, own_state, groups);
    }
    match ask_at(dir, "groups").and_then(|list| Ok((list, ask_at(dir, "status")?))) {
        Ok((list, status)) => {
            look_at_node(dir, list, &status, groups)?;
            Ok(Vec::new())
        }
        // A killed node leaves its socket behind.
        Err(Failure::NoNode { .. }) => look_at_logs(dir, own_state, groups),
        Err(failure) => Err(failure),
    }
}

fn look_at_node(
    dir: &Path,
    list: Value,
    status: &Value,
    groups: &mut Groups,
) -> Result<(), Failure> {
    let nonsense = |cause: &dyn ToString| Failure::Nonsense {
        path: dir.join(SOCKET),
        cause: cause.to_string(),
    };
    let list: Vec<GroupReport> = serde_json::from_value(list).map_err(|error| nonsense(&error))?;
    let node = status["node"].as_u64().map(NodeId).ok_or_else(|| nonsense(&"no node"))?;
    for GroupReport { status, .. } in list {
        groups.entry(status.group).or_default().push(Replica {
            node,
            dir: dir.into(),
            is_running: true,
            term: status.term,
            last: status.last,
            commit: Some(status.commit),
            members: Some(status.configuration),
        });
    }
    Ok(())
}

fn look_at_logs(dir: &Path, own_state: bool, groups: &mut Groups) -> Result<Vec<String>, Failure> {
    let (_held, shards) = survey::open(dir)?;
    let mut damaged = Vec::new();
    for shard in &shards {
        let found = survey::Survey::of(shard, own_state)?;
        let node = found.identity.map_or(NodeId(0), |identity| identity.node);
        match (found.outcome, found.snapshots) {
            (Ok(recovered), Ok(SnapshotSurvey { refusals, .. })) => {
                // What can't be started from is of no use to a group.
                let begins = |group: &&RecoveredGroup| {
                    !refusals.iter().any(|refusal| refusal.group == group.group)
                };
                let begin = recovered.groups.iter().filter(begins);
                for (group, replica) in begin.map(|group| replica(node, dir, group)) {
                    groups.entry(group).or_default().push(replica);
                }
                let causes = refusals.iter().map(|refusal| &refusal.cause);
                damaged.extend(causes.map(|cause| format!("{}: {cause}", shard.display())));
            }
            (Err(error), _) => damaged.push(format!("{}: {error}", shard.display())),
            (_, Err(cause)) => damaged.push(format!("{}: {cause}", shard.display())),
        }
    }
    Ok(damaged)
}

fn replica(node: NodeId, dir: &Path, group: &RecoveredGroup) -> (GroupId, Replica) {
    let term = group.terms.last().map_or(group.base.term, |start| start.term);
    let newest = group.configurations.last();
    let read = newest.map(|block| Configuration::of_entry(block.payload(block.first_index())));
    let replica = Replica {
        node,
        dir: dir.into(),
        is_running: false,
        term: group.hard_state.term,
        last: LogPosition { index: group.last_index, term },
        commit: None,
        members: read.and_then(Result::ok),
    };
    (group.group, replica)
}

fn document(groups: &Groups, damaged: &[String]) -> Value {
    let groups = groups.iter().map(|(group, replicas)| {
        let best = replicas.first().map(rank);
        let replicas = replicas.iter().map(|replica| {
            json!({
                "node": replica.node, "dir": replica.dir, "running": replica.is_running,
                "term": replica.term, "last": replica.last, "commit": replica.commit,
                "members": replica.members, "resets": Era::of(replica.last.term).resets(),
                "best": Some(rank(replica)) == best,
            })
        });
        json!({ "group": group, "replicas": replicas.collect::<Value>() })
    });
    json!({ "version": 1, "groups": groups.collect::<Value>(), "unreadable": damaged })
}

fn tables(groups: &Groups, damaged: &[String]) -> String {
    let mut table = Table::new(&[
        "group",
        "node",
        "last term",
        "last",
        "committed",
        "term",
        "resets",
        "state",
        "members",
        "most",
        "directory",
    ]);
    for (group, replicas) in groups {
        let best = replicas.first().map(rank);
        for replica in replicas {
            table.row([
                group.to_string(),
                replica.node.to_string(),
                replica.last.term.to_string(),
                replica.last.index.to_string(),
                replica.commit.map_or("-".into(), |commit| commit.to_string()),
                replica.term.to_string(),
                Era::of(replica.last.term).resets().to_string(),
                if replica.is_running { "running" } else { "stopped" }.into(),
                replica.members.as_ref().map_or("as configured".into(), who),
                if Some(rank(replica)) == best { "yes" } else { "" }.into(),
                replica.dir.display().to_string(),
            ]);
        }
    }
    let mut text = table.to_string();
    damaged.iter().for_each(|damage| text += &format!("NOT READ: {damage}\n"));
    text + "of the replicas that are left, one with the most is to go on; it has all that any of \
            them knows committed\n"
}
