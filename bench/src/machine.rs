//! The machine that a result was measured on.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::cpu::kilobytes;
use crate::disk::{Device, chosen, mount_of};

/// What of a machine a result depends on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// This program's version, and the commit it was built from.
    version: &'static str,
    commit: Option<&'static str>,
    profile: &'static str,
    kernel: Option<String>,
    cpu: Option<String>,
    cores: Option<usize>,
    memory_bytes: u64,
    file_system: Option<String>,
    mount_options: Option<String>,
    device: Option<String>,
    write_cache: Option<String>,
    fua: Option<bool>,
    scheduler: Option<String>,
}

impl Machine {
    /// This machine, with the disk under `directory`.
    pub(crate) fn describe(directory: &Path) -> Self {
        let device = Device::under(directory);
        let queue = |setting| device.as_ref().and_then(|device| device.queue(setting));
        let mount = mount_of(directory);
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("RINGLEADER_COMMIT"),
            profile,
            kernel: line_of("/proc/sys/kernel/osrelease"),
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: std::thread::available_parallelism().ok().map(Into::into),
            memory_bytes: kilobytes(&meminfo, "MemTotal:") * 1024,
            file_system: mount.as_ref().map(|mount| mount.file_system.clone()),
            mount_options: mount.map(|mount| mount.options),
            device: device.as_ref().map(Device::name),
            write_cache: queue("write_cache"),
            fua: queue("fua").map(|fua| fua == "1"),
            scheduler: queue("scheduler").map(|line| chosen(&line).to_owned()),
        }
    }

    /// In one line, for the head of a table.
    pub(crate) fn summary(&self) -> String {
        let unknown = || "?".to_owned();
        format!(
            "{} x {}, Linux {}, {} on {} ({}{})",
            self.cores.unwrap_or(0),
            self.cpu.clone().unwrap_or_else(unknown),
            self.kernel.clone().unwrap_or_else(unknown),
            self.file_system.clone().unwrap_or_else(unknown),
            self.device.clone().unwrap_or_else(|| "no disk".into()),
            self.write_cache.clone().unwrap_or_else(|| "cache unknown".into()),
            if self.fua == Some(true) { ", FUA" } else { "" },
        )
    }
}

fn line_of(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    // Arm kernels name no model; their part number is better than nothing.
    let value = |label| {
        let line = cpuinfo.lines().find(|line| line.starts_with(label))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    value("model name").or_else(|| value("CPU part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_a_name_on_either_architecture() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A B\n").as_deref(), Some("A B"));
        assert_eq!(cpu_model("processor\t: 0\nCPU part\t: 0xd0c\n").as_deref(), Some("0xd0c"));
        assert_eq!(cpu_model(""), None);
    }
}
