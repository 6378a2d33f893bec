//! Whether this kernel lets us use io_uring. glommio panics where it does not, so it is asked
//! first.

use std::fs;

use crate::error::StartError;

/// glommio refuses to start below this.
const MEMLOCK_MIN: u64 = 512 << 10;

/// # Errors
/// Says what forbids io_uring and what to do about it.
pub(crate) fn check_kernel() -> Result<(), StartError> {
    check_memlock()?;
    // struct io_uring_params is 120 bytes; all zero asks for a ring without options.
    let mut params = [0u64; 15];
    // SAFETY: the call reads and writes the 120 bytes behind the pointer and returns a new
    // descriptor or an error.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if ring >= 0 {
        // SAFETY: the descriptor was just made and nobody else has it.
        unsafe { libc::close(ring as i32) };
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    let hint = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring; use Linux 5.8 or later",
        Some(libc::EPERM) => match fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
            Ok(value) if value.trim() != "0" => {
                "it is switched off; set the sysctl kernel.io_uring_disabled to 0"
            }
            _ => "it is forbidden; a container needs a seccomp profile that allows io_uring",
        },
        Some(libc::ENOMEM) => "memory may not be locked; raise RLIMIT_MEMLOCK (ulimit -l)",
        _ => "the kernel refused a ring",
    };
    Err(StartError::IoUring(format!("{hint} ({error})")))
}

/// # Errors
/// Names a core that shards are pinned to and that this process may not run on.
pub(crate) fn check_cores(pin: Option<&[usize]>) -> Result<(), StartError> {
    let Some(cores) = core_affinity::get_core_ids() else { return Ok(()) };
    let stranger = pin.into_iter().flatten().find(|pin| cores.iter().all(|core| core.id != **pin));
    let Some(stranger) = stranger else { return Ok(()) };
    let cores: Vec<String> = cores.iter().map(|core| core.id.to_string()).collect();
    Err(StartError::Config(format!(
        "pin names core {stranger}; this process may run on {}",
        cores.join(", ")
    )))
}

fn check_memlock() -> Result<(), StartError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills the struct that the pointer names.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if done == 0 && limit.rlim_cur < MEMLOCK_MIN {
        return Err(StartError::IoUring(format!(
            "only {} KiB of memory may be locked and {} KiB are needed; raise RLIMIT_MEMLOCK \
             (ulimit -l)",
            limit.rlim_cur >> 10,
            MEMLOCK_MIN >> 10
        )));
    }
    Ok(())
}
