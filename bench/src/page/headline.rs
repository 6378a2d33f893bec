//! The most that each engine does, whatever number is in flight.

use super::model::{Load, Model, Point, runs_of};
use super::parts::{figure, grid, section};
use super::rows::{Names, Row, RowChart, Shape, log_bars};
use super::text::{count, ratio};

pub(super) fn draw(model: &Model) -> String {
    let panels: Vec<String> =
        model.loads().into_iter().filter_map(|load| panel(model, load)).collect();
    let about = "Operations per second in a closed loop, at the number in flight at which each \
                 engine does most, on a log scale of each panel's own. The ratio is \
                 Ringleader's throughput divided by the engine's.";
    section("throughput", "Most writes per second", about, &grid(&panels))
}

fn panel(model: &Model, load: Load) -> Option<String> {
    let best = model.best(load);
    let own = best.iter().find(|point| model.engine_of(point).is_own());
    let own = own.and_then(|point| point.median()).map(|run| run.ops_per_sec);
    // One engine has nobody beside it.
    let own = own.filter(|_| best.len() > 1);
    let rows: Vec<Row> = best.iter().filter_map(|point| row(model, point, own)).collect();
    let scale = log_bars(Names::Left, rows.iter().map(|row| row.value));
    let title = load.title();
    let chart = RowChart {
        about: format!("Most operations per second by engine, {title}"),
        shape: Shape::Bar,
        names: Names::Left,
        scale,
        ticks: count,
        reference: None,
        heads: ["op/s, log scale", "op/s", "ratio"],
        rows,
    };
    let note = format!("{}, {}", load.nodes(), runs_of(best.iter().copied()));
    (!chart.rows.is_empty()).then(|| figure(&title, &note, &chart.draw()))
}

fn row(model: &Model, point: &Point, own: Option<f64>) -> Option<Row> {
    let engine = model.engine_of(point);
    let value = point.median()?.ops_per_sec;
    let times = own.map(|own| ratio(own / value)).unwrap_or_default();
    let inflight = count(point.workload.inflight as f64);
    Some(Row {
        name: engine.label(),
        colour: Some(engine.colour),
        hollow: engine.is_volatile(),
        value,
        spread: point.spread(|run| Some(run.ops_per_sec)),
        columns: [count(value), times],
        tip: format!("{}: {} op/s with {inflight} in flight", engine.label(), count(value)),
    })
}
