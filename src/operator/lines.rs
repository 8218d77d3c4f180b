//! How many lines of the log groups may cause: whoever makes a group flap, or its trouble change, fills neither the log nor the place of
//! others in it. What is not said there stands in the group's status and its events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::allowance::{Allowance, Rate};
use crate::elector::clock::Instant;

const OF_A_GROUP: Rate = Rate(30, Duration::from_secs(10));
/// Two for each of a thousand groups whose leaders are lost at once.
const OF_A_NAMESPACE: Rate = Rate(2000, Duration::from_secs(1));
const OF_ALL: Rate = Rate(6000, Duration::from_millis(100));
/// Namespaces whose share is whole again are forgotten where there are more than so many.
const NAMESPACES: usize = 256;

/// One group's share.
#[derive(Debug, Default)]
pub(super) struct Share {
    left: Allowance,
    unsaid: u64,
}

/// What is left for all, and for each namespace.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    of_all: Allowance,
    of_namespaces: HashMap<Arc<str>, Allowance>,
}

impl Lines {
    /// Takes what one line needs, and gives how many of the group before it were not said; `None` where it is not said either.
    pub(super) fn take(&self, share: &mut Share, namespace: &Arc<str>, now: Instant) -> Option<u64> {
        let Left { of_all, of_namespaces } = &mut *self.0.lock().expect("nothing panics while it holds the lock");
        if of_namespaces.len() > NAMESPACES {
            of_namespaces.retain(|_, left| !left.is_whole(now));
        }
        let of_namespace = of_namespaces.get(namespace).copied().unwrap_or_default().after_another(OF_A_NAMESPACE, now);
        let (Some(left), Some(of_namespace), Some(all)) = (share.left.after_another(OF_A_GROUP, now), of_namespace, of_all.after_another(OF_ALL, now)) else {
            share.unsaid += 1;
            return None;
        };
        (share.left, *of_all) = (left, all);
        of_namespaces.insert(namespace.clone(), of_namespace);
        Some(std::mem::take(&mut share.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Instant {
        Instant(Duration::from_secs(1000 + second))
    }

    /// How many lines are said of so many groups of a namespace that have one hundred each.
    fn said(lines: &Lines, groups: &mut [Share], namespace: &str, now: Instant) -> usize {
        let namespace = namespace.into();
        groups.iter_mut().map(|share| (0..100).filter_map(|_| lines.take(share, &namespace, now)).count()).sum()
    }

    fn groups(count: usize) -> Vec<Share> {
        std::iter::repeat_with(Share::default).take(count).collect()
    }

    #[test]
    fn a_groups_lines_are_said_thirty_times_and_then_every_ten_seconds_with_a_count() {
        let (lines, mut group) = (Lines::default(), Share::default());
        assert_eq!(said(&lines, std::slice::from_mut(&mut group), "a", second(0)), 30);
        assert_eq!(lines.take(&mut group, &"a".into(), second(9)), None);
        assert_eq!(lines.take(&mut group, &"a".into(), second(10)), Some(71));
    }

    #[test]
    fn the_lines_of_all_groups_of_a_namespace_have_a_bound_and_take_no_other_namespaces() {
        let lines = Lines::default();
        let mut flapping = groups(3000);
        assert_eq!(said(&lines, &mut flapping, "flaps", second(0)), 2000);
        assert_eq!(said(&lines, &mut flapping, "flaps", second(60)), 60);
        assert_eq!(said(&lines, &mut groups(10), "other", second(60)), 300);
    }

    #[test]
    fn the_lines_of_all_namespaces_have_a_bound() {
        let lines = Lines::default();
        let all = |now| (0..400).map(|namespace| said(&lines, &mut groups(10), &format!("flaps-{namespace}"), now)).sum::<usize>();
        assert_eq!(all(second(0)), 6000);
        assert_eq!(all(second(60)), 600);
    }

    #[test]
    fn a_thousand_groups_that_lose_their_leaders_at_once_are_told_of() {
        let (lines, namespace) = (Lines::default(), "many".into());
        let lost_and_elected = |share: &mut Share| (0..2).all(|_| lines.take(share, &namespace, second(0)).is_some());
        assert!(groups(1000).iter_mut().all(lost_and_elected));
    }
}
