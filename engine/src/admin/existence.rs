//! Groups that come and go on this node.

use serde_json::{Value, json};

use super::{Call, Create, Destroy, Refusal};
use crate::config::GroupConfig;
use crate::error::{CreateGroupError, DestroyGroupError};

pub(super) fn create(call: &Call<'_>) -> Result<Value, Refusal> {
    let Create { group, voters } = call.args()?;
    let config = GroupConfig { group, voters: voters.clone() };
    call.wait(call.handle.create_group(config))?.map_err(|error| {
        let code = match &error {
            CreateGroupError::Exists(_) => "exists",
            CreateGroupError::Destroyed(_) => "destroyed",
            CreateGroupError::Invalid(_) => "impossible",
            CreateGroupError::UnknownNode(_) => "unknown-node",
            CreateGroupError::NoSpace => "no-space",
            CreateGroupError::StorageFailed(_) => "storage-failed",
            CreateGroupError::Stopped => "stopped",
            CreateGroupError::Unknown(_) => return Refusal::unknown("unknown", error.to_string()),
        };
        Refusal::new(code, error.to_string())
    })?;
    Ok(json!({ "group": group, "node": call.handle.shared.node, "voters": voters }))
}

pub(super) fn destroy(call: &Call<'_>) -> Result<Value, Refusal> {
    let Destroy { group, accept_data_loss } = call.args()?;
    let done = match accept_data_loss {
        true => call.wait(call.handle.destroy_member(group))?,
        false => call.wait(call.handle.destroy_replica(group))?,
    };
    done.map_err(|error| {
        let code = match &error {
            DestroyGroupError::StillMember(_) => "member",
            DestroyGroupError::UnknownGroup(_) => "unknown-group",
            DestroyGroupError::StorageFailed(_) => "storage-failed",
            DestroyGroupError::Stopped => "stopped",
            DestroyGroupError::Unknown(_) => return Refusal::unknown("unknown", error.to_string()),
        };
        Refusal::new(code, error.to_string())
    })?;
    Ok(json!({ "group": group, "node": call.handle.shared.node }))
}
