//! What became of the writes that were tried of late: what is under way, what fails, what is done and has no effect. From that follows
//! how long each is held back, and what the user is told of it. Pure: it is told the time, and decides nothing about who leads.
//!
//! Each write is held back by itself, so that what gets nowhere with one object holds up nothing of another, and a failover,
//! whose writes are others than those before, is let through at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::difference::differ_in_times_only;
use super::obstacle::Obstacle;
use super::refusals::Refusals;
use super::target::{LONGEST_OF_OTHERS, Object, Round, Target};
use super::write::{Named, PodPurpose, Undone, Write};
use crate::api::LeaderGroupStatus;
use crate::elector::clock::Instant;
use crate::names;

/// The wait after the first failure; where the object has merely changed, after the fourth in a row.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const FIRST_AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// A write that has no answer for so long is told to the user.
pub(super) const SLOW: Duration = Duration::from_secs(2);
/// One whose turn has not come for so long is told, too.
const QUEUED: Duration = Duration::from_secs(4);
/// The same for a renewal of the Lease, either way: nobody waits for one, and to tell of each that is slow would make a busy API server
/// busier.
const LATE: Duration = Duration::from_secs(10);
/// So many pods are written to at once to one end: whoever may label pods may label thousands.
pub const PODS: usize = 32;
/// One refusal may be a policy's that is just being put right.
const REFUSED: u32 = 2;
/// That others are quicker happens to everybody; so often in a row it is told.
const CONTENDED: u32 = 6;
/// The API server's words are cut to this many characters.
const WORDS: usize = 512;

/// What the API server has taken of a status, and not stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PutBack {
    /// Its term; the rest may be stored.
    Term,
    Everything,
}

/// Why a write was not done, as far as the next try depends on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    pub undone: Undone,
    /// Somebody has said no, though it may not be known what became of it.
    pub refused: bool,
    /// It was taken, and not stored as it was written.
    pub put_back: Option<PutBack>,
    /// Nobody has said anything yet: it may still be under way.
    pub unanswered: bool,
    /// A webhook has failed, or could not be asked.
    pub by_admission: bool,
    /// What the API server said, or what kept it from saying anything.
    pub words: String,
    /// How long the API server asks to be left alone.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    /// In the user's words.
    what: String,
    round: Round,
    /// Since when it gets nowhere.
    since: Timestamp,
    began: Instant,
    /// Since when it waits for its turn: it holds back nothing, and may still be called back.
    asked: Option<Instant>,
    /// Since when it is under way.
    sent: Option<Instant>,
    /// In a row.
    failures: u32,
    /// The last of them, as many as were refusals.
    refused: u32,
    /// As many as were refusals, changes by others, failures of admission, or of this alone: what tells of the API server counts for nothing.
    turned_down: u32,
    failed: Option<Failed>,
    /// Not before this.
    until: Instant,
    /// The moment at which its pace would be as if it had never been tried (the generic cell rate algorithm).
    drained: Instant,
    /// How often it was sent in its round.
    sends: u32,
    /// When it was sent last it was too soon for another.
    braked: bool,
    /// The status that was put back when it was written last: another is not held back by that.
    put_back: Option<Box<LeaderGroupStatus>>,
    /// Who changes it back, as far as that was found out.
    undone_by: Option<String>,
}

impl Attempt {
    fn begins(&mut self, now: Instant, wall: Timestamp) {
        if self.asked.is_none() && self.failures == 0 && self.drained <= now {
            (self.since, self.began) = (wall, now);
        }
    }

    /// Until when it holds anything back.
    fn held_until(&self) -> Instant {
        self.drained.max(self.until)
    }

    /// From when on it is told that it has no answer, or that its turn does not come.
    fn slow_at(&self, target: &Target) -> Option<Instant> {
        let unanswered = self.failed.as_ref().is_some_and(|failed| failed.unanswered);
        match (self.sent, self.asked) {
            (None, None) if !(unanswered && target.is_renewal()) => None,
            _ if target.is_renewal() => Some(self.began + LATE),
            (Some(sent), _) => Some(sent + SLOW),
            (None, asked) => asked.map(|asked| asked + QUEUED),
        }
    }

