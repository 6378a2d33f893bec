//! Everything that the machine allows, as the command `floor` tells it.

use std::fmt::Write as _;

use anyhow::Context;
use serde::Serialize;

use super::memory::{self, Memory};
use super::network;
use super::null_raft::{self, NullRaft};
use super::writes::{self, Bandwidth, Way, WriteLatency};
use crate::args::FloorArgs;
use crate::data_dir::DataDir;
use crate::histogram::Latencies;
use crate::machine::Machine;
use crate::report::{RunReport, thousands};

/// Operations in flight and bytes of each, for which it is told what three processes do without a
/// protocol.
const LOADS: [(u64, u64); 4] = [(1, 16), (1024, 16), (16_384, 16), (64, 65_536)];

/// The whole floor. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct Whole {
    kind: &'static str,
    machine: Machine,
    round_trip: Reach,
    wake_up: Reach,
    durable_writes: Vec<WriteLatency>,
    durable_bandwidth: Vec<Bandwidth>,
    memory: Vec<Memory>,
    null_raft: Vec<NullLoad>,
}

/// There and back again, in microseconds.
#[derive(Debug, Serialize)]
struct Reach {
    other_core_p50_us: f64,
    other_core_p99_us: f64,
    same_core_p50_us: f64,
    same_core_p99_us: f64,
}

#[derive(Debug, Serialize)]
struct NullLoad {
    inflight: u64,
    payload_bytes: u64,
    #[serde(flatten)]
    result: NullRaft,
}

impl Reach {
    fn new(other: &Latencies, same: &Latencies) -> Self {
        Self {
            other_core_p50_us: other.quantile_us(0.5),
            other_core_p99_us: other.quantile_us(0.99),
            same_core_p50_us: same.quantile_us(0.5),
            same_core_p99_us: same.quantile_us(0.99),
        }
    }

    fn row(&self, what: &str) -> String {
        let Self { other_core_p50_us: p50, other_core_p99_us: p99, .. } = self;
        let (near50, near99) = (self.same_core_p50_us, self.same_core_p99_us);
        format!("  {what:<38}{p50:>9.1}{p99:>9.1}{near50:>9.1}{near99:>9.1}\n")
    }
}

/// Measures, in about half a minute.
pub(crate) fn measure(args: &FloorArgs) -> anyhow::Result<Whole> {
    let directory = DataDir::of_run(args.output.data_dir(), false)?;
    let (here, there) = network::cores();
    let round_trip =
        Reach::new(&network::round_trips(here, there)?, &network::round_trips(here, here)?);
    let wake_up = Reach::new(&network::wake_ups(here, there)?, &network::wake_ups(here, here)?);
    let path = directory.path();
    let mut null_raft = Vec::new();
    for (inflight, payload_bytes) in LOADS {
        let result = null_raft::measure(path, inflight, payload_bytes)?;
        null_raft.push(NullLoad { inflight, payload_bytes, result });
    }
    Ok(Whole {
        kind: "floor",
        round_trip,
        wake_up,
        durable_writes: writes::one_at_a_time(path).context("measuring durable writes")?,
        durable_bandwidth: writes::bandwidth(path).context("measuring durable bandwidth")?,
        memory: memory::measure(),
        null_raft,
        machine: Machine::describe(path),
    })
}

impl Whole {
    fn writes(&self) -> String {
        let mut text = format!(
            "\n  {:<38}{:>18}{:>18}{:>18}\n  {:<38}",
            "durable 4 KiB writes, one at a time", "1 process", "2 processes", "3 processes", "us"
        );
        text += &format!("{:>9}{:>9}", "p50", "p99").repeat(3);
        text.push('\n');
        for way in Way::ALL {
            write!(text, "  {:<38}", way.name()).expect("strings take all");
            for write in self.durable_writes.iter().filter(|write| write.way == way) {
                write!(text, "{:>9.1}{:>9.1}", write.p50_us, write.p99_us)
                    .expect("strings take all");
            }
            text.push('\n');
        }
        text
    }

    fn bandwidths(&self) -> String {
        let mut text = format!("\n  {:<28}", "durable MB/s, writes at once");
        let mut sizes: Vec<usize> =
            self.durable_bandwidth.iter().map(|at| at.write_bytes).collect();
        sizes.dedup();
        let of =
            |size: usize| self.durable_bandwidth.iter().filter(move |at| at.write_bytes == size);
        let heads = sizes.first().map(|size| of(*size).map(|at| format!("{:>10}", at.depth)));
        text += &heads.into_iter().flatten().collect::<String>();
        for size in sizes {
            write!(text, "\n  {:<28}", format!("{} KiB each", size >> 10))
                .expect("strings take all");
            of(size).for_each(|at| {
                write!(text, "{:>10.1}", at.mb_per_sec).expect("strings take all");
            });
        }
        text + "\n"
    }

    fn nulls(&self) -> String {
        let mut text = format!(
            "\n  {:<38}{:>12}{:>9}{:>9}   blocks at once\n",
            "durable on two of three, no protocol", "op/s", "p50", "p99"
        );
        for NullLoad { inflight, payload_bytes, result } in &self.null_raft {
            let what =
                format!("{} B, {} in flight", thousands(*payload_bytes), thousands(*inflight));
            let NullRaft { ops_per_sec, p50_us, p99_us, depth, .. } = result;
            let rate = thousands(*ops_per_sec as u64);
            writeln!(text, "  {what:<38}{rate:>12}{p50_us:>9.1}{p99_us:>9.1}   {depth}")
                .expect("strings take all");
        }
        text
    }
}

impl RunReport for Whole {
    fn passed(&self) -> bool {
        true
    }

    fn table(&self) -> String {
        let mut table = format!("\n{}\n", self.machine.summary());
        write!(
            table,
            "\n  {:<38}{:>18}{:>18}\n  {:<38}",
            "there and back", "other core", "same core", "us"
        )
        .expect("strings take all");
        table += &format!("{:>9}{:>9}", "p50", "p99").repeat(2);
        table.push('\n');
        table += &self.round_trip.row("64 bytes over loopback TCP");
        table += &self.wake_up.row("a sleeping thread woken");
        table += &self.writes();
        table += &self.bandwidths();
        writeln!(table, "\n  {:<28}{:>10}{:>10}", "GB/s", "CRC-32", "copy")
            .expect("strings take all");
        for memory in &self.memory {
            let what = format!("{} KiB", memory.buffer_bytes >> 10);
            let (crc, copy) = (memory.crc_gb_per_sec, memory.copy_gb_per_sec);
            writeln!(table, "  {what:<28}{crc:>10.1}{copy:>10.1}").expect("strings take all");
        }
        table + &self.nulls()
    }
}
