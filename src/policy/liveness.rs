//! Which nodes are lost, long before Kubernetes says so: judged by a connection to each, by its heartbeat, and by comparison, so
//! that our own trouble, or everybody's, moves nobody. No I/O, no clock.
//!
//! Silence makes a node suspect, never dead: moving the label away from a pod that only seems lost costs a needless move. Only a
//! node that a connection was made to can fall silent; a refusal by one is an answer, and by one that never took a connection it
//! may be a firewall's. Where several fall silent together, and they are more than one in three of those watched, the disturbance may
//! be nearer to us: then their heartbeats must agree, or the others answer again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::observation::Suspicion;
use crate::elector::clock::Instant;

/// A silence within so long of this moment is counted to the same disturbance.
const TOGETHER: Duration = Duration::from_secs(10);
/// A suspect must have answered for so long before it is believed again; twice as long after each further time.
const FIRST_RETURN: Duration = Duration::from_secs(10);
const LONGEST_RETURN: Duration = Duration::from_secs(320);
/// After so long without suspicion a node's former ones are forgotten.
const FORGIVEN: Duration = Duration::from_secs(1800);
/// For so long after a silence that was none the network is not taken to be sound: silence must then last longer to be one.
const UNSOUND: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(8);
/// A node that is silent is believed to be there, and only its port to be out of reach, where its heartbeat has gone on for so long.
const BLOCKED: Duration = Duration::from_secs(60);
/// A node with so many of them within so long tells of nobody but itself.
const RESTLESS: usize = 3;
const RESTLESS_FOR: Duration = Duration::from_secs(300);
/// Of three that are watched one may be silent with another, and is believed.
const MANY: usize = 3;

/// What the connection to a node shows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Line {
    /// No connection was ever made, or none can be made from here: nothing follows from its silence.
    #[default]
    Unreached,
    /// It answers, as far as is known, and has done so since then. `refuses`: by refusing connections, as it did not before.
    Answers { since: Instant, refuses: bool },
    /// It was found not to answer, and is asked once more. `refused`: what it last answered was a refusal, which a firewall that
    /// limits them may just have left out.
    Doubtful { since: Instant, refused: bool },
    /// Nor did it answer to that.
    Silent { since: Instant, refused: bool },
}

/// What came of a connection, or of the try to make one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    Connected,
    Refused,
    Silence,
    /// Nothing follows about the node: the trouble is ours.
    Nothing,
}

/// A node's heartbeat, as it was seen to be renewed: its stamps are compared with each other, and with no clock of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// The stamp as it was read.
    stamp: Box<str>,
    /// When the stamp was first seen.
    changed: Instant,
    /// Since when no renewal was missed.
    steady: Instant,
    /// After this it was renewed for certain: a stamp that was seen then has given way to another. Of one stamp alone, or of the
    /// last one of a node that is gone, that is not known.
    renewed_after: Option<Instant>,
    /// When it was last asked for, with an answer.
    looked: Instant,
    period: Duration,
}

impl Line {
    /// The line after this was heard.
    #[must_use]
    pub fn after(self, heard: Heard, now: Instant) -> Self {
        match (self, heard) {
            (_, Heard::Nothing) | (Line::Unreached, Heard::Refused | Heard::Silence) => Line::Unreached,
            (Line::Answers { since, .. }, Heard::Connected | Heard::Refused) => Line::Answers { since, refuses: heard == Heard::Refused },
            (_, Heard::Connected | Heard::Refused) => Line::Answers { since: now, refuses: heard == Heard::Refused },
            (Line::Answers { refuses, .. }, Heard::Silence) => Line::Doubtful { since: now, refused: refuses },
            (Line::Doubtful { since, refused }, Heard::Silence) => Line::Silent { since, refused },
            (Line::Silent { .. }, Heard::Silence) => self,
        }
    }

    /// Whether it does not answer now.
    pub fn is_silent(self) -> bool {
        matches!(self, Line::Doubtful { .. } | Line::Silent { .. })
    }

    pub fn answers(self) -> bool {
        matches!(self, Line::Answers { .. })
    }
}

impl Heartbeat {
    /// The heartbeat after another look at it, that began at `asked`. A kubelet renews its Lease four times in its duration; that is
    /// not believed to be more often than by default, because others than the kubelet may write it.
    #[must_use]
    pub fn look(former: Option<&Self>, stamp: &str, duration_seconds: i64, asked: Instant) -> Self {
        let period = Duration::from_millis(u64::try_from(duration_seconds.clamp(40, 400)).unwrap_or(40) * 250);
        let (changed, steady, renewed_after) = match former {
            None => (asked, asked, None),
            // Of what was renewed while nobody looked it is not known how long ago that was.
            Some(former) if *former.stamp != *stamp && asked - former.looked > late(period) => (asked, asked, None),
            Some(former) if *former.stamp == *stamp => (former.changed, former.steady, former.renewed_after),
            // One that is late breaks the row. What lies between two looks is not known better than that.
            Some(former) => (asked, if asked - former.changed > late(period) { asked } else { former.steady }, Some(former.changed)),
        };
        Self { stamp: stamp.into(), changed, steady, renewed_after, looked: asked, period }
    }

