//! Terms that no election gave: on a pod, in a template, on the Lease, in the status. None is believed, and what follows is
//! above what was really given out; and a floor that users set after a restore.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use serde_json::json;

use super::arena;
use super::looks::{follower, told};
use super::steps::{settled, settled_with, term};

const FORGED: [&str; 4] = ["9223372036854775807", "9007199254740992", "100000", "-5"];

#[tokio::test]
async fn a_forged_term_of_a_follower_is_taken_away_and_leads_to_none_that_is_higher() {
    let (mut arena, leader) = settled("forged-pod", 3).await;
    arena.witness.expect_rising_terms();
    for forged in FORGED {
        let pod = follower(&arena, &leader).await.name_any();
        arena.kubectl(&["annotate", "--overwrite", "pod", &pod, &format!("leadergroup.io/term={forged}")]).await;
        told(&arena, "LabelRepaired", &format!("pod {pod} bore a term that no election gave it")).await;
    }
    arena.delete_pod(&leader).await;
    assert_eq!(term(&arena.leader_other_than("web", &leader).await), 2);
    arena.finish().await;
}

#[tokio::test]
async fn a_forged_term_in_a_template_is_none_that_the_leader_bears() {
    let yaml = arena::web(2).replace("template:\n", "template:\n      metadata: { annotations: { leadergroup.io/term: \"9223372036854775807\" } }\n");
    let (mut arena, first) = settled_with("forged-template", 2, &yaml).await;
    arena.witness.expect_rising_terms();
    assert_eq!(term(&first), 1);
    arena.delete_pod(&first).await;
    assert_eq!(term(&arena.leader_other_than("web", &first).await), 2);
    arena.finish().await;
}

#[tokio::test]
async fn a_forged_mark_of_the_lease_is_put_where_no_term_can_have_been() {
    let (mut arena, mut leader) = settled("forged-lease", 3).await;
    arena.witness.expect_rising_terms();
    for forged in FORGED {
        arena.kubectl(&["annotate", "--overwrite", "lease", "web", &format!("leadergroup.io/reserved-term={forged}")]).await;
        let mark = async || {
            let lease: Lease = arena.lease("web").await;
            let mark = lease.annotations()["leadergroup.io/reserved-term"].clone();
            if mark == forged { Err(format!("the mark is {mark}")) } else { Ok(()) }
        };
        arena.until("the mark is another", mark).await;
        arena.delete_pod(&leader).await;
        let next = arena.leader_other_than("web", &leader).await;
        assert!(term(&leader) < term(&next) && term(&next) < 200, "term {} after {}", term(&next), term(&leader));
        leader = next;
        arena.ready_pods("web", 3).await;
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_forged_term_in_the_status_that_can_be_none_is_refused_and_one_that_can_is_told_and_gone_on_from() {
    let (mut arena, leader) = settled("forged-status", 3).await;
    arena.witness.expect_rising_terms();
    let forge = async |term: i64| {
        let patch = json!({ "status": { "term": term } }).to_string();
        arena.try_kubectl(&["patch", "lg", "web", "--subresource=status", "--type=merge", "-p", &patch]).await
    };
    for term in [i64::MAX, -1] {
        assert!(forge(term).await.unwrap_err().to_string().contains("status.term"), "{term}");
    }
    forge(100_000).await.unwrap();
    arena.delete_pod(&leader).await;
    let next = arena.leader_other_than("web", &leader).await;
    assert_eq!(term(&next), 100_018, "it may be another operator's word, so it is never lowered");
    told(&arena, "TermsJump", "terms go on from 100018 on").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_status_that_is_removed_by_hand_begins_no_term_anew() {
    let (mut arena, first) = settled("no-status", 3).await;
    arena.witness.expect_rising_terms();
    arena.delete_pod(&first).await;
    let mut leader = arena.leader_other_than("web", &first).await;
    for running in [true, false] {
        arena.ready_pods("web", 3).await;
        if !running {
            arena.kill_operator();
        }
        arena.kubectl(&["patch", "lg", "web", "--subresource=status", "--type=json", "-p", r#"[{"op":"remove","path":"/status"}]"#]).await;
        if !running {
            arena.start_operator();
        }
        assert_eq!(term(&arena.leader("web").await), term(&leader), "it leads on in its term");
        arena.delete_pod(&leader).await;
        let next = arena.leader_other_than("web", &leader).await;
        assert!(term(&leader) < term(&next) && term(&next) < 100, "{} after {}", term(&next), term(&leader));
        leader = next;
    }
    arena.finish().await;
}

#[tokio::test]
async fn no_term_is_given_out_below_the_floor_that_the_group_asks_for() {
    let yaml = arena::web(3) + "  election: { minTerm: 500 }\n";
    let (mut arena, first) = settled_with("floor", 3, &yaml).await;
    arena.witness.expect_rising_terms();
    assert_eq!(term(&first), 500);
    arena.change(json!({ "election": { "minTerm": 1000 } })).await;
    assert_eq!(term(&arena.leader("web").await), 500, "a leader keeps its term");
    arena.delete_pod(&first).await;
    assert_eq!(term(&arena.leader_other_than("web", &first).await), 1000);
    let refused = arena.try_kubectl(&["patch", "lg", "web", "--type=merge", "-p", r#"{"spec":{"election":{"minTerm":0}}}"#]).await.unwrap_err();
    assert!(refused.to_string().contains("minTerm"), "{refused}");
    arena.finish().await;
}

#[tokio::test]
async fn no_term_comes_again_though_lease_pod_and_operator_are_lost_before_the_status_tells_it() {
    let (mut arena, mut leader) = settled("all-lost", 3).await;
    arena.witness.expect_rising_terms();
    for _ in 0..4 {
        arena.ready_pods("web", 3).await;
        arena.delete_pod(&leader).await;
        let label = async || {
            let now = arena.labelled().await;
            now.into_iter().find(|pod| pod.uid() != leader.uid()).ok_or_else(|| "nobody else leads".to_owned())
        };
        let new = arena.until("another pod has the label", label).await;
        arena.kill_operator();
        let lost = ["delete", "--wait=false", "--grace-period=0", "--force", &format!("pod/{}", new.name_any()), "lease/web"].map(str::to_owned);
        arena.kubectl(&lost.iter().map(String::as_str).collect::<Vec<_>>()).await;
        arena.start_operator();
        leader = arena.leader_other_than("web", &new).await;
    }
    arena.finish().await;
}
