//! Throughput and latency against operations in flight.

use super::input::Run;
use super::lines::{Axis, Line, LineChart, Spot, across, upward};
use super::model::{Load, Model, Point, runs_of};
use super::parts::{figure, grid, row, section};
use super::text::{count, microseconds, whole};

/// Something that is drawn against operations in flight.
struct Metric {
    title: &'static str,
    axis: Axis,
    of: fn(&Run) -> Option<f64>,
}

const METRICS: [Metric; 3] = [
    Metric {
        title: "Throughput",
        axis: Axis { name: "op/s", ticks: count },
        of: |run| Some(run.ops_per_sec),
    },
    Metric {
        title: "Median latency",
        axis: Axis { name: "p50", ticks: microseconds },
        of: |run| run.latency_us.p50,
    },
    Metric {
        title: "Latency at the 99th percentile",
        axis: Axis { name: "p99", ticks: microseconds },
        of: |run| run.latency_us.p99,
    },
];

pub(super) fn draw(model: &Model) -> String {
    let loads: Vec<Load> =
        model.loads().into_iter().filter(|load| has_lines(model, *load)).collect();
    // All panels of a metric have one scale, so that they compare at a glance.
    let panels = |metric: &Metric| -> Vec<String> {
        loads.iter().map(|load| panel(model, &loads, *load, metric)).collect()
    };
    let body = match loads.len() {
        1 => grid(&METRICS.iter().flat_map(panels).collect::<Vec<_>>()),
        _ => METRICS.iter().map(|metric| row(metric.title, &panels(metric))).collect(),
    };
    let about = "Closed loops: an operation starts when another has completed. Both axes are \
                 log scales; the panels of a row have the same one. Vertical lines are the \
                 lowest and the highest run.";
    section("inflight", "Against operations in flight", about, &body)
}

/// Whether an engine was measured with several numbers in flight.
fn has_lines(model: &Model, load: Load) -> bool {
    let mut inflights = model.closed(load).map(|point| point.workload.inflight);
    let first = inflights.next();
    inflights.any(|inflight| Some(inflight) != first)
}

fn panel(model: &Model, loads: &[Load], load: Load, metric: &Metric) -> String {
    let all: Vec<&Point> = loads.iter().flat_map(|load| model.closed(*load)).collect();
    let value = |point: &Point| point.median().and_then(metric.of).filter(|value| *value > 0.0);
    let spots = |engine| {
        let of = model.closed(load).filter(move |point| point.engine == engine);
        let mut spots: Vec<Spot> = of
            .filter_map(|point| {
                let (x, y) = (point.workload.inflight, value(point)?);
                let name = model.engine_of(point).label();
                let text = (metric.axis.ticks)(y);
                let tip =
                    format!("{name}, {} in flight: {} {text}", whole(x as f64), metric.axis.name);
                Some(Spot { x: x as f64, y, spread: point.spread(metric.of), tip })
            })
            .collect();
        spots.sort_by(|a, b| a.x.total_cmp(&b.x));
        spots
    };
    let mut inflights: Vec<f64> = all.iter().map(|point| point.workload.inflight as f64).collect();
    inflights.sort_by(f64::total_cmp);
    inflights.dedup();
    let lines = model.engines.iter().enumerate();
    let chart = LineChart {
        about: format!("{} against operations in flight, {}", metric.title, load.title()),
        x: Axis { name: "operations in flight", ticks: whole },
        y: Axis { ..metric.axis },
        x_scale: across(inflights.iter().copied()),
        y_scale: upward(all.iter().filter_map(|point| value(point))),
        x_ticks: (inflights.len() < 7).then_some(inflights),
        lines: lines.map(|(at, engine)| Line { engine, spots: spots(at) }).collect(),
        marks: true,
    };
    let note = format!("{}, {}, {}", metric.axis.name, load.nodes(), runs_of(model.closed(load)));
    figure(&load.title(), &note, &chart.draw())
}
