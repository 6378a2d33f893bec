//! Pages of small results by hand: well-formed, complete, and refused where a file is broken.

use super::load::{Content, parse};
use super::*;

/// A result of `compare` with everything that a page shows of it: two payloads, a share, a failed
/// run, an engine that isn't durable, one that was left out, and one whose name is markup.
const COMPARE: &str = r#"{
  "kind": "compare",
  "machine": {"version": "0.1.0", "profile": "release", "cpu": "A & B", "cores": 2},
  "rounds": 3,
  "engines": [
    {"name": "ringleader", "version": "0.1.0", "durable": true, "settings": {}, "skipped": null},
    {"name": "<script>", "version": "1", "durable": false, "settings": {"a<b": "\"c\""}, "skipped": null},
    {"name": "raft-rs", "version": null, "durable": null, "settings": {}, "skipped": "no cargo"}
  ],
  "points": [
    {"engine": "ringleader", "workload": {"nodes": 3, "groups": 1, "payload_bytes": 16, "inflight": 1, "rate": null}, "median": 1, "runs": [
      {"ops": 9, "ops_per_sec": 2000.0, "latency_us": {"p50": 400, "p99": 900}, "latency_curve_us": [[0, 300], [0.9, 700], [0.99, 900]], "cpu_ns_per_op": 9000, "disk": {"flushes": 3}, "passed": true},
      {"ops": 9, "ops_per_sec": 2100.0, "latency_us": {"p50": 400, "p99": 900}, "latency_curve_us": [[0, 300], [0.9, 700], [1, 900]], "cpu_ns_per_op": 8000, "passed": true},
      {"ops": 9, "ops_per_sec": 2200.0, "latency_us": {"p50": 400, "p99": 900}, "passed": true}]},
    {"engine": "ringleader", "workload": {"nodes": 3, "groups": 1, "payload_bytes": 16, "inflight": 64, "rate": null}, "median": null, "runs": [
      {"ops_per_sec": 90000.0, "latency_us": {"p50": 500, "p99": 1900}}]},
    {"engine": "<script>", "workload": {"nodes": 3, "groups": 1, "payload_bytes": 16, "inflight": 1, "rate": null}, "median": 7, "runs": [
      {"ops_per_sec": 1000.0, "latency_us": {"p50": 900, "p99": 1900}, "cpu_ns_per_op": 90000}]},
    {"engine": "<script>", "workload": {"nodes": 3, "groups": 1, "payload_bytes": 1024, "inflight": 1, "rate": null}, "median": null, "runs": [
      {"ops_per_sec": 0, "passed": false, "failures": ["no <disk>"]}]},
    {"engine": "<script>", "workload": {"nodes": 3, "groups": 1, "payload_bytes": 16, "inflight": 64, "rate": 500, "share": 50, "peer": "<script>"}, "median": 0, "runs": [
      {"ops_per_sec": 500, "latency_us": {"p99": 4000}, "latency_curve_us": [[0, 900], [0.9, 1000]]}]},
    {"engine": "ringleader", "workload": {"nodes": 3, "groups": 1, "payload_bytes": 16, "inflight": 64, "rate": 501, "share": 50, "peer": "<script>"}, "median": 0, "runs": [
      {"ops_per_sec": 500, "latency_us": {"p99": 1000}, "latency_curve_us": [[0, 300], [0.9, 400]]}]}
  ]
}"#;

const CLUSTER: &str = r#"{
  "workload": {"nodes": 3, "shards": 2, "groups": 1, "payload_bytes": 16, "inflight": 1, "client": "remote"},
  "ops_per_sec": 1900.0, "latency_us": {"p50": 420, "p99": 950}, "latency_curve_us": [[0, 300], [0.9, 800]],
  "cpu_ns_per_op": 1000, "stages_ns_per_op": [["outside", 400], ["apply", 300]],
  "floor": {"ratio_p50": 1.3, "null_raft": {"ops_per_sec": 2500, "p50_us": 330, "p99_us": 700,
    "ratio_p50": 1.27, "ratio_p99": 1.36, "ratio_ops_per_sec": 0.76}},
  "processes": [{"name": "node 1", "rss_peak": 5000000}], "passed": true, "failures": []
}"#;