    /// Not renewed for two and a half of its own periods.
    fn overdue(&self) -> bool {
        self.looked - self.changed > self.patience()
    }

    fn patience(&self) -> Duration {
        self.period * 5 / 2
    }

    /// Renewed after `moment` for certain, and not overdue by now: also where it can't be looked at any more.
    fn goes_on(&self, moment: Instant, now: Instant) -> bool {
        self.renewed_after.is_some_and(|renewed| renewed >= moment) && now - self.changed <= self.patience()
    }

    /// Renewed without a gap for so long before `now`.
    fn steady_for(&self, long: Duration, now: Instant) -> bool {
        now - self.steady >= long && self.looked - self.changed <= late(self.period)
    }
}

fn late(period: Duration) -> Duration {
    period * 7 / 4
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub line: Line,
    pub heartbeat: Option<Heartbeat>,
}

/// All that was judged of the nodes so far.
#[derive(Debug, Default)]
pub struct Liveness {
    nodes: BTreeMap<Box<str>, Judged>,
}

/// What is remembered of one node.
#[derive(Clone, Debug, Default)]
struct Judged {
    line: Line,
    suspicion: Option<Suspicion>,
    /// Since when something speaks against it.
    since: Option<Instant>,
    /// When it last did not answer, and since when that was so.
    troubled: Option<Instant>,
    trouble_began: Option<Instant>,
    /// Its heartbeat has gone on all the while: only its port cannot be reached, until it is.
    blocked: bool,
    /// Its last silences that were none: when each was found to be none.
    flickers: [Option<Instant>; RESTLESS],
    /// How often it was suspected and came back, and when it did last.
    returns: u32,
    returned: Option<Instant>,
}

impl Liveness {
    /// Judges by what is known now. `others`: heartbeats of nodes that are not watched. `asked`: when something was last asked of the
    /// API server that it has answered; a silence that began later is not judged yet.
    pub fn judge<'a>(
        &mut self,
        evidence: &BTreeMap<Box<str>, Evidence>,
        others: impl Iterator<Item = (&'a str, &'a Heartbeat)>,
        asked: Option<Instant>,
        now: Instant,
    ) {
        let others: Vec<_> = others.filter(|(name, _)| !evidence.contains_key(*name)).map(|(_, heartbeat)| heartbeat).collect();
        self.nodes.retain(|name, _| evidence.contains_key(name));
        for (name, node) in evidence {
            self.nodes.entry(name.clone()).or_default().look(node, now);
        }
        let disturbed = self.disturbed(now);
        let unsound = self.nodes.values().any(|judged| judged.is_unsound(now) && !judged.is_restless(now));
        let with = |other: &Judged, doubted: Instant| {
            other.troubled.is_some_and(|troubled| troubled + TOGETHER >= doubted) && other.trouble_began.is_some_and(|began| began <= doubted + TOGETHER)
        };
        let calmed = |doubted: Instant| self.nodes.values().any(|other| other.line.answers() && with(other, doubted));
        let mut verdicts = Vec::new();
        for (name, node) in evidence {
            let Some(judged) = self.nodes.get(name).filter(|judged| !judged.is_suspect()) else { continue };
            let confirmed = overdue(name, evidence, &others);
            let brief = |since: Instant, refused: bool| (refused || unsound || judged.is_unsound(now)) && now - since < LONG;
            // What was doubted is so until something agrees, or until another that was silent with it answers.
            let alone = !disturbed && judged.since.is_none_or(calmed);
            let suspicion = match judged.line {
                Line::Silent { since, refused } if asked.is_none_or(|asked| asked < since) || brief(since, refused) => judged.suspicion,
                Line::Silent { .. } if alone => Some(Suspicion::Silent),
                Line::Silent { .. } if !confirmed => Some(Suspicion::Doubted),
                Line::Silent { .. } | Line::Unreached if confirmed => Some(Suspicion::Overdue),
                // That it cannot be reached from here does not speak for it.
                Line::Unreached if !judged.lives(node, now) => judged.suspicion,
                Line::Doubtful { .. } => judged.suspicion,
                _ => None,
            };
            verdicts.push((name, suspicion));
        }
        for (name, suspicion) in verdicts {
            let Some(judged) = self.nodes.get_mut(name) else { continue };
            judged.suspicion = suspicion;
            judged.since = judged.since.or(Some(now)).filter(|_| suspicion.is_some());
        }
    }

    /// The nodes that something speaks against, believed or not, and whether each answers again by now.
    pub fn suspicions(&self) -> impl Iterator<Item = (&str, Suspicion, bool)> {
        self.nodes.iter().filter_map(|(name, judged)| judged.suspicion.map(|suspicion| (&**name, suspicion, judged.line.answers())))
    }

    /// Whether more have fallen silent together than can be believed.
    fn disturbed(&self, now: Instant) -> bool {
        let counted = || self.nodes.values().filter(|judged| !judged.is_suspect() && judged.line != Line::Unreached && !judged.is_restless(now));
        let troubled = counted().filter(|judged| judged.troubled.is_some_and(|troubled| now - troubled <= TOGETHER)).count();
        troubled > 1 && troubled * MANY > counted().count()
    }
}

