//! What settings do, beside the default.

use super::input::{Tuning, TuningRow};
use super::parts::{figure, folded, grid, section, table};
use super::rows::{Names, Row, RowChart, Shape, log};
use super::text::{factor, plural, ratio};

pub(super) fn draw(tunings: &[Tuning]) -> String {
    let body: String = tunings.iter().map(one).collect();
    let about = "A metric with a setting, divided by the same metric without it, run in turn. \
                 The line at 1 is without. Whiskers are the lowest and the highest ratio; where \
                 they cross the line, the setting may do nothing.";
    section("tuning", "Settings", about, &body)
}

fn one(tuning: &Tuning) -> String {
    let mut metrics: Vec<&str> = Vec::new();
    for row in &tuning.rows {
        if row.ratio.is_some() && !metrics.contains(&&*row.metric) {
            metrics.push(&row.metric);
        }
    }
    let panels: Vec<String> = metrics.iter().map(|metric| panel(tuning, metric)).collect();
    grid(&panels) + &folded("All settings, and why", false, &details(tuning))
}

/// The settings that a metric was measured of.
fn panel(tuning: &Tuning, metric: &str) -> String {
    let row = |row: &TuningRow| {
        let value = row.ratio.filter(|_| row.metric == metric)?;
        Some(Row {
            name: row.name.clone(),
            colour: None,
            value,
            spread: row.low.zip(row.high),
            columns: [ratio(value), String::new()],
            tip: format!("{}: {}", row.setting, row.why),
            ..Row::default()
        })
    };
    let ratios = |row: &TuningRow| [row.ratio, row.low, row.high];
    let all = tuning.rows.iter().flat_map(ratios).flatten();
    let chart = RowChart {
        about: format!("Ratios of {metric} with a setting to without"),
        shape: Shape::Mark,
        names: Names::Above,
        // The panels have one scale.
        scale: log(Names::Above, all.chain([0.9, 1.1])),
        ticks: factor,
        reference: Some(1.0),
        heads: ["ratio, log scale", "ratio", ""],
        rows: tuning.rows.iter().filter_map(row).collect(),
    };
    let note = format!("median of {}", plural(tuning.rounds as usize, "round"));
    figure(metric, &note, &chart.draw())
}

fn details(tuning: &Tuning) -> String {
    let row = |row: &TuningRow| {
        let number = |value: Option<f64>| value.map(ratio).unwrap_or_default();
        let measured = match &row.skipped {
            Some(reason) => format!("left out: {reason}"),
            None => number(row.ratio),
        };
        vec![
            row.name.clone(),
            row.setting.clone(),
            row.metric.clone(),
            measured,
            number(row.low),
            number(row.high),
            row.why.clone(),
            row.command.clone(),
        ]
    };
    let heads = ["name", "setting", "metric", "ratio", "lowest", "highest", "why", "command"];
    let rows: Vec<_> = tuning.rows.iter().map(row).collect();
    table("Settings and their ratios", &heads, &rows)
}
