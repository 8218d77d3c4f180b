//! client-go v0.24's cases of its `MultiLock` under their names, each for endpointsleases and configmapsleases.
//!
//! An update costs one request less than upstream's five: the second lock is written as it was seen, not as it is by then.

use std::sync::Arc;
use std::time::Duration;

use leadergroup::elector::{self, Config, Elector, LEADER_ANNOTATION, LockKind, MultiLock, Record, UNKNOWN_LEADER};
use serde_json::{Map, Value, json};

use super::api::{Api, options};
use super::memory::{Network, Object};
use super::stage::{Candidate, Work, pass, record};
use super::time::{TestClock, Time};

const KINDS: [(LockKind, &str, &str); 2] = [(LockKind::EndpointsLeases, "Endpoints", "endpoints"), (LockKind::ConfigMapsLeases, "ConfigMap", "configmaps")];

fn config() -> Config {
    Config { lease_duration: Duration::from_secs(10), renew_deadline: Duration::from_secs(5), ..Config::default() }
}

/// "baz", under test, and both objects.
struct Case {
    api: Api,
    plural: &'static str,
    elector: Elector,
}

impl Case {
    fn new((kind, name, plural): (LockKind, &str, &'static str), primary: Option<&Record>, secondary: Option<&Record>) -> Self {
        let api = Api::default();
        if let Some(record) = primary {
            let annotations = json!({ LEADER_ANNOTATION: record.to_annotation(None).unwrap() });
            api.put(plural, json!({ "apiVersion": "v1", "kind": name, "metadata": { "name": "bar", "namespace": "foo", "annotations": annotations } }));
        }
        if let Some(record) = secondary {
            let mut spec = Map::new();
            record.write_lease_spec(&mut spec);
            api.put(
                "leases",
                json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "bar", "namespace": "foo" }, "spec": spec }),
            );
        }
        let lock = elector::lock(kind, &api.client(), &options("baz"));
        let elector = Elector::with_clock(lock, config(), TestClock::new(&Time::start())).unwrap();
        Self { api, plural, elector }
    }

    /// One try and its requests, where `1` stands for the first lock and `2` for the second.
    async fn tries(&mut self, calls: &[&str]) -> bool {
        self.api.take_calls();
        let leads = self.elector.attempt().await;
        let expected: Vec<_> = calls.iter().map(|call| call.replace('1', self.plural).replace('2', "leases")).collect();
        assert_eq!(self.api.take_calls(), expected);
        leads
    }

    fn reports(&self, holder: &str) {
        assert_eq!(self.elector.leadership().leader().as_deref(), Some(holder));
    }

    fn primary(&self) -> Record {
        let object = self.api.object(self.plural).unwrap();
        Record::from_annotation(object["metadata"]["annotations"][LEADER_ANNOTATION].as_str().unwrap()).unwrap()
    }

    fn secondary(&self) -> Record {
        Record::from_lease_spec(self.api.object("leases").as_ref().map(|lease| &lease["spec"])).unwrap()
    }

    fn is_led_by_baz(&self, transitions: i64) {
        for record in [self.primary(), self.secondary()] {
            assert_eq!((record.holder.as_str(), record.transitions), ("baz", transitions));
        }
        self.reports("baz");
    }
}

const ACQUIRES: [&str; 4] = ["get 1", "get 2", "update 1", "update 2"];

#[tokio::test(start_paused = true)]
async fn acquire_from_no_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, None, None);
        assert!(case.tries(&["get 1", "create 1", "create 2"]).await);
        case.is_led_by_baz(0);
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_from_unled_old_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&Record::default()), None);
        assert!(case.tries(&["get 1", "get 2", "update 1", "create 2"]).await);
        case.is_led_by_baz(1);
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_from_unled_transition_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&Record::default()), Some(&Record::default()));
        assert!(case.tries(&ACQUIRES).await);
        case.is_led_by_baz(1);
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_from_led_unack_old_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&record("bing", 10, 0)), None);
        assert!(!case.tries(&["get 1", "get 2"]).await);
        pass(10.0).await;
        assert!(case.tries(&["get 1", "get 2", "update 1", "create 2"]).await);
        case.is_led_by_baz(1);
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_from_led_unack_transition_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&record("bing", 10, 0)), Some(&record("bing", 10, 0)));
        assert!(!case.tries(&["get 1", "get 2"]).await);
        pass(10.0).await;
        assert!(case.tries(&ACQUIRES).await);
        case.is_led_by_baz(1);
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_from_conflict_led_ack_transition_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&record("bing", 10, 0)), Some(&record("baz", 10, 0)));
        assert!(!case.tries(&["get 1", "get 2"]).await);
        case.reports(UNKNOWN_LEADER);
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_from_led_unack_unknown_object() {
    for kind in KINDS {
        let unknown = record(UNKNOWN_LEADER, 10, 0);
        let mut case = Case::new(kind, Some(&unknown), Some(&unknown));
        assert!(!case.tries(&["get 1", "get 2"]).await);
        pass(10.0).await;
        assert!(case.tries(&ACQUIRES).await);
        case.is_led_by_baz(1);
    }
}

#[tokio::test(start_paused = true)]
async fn dont_acquire_from_led_ack_old_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&record("bing", 10, 0)), None);
        assert!(!case.tries(&["get 1", "get 2"]).await);
        pass(9.0).await;
        assert!(!case.tries(&["get 1", "get 2"]).await);
        case.reports("bing");
    }
}

#[tokio::test(start_paused = true)]
async fn dont_acquire_from_led_acked_new_object_observe_new_record() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&record("baz", 10, 0)), Some(&record("bing", 10, 0)));
        assert!(!case.tries(&["get 1", "get 2"]).await);
        case.reports(UNKNOWN_LEADER);
    }
}

