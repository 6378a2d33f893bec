//! A node that comes back without its data, under its old number: real engines, real connections.

mod nodes;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use futures_lite::future::block_on;
use nodes::{
    Counter, GROUP, addresses, config, count, eventually, know_each_other, propose, start_counting,
};
use ringleader::{Engine, EngineConfig, LogIndex};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// What all nodes of the test logged.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string takes it");
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        LINES.lock().expect("no panic under this lock").push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn logged(parts: &[&str]) -> Option<()> {
    let lines = LINES.lock().expect("no panic under this lock");
    lines.iter().any(|line| parts.iter().all(|part| line.contains(part))).then_some(())
}

#[test]
fn a_node_without_its_data_is_refused_by_all_and_the_others_serve_on() {
    tracing::subscriber::set_global_default(Log).expect("the only one in this process");
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let [first, second, third] =
        [1, 2, 3].map(|node| start_counting(config(&addresses, node, 1, dir.path())));
    propose(&[&first, &second, &third]);
    eventually("all to have met", || know_each_other(dir.path(), &[1, 2, 3]));

    // With its data a node comes back as often as it likes.
    third.shutdown();
    let third = start_counting(config(&addresses, 3, 1, dir.path()));
    eventually("the third to catch up", || (count(&third.handle()) == 1).then_some(()));
    assert_eq!(logged(&["data directory"]), None);

    third.shutdown();
    std::fs::remove_dir_all(dir.path().join("node-3")).expect("it was there");
    let third = start_counting(config(&addresses, 3, 1, dir.path()));
    // The others dial it: it knows from them what it is taken for, and they hear it from there.
    for node in [1, 2] {
        let met = format!("node {node} knows it with");
        let advice = "Remove node 3 from its groups and add it again as a new node";
        let here = ["connection not accepted", "refused", &met, advice];
        eventually("the refusal in its log", || logged(&here));
        let there = ["cannot connect", "node 3 shard 0", "data replaced", &met, advice];
        eventually("the refusal in the other log", || logged(&there));
    }
    for _ in 0..10 {
        propose(&[&first, &second]);
    }
    let status = block_on(third.handle().status(GROUP)).expect("the group is here");
    assert_eq!((status.leader, status.last.index, count(&third.handle())), (None, LogIndex(0), 0));
    assert_eq!(
        std::fs::read_to_string(dir.path().join("node-3/PEERS")).expect("there").lines().count(),
        2
    );

    // Not even when those who refuse it were restarted.
    first.shutdown();
    let first = start_counting(config(&addresses, 1, 1, dir.path()));
    propose(&[&first, &second]);
    second.shutdown();
    eventually("nobody to lead", || {
        let leads = |engine: &Engine| block_on(engine.handle().status(GROUP)).expect("here").leader;
        (leads(&first).is_none() && leads(&third).is_none()).then_some(())
    });
    let second = start_counting(config(&addresses, 2, 1, dir.path()));
    propose(&[&first, &second]);
    assert_eq!(count(&third.handle()), 0);
}

fn refused(config: EngineConfig) -> String {
    let started = Engine::start(config, |_| Box::new(Counter::default()));
    started.err().expect("it must not start").to_string()
}

#[test]
fn a_directory_that_is_not_whole_is_refused_and_says_what_to_do() {
    let addresses = addresses(3);
    let advice = "add it again as a new node, with a new number and an empty directory";
    let broken = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().expect("a directory");
        start_counting(config(&addresses, 1, 1, dir.path())).shutdown();
        start_counting(config(&addresses, 1, 1, dir.path())).shutdown();
        change(&dir.path().join("node-1"));
        refused(config(&addresses, 1, 1, dir.path()))
    };
    let gone = broken(&|dir| std::fs::remove_dir_all(dir.join("shard-0")).expect("it was there"));
    assert!(gone.contains("shard-0") && gone.contains(advice), "{gone}");
    let gone = broken(&|dir| std::fs::remove_file(dir.join("PEERS")).expect("it was there"));
    assert!(gone.contains("PEERS") && gone.contains(advice), "{gone}");
    let cut = broken(&|dir| std::fs::write(dir.join("PEERS"), "ringleader peers 1\n").expect("ok"));
    assert!(cut.contains("it ends before its checksum") && cut.contains(advice), "{cut}");
    let rotten = broken(&|dir| {
        let identity = std::fs::read_to_string(dir.join("IDENTITY")).expect("it was there");
        std::fs::write(dir.join("IDENTITY"), identity.replace("id ", "id 0")).expect("written");
    });
    assert!(rotten.contains("IDENTITY is damaged: its checksum is wrong"), "{rotten}");
    let old = broken(&|dir| {
        let identity = "ringleader data 1\ncluster 7\nnode 1\nshards 1\n";
        std::fs::write(dir.join("IDENTITY"), identity).expect("written");
    });
    assert!(old.contains("it is of another format") && old.contains("ringleader data 2"), "{old}");
    // Without the file that makes it one, it is no data directory, and holds what it must not.
    let lost = broken(&|dir| std::fs::remove_file(dir.join("IDENTITY")).expect("it was there"));
    assert!(lost.contains("it is not empty"), "{lost}");
}

#[test]
fn what_a_first_start_leaves_behind_when_it_is_cut_off_is_no_hindrance() {
    let addresses = addresses(3);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node-1");
    std::fs::create_dir_all(path.join("shard-0")).expect("made");
    for name in ["LOCK", "PEERS", "PEERS.new", "IDENTITY.new"] {
        std::fs::write(path.join(name), "half of it").expect("written");
    }
    start_counting(config(&addresses, 1, 1, dir.path())).shutdown();
    start_counting(config(&addresses, 1, 1, dir.path())).shutdown();
}
