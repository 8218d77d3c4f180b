use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

#[test]
fn a_group_that_flaps_is_told_of_thirty_times_and_then_every_ten_seconds_with_a_count() {
    let mut share = Share::default();
    let second = |second: u64| Instant(Duration::from_secs(1000 + second));
    let told = |share: &mut Share, at| (0..100).filter_map(|_| share.take(second(at))).collect::<Vec<_>>();
    assert_eq!(told(&mut share, 0), [0; 30]);
    assert!(told(&mut share, 9).is_empty());
    assert_eq!(told(&mut share, 10), [170]);
    assert_eq!(told(&mut share, 30), [99, 0]);
    assert_eq!(told(&mut share, 3600).len(), 30);
}

/// An API server that takes events, and how it was asked.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    /// What was taken: `NAMESPACE/NOTE`.
    taken: Vec<String>,
    /// How many are under way, and how many were at most: of each namespace, and in all ("").
    under_way: HashMap<String, (usize, usize)>,
}

impl Played {
    /// `takes`: how long a webhook takes for this event, of this namespace.
    fn client(&self, takes: impl Fn(&str, &str) -> Duration + Clone + Send + 'static) -> Client {
        let played = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (played, takes) = (played.clone(), takes.clone());
            async move {
                let namespace = request.uri().path().split('/').nth(5).unwrap().to_owned();
                let event: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
                let note = event["note"].as_str().unwrap().to_owned();
                let _under_way = UnderWay::begin(&played, &namespace);
                tokio::time::sleep(takes(&namespace, &note)).await;
                played.0.lock().unwrap().taken.push(format!("{namespace}/{note}"));
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(event.to_string().into_bytes())))
            }
        });
        Client::new(service, "default")
    }

    fn taken(&self, namespace: &str) -> Vec<String> {
        let asked = self.0.lock().unwrap();
        asked.taken.iter().filter_map(|taken| Some(taken.strip_prefix(namespace)?.strip_prefix('/')?.to_owned())).collect()
    }

    fn most(&self, namespace: &str) -> usize {
        self.0.lock().unwrap().under_way.get(namespace).map_or(0, |(_, most)| *most)
    }
}

struct UnderWay(Played, String);

impl UnderWay {
    fn begin(played: &Played, namespace: &str) -> Self {
        for of in [namespace, ""] {
            let asked = &mut *played.0.lock().unwrap();
            let (now, most) = asked.under_way.entry(of.to_owned()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        Self(played.clone(), namespace.to_owned())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        for of in [&self.1, ""] {
            self.0.0.lock().unwrap().under_way.entry(of.to_owned()).or_default().0 -= 1;
        }
    }
}

fn tell(recorder: &EventRecorder, share: &mut Share, namespace: &str, group: &str, note: &str) {
    let group: LeaderGroup = serde_json::from_value(json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "spec": { "deploymentRef": { "name": "web" } },
        "metadata": { "namespace": namespace, "name": group, "uid": format!("{namespace}/{group}") },
    }))
    .unwrap();
    recorder.record(&group, share, &GroupEvent { warning: false, reason: "LeaderElected", action: "Elect", note: note.to_owned(), pod: None });
}

const HANGS: Duration = Duration::from_secs(30);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_events_hang_delays_nobody_elses_and_a_bound_of_its_own_is_under_way() {
    let (played, (metrics, _)) = (Played::default(), Metrics::new());
    let client = played.client(|namespace, _| if namespace == "hangs" { HANGS } else { Duration::from_millis(5) });
    let (recorder, _task) = EventRecorder::new(client, metrics.clone());
    for group in 0..2000 {
        tell(&recorder, &mut Share::default(), "hangs", &format!("web-{group}"), "leads");
    }
    for round in 0..10 {
        tell(&recorder, &mut Share::default(), "well", "web", &format!("{round}"));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(played.taken("well").len(), round + 1, "in round {round}");
    }
    assert_eq!(played.most("hangs"), 2);
    let dropped = metrics.events_dropped.get();
    tokio::time::sleep(seconds(20)).await;
    assert!((18..=22).contains(&(metrics.events_dropped.get() - dropped)), "each is waited for two seconds, and counted");
    assert!(played.taken("hangs").is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_namespaces_whose_events_hang_have_a_bound_in_all_and_delay_nobody_elses_for_long() {
    let (played, (metrics, _)) = (Played::default(), Metrics::new());
    let client = played.client(|namespace, _| if namespace == "well" { Duration::from_millis(5) } else { HANGS });
    let (recorder, _task) = EventRecorder::new(client, metrics);
    let flood = || {
        for number in 0..200 {
            tell(&recorder, &mut Share::default(), &format!("hangs-{}", number % 50), &format!("web-{number}"), "leads");
        }
    };
    flood();
    tokio::time::sleep(seconds(60)).await;
    flood();
    tell(&recorder, &mut Share::default(), "well", "web", "leads");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(played.taken("well"), ["leads"], "which namespaces are slow is known");
    assert!(played.most("") <= 12, "{}", played.most(""));
}

#[tokio::test(start_paused = true)]
async fn a_groups_events_are_published_in_their_order_and_others_beside_them() {
    let (played, (metrics, _)) = (Played::default(), Metrics::new());
    // Each is quicker than the one before.
    let client = played.client(|_, note| Duration::from_millis(200 - 10 * note.rsplit(' ').next().unwrap().parse::<u64>().unwrap()));
    let (recorder, task) = EventRecorder::new(client, metrics);
    for number in 0..20 {
        for group in ["a", "b"] {
            tell(&recorder, &mut Share::default(), "shop", group, &format!("{group} {number}"));
        }
    }
    drop(recorder);
    task.await.unwrap();
    let taken = played.taken("shop");
    for group in ["a ", "b "] {
        let of_group: Vec<_> = taken.iter().filter_map(|note| note.strip_prefix(group)?.parse::<u32>().ok()).collect();
        assert_eq!(of_group, (0..20).collect::<Vec<_>>());
    }
    assert_eq!(played.most("shop"), 2);
}

#[tokio::test(start_paused = true)]
async fn where_too_many_wait_the_namespace_with_the_most_loses_its_oldest() {
    let (played, (metrics, _)) = (Played::default(), Metrics::new());
    let client = played.client(|_, _| Duration::from_millis(1));
    let (recorder, task) = EventRecorder::new(client, metrics.clone());
    tell(&recorder, &mut Share::default(), "few", "first", "leads");
    for group in 0..1100 {
        tell(&recorder, &mut Share::default(), "many", &format!("web-{group}"), &format!("{group}"));
    }
    tell(&recorder, &mut Share::default(), "few", "last", "leads");
    drop(recorder);
    task.await.unwrap();
    assert_eq!(played.taken("few").len(), 2);
    let many = played.taken("many");
    assert_eq!((many.len(), many.last().unwrap().as_str()), (1022, "1099"));
    assert_eq!(metrics.events_dropped.get(), 78);
}
