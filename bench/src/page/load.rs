//! Reads result files, and tells of which command each is.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::input::{Cluster, Comparison, Floor, Tuning};

/// What a file holds.
pub(super) enum Content {
    Cluster(Box<Cluster>),
    Compare(Comparison),
    Floor(Box<Floor>),
    Tune(Tuning),
}

/// A file that was read.
pub(super) struct Source {
    /// Its name without the folders, which say nothing to others.
    pub(super) name: String,
    pub(super) content: Content,
}

impl Source {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
        let content = parse(&text).with_context(|| format!("{shown} can't be shown"))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, content })
    }
}

pub(super) fn parse(text: &str) -> anyhow::Result<Content> {
    let value: Value = serde_json::from_str(text).context("it is not JSON")?;
    if !value.is_object() {
        bail!("it is not a JSON object");
    }
    let loaded = value.get("workload").is_some() && value.get("ops_per_sec").is_some();
    match value.get("kind").and_then(Value::as_str) {
        Some("compare") => Ok(Content::Compare(typed(text, "compare")?)),
        Some("floor") => Ok(Content::Floor(typed(text, "floor")?)),
        Some("tune") => Ok(Content::Tune(typed(text, "tune")?)),
        Some("cluster") | None if loaded => Ok(Content::Cluster(typed(text, "cluster")?)),
        Some(kind) => bail!("it is a result of the kind {kind:?}, of which there is no chart"),
        None => bail!(
            "it is no result of cluster, compare, floor or tune: it has neither a kind nor a \
             workload with ops_per_sec"
        ),
    }
}

/// From the text again, so that an error has a line.
fn typed<T: DeserializeOwned>(text: &str, command: &str) -> anyhow::Result<T> {
    serde_json::from_str(text).with_context(|| format!("it is not as {command} writes it"))
}