    /// How it gets nowhere, in a few words of ours.
    fn kind(&self) -> &'static str {
        match &self.failed {
            Some(Failed { put_back: Some(_), .. }) => "put back",
            Some(Failed { refused: true, .. }) => "refused",
            Some(Failed { by_admission: true, .. }) => "admission failed",
            Some(Failed { unanswered: true, .. }) => "no answer in time",
            Some(Failed { undone: Undone::Changed | Undone::Gone, .. }) => "changed meanwhile",
            Some(_) => "failed",
            None if self.sent.is_some() => "no answer yet",
            None if self.asked.is_some() => "waits for its turn",
            None => "changed back",
        }
    }
}

/// The writes of late. Boxed, because a node of the map has room for eleven, and most groups have one or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    attempts: BTreeMap<Target, Box<Attempt>>,
    /// When any of them was done last.
    worked: Instant,
    /// The pods that were refused of late, and come last.
    pub(super) refusals: Refusals,
}

/// What of a stage is sent now, and when what is not may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HeldBack {
    pub sent: Vec<Write>,
    pub wait: Option<Duration>,
    /// To what end more pods are to be written to than may be at once.
    pub limited: BTreeSet<PodPurpose>,
}

impl Progress {
    /// A write waits for its turn.
    pub fn asked(&mut self, write: &Write, round: Round, now: Instant, wall: Timestamp) {
        let attempt = self.attempt(write, round, wall);
        attempt.begins(now, wall);
        attempt.asked = attempt.asked.or(Some(now));
    }

    /// It was called back before its turn came: that counts as no try.
    pub fn called_back(&mut self, write: &Write) {
        if let Some(attempt) = self.attempts.get_mut(&Target::of(write)) {
            attempt.asked = None;
        }
    }

    /// A write is sent.
    pub fn sending(&mut self, write: &Write, round: Round, now: Instant, wall: Timestamp) {
        let target = Target::of(write);
        let (burst, interval) = target.pace();
        let attempt = self.attempt(write, round, wall);
        if !target.is_same_round(attempt.round, round) {
            // Another round may begin at once, but rounds that follow each other quickly bring no more than one write each.
            let full = now + interval.saturating_mul(burst.saturating_sub(1));
            (attempt.round, attempt.drained, attempt.undone_by, attempt.sends) = (round, attempt.drained.min(full), None, 0);
        }
        attempt.begins(now, wall);
        (attempt.asked, attempt.sent) = (None, Some(now));
        attempt.sends = attempt.sends.saturating_add(1);
        attempt.drained = attempt.drained.max(now) + interval;
        attempt.braked = !paced(&target, attempt, now).is_zero();
        if let Target::Pod(uid, PodPurpose::Unlabel) = target {
            // What this process takes back itself, the fence with the label, was not given in vain.
            for purpose in [PodPurpose::Label, PodPurpose::Arm] {
                if let Some(given) = self.attempts.get_mut(&Target::Pod(uid.clone(), purpose)) {
                    given.sends = 0;
                }
            }
        }
    }

    fn attempts(&self) -> impl Iterator<Item = (&Target, &Attempt)> {
        self.attempts.iter().map(|(target, attempt)| (target, &**attempt))
    }

    fn attempt(&mut self, write: &Write, round: Round, wall: Timestamp) -> &mut Attempt {
        let new = || Attempt {
            what: what(write),
            round,
            since: wall,
            began: Instant::default(),
            asked: None,
            sent: None,
            failures: 0,
            refused: 0,
            turned_down: 0,
            failed: None,
            until: Instant::default(),
            drained: Instant::default(),
            sends: 0,
            braked: false,
            put_back: None,
            undone_by: None,
        };
        self.attempts.entry(Target::of(write)).or_insert_with(|| Box::new(new()))
    }

