//! Which nodes are taken to be lost, by what connections and heartbeats show; and what becomes of leaders on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::leader::{Choice, choose};
use leadergroup::policy::liveness::{Evidence, Heard, Heartbeat, Line, Liveness};
use leadergroup::policy::observation::{Candidate, Node, NodeState, Suspicion};
use leadergroup::policy::write::Write;
use serde_json::json;

use super::scene::{fenced, labelled, now, observation, on, pod, unready, with, with_node};

fn at(seconds: u64) -> Instant {
    Instant(Duration::from_secs(seconds))
}

/// Nodes as they are seen, second by second.
struct Watch {
    judged: Liveness,
    evidence: BTreeMap<Box<str>, Evidence>,
    second: u64,
    /// When each node has renewed its heartbeat.
    renewed: BTreeMap<Box<str>, u64>,
    /// The API server answers.
    answers: bool,
}

impl Watch {
    /// Of these nodes, each of which has answered.
    fn of<const N: usize>(nodes: [&str; N]) -> Self {
        let evidence = nodes.map(|node| (node.into(), Evidence { line: Line::default().after(Heard::Connected, at(1000)), heartbeat: None }));
        Self { judged: Liveness::default(), evidence: evidence.into(), second: 1000, renewed: BTreeMap::new(), answers: true }
    }

    /// These do not answer for so many seconds, and the others do. What is believed of whom afterwards.
    fn silent(&mut self, nodes: &[&str], seconds: u64) -> String {
        for _ in 0..seconds {
            self.second += 1;
            for (name, evidence) in &mut self.evidence {
                let heard = if nodes.contains(&&**name) { Heard::Silence } else { Heard::Connected };
                evidence.line = evidence.line.after(heard, at(self.second));
            }
            self.judge();
        }
        self.told()
    }

    /// This is heard of one node, and of the others that they are there.
    fn hear(&mut self, node: &str, heard: Heard) -> String {
        self.second += 1;
        for (name, evidence) in &mut self.evidence {
            evidence.line = evidence.line.after(if **name == *node { heard } else { Heard::Connected }, at(self.second));
        }
        self.judge();
        self.told()
    }

    fn judge(&mut self) {
        let asked = if self.answers { at(self.second) } else { at(0) };
        self.judged.judge(&self.evidence, std::iter::empty(), Some(asked), at(self.second));
    }

    /// The heartbeats of these are renewed every second for so many of them, those of the others are not.
    fn beats(&mut self, nodes: &[&str], seconds: u64) -> String {
        for _ in 0..seconds {
            self.second += 1;
            for (name, evidence) in &mut self.evidence {
                if nodes.contains(&&**name) {
                    self.renewed.insert(name.clone(), self.second);
                }
                let stamp = self.renewed.get(name).copied().unwrap_or_default().to_string();
                evidence.heartbeat = Some(Heartbeat::look(evidence.heartbeat.as_ref(), &stamp, 40, at(self.second)));
            }
            self.judge();
        }
        self.told()
    }

    fn told(&self) -> String {
        let told: Vec<_> = self.judged.suspicions().map(|(name, suspicion, _)| format!("{name}: {}", suspicion.name())).collect();
        told.join(", ")
    }
}

#[test]
fn one_node_that_falls_silent_is_suspect_as_soon_as_it_has_not_answered_twice() {
    let mut watch = Watch::of(["a", "b"]);
    assert_eq!(watch.silent(&["a"], 1), "", "it is asked once more");
    assert_eq!(watch.silent(&["a"], 1), "a: Silent");
    let mut watch = Watch::of(["a"]);
    assert_eq!(watch.silent(&["a"], 2), "a: Silent", "it is the only one that is watched");
    let mut watch = Watch::of(["a"]);
    watch.silent(&["a"], 1);
    assert_eq!(watch.silent(&[], 30), "", "the second question was answered");
}

#[test]
fn after_a_silence_that_was_none_the_next_one_must_last_longer() {
    let mut watch = Watch::of(["a", "b", "c"]);
    watch.silent(&["b"], 1);
    watch.silent(&[], 12);
    assert_eq!(watch.silent(&["a"], 8), "", "packets are lost, a moment ago those of another");
    assert_eq!(watch.silent(&["a"], 2), "a: Silent");
    let mut watch = Watch::of(["a", "b", "c"]);
    watch.silent(&["b"], 1);
    watch.silent(&[], 61);
    assert_eq!(watch.silent(&["a"], 2), "a: Silent", "that was long ago");
    let mut watch = Watch::of(["a", "b", "c"]);
    watch.silent(&["b"], 10);
    watch.silent(&[], 12);
    assert_eq!(watch.silent(&["a"], 2), "a: Silent", "that was one");
}

