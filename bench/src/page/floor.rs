//! What the machine allows.

use super::input::{Bandwidth, Floor, NullRaft, Write};
use super::parts::{figure, row, section};
use super::rows::{Names, Row, RowChart, Shape, linear, log};
use super::svg::{Scale, WIDTH, drawing, label, rect, tip};
use super::text::{bytes, count, microseconds, whole};

pub(super) fn draw(floors: &[Floor]) -> String {
    let body: String = floors.iter().map(one).collect();
    let about = "One measurement each, with no engine running: what none can do better here. A \
                 mark is the median, the line ends at the 99th percentile.";
    section("floor", "The floor", about, &body)
}

fn one(floor: &Floor) -> String {
    let mut processes: Vec<u64> = floor.durable_writes.iter().map(|at| at.processes).collect();
    processes.sort_unstable();
    processes.dedup();
    let writes: Vec<String> = processes.iter().map(|count| writes(floor, *count)).collect();
    let others = [reach(floor), bandwidth(floor), memory(floor), nulls(floor)];
    let others: Vec<String> = others.into_iter().flatten().collect();
    row("Durable 4 KiB writes, one at a time", &writes) + &row("Machine and disk", &others)
}

/// A way of writing in words; one that isn't known as it is.
pub(super) fn way(name: &str) -> &str {
    match name {
        "growing" => "write, fdatasync, growing file",
        "allocated" => "write, fdatasync, allocated file",
        "written" => "write, fdatasync, written file",
        "direct-allocated" => "O_DIRECT, fdatasync, allocated file",
        "direct" => "O_DIRECT, fdatasync, written file",
        "direct-dsync" => "O_DIRECT|O_DSYNC, written file",
        other => other,
    }
}

/// From the median to the 99th percentile, in microseconds.
fn range(name: String, p50: f64, p99: f64) -> Row {
    Row {
        tip: format!("{name}: p50 {}, p99 {}", microseconds(p50), microseconds(p99)),
        name,
        value: p50,
        spread: Some((p50, p99.max(p50))),
        columns: [microseconds(p50), microseconds(p99)],
        ..Row::default()
    }
}

fn ranges(title: &str, note: &str, scale: Scale, rows: Vec<Row>) -> String {
    let chart = RowChart {
        about: format!("Median and 99th percentile: {title}"),
        shape: Shape::Range,
        names: Names::Above,
        scale,
        ticks: microseconds,
        reference: None,
        heads: ["log scale", "p50", "p99"],
        rows,
    };
    figure(title, note, &chart.draw())
}

fn writes(floor: &Floor, processes: u64) -> String {
    let all = floor.durable_writes.iter();
    // The panels have one scale.
    let scale = log(Names::Above, all.clone().flat_map(|write| [write.p50_us, write.p99_us]));
    let here = all.filter(|write| write.processes == processes);
    let row = |write: &Write| range(way(&write.way).to_owned(), write.p50_us, write.p99_us);
    let title = match processes {
        1 => "1 process".to_owned(),
        many => format!("{many} processes at once"),
    };
    ranges(&title, "each in its own file", scale, here.map(row).collect())
}

fn reach(floor: &Floor) -> Option<String> {
    let names = [
        ("64 bytes over loopback TCP", &floor.round_trip),
        ("A sleeping thread woken", &floor.wake_up),
    ];
    let measured = names.into_iter().filter_map(|(name, reach)| Some((name, reach.as_ref()?)));
    let rows: Vec<Row> = measured
        .flat_map(|(name, at)| {
            [
                range(format!("{name}, other core"), at.other_core_p50_us, at.other_core_p99_us),
                range(format!("{name}, same core"), at.same_core_p50_us, at.same_core_p99_us),
            ]
        })
        .collect();
    let ends = rows.iter().filter_map(|row| row.spread);
    let scale = log(Names::Above, ends.flat_map(|(p50, p99)| [p50, p99]));
    (!rows.is_empty()).then(|| ranges("There and back", "between two threads", scale, rows))
}

