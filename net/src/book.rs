//! Which data each node was met with: what finds a node that comes back without it.
//!
//! A node's promises (its votes, what it called durable) are worth what its data directory is worth.
//! When that is gone and the node starts over with an empty one, it has forgotten them: it could
//! vote twice in a term, and a majority that counts it could lack what was acknowledged. So a data
//! directory has a random number, its [`DataId`], from the day it is made. It travels in the
//! handshake, every node remembers durably which one it met each other node with, and a node that
//! turns up with another one is refused by whoever remembers, for good: to the rest of the cluster
//! it is down. Its owner removes it from its groups and adds it as a new node, with a new number,
//! which the groups bring up to date before it counts.
//!
//! # What is promised, and what is not
//!
//! - A node that two others met is refused by both, whichever side dials, after any number of
//!   restarts. Normally every two members of a group have met: they are connected all the time.
//! - **Two nodes that never met don't know.** If a node lost its data before it was ever connected
//!   to another one, that one takes it for what it says. For an acknowledged entry to be lost, the
//!   node must have been counted for it by a leader, which it met, and afterwards a majority must
//!   come together out of it and of nodes that it had never met. That takes a cluster of four or
//!   more that was never whole, or a member added while part of the cluster was away.
//! - **A majority that lost its data at once is not found**: those nodes don't remember each other.
//!   What was acknowledged is lost then in any case; here the groups may also begin anew, empty.
//! - **An old copy is not found**: a directory that is restored from a backup, or copied, has the
//!   number of the original and less in it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The number of a data directory: random, made with it, never changed. Not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataId(pub u128);

impl fmt::Display for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for DataId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|number| digits && *number != 0);
        number.map(Self).ok_or_else(|| format!("{text:?} is no number of a data directory"))
    }
}

/// A node turned up with another data directory than the one that it was met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} has the data directory {found}, and node {by} met it with {known}: what it had \
     promised is lost. Remove node {node} from its groups and add it again as a new node, with a \
     new number and an empty directory"
)]
pub struct DataReplaced {
    /// The node.
    pub node: u64,
    /// Who met it before.
    pub by: u64,
    /// What it was met with.
    pub known: DataId,
    /// What it has now.
    pub found: DataId,
}

/// What one node remembers of the others. Entries are never changed and never removed, for a
/// number is never given to another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerBook {
    met: BTreeMap<u64, DataId>,
}

/// Lines of text with their CRC-32 as one more line, `crc X`.
#[must_use]
pub fn seal(text: &str) -> String {
    format!("{text}crc {:08x}\n", crc32fast::hash(text.as_bytes()))
}

/// The lines that were sealed.
///
/// # Errors
/// What is wrong with them.
pub fn unseal(sealed: &str) -> Result<&str, String> {
    let end = sealed.rfind("crc ").ok_or("it ends before its checksum")?;
    let text = &sealed[..end];
    if seal(text) == sealed { Ok(text) } else { Err("its checksum is wrong".into()) }
}

/// First line of a book as text.
const TITLE: &str = "ringleader peers 1";

impl PeerBook {
    /// What a node was met with.
    #[must_use]
    pub fn known(&self, node: u64) -> Option<DataId> {
        self.met.get(&node).copied()
    }

    /// Meets a node on behalf of node `by`. True if that is the first time: then the book is to be
    /// made durable before anything is made of the meeting.
    ///
    /// # Errors
    /// It was met with another directory. The book stays as it is.
    pub fn meet(&mut self, by: u64, node: u64, found: DataId) -> Result<bool, DataReplaced> {
        match self.known(node) {
            Some(known) if known != found => Err(DataReplaced { node, by, known, found }),
            Some(_) => Ok(false),
            None => {
                self.met.insert(node, found);
                Ok(true)
            }
        }
    }

    /// The book as lines of text: a title, `node N data D` for each node, and a CRC-32 of all that,
    /// for a bit that flips must not make a healthy node a stranger.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = self.met.iter().map(|(node, data)| format!("node {node} data {data}\n"));
        seal(&format!("{TITLE}\n{}", lines.collect::<String>()))
    }

    /// Reads what [`to_text`](Self::to_text) gives.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut lines = unseal(text)?.lines();
        let title = lines.next().unwrap_or_default();
        if title != TITLE {
            return Err(format!("it begins with {title:?} and not with {TITLE:?}"));
        }
        let mut book = Self::default();
        for line in lines {
            let entry = line.strip_prefix("node ").and_then(|rest| rest.split_once(" data "));
            let entry =
                entry.and_then(|(node, data)| Some((node.parse().ok()?, data.parse().ok()?)));
            let (node, data) = entry.ok_or_else(|| format!("it has a line {line:?}"))?;
            book.met.insert(node, data);
        }
        Ok(book)
    }
}
