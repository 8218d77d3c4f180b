//! What a soak prints, and what it leaves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::Outcome;
use super::history::History;
use super::replicas::Replicas;

/// One line for a minute.
pub(super) fn minute(number: u32, faults: impl Iterator<Item = (&'static str, usize)>, leaderships: usize, writes: usize) -> String {
    let faults: Vec<_> = faults.filter(|(_, count)| *count > 0).collect();
    let total: usize = faults.iter().map(|(_, count)| count).sum();
    let words: Vec<_> = faults.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
    format!("minute {number}: {leaderships} leaderships, {writes} writes, {total} faults: {}", words.join(", "))
}

/// All of it, as Markdown.
pub(crate) fn table(outcome: &Outcome) -> String {
    let mut text = "\n| What happened | Times |\n|---|--:|\n".to_owned();
    rows(&mut text, &outcome.faults);
    let _ = writeln!(text, "| *a replica ended by itself and was started again* | {} |", outcome.ended);
    text += "\n| The operator's writes | |\n|---|--:|\n";
    rows(&mut text, &outcome.writes);
    let mut gaps = outcome.verdict.gaps.clone();
    gaps.sort();
    let gap = |index: usize| gaps.get(index).map_or(f64::NAN, Duration::as_secs_f64) * 1000.0;
    let [pods, leases, groups] = outcome.versions;
    text += "\n| | |\n|---|--:|\n";
    let _ = writeln!(text, "| leaderships | {} |", outcome.verdict.leaderships);
    let _ = writeln!(text, "| gaps without a leader | {} |", gaps.len());
    let _ = writeln!(text, "| p50, ms | {:.0} |", gap(gaps.len() / 2));
    let _ = writeln!(text, "| max, ms | {:.0} |", gap(gaps.len().saturating_sub(1)));
    let _ = writeln!(text, "| versions of pods, Leases, groups judged | {pods}, {leases}, {groups} |");
    let _ = writeln!(text, "| rules broken | {} |", outcome.broken().len());
    text
}

fn rows<Name: std::fmt::Display>(text: &mut String, counts: &BTreeMap<Name, usize>) {
    for (name, count) in counts {
        let _ = writeln!(text, "| {name} | {count} |");
    }
}

/// Leaves all versions and the logs of all replicas in a folder.
pub(super) fn keep(folder: &Path, history: &History, replicas: &Replicas<'_>) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut file = std::io::BufWriter::new(fs::File::create(folder.join("versions.jsonl"))?);
    history.look(|seen| {
        for version in seen.since(0) {
            writeln!(file, "{}", serde_json::to_string(version)?)?;
        }
        anyhow::Ok(())
    })?;
    for log in replicas.logs() {
        fs::copy(&log, folder.join(log.file_name().unwrap_or_default()))?;
    }
    println!("All versions and logs are in {}", folder.display());
    Ok(())
}
