//! The figures as Markdown: one page, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use super::watched::Reading;
use crate::bench::percentile;

/// Of `config/operator.yaml`, in KiB.
const MEMORY_LIMIT: u64 = 128 << 10;
/// What another tenant's failover may take beside its undisturbed one.
const TIMES: f64 = 2.0;

/// What was measured while one thing went on. Milliseconds; one that came to no end is infinite.
#[derive(Default)]
pub(super) struct Phase {
    pub(super) name: String,
    pub(super) length: Duration,
    pub(super) failovers: Vec<f64>,
    pub(super) floors: Vec<f64>,
    /// The floor's, while the operator stands still and the attack goes on.
    pub(super) alone: Vec<f64>,
    pub(super) operator: Reading,
    /// The operator's writes by what was written.
    pub(super) writes: BTreeMap<String, usize>,
    pub(super) most_writes: usize,
    pub(super) reads: usize,
    /// What the attacks did.
    pub(super) deeds: Vec<String>,
    pub(super) load: String,
}

impl Phase {
    /// Whether the operator stayed up and within its memory.
    pub(super) fn stood(&self) -> bool {
        self.operator.restarts == 0 && self.operator.peak_kibibytes < MEMORY_LIMIT
    }

    /// In short.
    pub(super) fn line(&self) -> String {
        let [failover, floor] = [&self.failovers, &self.floors].map(|values| format!("p50 {}, p99 {}", at(values, 50), at(values, 99)));
        let peak = mebibytes(self.operator.peak_kibibytes);
        format!("{}: {} failovers, {failover} ms; floor {floor} ms; peak {peak} MiB; {:.0} writes a second", self.name, self.failovers.len(), self.a_second())
    }

    fn a_second(&self) -> f64 {
        self.rate(self.writes.values().sum())
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of minutes are small")]
    fn rate(&self, count: usize) -> f64 {
        count as f64 / self.length.as_secs_f64()
    }
}

fn value(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, percent)
}

fn at(values: &[f64], percent: usize) -> String {
    format!("{:.1}", value(values, percent))
}

fn mebibytes(kibibytes: u64) -> String {
    format!("{}.{}", kibibytes / 1024, kibibytes % 1024 * 10 / 1024)
}

