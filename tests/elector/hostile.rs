//! What others write, and those who do not keep to the protocol: all that Go's client reads is read, nothing of it stops a
//! candidate, and nothing makes one contend without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use leadergroup::elector::{AnnotationLock, Elector, LEADER_ANNOTATION, LeaseLock, Lock, LockError, Record, Sighting, Snapshot, UNKNOWN_LEADER};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::api::{Api, options};
use super::memory::{Network, Object, Watches};
use super::stage::{Candidate, Work, config, pass, record, seconds};
use super::time::Time;

/// A time as Go reads and writes it: any year of four digits, and what comes of those in another zone.
fn time() -> impl Strategy<Value = String> {
    let parts = (0..=10_000_u32, 1..=12_u32, 1..=28_u32, 0..24_u32, 0..60_u32, 0..60_u32, 0..1_000_000_u32);
    let any = (parts, prop::sample::select(&["Z", "+14:00", "-12:00", "+23:59"][..])).prop_map(|((year, month, day, hour, minute, second, micro), zone)| {
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}{zone}")
    });
    prop_oneof![
        3 => any,
        1 => prop::sample::select(&["9999-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z", "-001-12-31T23:00:00Z", "0001-01-01T00:00:00Z"][..]).prop_map(str::to_owned),
    ]
}

/// A holder's name: of any letters, or of any length.
fn holder() -> impl Strategy<Value = String> {
    prop_oneof![4 => ".{1,40}", 1 => (1_usize..1_000_000).prop_map(|length| "x".repeat(length)), 1 => Just("\u{1}".repeat(100_000))]
}

/// Numbers of the API's width, and their limits.
fn number() -> impl Strategy<Value = i32> {
    prop_oneof![any::<i32>(), Just(i32::MAX), Just(i32::MIN), Just(0)]
}

fn is_cut(read: &str, holder: &str) -> bool {
    if holder.len() <= 512 { read == holder } else { read.len() < 550 && holder.starts_with(read.split('…').next().unwrap_or_default()) }
}

/// All of it on the object that a lock reads, which is then written.
fn survives(plural: &str, object: Value, holder: &str, duration: i64, transitions: i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let api = Api::default();
        api.put(plural, object);
        let lock: Box<dyn Lock> = match plural {
            "leases" => Box::new(LeaseLock::new(api.client(), options("baz"))),
            _ => Box::new(AnnotationLock::config_map(api.client(), options("baz"))),
        };
        let seen = lock.get().await.unwrap().unwrap();
        assert!(is_cut(&seen.record.holder, holder), "{:?}", seen.record.holder);
        assert_eq!((seen.record.lease_duration_seconds, seen.record.transitions), (duration, transitions));
        assert!(seen.raw.len() < 8192, "what is kept of it is small");
        let written = lock.update(seen, record("baz", 15, 7)).await.unwrap();
        assert_eq!((written.record.holder.as_str(), written.record.transitions), ("baz", 7));
        assert_eq!(api.object(plural).unwrap()["theirs"], "stays");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_lease_that_go_has_stored_is_read_whatever_its_times_names_and_numbers(
        holder in holder(), times in [time(), time(), time()], duration in number(), transitions in number()
    ) {
        let [acquired, renewed, managed] = times;
        let managed = json!([{ "manager": "go", "operation": "Update", "time": managed, "fieldsV1": { "f:spec": {} } }]);
        let spec = json!({
            "holderIdentity": holder, "leaseDurationSeconds": duration, "acquireTime": acquired, "renewTime": renewed, "leaseTransitions": transitions,
        });
        let meta = json!({ "name": "bar", "namespace": "foo", "managedFields": managed, "creationTimestamp": renewed });
        let lease = json!({ "kind": "Lease", "metadata": meta, "spec": spec, "theirs": "stays" });
        survives("leases", lease, &holder, duration.into(), transitions.into());
    }

    #[test]
    fn an_annotation_that_go_reads_is_read_whatever_its_times_names_and_numbers(
        holder in holder(), times in [time(), time()], duration in any::<i64>(), transitions in any::<i64>(), capitals in any::<bool>()
    ) {
        let [acquired, renewed] = times;
        let name = if capitals { "HolderIdentity" } else { "holderIdentity" };
        let text = json!({
            name: holder, "leaseDurationSeconds": duration, "acquireTime": acquired, "renewTime": renewed, "leaderTransitions": transitions,
        });
        let object = json!({
            "kind": "ConfigMap", "metadata": { "name": "bar", "namespace": "foo", "annotations": { LEADER_ANNOTATION: text.to_string() } }, "theirs": "stays",
        });
        survives("configmaps", object, &holder, duration, transitions);
    }

    #[test]
    fn a_field_of_another_type_is_unknown_and_the_others_are_read(strange in prop_oneof![
        Just(json!({ "a": [1] })), Just(json!(1e300)), Just(json!(true)), Just(json!([])), Just(json!(1.5)),
    ]) {
        let spec = json!({ "holderIdentity": "bob", "leaseDurationSeconds": 20, "leaseTransitions": 3 });
        for (field, holder, duration, transitions) in [
            ("holderIdentity", UNKNOWN_LEADER, 20, 3),
            ("leaseDurationSeconds", "bob", 60, 3),
            ("leaseTransitions", "bob", 20, 0),
            ("renewTime", "bob", 20, 3),
        ] {
            let mut spec = spec.clone();
            spec[field] = strange.clone();
            let expected = Record { holder: holder.into(), lease_duration_seconds: duration, acquire_time: None, renew_time: None, transitions, origin: None };
            prop_assert_eq!(Record::from_lease_spec(Some(&spec)).unwrap(), expected.clone());
            let text = spec.to_string().replace("leaseTransitions", "leaderTransitions");
            prop_assert_eq!(Record::from_annotation(&text).unwrap(), expected);
        }
    }
}

