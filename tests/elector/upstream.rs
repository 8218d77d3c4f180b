//! client-go's unit cases of `leaderelection_test.go` (v0.37) under their names, with what they assert: the result, every
//! request in order, the transitions, the leader that is reported, the events.
//!
//! `TestTryCoordinatedRenew` and `leasecandidate_test.go` have no counterpart: the coordinated mode is not offered.

use std::time::Duration;

use leadergroup::elector::{Config, Elector, Record};

use super::memory::{Network, Object};
use super::stage::{Candidate, record};
use super::time::Time;

/// L = 10 s, as in the cases.
fn config() -> Config {
    Config { lease_duration: Duration::from_secs(10), renew_deadline: Duration::from_secs(5), ..Config::default() }
}

/// "baz", under test.
struct Case {
    object: Object,
    candidate: Candidate,
    elector: Elector,
}

impl Case {
    fn new(record: Option<Record>) -> Self {
        let time = Time::start();
        let object = record.map_or_else(|| Object::new(&time), |record| Object::holding(&time, record));
        let candidate = Candidate::new(&time, &object, "baz");
        let elector = candidate.elector(config());
        Self { object, candidate, elector }
    }

    /// One try, and the requests that it makes.
    async fn tries(&mut self, calls: &[&str]) -> bool {
        self.candidate.client.take_calls();
        let leads = self.elector.attempt().await;
        assert_eq!(self.candidate.client.calls(), calls);
        assert_eq!(self.elector.leadership().is_leader(), leads);
        leads
    }

    fn ends_with(&self, holder: &str, transitions: i64) {
        let record = self.object.record();
        assert_eq!((record.holder.as_str(), record.transitions), (holder, transitions));
        assert_eq!(self.elector.leadership().leader().unwrap_or_default(), holder, "the leader that is reported");
        assert_eq!(self.object.events(), Vec::<String>::new(), "a bare try records no event");
    }
}