#[tokio::test(start_paused = true)]
async fn dont_acquire_from_led_acked_new_object_observe_transition_record() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&record("bing", 10, 0)), Some(&record("bing", 10, 0)));
        assert!(!case.tries(&["get 1", "get 2"]).await);
        pass(9.0).await;
        assert!(!case.tries(&["get 1", "get 2"]).await);
        case.reports("bing");
    }
}

/// As for the bare Lease, what bears one's own name but was acquired elsewhere is acquired anew: upstream keeps 0.
#[tokio::test(start_paused = true)]
async fn renew_already_required_object() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&record("baz", 10, 0)), Some(&record("baz", 10, 0)));
        assert!(case.tries(&ACQUIRES).await);
        case.is_led_by_baz(1);
        assert!(case.tries(&["update 1", "update 2"]).await, "and then renewed on the fast path");
        case.is_led_by_baz(1);
    }
}

/// Candidates that know only the first lock count from the last change of the first: it has to be written.
#[tokio::test(start_paused = true)]
async fn a_lock_that_was_made_by_half_is_written_as_a_whole_by_the_next_try() {
    for kind in KINDS {
        let mut case = Case::new(kind, None, None);
        case.api.refuse("create leases", 403);
        assert!(!case.tries(&["get 1", "create 1", "create 2"]).await);
        let before = case.primary();
        pass(8.0).await;
        case.api.allow("create leases");
        assert!(case.elector.attempt().await);
        assert!(case.primary().renew_time > before.renew_time, "old candidates would take it over while this one leads");
        let transitions = case.primary().transitions;
        case.is_led_by_baz(transitions);
    }
}

/// Who knows only the second may have led in another meanwhile. Upstream makes it anew, and leads on.
#[tokio::test(start_paused = true)]
async fn a_leader_one_of_whose_objects_was_deleted_has_lost_and_makes_it_anew_a_lease_later() {
    for kind in KINDS {
        for plural in [kind.2, "leases"] {
            let mut case = Case::new(kind, None, None);
            assert!(case.elector.attempt().await);
            case.api.delete(plural);
            assert!(!case.elector.attempt().await);
            pass(9.0).await;
            assert!(!case.elector.attempt().await);
            pass(1.0).await;
            // Where only the first is gone, making both fails on the second, and makes one that can be written.
            assert!(case.elector.attempt().await || case.elector.attempt().await);
            let transitions = case.primary().transitions;
            assert!(transitions > 0);
            case.is_led_by_baz(transitions);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_empties_both_objects_and_keeps_the_rest_of_them() {
    for kind in KINDS {
        let mut case = Case::new(kind, Some(&Record::default()), None);
        let mut object = case.api.object(case.plural).unwrap();
        object["data"] = json!({ "theirs": "stays" });
        case.api.put(case.plural, object);
        assert!(case.elector.attempt().await);
        assert!(case.elector.release().await);
        assert_eq!((case.primary().holder, case.secondary().holder), (String::new(), String::new()));
        assert_eq!(case.api.object(case.plural).unwrap()["data"], json!({ "theirs": "stays" }));
    }
}

#[tokio::test(start_paused = true)]
async fn both_objects_are_told_of_in_events() {
    let api = Api::default();
    let lock = elector::lock(LockKind::ConfigMapsLeases, &api.client(), &options("baz"));
    lock.record_event("became leader".into()).await;
    let about: Vec<Value> = api.events().iter().map(|event| event["involvedObject"]["kind"].clone()).collect();
    assert_eq!(about, ["ConfigMap", "Lease"]);
    assert_eq!(lock.describe(), "foo/bar");
}

/// Both locks in memory, and somebody who knows only the second.
struct Migration {
    second: Object,
    moving: Candidate,
    elector: Elector,
    newest: Candidate,
}

/// The first lock is free, the second is held by "newest" alone.
async fn newest_holds_the_second(time: &Time) -> Migration {
    let (first, second) = (Object::new(time), Object::new(time));
    let moving = Candidate::new(time, &first, "moving");
    let lock = Arc::new(MultiLock::new(moving.client.clone(), second.client("moving")));
    let mut elector = Elector::with_clock(lock, Config::default(), moving.clock.clone()).unwrap();
    assert!(elector.attempt().await && elector.release().await);
    let newest = Candidate::new(time, &second, "newest");
    Migration { second, moving, elector, newest }
}

/// The first lock's released record says 1 s, while the second's holder renews every 2 s.
#[tokio::test(start_paused = true)]
async fn the_holder_of_the_second_lock_is_waited_for_as_long_as_its_own_record_says() {
    let time = Time::start();
    let Migration { second, moving, elector, newest } = newest_holds_the_second(&time).await;
    let led = newest.start(Config::default(), Work::UntilAsked);
    pass(1.0).await;
    assert!(led.leadership.is_leader());
    let _run = moving.run(elector, Work::UntilAsked, false);
    pass(60.0).await;
    assert!(led.leadership.is_leader(), "{:?}", newest.told());
    assert_eq!(second.record().holder, "newest");
    newest.client.network(Network::BlackHole);
    pass(30.0).await;
    assert_eq!(second.record().holder, "moving");
}

#[tokio::test(start_paused = true)]
async fn terms_grow_past_those_of_either_lock() {
    let time = Time::start();
    let Migration { second, mut elector, .. } = newest_holds_the_second(&time).await;
    second.write("newest", Some(record("newest", 15, 7)));
    assert!(!elector.attempt().await);
    pass(15.0).await;
    assert!(elector.attempt().await);
    assert_eq!(second.record().transitions, 8);
}