#[test]
fn what_go_would_take_for_the_holder_is_not_left_behind_in_an_annotation() {
    let written = record("ann", 15, 1).to_annotation(Some(r#"{"HOLDERIDENTITY":"bob","strategy":"x"}"#)).unwrap();
    assert!(!written.contains("bob") && written.contains("strategy"), "{written}");
}

#[test]
fn letters_and_depths_that_go_takes_are_read_and_kept() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let text = format!(r#"{{"holderIdentity":"\ud800","leaseDurationSeconds":20,"deep":{deep}}}"#);
    let read = Record::from_annotation(&text).unwrap();
    assert_eq!((read.holder.as_str(), read.lease_duration_seconds), (UNKNOWN_LEADER, 20), "it has a holder, whatever its name");
    assert!(record("ann", 15, 1).to_annotation(Some(&text)).unwrap().contains(&deep));
}

#[test]
fn a_text_that_is_no_json_is_told_without_its_content() {
    for text in ["secret", "\"secret\"", "{\"holderIdentity\": secret}", "[\"secret\"]"] {
        let error = Record::from_annotation(text).unwrap_err().to_string();
        assert!(error.contains("no JSON object") && !error.contains("secret"), "{error}");
    }
}

/// What holds it renews it, at a duration of its own; its times say nothing that this clock could judge.
#[tokio::test(start_paused = true)]
async fn a_holder_without_a_readable_time_is_judged_by_what_is_seen_of_it() {
    let time = Time::start();
    let object = Object::holding(&time, Record { renew_time: None, acquire_time: None, ..record("foreign", 20, 0) });
    let ann = Candidate::new(&time, &object, "ann");
    let _run = ann.start(config(), Work::UntilAsked);
    pass(19.0).await;
    object.write("foreign", Some(Record { renew_time: None, ..record("foreign", 20, 0) }));
    pass(19.0).await;
    assert_eq!(ann.count("started 1"), 0, "it has renewed");
    pass(2.0).await;
    assert_eq!(ann.count("started 1"), 1);
}

fn twins() -> (Time, Object, [Candidate; 2]) {
    let time = Time::start();
    let object = Object::new(&time);
    let twins = [Candidate::new(&time, &object, "twin"), Candidate::new(&time, &object, "twin")];
    (time, object, twins)
}

#[tokio::test(start_paused = true)]
async fn of_two_with_one_identity_one_waits_for_the_other_and_says_so() {
    for (watches, later) in [(Watches::Work, 5.0), (Watches::Work, 0.0), (Watches::None, 5.0), (Watches::None, 0.001)] {
        let (_, object, twins) = twins();
        for twin in &twins {
            twin.client.watches(watches);
        }
        let first = twins[0].start_for_good(config(), Work::UntilAsked);
        pass(later).await;
        let second = twins[1].start_for_good(config(), Work::UntilAsked);
        pass(3600.0).await;
        let runs = [&first, &second];
        let begun: usize = twins.iter().map(|twin| twin.acts.lock().unwrap().len()).sum();
        assert!(begun <= 3, "{begun} leaderships: {:?} {:?}", twins[0].told(), twins[1].told());
        assert_eq!(runs.iter().filter(|run| run.leadership.is_leader()).count(), 1);
        let waiting = runs.iter().position(|run| !run.leadership.is_leader()).unwrap();
        assert!(runs[waiting].leadership.has_twin() && !runs[1 - waiting].leadership.has_twin());
        assert_eq!(runs[waiting].leadership.known_leader(), None, "that name is its own, and it does not lead");
        let told = object.events().iter().filter(|event| event.contains("is the name of two processes")).count();
        assert!((1..=60).contains(&told), "{told} events");

        runs[1 - waiting].crash();
        pass(30.0).await;
        assert!(runs[waiting].leadership.is_leader() && !runs[waiting].leadership.has_twin(), "{:?}", twins[waiting].told());
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_started_anew_under_its_name_takes_over_at_once_and_is_no_twin() {
    let (_, object, [former, next]) = twins();
    let run = former.start(config(), Work::UntilAsked);
    pass(3.0).await;
    run.crash();
    pass(1.0).await;
    let run = next.start(config(), Work::UntilAsked);
    pass(0.1).await;
    assert!(run.leadership.is_leader() && !run.leadership.has_twin());
    assert!(object.events().iter().all(|event| !event.contains("two processes")));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_again_and_again_is_contended_for_once_a_minute_in_the_end() {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::new(&time, &object, "ann");
    let emptied = object.clone();
    // Somebody who empties it whenever it is held.
    let hostile = tokio::spawn(async move {
        loop {
            let version = emptied.now();
            if let Some(record) = version.record.filter(|record| !record.holder.is_empty()) {
                emptied.write("hostile", Some(Record { holder: String::new(), ..record }));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let run = ann.start_for_good(config(), Work::UntilAsked);
    pass(600.0).await;
    let begun = ann.acts.lock().unwrap().len();
    assert!((8..=20).contains(&begun), "{begun} leaderships in ten minutes");
    assert!(object.history().len() < 60, "{} writes", object.history().len());
    hostile.abort();
    pass(61.0).await;
    assert!(run.leadership.is_leader(), "nobody takes it any more");
}

/// A lock whose watches end as soon as they are open.
struct Restless {
    lock: super::memory::Client,
    opened: Arc<AtomicUsize>,
}

impl Lock for Restless {
    fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
        self.lock.get()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        self.lock.create(record)
    }

    fn update(&self, seen: Snapshot, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        self.lock.update(seen, record)
    }

    fn record_event(&self, event: String) -> BoxFuture<'_, ()> {
        self.lock.record_event(event)
    }

    fn identity(&self) -> &str {
        self.lock.identity()
    }

    fn describe(&self) -> String {
        self.lock.describe()
    }

    fn watch(&self) -> Option<BoxStream<'static, Result<Sighting, LockError>>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Some(futures::stream::empty().boxed())
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_opened_anew_as_seldom_as_a_lock_is_polled() {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::new(&time, &object, "ann");
    let opened = Arc::new(AtomicUsize::new(0));
    let lock = Restless { lock: ann.client.clone(), opened: opened.clone() };
    let run = ann.run(Elector::with_clock(Arc::new(lock), config(), ann.clock.clone()).unwrap(), Work::UntilAsked, false);
    pass(600.0).await;
    let opened = opened.load(Ordering::Relaxed);
    assert!((250..=310).contains(&opened), "{opened} watches in ten minutes");
    assert!(run.leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn a_failover_after_a_displacement_is_not_slowed() {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::new(&time, &object, "ann");
    let _run = ann.start_for_good(config(), Work::UntilAsked);
    pass(1.0).await;
    for term in [2, 4] {
        object.write("admin", Some(record("", 1, term)));
        pass(0.1).await;
        assert_eq!(ann.count(&format!("started {}", term + 1)), 1, "{:?}", ann.told());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_nothing_was_heard_of_is_not_known_any_more() {
    let time = Time::start();
    let object = Object::new(&time);
    let (ann, bob) = (Candidate::new(&time, &object, "ann"), Candidate::new(&time, &object, "bob"));
    let leads = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    assert_eq!(leads.leadership.known_leader().as_deref(), Some("ann"));
    let stands_by = bob.start(config(), Work::UntilAsked);
    assert_eq!(stands_by.leadership.known_leader(), None, "it has seen nothing yet");
    pass(60.0).await;
    assert_eq!(stands_by.leadership.known_leader().as_deref(), Some("ann"));
    assert_eq!(stands_by.leadership.in_contact(), Ok(()));
    bob.client.network(Network::BlackHole);
    let cut = time.elapsed();
    stands_by.leadership.forgotten().await;
    let after = time.elapsed().checked_sub(cut).unwrap();
    assert!(after > seconds(12.0) && after <= seconds(15.1), "{after:?}");
    assert_eq!((stands_by.leadership.known_leader(), stands_by.leadership.leader().as_deref()), (None, Some("ann")));
    pass(10.0).await;
    let why = stands_by.leadership.in_contact().unwrap_err();
    assert!(why.contains("no answer within 5s"), "{why}");
    bob.client.network(Network::Pass);
    pass(10.0).await;
    assert_eq!(stands_by.leadership.known_leader().as_deref(), Some("ann"));
    assert_eq!(stands_by.leadership.in_contact(), Ok(()));
}
