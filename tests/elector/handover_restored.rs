//! The store is restored to an earlier state: versions go back, and records return. Standbys find out soon, whatever their
//! watches tell; leaders go on or stop; nobody writes again and again.

use std::time::Duration;

use leadergroup::elector::{Config, Elector, Ended, LEADER_ANNOTATION, LockKind, Loss, Record, lock as lock_of};

use super::api::{Api, options};
use super::memory::{self, Network, Object, Watches};
use super::stage::{Candidate, Run, Work, config, pass, record, seconds};
use super::time::{TestClock, Time};

/// How soon a standby has found out, with the usual durations.
const SOON: Duration = Duration::from_secs(10);

/// "ann" leads, "bob" stands by, and the first version of the lock was free.
struct Scene {
    time: Time,
    object: Object,
    ann: Candidate,
    bob: Candidate,
    leader: Run,
    standby: Run,
}

impl Scene {
    async fn set(watches: Watches, config: Config) -> Self {
        let time = Time::start();
        let object = Object::holding(&time, record("", 1, 3));
        let (ann, bob) = (Candidate::new(&time, &object, "ann"), Candidate::new(&time, &object, "bob"));
        if watches == Watches::None {
            bob.client.watches(watches);
            ann.client.watches(watches);
        }
        let leader = ann.start_for_good(config.clone(), Work::UntilAsked);
        pass(1.0).await;
        let standby = bob.start_for_good(config, Work::UntilAsked);
        pass(20.0).await;
        if watches == Watches::Silent {
            bob.client.watches(watches);
        }
        Self { time, object, ann, bob, leader, standby }
    }

    /// The requests of both in the next so many seconds.
    async fn calls(&self, span: f64) -> [Vec<&'static str>; 2] {
        drop((self.ann.client.take_calls(), self.bob.client.take_calls()));
        pass(span).await;
        [self.ann.client.take_calls(), self.bob.client.take_calls()]
    }
}

impl Drop for Scene {
    /// Nothing of it runs beside the next.
    fn drop(&mut self) {
        self.leader.crash();
        self.standby.crash();
    }
}

const ALL: [Watches; 3] = [Watches::Work, Watches::Silent, Watches::None];

