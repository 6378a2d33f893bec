//! Going on without a majority.

use ringleader_wal::NodeId;
use serde_json::{Value, json};

use super::{Call, Refusal, ResetPeers};
use crate::error::ResetError;
use crate::raft::configuration::MAX_LEARNERS;
use crate::raft::quorum::MAX_VOTERS;
use crate::raft::{Configuration, Reset, ResetRefused};

pub(super) fn reset_peers(call: &Call<'_>) -> Result<Value, Refusal> {
    let ResetPeers { group, voters, learners, accept_data_loss } = call.args()?;
    let members = configuration(&voters, &learners)?;
    let handle = call.handle;
    let outcome = match accept_data_loss {
        true => call.wait(handle.reset_peers(group, &members))?,
        false => call.wait(handle.plan_reset(group, &members))?,
    };
    let Reset { at, last, commit, before } = outcome.map_err(|error| refusal(call, &error))?;
    let gone = before.deciders().filter(|node| !members.contains(*node));
    Ok(json!({
        "group": group, "node": handle.shared.node, "done": accept_data_loss, "at": at,
        "last": last, "commit": commit, "before": before, "members": members,
        "without": gone.collect::<Vec<_>>(),
    }))
}

fn configuration(voters: &[NodeId], learners: &[NodeId]) -> Result<Configuration, Refusal> {
    let too_many = voters.len() > MAX_VOTERS || learners.len() > MAX_LEARNERS;
    if too_many || learners.iter().any(|node| voters.contains(node)) {
        let why = "impossible members: too many, or one that is to be both voter and learner";
        return Err(Refusal::new("impossible", why));
    }
    Ok(Configuration::new(voters, &[]).with_learners(learners))
}

fn refusal(call: &Call<'_>, error: &ResetError) -> Refusal {
    let message = error.to_string();
    match error {
        ResetError::Refused(ResetRefused::HasLeader(leader)) => {
            Refusal { code: "has-leader".into(), message, ..call.not_leader(Some(*leader)) }
        }
        ResetError::Refused(ResetRefused::Impossible(_)) => Refusal::new("impossible", message),
        ResetError::UnknownNode(_) => Refusal::new("unknown-node", message),
        ResetError::NoSpace => Refusal::new("no-space", message),
        ResetError::UnknownGroup(_) => Refusal::new("unknown-group", message),
        ResetError::StorageFailed(_) => Refusal::new("storage-failed", message),
        ResetError::Stopped => Refusal::new("stopped", message),
        ResetError::Unknown(_) => Refusal::unknown("unknown", message),
    }
}