mod test_try_acquire_or_renew_leases {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn acquire_from_no_object() {
        let mut case = Case::new(None);
        assert!(case.tries(&["get", "create"]).await);
        case.ends_with("baz", 0);
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_from_object_without_annotations() {
        let mut case = Case::new(Some(Record::default()));
        assert!(case.tries(&["get", "update"]).await);
        case.ends_with("baz", 1);
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_from_led_object_with_the_lease_duration_seconds() {
        let mut case = Case::new(Some(record("bing", 3, 0)));
        assert!(!case.tries(&["get"]).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(case.tries(&["get", "update"]).await, "the record's 3 s count, not the candidate's own 10 s");
        case.ends_with("baz", 1);
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_from_unled_object() {
        let mut case = Case::new(Some(Record { lease_duration_seconds: 1, ..Record::default() }));
        assert!(case.tries(&["get", "update"]).await);
        case.ends_with("baz", 1);
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_from_led_unacked_object() {
        let mut case = Case::new(Some(record("bing", 10, 0)));
        assert!(!case.tries(&["get"]).await);
        tokio::time::sleep(Duration::from_secs(3_600_000)).await;
        assert!(case.tries(&["get", "update"]).await);
        case.ends_with("baz", 1);
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_from_empty_led_acked_object() {
        let mut case = Case::new(Some(record("bing", 10, 0)));
        assert!(!case.tries(&["get"]).await);
        case.object.write("bing", Some(record("", 10, 0)));
        assert!(case.tries(&["get", "update"]).await, "nothing is waited for where nobody holds it");
        case.ends_with("baz", 1);
    }

    #[tokio::test(start_paused = true)]
    async fn dont_acquire_from_led_acked_object() {
        let mut case = Case::new(Some(record("bing", 10, 0)));
        assert!(!case.tries(&["get"]).await);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!case.tries(&["get"]).await);
        case.ends_with("bing", 0);
    }

    /// As upstream writes it the record has no duration. Upstream takes it for valid at the moment when it is seen, and for
    /// expired at the next; here it has expired, which is what the API server's refusal of 0 means.
    #[tokio::test(start_paused = true)]
    async fn dont_acquire_from_led_acked_object_without_a_duration() {
        let mut case = Case::new(Some(record("bing", 0, 0)));
        assert!(case.tries(&["get", "update"]).await);
        case.ends_with("baz", 1);
    }

    /// Upstream keeps the transitions at 0: a process that finds its own name takes the leadership of its predecessor for
    /// its own. Here it is a new one, for the predecessor may still be at work under the old number.
    #[tokio::test(start_paused = true)]
    async fn renew_already_acquired_object() {
        let mut case = Case::new(Some(record("baz", 10, 0)));
        assert!(case.tries(&["get", "update"]).await);
        case.ends_with("baz", 1);
    }

    /// What upstream means by the case: the fast path fails, the slow path renews, nothing changes hands.
    #[tokio::test(start_paused = true)]
    async fn renew_already_acquired_object_that_was_acquired_here() {
        let mut case = Case::new(None);
        assert!(case.tries(&["get", "create"]).await);
        let acquired = case.object.record().acquire_time;
        tokio::time::sleep(Duration::from_secs(2)).await;
        case.object.write("kubectl", Some(case.object.record()));
        assert!(case.tries(&["update", "get", "update"]).await);
        case.ends_with("baz", 0);
        assert_eq!(case.object.record().acquire_time, acquired);
        assert!(case.object.record().renew_time > acquired);
        assert_eq!(case.elector.leadership().slow_paths(), 1);
    }
}

mod test_release_lease_leases {
    use super::*;

    /// Upstream counts GET, UPDATE, GET, UPDATE: its renewal reads first.
    #[tokio::test(start_paused = true)]
    async fn release_acquired_lock_from_no_object() {
        let mut case = Case::new(None);
        assert!(case.tries(&["get", "create"]).await);
        assert_eq!(case.elector.leadership().leader().as_deref(), Some("baz"));
        case.candidate.client.take_calls();
        assert!(case.elector.release().await);
        assert_eq!(case.candidate.client.calls(), ["get", "update"]);
        case.ends_with("", 0);
        assert!(!case.elector.leadership().is_leader());
        let released = case.object.record();
        assert_eq!(released.lease_duration_seconds, 1, "the API takes nothing below");
        assert_eq!(released.acquire_time, released.renew_time);
    }
}

#[tokio::test(start_paused = true)]
async fn test_release_method_calls_get() {
    let mut case = Case::new(None);
    assert!(case.tries(&["get", "create"]).await);
    case.candidate.client.take_calls();
    case.elector.release().await;
    assert_eq!(case.candidate.client.calls()[0], "get");
}

/// Upstream reads even where there is nothing to give back.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_never_asked_for_the_lock_releases_it_without_a_request() {
    let mut case = Case::new(Some(record("bing", 10, 0)));
    assert!(!case.tries(&["get"]).await);
    case.candidate.client.take_calls();
    assert!(case.elector.release().await);
    assert_eq!(case.candidate.client.calls(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn test_release_retries_on_conflict() {
    let mut case = Case::new(None);
    assert!(case.tries(&["get", "create"]).await);
    case.candidate.client.take_calls();
    case.candidate.client.fault(1, Network::Refuse);
    assert!(case.elector.release().await);
    assert_eq!(case.candidate.client.calls(), ["get", "update", "get", "update"]);
    case.ends_with("", 0);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_meets_conflicts_only_is_not_reported_as_done() {
    let mut case = Case::new(None);
    assert!(case.tries(&["get", "create"]).await);
    let started = case.candidate.client.calls().len();
    (0..10_000).for_each(|nth| case.candidate.client.fault(started + 2 * nth + 1, Network::Refuse));
    assert!(!case.elector.release().await, "{} still holds it", case.object.record().holder);
}

#[test]
fn test_leader_election_config_validation() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _inside = runtime.enter();
    let time = Time::start();
    let object = Object::new(&time);
    let valid = Config {
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_secs(1),
        release_on_cancel: true,
        name: String::new(),
    };
    assert!(Elector::new(std::sync::Arc::new(object.client("baz")), valid.clone()).is_ok());
    let error = Elector::new(std::sync::Arc::new(object.client("")), valid).err().unwrap();
    assert_eq!(error.to_string(), "Lock identity is empty");
}
