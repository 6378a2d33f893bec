//! How far engines are from what three processes do that make blocks durable on two of three
//! without a protocol.

use super::input::{Cluster, NullRaft, Run};
use super::model::{Model, Point, runs_of};
use super::parts::{figure, row, section};
use super::rows::{Names, Row, RowChart, Shape, linear, log};
use super::text::{bytes, count, factor, microseconds, ratio, whole};

/// A ratio of a result to the floor.
struct Measure {
    title: &'static str,
    axis: &'static str,
    of_run: fn(&Run) -> Option<f64>,
    of_floor: fn(&NullRaft) -> Option<f64>,
    ratio: fn(&NullRaft) -> Option<f64>,
    text: fn(f64) -> String,
}

const MEASURES: [Measure; 3] = [
    Measure {
        title: "Throughput",
        axis: "times the floor's op/s",
        of_run: |run| Some(run.ops_per_sec),
        of_floor: |null| null.ops_per_sec,
        ratio: |null| null.ratio_ops_per_sec,
        text: count,
    },
    Measure {
        title: "Median latency",
        axis: "times the floor's p50",
        of_run: |run| run.latency_us.p50,
        of_floor: |null| null.p50_us,
        ratio: |null| null.ratio_p50,
        text: microseconds,
    },
    Measure {
        title: "Latency at the 99th percentile",
        axis: "times the floor's p99",
        of_run: |run| run.latency_us.p99,
        of_floor: |null| null.p99_us,
        ratio: |null| null.ratio_p99,
        text: microseconds,
    },
];

pub(super) fn draw(model: &Model) -> String {
    let own: Vec<String> = MEASURES.iter().filter_map(|measure| runs(model, measure)).collect();
    let own: Vec<String> = own.into_iter().chain(alone(model)).collect();
    let body = row("Ringleader, the floor taken before each run", &own) + &engines(model);
    let about = "The floor is what three processes do that make blocks durable on two of three \
                 and nothing else: no terms, no checks, no state machine; as many operations of \
                 the same size in flight. The line at 1 is the floor: of throughput more is \
                 better, of latency less. The bars of engines begin at the floor, on log \
                 scales.";
    section("floor-ratios", "Beside the floor", about, &body)
}

fn name_of(cluster: &Cluster) -> String {
    let workload = &cluster.workload;
    format!(
        "{} payload, {} in flight",
        bytes(workload.payload_bytes),
        whole(workload.inflight as f64)
    )
}

/// Ratios of the runs of `cluster`, which take the floor under the same load themselves.
fn runs(model: &Model, measure: &Measure) -> Option<String> {
    let bar = |cluster: &Cluster| {
        let null = cluster.floor.as_ref()?.null_raft.as_ref()?;
        let value = (measure.ratio)(null)?;
        Some(Row {
            name: name_of(cluster),
            colour: Some(0),
            value,
            columns: [(measure.of_run)(&cluster.run).map(measure.text)?, ratio(value)],
            tip: format!("floor: {}", (measure.of_floor)(null).map(measure.text)?),
            ..Row::default()
        })
    };
    let rows: Vec<Row> = model.clusters.iter().filter_map(bar).collect();
    bullets(measure.title, measure.axis, "run", rows)
}

/// With one operation in flight: against a durable write and a round trip, one after the other.
fn alone(model: &Model) -> Option<String> {
    let bar = |cluster: &Cluster| {
        let value = cluster.floor.as_ref()?.ratio_p50?;
        let p50 = cluster.run.latency_us.p50.map(microseconds)?;
        let (name, colour) = (name_of(cluster), Some(0));
        Some(Row { name, colour, value, columns: [p50, ratio(value)], ..Row::default() })
    };
    let rows: Vec<Row> = model.clusters.iter().filter_map(bar).collect();
    let axis = "times a durable write and a round trip";
    bullets("Median latency, one in flight", axis, "p50", rows)
}

/// All engines beside the floor of a `floor` file, where both have the same load.
fn engines(model: &Model) -> String {
    let nulls = model.floors.iter().flat_map(|floor| &floor.null_raft);
    let panels = |null: &NullRaft| {
        let same = |point: &&Point| {
            let workload = &point.workload;
            let load = (workload.inflight, workload.payload_bytes, workload.nodes);
            workload.rate.is_none() && load == (null.inflight, null.payload_bytes, 3)
        };
        let points: Vec<&Point> = model.points.iter().filter(same).collect();
        if points.len() < 2 {
            // Ringleader alone is beside the floor of its own runs already.
            return String::new();
        }
        let panels = MEASURES.iter().filter_map(|measure| beside(model, null, measure, &points));
        let panels: Vec<String> = panels.collect();
        let (payload, inflight) = (bytes(null.payload_bytes), whole(null.inflight as f64));
        row(&format!("{payload} payload, {inflight} in flight"), &panels)
    };
    nulls.map(panels).collect()
}

fn beside(model: &Model, null: &NullRaft, measure: &Measure, points: &[&Point]) -> Option<String> {
    let floor = (measure.of_floor)(null).filter(|floor| *floor > 0.0)?;
    let bar = |point: &&Point| {
        let engine = model.engine_of(point);
        let value = (measure.of_run)(point.median()?).filter(|value| *value > 0.0)?;
        let spread = point.spread(measure.of_run).map(|(low, high)| (low / floor, high / floor));
        Some(Row {
            name: engine.label(),
            colour: Some(engine.colour),
            hollow: engine.is_volatile(),
            value: value / floor,
            spread,
            columns: [(measure.text)(value), ratio(value / floor)],
            tip: format!("{}: {}", engine.label(), (measure.text)(value)),
        })
    };
    let rows: Vec<Row> = points.iter().filter_map(bar).collect();
    let ends = rows.iter().flat_map(|row| [Some(row.value), row.spread.map(|(_, high)| high)]);
    let scale = log(Names::Left, ends.flatten().chain([0.8, 1.25]));
    let note = format!("floor {}, {}", (measure.text)(floor), runs_of(points.iter().copied()));
    let chart = RowChart {
        about: format!("{} of each engine, {}", measure.title, measure.axis),
        shape: Shape::Apart,
        names: Names::Left,
        scale,
        ticks: factor,
        reference: Some(1.0),
        heads: [measure.axis, "engine", "ratio"],
        rows,
    };
    (!chart.rows.is_empty()).then(|| figure(measure.title, &note, &chart.draw()))
}

/// Bars over the floor's band, of the runs of `cluster`.
fn bullets(title: &str, axis: &'static str, head: &'static str, rows: Vec<Row>) -> Option<String> {
    let most = rows.iter().map(|row| row.value).fold(1.1, f64::max);
    let chart = RowChart {
        about: format!("{title}, {axis}"),
        shape: Shape::Bullet,
        names: Names::Above,
        scale: linear(Names::Above, 0.0, most),
        ticks: factor,
        reference: Some(1.0),
        heads: [axis, head, "ratio"],
        rows,
    };
    (!chart.rows.is_empty()).then(|| figure(title, "one run each", &chart.draw()))
}
