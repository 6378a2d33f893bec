//! Members in words.

use ringleader::{Configuration, NodeId};

pub(crate) fn list(nodes: &[NodeId]) -> String {
    let numbers: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    if numbers.is_empty() { "none".into() } else { numbers.join(" ") }
}

pub(crate) fn who(members: &Configuration) -> String {
    let mut text = format!("voters {}", list(members.voters()));
    if members.is_joint() {
        text += &format!(", together with {}", list(members.outgoing()));
    }
    text + &format!("; learners {}", list(members.learners()))
}
