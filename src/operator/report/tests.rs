use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::operator::events::EventRecorder;
use crate::operator::execute::Executor;
use crate::operator::lines::Lines;
use crate::operator::shares::Shares;
use crate::policy::observation::Operator;
use crate::policy::progress::Failed;
use crate::policy::write::Undone;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged meanwhile.
fn logged(what: impl FnOnce()) -> Vec<String> {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::INFO).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, what);
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn context() -> Context {
    let never = tower::service_fn(|_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>());
    let client = Client::new(never, "default");
    let store = Arc::new(crate::operator::store::Store::default());
    let metrics = crate::metrics::Metrics::new().0;
    Context {
        store: store.clone(),
        executor: Executor::new(client.clone(), store, None),
        events: EventRecorder::new(client, metrics.clone()).0,
        lines: Lines::default(),
        looks: Arc::default(),
        metrics,
        operator: Operator::default(),
        restores: Arc::default(),
        shares: Shares::new(1),
        pace: crate::operator::pace::Pace::default(),
        vitals: crate::operator::Vitals::default(),
        leftovers: Mutex::new(BTreeMap::new()),
        stop: tokio::sync::watch::channel(false).1,
    }
}

fn observation(name: &str) -> Observation {
    let group = json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "namespace": "shop", "name": name, "uid": name },
        "spec": { "deploymentRef": { "name": "web" } },
    });
    let group = serde_json::from_value(group).unwrap();
    Observation { namespace: "shop".into(), name: name.into(), group: Some(Arc::new(group)), ..Observation::default() }
}

fn says(reason: &str, message: &str) -> Write {
    let condition = json!({
        "type": "Stalled", "status": "True", "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    Write::Status { status: Box::new(serde_json::from_value(json!({ "term": 1, "conditions": [condition] })).unwrap()), names: None }
}

#[tokio::test]
async fn what_others_say_of_a_write_is_the_users_to_read_and_not_the_logs() {
    let (context, observation, mut state) = (context(), observation("web"), GroupState::default());
    let apply = Write::ApplyDeployment { name: "web".to_owned(), uid: None };
    let round = state.memory.round(&observation);
    state.memory.progress.sending(&apply, round, SystemClock.now(), observation.now);
    let words = "admission webhook \"w\" denied the request: the token is s3cret (403)".to_owned();
    let failed = Failed { undone: Undone::Refused, refused: true, put_back: None, unanswered: false, by_admission: false, words, retry_after: None };
    state.memory.progress.answered(&apply, Err(failed), SystemClock.now());
    let lines = logged(|| {
        let write = says("DeploymentRefused", "applying Deployment web was refused by the API server: the token is s3cret (403)");
        of_write(&context, &observation, &write, &mut state, Stopwatch::start());
        of_write(&context, &observation, &says("ForeignLabelValue", "pod web-1 carries role=s3cret"), &mut state, Stopwatch::start());
    });
    let [refused, foreign] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(!refused.contains("s3cret") && !foreign.contains("s3cret"), "{lines:?}");
    for part in ["WARN", "namespace=shop", "name=web", "DeploymentRefused", "applying Deployment web", "refused"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(foreign.contains("ForeignLabelValue"), "{foreign}");
}

#[tokio::test]
async fn a_group_whose_trouble_changes_without_end_fills_no_log() {
    let (context, mut state) = (context(), GroupState::default());
    let observation = observation("web");
    let lines = logged(|| {
        for round in 0..1000 {
            of_write(&context, &observation, &says("WriteRefused", &format!("refused: {}", "x".repeat(round))), &mut state, Stopwatch::start());
        }
    });
    assert_eq!(lines.len(), 30);
    assert_eq!(logged(|| of_write(&context, &observation, &says("WriteRefused", "no"), &mut GroupState::default(), Stopwatch::start())).len(), 1, "another's");
}

#[tokio::test]
async fn what_a_lease_says_of_another_operator_is_logged_only_where_it_is_a_name() {
    let (context, observation) = (context(), observation("web"));
    let said = |identity: &str| {
        let other = OtherOperator { operator: Operator { identity: identity.into(), ..Operator::default() }, until: Duration::from_secs(5) };
        logged(|| of_another_operator(&context, &observation, Some(&other), &mut GroupState::default())).join("\n")
    };
    assert!(said("leadergroup-operator-7d4_0b9e").contains("leadergroup-operator-7d4_0b9e"));
    let odd = said("the token is s3cret");
    assert!(odd.contains("leaves it alone") && !odd.contains("s3cret"), "{odd}");
}
