//! Processor time per operation: of each engine, and of Ringleader by the stages of a turn.

use super::input::Cluster;
use super::model::{Load, Model, Point, runs_of};
use super::parts::{figure, row, section};
use super::rows::{Names, Row, RowChart, Shape, log_bars};
use super::svg::{WIDTH, drawing, label, line, rect, tip};
use super::text::{bytes, count, fit, nanoseconds, plural, ratio, short, whole};

/// Colours of stages.
const COLOURS: usize = 10;

pub(super) fn draw(model: &Model) -> String {
    let engines: Vec<String> =
        model.loads().into_iter().filter_map(|load| engines(model, load)).collect();
    let staged = model.clusters.iter().filter(|cluster| !cluster.stages_ns_per_op.is_empty());
    let staged: Vec<String> = staged.map(stages).collect();
    let body = row("By engine, at its maximum", &engines)
        + &row("Of Ringleader by the stages of a turn", &staged);
    let about = "User and system time of all nodes' processes, divided by the operations. By \
                 engine on a log scale, with the ratio of the engine's to Ringleader's. Stages \
                 are of the shards' threads of all nodes together, in the order of a turn; \
                 others are the rest of the processes.";
    section("processor", "Processor time per operation", about, &body)
}

fn engines(model: &Model, load: Load) -> Option<String> {
    let best = model.best(load);
    let cost = |point: &Point| point.median()?.cpu_ns_per_op.filter(|ns| *ns > 0.0);
    let own = best.iter().find(|point| model.engine_of(point).is_own()).and_then(|p| cost(p));
    let bar = |point: &&Point| {
        let (engine, value) = (model.engine_of(point), cost(point)?);
        let inflight = count(point.workload.inflight as f64);
        Some(Row {
            name: engine.label(),
            colour: Some(engine.colour),
            hollow: engine.is_volatile(),
            value,
            spread: point.spread(|run| run.cpu_ns_per_op),
            columns: [nanoseconds(value), own.map(|own| ratio(value / own)).unwrap_or_default()],
            tip: format!("{}: {} with {inflight} in flight", engine.label(), nanoseconds(value)),
        })
    };
    let mut rows: Vec<Row> = best.iter().filter_map(bar).collect();
    rows.sort_by(|a, b| a.value.total_cmp(&b.value));
    let chart = RowChart {
        about: format!("Processor time per operation by engine, {}", load.title()),
        shape: Shape::Bar,
        names: Names::Left,
        scale: log_bars(Names::Left, rows.iter().map(|row| row.value)),
        ticks: nanoseconds,
        reference: None,
        heads: ["per operation, log scale", "time", "ratio"],
        rows,
    };
    let note = format!("{}, {}", load.nodes(), runs_of(best.iter().copied()));
    (!chart.rows.is_empty()).then(|| figure(&load.title(), &note, &chart.draw()))
}

/// A run's stages: a bar of all, and each with its number.
fn stages(cluster: &Cluster) -> String {
    let workload = &cluster.workload;
    let mut parts: Vec<(&str, f64)> =
        cluster.stages_ns_per_op.iter().map(|(name, ns)| (&**name, ns.max(0.0))).collect();
    let counted: f64 = parts.iter().map(|(_, ns)| ns).sum();
    let others = cluster.run.cpu_ns_per_op.unwrap_or(counted) - counted;
    if others > 0.0 {
        parts.push(("others", others));
    }
    let total = (counted + others.max(0.0)).max(f64::MIN_POSITIVE);
    let load = match workload.rate {
        Some(rate) => format!("{} op/s due", short(&count(rate as f64))),
        None => format!("{} in flight", whole(workload.inflight as f64)),
    };
    let title = format!("{} payload, {load}", bytes(workload.payload_bytes));
    let note = format!(
        "{} per operation, {}, one run",
        nanoseconds(total),
        plural(workload.nodes as usize, "node")
    );
    let drawn = stack(&parts, total) + &list(&parts, total);
    let about = format!("Processor time per operation by stage, {title}");
    let height = 44.0 + parts.len() as f64 * 18.0;
    figure(&title, &note, &drawing(height, &about, &drawn))
}

fn class(at: usize, name: &str) -> String {
    if name == "others" { "stage rest".into() } else { format!("stage g{}", at % COLOURS) }
}

/// All stages in one bar, as shares of the whole.
fn stack(parts: &[(&str, f64)], total: f64) -> String {
    let mut x = 0.0;
    let piece = |(at, (name, ns)): (usize, &(&str, f64))| {
        let width = ns / total * WIDTH;
        let left = x;
        x += width;
        let share = ns / total * 100.0;
        let told = tip(&format!("{name}: {}, {share:.0} %", nanoseconds(*ns)));
        let bar = rect(&class(at, name), (left, 2.0), ((width - 1.0).max(0.4), 26.0));
        format!("<g>{told}{bar}</g>")
    };
    parts.iter().enumerate().map(piece).collect()
}

/// Each stage with a bar of its own, from one baseline.
fn list(parts: &[(&str, f64)], total: f64) -> String {
    const LEFT: f64 = 92.0;
    const RIGHT: f64 = 250.0;
    let most = parts.iter().map(|(_, ns)| *ns).fold(f64::MIN_POSITIVE, f64::max);
    let row = |(at, (name, ns)): (usize, &(&str, f64))| {
        let y = 46.0 + at as f64 * 18.0;
        let width = ns / most * (RIGHT - LEFT);
        let class = class(at, name);
        let share = format!("{:.0} %", ns / total * 100.0);
        [
            rect(&class, (0.0, y - 4.5), (9.0, 9.0)),
            label("name", 15.0, y + 3.8, &fit(name, 12)),
            rect(&class, (LEFT, y - 4.5), (width.max(0.6), 9.0)),
            label("number r", 310.0, y + 3.8, &nanoseconds(*ns)),
            label("number r", WIDTH, y + 3.8, &share),
        ]
        .concat()
    };
    let rows: String = parts.iter().enumerate().map(row).collect();
    let end = 38.0 + parts.len() as f64 * 18.0;
    line("base", (LEFT, 38.0), (LEFT, end)) + &rows
}
