//! A leader that is proven to be dead is not waited out; whoever lives, or may, is. Leases last a minute here.

use std::time::Duration;

use jiff::SignedDuration;
use leadergroup::elector::clock::Clock;
use leadergroup::elector::{Config, PodReport, Record};

use super::kubelet::{Pod, Statuses};
use super::memory::Object;
use super::stage::{Candidate, Run, Work, pass, record, seconds};
use super::time::{TestClock, Time};

fn config() -> Config {
    Config { lease_duration: seconds(60.0), renew_deadline: seconds(15.0), retry_period: seconds(5.0), ..Config::default() }
}

/// A leader in a pod, and one who waits in another.
struct Scene {
    time: Time,
    object: Object,
    statuses: Statuses,
    pod: Pod,
    ann: Candidate,
    leads: Run,
    bob: Candidate,
}

impl Scene {
    async fn new() -> Self {
        Self::with("ann").await
    }

    /// The leader has this name.
    async fn with(name: &str) -> Self {
        let time = Time::start();
        let (object, statuses) = (Object::new(&time), Statuses::new(&time));
        let mut pod = Pod::new("web-1", "uid-1");
        let ann = Candidate::new(&time, &object, name).in_pod(&pod, &statuses);
        pod.starts(ann.clock.wall());
        statuses.tell("web-1", pod.report(SignedDuration::ZERO));
        let leads = ann.start(config(), Work::UntilAsked);
        pass(2.0).await;
        let mut other = Pod::new("web-2", "uid-2");
        let bob = Candidate::new(&time, &object, "bob").in_pod(&other, &statuses);
        other.starts(bob.clock.wall());
        statuses.tell("web-2", other.report(SignedDuration::ZERO));
        bob.start(config(), Work::UntilAsked);
        pass(10.0).await;
        assert_eq!((ann.count("started 0"), bob.count("started 1")), (1, 0));
        Self { time, object, statuses, pod, ann, leads, bob }
    }

    /// The leader's container ends, and its kubelet knows.
    fn dies(&mut self) {
        self.leads.crash();
        self.pod.ends(self.ann.clock.wall());
    }

    fn tells(&self) {
        self.statuses.tell("web-1", self.pod.report(SignedDuration::ZERO));
    }

