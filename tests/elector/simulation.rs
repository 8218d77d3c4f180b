//! Random histories of three to five candidates on one lock: they crash, pause, are cut off, lose requests and answers,
//! release and come back, on clocks that run at different rates; watches fall silent; the object is deleted, by some who make
//! it anew; the store is restored to an earlier state, so that versions go back and records return. Whatever happens no two
//! lead at one instant of true time, no leadership has a number that its candidate knew to be taken, and when nothing happens
//! any more somebody leads soon.
//!
//! Each candidate runs in a container of a pod, which is started anew in it or in another pod, of another name or the same, on a
//! node whose clock is another's or was set. Kubelets report their ends and starts at once, late or never.
//!
//! Two cases are excused, and those exactly. The object was deleted, and one who never saw in it the leadership that it held
//! made it anew: nobody can wait for what it cannot know of; `handover` tests how long it lasts. And the store was restored: for
//! a lease from then on, who had come to lead before it may lead beside one who came to lead after it, because what tells of
//! the first may be gone. Two who came to lead after it never do, nor two who did before, nor anybody once the lease is over.
//!
//! One case is left out: a clock that is set back by just so much that the next instance of a container seems to begin with a
//! former one, which `docs/elector.md` does not promise. Numbers that are issued twice for two contents are left out: the API server itself takes the one for the other.
//!
//! A failure names its seed: `SEED=123 cargo test simulation`. `HISTORIES=100000` runs more of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use jiff::SignedDuration;
use leadergroup::elector::clock::Clock;
use leadergroup::elector::{Config, PodReport};

use super::kubelet::{Pod, Statuses};
use super::memory::{Network, Object, RESTORE, Version, Watches, lock};
use super::stage::{Act, Candidate, Run, Work, record, seconds};
use super::time::Time;

/// Somebody who deletes the object, and may put a record of its own into the next.
const ADMIN: &str = "admin";

/// What makes an election unsafe, to see that it is noticed.
#[derive(Clone, Copy, PartialEq)]
enum Sabotage {
    None,
    /// Writes are not refused though another has written meanwhile.
    NoConcurrency,
    /// Clocks differ by more than is tolerated.
    WildClocks,
    /// Kubelets tell the ends of containers as if they were still to come, so that no acquisition and no renewal is after them.
    LateEnds,
}

/// One place for a process, which others may follow.
struct Slot {
    name: String,
    rate: f64,
    latency: Duration,
    watch_delay: Duration,
    has_watch: bool,
    work: Work,
    candidate: Candidate,
    run: Option<Run>,
    /// When what troubles it ends, in true time.
    better: Duration,
    pod: Pod,
    /// By how much its node's clock was set.
    set: SignedDuration,
}

/// Everybody who may lead, and the first fault that was seen.
struct Watchman {
    object: Object,
    everybody: Mutex<Vec<Candidate>>,
    /// Whether clocks are alike enough for work to be dropped before another leads.
    strict: bool,
    lease: Duration,
    time: Time,
    fault: Mutex<Option<String>>,
}

impl Watchman {
    fn look(&self) {
        let mut leading: Vec<(Candidate, Arc<Act>)> = Vec::new();
        for candidate in lock(&self.everybody).iter() {
            for act in lock(&candidate.acts).iter() {
                let acts = candidate.runs() && (act.acts() || self.strict && act.is_alive());
                if acts || act.tenure.is_held() {
                    leading.push((candidate.clone(), act.clone()));
                }
            }
        }
        if leading.len() > 1 {
            leading.retain(|(candidate, act)| !self.is_excused(candidate, act));
        }
        if leading.len() > 1 {
            let leaders: Vec<_> = leading
                .iter()
                .map(|(candidate, act)| {
                    let (held, acts, alive) = (act.tenure.is_held(), act.acts(), act.is_alive());
                    format!("{} in term {} (held: {held}, acts: {acts}, alive: {alive})", candidate.client.identity(), act.tenure.term())
                })
                .collect();
            lock(&self.fault).get_or_insert_with(|| format!("two lead: {}", leaders.join(", ")));
        }
    }

