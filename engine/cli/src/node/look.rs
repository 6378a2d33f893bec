//! What commands that look at a node show to people.

use std::fmt::Write as _;

use ringleader::report::{GroupReport, Table, group_table, member_table, peer_table};
use serde_json::Value;

use super::plain;

pub(super) fn status(value: &Value) -> Result<String, serde_json::Error> {
    let field = |name: &str| plain(&value[name]);
    let mut text = format!(
        "node {} of cluster {}, ringleader {}, up {} s\n{} groups: leads {}, {} without a leader\n",
        field("node"),
        field("cluster"),
        field("version"),
        field("uptime_seconds"),
        field("groups"),
        field("leads"),
        field("leaderless")
    );
    let mut table = Table::new(&["shard", "state", "groups", "connected", "space"]);
    for shard in value["shards"].as_array().into_iter().flatten() {
        let cause = shard["health"]["cause"].as_str().map(|cause| format!(": {cause}"));
        table.row([
            plain(&shard["shard"]),
            plain(&shard["health"]["state"]) + &cause.unwrap_or_default(),
            plain(&shard["groups"]),
            format!("{} of {}", shard["connected"], shard["connections"]),
            if shard["has_space"] == true { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    let _ = write!(text, "\n{table}");
    Ok(text)
}

pub(super) fn groups(value: &Value) -> Result<String, serde_json::Error> {
    let groups: Vec<GroupReport> = serde_json::from_value(value.clone())?;
    Ok(group_table(&groups).to_string())
}

pub(super) fn peers(value: &Value) -> Result<String, serde_json::Error> {
    let mut table = Table::new(&[
        "shard",
        "peer",
        "peer shard",
        "state",
        "alive",
        "heard ms ago",
        "connections",
        "failed",
        "in a row",
        "outbox",
    ]);
    for shard in value["connections"].as_array().into_iter().flatten() {
        for link in shard["links"].as_array().into_iter().flatten() {
            table.row([
                plain(&shard["shard"]),
                plain(&link["node"]),
                plain(&link["shard"]),
                if link["connected"] == true { "up" } else { "DOWN" }.to_owned(),
                if link["alive"] == true { "yes" } else { "NO" }.to_owned(),
                link["heard_ms_ago"].as_u64().map_or("-".into(), |ms| ms.to_string()),
                plain(&link["connections"]),
                plain(&link["failed_connects"]),
                plain(&link["failed_in_a_row"]),
                plain(&link["outbox_bytes"]),
            ]);
        }
    }
    let groups: Vec<GroupReport> = serde_json::from_value(value["groups"].clone())?;
    let mut text = format!("connections\n{table}\npeers of led groups\n{}", peer_table(&groups));
    // A node of an earlier version says nothing of them.
    let followed: Option<Vec<GroupReport>> = serde_json::from_value(value["followed"].clone())?;
    if let Some(followed) = followed.filter(|followed| !followed.is_empty()) {
        let _ = write!(text, "\nmembers of the other groups\n{}", member_table(&followed));
    }
    Ok(text)
}

/// Every number with the path to it.
pub(super) fn metrics(value: &Value) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for shard in value.as_array().into_iter().flatten() {
        flatten(&mut text, &format!("shard {}", shard["shard"]), shard);
    }
    Ok(text)
}

fn flatten(text: &mut String, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flatten(text, &format!("{path} {name}"), value));
        }
        Value::Array(values) => {
            let numbered = values.iter().enumerate();
            numbered.for_each(|(at, value)| flatten(text, &format!("{path} {at}"), value));
        }
        _ => {
            let _ = writeln!(text, "{path} {}", plain(value));
        }
    }
}

pub(super) fn dump(value: &Value) -> Result<String, serde_json::Error> {
    Ok(plain(&value["text"]))
}
