//! Settings of a node's process and of its engine that experiments change.

use std::time::Duration;

use anyhow::Context;
use ringleader::EngineConfig;
use serde::{Deserialize, Serialize};

/// What differs from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tuning {
    /// Shard `s` of node `n` stays on core `n + s - 1`, modulo their number.
    pub(crate) pin: bool,
    /// [`EngineConfig::spin`], in microseconds.
    pub(crate) spin_us: u64,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) spare_segments: Option<usize>,
    pub(crate) kept_segments: Option<usize>,
    pub(crate) max_batch_bytes: Option<usize>,
    pub(crate) eager_writes: Option<usize>,
    pub(crate) read_chunk_bytes: Option<usize>,
    pub(crate) write_bytes: Option<usize>,
    /// Both ways.
    pub(crate) socket_buffer_bytes: Option<usize>,
    /// Real-time scheduling, SCHED_RR of the lowest priority.
    pub(crate) round_robin: bool,
    pub(crate) nice: Option<i32>,
    pub(crate) timer_slack_ns: Option<u64>,
}

impl Tuning {
    /// Sets what belongs to the engine of node `node`.
    pub(crate) fn configure(&self, node: u64, shards: u32, config: &mut EngineConfig) {
        if self.pin {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let first = node as usize - 1;
            config.pin = Some((0..shards as usize).map(|at| (first + at) % cores).collect());
        }
        config.spin = Duration::from_micros(self.spin_us);
        let (wal, net) = (&mut config.wal, &mut config.net);
        wal.segment_bytes = self.segment_bytes.unwrap_or(wal.segment_bytes);
        wal.spare_segments = self.spare_segments.unwrap_or(wal.spare_segments);
        wal.kept_segments = self.kept_segments.unwrap_or(wal.kept_segments);
        wal.max_batch_bytes = self.max_batch_bytes.unwrap_or(wal.max_batch_bytes);
        wal.eager_writes = self.eager_writes.unwrap_or(wal.eager_writes);
        net.read_chunk_bytes = self.read_chunk_bytes.unwrap_or(net.read_chunk_bytes);
        net.write_bytes = self.write_bytes.unwrap_or(net.write_bytes);
        net.send_buffer_bytes = self.socket_buffer_bytes.or(net.send_buffer_bytes);
        net.receive_buffer_bytes = self.socket_buffer_bytes.or(net.receive_buffer_bytes);
    }

    /// Sets what belongs to this process, before it has other threads: they inherit it.
    pub(crate) fn apply(&self) -> anyhow::Result<()> {
        if self.round_robin {
            let parameters = libc::sched_param { sched_priority: 1 };
            // SAFETY: `parameters` is valid for reads.
            let refused =
                unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) };
            done(refused).context("asking for real-time scheduling")?;
        }
        if let Some(nice) = self.nice {
            // SAFETY: no pointers.
            done(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })
                .context("setting the nice value")?;
        }
        if let Some(slack) = self.timer_slack_ns {
            // SAFETY: no pointers.
            done(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) })
                .context("setting the timer slack")?;
        }
        Ok(())
    }
}

fn done(refused: libc::c_int) -> std::io::Result<()> {
    if refused == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
