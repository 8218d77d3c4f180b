//! The numbers as Markdown, with what they depend on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::applications::Mover;
use super::failover::Arm;
use crate::control_plane::ControlPlane;

/// What the numbers depend on, as a list.
pub(crate) async fn words_of(control_plane: &ControlPlane, program: &Path, etcd: &str) -> anyhow::Result<String> {
    let own = if cfg!(debug_assertions) { "dev" } else { "release" };
    let kubernetes = control_plane.client().apiserver_version().await?.git_version;
    Ok(format!(
        "- operator: {}\n\
         - observer and floor: one kube client of this program, {own} profile\n\
         - Kubernetes {kubernetes}; {}; {etcd}\n\
         {}\n",
        words_of_program(program)?,
        control_plane.program_versions().await.join("; "),
        machine_words()?,
    ))
}

/// The same where the API is played.
pub(super) fn words_of_played(program: &Path) -> anyhow::Result<String> {
    Ok(format!("- operator: {}\n- the API is played in memory by this program, over HTTP without TLS\n{}", words_of_program(program)?, machine_words()?))
}

fn words_of_program(program: &Path) -> anyhow::Result<String> {
    let version = Command::new(program).arg("--version").output().with_context(|| format!("cannot run {}", program.display()))?;
    let folder = program.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    Ok(format!("{}, from the folder `{folder}`", String::from_utf8_lossy(&version.stdout).trim()))
}

/// Tells what all of it ran on.
pub(crate) fn machine() -> anyhow::Result<()> {
    println!("{}", machine_words()?);
    Ok(())
}

fn machine_words() -> anyhow::Result<String> {
    let processors = std::thread::available_parallelism()?;
    let model = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).map_or("", |model| model.trim_start_matches([' ', '\t', ':']));
    Ok(format!("- {processors} processors ({model})"))
}

/// How busy the machine was in the last minute.
pub(crate) fn load_average() -> anyhow::Result<String> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned())
}

/// How busy the machine is, with whatever runs beside.
pub(crate) fn load(when: &str) -> anyhow::Result<()> {
    println!("- load average {when}: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// A table of arms in turn, each beside those of the others that tell the same thing.
pub(super) fn arms(title: &str, arms: &[Arm], name: impl Fn(&Arm) -> String) -> String {
    let mut text = format!(
        "| {title} | Who moves the label | n | p50 | p90 | p99 | max | p50 / floor | p50 / controller-runtime | p99 / controller-runtime | processor, mean |\n"
    );
    text += "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for arm in arms {
        let values = sorted(arm.samples.iter().map(|sample| sample.from_answer));
        let beside = |mover, percent| {
            let other = arms.iter().find(|other| other.application.mover == mover && name(other) == name(arm) && arm.application.mover != mover);
            let other = other.filter(|_| arm.application.mover != Mover::Floor).map(|other| sorted(other.samples.iter().map(|sample| sample.from_answer)));
            other.map_or_else(String::new, |other| format!("{:.2}", percentile(&values, percent) / percentile(&other, percent)))
        };
        let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| format!("{:.1}", percentile(&values, percent)));
        let processor = if arm.application.mover == Mover::Floor { String::new() } else { format!("{:.1}", processor(arm)) };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {p50} | {p90} | {p99} | {max} | {} | {} | {} | {processor} |",
            name(arm),
            arm.application.mover.words(),
            values.len(),
            beside(Mover::Floor, 50),
            beside(Mover::Peer, 50),
            beside(Mover::Peer, 99),
        );
    }
    text
}

/// With which power of the one the other grows: the slope of a line through their logarithms, by least squares. `None`: fewer than two.
pub(super) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logarithms: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logarithms.iter().map(of).sum::<f64>() / f64::from(u32::try_from(logarithms.len()).unwrap_or(u32::MAX));
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let of_both: f64 = logarithms.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let of_one: f64 = logarithms.iter().map(|point| (point.0 - x).powi(2)).sum();
    (of_one > 0.0).then(|| of_both / of_one)
}

/// How each grows, in words: what it is of, and its points.
pub(super) fn exponents(with: &str, lines: &[(String, Vec<(f64, f64)>)]) -> String {
    let words: Vec<_> = lines.iter().filter_map(|(name, points)| Some(format!("{name} with the power {:.2}", exponent(points)?))).collect();
    if words.is_empty() {
        return String::new();
    }
    format!("\nFitted over these sizes (least squares of the logarithms), by the number of {with}: {}.\n", words.join(", "))
}

/// What one sample took of processor time, in ms, on the mean.
#[allow(clippy::cast_precision_loss, reason = "there are few")]
pub(super) fn processor(arm: &Arm) -> f64 {
    arm.samples.iter().map(|sample| sample.processor).sum::<f64>() / arm.samples.len().max(1) as f64
}

pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The least value that so many percent of all do not exceed.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// How long etcd's write-ahead log waited for the disk, as etcd's own histogram tells.
pub(super) async fn fsync(control_plane: &ControlPlane) -> anyhow::Result<String> {
    let client = kube::Client::try_from(kube::Config::new(control_plane.etcd_url().parse()?))?;
    let metrics = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let mut buckets: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"") else { continue };
        let Some((bound, count)) = rest.split_once("\"} ") else { continue };
        let count: u64 = count.trim().parse()?;
        // Buckets grow, so the first one of a count is its least bound.
        buckets.entry(count).or_insert_with(|| (bound.to_owned(), count));
    }
    let total = buckets.keys().next_back().copied().unwrap_or_default();
    let below = |percent: u64| buckets.range((total * percent).div_ceil(100)..).next().map_or("?", |(_, (bound, _))| bound);
    Ok(format!("- etcd's fsync: {total} in all; 50 % took at most {} s, 90 % {} s, 99 % {} s", below(50), below(90), below(99)))
}
