//! Which data each node is known with: what finds a node that comes back without it.
//!
//! A node's promises (its votes, what it called durable) are worth what its data directory is worth.
//! When that is gone and the node starts over with an empty one, it has forgotten them: it could
//! vote twice in a term, and a majority that counts it could lack what was acknowledged. So a data
//! directory has a random number, its [`DataId`], from the day it is made. It travels in the
//! handshake, and every node remembers durably which one each other node has. It learns that in two
//! ways:
//!
//! - **by meeting it**: what the other shows when they connect for the first time;
//! - **by being told**: the configurations in the groups' logs name the directory of each member, as
//!   its leader met it, so whoever has a group's log knows its members, whether it met them or not.
//!
//! A node that turns up with another directory than the one it is known with is refused by whoever
//! knows, for good: to the rest of the cluster it is down. Its owner removes it from its groups and
//! adds it as a new node, with a new number, which the groups bring up to date before it counts. One
//! that is known with two directories, because somebody was met without its data before that was
//! known, is refused with either.
//!
//! (Kafka's KIP-853 has directory ids in the log's voter sets likewise, and lets ids that are not
//! known yet match any. There, a replaced disk comes back under its old number, as another voter.
//! Here a number is used up with its disk, which leaves nothing to be confused.)
//!
//! # What is promised, and what is not
//!
//! - A node that lost its data is refused by all that met it before, and by all whose logs hold a
//!   configuration that names its directory, whichever side dials, after any number of restarts.
//!   A leader puts the directories of those whom it has met into the log as soon as it has committed
//!   anything, and those of others when it meets them.
//! - **Before that, who founded a group knows whom it met, and nobody else.** The configuration that
//!   a group is founded with names numbers alone, for nobody has met anybody yet. If a majority of
//!   its founders began without the others, and one of that majority lost its data before any of the
//!   others got anything of the log, then they take it for what it says: they can't tell a group that
//!   begins from one that has begun without them. So see to it that all founders are up when a group
//!   is founded; after that, no order of restarts does harm.
//! - **A majority that lost its data at once is not found** where nobody is left who knew them: those
//!   nodes don't remember each other. What was acknowledged is lost then in any case; here the groups
//!   may also begin anew, empty.
//! - **An old copy is not found**: a directory that is restored from a backup, or copied, has the
//!   number of the original and less in it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a data directory: random, made with it, never changed. Not zero. As text, and in
/// JSON, it is 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(into = "String", try_from = "String")]
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

impl From<DataId> for String {
    fn from(id: DataId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for DataId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A node turned up with another data directory than the one that it is known with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} has the data directory {found}, and node {by} knows it with {known}: what it had \
     promised is lost. Remove node {node} from its groups and add it again as a new node, with a \
     new number and an empty directory"
)]
pub struct DataReplaced {
    /// The node.
    pub node: u64,
    /// Who knows it.
    pub by: u64,
    /// What it is known with.
    pub known: DataId,
    /// What it has now.
    pub found: DataId,
}

/// What one node knows of the others. Entries are never changed and never removed, for a number is
/// never given to another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerBook {
    /// A node that stands here with two directories is refused with either.
    known: BTreeSet<(u64, DataId)>,
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
    /// What a node is known with, if that is one directory.
    #[must_use]
    pub fn known(&self, node: u64) -> Option<DataId> {
        let mut all = self.all(node);
        all.next().filter(|_| all.next().is_none())
    }

    fn all(&self, node: u64) -> impl Iterator<Item = DataId> + '_ {
        let of_node = (node, DataId(0))..=(node, DataId(u128::MAX));
        self.known.range(of_node).map(|(_, data)| *data)
    }

    /// What is wrong with a node that shows the directory `found` to node `by`, whose book this is.
    ///
    /// # Errors
    /// It is known with another one.
    pub fn check(&self, by: u64, node: u64, found: DataId) -> Result<(), DataReplaced> {
        match self.all(node).find(|known| *known != found) {
            Some(known) => Err(DataReplaced { node, by, known, found }),
            None => Ok(()),
        }
    }

    /// Meets a node on behalf of node `by`. True if that is the first that it knows of it: then the
    /// book is to be made durable before anything is made of the meeting.
    ///
    /// # Errors
    /// It is known with another directory. The book stays as it is.
    pub fn meet(&mut self, by: u64, node: u64, found: DataId) -> Result<bool, DataReplaced> {
        self.check(by, node, found)?;
        Ok(self.known.insert((node, found)))
    }

    /// A group's configuration names a node's directory. True if that is news: then the book is to
    /// be made durable. If it was met with another one, it is refused from now on.
    pub fn tell(&mut self, node: u64, data: DataId) -> bool {
        self.known.insert((node, data))
    }

    /// The book as lines of text: a title, `node N data D` for each entry, and a CRC-32 of all that,
    /// for a bit that flips must not make a healthy node a stranger.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = self.known.iter().map(|(node, data)| format!("node {node} data {data}\n"));
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
            book.known.insert((node, data));
        }
        Ok(book)
    }
}
