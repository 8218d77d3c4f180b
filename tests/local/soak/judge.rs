//! The rules that hold at every version: one leader at a time, and terms that rise and are never given out twice.
//!
//! Pure: versions in, verdict out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::history::{Object, Version};

/// How many versions of a group before the one that broke a rule are told.
const BEFORE: usize = 12;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How often a pod began to lead, or to lead in another term.
    pub(crate) leaderships: usize,
    /// For how long a group had no leader between two of one life, as the watch saw it.
    pub(crate) gaps: Vec<Duration>,
    /// The rules that were broken, each with the versions that led there.
    pub(crate) broken: Vec<String>,
}

/// A group of one uid.
#[derive(Default)]
struct Life {
    last: Option<(i64, String)>,
    /// Which pod bore which term.
    bearers: BTreeMap<i64, String>,
}

#[derive(Default)]
struct Judge<'a> {
    verdict: Verdict,
    /// By the name of the group: its uid, empty while there is no such group.
    uids: BTreeMap<&'a str, &'a str>,
    lives: BTreeMap<(&'a str, &'a str), Life>,
    /// Who carries the label, by group and uid of the pod: the name and the term.
    leading: BTreeMap<&'a str, BTreeMap<&'a str, (&'a str, Option<i64>)>>,
    /// Since when nobody of the group does, and the uid that the group had then.
    vacant: BTreeMap<&'a str, (Duration, &'a str)>,
    recent: BTreeMap<&'a str, VecDeque<&'a Version>>,
}

/// Judges versions that are in the order of etcd.
pub(crate) fn judge(versions: &[Version]) -> Verdict {
    let mut judge = Judge::default();
    for version in versions {
        let recent = judge.recent.entry(version.group()).or_default();
        recent.push_back(version);
        if recent.len() > BEFORE {
            recent.pop_front();
        }
        match &version.object {
            Object::Group { .. } => {
                judge.uids.insert(&version.name, if version.gone { "" } else { &version.uid });
            }
            Object::Pod { group, leads, term, .. } => judge.pod(version, group, *leads && !version.gone, *term),
            Object::Lease { .. } => {}
        }
    }
    judge.verdict
}

impl<'a> Judge<'a> {
    fn pod(&mut self, version: &'a Version, group: &'a str, leads: bool, term: Option<i64>) {
        let life = self.uids.get(group).copied().unwrap_or_default();
        let leading = self.leading.entry(group).or_default();
        let (before, were) = (leading.get(version.uid.as_str()).copied(), leading.len());
        if leads {
            leading.insert(&version.uid, (&version.name, term));
        } else {
            leading.remove(version.uid.as_str());
        }
        let are = leading.len();
        if are > 1 && are > were {
            let names: Vec<_> = leading.values().map(|(name, _)| *name).collect();
            self.broken(group, version, &format!("{names:?} carry role=leader at once"));
        }
        if were > 0 && are == 0 {
            self.vacant.insert(group, (version.at, life));
        }
        if leads && before.is_none_or(|(_, before)| before != term) {
            if let Some((since, of)) = self.vacant.remove(group)
                && of == life
            {
                self.verdict.gaps.push(version.at.saturating_sub(since));
            }
            self.leadership(version, group, life, term);
        }
    }

    fn leadership(&mut self, version: &'a Version, group: &'a str, uid: &'a str, term: Option<i64>) {
        self.verdict.leaderships += 1;
        let Some(term) = term else {
            return self.broken(group, version, &format!("{} leads without a term", version.name));
        };
        // Of a group that is gone there are no further leaderships to compare with.
        if uid.is_empty() {
            return;
        }
        let life = self.lives.entry((group, uid)).or_default();
        let now = (term, version.uid.clone());
        let last = life.last.replace(now.clone());
        let bearer = life.bearers.entry(term).or_insert_with(|| version.uid.clone()).clone();
        if bearer != version.uid {
            self.broken(group, version, &format!("term {term} is borne by {} ({}) after the pod {bearer} bore it", version.name, version.uid));
        } else if let Some(last) = last.filter(|last| term <= last.0 && now != *last) {
            self.broken(group, version, &format!("{} leads in term {term} after a leadership of term {}", version.name, last.0));
        }
    }

