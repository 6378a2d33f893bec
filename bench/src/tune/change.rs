//! What an experiment changes: this program's settings, or the system's for as long as a run takes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::args::ClusterArgs;
use crate::disk::{Device, chosen};
use crate::floor::allocate;

/// A difference between the two sides of an experiment.
pub(super) enum Change {
    /// Of the run itself.
    Run(fn(&mut ClusterArgs)),
    /// An environment variable of the nodes.
    Environment(&'static str, &'static str),
    /// A file of the kernel's that holds a setting.
    Setting(Place, &'static str),
    /// The nodes' data on a file system of its own, in a file on the same disk.
    FileSystem(&'static [&'static str]),
    /// No core sleeps deeper than it wakes from at once (`/dev/cpu_dma_latency`, pm_qos).
    AwakeCores,
    /// Not something that can be changed here.
    Never(&'static str),
}

/// Where a setting is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    At(&'static str),
    /// A queue setting of the disk below the data.
    Queue(&'static str),
    /// The affinity of the disk's interrupt.
    DiskInterrupt,
}

/// Something changed, until this is dropped.
pub(super) enum Changed {
    Nothing,
    Setting { path: PathBuf, before: String },
    Mounted { point: PathBuf, image: PathBuf },
    Awake { _request: File },
}

impl Place {
    fn path(self, directory: &Path) -> anyhow::Result<PathBuf> {
        let device = Device::under(directory).context("there is no disk below the data");
        match self {
            Self::At(path) => Ok(path.into()),
            Self::Queue(setting) => Ok(device?.queue_path(setting)),
            Self::DiskInterrupt => {
                let number = device?.interrupt().context("its interrupt is not to be found")?;
                Ok(format!("/proc/irq/{number}/smp_affinity").into())
            }
        }
    }
}

impl Change {
    /// Whether it changes more than this program's own processes.
    pub(super) fn is_systems(&self) -> bool {
        matches!(self, Self::Setting(..) | Self::FileSystem(_) | Self::AwakeCores)
    }

    /// Makes the change, for a run in `directory`.
    pub(super) fn make(&self, directory: &Path, args: &mut ClusterArgs) -> anyhow::Result<Changed> {
        match self {
            Self::Run(change) => change(args),
            Self::Environment(name, value) => {
                args.environment.push(((*name).to_owned(), (*value).to_owned()));
            }
            Self::Setting(place, value) => return set(&place.path(directory)?, value),
            Self::FileSystem(make) => return mount(directory, make, args),
            Self::AwakeCores => {
                let mut request = File::options().write(true).open("/dev/cpu_dma_latency")?;
                request.write_all(&0_i32.to_ne_bytes())?;
                return Ok(Changed::Awake { _request: request });
            }
            Self::Never(reason) => bail!("{reason}"),
        }
        Ok(Changed::Nothing)
    }
}

/// Writes a setting, if it is another.
fn set(path: &Path, value: &str) -> anyhow::Result<Changed> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    let before = chosen(text.trim()).to_owned();
    if before == value {
        bail!("{shown} is {value} already");
    }
    fs::write(path, value).with_context(|| format!("writing {value} to {shown}"))?;
    let now = fs::read_to_string(path).unwrap_or_default();
    let changed = Changed::Setting { path: path.to_owned(), before };
    if chosen(now.trim()) != value {
        bail!("{shown} does not take {value}: it is {}", now.trim());
    }
    Ok(changed)
}

/// Makes and mounts a file system, and has the run write there.
fn mount(directory: &Path, make: &[&str], args: &mut ClusterArgs) -> anyhow::Result<Changed> {
    /// Of the file that it is in.
    const BYTES: u64 = 2 << 30;
    let (point, image) = (directory.join("mount"), directory.join("image"));
    fs::create_dir_all(&point)?;
    // Allocated, so that the disk below has nothing to find when the file system writes.
    allocate(&File::create(&image)?, BYTES)?;
    run(Command::new(make[0]).args(&make[1..]).arg(&image))?;
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point))?;
    args.data_dir = Some(point.join("data"));
    Ok(Changed::Mounted { point, image })
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} is not here"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Drop for Changed {
    fn drop(&mut self) {
        let undone = match self {
            Self::Nothing | Self::Awake { .. } => Ok(()),
            Self::Setting { path, before } => {
                fs::write(&*path, &*before).with_context(|| format!("{} back", path.display()))
            }
            Self::Mounted { point, image } => run(Command::new("umount").arg(&*point))
                .and_then(|()| Ok(fs::remove_file(image)?))
                .and_then(|()| Ok(fs::remove_dir(point)?)),
        };
        if let Err(error) = undone {
            eprintln!("warning: the system was left changed: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_written_and_put_back() {
        let path = std::env::temp_dir().join(format!("ringleader-tune-{}", std::process::id()));
        fs::write(&path, "none\n").expect("the temporary directory is there");
        let changed = set(&path, "kyber").expect("it can be written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "kyber");
        drop(changed);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "none");
        assert!(set(&path, "none").is_err(), "it is so already");
        fs::remove_file(path).expect("it is ours");
    }
}
