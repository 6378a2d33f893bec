//! What the architecture says of the sources, read from the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// The logic: no IO, no clock, no thread, no randomness of its own, no async.
const LOGIC: &[&str] = &[
    "engine/src/raft",
    "engine/src/shard",
    "engine/src/codec.rs",
    "engine/src/state_machine.rs",
    "engine/src/time.rs",
    "net/src/backoff.rs",
    "net/src/book.rs",
    "net/src/bucket.rs",
    "net/src/config.rs",
    "net/src/decoder.rs",
    "net/src/envelope.rs",
    "net/src/event.rs",
    "net/src/frame.rs",
    "net/src/handshake",
    "net/src/handshake.rs",
    "net/src/outbox.rs",
    "net/src/throttle.rs",
    "wal/src",
];

/// The driver of the log's disk operations is the one part of `wal/` that does IO.
const DRIVERS: &[&str] = &["wal/src/driver", "wal/src/driver.rs"];

const FORBIDDEN: &[&str] = &[
    "glommio",
    "async ",
    ".await",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "thread::",
    "socket2",
    "crate::runtime",
    "Instant",
    "Instant::now",
    "SystemTime",
    "libc",
    "rand::",
    "RandomState",
    "flume",
    "Mutex",
    "RwLock",
    "Atomic",
    "unsafe ",
];

/// What a file may use for all that: types that do nothing, a hint to the CPU,
/// and the length of memory that is initialised.
const ALLOWED: &[(&str, &str)] = &[
    ("net/src/config.rs", "std::net"),
    ("net/src/event.rs", "std::io"),
    ("net/src/throttle.rs", "Instant"),
    ("net/src/bucket.rs", "Instant"),
    ("wal/src/prefetch.rs", "unsafe "),
    ("net/src/decoder.rs", "unsafe "),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn inside<'a>(root: &Path, file: &'a Path) -> &'a str {
    file.strip_prefix(root).ok().and_then(Path::to_str).expect("in the workspace")
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("readable") {
            sources(&entry.expect("readable").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_path_buf());
    }
}

/// The code of a line: comments may speak of what code must not do.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn the_logic_does_no_io() {
    let root = root();
    let mut files = Vec::new();
    for place in LOGIC {
        let before = files.len();
        if root.join(place).exists() {
            sources(&root.join(place), &mut files);
            assert!(files.len() > before, "{place} holds no source");
        }
    }
    assert!(files.len() > 30, "the logic has moved: this test looks at {} files", files.len());
    let drivers: Vec<PathBuf> = DRIVERS.iter().map(|driver| root.join(driver)).collect();
    for file in files.iter().filter(|file| !drivers.iter().any(|driver| file.starts_with(driver))) {
        let text = fs::read_to_string(file).expect("readable");
        let allowed = |word: &str| ALLOWED.contains(&(inside(&root, file), word));
        for (number, line) in text.lines().enumerate() {
            for word in FORBIDDEN.iter().filter(|word| !allowed(word)) {
                let at = format!("{}:{}", file.display(), number + 1);
                assert!(!code(line).contains(word), "{at}: the logic must not use `{word}`");
            }
        }
    }
}

#[test]
fn glommio_stays_in_the_drivers() {
    let root = root();
    let mut files = Vec::new();
    ["engine/src", "wal/src", "net/src"].iter().for_each(|c| sources(&root.join(c), &mut files));
    let drivers = ["engine/src/runtime", "wal/src/driver", "net/src/runtime"];
    for file in files {
        let inside = inside(&root, &file);
        if drivers.iter().any(|driver| inside.starts_with(driver)) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("readable");
        let user = text.lines().find(|line| code(line).contains("glommio::"));
        assert!(user.is_none(), "{inside}: glommio belongs into the drivers: {user:?}");
    }
}

#[test]
fn the_log_and_the_network_do_not_know_each_other() {
    let root = root();
    for (krate, stranger) in [("wal", "ringleader"), ("net", "ringleader")] {
        let manifest = fs::read_to_string(root.join(krate).join("Cargo.toml")).expect("readable");
        let dependencies = manifest.split("[dependencies]").nth(1).expect("has dependencies");
        assert!(!dependencies.contains(stranger), "{krate} depends on another crate of ours");
    }
}

/// The cells of the table of SOFAJRaft's cases: the case, and what it says here.
fn cases(page: &str) -> Vec<(&str, &str)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let cells = rows.filter_map(|row| row.split_once("` | "));
    cells.filter(|(case, _)| case.starts_with("test") || *case == "readCommittedUserLog").collect()
}

/// Every test that the page names is there, and every case names a test or says why not.
#[test]
fn the_table_of_cases_is_true() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let page = fs::read_to_string(tests.join("README.md")).expect("readable");
    let mut cases = cases(&page);
    let all = cases.len();
    cases.sort_unstable();
    cases.dedup_by_key(|(case, _)| *case);
    assert_eq!((all, cases.len()), (64, 64), "one row for each case");
    for (case, shown) in cases {
        let mut named = 0;
        for name in shown.split('`').skip(1).step_by(2) {
            let (file, test) = name.split_once("::").unwrap_or((name, ""));
            let text = fs::read_to_string(tests.join(file));
            let text = text.unwrap_or_else(|error| panic!("{case}: {file}: {error}"));
            let test = format!("#[test]\nfn {test}() {{");
            assert!(!name.contains("::") || text.contains(&test), "{case}: no {name}");
            named += 1;
        }
        let says_why = ["does not ", "likewise"].iter().any(|why| shown.starts_with(why));
        assert!(named > 0 || says_why, "{case}: neither a test nor a reason");
    }
}
