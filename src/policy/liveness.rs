//! Which nodes are lost, long before Kubernetes says so: judged by a connection to each, by its heartbeat, and by comparison, so
//! that our own trouble, or everybody's, moves nobody. No I/O, no clock.
//!
//! Silence makes a node suspect, never dead: moving the label away from a pod that only seems lost costs a needless move. Only a
//! node that has answered can fall silent; a refusal is an answer. Where several fall silent together, and they are more than one
//! in three of those watched, the disturbance may be nearer to us: then their heartbeats must agree.

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
/// For so long after a node has answered again the network is not taken to be sound: silence must then last longer to be one.
const UNSOUND: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(8);
/// Of three that are watched one may be silent with another, and is believed.
const MANY: usize = 3;

/// What the connection to a node shows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Line {
    /// It has never answered: nothing follows from its silence.
    #[default]
    Unanswered,
    /// It answers, as far as is known, and has done so since then.
    Answers { since: Instant },
    /// It was found not to answer, and is asked once more.
    Doubtful { since: Instant },
    /// Nor did it answer to that.
    Silent { since: Instant },
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
    /// When it was last asked for, with an answer.
    looked: Instant,
    period: Duration,
}

impl Line {
    /// The line after an answer, or after the lack of one.
    #[must_use]
    pub fn after(self, answered: bool, now: Instant) -> Self {
        match self {
            Line::Answers { .. } if answered => self,
            Line::Unanswered | Line::Doubtful { .. } | Line::Silent { .. } if answered => Line::Answers { since: now },
            Line::Answers { .. } => Line::Doubtful { since: now },
            Line::Doubtful { since } => Line::Silent { since },
            Line::Unanswered | Line::Silent { .. } => self,
        }
    }
}

impl Heartbeat {
    /// The heartbeat after another look at it, that began at `asked`. A kubelet renews its Lease four times in its duration.
    #[must_use]
    pub fn look(former: Option<&Self>, stamp: &str, duration_seconds: i64, asked: Instant) -> Self {
        let period = Duration::from_millis(u64::try_from(duration_seconds.clamp(4, 400)).unwrap_or(40) * 250);
        let (changed, steady) = match former {
            None => (asked, asked),
            Some(former) if *former.stamp == *stamp => (former.changed, former.steady),
            // One that is late breaks the row. What lies between two looks is not known better than that.
            Some(former) => (asked, if asked - former.changed > late(period) { asked } else { former.steady }),
        };
        Self { stamp: stamp.into(), changed, steady, looked: asked, period }
    }

    /// Not renewed for two and a half of its own periods.
    fn overdue(&self) -> bool {
        self.looked - self.changed > self.period * 5 / 2
    }

    /// Renewed without a gap since before `moment`.
    fn steady_since(&self, moment: Instant) -> bool {
        self.steady <= moment && self.looked - self.changed <= late(self.period)
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
    suspicion: Option<Suspicion>,
    /// When it last did not answer.
    troubled: Option<Instant>,
    /// How often it was suspected and came back, and when it did last.
    returns: u32,
    returned: Option<Instant>,
}

impl Judged {
    fn is_suspect(&self) -> bool {
        self.suspicion.is_some_and(Suspicion::is_believed)
    }

    /// For how long it has to answer before it is believed again.
    fn probation(&self) -> Duration {
        (0..self.returns.min(8)).fold(FIRST_RETURN, |pause, _| pause * 2).min(LONGEST_RETURN)
    }
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
            let judged = self.nodes.entry(name.clone()).or_default();
            judged.look(node, now);
        }
        let disturbed = self.disturbed(evidence, now);
        let unsound = self.unsound(evidence, now);
        for (name, node) in evidence {
            let Some(judged) = self.nodes.get(name).filter(|judged| !judged.is_suspect()) else { continue };
            let confirmed = overdue(name, evidence, &others);
            let suspicion = match node.line {
                Line::Silent { since } if asked.is_none_or(|asked| asked < since) || unsound && now - since < LONG => judged.suspicion,
                Line::Silent { .. } if !disturbed => Some(Suspicion::Silent),
                Line::Silent { .. } if !confirmed => Some(Suspicion::Doubted),
                Line::Silent { .. } | Line::Unanswered if confirmed => Some(Suspicion::Overdue),
                Line::Doubtful { .. } => judged.suspicion,
                _ => None,
            };
            if let Some(judged) = self.nodes.get_mut(name) {
                judged.suspicion = suspicion;
            }
        }
    }

    /// The nodes that something speaks against, believed or not.
    pub fn suspicions(&self) -> impl Iterator<Item = (&str, Suspicion)> {
        self.nodes.iter().filter_map(|(name, judged)| judged.suspicion.map(|suspicion| (&**name, suspicion)))
    }

    /// Whether some node did not answer and then did, of late: packets are lost, of whoever's.
    fn unsound(&self, evidence: &BTreeMap<Box<str>, Evidence>, now: Instant) -> bool {
        let back = |line: Line| matches!(line, Line::Answers { since } if now - since < UNSOUND);
        self.nodes.iter().any(|(name, judged)| judged.troubled.is_some() && evidence.get(name).is_some_and(|it| back(it.line)))
    }

    /// Whether more have fallen silent together than can be believed.
    fn disturbed(&self, evidence: &BTreeMap<Box<str>, Evidence>, now: Instant) -> bool {
        let unsuspected = || self.nodes.iter().filter(|(_, judged)| !judged.is_suspect());
        let troubled = unsuspected().filter(|(_, judged)| judged.troubled.is_some_and(|troubled| now - troubled <= TOGETHER)).count();
        let watched = unsuspected().filter(|(name, _)| evidence.get(*name).is_some_and(|it| it.line != Line::Unanswered)).count();
        troubled > 1 && troubled * MANY > watched
    }
}

impl Judged {
    /// Notes that it does not answer, or that it has answered for long enough.
    fn look(&mut self, node: &Evidence, now: Instant) {
        let beats_since = |moment: Instant| node.heartbeat.as_ref().is_some_and(|it| it.steady_since(moment));
        let back = |since: Instant| now - since >= self.probation();
        let returned = match node.line {
            Line::Doubtful { .. } | Line::Silent { .. } => {
                self.troubled = Some(now);
                false
            }
            // What answers and does not renew its heartbeat was suspected because of that.
            Line::Answers { since } => back(since),
            Line::Unanswered => beats_since(Instant(now.0.saturating_sub(self.probation()))),
        };
        if self.is_suspect() && returned {
            self.suspicion = None;
            self.returns = self.returns.saturating_add(1);
            self.returned = Some(now);
        } else if self.returned.is_some_and(|returned| now - returned > FORGIVEN) && !self.is_suspect() {
            (self.returns, self.returned) = (0, None);
        }
    }
}

/// Whether its heartbeat has stopped while another's went on without a gap: where all have, the API server was away.
fn overdue(name: &str, evidence: &BTreeMap<Box<str>, Evidence>, others: &[&Heartbeat]) -> bool {
    let Some(heartbeat) = evidence.get(name).and_then(|it| it.heartbeat.as_ref()).filter(|it| it.overdue()) else { return false };
    let watched = evidence.iter().filter(|(other, _)| ***other != *name).filter_map(|(_, it)| it.heartbeat.as_ref());
    watched.chain(others.iter().copied()).any(|other| other.steady_since(heartbeat.changed))
}
