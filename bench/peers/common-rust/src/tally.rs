//! What the load counts, and how it is reported.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longer latencies count as this: more than a run takes.
const MAX_LATENCY: u64 = 600_000_000_000;
/// Three digits: the resolution of a latency is a thousandth of it.
const DIGITS: u8 = 3;
/// How many errors are reported in words.
const MESSAGES: usize = 5;

pub(crate) struct Tally {
    pub(crate) proposed: u64,
    pub(crate) busy: u64,
    acknowledged: u64,
    errors: u64,
    unknown: u64,
    messages: Vec<String>,
    /// Of operations that completed between `begin` and `end`, in nanoseconds.
    latencies: Histogram<u64>,
    begin: Option<u64>,
    end: Option<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let latencies = Histogram::new_with_bounds(1, MAX_LATENCY, DIGITS);
        Self {
            proposed: 0,
            busy: 0,
            acknowledged: 0,
            errors: 0,
            unknown: 0,
            messages: Vec::new(),
            latencies: latencies.expect("bounds are right"),
            begin: None,
            end: None,
        }
    }
}

impl Tally {
    pub(crate) fn measure(&mut self, now: u64) {
        self.latencies.reset();
        self.begin = Some(now);
    }

    pub(crate) fn stop(&mut self, now: u64) {
        self.end = Some(now);
    }

    pub(crate) fn acknowledge(&mut self, latency: u64) {
        self.acknowledged += 1;
        if self.begin.is_some() && self.end.is_none() {
            self.latencies.saturating_record(latency.max(1));
        }
    }

    pub(crate) fn error(&mut self, message: String) {
        self.errors += 1;
        self.note(message);
    }

    pub(crate) fn unknown(&mut self, message: String) {
        self.unknown += 1;
        self.note(message);
    }

    fn note(&mut self, message: String) {
        if self.messages.len() < MESSAGES && !self.messages.contains(&message) {
            self.messages.push(message);
        }
    }

    pub(crate) fn report(&self) -> Value {
        let begin = self.begin.unwrap_or_default();
        let nanoseconds = self.end.unwrap_or_default().saturating_sub(begin);
        let recorded = self.latencies.iter_recorded();
        let histogram: Vec<(u64, u64)> =
            recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        json!({"measured": {
            "seconds": nanoseconds as f64 / 1e9,
            "ops": self.latencies.len(),
            "errors": self.errors,
            "unknown": self.unknown,
            "busy": self.busy,
            "histogram": histogram,
            "max_ns": self.latencies.max(),
            "proposed": self.proposed,
            "acknowledged": self.acknowledged,
            "messages": self.messages,
        }})
    }
}