#[test]
fn a_node_that_falls_silent_and_answers_all_the_time_holds_up_no_others() {
    let mut watch = Watch::of(["a", "b", "c"]);
    for _ in 0..3 {
        watch.silent(&["c"], 1);
        watch.silent(&[], 2);
    }
    assert_eq!(watch.silent(&["a", "c"], 2), "a: Silent", "nor does it make the next one a disturbance");
    let mut watch = Watch::of(["a", "b", "c"]);
    for _ in 0..40 {
        watch.silent(&["c"], 1);
        assert_eq!(watch.silent(&[], 2), "");
    }
    assert_eq!(watch.silent(&["c"], 8), "", "of itself it is told later");
    assert_eq!(watch.silent(&["c"], 1), "c: Silent");
}

#[test]
fn a_node_that_only_ever_refused_cannot_fall_silent() {
    let mut watch = Watch::of(["a", "b"]);
    watch.evidence.get_mut("a").unwrap().line = Line::default();
    // A firewall that answers for it, and no more often than once in a while.
    for _ in 0..20 {
        assert_eq!(watch.hear("a", Heard::Refused), "");
        assert_eq!((0..6).map(|_| watch.hear("a", Heard::Silence)).collect::<String>(), "");
    }
    // One that took connections and refuses them now lives; its silence has to last.
    let mut watch = Watch::of(["a", "b"]);
    assert_eq!(watch.hear("a", Heard::Refused), "");
    assert_eq!((0..8).map(|_| watch.hear("a", Heard::Silence)).collect::<String>(), "");
    assert_eq!((0..2).map(|_| watch.hear("a", Heard::Silence)).last().as_deref(), Some("a: Silent"));
}

#[test]
fn a_trouble_of_our_own_tells_nothing_of_a_node_and_leaves_it_to_its_heartbeat() {
    let mut watch = Watch::of(["a", "b"]);
    assert_eq!((0..60).map(|_| watch.hear("b", Heard::Nothing)).collect::<String>(), "");
    assert_eq!(watch.silent(&["a"], 2), "a: Silent", "nor of others");
    let mut watch = Watch::of(["a", "b"]);
    watch.hear("b", Heard::Nothing);
    watch.beats(&["a", "b"], 5);
    assert_eq!(watch.beats(&["a"], 26), "b: Overdue");
}

#[test]
fn what_is_doubted_is_not_believed_because_others_are_watched_no_more_or_more_are() {
    let mut watch = Watch::of(["a", "b"]);
    watch.silent(&["a", "b"], 5);
    watch.evidence.remove("b");
    assert_eq!(watch.silent(&["a"], 60), "a: Doubted");
    let mut watch = Watch::of(["a", "b", "c", "d", "e"]);
    watch.silent(&["a", "b"], 5);
    let new = Line::default().after(Heard::Connected, at(watch.second));
    watch.evidence.insert("f".into(), Evidence { line: new, heartbeat: None });
    assert_eq!(watch.silent(&["a", "b"], 60), "a: Doubted, b: Doubted");
}

#[test]
fn what_is_doubted_is_believed_once_one_that_was_silent_with_it_answers_and_by_no_other() {
    let mut watch = Watch::of(["a", "b", "c", "d", "e"]);
    watch.silent(&["a", "b"], 20);
    watch.evidence.remove("b");
    watch.silent(&["a"], 15);
    watch.silent(&["a", "c"], 3);
    assert_eq!(watch.silent(&["a"], 60), "a: Doubted", "c's trouble was another");
    let mut watch = Watch::of(["a", "b", "c", "d", "e"]);
    watch.silent(&["a", "b"], 20);
    assert_eq!(watch.silent(&["a"], 15), "a: Silent");
}

#[test]
fn a_node_that_changes_its_port_while_it_flickers_is_known_to_be_restless_all_the_same() {
    let mut watch = Watch::of(["a", "b", "c"]);
    for _ in 0..6 {
        watch.silent(&["c"], 1);
        watch.hear("c", Heard::Nothing);
        watch.silent(&[], 3);
    }
    watch.silent(&["c"], 1);
    assert_eq!(watch.silent(&["a", "c"], 2), "a: Silent");
}