    /// It was answered, or is not waited for any longer.
    pub fn answered(&mut self, write: &Write, result: Result<(), Failed>, now: Instant) {
        let target = Target::of(write);
        let Some(attempt) = self.attempts.get_mut(&target) else { return };
        (attempt.asked, attempt.sent) = (None, None);
        match result {
            Ok(()) => {
                self.worked = now;
                (attempt.failures, attempt.refused, attempt.turned_down) = (0, 0, 0);
                (attempt.failed, attempt.until, attempt.put_back) = (None, now, None);
                if let Some((uid, label)) = target.makes_leader() {
                    // What was done before in vain may be so again.
                    let in_vain = attempt.braked && attempt.sends > 1;
                    if in_vain { self.refusals.in_vain(uid, label, now) } else { self.refusals.taken(uid, label, now) }
                }
            }
            Err(failed) => {
                attempt.put_back = match write {
                    Write::Status { status, names: None } if failed.put_back.is_some() => Some(status.clone()),
                    _ => None,
                };
                // No election waits for the same again.
                let longest = if target == Target::Status && failed.put_back == Some(PutBack::Everything) { LONGEST_OF_OTHERS } else { target.longest_delay() };
                attempt.failures = attempt.failures.saturating_add(1);
                attempt.refused = if failed.refused { attempt.refused.saturating_add(1) } else { 0 };
                // What fails beside others that are done is no trouble with the API server.
                let turned_down = failed.refused || failed.by_admission || failed.undone == Undone::Changed || self.worked > attempt.began;
                attempt.turned_down = attempt.turned_down.saturating_add(turned_down.into());
                if let Some((uid, label)) = target.makes_leader()
                    && (attempt.refused >= REFUSED || attempt.turned_down >= CONTENDED)
                {
                    self.refusals.refused(uid, label, now);
                }
                // What changed under our hands has been read anew, and is planned from at once.
                let free = if matches!(failed.undone, Undone::Changed | Undone::Gone) { 3 } else { 0 };
                let doublings = attempt.failures.checked_sub(free + 1);
                // What was refused will hardly be done the next moment.
                let first = if failed.refused { FIRST_AFTER_REFUSAL } else { FIRST_DELAY };
                let own = doublings.map_or(Duration::ZERO, |doublings| first.saturating_mul(1 << doublings.min(16)).min(longest));
                attempt.until = now + own.max(failed.retry_after.unwrap_or_default().min(LONGEST_OF_OTHERS));
                // What was not done has not used up anything, unless it has to be tried to be known.
                if failed.put_back.is_none() {
                    attempt.drained = Instant(attempt.drained.0.saturating_sub(target.pace().1));
                }
                attempt.braked &= !paced(&target, attempt, now).is_zero();
                attempt.failed = Some(Failed { words: cut(&failed.words), ..failed });
            }
        }
    }

    /// What is not waited for any longer was answered after all, with these words.
    pub fn learned(&mut self, write: &Write, words: &str) {
        if let Some(failed) = self.attempts.get_mut(&Target::of(write)).and_then(|attempt| attempt.failed.as_mut()) {
            failed.words = cut(words);
            failed.unanswered = false;
        }
    }

