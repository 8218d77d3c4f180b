//! The architecture as a test: who may import whom, what the policy must not do, and how large a file may grow.

use std::fs;
use std::path::{Path, PathBuf};

/// A part of the library, and the parts that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("elector", &[]),
    ("metrics", &[]),
    ("names", &[]),
    ("settings", &["elector"]),
    ("policy", &["api", "elector", "names"]),
    ("operator", &["api", "elector", "metrics", "names", "policy", "settings"]),
    ("server", &["elector", "metrics", "operator"]),
    ("program", &["elector", "server", "settings"]),
    ("contender", &["elector", "program", "server", "settings"]),
    ("wrapper", &["contender", "elector", "settings"]),
];

/// Longest file, in lines.
const CEILING: usize = 600;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The part of the library that a file of `src` is in.
fn part(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    inside.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn every_import_follows_an_arrow_of_the_architecture() {
    for (path, text) in sources("src") {
        let part = part(&path);
        if part == "lib" || part == "bin" {
            continue;
        }
        let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == part).unwrap_or_else(|| panic!("{part} has no place in the architecture"));
        for mention in text.split("crate::").skip(1) {
            let other: String = mention.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            // A re-export of the crate's root would hide an arrow.
            assert!(other == part || allowed.contains(&other.as_str()), "{} imports {other}: {part} may import {allowed:?} only", path.display());
        }
    }
}

#[test]
fn the_policy_does_no_io_and_reads_no_clock() {
    for (path, text) in sources("src/policy") {
        for forbidden in ["async ", ".await", "tokio", "tracing", "kube::Client", "kube::Api", "Timestamp::now", "std::env", "std::fs", "rand"] {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let found = code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(forbidden));
            assert!(!found, "{} mentions {forbidden:?}", path.display());
        }
    }
}

#[test]
fn no_file_outgrows_what_a_reader_can_hold() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let lines = text.lines().count();
        assert!(lines <= CEILING, "{} has {lines} lines; split it where its subject splits", path.display());
    }
}