#[test]
fn heartbeats_of_before_a_silence_make_nobody_a_node_behind_a_firewall() {
    let mut watch = Watch::of(["a", "b", "c"]);
    watch.beats(&["a", "b", "c"], 100);
    assert_eq!(watch.silent(&["a"], 3), "a: Silent");
    for _ in 0..90 {
        let line = watch.evidence["a"].line.after(Heard::Silence, at(watch.second));
        watch.evidence.get_mut("a").unwrap().line = line;
        assert_eq!(watch.beats(&["b", "c"], 1), "a: Silent");
    }
}

/// Heartbeats are looked at in these seconds alone, where only `alive` renew theirs; all of `silent` are, from the first second on.
fn looked_at(nodes: &[&str], silent: &[&str], looks: &[u64], nothing: Option<u64>, seconds: u64) -> Vec<String> {
    let mut watch = Watch::of([]);
    watch.evidence = nodes.iter().map(|node| ((*node).into(), Evidence { line: Line::default().after(Heard::Connected, at(1000)), heartbeat: None })).collect();
    let mut told = Vec::new();
    for second in 1..=seconds {
        watch.second += 1;
        for (name, evidence) in &mut watch.evidence {
            let is_silent = silent.contains(&&**name);
            let heard = match nothing {
                Some(trouble) if is_silent && second == trouble => Heard::Nothing,
                _ if is_silent => Heard::Silence,
                _ => Heard::Connected,
            };
            evidence.line = evidence.line.after(heard, at(watch.second));
            if looks.contains(&second) {
                let stamp = if is_silent { "last".to_owned() } else { (second / 10).to_string() };
                evidence.heartbeat = Some(Heartbeat::look(evidence.heartbeat.as_ref(), &stamp, 40, at(watch.second)));
            }
        }
        watch.judge();
        told.push(watch.told());
    }
    told
}

#[test]
fn a_dead_node_is_not_believed_because_its_heartbeat_cannot_be_read_any_more() {
    let told = looked_at(&["a", "b", "c"], &["a"], &[4], None, 600);
    assert!(told[2..].iter().all(|told| told == "a: Silent"), "{told:?}");
    let told = looked_at(&["a", "b", "c"], &["a", "b"], &[4], None, 600);
    assert!(told[2..].iter().all(|told| told == "a: Doubted, b: Doubted"), "{told:?}");
}

#[test]
fn a_trouble_of_our_own_frees_no_node_that_is_suspect_before_its_heartbeat_was_renewed() {
    let looks: Vec<u64> = (4..600).step_by(5).collect();
    let told = looked_at(&["a", "b", "c"], &["a"], &looks, Some(6), 600);
    assert!(told[2..].iter().all(|told| told == "a: Silent"), "{told:?}");
    let told = looked_at(&["a", "b", "c"], &["a", "b"], &looks, Some(6), 600);
    assert!(told[2..].iter().all(|told| told.contains("a: ") && told.contains("b: ")), "{told:?}");
}

#[test]
fn nodes_that_died_before_a_gap_in_what_can_be_read_are_overdue_after_it() {
    let looks: Vec<u64> = [4].into_iter().chain((39..600).step_by(5)).collect();
    let told = looked_at(&["a", "b", "c"], &["a", "b"], &looks, None, 200);
    assert_eq!(told.last().unwrap(), "a: Overdue, b: Overdue");
}

#[test]
fn doubted_nodes_whose_heartbeats_go_on_for_a_minute_make_no_later_loss_a_disturbance() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut watch = Watch::of(nodes);
    assert_eq!(watch.silent(&["a", "b"], 3), "a: Doubted, b: Doubted");
    assert_eq!(watch.beats(&nodes, 80), "");
    watch.silent(&["a", "b"], 12);
    assert_eq!(watch.silent(&["a", "b", "c"], 2), "c: Silent");
}