    /// How a status, a read that comes before the first one, or what is taken from a pod whose group is gone gets nowhere, more and more
    /// seldom: there is no other place that could tell it.
    pub fn untellable(&self, write: &Write) -> Option<&'static str> {
        let attempt = self.attempts.get(&Target::of(write)).filter(|_| is_told_nowhere_else(write))?;
        let (failures, refused) = (attempt.failures, attempt.refused);
        let again = failures % CONTENDED == 0 && (failures / CONTENDED).is_power_of_two();
        (refused == REFUSED || again).then(|| attempt.kind())
    }

    /// How often this has failed in a row.
    pub fn failures(&self, target: &Target) -> u32 {
        self.attempts.get(target).map_or(0, |attempt| attempt.failures)
    }

    /// Forgets what is not wanted any more, and can hold nothing back.
    pub fn settle(&mut self, wanted: &BTreeSet<Target>, now: Instant) {
        self.attempts.retain(|target, attempt| {
            if !wanted.contains(target) && attempt.asked.is_none() && attempt.sent.is_none() {
                (attempt.failures, attempt.refused, attempt.turned_down, attempt.failed) = (0, 0, 0, None);
                return attempt.drained > now;
            }
            true
        });
    }

    /// Forgets what can hold nothing back any more.
    pub fn forget_what_ran_out(&mut self, now: Instant) {
        self.attempts.retain(|_, attempt| attempt.held_until() > now || attempt.asked.is_some() || attempt.sent.is_some());
    }

    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// What is known of the tries with these pods.
    #[must_use]
    pub fn with(&self, pods: &BTreeSet<Box<str>>) -> Self {
        let is_of = |target: &&Target| matches!(target, Target::Pod(uid, _) if pods.contains(uid));
        let attempts = self.attempts.iter().filter(|(target, _)| is_of(target)).map(|(target, attempt)| (target.clone(), attempt.clone())).collect();
        Self { attempts, ..Self::default() }
    }

    /// Takes over what another knows of pods, but what is under way there. What was held back longer stays so, and what can hold nothing back
    /// goes; where more than `most` are left what is held back for the shortest time.
    pub fn merge(&mut self, other: &Self, now: Instant, most: usize) {
        for (target, attempt) in other.attempts.iter().filter(|(target, it)| target.purpose().is_some() && it.asked.is_none() && it.sent.is_none()) {
            let known = self.attempts.entry(target.clone()).or_insert_with(|| attempt.clone());
            let drained = known.drained.max(attempt.drained);
            if attempt.until > known.until {
                known.clone_from(attempt);
            }
            known.drained = drained;
        }
        self.forget_what_ran_out(now);
        if let Some(over) = self.attempts.len().checked_sub(most).filter(|over| *over > 0) {
            let mut shortest: Vec<(Instant, Target)> = self.attempts.iter().map(|(target, attempt)| (attempt.held_until(), target.clone())).collect();
            shortest.sort_unstable();
            for (_, target) in shortest.drain(..over) {
                self.attempts.remove(&target);
            }
        }
    }

    /// Whether a write of this one's object is under way.
    pub fn is_under_way(&self, target: &Target) -> bool {
        self.under_way().any(|other| other.meets(target))
    }

    fn under_way(&self) -> impl Iterator<Item = &Target> {
        self.attempts().filter(|(_, attempt)| attempt.sent.is_some()).map(|(target, _)| target)
    }

    pub(super) fn hold_back(&self, writes: Vec<Write>, round: Round, now: Instant) -> HeldBack {
        let mut held = HeldBack::default();
        let targets: Vec<Target> = writes.iter().map(Target::of).collect();
        // One write of an object at a time: the rest of what it needs is planned from what that one leaves behind.
        let mut busy: BTreeSet<Object<'_>> = self.under_way().filter_map(Target::object).collect();
        let mut pods: BTreeMap<PodPurpose, usize> = BTreeMap::new();
        for purpose in self.under_way().filter_map(Target::purpose) {
            *pods.entry(purpose).or_default() += 1;
        }
        let mut in_order: Vec<(Write, &Target)> = writes.into_iter().zip(&targets).collect();
        if in_order.len() > PODS {
            // Not all of them may be sent: whoever led comes first, and pods that fail last.
            in_order.sort_by_key(|(write, target)| match write {
                Write::Pod(write) if write.observed.term.is_some() => 0,
                Write::Pod(_) if self.failures(target) > 0 => 2,
                _ => 1,
            });
        }
        for (write, target) in in_order {
            let object = target.object();
            if object.map_or_else(|| self.is_under_way(target), |object| busy.contains(&object)) {
                continue;
            }
            if let Some(wait) = self.wait(&write, target, round, now) {
                held.wait = Some(held.wait.map_or(wait, |earlier| earlier.min(wait)));
                continue;
            }
            if let Some(purpose) = target.purpose() {
                let sent = pods.entry(purpose).or_default();
                if *sent >= PODS {
                    held.limited.insert(purpose);
                    continue;
                }
                *sent += 1;
            }
            held.sent.push(write);
            busy.extend(object);
        }
        held
    }

    /// How long this is held back yet.
    fn wait(&self, write: &Write, target: &Target, round: Round, now: Instant) -> Option<Duration> {
        let attempt = self.attempts.get(target)?;
        // What the group asks for now may succeed where what it asked for before did not; so may another status.
        let other = *target == Target::Deployment && attempt.round.generation != round.generation
            || matches!((write, &attempt.put_back), (Write::Status { status, .. }, Some(put_back)) if !differ_in_times_only(status, put_back));
        let failed = if other { Duration::ZERO } else { attempt.until - now };
        let paced = if target.is_same_round(attempt.round, round) { paced(target, attempt, now) } else { Duration::ZERO };
        Some(failed.max(paced)).filter(|wait| !wait.is_zero())
    }

    /// The pods whose marks are changed back each time, so that they wait, and nobody knows yet by whom. Not those whose deletion cost is: it may
    /// have two masters, and nobody is kept from leading by that.
    pub fn unexplained<'a>(&'a self, wanted: &'a BTreeSet<Target>, round: Round, now: Instant) -> impl Iterator<Item = (&'a Target, &'a str)> {
        let waits = move |(target, attempt): &(&Target, &Attempt)| {
            attempt.undone_by.is_none() && wanted.contains(target) && target.is_same_round(attempt.round, round) && !paced(target, attempt, now).is_zero()
        };
        self.attempts().filter(waits).filter_map(|(target, _)| match target {
            Target::Pod(uid, purpose) if *purpose != PodPurpose::Keep => Some((target, &**uid)),
            _ => None,
        })
    }

    /// Who changes this back each time.
    pub fn explain(&mut self, target: &Target, by: &str) {
        if let Some(attempt) = self.attempts.get_mut(target) {
            attempt.undone_by = Some(cut(by));
        }
    }

    /// When the next of what is under way, or waits for its turn, will have been so for long.
    pub(super) fn next_slow(&self, now: Instant) -> Option<Duration> {
        let remaining = self.attempts().filter_map(|(target, attempt)| {
            let wait = attempt.slow_at(target)? - now;
            // Nobody tells when a turn comes.
            Some(if wait.is_zero() && attempt.sent.is_none() && attempt.asked.is_some() { SLOW } else { wait })
        });
        remaining.filter(|remaining| !remaining.is_zero()).min()
    }

    /// The gravest of what gets nowhere. A status that is not taken can't tell of itself, but of a term that does not stay in it.
    /// `wanted`: what is not wanted any more is no trouble.
    pub(super) fn trouble(&self, wanted: &BTreeSet<Target>, round: Round, now: Instant) -> Option<Obstacle> {
        let told = |(target, attempt): &(&Target, &Attempt)| {
            let is_taken = target.object() != Some(Object::Status)
                || attempt.failed.as_ref().is_none_or(|failed| match failed.put_back {
                    Some(PutBack::Term) => true,
                    // What else is said of it may be what is stored.
                    Some(PutBack::Everything) => **target == Target::Term,
                    None => false,
                });
            attempt.sent.is_some() || is_taken && (wanted.contains(target) || attempt.asked.is_some() && **target != Target::Status)
        };
        let grave = |(target, attempt): (&Target, &Attempt)| trouble_of(target, attempt, round, now).map(|(rank, trouble)| (rank, target.clone(), trouble));
        self.attempts().filter(told).filter_map(grave).min_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1))).map(|(_, _, trouble)| trouble)
    }

    /// Of what gets nowhere for this reason, what it is and how it fails, in our words alone: for those who may not read what others say
    /// of it.
    pub fn behind(&self, reason: &str, round: Round, now: Instant) -> Option<(&str, &'static str)> {
        let grave = |(target, attempt): (_, &'_ Attempt)| trouble_of(target, attempt, round, now).is_some_and(|(_, trouble)| trouble.reason == reason);
        let (_, attempt) = self.attempts().find(|it| grave(*it))?;
        Some((&attempt.what, attempt.kind()))
    }
}

