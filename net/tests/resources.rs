//! Descriptors and memory, alone in a process so that they can be counted.

mod common;

use std::io::Write;
use std::net::TcpStream;

use common::{World, at, config, run};
use ringleader_net::NetConfig;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A burst of strangers, all of them gone for good afterwards.
async fn burst(world: &mut World, count: u64) {
    let address = world.door(2).listener.address();
    let before = world.door(2).listener.stats();
    let clients = std::thread::spawn(move || {
        for round in 0..count {
            let mut stream = TcpStream::connect(address).expect("the listener is up");
            let _ = stream.write_all(&vec![round as u8; 20_000]);
        }
    });
    world
        .until("the strangers to be gone", |world| {
            let stats = world.door(2).listener.stats();
            let closed = stats.invalid + stats.displaced - before.invalid - before.displaced;
            (closed == count && clients.is_finished() && stats.pending == 0).then_some(())
        })
        .await;
    clients.join().expect("no client fails");
}

#[test]
fn strangers_and_reconnects_leave_nothing_behind() {
    run(|| async {
        let mut world =
            World::started(&[1, 1], NetConfig { max_pending_handshakes: 8, ..config() });
        world.connected().await;
        burst(&mut world, 100).await;
        let (descriptors, resident) = (open_descriptors(), resident_kib());

        burst(&mut world, 600).await;
        let (a, b) = (at(1, 0), at(2, 0));
        for round in 0..20 {
            let epoch = world.shard(b).epoch(a).expect("connected");
            world.shard(a).send(b, b"never polled, perhaps", vec![vec![0; 100_000].into()]);
            world.shard(b).net.disconnect(a, epoch, "a test");
            world
                .until("a reconnect", |world| {
                    let both = world.shard(a).ups(b).len().min(world.shard(b).ups(a).len());
                    (both == round + 2).then_some(())
                })
                .await;
        }
        // Closing goes through the ring, so the last few descriptors take a moment.
        world.until("the descriptors", |_| (open_descriptors() <= descriptors).then_some(())).await;
        let grown = resident_kib().saturating_sub(resident);
        assert!(grown < 8 * 1024, "{grown} KiB more than before");
        world.finish().await;
    });
}
