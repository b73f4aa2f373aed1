//! The exposition held against the format and the conventions of Prometheus, as its own `promtool check
//! metrics` does.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A family as it is written.
#[derive(Debug, Default)]
struct Written<'a> {
    kind: &'a str,
    unit: Option<&'a str>,
    help: &'a str,
    samples: Vec<Sample<'a>>,
}

#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

fn text() -> String {
    let metrics = Metrics::new();
    metrics.read("files", "ok", Duration::from_millis(3));
    metrics.read("files", "not-found", Duration::from_secs(30));
    let mut answers = Answers::default();
    answers.count("files", "fresh");
    metrics.answered(answers);
    let mut hits = Hits::default();
    hits.count("files", true);
    metrics.looked_up(hits);
    let object = |object: &str, next_read| ObjectState {
        vault: "files".to_owned(),
        object: object.to_owned(),
        version: Some(7),
        age: Duration::from_millis(1500),
        stale: Duration::ZERO,
        next_read,
    };
    let state = State {
        objects: vec![
            object("token", Some(Duration::from_secs(9))),
            object("odd \"name\"\\with\nall", None),
        ],
        entries: 3,
        failures: 1,
        bytes: 4096,
        vaults: vec![("files".to_owned(), true)],
    };
    metrics.encode(state).expect("written")
}

/// Takes it apart; panics where the format is not kept.
fn families(text: &str) -> BTreeMap<&str, Written<'_>> {
    let mut families: BTreeMap<&str, Written<'_>> = BTreeMap::new();
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut current = "";
    for line in body.lines() {
        if let Some(about) = line.strip_prefix("# ") {
            let (what, rest) = about.split_once(' ').expect("a word");
            let (name, said) = rest.split_once(' ').expect("a name");
            if what == "HELP" {
                assert!(!families.contains_key(name), "{name} comes twice");
                current = name;
            }
            assert_eq!(name, current, "all of a family stands together");
            let family = families.entry(name).or_default();
            match what {
                "HELP" => family.help = said,
                "TYPE" => family.kind = said,
                "UNIT" => family.unit = Some(said),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').expect("the end of the labels");
        assert!(name.starts_with(current), "{line} is not of {current}");
        let value = value.parse().expect("a number");
        let family = families.get_mut(current).expect("a family");
        family.samples.push(Sample {
            name,
            labels,
            value,
        });
    }
    families
}

#[test]
fn names_and_types_keep_to_the_conventions() {
    let text = text();
    let families = families(&text);
    assert!(families.len() >= 12, "{text}");
    for (name, family) in &families {
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(
            name.starts_with("vaultref_") && name.chars().all(is_part),
            "{name}"
        );
        for word in [
            "counter",
            "gauge",
            "histogram",
            "metric",
            "minutes",
            "milliseconds",
            "kilobytes",
        ] {
            assert!(
                !name.contains(word),
                "{name}: no types and only base units in names"
            );
        }
        assert!(family.help.len() > 10, "{name} says what it is");
        let suffixes: &[&str] = match family.kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            other => panic!("{name} is of type {other}"),
        };
        for sample in &family.samples {
            let suffix = &sample.name[name.len()..];
            assert!(
                suffixes.contains(&suffix),
                "{} in a {}",
                sample.name,
                family.kind
            );
            assert!(sample.value >= 0.0, "{}", sample.name);
        }
        if let Some(unit) = family.unit {
            assert!(name.ends_with(unit), "{name} is in {unit}");
        }
        let has_unit = ["_seconds", "_bytes"]
            .iter()
            .any(|unit| name.ends_with(unit));
        assert_eq!(has_unit, family.unit.is_some(), "{name}");
    }
    assert_eq!(families["vaultref_read_duration_seconds"].kind, "histogram");
    let kept = ["hits", "misses"].map(|what| &families[&*format!("vaultref_cache_{what}")]);
    assert!(kept.iter().all(|family| family.kind == "counter"));
}

#[test]
fn no_series_comes_twice_and_labels_are_escaped() {
    let text = text();
    let families = families(&text);
    let mut seen = BTreeSet::new();
    for sample in families.values().flat_map(|family| &family.samples) {
        assert!(seen.insert((sample.name, sample.labels)), "{sample:?}");
    }
    let odd = r#"object="odd \"name\"\\with\nall""#;
    assert!(
        seen.iter().any(|(_, labels)| labels.contains(odd)),
        "{text}"
    );
    // Reads and their times by vault and outcome, to the last bucket.
    let buckets = &families["vaultref_read_duration_seconds"].samples;
    let slow = buckets.iter().find(|sample| {
        sample.labels.contains("le=\"+Inf\"") && sample.labels.contains("outcome=\"not-found\"")
    });
    assert_eq!(slow.map(|sample| sample.value), Some(1.0));
}