fn is_told_nowhere_else(write: &Write) -> bool {
    matches!(write, Write::Status { .. } | Write::ReadLock) || matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Forget)
}

/// How long this is held back because it was done often without an effect.
fn paced(target: &Target, attempt: &Attempt, now: Instant) -> Duration {
    let (burst, interval) = target.pace();
    (attempt.drained - now).saturating_sub(interval.saturating_mul(burst.saturating_sub(1)))
}

fn trouble_of(target: &Target, attempt: &Attempt, round: Round, now: Instant) -> Option<(u8, Obstacle)> {
    if *target == Target::ProofAhead {
        // Nobody waits for it.
        return None;
    }
    let what = &attempt.what;
    let slow = attempt.slow_at(target).is_some_and(|at| at <= now);
    // Whole seconds, as the API's own times.
    let since = attempt.since.strftime("%Y-%m-%dT%H:%M:%SZ");
    let (rank, reason, stalled, message) = match &attempt.failed {
        Some(failed) if failed.refused => {
            let reason = if *target == Target::Deployment { "DeploymentRefused" } else { "WriteRefused" };
            (0, reason, true, format!("{what} was refused by the API server, since {since}: {}", failed.words))
        }
        Some(Failed { undone: Undone::Changed | Undone::Gone | Undone::Refused, words, .. }) => {
            if attempt.failures < CONTENDED {
                return None;
            }
            (2, "WriteContended", false, format!("{what} has failed since {since}, because somebody else changes the object each time: {words}"))
        }
        Some(failed) if failed.unanswered && target.is_renewal() && !slow => return None,
        Some(failed) if failed.unanswered => {
            (1, "WriteSlow", false, format!("{what} has had no answer since {since}, and is tried again beside that; {}", slows(target)))
        }
        Some(failed) => (1, "WriteFailed", false, format!("{what} has failed since {since}, and is tried again: {}", failed.words)),
        None if slow && attempt.sent.is_none() => {
            (1, "WriteSlow", false, format!("{what} waits for its turn since {since}, because others come first or take long"))
        }
        None if *target == Target::List && attempt.braked && attempt.drained > now => (
            1,
            "WriteContended",
            false,
            format!(
                "{what} has been repeated since {since}, because one that it brings is not seen otherwise: it has too many labels that begin with {}",
                names::PREFIX
            ),
        ),
        None if slow => (1, "WriteSlow", false, format!("{what} has had no answer since {since}; {}", slows(target))),
        None if target.is_same_round(attempt.round, round)
            && attempt.braked
            && attempt.drained > now
            && match target {
                // Who does it is found out first.
                Target::Pod(..) => attempt.undone_by.is_some(),
                Target::Lease(_) | Target::Term | Target::Deployment => true,
                _ => false,
            } =>
        {
            let by = attempt.undone_by.as_deref().filter(|by| !by.is_empty()).map_or_else(String::new, |by| format!(" by {by}"));
            (
                2,
                "ChangedBack",
                true,
                format!("{what} has been done again and again since {since}, and is changed back each time{by}; it is done more seldom now"),
            )
        }
        None => return None,
    };
    let unready = stalled && *target == Target::Deployment;
    Some((rank, Obstacle { reason, message, stalled, unready, blocks: false }))
}

