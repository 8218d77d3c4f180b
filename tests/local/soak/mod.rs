//! A soak: replicas of the operator and a fleet of groups, to which random things happen from a seed, judged by every version
//! of every pod, Lease and group. The command and a test share it, and tests that need to see every version of everything.

mod faults;
mod fleet;
pub(crate) mod history;
pub(crate) mod judge;
pub(crate) mod replicas;
pub(crate) mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use self::faults::Storm;
use self::fleet::Fleet;
use self::history::History;
use self::judge::Verdict;
use self::replicas::{Replicas, Setup};
use crate::control_plane::ControlPlane;

/// How the keys of the labels begin that fence writes to a pod.
const FENCES: &str = "fence.leadergroup.io/";
/// The annotation that fences writes to a pod.
const FENCE: &str = "leadergroup.io/fence";

const REPLICAS: usize = 3;
const OPERATOR: &str = ":leadergroup-operator";

/// For the first leaders.
const START: Duration = Duration::from_secs(120);
/// Between two phases in which nothing happens.
const STORMY: Duration = Duration::from_secs(150);
/// So long after the last thing that happened every group has its leader: a replica that was killed is followed after 15 s.
const CALM: Duration = Duration::from_secs(30);
/// For so long at the end nothing happens, at least.
const END: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);
/// Beyond its time a soak has its start and its end.
const BOUND: Duration = Duration::from_secs(300);

/// What is to be done, and where.
pub(crate) struct Plan<'a> {
    pub(crate) plane: &'a ControlPlane,
    pub(crate) program: &'a Path,
    /// The kubeconfig of the operator's account.
    pub(crate) account: &'a Path,
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) groups: usize,
    /// A folder for all versions and all logs, where a rule was broken.
    pub(crate) keep: Option<PathBuf>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The groups that had no leader when they must have had one, and why.
    pub(crate) leaderless: Vec<String>,
    pub(crate) faults: BTreeMap<&'static str, usize>,
    /// How often a replica ended by itself.
    pub(crate) ended: usize,
    /// The operator's writes, by what they were and whether they were refused.
    pub(crate) writes: BTreeMap<String, usize>,
    /// Versions of pods, Leases and groups.
    pub(crate) versions: [usize; 3],
    /// How the logs of the replicas end.
    pub(crate) log_ends: String,
}

impl Outcome {
    /// What broke a rule.
    pub(crate) fn broken(&self) -> Vec<&String> {
        self.verdict.broken.iter().chain(&self.leaderless).collect()
    }
}

/// Ends in any case, a little after its time at the latest.
pub(crate) async fn run(plan: Plan<'_>) -> anyhow::Result<Outcome> {
    println!("SEED={}", plan.seed);
    let bound = plan.length + BOUND;
    tokio::time::timeout(bound, Box::pin(soak(plan))).await.with_context(|| format!("not over after {} s", bound.as_secs()))?
}

async fn soak(plan: Plan<'_>) -> anyhow::Result<Outcome> {
    let namespace = plan.plane.namespace("soak").await;
    let history = History::start(plan.plane.client(), &namespace).await?;
    let setup = Setup { plane: plan.plane, program: plan.program, account: plan.account, namespace: &namespace, elect: true };
    let replicas = Replicas::start(setup, REPLICAS)?;
    let fleet = Fleet::new(&history, plan.groups);
    for member in &fleet.members {
        fleet.create(member).await?;
    }
    let mut soak = Soak {
        storm: Storm::new(plan.seed, &history, &replicas, &fleet),
        plan: &plan,
        leaderless: Vec::new(),
        told: 0,
        audited: 0,
        writes: BTreeMap::new(),
        leaderships: 0,
        faults: BTreeMap::new(),
    };
    soak.settled(START).await.with_context(|| format!("the first leaders\n{}", replicas.log_ends(20)))?;
    let outcome = soak.through().await;
    let broken = outcome.as_ref().map_or(true, |outcome| !outcome.broken().is_empty());
    if let (true, Some(folder)) = (broken, &plan.keep) {
        report::keep(folder, &history, &replicas)?;
    }
    outcome
}