/// The whole page.
pub(super) fn text(conditions: &str, lengths: &str, phases: &[Phase]) -> String {
    let mut text = String::from(
        "# Under attack\n\n\
         What a tenant who means harm costs another one. `make attacks` takes these figures anew and writes this page: a real control plane, one\n\
         operator with the flags of `config/operator.yaml` (but without its election), and a quiet tenant with one group of three pods whose leader\n\
         is made not Ready again and again. Everything shares the processors: API server, etcd, operator, attackers (whose own computing gives\n\
         way to the rest: nice 19) and who measures.\n\n\
         *Failover*: from the answer to the request that makes the leader not Ready, to the new label, in ms. *Floor*: the same for three pods\n\
         beside, by a loop that knows the next leader and does nothing but the two bare patches; taken in turn with the failovers. *Floor alone*:\n\
         the same afterwards, of as many failovers as each phase has at least, while the attack goes on and the operator stands still\n\
         (SIGSTOP): what the attack by itself costs whoever writes to this API server. What the floor takes beyond that is the price of what\n\
         the operator writes for the attacked groups, and of what this causes; what the failover takes beyond the floor is spent in the\n\
         operator. Nothing was discarded. A failover that was not seen within 60 s counts as infinite. Of fewer than 100 values p99 is the\n\
         greatest.\n\n",
    );
    let _ = writeln!(text, "{conditions}- {lengths}\n\n## The quiet tenant\n");
    let baseline = phases.first().map_or(f64::NAN, |first| value(&first.failovers, 99));
    text +=
        "| While | failovers | p50 | p99 | max | p99 / undisturbed | floor p50 | p99 | failover / floor p50 | p99 | floor alone p50 | p99 | load average |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for phase in phases {
        let [p50, p99, max] = [50, 99, 100].map(|percent| at(&phase.failovers, percent));
        let [floor50, floor99] = [50, 99].map(|percent| at(&phase.floors, percent));
        let [over50, over99] = [50, 99].map(|percent| value(&phase.failovers, percent) / value(&phase.floors, percent));
        let times = value(&phase.failovers, 99) / baseline;
        let (name, count, load) = (&phase.name, phase.failovers.len(), &phase.load);
        let alone = if phase.alone.is_empty() { " | ".to_owned() } else { format!("{} | {}", at(&phase.alone, 50), at(&phase.alone, 99)) };
        let _ =
            writeln!(text, "| {name} | {count} | {p50} | {p99} | {max} | {times:.2} | {floor50} | {floor99} | {over50:.2} | {over99:.2} | {alone} | {load} |");
    }
    text += "\n## The operator\n\n";
    text += "| While | seconds | peak memory, MiB | restarts | failed probes | writes a second | most in one | reads a second | what the attack did |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|--:|---|\n";
    for phase in phases {
        let Reading { peak_kibibytes, restarts, probes, failed_probes } = phase.operator;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {restarts} | {failed_probes} of {probes} | {:.1} | {} | {:.1} | {} |",
            phase.name,
            phase.length.as_secs(),
            mebibytes(peak_kibibytes),
            phase.a_second(),
            phase.most_writes,
            phase.rate(phase.reads),
            phase.deeds.join(", "),
        );
    }
    text += "\nPeak memory is VmHWM, which is begun anew with each phase; the limit is 128 MiB. Probes are the liveness probe's. What the attack did counts\n\
             changes of readiness by group, writes, or connections.\n\n## The operator's writes a second, by what is written\n\n| While |";
    let kinds: BTreeSet<&String> = phases.iter().flat_map(|phase| phase.writes.keys()).collect();
    for kind in &kinds {
        let _ = write!(text, " {kind} |");
    }
    text += "\n|---|";
    text += &"--:|".repeat(kinds.len());
    text += "\n";
    for phase in phases {
        let _ = write!(text, "| {} |", phase.name);
        for kind in &kinds {
            let _ = write!(text, " {:.1} |", phase.rate(phase.writes.get(*kind).copied().unwrap_or_default()));
        }
        text += "\n";
    }
    text + &judgement(phases, baseline)
}

/// What of the promises held.
fn judgement(phases: &[Phase], baseline: f64) -> String {
    let mut text = String::from("\n## What held\n\n");
    let restarts: u32 = phases.iter().map(|phase| phase.operator.restarts).sum();
    let peak = phases.iter().map(|phase| phase.operator.peak_kibibytes).max().unwrap_or_default();
    let within = if peak < MEMORY_LIMIT { "below" } else { "not below" };
    let _ = writeln!(text, "- Memory: {} MiB at most, {within} the limit of 128. Restarts: {restarts}.", mebibytes(peak));
    let slow: Vec<_> = phases.iter().filter(|phase| value(&phase.failovers, 99) > TIMES * baseline).collect();
    let _ = writeln!(text, "- Failovers: p99 more than twice the undisturbed one in {} of {} phases.", slow.len(), phases.len());
    let first = phases.first().map_or(f64::NAN, |first| value(&first.floors, 99));
    for phase in slow {
        let [failover, floor] = [&phase.failovers, &phase.floors].map(|values| value(values, 99));
        let alone = Some(value(&phase.alone, 99) / first).filter(|it| !it.is_nan());
        let alone = alone.map(|times| format!(", and {times:.2} times where the operator stands still")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  - {}: {:.2} times, where the floor's is {:.2} times its own{alone}; {:.1} ms beyond the floor.",
            phase.name,
            failover / baseline,
            floor / first,
            failover - floor
        );
    }
    text
}
