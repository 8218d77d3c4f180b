//! `attacks`: how fast another tenant's leader is followed while somebody means harm, what the operator takes of memory and
//! writes meanwhile, and whether it stays up. One attack after the other, and all of them at once.
//!
//! What attacks runs on a runtime of its own, so that it delays the API server and the operator and not the clock; and it gives way to
//! everything else on the machine: a tenant computes on machines of its own.

mod attack;
mod doors;
mod large;
mod report;
mod tenant;
mod watched;
mod webhooks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use leadergroup::elector::clock::Stopwatch;
use tokio::runtime::{Builder, Runtime};

use self::attack::{Attack, Field, Running};
use self::report::Phase;
use self::watched::Watched;
use crate::bench::applications::{Application, Applications, Mover};
use crate::bench::{load_average, words_of};
use crate::control_plane::{Component, ControlPlane, Options};
use crate::operator_process;

/// Whose failovers are measured.
const NAMESPACE: &str = "quiet";
const OPERATOR: &str = "system:serviceaccount:leadergroup-system:leadergroup-operator";
/// Between two samples.
const PAUSE: Duration = Duration::from_millis(200);
/// From when an attack begins until it is measured under.
const ONSET: Duration = Duration::from_secs(3);
/// A phase with too few samples goes on for so many times its length at most.
const OVERTIME: u32 = 4;
/// For the log of the API server to be written.
const WRITTEN: Duration = Duration::from_millis(500);

/// Measure another tenant's failovers under attacks; writes Markdown.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The operator's binary. Default: that of the same build as this program.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,

    /// For how long each attack goes on.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// For how long all of them go on at once; 0 leaves that out.
    #[arg(long, default_value_t = 300)]
    all: u32,

    /// How many failovers each phase has at least.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,

    /// These attacks only.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Attack>,

    /// etcd waits for the disk, which others of this machine may use.
    #[arg(long)]
    fsync: bool,

    /// Where the tables are written.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

