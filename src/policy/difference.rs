//! In what two statuses of a group differ, as far as it is a reason to write one in place of the other.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::LeaderGroupStatus;

/// Whether two that differ do so in how many pods there are, and in words about that, alone.
pub(super) fn differ_in_numbers_only(one: &LeaderGroupStatus, other: &LeaderGroupStatus) -> bool {
    let without_words = |conditions: &[Condition]| conditions.iter().map(|it| Condition { message: String::new(), ..it.clone() }).collect();
    let counts = (other.replicas, other.ready_replicas, other.candidates);
    let as_other =
        LeaderGroupStatus { conditions: without_words(&one.conditions), replicas: counts.0, ready_replicas: counts.1, candidates: counts.2, ..one.clone() };
    as_other == LeaderGroupStatus { conditions: without_words(&other.conditions), ..other.clone() }
}

/// Whether two say the same, whenever each of it may have become so.
pub(super) fn differ_in_times_only(one: &LeaderGroupStatus, other: &LeaderGroupStatus) -> bool {
    timeless(one) == timeless(other)
}

fn timeless(status: &LeaderGroupStatus) -> LeaderGroupStatus {
    let mut status = status.clone();
    let conditions = status.conditions.iter_mut().map(|it| &mut it.last_transition_time);
    let transitions = status.last_transition.iter_mut().chain(&mut status.history).map(|it| &mut it.time);
    for time in conditions.chain(transitions).chain(status.leader.iter_mut().map(|it| &mut it.acquire_time)) {
        *time = Time(Timestamp::UNIX_EPOCH);
    }
    status
}