    /// Whether somebody who never saw this leadership has made the object anew after it was deleted, or the store was
    /// restored less than a lease ago.
    fn is_excused(&self, candidate: &Candidate, act: &Act) -> bool {
        let (history, identity) = (self.object.history(), candidate.client.identity());
        let own = |version: &Version| {
            let record = version.record.as_ref().filter(|_| version.by == identity && version.at <= act.begun);
            record.is_some_and(|record| record.holder == identity && record.transitions == act.tenure.term())
        };
        let acquired = history.iter().rposition(own).unwrap_or_default();
        let mut later = history[acquired..].iter().skip(1);
        later.any(|version| version.unaware && version.by != identity || version.by == RESTORE && version.at + self.lease >= self.time.elapsed())
    }
}

struct World {
    random: Rng,
    time: Time,
    object: Object,
    config: Config,
    slots: Vec<Slot>,
    watchman: Arc<Watchman>,
    deletes: bool,
    restores: bool,
    processes: usize,
    /// What candidates read of pods, if they do, and then they say where they run.
    statuses: Option<Statuses>,
    /// What kubelets have to report, and when it arrives.
    reports: Vec<(Duration, usize, String, PodReport)>,
    /// How many there were.
    reported: usize,
    /// The last that arrived, by pod: of one pod's an older one is dropped.
    arrived: BTreeMap<String, usize>,
    sabotage: Sabotage,
    /// Whether clocks are set. Where stamps are coarse that may make two renewals alike that are far apart, as it does for client-go.
    sets: bool,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Rng::with_seed(seed);
        let (time, coarse) = (Time::start(), random.u8(..4) == 0);
        let (lease, deadline, period) = [(15.0, 10.0, 2.0), (8.0, 4.0, 1.0), (20.0, 8.0, 3.0)][random.usize(..3)];
        let config = Config {
            lease_duration: seconds(lease),
            renew_deadline: seconds(deadline),
            retry_period: seconds(period),
            release_on_cancel: random.u8(..4) > 0,
            name: String::new(),
        };
        let resolution = if coarse { 1.0 } else { 0.0 };
        let tolerated = (lease - resolution) / (deadline + period);
        let widest = if sabotage == Sabotage::WildClocks { 2.0 } else { 1.0 + (tolerated * 0.98 - 1.0) * [0.0, 0.1, 1.0][random.usize(..3)] };
        // Three quarters of the margin are for the work's end.
        let spare = (lease - resolution - deadline - period) * 0.75;
        let strict = widest < (lease - resolution) / (deadline + period + spare) && sabotage == Sabotage::None;
        let object = Object::with(&time, seconds(resolution), sabotage != Sabotage::NoConcurrency);
        let watchman =
            Watchman { object: object.clone(), everybody: Mutex::default(), strict, lease: config.lease_duration, time: time.clone(), fault: Mutex::default() };
        let (watchman, deletes, restores) = (Arc::new(watchman), random.bool(), random.u8(..3) == 0);
        let proves = random.u8(..4) > 0 || sabotage == Sabotage::LateEnds;
        let statuses = proves.then(|| Statuses::new(&time));
        let mut world = Self {
            random,
            time,
            object,
            config,
            slots: Vec::new(),
            watchman,
            deletes,
            restores,
            processes: 0,
            statuses,
            reports: Vec::new(),
            reported: 0,
            arrived: BTreeMap::new(),
            sabotage,
            sets: !coarse,
            trace: Vec::new(),
        };
        for number in 0..world.random.usize(3..=5) {
            let slot = Slot {
                name: format!("c{number}"),
                rate: 1.0 + (widest - 1.0) * world.random.f64(),
                latency: world.span(0.001, 0.1),
                watch_delay: world.span(0.001, 0.5),
                has_watch: world.random.u8(..4) > 0,
                work: Work::UntilAsked,
                candidate: Candidate::new(&world.time, &world.object, "none"),
                run: None,
                better: Duration::ZERO,
                pod: Pod::new("none", "none"),
                set: SignedDuration::ZERO,
            };
            world.slots.push(slot);
            world.start(number);
        }
        world
    }

    fn span(&mut self, least: f64, most: f64) -> Duration {
        seconds(least + (most - least) * self.random.f64())
    }

    fn note(&mut self, text: impl std::fmt::Display) {
        self.trace.push(format!("{:>8.3} {text}", self.time.elapsed().as_secs_f64()));
    }

    /// A new process in this place.
    fn start(&mut self, number: usize) {
        self.processes += 1;
        let work = match self.random.u8(..4) {
            0 => Work::Lingers(self.span(0.0, 3.0)),
            1 => Work::IgnoresTheRequest,
            2 => Work::EndsAfter(self.span(0.0, 5.0)),
            _ => Work::UntilAsked,
        };
        // Some processes bear the name of their predecessor.
        let suffix = if self.random.bool() { format!("_{}", self.processes) } else { String::new() };
        self.place(number);
        let slot = &self.slots[number];
        let mut candidate = Candidate::skewed(&self.time, &self.object, &format!("{}{suffix}", slot.name), slot.rate);
        candidate.clock.set(slot.set);
        if slot.pod.seems_to_begin_again(candidate.clock.wall()) {
            // What is not promised (docs/elector.md): the status may still show that one running.
            let name = format!("{}-again-{}", slot.name, self.processes);
            self.slots[number].pod = Pod::new(&name, &name);
        }
        let slot = &self.slots[number];
        if let Some(statuses) = &self.statuses {
            candidate = candidate.in_pod(&slot.pod, statuses);
        }
        candidate.client.latency(slot.latency, slot.watch_delay);
        candidate.client.watches(if slot.has_watch { Watches::Work } else { Watches::None });
        let watchman = self.watchman.clone();
        candidate.on_news(move || watchman.look());
        self.note(format!("{} starts, {work:?}, rate {:.3}, at {} by its clock", candidate.client.identity(), slot.rate, candidate.clock.wall()));
        lock(&self.watchman.everybody).retain(|other| {
            lock(&other.acts).iter().any(|act| act.is_alive()) || self.slots.iter().any(|slot| slot.candidate.client.identity() == other.client.identity())
        });
        lock(&self.watchman.everybody).push(candidate.clone());
        self.slots[number].pod.starts(candidate.clock.wall());
        self.report(number);
        let elector = candidate.elector(self.config.clone()).with_seed(self.random.u64(..));
        let slot = &mut self.slots[number];
        slot.work = work;
        slot.run = Some(candidate.run(elector, work, true));
        slot.candidate = candidate;
    }

    /// Finds a container for the next process: mostly of the same pod, or of another, of its name or a new one, on another node.
    fn place(&mut self, number: usize) {
        self.ends(number);
        let (kind, step, hours) = (self.random.u8(..8), self.random.u8(..8) == 0, self.random.i64(-2..=2));
        let skew = SignedDuration::from_millis(self.random.i64(-60_000..60_000));
        let slot = &mut self.slots[number];
        if step {
            slot.set += SignedDuration::from_hours(hours);
        }
        if kind < 2 || slot.pod.name == "none" {
            let name = if kind == 0 { slot.name.clone() } else { format!("{}-{}", slot.name, self.processes) };
            slot.pod = Pod::new(&name, &format!("uid-{}", self.processes));
            slot.set = skew;
        }
    }

    /// Nothing of this place's process is left, and its kubelet finds out.
    fn ends(&mut self, number: usize) {
        let now = self.slots[number].candidate.clock.wall();
        if self.slots[number].pod.ends(now) {
            self.report(number);
        }
    }

    /// The kubelet's word, on its way.
    fn report(&mut self, number: usize) {
        let longest = [0.2, 2.0, 30.0, 1e6][self.random.usize(..4)];
        let arrives = self.time.elapsed() + self.span(0.0, longest);
        let late = if self.sabotage == Sabotage::LateEnds { SignedDuration::from_hours(1) } else { SignedDuration::ZERO };
        let pod = &self.slots[number].pod;
        self.reported += 1;
        self.reports.push((arrives, self.reported, pod.name.clone(), pod.report(late)));
    }

    fn deliver(&mut self) {
        let now = self.time.elapsed();
        for (_, number, name, report) in self.reports.extract_if(.., |(arrives, ..)| *arrives <= now) {
            let last = self.arrived.entry(name.clone()).or_default();
            if number > *last {
                *last = number;
                self.trace.push(format!("{:>8.3} the kubelet of {name} reports {:?}", now.as_secs_f64(), report.instances));
                self.statuses.iter().for_each(|statuses| statuses.tell(&name, report.clone()));
            }
        }
    }

    fn trouble(&mut self, number: usize) {
        let until = self.time.elapsed() + self.span(0.05, 30.0);
        let name = self.slots[number].candidate.client.identity().to_owned();
        let watch = self.slots[number].has_watch;
        let client = self.slots[number].candidate.client.clone();
        let kind = self.random.u8(..10);
        let what = match kind {
            0 | 1 => {
                self.slots[number].candidate.process.pause();
                "is paused".to_owned()
            }
            2 if watch => {
                client.watches(Watches::Silent);
                "hears no changes".to_owned()
            }
            _ => {
                let network = match kind {
                    3 | 4 => Network::BlackHole,
                    5 => Network::LoseRequest,
                    6 => Network::LoseAnswer,
                    7 => Network::DelayAnswer(self.span(0.0, 6.0)),
                    8 => Network::Refuse,
                    _ => Network::Delay(self.span(0.0, 6.0)),
                };
                client.network(network.clone());
                format!("{network:?}")
            }
        };
        self.slots[number].better = until;
        self.note(format!("{name} {what} until {:.3}", until.as_secs_f64()));
    }

    fn relieve(&mut self, number: usize) {
        let slot = &self.slots[number];
        slot.candidate.client.network(Network::Pass);
        slot.candidate.client.watches(if slot.has_watch { Watches::Work } else { Watches::None });
        slot.candidate.resume();
        self.slots[number].better = Duration::ZERO;
        self.note(format!("{} is well", self.slots[number].candidate.client.identity()));
    }

    /// Something happens.
    fn happen(&mut self) {
        let number = self.random.usize(..self.slots.len());
        let name = self.slots[number].candidate.client.identity().to_owned();
        match self.random.u8(..16) {
            0..=6 => self.trouble(number),
            7 | 8 => {
                if let Some(run) = self.slots[number].run.take() {
                    run.crash();
                    self.ends(number);
                    self.note(format!("{name} crashes"));
                }
            }
            // A run whose work never ends never ends.
            9 | 10 if !matches!(self.slots[number].work, Work::IgnoresTheRequest) => {
                self.slots[number].candidate.cancel();
                self.note(format!("{name} is cancelled"));
            }
            11 if self.deletes => {
                self.object.write(ADMIN, None);
                self.note("the object is deleted");
            }
            12 if self.deletes => {
                let lease = i64::try_from(self.config.lease_duration.as_secs()).unwrap();
                self.object.replace(ADMIN, record("foreign", lease, self.random.i64(0..3)));
                self.note("the object is deleted and made anew");
            }
            13 if self.restores => self.restore(),
            14 if self.sets => {
                let by = SignedDuration::from_millis(self.random.i64(-20_000..20_000));
                let slot = &mut self.slots[number];
                slot.candidate.clock.set(by);
                slot.set += by;
                self.note(format!("the clock of {name} is set by {by:?}"));
            }
            _ => {}
        }
    }

    /// The store goes back by some versions, and the API server's connections go with it, or are left hanging.
    fn restore(&mut self) {
        let length = self.object.history().len();
        let version = length - 1 - self.random.usize(..length.min(40));
        self.object.restore(version);
        self.note(format!("the store is restored to version {}", self.object.now().number));
        for number in 0..self.slots.len() {
            let (until, fate) = (self.time.elapsed() + self.span(0.05, 30.0), self.random.u8(..4));
            let Slot { candidate, has_watch, better, .. } = &mut self.slots[number];
            match fate {
                0 => continue,
                1 => {
                    candidate.client.break_watches();
                    continue;
                }
                2 if *has_watch => candidate.client.watches(Watches::Silent),
                _ => candidate.client.network(Network::BlackHole),
            }
            *better = until.max(*better);
        }
    }

    async fn pass(&mut self, span: Duration) -> Result<(), String> {
        tokio::time::sleep(span).await;
        self.deliver();
        self.watchman.look();
        lock(&self.watchman.fault).take().map_or(Ok(()), Err)
    }

    async fn troubled_times(&mut self) -> Result<(), String> {
        for _ in 0..70 {
            self.happen();
            let pause = self.span(0.01, 1.5);
            self.pass(pause).await?;
            for number in 0..self.slots.len() {
                if self.slots[number].run.as_ref().is_some_and(Run::is_over) {
                    self.ends(number);
                }
                let slot = &self.slots[number];
                if slot.better > Duration::ZERO && slot.better <= self.time.elapsed() {
                    self.relieve(number);
                }
                if self.slots[number].run.as_ref().is_none_or(Run::is_over) && self.random.u8(..3) == 0 {
                    self.start(number);
                }
            }
        }
        Ok(())
    }

    /// Who leads, if it is exactly one.
    fn leader(&self) -> Option<usize> {
        let leads = |slot: &Slot| slot.run.as_ref().is_some_and(|run| run.leadership.is_leader());
        let mut leaders = (0..self.slots.len()).filter(|number| leads(&self.slots[*number]));
        leaders.next().filter(|_| leaders.next().is_none())
    }

    async fn quiet_times(&mut self) -> Result<(), String> {
        (0..self.slots.len()).for_each(|number| self.relieve(number));
        // Those that were cancelled leave, and come back.
        self.pass(seconds(8.0)).await?;
        self.fill();
        self.note("quiet");
        let slowest = self.slots.iter().map(|slot| slot.rate).fold(f64::MAX, f64::min);
        let Config { lease_duration, retry_period, .. } = self.config.clone();
        // The lease; a request that was lost and the pause after it; and a write that was under way may renew for the dead.
        let within = (lease_duration + self.config.request_timeout() + retry_period.mul_f64(2.2)).div_f64(slowest) + seconds(7.0);
        let until = self.time.elapsed() + within;
        while self.leader().is_none() {
            if self.time.elapsed() > until {
                return Err(format!("nobody leads {within:?} after the last trouble"));
            }
            self.pass(seconds(0.1)).await?;
        }
        // Who was cancelled late may still be leaving; whose watch died silently has to find out.
        self.pass(lease_duration * 3).await?;
        self.fill();
        self.pass(lease_duration * 2).await
    }

    /// Starts a process wherever there is none.
    fn fill(&mut self) {
        for number in 0..self.slots.len() {
            if self.slots[number].run.as_ref().is_none_or(Run::is_over) {
                self.start(number);
            }
        }
    }

    async fn rest(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else { return Err("nobody leads at rest".into()) };
        self.slots.iter().for_each(|slot| drop(slot.candidate.client.take_calls()));
        self.pass(seconds(60.0)).await?;
        if self.leader() != Some(leader) {
            return Err("the leader changes at rest".into());
        }
        let (renewals, period) = (self.slots[leader].candidate.client.calls(), self.config.retry_period.div_f64(self.slots[leader].rate));
        if period * u32::try_from(renewals.len()).unwrap() > seconds(60.0) + period || renewals.iter().any(|call| *call != "update") {
            return Err(format!("the leader asks {} times in a minute at rest: {renewals:?}", renewals.len()));
        }
        for (number, slot) in self.slots.iter().enumerate().filter(|(number, _)| *number != leader) {
            let (calls, period) = (slot.candidate.client.calls(), self.config.retry_period.as_secs_f64() / slot.rate);
            let (least, most) = if slot.has_watch { (0.0, 0.0) } else { (60.0 / (2.2 * period + 0.2) - 2.0, 60.0 / period + 1.0) };
            let count = f64::from(u32::try_from(calls.len()).unwrap());
            if !(least..=most).contains(&count) || calls.iter().any(|call| *call != "get") {
                return Err(format!("c{number} asks {count} times in a minute at rest, not {least:.0} to {most:.0}: {calls:?}"));
            }
        }
        Ok(())
    }

    /// A release is taken over as fast as it is heard of.
    async fn release(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else { return Err("nobody leads".into()) };
        if matches!(self.slots[leader].work, Work::IgnoresTheRequest) || !self.config.release_on_cancel {
            return Ok(());
        }
        self.slots[leader].candidate.cancel();
        self.note("the leader is cancelled");
        self.pass(seconds(15.0)).await?;
        let history = self.object.history();
        let released = history.iter().rposition(|version| version.record.as_ref().is_some_and(|record| record.holder.is_empty()));
        let released = released.ok_or("nothing was released")?;
        let standbys = self.slots.iter().enumerate().filter(|(number, _)| *number != leader).map(|(_, slot)| slot);
        let watching = standbys.clone().filter(|slot| slot.has_watch).map(|slot| slot.watch_delay + slot.latency * 2).min();
        let polling = standbys.map(|slot| self.config.retry_period.mul_f64(2.2).div_f64(slot.rate) + slot.latency * 4).min().unwrap_or_default();
        let bound = watching.unwrap_or(polling) + seconds(0.01);
        match history.get(released + 1).map(|taken| taken.at.saturating_sub(history[released].at)) {
            Some(after) if after <= bound => Ok(()),
            Some(after) => Err(format!("taken over {after:?} after the release, later than {bound:?}")),
            None => Err("the released lock is not taken over".into()),
        }
    }

    /// Only who holds it empties it, and nobody leads under a number that it knew to be taken.
    fn history(&self) -> Result<(), String> {
        let history = self.object.history();
        for pair in history.windows(2) {
            let [before, after] = pair else { continue };
            let Some(record) = after.record.as_ref().filter(|_| ![ADMIN, RESTORE].contains(&after.by.as_str())) else { continue };
            if record.holder.is_empty() && before.record.as_ref().is_none_or(|before| before.holder != after.by) {
                return Err(format!("{} empties the record of {:?}", after.by, before.record));
            }
            let goes_on = before.record.as_ref().is_some_and(|before| before.holder == record.holder && before.transitions == record.transitions);
            if !record.holder.is_empty() && !goes_on && after.known.is_some_and(|known| record.transitions <= known) {
                return Err(format!("{} takes number {} though it knew of {:?}", after.by, record.transitions, after.known));
            }
        }
        Ok(())
    }

    async fn live(&mut self) -> Result<(), String> {
        self.troubled_times().await?;
        self.quiet_times().await?;
        self.rest().await?;
        self.release().await?;
        self.history()
    }
}

