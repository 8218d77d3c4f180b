//! The pages name every path that the programs serve, and no other.

use std::collections::BTreeSet;

use super::{page, root};

/// The paths that a file of `src/server` serves.
fn served(file: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("src/server").join(file)).unwrap();
    text.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// The paths in the first columns of the table under this heading.
fn documented(file: &str, heading: &str, columns: usize) -> BTreeSet<String> {
    let text = page(file);
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("docs/{file} has no heading {heading}"));
    let rows = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    let cells: Vec<String> = rows.map(|row| row.split('|').skip(1).take(columns).collect()).collect();
    cells.iter().flat_map(|cell| cell.split("`/").skip(1)).map(|rest| format!("/{}", rest.split('`').next().unwrap())).collect()
}

#[test]
fn every_path_of_the_operator_is_documented() {
    assert_eq!(documented("running.md", "Ports", 2), served("mod.rs"));
}

#[test]
fn every_path_of_the_elector_is_documented() {
    let metrics = "/metrics".to_owned();
    assert_eq!(documented("elector.md", "Beside an application", 1), served("election.rs").into_iter().chain([metrics]).collect());
}
