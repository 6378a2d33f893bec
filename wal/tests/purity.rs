//! The log's logic does no IO, has no clock, no threads and no randomness of its own: everything
//! outside `driver/` is checked by reading it.

use std::path::Path;

const FORBIDDEN: [&str; 12] = [
    "glommio",
    "async ",
    ".await",
    "std::fs",
    "std::net",
    "std::thread",
    "std::time",
    "std::io",
    "Instant",
    "SystemTime",
    "RandomState",
    "libc::",
];

fn check(dir: &Path, seen: &mut usize) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("driver") {
                check(&path, seen);
            }
            continue;
        }
        *seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN {
                assert!(!code.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn logic_does_no_io() {
    let mut seen = 0;
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut seen);
    assert!(seen > 15);
}