#[test]
fn a_silent_node_whose_heartbeat_goes_on_for_a_minute_is_taken_to_be_behind_a_firewall() {
    let mut watch = Watch::of(["a", "b"]);
    assert_eq!(watch.silent(&["a"], 3), "a: Silent");
    let mut told = String::new();
    for _ in 0..80 {
        let line = watch.evidence["a"].line.after(Heard::Silence, at(watch.second));
        watch.evidence.get_mut("a").unwrap().line = line;
        told = watch.beats(&["a", "b"], 1);
    }
    assert_eq!(told, "");
    assert_eq!(watch.beats(&["b"], 26), "a: Overdue", "from then on its heartbeat tells");
}

#[test]
fn who_writes_into_a_heartbeat_that_it_is_good_for_a_moment_makes_it_overdue_no_sooner() {
    let look = |former: Option<&Heartbeat>, stamp: &str, second| Heartbeat::look(former, stamp, 1, at(second));
    let mut watch = Watch::of(["a", "b"]);
    watch.evidence.get_mut("a").unwrap().line = Line::default();
    watch.beats(&["a", "b"], 5);
    let mut beat = look(None, "1", watch.second);
    for second in 1..=20 {
        beat = look(Some(&beat), "1", watch.second + second);
        watch.evidence.get_mut("a").unwrap().heartbeat = Some(beat.clone());
        let other = watch.evidence["b"].heartbeat.clone().unwrap();
        watch.evidence.get_mut("b").unwrap().heartbeat = Some(Heartbeat::look(Some(&other), &format!("b{second}"), 40, at(watch.second + second)));
        watch.judge();
    }
    assert_eq!(watch.told(), "");
}

#[test]
fn a_node_that_has_never_answered_cannot_fall_silent() {
    let mut watch = Watch::of(["a", "b"]);
    watch.evidence.get_mut("a").unwrap().line = Line::default();
    assert_eq!(watch.silent(&["a"], 600), "");
}

#[test]
fn nobody_is_judged_while_the_api_server_has_answered_nothing_that_was_asked_since() {
    let mut watch = Watch::of(["a", "b"]);
    watch.answers = false;
    assert_eq!(watch.silent(&["a"], 60), "");
    watch.answers = true;
    assert_eq!(watch.silent(&["a"], 1), "a: Silent");
    watch.answers = false;
    assert_eq!(watch.silent(&["a"], 60), "a: Silent", "nor is anybody believed again");
}

#[test]
fn where_more_than_one_in_three_fall_silent_together_nobody_is_moved() {
    for (nodes, silent, told) in [
        (vec!["a", "b"], vec!["a", "b"], "a: Doubted, b: Doubted"),
        (vec!["a", "b", "c"], vec!["a", "b"], "a: Doubted, b: Doubted"),
        (vec!["a", "b", "c", "d", "e"], vec!["a", "b"], "a: Doubted, b: Doubted"),
        (vec!["a", "b", "c", "d", "e", "f"], vec!["a", "b"], "a: Silent, b: Silent"),
        (vec!["a", "b", "c", "d", "e", "f"], vec!["a", "b", "c"], "a: Doubted, b: Doubted, c: Doubted"),
    ] {
        let mut watch = Watch::of([]);
        watch.evidence =
            nodes.iter().map(|node| ((*node).into(), Evidence { line: Line::default().after(Heard::Connected, at(1000)), heartbeat: None })).collect();
        assert_eq!(watch.silent(&silent, 60), told, "{silent:?} of {nodes:?}");
    }
}

#[test]
fn nodes_that_are_doubted_are_believed_or_suspect_once_the_others_are_back() {
    let mut watch = Watch::of(["a", "b"]);
    watch.silent(&["a", "b"], 60);
    assert_eq!(watch.silent(&["a"], 5), "a: Doubted", "it was a disturbance a moment ago");
    assert_eq!(watch.silent(&["a"], 10), "a: Silent", "and it is over but for one");
    let mut watch = Watch::of(["a", "b"]);
    watch.silent(&["a", "b"], 60);
    assert_eq!(watch.silent(&[], 1), "");
}

#[test]
fn one_that_falls_silent_while_another_is_only_asked_once_more_is_one_of_several() {
    let mut watch = Watch::of(["a", "b"]);
    watch.silent(&["a"], 1);
    // The probes of the second come a moment later.
    assert_eq!(watch.silent(&["a", "b"], 1), "a: Doubted");
    assert_eq!(watch.silent(&["a", "b"], 1), "a: Doubted, b: Doubted");
}

