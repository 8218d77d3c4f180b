//! The architecture as a test: who may import whom, what the policy must not do, and how large a file may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A part of the library, and the parts that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("cluster", &["elector", "settings"]),
    ("elector", &[]),
    ("metrics", &[]),
    ("names", &[]),
    ("selector", &[]),
    ("settings", &["elector", "selector"]),
    ("policy", &["api", "elector", "names", "selector"]),
    ("operator", &["api", "cluster", "elector", "metrics", "names", "policy", "selector", "settings"]),
    ("server", &["cluster", "elector", "metrics", "operator"]),
    ("logs", &["settings"]),
    ("program", &["cluster", "elector", "server", "settings"]),
    ("contender", &["cluster", "elector", "program", "server", "settings"]),
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

/// The modules of one folder of `src`, each with the siblings that it mentions.
fn siblings(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let path = folder.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let path = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect::<Vec<_>>().join("::");
    let modules: BTreeSet<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let module = |name: &str| -> String { name.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect() };
    let own = format!("src/{}", path.replace("::", "/"));
    let mut mentions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in sources(&own) {
        let inside = file.strip_prefix(folder).unwrap();
        let name = inside.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        // A folder's mod.rs stands above what is in it.
        if name == "mod" || !modules.contains(&name) {
            continue;
        }
        let depth = inside.components().count() - usize::from(inside.ends_with("mod.rs"));
        let relative = format!("{}{}", "super::".repeat(depth), "");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut found: Vec<String> = code.split(&format!("crate::{path}::")).skip(1).map(module).collect();
        for after in code.split(&relative).skip(1) {
            let listed = after.strip_prefix('{').map(|list| list.split('}').next().unwrap_or_default().split(',').map(|it| module(it.trim())).collect());
            found.extend(listed.unwrap_or_else(|| vec![module(after)]));
        }
        let others = found.into_iter().filter(|other| *other != name && modules.contains(other));
        mentions.entry(name.clone()).or_default().extend(others);
    }
    mentions
}

#[test]
fn no_two_modules_of_a_folder_need_each_other() {
    for folder in ["api", "cluster", "policy", "policy/plan", "operator", "operator/store", "elector", "elector/lock", "settings", "server", "wrapper"] {
        let mut left = siblings(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder));
        while let Some(leaf) = left.iter().find(|(_, needs)| needs.iter().all(|other| !left.contains_key(other))).map(|(name, _)| name.clone()) {
            left.remove(&leaf);
        }
        assert!(left.is_empty(), "in src/{folder} these go round in a circle, or need one that does: {left:?}");
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
