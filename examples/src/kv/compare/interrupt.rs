//! Ctrl-C: what runs is ended in order, so that no server and no data stay behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

static CAME: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Takes SIGINT and SIGTERM from now on.
pub(crate) fn handle() -> anyhow::Result<()> {
    let came = CAME.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, came.clone()).context("handling signals")?;
    }
    Ok(())
}

/// # Errors
/// The user has enough.
pub(crate) fn check() -> anyhow::Result<()> {
    let came = CAME.get().is_some_and(|came| came.load(Ordering::Relaxed));
    ensure!(!came, "interrupted");
    Ok(())
}
