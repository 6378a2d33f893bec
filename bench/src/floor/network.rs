//! What it takes to reach another thread: over loopback TCP, and by waking it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::anyhow;
use core_affinity::CoreId;

use super::pages::MESSAGE;
use super::sample;
use crate::histogram::Latencies;

const ROUND_TRIPS: u64 = 5_000;
const TIME: u64 = 300_000_000;

/// The first and the last of this machine's cores.
pub(super) fn cores() -> (Option<CoreId>, Option<CoreId>) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    (cores.first().copied(), cores.last().copied())
}

/// Round trips of a message between two threads, each on its core. Both are threads of their own, so
/// that the caller stays where it is.
pub(super) fn round_trips(
    here: Option<CoreId>,
    there: Option<CoreId>,
) -> anyhow::Result<Latencies> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            there.map(core_affinity::set_for_current);
            let mut message = [0; MESSAGE];
            while far.read_exact(&mut message).is_ok() && far.write_all(&message).is_ok() {}
        });
        let ping = scope.spawn(move || {
            here.map(core_affinity::set_for_current);
            ping(near)
        });
        Ok(ping.join().map_err(|_| anyhow!("the measuring thread panicked"))??)
    })
}

/// The other end's thread ends with the connection.
fn ping(mut near: TcpStream) -> std::io::Result<Latencies> {
    let mut message = [0; MESSAGE];
    sample(ROUND_TRIPS, TIME, |_| {
        near.write_all(&message)?;
        near.read_exact(&mut message)
    })
}

/// Two wake-ups: this thread wakes another that sleeps (futex(2)), and is woken by it.
pub(super) fn wake_ups(here: Option<CoreId>, there: Option<CoreId>) -> anyhow::Result<Latencies> {
    const END: u64 = u64::MAX;
    let turn = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let turn = &turn;
        let ping = scope.spawn(move || {
            here.map(core_affinity::set_for_current);
            let me = std::thread::current();
            let pong = scope.spawn(move || {
                there.map(core_affinity::set_for_current);
                await_turn(
                    turn,
                    |at| at == END || at % 2 == 1,
                    |at| {
                        turn.store(at + 1, Ordering::Release);
                        me.unpark();
                    },
                );
            });
            let other = pong.thread().clone();
            let measured = sample(ROUND_TRIPS, TIME, |_| {
                let at = turn.load(Ordering::Acquire);
                turn.store(at + 1, Ordering::Release);
                other.unpark();
                while turn.load(Ordering::Acquire) != at + 2 {
                    std::thread::park();
                }
                Ok(())
            });
            turn.store(END, Ordering::Release);
            other.unpark();
            measured
        });
        Ok(ping.join().map_err(|_| anyhow!("the measuring thread panicked"))??)
    })
}

/// Sleeps until it is this thread's turn, has it, and sleeps again, until the last turn of all.
fn await_turn(turn: &AtomicU64, mine: impl Fn(u64) -> bool, mut have: impl FnMut(u64)) {
    loop {
        let at = turn.load(Ordering::Acquire);
        match at {
            u64::MAX => return,
            at if mine(at) => have(at),
            _ => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_time() {
        assert!(round_trips(None, None).expect("loopback works").quantile(0.5) > 0);
    }

    #[test]
    fn a_wake_up_takes_time() {
        assert!(wake_ups(None, None).expect("threads work").quantile(0.5) > 0);
    }
}
