//! The `tracing` events of this process, kept to be looked at.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, Once};

use ringleader::GroupId;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) level: Level,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<&'static str, String>,
}

impl Captured {
    /// A field that is a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let text = self.fields.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        text.parse().unwrap_or_else(|_| panic!("{name} is no number in {self:?}"))
    }
}

static EVENTS: Mutex<Vec<Captured>> = Mutex::new(Vec::new());

struct Capture;

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut captured = Captured { level, message: String::new(), fields: BTreeMap::new() };
        event.record(&mut captured);
        EVENTS.lock().expect("no panic under this lock").push(captured);
    }
}

impl Visit for Captured {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => drop(self.fields.insert(name, text)),
        }
    }
}

/// Keeps all events of this process from now on, those of all threads.
pub(crate) fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::registry().with(Capture).init());
}

/// The events about a group whose message contains `message`, in order.
pub(crate) fn about(group: GroupId, message: &str) -> Vec<Captured> {
    let events = EVENTS.lock().expect("no panic under this lock");
    let group = group.to_string();
    let is_wanted = |event: &&Captured| {
        event.fields.get("group") == Some(&group) && event.message.contains(message)
    };
    events.iter().filter(is_wanted).cloned().collect()
}