#[test]
fn one_that_was_lost_long_ago_does_not_make_the_next_one_a_disturbance() {
    let mut watch = Watch::of(["a", "b", "c"]);
    assert_eq!(watch.silent(&["a"], 60), "a: Silent");
    assert_eq!(watch.silent(&["a", "b"], 2), "a: Silent, b: Silent");
}

#[test]
fn the_heartbeats_decide_where_silence_does_not() {
    let nodes = ["a", "b", "c"];
    let mut watch = Watch::of(nodes);
    watch.silent(&["a", "b"], 3);
    watch.beats(&nodes, 5);
    assert_eq!(watch.beats(&["b", "c"], 25), "a: Doubted, b: Doubted", "it may be late");
    assert_eq!(watch.beats(&["b", "c"], 1), "a: Overdue, b: Doubted");
    assert_eq!(watch.beats(&["b", "c"], 20), "a: Overdue, b: Doubted", "it is renewed");
    assert_eq!(watch.beats(&["b", "c"], 60), "a: Overdue", "only its port is out of reach");
}

#[test]
fn where_all_heartbeats_stop_the_api_server_was_away_and_nobody_is_lost() {
    let nodes = ["a", "b", "c"];
    let mut watch = Watch::of(nodes);
    watch.silent(&nodes, 3);
    watch.beats(&nodes, 5);
    let doubted = "a: Doubted, b: Doubted, c: Doubted";
    assert_eq!(watch.beats(&[], 60), doubted);
    // It is back, and kubelets renew one after the other.
    assert_eq!(watch.beats(&["c"], 2), doubted);
    assert_eq!(watch.beats(&["b", "c"], 2), doubted);
}

#[test]
fn a_heartbeat_that_stops_tells_nothing_against_a_node_that_answers() {
    let mut watch = Watch::of(["a", "b"]);
    watch.beats(&["a", "b"], 5);
    // A kubelet that is paused.
    assert_eq!(watch.beats(&["b"], 60), "");
    // Where no connection was ever made it is all that there is.
    watch.evidence.get_mut("a").unwrap().line = Line::default();
    assert_eq!(watch.beats(&["b"], 1), "a: Overdue");
    assert_eq!(watch.beats(&["a", "b"], 8), "a: Overdue");
    assert_eq!(watch.beats(&["a", "b"], 6), "", "it was renewed for long enough");
}

#[test]
fn a_node_comes_back_when_it_has_answered_for_a_while_and_later_each_time() {
    let mut watch = Watch::of(["a", "b", "c"]);
    for probation in [10, 20, 40, 80] {
        assert_eq!(watch.silent(&["a"], 10), "a: Silent");
        assert_eq!(watch.silent(&[], probation), "a: Silent", "{probation}");
        assert_eq!(watch.silent(&[], 1), "", "{probation}");
    }
    watch.silent(&[], 1900);
    watch.silent(&["a"], 2);
    assert_eq!(watch.silent(&[], 11), "", "what was long ago is forgotten");
}

#[test]
fn what_a_storm_over_all_nodes_drops_moves_nobody() {
    let mut random = fastrand::Rng::with_seed(12);
    let mut storms = 0;
    for _ in 0..1000 {
        let mut watch = Watch::of(["a", "b"]);
        for _ in 0..60 {
            // A third of all packets: two probes of a connection are lost together, and the tries of another one seldom.
            let lost = |line: Line, random: &mut fastrand::Rng| match line {
                Line::Answers { .. } | Line::Unreached => random.f32() < 0.33 * 0.33,
                Line::Doubtful { .. } | Line::Silent { .. } => random.f32() < 0.33_f32.powi(4),
            };
            let lost: Vec<String> = watch.evidence.iter().filter(|(_, it)| lost(it.line, &mut random)).map(|(name, _)| name.to_string()).collect();
            watch.silent(&lost.iter().map(String::as_str).collect::<Vec<_>>(), 1);
        }
        storms += usize::from(watch.judged.suspicions().any(|(_, suspicion, _)| suspicion.is_believed()));
    }
    assert!(storms <= 5, "{storms} of 1000 storms of a minute have moved somebody");
}

/// A pod on a node that something speaks against since this moment.
fn suspect(candidate: Candidate, suspicion: Suspicion, since: Instant) -> Candidate {
    let node = Arc::new(Node { name: "node".into(), ..Node::default() });
    with_node(candidate, NodeState::Suspect { node, suspicion, since, answers: false })
}