const FLOOR: &str = r#"{
  "kind": "floor", "machine": {"cores": 2},
  "round_trip": {"other_core_p50_us": 40, "other_core_p99_us": 90, "same_core_p50_us": 12, "same_core_p99_us": 20},
  "durable_writes": [{"way": "direct", "processes": 1, "p50_us": 300, "p99_us": 900, "writes_per_sec": 3000}],
  "durable_bandwidth": [{"write_bytes": 4096, "depth": 1, "mb_per_sec": 12.5}],
  "memory": [{"buffer_bytes": 16384, "crc_gb_per_sec": 11.5, "copy_gb_per_sec": 40}],
  "null_raft": [{"inflight": 1, "payload_bytes": 16, "ops_per_sec": 2500, "p50_us": 330, "p99_us": 700}]
}"#;

const TUNE: &str = r#"{
  "kind": "tune", "machine": {"cores": 2}, "rounds": 3, "rows": [
    {"name": "depth", "setting": "1", "why": "no overlap", "command": "cluster", "metric": "ops_per_sec",
      "ratio": 0.8, "low": 0.7, "high": 0.9, "skipped": null},
    {"name": "cache", "setting": "off", "why": "", "command": "", "metric": "ops_per_sec",
      "ratio": null, "low": null, "high": null, "skipped": "needs root"}]
}"#;

fn page_of(files: &[&str]) -> String {
    let source = |(at, text): (usize, &&str)| Source {
        name: format!("file-{at}.json"),
        content: parse(text).expect("it is a result"),
    };
    page(&Model::new(files.iter().enumerate().map(source).collect()))
}

/// Goes through all tags: every element that begins ends, in the right order. Says how many there
/// are of each.
fn elements(page: &str) -> std::collections::BTreeMap<String, usize> {
    const VOID: [&str; 3] = ["meta", "!doctype", "br"];
    let mut open: Vec<&str> = Vec::new();
    let mut counts = std::collections::BTreeMap::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').expect("a tag ends");
        assert!(!tag.contains('<'), "an unescaped < in {tag}");
        assert!(tag.matches('"').count() % 2 == 0, "an unescaped quote in {tag}");
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).expect("a tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "what ends is what began last");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
        // What is in these is no markup.
        rest = match name {
            "style" | "script" if !tag.starts_with('/') => {
                &after[after.find(&format!("</{name}")).expect("it ends")..]
            }
            _ => after,
        };
    }
    assert_eq!(open, Vec::<&str>::new());
    counts
}

#[test]
fn a_page_of_all_kinds_is_well_formed_and_has_every_section() {
    let page = page_of(&[COMPARE, CLUSTER, FLOOR, TUNE]);
    let counts = elements(&page);
    assert_eq!(counts["section"], 10);
    assert!(counts["svg"] > 20 && counts["table"] >= 3, "{counts:?}");
    for id in ["throughput", "inflight", "rates", "percentiles", "processor", "floor-ratios"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    for text in ["ringleader, remote, 2 shards", "raft-rs was left out: no cargo", "needs root"] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""), "only numbers are drawn");
}