/// A map of sizes by depths, the darker the more.
fn bandwidth(floor: &Floor) -> Option<String> {
    const LEFT: f64 = 62.0;
    const TOP: f64 = 32.0;
    const CELL: f64 = 34.0;
    let all = &floor.durable_bandwidth;
    let (mut sizes, mut depths): (Vec<u64>, Vec<u64>) =
        all.iter().map(|at| (at.write_bytes, at.depth)).unzip();
    for axis in [&mut sizes, &mut depths] {
        axis.sort_unstable();
        axis.dedup();
    }
    let width = (WIDTH - LEFT) / depths.len().max(1) as f64;
    let shade = Scale::log(all.iter().map(|at| at.mb_per_sec), 0.05, 0.62);
    let place = |axis: &[u64], value| axis.iter().position(|at| *at == value).unwrap_or(0) as f64;
    let cell = |at: &Bandwidth| {
        let x = LEFT + place(&depths, at.depth) * width;
        let y = TOP + place(&sizes, at.write_bytes) * CELL;
        let told = format!("{} × {}: {:.1} MB/s", bytes(at.write_bytes), at.depth, at.mb_per_sec);
        let opacity = shade.at(at.mb_per_sec);
        let fill = rect("heat", (x, y), (width - 2.0, CELL - 2.0));
        let (middle, base) = (x + width / 2.0 - 1.0, y + CELL / 2.0 + 3.0);
        let number = label("number c", middle, base, &count(at.mb_per_sec));
        format!("<g>{}<g fill-opacity=\"{opacity:.2}\">{fill}</g>{number}</g>", tip(&told))
    };
    let columns = depths.iter().enumerate().map(|(at, depth)| {
        label("tick c", LEFT + (at as f64 + 0.5) * width - 1.0, TOP - 6.0, &depth.to_string())
    });
    let rows = sizes.iter().enumerate().map(|(at, size)| {
        label("name r", LEFT - 8.0, TOP + at as f64 * CELL + CELL / 2.0 + 3.0, &bytes(*size))
    });
    let text = label("axis r", WIDTH, 9.0, "writes at once")
        + &columns.chain(rows).collect::<String>()
        + &all.iter().map(cell).collect::<String>();
    let height = TOP + sizes.len() as f64 * CELL + 4.0;
    let drawn = drawing(height, "Durable bandwidth by size and depth", &text);
    (!all.is_empty()).then(|| figure("Durable bandwidth", "MB/s by size of a write", &drawn))
}

fn memory(floor: &Floor) -> Option<String> {
    let bar = |name: &str, buffer: u64, value: f64| Row {
        name: format!("{name}, {}", bytes(buffer)),
        value,
        columns: [format!("{value:.1}"), String::new()],
        ..Row::default()
    };
    let crc = floor.memory.iter().map(|at| bar("CRC-32", at.buffer_bytes, at.crc_gb_per_sec));
    let copy = floor.memory.iter().map(|at| bar("copy", at.buffer_bytes, at.copy_gb_per_sec));
    let rows: Vec<Row> = crc.chain(copy).collect();
    let most = rows.iter().map(|row| row.value).fold(0.0, f64::max);
    let chart = RowChart {
        about: "Checksums and copies in GB per second".into(),
        shape: Shape::Bar,
        names: Names::Left,
        scale: linear(Names::Left, 0.0, most),
        ticks: count,
        reference: None,
        heads: ["GB/s", "GB/s", ""],
        rows,
    };
    let title = "Checksums and copies";
    (!chart.rows.is_empty())
        .then(|| figure(title, "one core, a buffer again and again", &chart.draw()))
}

/// What three processes do without a protocol.
fn nulls(floor: &Floor) -> Option<String> {
    let row = |null: &NullRaft| {
        let name = format!(
            "{} payload, {} in flight",
            bytes(null.payload_bytes),
            whole(null.inflight as f64)
        );
        let rate = format!("{} op/s", count(null.ops_per_sec?));
        let told = range(name, null.p50_us?, null.p99_us?);
        Some(Row { name: format!("{}: {rate}", told.name), ..told })
    };
    let rows: Vec<Row> = floor.null_raft.iter().filter_map(row).collect();
    let ends = rows.iter().filter_map(|row| row.spread);
    let scale = log(Names::Above, ends.flat_map(|(p50, p99)| [p50, p99]));
    let note = "three processes";
    (!rows.is_empty()).then(|| ranges("Durable on two of three, no protocol", note, scale, rows))
}