/// The trace and what is wrong.
fn simulate(seed: u64, sabotage: Sabotage) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed, sabotage);
        let lived = world.live().await;
        for Version { record, at, by, number, uid, unaware, .. } in world.object.history() {
            let record = record.map_or("deleted".into(), |record| format!("{:?} in term {}", record.holder, record.transitions));
            let unaware = if unaware { ", unaware" } else { "" };
            world.trace.push(format!("{:>8.3} {by} writes version {number} of object {uid}: {record}{unaware}", at.as_secs_f64()));
        }
        // Equal but for their text, times are in order.
        world.trace.sort_by(|one, other| one[..8].cmp(&other[..8]));
        lived.map_err(|fault| format!("{}\n{:>8.3} {fault}\n\nSEED={seed}", world.trace.join("\n"), world.time.elapsed().as_secs_f64()))
    })
}

fn run(seed: u64) {
    if let Err(fault) = simulate(seed, Sabotage::None) {
        panic!("{fault}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own knobs")]
fn no_history_has_two_leaders_and_every_history_gets_one() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("SEED") {
        return run(seed);
    }
    (0..number("HISTORIES").unwrap_or(300)).for_each(run);
}

/// Whether some history shows two leaders.
fn is_found(sabotage: Sabotage) -> bool {
    (0..300).any(|seed| simulate(seed, sabotage).is_err_and(|fault| fault.contains("two lead")))
}

#[test]
fn histories_find_two_leaders_where_writes_are_not_refused() {
    assert!(is_found(Sabotage::NoConcurrency));
}

#[test]
fn histories_find_two_leaders_where_clocks_differ_more_than_is_tolerated() {
    assert!(is_found(Sabotage::WildClocks));
}

#[test]
fn histories_find_two_leaders_where_ends_are_told_as_if_they_were_still_to_come() {
    assert!(is_found(Sabotage::LateEnds));
}
