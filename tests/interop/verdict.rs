//! Whose fault it is that two acted at once: pure, from the account, the Lease's versions and what the candidates suffered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::account::{Account, Overlap};
use super::record::Version;

/// What was done to a candidate, and when.
#[derive(Clone, Debug)]
pub(super) struct Suffered {
    pub(super) who: String,
    pub(super) what: String,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// Who is to blame for an overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// One of ours led on though its time was over.
    Ours(String),
    /// A client-go led on, after what it is known not to master.
    ClientGo(String),
    /// A client-go emptied the Lease of this one, which led rightly.
    Emptied(String),
    /// A client-go led on, and nothing had been done to it: the test knows too little.
    Nobody(String),
}

/// All that is known of an election.
pub(super) struct Evidence {
    pub(super) account: Account,
    /// When each began to lead, once per leadership.
    pub(super) began: BTreeMap<String, Vec<Duration>>,
    pub(super) versions: Vec<Version>,
    pub(super) suffered: Vec<Suffered>,
    /// For how long after its end a fault may show: until the lease of who suffered it is over, and what it tries then.
    pub(super) aftermath: Duration,
    /// Tells the names of ours from those of client-go.
    pub(super) is_ours: fn(&str) -> bool,
}

impl Evidence {
    /// Every overlap with its blame.
    pub(super) fn judged(&self) -> Vec<(Overlap, Blame)> {
        self.account.overlaps().into_iter().map(|overlap| (overlap.clone(), self.blame(&overlap))).collect()
    }

    fn blame(&self, overlap: &Overlap) -> Blame {
        let [one, other] = &overlap.who;
        let (one_began, other_began) = (self.began_before(one, overlap.from), self.began_before(other, overlap.from));
        // Whoever began first should have stopped before the other began.
        let (who, began) = if one_began <= other_began { (one, one_began) } else { (other, other_began) };
        if self.was_emptied_by_client_go(who, began, overlap.from) {
            Blame::Emptied(who.clone())
        } else if (self.is_ours)(who) {
            Blame::Ours(who.clone())
        } else if self.was_at_a_loss(who, overlap) {
            Blame::ClientGo(who.clone())
        } else {
            Blame::Nobody(who.clone())
        }
    }

    fn began_before(&self, who: &str, moment: Duration) -> Duration {
        self.began.get(who).and_then(|began| began.iter().rev().find(|began| **began <= moment)).copied().unwrap_or_default()
    }

    /// Whether a client-go, which never had the right, took the Lease from its holder by emptying it. One that gives its own
    /// away and leads on is no such case: that is W1.
    fn was_emptied_by_client_go(&self, who: &str, began: Duration, overlapped: Duration) -> bool {
        let emptied = |pair: &[Version]| pair[0].holder == who && pair[1].holder.is_empty() && pair[1].writer.starts_with("client-go");
        let asked_to_end = |fault: &Suffered| fault.who == who && fault.from <= overlapped && fault.what.contains("asked to end");
        let gave_away = !(self.is_ours)(who) && self.suffered.iter().any(asked_to_end);
        // A version is dated when the test saw it.
        let when = |pair: &[Version]| pair[1].at >= began && pair[1].at <= overlapped + Duration::from_secs(5);
        !gave_away && self.versions.windows(2).any(|pair| emptied(pair) && when(pair))
    }