struct Run {
    field: Field,
    applications: Applications,
    measured: [Application; 2],
    attackers: Runtime,
    arguments: Arguments,
    /// How far the audit log was read.
    audited: u64,
    phases: Vec<Phase>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let program = match &arguments.operator {
        Some(program) => std::path::absolute(program)?,
        None => operator_process::beside_this_program()?,
    };
    eprintln!("Starting a control plane ...");
    // Versions of large objects stay for minutes.
    let flags = vec![(Component::Etcd, "--quota-backend-bytes=8589934592".to_owned())];
    let plane = Arc::new(ControlPlane::start(Options { fsync: arguments.fsync, flags, ..Options::default() }).await?);
    let account = operator_process::install(&plane).await?;
    let etcd = if arguments.fsync { "etcd with fsync" } else { "etcd without fsync" };
    let conditions = words_of(&plane, &program, etcd).await?;
    print!("{conditions}");
    let operator = Watched::start(plane.clone(), account, program)?;
    let watching = tokio::spawn({
        let operator = operator.clone();
        async move { operator.watch().await }
    });
    plane.kubectl(&["create", "namespace", NAMESPACE]).await?.succeeded()?;
    let applications = Applications::start(&plane, NAMESPACE).await?;
    let measured = [Mover::Operator, Mover::Floor].map(|mover| Application::new(mover, 3, 0));
    applications.make(&plane, &measured).await?;
    let attackers = Builder::new_multi_thread().worker_threads(1).on_thread_start(give_way).enable_all().build()?;
    let mut run = Run { field: Field { plane, operator }, applications, measured, attackers, arguments, audited: 0, phases: Vec::new() };
    let ran = run.all().await;
    watching.abort();
    let Run { attackers, field, arguments, phases, .. } = run;
    attackers.shutdown_background();
    let text = report::text(&conditions, &arguments_in_words(&arguments), &phases);
    println!("\n{text}");
    ran.with_context(|| format!("the operator's log ends:\n{}", field.operator.log_end(20)))?;
    if let Some(path) = &arguments.write {
        write(path, &text)?;
    }
    eprintln!("Stopping ...");
    Ok(if phases.iter().all(Phase::stood) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Of this thread alone, on Linux.
fn give_way() {
    if let Err(problem) = rustix::process::nice(19) {
        eprintln!("the attackers do not give way to others: {problem}");
    }
}

impl Run {
    async fn all(&mut self) -> anyhow::Result<()> {
        // The first warms connections up, and is not counted.
        for application in &self.measured {
            self.applications.fail_over(application).await?;
        }
        let length = Duration::from_secs(self.arguments.seconds.into());
        let attacks = if self.arguments.only.is_empty() { Attack::ALL.to_vec() } else { self.arguments.only.clone() };
        self.measure("undisturbed", length).await?;
        for attack in &attacks {
            self.under(attack.words(), std::slice::from_ref(attack), length).await?;
        }
        if self.arguments.all > 0 {
            self.under("all of them at once", &attacks, Duration::from_secs(self.arguments.all.into())).await?;
        }
        self.measure("undisturbed, afterwards", length).await
    }

    /// Makes what the attacks need, measures while they go on, and takes all of it away.
    async fn under(&mut self, name: &str, attacks: &[Attack], length: Duration) -> anyhow::Result<()> {
        let mut prepared = Vec::new();
        for attack in attacks {
            eprintln!("Preparing: {} ...", attack.words());
            let (attack, field) = (*attack, self.field.clone());
            prepared.push(self.attackers.spawn(async move { attack.prepare(field).await }).await?.with_context(|| attack.words().to_owned())?);
        }
        let mut running: Vec<Running> = Vec::new();
        for prepared in prepared {
            running.push(prepared.begin(&self.field.plane, self.attackers.handle()).await?);
        }
        tokio::time::sleep(ONSET).await;
        self.measure(name, length).await?;
        let deeds = running.iter().map(Running::deeds).collect();
        let alone = self.without_the_operator(length).await?;
        if let Some(phase) = self.phases.last_mut() {
            (phase.deeds, phase.alone) = (deeds, alone);
        }
        eprintln!("Clearing up ...");
        for running in &mut running {
            running.end(&self.field.plane).await?;
        }
        let plane = &self.field.plane;
        stream::iter(running).map(|running| async move { running.clear(plane).await }).buffer_unordered(2).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn measure(&mut self, name: &str, length: Duration) -> anyhow::Result<()> {
        eprintln!("Measuring: {name} ...");
        self.field.plane.requests_since(&mut self.audited)?;
        self.field.operator.begin()?;
        let began = Stopwatch::start();
        let mut phase = Phase { name: name.to_owned(), ..Phase::default() };
        let mut told = 0;
        loop {
            for (application, samples) in self.measured.iter().zip([&mut phase.failovers, &mut phase.floors]) {
                samples.push(self.sample(name, application).await?);
            }
            let elapsed = began.elapsed();
            let enough = phase.failovers.len() >= usize::try_from(self.arguments.samples)?;
            if elapsed >= length && enough || elapsed >= length * OVERTIME {
                break;
            }
            if elapsed.as_secs() / 30 > told {
                told = elapsed.as_secs() / 30;
                eprintln!("{} s, {} failovers ...", elapsed.as_secs(), phase.failovers.len());
            }
        }
        phase.length = began.elapsed();
        phase.operator = self.field.operator.reading()?;
        phase.load = load_average()?;
        tokio::time::sleep(WRITTEN).await;
        self.count(&mut phase)?;
        eprintln!("{}", phase.line());
        self.phases.push(phase);
        Ok(())
    }

    /// So many samples of the floor while the operator stands still: what the attack itself costs whoever writes.
    async fn without_the_operator(&self, length: Duration) -> anyhow::Result<Vec<f64>> {
        self.field.operator.pause()?;
        let (floor, mut samples, began) = (&self.measured[1], Vec::new(), Stopwatch::start());
        while samples.len() < usize::try_from(self.arguments.samples)? && began.elapsed() < length * OVERTIME {
            samples.push(self.sample("without the operator", floor).await?);
        }
        self.field.operator.resume()?;
        Ok(samples)
    }

    /// One failover, in ms, and a pause. What comes to no end is infinite.
    async fn sample(&self, name: &str, application: &Application) -> anyhow::Result<f64> {
        let sample = match self.applications.fail_over(application).await {
            Ok(from_answer) => from_answer,
            Err(problem) => {
                eprintln!("{name}: a sample of {} came to no end: {problem:#}\n{}", application.name, self.field.operator.log_end(5));
                self.applications.repair(&self.measured).await.context("the pods can't be made ready again")?;
                f64::INFINITY
            }
        };
        tokio::time::sleep(PAUSE).await;
        Ok(sample)
    }

    /// Adds what the operator asked for since the phase began.
    fn count(&mut self, phase: &mut Phase) -> anyhow::Result<()> {
        let mut seconds: BTreeMap<i64, usize> = BTreeMap::new();
        for event in self.field.plane.requests_since(&mut self.audited)?.into_iter().filter(|event| event.user == OPERATOR) {
            if matches!(&*event.verb, "get" | "list" | "watch") {
                phase.reads += 1;
                continue;
            }
            let subresource = if event.subresource.is_empty() { String::new() } else { format!("/{}", event.subresource) };
            *phase.writes.entry(format!("{}{subresource}", event.resource)).or_default() += 1;
            *seconds.entry(event.time.as_second()).or_default() += 1;
        }
        phase.most_writes = seconds.into_values().max().unwrap_or_default();
        ensure!(phase.writes.contains_key("pods"), "the audit log tells of no write of the operator");
        Ok(())
    }
}

fn arguments_in_words(arguments: &Arguments) -> String {
    format!("{} s for each attack, {} s for all of them, {} failovers each at least", arguments.seconds, arguments.all, arguments.samples)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