fn chosen(delay: i32, candidates: Vec<Candidate>, moment: Instant) -> String {
    let spec = json!({ "deploymentRef": { "name": "web" }, "election": { "failoverDelaySeconds": delay } });
    let mut observation = observation(&spec, candidates, Some("a"));
    observation.moment = moment;
    match choose(&observation) {
        (Choice::Keep(pod), recheck) => {
            let wait = recheck.map_or_else(String::new, |at| format!(" for {} s", at.duration_since(now()).as_secs()));
            format!("KEEP {}{wait}", pod.name)
        }
        (Choice::Promote { pod, reason }, _) => format!("PROMOTE {}: {reason}", pod.name),
        (choice, _) => format!("{choice:?}"),
    }
}

#[test]
fn a_leader_on_a_suspect_node_is_followed_by_a_pod_that_is_on_none() {
    for (suspicion, expected) in [(Suspicion::Silent, "PROMOTE b: NodeSilent"), (Suspicion::Overdue, "PROMOTE b: NodeOverdue"), (Suspicion::Doubted, "KEEP a")]
    {
        assert_eq!(chosen(0, vec![suspect(pod("a"), suspicion, at(1)), pod("b")], at(1)), expected);
        let both = vec![suspect(pod("a"), suspicion, at(1)), suspect(pod("b"), suspicion, at(1))];
        assert_eq!(chosen(0, both, at(1)), "KEEP a", "nobody else is better off");
    }
    let tainted = on(pod("b"), |node| node.unreachable = true);
    assert_eq!(chosen(0, vec![suspect(pod("a"), Suspicion::Silent, at(1)), tainted], at(1)), "KEEP a");
}

/// The same, of a node that answers again.
fn returning(candidate: Candidate) -> Candidate {
    let node = Arc::new(Node { name: "node".into(), ..Node::default() });
    with_node(candidate, NodeState::Suspect { node, suspicion: Suspicion::Silent, since: at(1), answers: true })
}

#[test]
fn a_leader_whose_node_answers_again_stays_and_nobody_is_moved_there_while_others_can_lead() {
    assert_eq!(chosen(0, vec![returning(pod("a")), pod("b")], at(1)), "KEEP a");
    assert_eq!(chosen(0, vec![unready("a"), returning(pod("b"))], at(1)), "PROMOTE b: LeaderNotReady");
    let doubted = || suspect(pod("b"), Suspicion::Doubted, at(1));
    assert_eq!(chosen(0, vec![unready("a"), doubted()], at(1)), "PROMOTE b: LeaderNotReady");
    assert_eq!(chosen(0, vec![unready("a"), doubted(), pod("c")], at(1)), "PROMOTE c: LeaderNotReady");
    assert_eq!(chosen(0, vec![unready("a"), returning(pod("b")), pod("c")], at(1)), "PROMOTE c: LeaderNotReady");
}

#[test]
fn a_leader_that_may_recover_is_waited_for_and_one_that_has_ended_is_not() {
    let unready = with(unready("a"), |pod| pod.unready_since = Some(at(100)));
    assert_eq!(chosen(5, vec![unready.clone(), pod("b")], at(101)), "KEEP a for 4 s");
    assert_eq!(chosen(5, vec![unready.clone(), pod("b")], at(105)), "PROMOTE b: LeaderNotReady");
    assert_eq!(chosen(5, vec![suspect(pod("a"), Suspicion::Silent, at(100)), pod("b")], at(102)), "KEEP a for 3 s");
    assert_eq!(chosen(5, vec![suspect(pod("a"), Suspicion::Silent, at(100)), pod("b")], at(106)), "PROMOTE b: NodeSilent");
    let tainted = on(pod("a"), |node| (node.unreachable, node.unreachable_since) = (true, Some(at(100))));
    assert_eq!(chosen(5, vec![tainted, pod("b")], at(103)), "KEEP a for 2 s");
    let ended: [(Candidate, &str); 5] = [
        (with(unready.clone(), |pod| pod.finished = true), "LeaderFinished"),
        (with(unready.clone(), |pod| pod.stopped = true), "LeaderFinished"),
        (with(unready.clone(), |pod| pod.terminating = true), "LeaderTerminating"),
        (with_node(unready.clone(), NodeState::Gone), "NodeGone"),
        (on(unready, |node| node.out_of_service = true), "NodeOutOfService"),
    ];
    for (leader, reason) in ended {
        assert_eq!(chosen(5, vec![leader, pod("b")], at(101)), format!("PROMOTE b: {reason}"));
    }
    assert_eq!(chosen(5, vec![with(pod("a"), |pod| pod.ready_since = Some(now() - SignedDuration::from_secs(1))), pod("b")], at(101)), "KEEP a");
}

