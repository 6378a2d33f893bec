//! Peers: which there are, how they are built, and what a node of one says. The contract is
//! `bench/peers/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;

/// What `build` exits with when a tool is missing.
const TOOL_MISSING: i32 = 3;
/// Lines of a failed build that are shown.
const LAST_WORDS: usize = 5;

/// A peer's folder.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    folder: PathBuf,
}

/// A node's answer to a command.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Ready(Ready),
    Roles(Roles),
    Measured(PeerMeasured),
    Applied(Applied),
}

/// What a peer is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) version: String,
    /// Acknowledged operations are on a majority's disks.
    pub(crate) durable: bool,
    #[serde(default)]
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Roles {
    pub(crate) leads: Vec<u64>,
    /// Groups whose leader the node knows.
    pub(crate) known: u64,
}

/// What a node that led something counted.
#[derive(Debug, Deserialize)]
pub(crate) struct PeerMeasured {
    pub(crate) seconds: f64,
    pub(crate) ops: u64,
    pub(crate) errors: u64,
    pub(crate) unknown: u64,
    #[serde(default)]
    pub(crate) busy: u64,
    /// Nanoseconds, and how many operations took them.
    pub(crate) histogram: Vec<(u64, u64)>,
    pub(crate) max_ns: u64,
    pub(crate) proposed: u64,
    pub(crate) acknowledged: u64,
    #[serde(default)]
    pub(crate) messages: Vec<String>,
}

/// What a node's state machine came to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Applied {
    pub(crate) count: u64,
    pub(crate) hash: String,
}

impl Peer {
    /// The peers below `folder`, by name; with `wanted` only those.
    pub(crate) fn find(folder: &Path, wanted: &[String]) -> anyhow::Result<Vec<Self>> {
        let shown = folder.display();
        let entries = fs::read_dir(folder).with_context(|| {
            format!("reading {shown}, the folder of the peers; --peers-dir names another")
        })?;
        let mut peers = Vec::new();
        for entry in entries {
            let folder = entry?.path();
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
            if let Some(name) = name.filter(|_| folder.join("node").exists()) {
                peers.push(Self { name, folder });
            }
        }
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let Some(strange) = wanted.iter().find(|name| !peers.iter().any(|p| p.name == **name))
        else {
            peers.retain(|peer| wanted.is_empty() || wanted.contains(&peer.name));
            return Ok(peers);
        };
        let names: Vec<_> = peers.iter().map(|peer| &*peer.name).collect();
        bail!("there is no peer {strange:?} in {shown}; there are: {}", names.join(", "));
    }

    /// Builds it. The text says why it can't be run here.
    pub(crate) fn build(&self) -> Result<(), String> {
        eprintln!("building {}", self.name);
        let mut command = Command::new(self.folder.join("build"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output =
            command.output().map_err(|error| format!("its build can't be run: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_WORDS)..].join("; ");
        Err(match output.status.code() {
            Some(TOOL_MISSING) => last,
            _ => format!("its build failed ({}): {last}", output.status),
        })
    }

    /// The command that runs a node.
    pub(crate) fn node(&self) -> Command {
        Command::new(self.folder.join("node"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_contract_has_them() {
        let roles = serde_json::from_str(r#"{"roles": {"leads": [1, 3], "known": 4}}"#);
        assert!(matches!(roles, Ok(Answer::Roles(Roles { leads, known: 4 })) if leads == [1, 3]));
        let ready =
            r#"{"ready": {"name": "x", "version": "1.2", "durable": true, "settings": {}}}"#;
        assert!(matches!(serde_json::from_str(ready), Ok(Answer::Ready(ready)) if ready.durable));
        assert!(serde_json::from_str::<Answer>(r#"{"applied": {"count": 1}}"#).is_err());
    }

    #[test]
    fn a_peer_that_is_not_there_is_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let error = Peer::find(&folder, &["nobody".into()]).expect_err("no such peer");
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
