//! Ringleader beside each peer at the same rates: shares of what the peer does at most.

use super::model::{Engine, Load, Model, Point, runs_of};
use super::parts::{figure, grid, section};
use super::svg::{Scale, WIDTH, below, drawing, label, line, mark, of_engine, shape, tip};
use super::text::{count, fit, microseconds, ratio};

const LEFT: f64 = 92.0;
const RIGHT: f64 = 306.0;
const TOP: f64 = 16.0;
const ROW: f64 = 15.0;
/// The height of a peer's name, and of the space before it.
const NAME: f64 = 19.0;

/// A peer and Ringleader at one rate.
struct Pair<'a> {
    engine: &'a Engine,
    share: u64,
    rate: u64,
    /// p99 in microseconds.
    its: f64,
    ours: f64,
}

pub(super) fn draw(model: &Model) -> String {
    let panels: Vec<String> =
        model.loads().into_iter().filter_map(|load| panel(model, load)).collect();
    let about = "Open loops at a share of what each peer does at most, and Ringleader at the \
                 very same rate. Latency at the 99th percentile, counted from when an operation \
                 was due, on a log scale. Discs are Ringleader's. The ratio is the peer's \
                 divided by Ringleader's.";
    section("rates", "At the peers' rates", about, &grid(&panels))
}

fn pairs(model: &Model, load: Load) -> Vec<Pair<'_>> {
    let p99 = |point: &Point| point.median()?.latency_us.p99.filter(|us| *us > 0.0);
    let pair = |point: &Point| {
        let (engine, workload) = (model.engine_of(point), &point.workload);
        let (share, rate, peer) = (workload.share?, workload.rate?, workload.peer.as_ref()?);
        let ours = model.open(load).find(|own| {
            let at = &own.workload;
            let same = (at.share, at.peer.as_ref()) == (Some(share), Some(peer));
            same && model.engine_of(own).is_own()
        })?;
        let measured = !engine.is_own() && engine.name == *peer;
        let (its, ours) = (p99(point)?, p99(ours)?);
        measured.then_some(Pair { engine, share, rate, its, ours })
    };
    let mut pairs: Vec<_> = model.open(load).filter_map(pair).collect();
    let place = |engine: &Engine| model.engines.iter().position(|at| at.name == engine.name);
    pairs.sort_by_key(|pair| (place(pair.engine), pair.share));
    pairs
}

fn panel(model: &Model, load: Load) -> Option<String> {
    let pairs = pairs(model, load);
    let scale = Scale::log(pairs.iter().flat_map(|pair| [pair.its, pair.ours]), LEFT, RIGHT);
    let mut body = String::new();
    let mut y = TOP;
    let mut before = None;
    for pair in &pairs {
        if before != Some(&pair.engine.name) {
            before = Some(&pair.engine.name);
            let name = fit(&pair.engine.label(), 40);
            let name = label("name strong", 0.0, y + 14.0, &name);
            body += &of_engine(pair.engine.colour, &name);
            y += NAME;
        }
        body += &row(pair, &scale, y + ROW / 2.0);
        y += ROW;
    }
    let ticks = below(&scale, &scale.ticks(), microseconds, (TOP, y + 2.0));
    let heads = label("axis", LEFT, 9.0, "p99, log scale") + &label("axis r", WIDTH, 9.0, "ratio");
    let text = heads + &ticks + &body;
    let about = format!("p99 of Ringleader and of each peer at the same rates, {}", load.title());
    let open = model.open(load).filter(|point| point.workload.share.is_some());
    let note = format!("p99, {}, {}", load.nodes(), runs_of(open));
    (!pairs.is_empty()).then(|| figure(&load.title(), &note, &drawing(y + 19.0, &about, &text)))
}

fn row(pair: &Pair<'_>, scale: &Scale, y: f64) -> String {
    let Pair { engine, share, rate, its, ours } = pair;
    let colour = engine.colour;
    let rate = count(*rate as f64);
    let told = format!(
        "{} {}, Ringleader {}, both at {rate} op/s",
        engine.label(),
        microseconds(*its),
        microseconds(*ours)
    );
    let (left, right) = (scale.at(*ours), scale.at(*its));
    let parts = [
        tip(&told),
        label("tick r", 26.0, y + 3.5, &format!("{share} %")),
        label("tick r", LEFT - 10.0, y + 3.5, &format!("{rate}/s")),
        line("span", (left, y), (right, y)),
        shape("m", &mark(colour, right, y, 3.4)),
        shape("m e0", &mark(0, left, y, 3.4)),
        label("number r", WIDTH, y + 3.5, &ratio(its / ours)),
    ];
    of_engine(colour, &parts.concat())
}