struct Soak<'a> {
    plan: &'a Plan<'a>,
    storm: Storm<'a>,
    leaderless: Vec<String>,
    /// How many broken rules were told so far.
    told: usize,
    /// How far the audit log was read.
    audited: u64,
    writes: BTreeMap<String, usize>,
    /// As of the last minute that was told.
    leaderships: usize,
    faults: BTreeMap<&'static str, usize>,
}

impl Soak<'_> {
    async fn through(&mut self) -> anyhow::Result<Outcome> {
        let start = self.storm.history.now();
        let (mut minutes, mut quiet_at) = (1, start + STORMY);
        while self.storm.history.now() < start + self.plan.length {
            let pause = self.storm.step().await?;
            tokio::time::sleep(pause).await;
            let now = self.storm.history.now();
            if now >= start + MINUTE * minutes {
                self.tell_minute(minutes).await?;
                minutes += 1;
            }
            if now >= quiet_at {
                self.quiet().await?;
                quiet_at = self.storm.history.now() + STORMY;
            }
        }
        let end = self.storm.history.now() + END;
        self.quiet().await?;
        while self.storm.history.now() < end {
            self.storm.calm().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Who was there early is there still.
        if self.leaderless.is_empty() {
            self.quiet().await?;
        }
        self.tell_minute(minutes).await?;
        let history = self.storm.history;
        let verdict = judge::judge(&history.versions().await?);
        Ok(Outcome {
            verdict,
            leaderless: std::mem::take(&mut self.leaderless),
            faults: std::mem::take(&mut self.storm.done),
            ended: self.storm.ended_by_themselves,
            writes: std::mem::take(&mut self.writes),
            versions: history.look(history::Seen::counts),
            log_ends: self.storm.replicas.log_ends(20),
        })
    }

    /// Puts everything right, and notes the groups that have no leader after that.
    async fn quiet(&mut self) -> anyhow::Result<()> {
        self.storm.calm().await?;
        let began = self.storm.history.now();
        if let Err(error) = self.settled(CALM).await {
            let last = format!("no leader {} s after the last fault, at {} s: {error:#}", CALM.as_secs(), began.as_secs());
            println!("BROKEN: {last}\n{}", self.storm.replicas.log_ends(12));
            self.leaderless.push(last);
        }
        Ok(())
    }

    /// Waits until every group has one ready leader, and status and Lease name it.
    async fn settled(&mut self, within: Duration) -> anyhow::Result<()> {
        let history = self.storm.history;
        let end = history.now() + within;
        let mut last = String::new();
        while history.now() < end {
            // What could not be put right yet, and replicas that end by themselves.
            self.storm.calm().await?;
            let look = |seen: &history::Seen| self.storm.fleet.members.iter().filter_map(|member| seen.settled(&member.name).err()).collect();
            let unsettled: Vec<String> = history.look(look);
            if unsettled.is_empty() {
                return Ok(());
            }
            last = unsettled.join("; ");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!(last)
    }

    async fn tell_minute(&mut self, minute: u32) -> anyhow::Result<()> {
        let mut writes = 0;
        for event in self.plan.plane.requests_since(&mut self.audited)? {
            if event.user.ends_with(OPERATOR) && !matches!(&*event.verb, "get" | "list" | "watch") {
                writes += 1;
                let refused = if event.status >= 400 { format!(" refused ({})", event.status) } else { String::new() };
                let subresource = if event.subresource.is_empty() { String::new() } else { format!("/{}", event.subresource) };
                *self.writes.entry(format!("{} {}{subresource}{refused}", event.verb, event.resource)).or_default() += 1;
            }
        }
        let verdict = judge::judge(&self.storm.history.versions().await?);
        let now = self.storm.done.clone();
        let before = std::mem::replace(&mut self.faults, now.clone());
        let faults = now.iter().map(|(fault, count)| (*fault, count - before.get(fault).unwrap_or(&0)));
        println!("{}", report::minute(minute, faults, verdict.leaderships - self.leaderships, writes));
        self.leaderships = verdict.leaderships;
        for broken in &verdict.broken[self.told..] {
            println!("BROKEN: {broken}");
        }
        self.told = verdict.broken.len();
        Ok(())
    }
}