fn ready(observation: &leadergroup::policy::Observation) -> String {
    let writes = leadergroup::policy::plan(observation, &super::scene::holding()).writes;
    let status = writes.iter().find_map(|write| if let Write::Status { status, .. } = write { Some(status) } else { None }).expect("the status is written");
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    format!("{} {}: {}", ready.status, ready.reason, ready.message)
}

#[test]
fn a_leader_that_is_out_of_reach_is_not_called_ready_though_its_pod_is() {
    let spec = json!({ "deploymentRef": { "name": "web" }, "election": { "failoverDelaySeconds": 12 } });
    let leader = |suspicion| suspect(with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7)), suspicion, at(100));
    let seen = |candidates| {
        let mut observation = observation(&spec, candidates, Some("a"));
        observation.moment = at(101);
        ready(&observation)
    };
    let waits = seen(vec![leader(Suspicion::Silent), fenced(pod("b"))]);
    assert!(waits.starts_with("False LeaderNotReady: pod a is on a node that does not answer any more") && waits.contains("pod b follows unless"), "{waits}");
    let alone = seen(vec![leader(Suspicion::Overdue)]);
    assert!(alone.starts_with("False NoReadyCandidates: pod a leads and is on a node whose heartbeat is overdue"), "{alone}");
    let doubted = seen(vec![leader(Suspicion::Doubted), fenced(pod("b"))]);
    assert!(doubted.starts_with("True LeaderElected: pod a leads; its node does not answer any more, and others fell silent with it"), "{doubted}");
}

#[test]
fn the_successor_that_is_prepared_is_on_another_node_than_the_leader() {
    let on_node = |candidate: Candidate, node: &str| with(candidate, |pod| pod.node = Some(node.into()));
    let next = |candidates: Vec<Candidate>| {
        let observation = observation(&json!({ "deploymentRef": { "name": "web" } }), candidates, Some("a"));
        leadergroup::policy::leader::successor(&observation, observation.candidates.named("a").unwrap().pod()).map(|pod| pod.name.to_string())
    };
    let leader = on_node(pod("a"), "one");
    assert_eq!(next(vec![leader.clone(), on_node(pod("b"), "one"), on_node(pod("c"), "two")]).as_deref(), Some("c"));
    assert_eq!(next(vec![leader.clone(), on_node(fenced(pod("b")), "one"), on_node(pod("c"), "two")]).as_deref(), Some("c"), "though another was prepared");
    assert_eq!(next(vec![leader, on_node(pod("b"), "one")]).as_deref(), Some("b"), "where there is one");
}

#[test]
fn what_was_renewed_while_nobody_looked_does_not_speak_for_a_node_that_died_meanwhile() {
    let beat = |former: Option<&Heartbeat>, stamp: &str, second: u64| Some(Heartbeat::look(former, stamp, 40, at(second)));
    let mut watch = Watch::of([]);
    watch.evidence =
        ["a", "b", "c"].iter().map(|node| ((*node).into(), Evidence { line: Line::default().after(Heard::Connected, at(1000)), heartbeat: None })).collect();
    let mut told = Vec::new();
    for second in 1..=140 {
        watch.second += 1;
        for (name, evidence) in &mut watch.evidence {
            let a = **name == *"a";
            let heard = match second {
                60 if a => Heard::Nothing,
                _ if a => Heard::Silence,
                _ => Heard::Connected,
            };
            evidence.line = evidence.line.after(heard, at(watch.second));
            if second % 5 == 0 && !(20..100).contains(&second) {
                let renewed = if a { second.min(40) } else { second };
                evidence.heartbeat = beat(evidence.heartbeat.as_ref(), &(renewed / 10).to_string(), watch.second);
            }
        }
        watch.judge();
        told.push(watch.told());
    }
    assert!(told[2..].iter().all(|told| told.starts_with("a: ")), "{told:?}");
}
