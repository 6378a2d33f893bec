//! How other threads wake a shard that sleeps.
//!
//! A byte through a socket pair, and not a waker: glommio delivers a foreign waker through an
//! eventfd on its latency ring, and a completion there that arrives just before tasks are run looks
//! like a preemption, upon which 0.12 goes to sleep although tasks are runnable
//! (`LocalExecutor::run_task_queues`). Sockets complete on the main ring, which preempts nobody.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use glommio::io::PollableFd;

use super::notify::Notify;

/// The outside of a shard's door.
pub(crate) struct Doorbell {
    /// Set by the shard before it sleeps, cleared by whoever wakes it: one byte per sleep.
    sleeping: AtomicBool,
    wire: UnixStream,
}

/// The inside.
pub(crate) struct Bell(UnixStream);

impl Doorbell {
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn new() -> std::io::Result<(Self, Bell)> {
        let (wire, bell) = UnixStream::pair()?;
        wire.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        Ok((Self { sleeping: AtomicBool::new(false), wire }, Bell(bell)))
    }

    /// Call after something was queued for the shard.
    pub(crate) fn ring(&self) {
        // Sequential consistency orders what was queued before this look, against the shard's
        // store before its last look at the queue: one of the two sees the other.
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            // A full socket holds enough bytes to wake the shard, and one that is closed has
            // nobody to wake.
            let _ = (&self.wire).write(&[0]);
        }
    }

    /// The shard is about to sleep; it looks at its queue once more after this.
    pub(super) fn before_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
    }

    /// The shard is awake, and looks at its queue before it sleeps again.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

impl Bell {
    /// Raises `notify` at every ring from now on. Runs on the shard's executor, until the task is
    /// dropped.
    ///
    /// # Errors
    /// When glommio does not take the descriptor.
    pub(super) fn listen(self, notify: Rc<Notify>) -> Result<glommio::Task<()>, String> {
        let bell = PollableFd::new(self.0).map_err(|error| error.to_string())?;
        Ok(glommio::spawn_local(async move {
            while bell.readable().await.is_ok() {
                let mut rings = [0; 64];
                match bell.get_ref().read(&mut rings) {
                    Ok(0) => return,
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                    _ => notify.raise(),
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_wakes_a_sleeper_however_often_it_rings() {
        let (doorbell, mut bell) = Doorbell::new().expect("descriptors");
        doorbell.ring();
        assert!(bell.0.read(&mut [0; 8]).is_err(), "nobody sleeps");
        doorbell.before_sleep();
        doorbell.ring();
        doorbell.ring();
        assert_eq!(bell.0.read(&mut [0; 8]).expect("a ring"), 1);
        doorbell.before_sleep();
        doorbell.awake();
        doorbell.ring();
        assert!(bell.0.read(&mut [0; 8]).is_err(), "it was awake");
    }
}
