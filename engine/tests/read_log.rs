//! Reading committed entries back, on real nodes on loopback.

mod nodes;

use bytes::Bytes;
use futures_lite::future::block_on;
use nodes::GROUP;
use ringleader::{
    Engine, Entries, GroupId, Handle, LogIndex, MachineError, ReadLogError, Replies,
    SnapshotSource, StateMachine,
};

/// Remembers what it was given, and gives snapshots of how much that was.
#[derive(Default)]
struct Journal {
    entries: Vec<(u64, u64, Vec<u8>)>,
}

impl StateMachine for Journal {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        let entry = entries.iter().map(|entry| (entry.index.0, entry.term.0, entry.payload.into()));
        self.entries.extend(entry);
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(Nothing))
    }
}

struct Nothing;

impl SnapshotSource for Nothing {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(None)
    }
}

fn start(addresses: &[std::net::SocketAddr], dir: &std::path::Path) -> Vec<Engine> {
    let start = |node: u64| {
        let mut config = nodes::config(addresses, node, 1, dir);
        // What a snapshot covers goes.
        (config.snapshots.keep_entries, config.snapshots.keep_bytes) = (0, 0);
        Engine::start(config, |_| Box::new(Journal::default())).expect("the node starts")
    };
    (1..=addresses.len() as u64).map(start).collect()
}

/// All that can be read from an entry on, in portions of so many bytes.
fn read_all(
    handle: &Handle,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<(u64, u64, Vec<u8>)>, ReadLogError> {
    let (mut from, mut all) = (LogIndex(from), Vec::new());
    loop {
        match block_on(handle.read_log(GROUP, from, max_bytes)) {
            Ok(portion) => {
                let entry = |entry: ringleader::Entry<'_>| {
                    (entry.index.0, entry.term.0, entry.payload.to_vec())
                };
                all.extend(portion.operations().map(entry));
                assert!(portion.next() > from, "it gets on");
                from = portion.next();
            }
            Err(ReadLogError::Beyond { committed }) if committed.next() == from => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

fn applied(handle: &Handle) -> Vec<(u64, u64, Vec<u8>)> {
    let inspect = |journal: &mut Journal| journal.entries.clone();
    block_on(handle.inspect(GROUP, inspect)).expect("the group is here")
}

#[test]
fn what_was_committed_is_read_back_from_any_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = nodes::addresses(3);
    let engines = start(&addresses, dir.path());
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    for number in 0..50_u32 {
        let payload = vec![number as u8; number as usize * 40];
        nodes::eventually("an operation to be applied", || {
            handles.iter().find(|handle| block_on(handle.propose(GROUP, &payload)).is_ok())
        });
    }
    let most = handles.iter().map(|handle| applied(handle).len()).max().expect("three nodes");
    for handle in &handles {
        nodes::eventually("all to have applied the same", || {
            (applied(handle).len() == most).then_some(())
        });
        let expected = applied(handle);
        for max_bytes in [0, 1, 1000, usize::MAX] {
            assert_eq!(read_all(handle, 1, max_bytes).as_ref(), Ok(&expected));
        }
        // From the middle of a block, and from an entry that is not there yet.
        let (index, ..) = expected[most / 2];
        assert_eq!(read_all(handle, index, 1000), Ok(expected[most / 2..].to_vec()));
        let beyond = block_on(handle.read_log(GROUP, LogIndex(u64::MAX), 1));
        assert!(matches!(beyond, Err(ReadLogError::Beyond { .. })), "{beyond:?}");
        let before = block_on(handle.read_log(GROUP, LogIndex(0), 1)).map(|_| ());
        assert_eq!(before, Err(ReadLogError::Compacted { first: LogIndex(1) }));
        let unknown = block_on(handle.read_log(GroupId(9), LogIndex(1), 1)).map(|_| ());
        assert_eq!(unknown, Err(ReadLogError::UnknownGroup(GroupId(9))));
    }

    // A snapshot takes the beginning of the log away, and the error says where it begins.
    let handle = &handles[0];
    let covered = block_on(handle.snapshot(GROUP)).expect("it takes snapshots");
    let first = nodes::eventually("the log to begin later", || {
        match block_on(handle.read_log(GROUP, LogIndex(1), 1)) {
            Err(ReadLogError::Compacted { first }) => Some(first),
            Ok(_) => None,
            Err(error) => panic!("{error}"),
        }
    });
    assert_eq!(first, covered.index.next());
    assert_eq!(read_all(handle, first.0, 1000).map(|all| all.len()), Ok(0));

    drop(engines);
    let stopped = block_on(handles[1].read_log(GROUP, LogIndex(1), 1)).map(|_| ());
    assert_eq!(stopped, Err(ReadLogError::Stopped));
}