    fn was_at_a_loss(&self, who: &str, overlap: &Overlap) -> bool {
        self.suffered.iter().any(|fault| fault.who == who && fault.from <= overlap.to && overlap.from <= fault.to + self.aftermath)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut events: Vec<(Duration, String)> = Vec::new();
        events.extend(self.suffered.iter().map(|fault| (fault.from, format!("{}: {}, until {:?}", fault.who, fault.what, fault.to))));
        events.extend(self.began.iter().flat_map(|(who, began)| began.iter().map(move |at| (*at, format!("{who}: leads")))));
        events.extend(self.judged().into_iter().map(|(overlap, blame)| (overlap.from, format!("{overlap:?}: {blame:?}"))));
        for pair in self.versions.windows(2).filter(|pair| pair[0].holder != pair[1].holder) {
            events.push((pair[1].at, format!("the Lease: from {:?} to {:?}, by {}", pair[0].holder, pair[1].holder, pair[1].writer)));
        }
        events.sort();
        events.iter().try_for_each(|(at, what)| writeln!(f, "{at:?}  {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Interval;
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One of these led from 0 s to 20 s, and the other from 15 s on.
    fn evidence(first: &str, second: &str) -> Evidence {
        let mut account = Account::default();
        account.add(second, vec![Interval { from: s(15), to: s(30) }]);
        account.add(first, vec![Interval { from: s(0), to: s(5) }, Interval { from: s(16), to: s(20) }]);
        let began = BTreeMap::from([(first.to_owned(), vec![s(0)]), (second.to_owned(), vec![s(15)])]);
        Evidence { account, began, versions: Vec::new(), suffered: Vec::new(), aftermath: s(8), is_ours: |who| who.starts_with("ours") }
    }

    fn version(at: u64, holder: &str, writer: &str) -> Version {
        let (holder, writer) = (holder.to_owned(), writer.to_owned());
        Version { resource_version: at, at: s(at), holder, transitions: 0, writer, annotation: None }
    }

    fn suffered(who: &str, what: &str, from: u64, to: u64) -> Suffered {
        Suffered { who: who.to_owned(), what: what.to_owned(), from: s(from), to: s(to) }
    }

    fn blame(evidence: &Evidence) -> Blame {
        let judged = evidence.judged();
        assert_eq!(judged.len(), 1, "{judged:?}");
        judged[0].1.clone()
    }

    #[test]
    fn whoever_began_first_overstayed_even_if_it_was_silent_meanwhile() {
        let mut evidence = evidence("ours-1", "theirs-1");
        evidence.suffered.push(suffered("theirs-1", "paused", 5, 16));
        assert_eq!(blame(&evidence), Blame::Ours("ours-1".to_owned()));
    }

    #[test]
    fn a_client_go_overstays_after_a_fault_of_its_own_and_not_after_one_long_ago() {
        let mut evidence = evidence("theirs-1", "ours-1");
        evidence.suffered.push(suffered("theirs-1", "paused", 1, 2));
        assert_eq!(blame(&evidence), Blame::Nobody("theirs-1".to_owned()));
        evidence.suffered.push(suffered("theirs-1", "paused", 5, 16));
        assert_eq!(blame(&evidence), Blame::ClientGo("theirs-1".to_owned()));
    }

    #[test]
    fn whoever_leads_rightly_is_not_to_blame_when_client_go_empties_its_lease() {
        let mut evidence = evidence("ours-1", "ours-2");
        evidence.versions = vec![version(1, "ours-1", "leadergroup"), version(14, "", "leadergroup")];
        assert_eq!(blame(&evidence), Blame::Ours("ours-1".to_owned()));
        evidence.versions[1].writer = "client-go-candidate".to_owned();
        assert_eq!(blame(&evidence), Blame::Emptied("ours-1".to_owned()));
    }

    #[test]
    fn a_client_go_that_gives_its_lease_away_and_leads_on_has_no_excuse_but_its_own() {
        let mut evidence = evidence("theirs-1", "ours-1");
        evidence.versions = vec![version(1, "theirs-1", "client-go-candidate"), version(14, "", "client-go-candidate")];
        evidence.suffered.push(suffered("theirs-1", "asked to end", 13, 16));
        assert_eq!(blame(&evidence), Blame::ClientGo("theirs-1".to_owned()));
    }

    #[test]
    fn what_a_client_go_is_asked_later_explains_nothing() {
        let mut evidence = evidence("theirs-1", "ours-1");
        evidence.versions = vec![version(1, "theirs-1", "client-go-candidate"), version(14, "", "client-go-candidate")];
        evidence.suffered.push(suffered("theirs-1", "asked to end", 25, 26));
        assert_eq!(blame(&evidence), Blame::Emptied("theirs-1".to_owned()));
    }
}