#[test]
fn names_and_texts_from_files_are_never_markup() {
    let page = page_of(&[COMPARE]);
    assert_eq!(elements(&page)["script"], 1);
    for text in ["&lt;script&gt; †", "a&lt;b", "&quot;c&quot;", "no &lt;disk&gt;", "A &amp; B"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = page_of(&[COMPARE, CLUSTER, FLOOR, TUNE]);
    for reference in ["http:", "https:", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn each_kind_alone_has_a_page_and_so_has_one_with_nothing_in_it() {
    for text in [COMPARE, CLUSTER, FLOOR, TUNE] {
        assert!(elements(&page_of(&[text]))["svg"] > 0);
    }
    let bare = [
        r#"{"kind": "compare"}"#,
        r#"{"kind": "floor"}"#,
        r#"{"kind": "tune"}"#,
        r#"{"workload": {}, "ops_per_sec": null}"#,
        r#"{"kind": "compare", "points": [{"engine": "x", "runs": [{}]}, {}]}"#,
        r#"{"kind": "floor", "round_trip": {}, "null_raft": [{}], "memory": [{}]}"#,
        r#"{"kind": "tune", "rows": [{"ratio": 0}]}"#,
    ];
    for text in bare {
        let page = page_of(&[text]);
        elements(&page);
        assert!(!page.contains("NaN"), "{text}");
    }
}

#[test]
fn the_last_file_counts_where_several_have_a_point() {
    let page = page_of(&[COMPARE, COMPARE]);
    assert!(page.contains("6\u{a0}points were in several files"));
}

#[test]
fn an_engine_is_left_out_only_if_no_file_has_it() {
    let other = r#"{"kind": "compare", "engines": [
        {"name": "ringleader", "skipped": "not asked for"}, {"name": "raft-rs", "version": "2"}]}"#;
    for files in [[COMPARE, other], [other, COMPARE]] {
        let page = page_of(&files);
        assert!(!page.contains("was left out"));
        assert!(page.contains("<summary>raft-rs 2</summary>"));
    }
}

#[test]
fn what_a_cluster_ran_is_a_point_unless_it_was_compared() {
    let own =
        CLUSTER.replace("\"remote\"", "\"embedded\"").replace("\"shards\": 2", "\"shards\": 1");
    let source = |text: &str| Source {
        name: "file.json".into(),
        content: parse(text).expect("it is a result"),
    };
    let alone = Model::new(vec![source(&own), source(&own)]);
    assert_eq!((alone.points.len(), alone.points[0].runs.len()), (1, 2));
    let points = Model::new(vec![source(COMPARE)]).points.len();
    assert_eq!(Model::new(vec![source(&own), source(COMPARE)]).points.len(), points);
    assert_eq!(Model::new(vec![source(CLUSTER), source(COMPARE)]).points.len(), points + 1);
}

#[test]
fn what_is_no_result_is_refused_with_the_reason() {
    let refused = |text: &str| match parse(text) {
        Ok(_) => panic!("{text} was taken"),
        Err(error) => format!("{error:#}"),
    };
    assert!(refused("{").contains("not JSON"));
    assert!(refused("[]").contains("not a JSON object"));
    assert!(refused(r#"{"kind": "poem"}"#).contains("kind \"poem\""));
    assert!(refused(r#"{"leaders": []}"#).contains("neither a kind nor a workload"));
    let wrong = refused(r#"{"kind": "compare", "points": 3}"#);
    assert!(
        wrong.contains("not as compare writes it") && wrong.contains("line 1 column"),
        "{wrong}"
    );
    assert!(matches!(parse(FLOOR), Ok(Content::Floor(_))));
}

#[test]
fn a_file_that_is_refused_is_named_and_no_page_is_written() {
    let directory = std::env::temp_dir().join(format!("ringleader-page-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("there is a place");
    let (good, bad) = (directory.join("good.json"), directory.join("bad.json"));
    let out = directory.join("page.html");
    std::fs::write(&good, FLOOR).expect("it is written");
    std::fs::write(&bad, "{\"kind\": ").expect("it is written");
    let report = |files: Vec<std::path::PathBuf>| run(&ReportArgs { files, out: out.clone() });
    let error = report(vec![good.clone(), bad]).expect_err("one is broken");
    assert!(format!("{error:#}").contains("bad.json can't be shown: it is not JSON"), "{error:#}");
    assert!(!out.exists());
    let missing = report(vec![directory.join("none.json")]).expect_err("it isn't there");
    assert!(format!("{missing:#}").contains("none.json"));
    assert!(report(vec![good]).expect("it is a result") && out.exists());
    std::fs::remove_dir_all(&directory).expect("it is removed");
}
