//! Descriptors and memory, alone in a process so that they can be counted.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{World, at, config, run};
use ringleader_net::NetConfig;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// The system's allocator, and how many bytes are allocated and not freed: what is resident depends
/// on how it splits and keeps what it was given back, too.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
        let (descriptors, allocated) = (open_descriptors(), ALLOCATED.load(Ordering::Relaxed));

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
        let grown = ALLOCATED.load(Ordering::Relaxed).saturating_sub(allocated);
        // Half of what was sent in vain, or less than 2 KiB of every stranger.
        assert!(grown < 1 << 20, "{grown} bytes more than before");
        world.finish().await;
    });
}