impl Judged {
    fn is_suspect(&self) -> bool {
        self.suspicion.is_some_and(Suspicion::is_believed)
    }

    /// Whether its heartbeat has gone on since something spoke against it.
    fn lives(&self, node: &Evidence, now: Instant) -> bool {
        self.since.is_some_and(|since| node.heartbeat.as_ref().is_some_and(|it| it.goes_on(since, now)))
    }

    /// For how long it has to answer before it is believed again.
    fn probation(&self) -> Duration {
        (0..self.returns.min(8)).fold(FIRST_RETURN, |pause, _| pause * 2).min(LONGEST_RETURN)
    }

    /// Whether it did not answer and then did, of late: packets are lost, of whoever's.
    fn is_unsound(&self, now: Instant) -> bool {
        self.flickers[0].is_some_and(|last| now - last < UNSOUND)
    }

    /// Whether it does so again and again: then others are not judged by it.
    fn is_restless(&self, now: Instant) -> bool {
        self.flickers.iter().all(|flicker| flicker.is_some_and(|flicker| now - flicker < RESTLESS_FOR))
    }

    /// Notes that it does not answer, or that it has answered for long enough.
    fn look(&mut self, node: &Evidence, now: Instant) {
        let steady_for = |long: Duration| node.heartbeat.as_ref().is_some_and(|it| it.steady_for(long, now));
        // What was renewed before the silence began says nothing of it.
        let goes_on = |moment: Instant| node.heartbeat.as_ref().is_some_and(|it| it.goes_on(moment, now));
        let behind = matches!(node.line, Line::Silent { since, .. } if now - since >= BLOCKED && goes_on(since) && steady_for(BLOCKED / 2));
        self.blocked |= self.suspicion.is_some() && behind;
        self.blocked &= !node.line.answers();
        let before = std::mem::replace(&mut self.line, if self.blocked { Line::Unreached } else { node.line });
        // Also where it has gone by between two looks.
        let is_anew = |since: Instant| !matches!(before, Line::Answers { since: known, .. } if known == since);
        if let Line::Answers { since, .. } = node.line
            && (before != Line::Unreached || self.troubled.is_some_and(|troubled| now - troubled < UNSOUND))
            && is_anew(since)
            && !self.is_suspect()
        {
            self.flickers.rotate_right(1);
            self.flickers[0] = Some(now);
        }
        let returned = match self.line {
            Line::Doubtful { .. } | Line::Silent { .. } => {
                if self.troubled.is_none_or(|troubled| now - troubled > TOGETHER) || before.answers() {
                    self.trouble_began = Some(now);
                }
                self.troubled = Some(now);
                false
            }
            // What answers and does not renew its heartbeat was suspected because of that.
            Line::Answers { since, .. } => now - since >= self.probation(),
            Line::Unreached => self.lives(node, now) && steady_for(self.probation()),
        };
        if self.is_suspect() && returned {
            (self.suspicion, self.since) = (None, None);
            self.returns = self.returns.saturating_add(1);
            self.returned = Some(now);
        } else if self.returned.is_some_and(|returned| now - returned > FORGIVEN) && !self.is_suspect() {
            (self.returns, self.returned) = (0, None);
        }
    }
}

/// Whether its heartbeat has stopped while another's went on, for so long as makes it overdue: where all have, the API server was away.
fn overdue(name: &str, evidence: &BTreeMap<Box<str>, Evidence>, others: &[&Heartbeat]) -> bool {
    let Some(heartbeat) = evidence.get(name).and_then(|it| it.heartbeat.as_ref()).filter(|it| it.overdue()) else { return false };
    let watched = evidence.iter().filter(|(other, _)| ***other != *name).filter_map(|(_, it)| it.heartbeat.as_ref());
    watched.chain(others.iter().copied()).any(|other| other.steady_for(heartbeat.patience(), heartbeat.looked))
}
