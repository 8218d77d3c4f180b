//! client-go's cases of whole runs, under their names: release on cancellation, the fast path, the health check.

use std::sync::Arc;
use std::time::Duration;

use leadergroup::elector::{Config, Ended, HealthAdaptor};
use tokio::sync::Notify;

use super::memory::{Network, Object, Watches};
use super::stage::{Candidate, Work, pass, record};
use super::time::Time;

/// 15/2/1, as in the cases.
fn config(release_on_cancel: bool) -> Config {
    Config {
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_secs(1),
        release_on_cancel,
        name: String::new(),
    }
}

/// A candidate that polls, as client-go does.
fn polling() -> (Object, Candidate) {
    let time = Time::start();
    let object = Object::new(&time);
    let candidate = Candidate::new(&time, &object, "baz");
    candidate.client.watches(Watches::None);
    (object, candidate)
}

mod test_release_on_cancellation_leases {
    use super::*;

    /// Upstream waits for the renewal; here it is given up, and refused by its version should it still arrive.
    #[tokio::test(start_paused = true)]
    async fn release_acquired_lock_on_cancellation_of_update() {
        let (object, candidate) = polling();
        let resume = Arc::new(Notify::new());
        // get, create; the fast path is refused, the slow one reads; and hangs.
        candidate.client.fault(2, Network::Refuse);
        candidate.client.fault(4, Network::Hold(resume.clone()));
        let run = candidate.start(config(true), Work::UntilAsked);
        pass(1.5).await;
        assert_eq!(candidate.client.take_calls(), ["get", "create", "update", "get", "update"]);
        candidate.cancel();
        resume.notify_one();
        assert_eq!(run.ended().await.unwrap(), Ended::Cancelled);
        assert_eq!(candidate.client.calls(), ["get", "update"]);
        assert_eq!(object.record().holder, "");
        assert_eq!(object.events(), ["baz became leader", "baz stopped leading"]);
    }

    #[tokio::test(start_paused = true)]
    async fn release_acquired_lock_on_cancellation_of_get() {
        let (object, candidate) = polling();
        let resume = Arc::new(Notify::new());
        candidate.client.fault(2, Network::Refuse);
        candidate.client.fault(3, Network::Hold(resume.clone()));
        let run = candidate.start(config(true), Work::UntilAsked);
        pass(1.5).await;
        assert_eq!(candidate.client.calls(), ["get", "create", "update", "get"]);
        candidate.cancel();
        resume.notify_one();
        assert_eq!(run.ended().await.unwrap(), Ended::Cancelled);
        assert_eq!(object.record().holder, "", "upstream's case passes without a release too");
        assert_eq!(object.events(), ["baz became leader", "baz stopped leading"]);
    }
}

mod test_fast_path_leader_election {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn exercise_fast_path_after_lock_acquired() {
        let (_, candidate) = polling();
        let run = candidate.start(config(false), Work::UntilAsked);
        pass(2.5).await;
        candidate.cancel();
        run.ended().await.unwrap();
        assert_eq!(candidate.client.calls(), ["get", "create", "update", "update"]);
    }

    #[tokio::test(start_paused = true)]
    async fn fallback_to_slow_path_after_fast_path_fails() {
        let (_, candidate) = polling();
        candidate.client.fault(3, Network::Refuse);
        let run = candidate.start(config(false), Work::UntilAsked);
        pass(3.5).await;
        candidate.cancel();
        run.ended().await.unwrap();
        assert_eq!(candidate.client.calls(), ["get", "create", "update", "update", "get", "update", "update"]);
    }
}

/// Upstream runs it under the race detector; the compiler has ruled the race out, what is left is that both go on.
#[tokio::test(start_paused = true)]
async fn test_check_method_race() {
    let (_, candidate) = polling();
    let (lease_duration, renew_deadline) = (Duration::from_secs(2), Duration::from_secs(1));
    let config = Config { lease_duration, renew_deadline, retry_period: Duration::from_millis(5), ..config(false) };
    let run = candidate.start(config, Work::UntilAsked);
    let adaptor = HealthAdaptor::new(Duration::from_secs(1));
    adaptor.set_leader_election(run.leadership.clone());
    for _ in 0..200 {
        pass(0.01).await;
        assert_eq!(adaptor.check(), Ok(()));
    }
    assert!(candidate.client.calls().len() > 100);
}

mod test_leader_election_health_checker {
    use super::*;

    fn adaptor() -> HealthAdaptor {
        HealthAdaptor::new(Duration::from_secs(20))
    }

    /// L = 1 minute, and the clock goes on by so much while nothing runs.
    async fn check_after(object: Object, time: &Time, span: Duration) -> Result<(), String> {
        let candidate = Candidate::new(time, &object, "healthTest");
        let mut elector = candidate.elector(Config { lease_duration: Duration::from_secs(60), name: "foo".into(), ..Config::default() });
        elector.attempt().await;
        let adaptor = adaptor();
        adaptor.set_leader_election(elector.leadership());
        candidate.clock.suspend(span);
        adaptor.check()
    }

    #[test]
    fn call_check_before_leader_elector_initialized() {
        assert_eq!(adaptor().check(), Ok(()));
        assert_eq!(HealthAdaptor::NAME, "leaderElection");
    }

    #[tokio::test(start_paused = true)]
    async fn call_check_when_the_lease_is_far_expired() {
        let time = Time::start();
        let error = check_after(Object::new(&time), &time, Duration::from_secs(3600)).await.unwrap_err();
        assert!(error.starts_with("failed election to renew leadership on lease foo"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn call_check_when_the_lease_is_far_expired_but_held_by_another_server() {
        let time = Time::start();
        let object = Object::holding(&time, record("otherServer", 60, 0));
        assert_eq!(check_after(object, &time, Duration::from_secs(3600)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn call_check_when_the_lease_is_not_expired() {
        let time = Time::start();
        assert_eq!(check_after(Object::new(&time), &time, Duration::ZERO).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn call_check_when_the_lease_is_expired_but_inside_the_timeout() {
        let time = Time::start();
        assert_eq!(check_after(Object::new(&time), &time, Duration::from_secs(61)).await, Ok(()));
    }
}
