//! Who remembers the nodes that were met: the node's owner of files, asked by its listener and by
//! every shard.

use std::pin::Pin;

use crate::book::{DataId, DataReplaced};

/// Remembers, for a whole node, which data directory each other node is known with; see
/// [`book`](crate::book). Asked once per handshake.
pub trait Introducer {
    /// What a node is known with, if that is one directory. Otherwise it is to be introduced, or
    /// refused by that.
    fn known(&self, node: u64) -> Option<DataId>;

    /// Remembers a node. The future resolves when that is durable; until then nothing comes of the
    /// connection. It may be dropped at any point, and asked for again.
    fn introduce(&self, node: u64, data: DataId) -> Introduction;
}

/// What [`Introducer::introduce`] comes to.
pub type Introduction = Pin<Box<dyn Future<Output = Result<(), IntroduceError>>>>;

/// Why a node was not remembered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntroduceError {
    /// It is known with another data directory.
    #[error(transparent)]
    Replaced(#[from] DataReplaced),
    /// It could not be made durable. The next attempt may.
    #[error("it could not be written down which node was met: {0}")]
    NotRecorded(String),
}