#[tokio::test(start_paused = true)]
async fn a_free_lock_that_comes_back_is_taken_soon_after_the_api_server_is() {
    for watches in ALL {
        // However the tries fall while nothing answers.
        for eighths in 64..120 {
            let scene = Scene::set(watches, config()).await;
            scene.leader.crash();
            scene.bob.client.network(Network::BlackHole);
            scene.object.restore(1);
            pass(f64::from(eighths) / 8.0).await;
            scene.bob.client.network(Network::Pass);
            let back = scene.time.elapsed();
            pass(SOON.as_secs_f64()).await;
            assert!(scene.standby.leadership.is_leader(), "with {watches:?} after {eighths}/8 s, back at {back:?}: {:?}", scene.bob.told());
            assert_eq!(scene.object.record().transitions, 5, "4 was ann's");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_finds_out_soon_though_its_watch_is_open_and_silent() {
    let quick = Config { lease_duration: seconds(4.0), renew_deadline: seconds(2.5), retry_period: seconds(0.5), ..config() };
    for (config, soon) in [(config(), SOON), (quick, Duration::from_secs(4))] {
        for watches in ALL {
            for phase in 0..20 {
                let Scene { time, object, bob, leader, .. } = &Scene::set(watches, config.clone()).await;
                pass(f64::from(phase) / 10.0).await;
                leader.crash();
                let restored = time.elapsed();
                object.restore(1);
                object.write("zoe", Some(record("zoe", 15, 4)));
                pass(soon.as_secs_f64()).await;
                let seen = bob.when("sees \"zoe\"");
                assert!(seen.is_some(), "with {watches:?}, {phase}, restored at {restored:?}: {:?}", bob.told());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_begins_with_an_older_version_is_believed_after_a_look() {
    let Scene { object, bob, leader, .. } = &Scene::set(Watches::Work, config()).await;
    leader.crash();
    pass(14.0).await;
    bob.client.take_calls();
    object.restore(1);
    bob.client.break_watches();
    pass(3.0).await;
    assert_eq!(bob.client.calls()[..2], ["get", "update"]);
    assert_eq!(bob.count("started 5"), 1);
}

/// Nobody has given it back: its leader has not looked yet.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_seen_at_work_is_waited_out_though_a_restore_says_that_the_lock_is_free() {
    let Scene { object, ann, bob, .. } = &Scene::set(Watches::Work, config()).await;
    ann.client.network(Network::BlackHole);
    object.restore(1);
    pass(30.0).await;
    assert!(ann.at("over") < bob.at("started 5"), "{:?} {:?}", ann.told(), bob.told());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_own_record_comes_back_leads_on() {
    for watches in ALL {
        let scene = Scene::set(watches, config()).await;
        let history = scene.object.history();
        scene.object.restore(history.len() - 4);
        let [leader, standby] = scene.calls(3.0).await;
        assert!(leader.starts_with(&["update", "get", "update"]), "{leader:?}");
        assert!(!standby.contains(&"update") && !standby.contains(&"create"), "{standby:?}");
        pass(30.0).await;
        assert!(scene.leader.leadership.is_leader() && !scene.standby.leadership.is_leader());
        assert_eq!(memory::lock(&scene.ann.acts).len(), 1);
        scene.bob.client.watches(if watches == Watches::None { watches } else { Watches::Work });
        pass(30.0).await;
        let [leader, standby] = scene.calls(60.0).await;
        assert!(leader.iter().all(|call| *call == "update") && leader.len() <= 31, "{leader:?}");
        assert!(standby.iter().all(|call| *call == "get"), "{standby:?}");
        assert!(watches == Watches::None || standby.is_empty(), "{standby:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_record_is_another_after_a_restore_has_lost() {
    let time = Time::start();
    let object = Object::holding(&time, record("bing", 3, 3));
    let ann = Candidate::new(&time, &object, "ann");
    let (mut elector, mut callbacks) = (ann.elector(config()), ann.callbacks(Work::UntilAsked));
    let (ended, ()) = tokio::join!(elector.run(&mut callbacks, std::future::pending()), async {
        pass(20.0).await;
        object.restore(1);
    });
    assert_eq!(ended, Ended::Lost(Loss::Displaced { holder: "bing".into() }));
    assert!(ann.at("over") <= seconds(22.1));
    elector.run(&mut callbacks, pass(10.0)).await;
    assert_eq!(object.record().transitions, 5, "3 was bing's, and 4 its own");
}

#[tokio::test(start_paused = true)]
async fn an_earlier_leadership_that_comes_back_is_not_taken_up_beside_the_present_one() {
    let Scene { object, ann, bob, standby, .. } = &Scene::set(Watches::Work, config()).await;
    let held = object.history().len() - 1;
    ann.client.network(Network::BlackHole);
    pass(20.0).await;
    ann.client.network(Network::Pass);
    pass(20.0).await;
    assert!(standby.leadership.is_leader());
    // It does not look before its next renewal.
    bob.client.watches(Watches::Silent);
    object.restore(held);
    pass(60.0).await;
    let terms = |candidate: &Candidate| memory::lock(&candidate.acts).iter().map(|act| (act.tenure.term(), act.begun)).collect::<Vec<_>>();
    let (of_ann, of_bob) = (terms(ann), terms(bob));
    assert_eq!((of_ann[0].0, of_bob[0].0), (4, 5));
    let next = of_ann[1..].iter().chain(&of_bob[1..]).min_by_key(|(_, begun)| *begun).unwrap();
    assert_eq!(next.0, 6);
    assert!(bob.at("over") < next.1, "{of_ann:?} {:?}", bob.told());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_restored_to_before_the_lock_was_made_is_one_whose_lock_was_deleted() {
    let Scene { object, ann, bob, .. } = &Scene::set(Watches::Work, config()).await;
    object.restore(0);
    let restored = object.now().at;
    pass(40.0).await;
    assert!(ann.at("over") < restored + seconds(2.1));
    assert_eq!(object.record().transitions, 5);
    assert!(ann.count("started 5") + bob.count("started 5") == 1);
}

const KINDS: [(LockKind, &str); 5] = [
    (LockKind::Leases, "leases"),
    (LockKind::ConfigMaps, "configmaps"),
    (LockKind::Endpoints, "endpoints"),
    (LockKind::ConfigMapsLeases, "configmaps"),
    (LockKind::EndpointsLeases, "endpoints"),
];

/// Two electors of such a lock, which nobody watches.
fn electors(api: &Api, kind: LockKind, time: &Time) -> [Elector; 2] {
    ["ann", "bob"].map(|name| Elector::with_clock(lock_of(kind, &api.client(), &options(name)), config(), TestClock::new(time)).unwrap())
}

fn stored(api: &Api, plural: &str) -> Record {
    let object = api.object(plural).unwrap();
    match plural {
        "leases" => Record::from_lease_spec(Some(&object["spec"])).unwrap(),
        _ => Record::from_annotation(object["metadata"]["annotations"][LEADER_ANNOTATION].as_str().unwrap()).unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_lock_outlives_a_restore() {
    for (kind, plural) in KINDS {
        let (api, time) = (Api::default(), Time::start());
        let [mut ann, mut bob] = electors(&api, kind, &time);
        assert!(ann.attempt().await && ann.release().await);
        let free = api.save();
        assert!(ann.attempt().await);
        let held = api.save();
        for _ in 0..3 {
            pass(2.0).await;
            assert!(ann.attempt().await && !bob.attempt().await);
        }

        // Its own record is back.
        api.restore(&held);
        assert!(!bob.attempt().await, "{kind}");
        assert!(ann.attempt().await, "{kind}");
        assert!(ann.attempt().await, "{kind}");
        assert_eq!((stored(&api, plural).holder.as_str(), stored(&api, plural).transitions), ("ann", 1), "{kind}");
        assert!(!bob.attempt().await, "{kind}");

        // The lock is free again, and ann ends.
        api.restore(&free);
        assert!(!bob.attempt().await, "{kind}: ann has not looked yet");
        pass(15.0).await;
        assert!(bob.attempt().await, "{kind}");
        assert_eq!((stored(&api, plural).holder.as_str(), stored(&api, plural).transitions), ("bob", 2), "{kind}");
        assert!(!ann.attempt().await && !ann.leadership().is_leader(), "{kind}");
    }
}
