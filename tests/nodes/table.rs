//! What the tests measured: a file per line, so that they may end in any order, which `make e2e` prints in the order of
//! their numbers.

use std::path::PathBuf;

/// Writes a line that stands for itself.
pub(super) fn note(number: u32, line: &str) {
    write(number, &format!("{line}\n\n"));
}

/// Writes a row of the table.
pub(super) fn row(number: u32, cells: &[String]) {
    let row = cells.join(" | ");
    println!("{row}");
    write(number, &format!("| {row} |\n"));
}

/// Writes the table's head.
pub(super) fn head(number: u32, columns: &[&str]) {
    let rule: Vec<&str> = columns.iter().map(|_| "---").collect();
    write(number, &format!("| {} |\n|{}|\n", columns.join(" | "), rule.join("|")));
}

fn write(number: u32, text: &str) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{number:03}.md")), text).unwrap();
}
