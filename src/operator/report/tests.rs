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
use crate::policy::observation::{DeletionCost, Operator};
use crate::policy::progress::Failed;
use crate::policy::write::{Named, Undone};

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
        desks: crate::operator::desks::Desks::default(),
        shares: Shares::new(1),
        pace: crate::operator::pace::Pace::default(),
        attention: crate::operator::attention::Attention::default(),
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

#[tokio::test]
async fn a_status_that_cannot_be_written_is_told_in_the_log_more_and_more_seldom() {
    let (context, observation) = (context(), observation("web"));
    let lines = |refused: bool, times: usize| {
        let (mut state, write) = (GroupState::default(), says("WriteRefused", "no"));
        logged(|| {
            for _ in 0..times {
                let round = state.memory.round(&observation);
                state.memory.progress.sending(&write, round, SystemClock.now(), observation.now);
                let words = "the token is s3cret".to_owned();
                let failed = Failed { undone: Undone::Unknown, refused, put_back: None, unanswered: false, by_admission: false, words, retry_after: None };
                state.memory.progress.answered(&write, Err(failed), SystemClock.now());
                of_failure(&context, &observation, &write, &mut state);
            }
        })
    };
    for (refused, kind) in [(true, "refused"), (false, "failed")] {
        assert_eq!(lines(refused, 1), [""; 0], "one may be an accident");
        let told = lines(refused, 20);
        assert!((1..=3).contains(&told.len()) && told[0].contains("WARN") && told[0].contains(kind) && !told[0].contains("s3cret"), "{told:?}");
    }
}

#[tokio::test]
async fn a_label_that_this_process_has_taken_back_itself_was_not_lost() {
    let (context, observation) = (context(), observation("web"));
    let marks = |label: Option<&str>, term| PodMarks {
        label: label.map(str::to_owned),
        term,
        fence: None,
        member_of: Some("web/role".to_owned()),
        former_label: None,
        cost: DeletionCost::default(),
    };
    let write = |purpose, observed: PodMarks, desired: PodMarks| {
        let (name, uid, key, fence_key) = ("a".into(), "uid".into(), "role".to_owned(), "fence".to_owned());
        let write = PodWrite {
            name,
            uid,
            purpose,
            key,
            fence_key,
            observed,
            desired,
            instead_of: None,
            gives_back: false,
            claims: None,
            label_unread: false,
            has_labels: true,
            has_annotations: true,
        };
        Write::Pod(Box::new(write))
    };
    let taken = write(PodPurpose::Unlabel, marks(Some("leader"), Some(3)), marks(None, Some(3)));
    let given = write(PodPurpose::Label, marks(None, Some(3)), marks(Some("leader"), Some(3)));
    let mut state = GroupState::default();
    let mut says = |write: &Write| logged(|| of_write(&context, &observation, write, &mut state, Stopwatch::start())).join("");
    assert!(says(&given).contains("put back"), "somebody else took it");
    state.taken_from = Some("uid".into());
    let mut says = |write: &Write| logged(|| of_write(&context, &observation, write, &mut state, Stopwatch::start())).join("");
    let told = says(&given);
    assert!(!told.contains("put back") && told.contains("nobody has followed"), "{told}");
    assert!(says(&given).contains("put back"), "and now somebody else");
    assert_eq!(context.metrics.label_repairs.get(), 2);
    // What the group asks for anew nobody has taken away; a term that is gone is.
    let mut other_key = marks(None, Some(3));
    other_key.member_of = Some("web/former".to_owned());
    let told = says(&write(PodPurpose::Label, other_key, marks(Some("leader"), Some(3))));
    assert!(told.contains("asks for now"), "{told}");
    assert_eq!(context.metrics.label_repairs.get(), 2);
    // Whose label is taken away: the leader's, as the Lease says, or somebody's who was given it by others, with whatever term.
    assert!(says(&taken).contains("others had set"));
    assert_eq!(context.metrics.label_repairs.get(), 3);
    let mut observation = observation.clone();
    observation.lease = Some(Arc::new(Lease { holder_uid: Some("uid".into()), ..Lease::default() }));
    let told = logged(|| of_write(&context, &observation, &taken, &mut GroupState::default(), Stopwatch::start())).join("");
    assert!(told.contains("Leader label was taken away"), "{told}");
}

#[tokio::test]
async fn terms_that_jump_are_told_whoever_has_made_them_jump() {
    let context = context();
    let told = |before: Option<i64>, mark: Option<i64>, min_term: Option<i64>, term: i64, is_named: bool| {
        let mut observation = observation("web");
        let group = Arc::make_mut(observation.group.as_mut().unwrap());
        group.spec.election.min_term = min_term;
        group.status = before.map(|term| LeaderGroupStatus { term, ..LeaderGroupStatus::default() });
        observation.lease = mark.map(|mark| Arc::new(Lease { reserved_term: Some(mark), ..Lease::default() }));
        let status = Box::new(LeaderGroupStatus { term, ..LeaderGroupStatus::default() });
        let names = is_named.then_some(Named { term, pod: None, lease: None });
        let write = Write::Status { status, names };
        !logged(|| of_write(&context, &observation, &write, &mut GroupState::default(), Stopwatch::start())).is_empty()
    };
    assert!(told(Some(100_000), Some(8), None, 100_018, true), "a raised status");
    assert!(told(Some(7), Some(100_000), None, 100_001, false), "a raised Lease");
    assert!(told(Some(7), None, None, 100_001, true), "what a leader bears");
    assert!(!told(Some(7), Some(8), None, 24, true), "a lost Lease");
    assert!(!told(Some(7), Some(8), Some(100_000), 100_018, true), "the user's own");
    assert!(!told(None, Some(5000), None, 5001, false) && !told(Some(0), None, None, 5001, true), "nothing is known of before");
}
