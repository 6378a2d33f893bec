//! The versions and settings of the engines.

use serde_json::Value;

use super::model::{Engine, Model};
use super::parts::{folded, section};
use super::text::escape;

pub(super) fn draw(model: &Model) -> String {
    let body: String = model.engines.iter().filter_map(engine).collect();
    let about = "What each engine was run with, as its node reported it.";
    section("settings", "Engines and their settings", about, &body)
}

fn engine(engine: &Engine) -> Option<String> {
    let described = &engine.described;
    let version = described.version.as_ref()?;
    let durable = match described.durable {
        Some(true) => ", durable",
        Some(false) => ", not durable",
        None => "",
    };
    let setting = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&value))
    };
    let settings: String = described.settings.iter().map(setting).collect();
    let body = match settings.is_empty() {
        true => "<p>Its defaults.</p>\n".into(),
        false => format!("<dl class=\"settings\">{settings}</dl>\n"),
    };
    Some(folded(&format!("{} {version}{durable}", engine.name), false, &body))
}