    /// How long after this moment the other leads.
    async fn bob_leads_after(&self, since: Duration) -> Duration {
        pass(90.0).await;
        self.bob.at("started 1").checked_sub(since).expect("it waited for that")
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_reported_dead_is_followed_at_once() {
    let mut scene = Scene::new().await;
    let before = scene.object.record();
    assert_eq!(before.origin.as_ref().map(|origin| origin.pod.as_str()), Some("web-1"));
    scene.dies();
    pass(3.0).await;
    assert_eq!(scene.bob.count("started 1"), 0, "nothing is reported yet");
    scene.tells();
    let after = scene.bob_leads_after(scene.time.elapsed()).await;
    assert!(after < seconds(0.02), "{after:?}");
    let now = scene.object.record();
    assert_eq!((now.transitions, now.acquire_time > before.acquire_time), (1, true));
    assert_eq!(now.origin.as_ref().map(|origin| origin.pod.as_str()), Some("web-2"));
}

#[tokio::test(start_paused = true)]
async fn who_starts_after_the_report_does_not_wait_either() {
    let mut scene = Scene::new().await;
    scene.bob.cancel();
    scene.dies();
    scene.tells();
    pass(2.0).await;
    // The container, started anew; its name is its own, as the operator's is.
    let again = Candidate::new(&scene.time, &scene.object, "ann_2").in_pod(&scene.pod, &scene.statuses);
    scene.pod.starts(again.clock.wall());
    scene.tells();
    again.start(config(), Work::UntilAsked);
    pass(0.1).await;
    assert_eq!(again.count("started 1"), 1, "{:?}", again.told());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_lives_is_waited_out_whatever_becomes_of_its_pod() {
    for uid in ["uid-1", "uid-3"] {
        let scene = Scene::new().await;
        // Another pod has the name, and is dead; or the pod's status tells of former instances.
        let mut other = Pod::new("web-1", uid);
        other.starts(scene.ann.clock.wall() - SignedDuration::from_secs(if uid == "uid-1" { 60 } else { 12 }));
        other.ends(scene.ann.clock.wall() - SignedDuration::from_secs(if uid == "uid-1" { 20 } else { 0 }));
        scene.statuses.tell("web-1", other.report(SignedDuration::ZERO));
        pass(100.0).await;
        assert_eq!(scene.bob.count("started 1"), 0);
        scene.leads.crash();
        let after = scene.bob_leads_after(scene.time.elapsed()).await;
        assert!(after > seconds(54.0), "{uid}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_between_proof_and_takeover_makes_the_proof_void() {
    let mut scene = Scene::new().await;
    scene.dies();
    // client-go under the same name goes on with what it finds, and the other hears of it late.
    scene.bob.client.latency(seconds(0.001), seconds(2.0));
    pass(1.5).await;
    let renewed = Some(scene.ann.clock.wall() + SignedDuration::from_secs(1));
    scene.object.write("client-go", Some(Record { renew_time: renewed, ..scene.object.record() }));
    scene.tells();
    let renewed = scene.time.elapsed();
    let after = scene.bob_leads_after(renewed).await;
    assert!(after > seconds(59.0), "{after:?}");
    assert!(scene.bob.client.calls().starts_with(&["update", "get"]), "the first was refused: {:?}", scene.bob.client.calls());
}

#[tokio::test(start_paused = true)]
async fn a_record_without_an_origin_is_waited_out_and_no_pod_asked_for() {
    let time = Time::start();
    let (object, statuses) = (Object::holding(&time, record("client-go", 60, 0)), Statuses::new(&time));
    let bob = Candidate::new(&time, &object, "bob").reads_pods(&statuses);
    bob.start(config(), Work::UntilAsked);
    pass(59.0).await;
    assert_eq!(bob.count("started 1"), 0);
    pass(3.0).await;
    assert_eq!((bob.count("started 1"), statuses.followed().len()), (1, 0));
    assert_eq!(object.record().origin, None, "it does not know where it runs");
}

#[tokio::test(start_paused = true)]
async fn where_pods_may_not_be_read_they_are_asked_for_rarely_and_leaders_waited_out() {
    let time = Time::start();
    let (object, statuses) = (Object::new(&time), Statuses::new(&time));
    statuses.forbid();
    let mut pod = Pod::new("web-1", "uid-1");
    let ann = Candidate::new(&time, &object, "ann").in_pod(&pod, &statuses);
    pod.starts(ann.clock.wall());
    let leads = ann.start(config(), Work::UntilAsked);
    pass(2.0).await;
    let bob = Candidate::new(&time, &object, "bob").in_pod(&Pod::new("web-2", "uid-2"), &statuses);
    bob.start(config(), Work::UntilAsked);
    pass(1150.0).await;
    assert_eq!(statuses.followed().len(), 2, "{:?}", statuses.followed());
    leads.crash();
    pod.ends(ann.clock.wall());
    statuses.tell("web-1", pod.report(SignedDuration::ZERO));
    pass(53.0).await;
    assert_eq!(bob.count("started 1"), 0);
    pass(8.0).await;
    assert_eq!(bob.count("started 1"), 1);
}

#[tokio::test(start_paused = true)]
async fn records_that_name_ever_other_pods_do_not_make_a_candidate_ask_without_a_pause() {
    let time = Time::start();
    let (object, statuses) = (Object::holding(&time, record("hostile", 60, 0)), Statuses::new(&time));
    let bob = Candidate::new(&time, &object, "bob").reads_pods(&statuses);
    bob.start(config(), Work::UntilAsked);
    for number in 0..1000 {
        let origin = Pod::new(&format!("pod-{number}"), "uid").origin();
        object.write("hostile", Some(Record { origin: Some(origin.into()), ..record("hostile", 60, 0) }));
        pass(0.01).await;
    }
    assert!(statuses.followed().len() <= 11, "{} in ten seconds", statuses.followed().len());
}

#[tokio::test(start_paused = true)]
async fn a_leader_says_where_it_runs_once_its_pod_shows_it_and_not_where_that_shows_another() {
    let time = Time::start();
    let (object, statuses) = (Object::new(&time), Statuses::new(&time));
    let mut pod = Pod::new("web-1", "uid-1");
    let ann = Candidate::new(&time, &object, "ann").in_pod(&pod, &statuses);
    // The former instance, by a clock that was set back since: it seems to end in a while.
    pod.starts(ann.clock.wall() - SignedDuration::from_secs(4));
    pod.ends(ann.clock.wall() + SignedDuration::from_secs(9));
    statuses.tell("web-1", pod.report(SignedDuration::ZERO));
    ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    assert_eq!((ann.count("started 0"), object.record().origin), (1, None));
    pod.starts(ann.clock.wall());
    statuses.tell("web-1", pod.report(SignedDuration::ZERO));
    pass(20.0).await;
    assert_eq!(object.record().origin, None, "it would have begun before the former one had ended");
    let mut pod = Pod::new("web-1", "uid-1");
    pod.starts(ann.clock.wall() - SignedDuration::from_secs(21));
    statuses.tell("web-1", pod.report(SignedDuration::ZERO));
    pass(0.1).await;
    assert!(object.record().origin.is_some(), "at once, and not with the next renewal");
    assert_eq!(statuses.followed().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_clock_was_set_says_nothing_of_where_it_runs() {
    for (by, tells) in [(0, true), (900, true), (1500, false), (-1500, false)] {
        let time = Time::start();
        let (object, statuses, mut pod) = (Object::new(&time), Statuses::new(&time), Pod::new("web-1", "uid-1"));
        let clock = TestClock::new(&time);
        pod.starts(clock.wall());
        statuses.tell("web-1", pod.report(SignedDuration::ZERO));
        let ann = Candidate::with_clock(&time, &object, "ann", clock.clone()).in_pod(&pod, &statuses);
        ann.start(config(), Work::UntilAsked);
        pass(1.0).await;
        assert!(object.record().origin.is_some());
        clock.set(SignedDuration::from_millis(by));
        pass(10.0).await;
        assert_eq!(object.record().origin.is_some(), tells, "{by}");
        // Asleep it is not set.
        clock.set(SignedDuration::from_millis(-by));
        clock.suspend(seconds(5.0));
        pass(10.0).await;
        assert!(object.record().origin.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_has_vanished_is_waited_out_though_who_made_it_anew_is_dead() {
    let mut scene = Scene::new().await;
    scene.object.replace("admin", Record { origin: Some(scene.pod.origin().into()), ..scene.object.record() });
    scene.dies();
    scene.tells();
    let after = scene.bob_leads_after(scene.time.elapsed()).await;
    assert!(after > seconds(59.0), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_read_keeps_nobody_waiting_longer_than_before() {
    let mut scene = Scene::new().await;
    scene.dies();
    scene.statuses.tell("web-1", PodReport::default());
    let after = scene.bob_leads_after(scene.time.elapsed()).await;
    assert!(after > seconds(54.0) && after < seconds(61.0), "{after:?}");
}