    fn broken(&mut self, group: &str, version: &Version, rule: &str) {
        let before: String = self.recent.get(group).into_iter().flatten().flat_map(|version| ["\n    ".to_owned(), words(version)]).collect();
        let told = format!("{group}: {rule}, at version {}; its last versions:{before}", version.revision);
        self.verdict.broken.push(told);
    }
}

/// A version on one line.
pub(crate) fn words(version: &Version) -> String {
    let gone = if version.gone { " gone" } else { "" };
    let Version { revision, at, name, .. } = version;
    let what = match &version.object {
        Object::Pod { leads, ready, terminating, term, fences, .. } => {
            let flags = [(*leads, "LEADS"), (*ready, "ready"), (*terminating, "terminating")];
            let flags: Vec<_> = flags.into_iter().filter_map(|(holds, word)| holds.then_some(word)).collect();
            format!("pod {name} {} term {term:?} {}", flags.join(" "), fences.join(" "))
        }
        Object::Lease { holder, term } => format!("Lease {name} of {holder:?} term {term:?}"),
        Object::Group { leader, ready, .. } => format!("group {name} ({}) leader {leader:?} ready {ready}", version.uid),
    };
    format!("{revision} {:.3} s: {what}{gone}", at.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(revision: u64, name: &str, leads: bool, term: i64) -> Version {
        let object = Object::Pod { group: "web".into(), leads, ready: true, terminating: false, term: Some(term), fences: Vec::new() };
        Version { revision, at: Duration::from_secs(revision), name: name.into(), uid: name.into(), gone: false, object }
    }

    fn group(revision: u64, uid: &str) -> Version {
        let object = Object::Group { leader: None, ready: true, observed: true };
        Version { revision, at: Duration::from_secs(revision), name: "web".into(), uid: uid.into(), gone: false, object }
    }

    fn gone(version: Version) -> Version {
        Version { gone: true, ..version }
    }

    #[test]
    fn leaders_that_take_turns_in_rising_terms_break_nothing() {
        let versions = [group(1, "u"), pod(2, "a", true, 1), pod(3, "a", false, 1), pod(5, "b", true, 2), gone(pod(6, "b", true, 2)), pod(7, "a", true, 3)];
        let verdict = judge(&versions);
        assert_eq!((verdict.leaderships, verdict.gaps, verdict.broken), (3, vec![Duration::from_secs(2), Duration::from_secs(1)], vec![]));
    }

    #[test]
    fn two_that_carry_the_label_at_once_are_told_once() {
        let versions = [group(1, "u"), pod(2, "a", true, 1), pod(3, "b", true, 2), pod(4, "b", true, 2), pod(5, "a", false, 1)];
        let broken = judge(&versions).broken;
        assert!(broken.len() == 1 && broken[0].starts_with("web: [\"a\", \"b\"] carry role=leader at once, at version 3"), "{broken:?}");
    }

    #[test]
    fn a_term_that_comes_again_is_told_within_one_life_of_the_group_and_not_beyond() {
        let again = |uid| judge(&[group(1, "u"), pod(2, "a", true, 1), pod(3, "a", false, 1), gone(group(4, "u")), group(5, uid), pod(6, "b", true, 1)]).broken;
        assert!(again("u")[0].contains("term 1 is borne by b (b) after the pod a bore it"));
        assert_eq!(again("v"), [""; 0]);
        let falls = judge(&[group(1, "u"), pod(2, "a", true, 3), pod(3, "a", false, 3), pod(4, "b", true, 2)]).broken;
        assert!(falls[0].contains("b leads in term 2 after a leadership of term 3"), "{falls:?}");
    }
}
