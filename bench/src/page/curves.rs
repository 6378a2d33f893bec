//! Latencies by percentile, of all engines in one chart: at shares of their maximum, and in closed
//! loops.

use super::lines::{Axis, Line, LineChart, Spot, across_linear, upward};
use super::model::{Load, Model, Point, runs_of};
use super::parts::{figure, folded, grid, section};
use super::text::{count, microseconds, short, whole};

/// Nines that are shown at least and at most: 99.9 % and 99.999 %.
const NINES: (f64, f64) = (3.0, 5.0);

pub(super) fn draw(model: &Model) -> String {
    let about = "The latency that a share of the operations stayed within, on log scales: each \
                 step to the right is a tenth of the operations that are left. Of each point \
                 the run with the median throughput, in open loops the one with the median p99.";
    let open = by_load(model, "Open loops, each engine at a share of its own maximum", open_panels);
    let closed = by_load(model, "Closed loops", closed_panels);
    section("percentiles", "Latency by percentile", about, &(open + &closed))
}

/// The panels of each payload; the first is unfolded, and all are if there are few.
fn by_load(model: &Model, title: &str, panels: fn(&Model, Load) -> Vec<String>) -> String {
    let loads = model.loads().into_iter().map(|load| (load, panels(model, load)));
    let loads: Vec<_> = loads.filter(|(_, panels)| !panels.is_empty()).collect();
    let fold = |(at, (load, panels)): (usize, &(Load, Vec<String>))| {
        folded(&load.title(), at == 0 || loads.len() < 3, &grid(panels))
    };
    let folds: String = loads.iter().enumerate().map(fold).collect();
    if folds.is_empty() { folds } else { format!("<h3>{title}</h3>\n{folds}") }
}

/// Open loops: a panel for each share of what an engine does at most, or for each rate.
fn open_panels(model: &Model, load: Load) -> Vec<String> {
    let is_own = |point: &&Point| {
        point.workload.peer.as_ref().is_none_or(|peer| *peer == model.engine_of(point).name)
    };
    let points: Vec<&Point> = model.open(load).filter(is_own).collect();
    let key = |point: &Point| match point.workload.share {
        Some(share) => (share, 0),
        None => (0, point.workload.rate.unwrap_or(0)),
    };
    let mut keys: Vec<_> = points.iter().map(|point| key(point)).collect();
    keys.sort_unstable();
    keys.dedup();
    let panel = |(share, rate): (u64, u64)| {
        let here: Vec<_> =
            points.iter().copied().filter(|point| key(point) == (share, rate)).collect();
        let title = match share {
            0 => format!("{} op/s due", short(&count(rate as f64))),
            share => format!("{share} % of its maximum"),
        };
        chart(model, load, &title, "open loop", &here)
    };
    keys.into_iter().filter_map(panel).collect()
}

/// Closed loops: a panel for each number in flight.
fn closed_panels(model: &Model, load: Load) -> Vec<String> {
    let points: Vec<&Point> = model.closed(load).collect();
    let mut inflights: Vec<u64> = points.iter().map(|point| point.workload.inflight).collect();
    inflights.sort_unstable();
    inflights.dedup();
    let panel = |inflight: u64| {
        let here: Vec<_> =
            points.iter().copied().filter(|point| point.workload.inflight == inflight).collect();
        let title = format!("{} in flight", whole(inflight as f64));
        chart(model, load, &title, "closed loop", &here)
    };
    inflights.into_iter().filter_map(panel).collect()
}

fn chart(model: &Model, load: Load, title: &str, kind: &str, points: &[&Point]) -> Option<String> {
    let line = |point: &&Point| {
        let spots = point.median().map(|run| curve(&run.latency_curve_us)).unwrap_or_default();
        Line { engine: model.engine_of(point), spots }
    };
    let lines: Vec<_> = points.iter().map(line).filter(|line| !line.spots.is_empty()).collect();
    let all = || lines.iter().flat_map(|line| &line.spots);
    let nines = all().map(|spot| spot.x).fold(NINES.0, f64::max);
    let chart = LineChart {
        about: format!("Latency by percentile, {}, {title}", load.title()),
        x: Axis { name: "percentile", ticks: percentile },
        y: Axis { name: "latency", ticks: microseconds },
        x_scale: across_linear(0.0, nines),
        y_scale: upward(all().map(|spot| spot.y)),
        x_ticks: Some(std::iter::once(0.301).chain((1..=nines as u32).map(f64::from)).collect()),
        lines,
        marks: false,
    };
    let note = format!("{}, {kind}, {}", load.title(), runs_of(points.iter().copied()));
    (!chart.lines.is_empty()).then(|| figure(title, &note, &chart.draw()))
}

/// A curve by the number of nines.
fn curve(of: &[(f64, f64)]) -> Vec<Spot> {
    let spot = |(share, us): &(f64, f64)| {
        let nines = -(1.0 - share).log10();
        let shown = nines.is_finite() && nines <= NINES.1 && us.is_finite() && *us > 0.0;
        shown.then(|| Spot { x: nines, y: *us, spread: None, tip: String::new() })
    };
    of.iter().filter_map(spot).collect()
}

/// `99.9` of three nines.
fn percentile(nines: f64) -> String {
    let share = (1.0 - 10_f64.powf(-nines)) * 100.0;
    let decimals = (nines.round() as usize).saturating_sub(2);
    format!("{share:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_as_many_nines_as_they_need() {
        let names: Vec<_> = [0.301, 1.0, 2.0, 3.0, 5.0].map(percentile).to_vec();
        assert_eq!(names, ["50", "90", "99", "99.9", "99.999"]);
    }

    #[test]
    fn a_curve_leaves_out_what_has_no_place_on_it() {
        let spots = curve(&[(0.0, 10.0), (0.5, 0.0), (0.9, 20.0), (1.0, 30.0)]);
        let xs: Vec<_> = spots.iter().map(|spot| spot.x.round()).collect();
        assert_eq!(xs, [0.0, 1.0]);
    }
}