/// What may be the reason where there is no answer. Admission sees no reads.
fn slows(target: &Target) -> &'static str {
    if target.object().is_some() { "an admission webhook may be slow or gone" } else { "the API server may be busy, or its store slow" }
}

fn cut(words: &str) -> String {
    words.chars().take(WORDS).collect()
}

/// The write, as the subject of a sentence.
fn what(write: &Write) -> String {
    match write {
        Write::ListFenced => "listing the pods that may be leaders".to_owned(),
        Write::Prove { .. } | Write::ReadLock => "reading the Lease".to_owned(),
        Write::ApplyDeployment { name, .. } | Write::HoldReplicas { name, .. } => format!("applying Deployment {name}"),
        Write::CreateLease { name, .. } => format!("creating Lease {name}"),
        Write::UpdateLease { name, .. } => format!("writing Lease {name}"),
        Write::Status { names: Some(Named { pod: None, .. }), .. } => {
            format!("naming in the status the terms that the Lease may record (its annotation {})", names::ANNOTATION_RESERVED_TERM)
        }
        Write::Status { names: Some(_), .. } => "naming a term in the status".to_owned(),
        Write::Status { .. } => "writing the status".to_owned(),
        Write::Pod(write) => {
            let name = &write.name;
            match write.purpose {
                PodPurpose::Label => format!("giving pod {name} the leader's label"),
                PodPurpose::Unlabel => format!("taking the leader's label from pod {name}"),
                PodPurpose::Arm => format!("preparing pod {name} to lead"),
                PodPurpose::Seal => format!("taking from pod {name} what a leader or its successor bears"),
                PodPurpose::Keep => format!("raising the annotation {} of leader {name}", names::ANNOTATION_DELETION_COST),
                PodPurpose::Follow => format!("setting the label {} of follower {name}", write.key),
                PodPurpose::Forget => format!("taking the group's marks from pod {name}"),
            }
        }
    }
}
