//! The operator may end, hang or run twice at any moment: a settled leader stays, and an election that was begun is
//! carried through once, with a term that nobody had before.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};

use super::arena::{Arena, PATIENCE};
use super::steps::{settled, term};

const ACCOUNT: &str = "system:serviceaccount:leadergroup-system:leadergroup-operator";

/// Everything that a restart must leave as it is.
#[derive(Debug, PartialEq)]
struct Marks {
    labelled: Vec<(String, Option<String>)>,
    holder: Option<String>,
    acquired: Option<Timestamp>,
    lease_annotations: Vec<(String, String)>,
    lease_transitions: Option<i32>,
    term: i64,
    transitions: i64,
}

impl Arena {
    async fn marks(&self) -> Marks {
        let lease = self.lease("web").await;
        let status = self.group("web").await.status.unwrap();
        // Who signs the Lease is another process.
        let lease_annotations = lease.annotations().clone().into_iter().filter(|(key, _)| key != "leadergroup.io/operator").collect();
        let spec = lease.spec.unwrap();
        Marks {
            labelled: self.labelled().await.iter().map(|pod| (pod.name_any(), pod.annotations().get("leadergroup.io/term").cloned())).collect(),
            holder: spec.holder_identity,
            acquired: spec.acquire_time.map(|time| time.0),
            lease_annotations,
            lease_transitions: spec.lease_transitions,
            term: status.term,
            transitions: status.transitions,
        }
    }

    /// How often the operator has written to pods of this namespace, or tried to.
    fn pod_writes(&self) -> usize {
        let writes = self.plane.audit().unwrap();
        writes.iter().filter(|write| write.user == ACCOUNT && write.namespace == self.namespace && write.resource == "pods").count()
    }

    async fn renewed(&self) -> Timestamp {
        self.lease("web").await.spec.unwrap().renew_time.unwrap().0
    }

    /// Waits until an operator renews the Lease: it has looked at the group, and found nothing better to do.
    async fn renewed_after(&self, before: Timestamp) {
        self.until("the Lease is renewed", async || {
            let now = self.renewed().await;
            if now > before { Ok(()) } else { Err(format!("last renewed at {now}")) }
        })
        .await;
    }

    async fn gone(&self, pod: &Pod) {
        let pods = self.api::<Pod>();
        self.until("the pod is gone", async || match pods.get_opt(&pod.name_any()).await {
            Ok(Some(there)) if there.uid() == pod.uid() => Err("it is there".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_operator_finds_everything_as_it_was_and_writes_to_no_pod() {
    let (mut arena, _) = settled("killed", 3).await;
    let (marks, writes) = (arena.marks().await, arena.pod_writes());
    assert_eq!(marks.labelled.len(), 1);
    assert!(writes > 0, "the audit log does not tell of the election");
    for _ in 0..2 {
        arena.kill_operator();
        let before = arena.renewed().await;
        arena.start_operator();
        arena.renewed_after(before).await;
        assert_eq!(arena.marks().await, marks);
        assert_eq!(arena.pod_writes(), writes);
    }
    arena.finish().await;
}

#[tokio::test]
async fn an_operator_that_is_asked_to_end_does_so_and_moves_nothing() {
    let (mut arena, _) = settled("terminated", 3).await;
    let (marks, writes) = (arena.marks().await, arena.pod_writes());
    arena.operator().terminate().unwrap();
    let ended = arena.operator().wait(PATIENCE).await.expect("it ends");
    assert_eq!(ended.code(), Some(0));
    assert_eq!(arena.marks().await, marks);
    assert_eq!(arena.pod_writes(), writes);

    let before = arena.renewed().await;
    arena.start_operator();
    arena.renewed_after(before).await;
    assert_eq!(arena.marks().await, marks);
    assert_eq!(arena.pod_writes(), writes);
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_that_is_lost_while_no_operator_runs_is_followed_when_one_returns() {
    let (mut arena, mut leader) = settled("away", 3).await;
    arena.witness.expect_rising_terms();
    for wait_until_it_is_gone in [true, false] {
        arena.ready_pods("web", 3).await;
        arena.kill_operator();
        arena.delete_pod(&leader).await;
        if wait_until_it_is_gone {
            arena.gone(&leader).await;
            assert!(arena.labelled().await.is_empty(), "somebody leads though no operator runs");
        }
        arena.start_operator();
        let next = arena.leader_other_than("web", &leader).await;
        assert!(term(&next) > term(&leader), "term {} after {}", term(&next), term(&leader));
        arena.gone(&leader).await;
        assert_eq!(arena.labelled_names().await, [next.name_any()]);
        leader = next;
    }
    arena.finish().await;
}

/// A moment of an election that can be seen from outside.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Before anything is seen of it.
    Beginning,
    /// The Lease names another holder.
    Recorded,
    /// The old leader carries the label no longer, or is gone.
    Unlabelled,
    /// Another pod carries the label.
    Labelled,
}

const STEPS: [Step; 4] = [Step::Beginning, Step::Recorded, Step::Unlabelled, Step::Labelled];

/// How a leader is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Deleted,
    DeletedAtOnce,
    Unready,
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// Makes the leader go, and returns at this step of the election that follows.
async fn lose(arena: &Arena, leader: &Pod, loss: Loss, step: Step) {
    let since = arena.version().await;
    let (name, uid) = (leader.name_any(), leader.uid());
    let labelled = |pod: &Pod| pod.labels().get("role").is_some_and(|role| role == "leader");
    let reached = async {
        match step {
            Step::Beginning => {}
            Step::Recorded => drop(arena.sees(&since, |lease: &Lease, _| holder(lease) != Some(&name)).await),
            Step::Unlabelled => drop(arena.sees(&since, |pod: &Pod, gone| pod.uid() == uid && (gone || !labelled(pod))).await),
            Step::Labelled => drop(arena.sees(&since, |pod: &Pod, gone| pod.uid() != uid && !gone && labelled(pod)).await),
        }
    };
    let losing = async {
        let pods: Api<Pod> = arena.api();
        match loss {
            Loss::Deleted => arena.delete_pod(leader).await,
            Loss::DeletedAtOnce => drop(pods.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap()),
            Loss::Unready => arena.set_ready(leader, false).await,
        }
    };
    tokio::join!(reached, losing);
}

/// Waits until another pod leads in a higher term, and the old leader is gone.
async fn followed(arena: &Arena, former: &Pod, when: &str) -> Pod {
    let next = arena.leader_other_than("web", former).await;
    assert!(term(&next) > term(former), "term {} after {}, {when}", term(&next), term(former));
    assert_eq!(arena.labelled_names().await, [next.name_any()], "{when}");
    if arena.api::<Pod>().get_opt(&former.name_any()).await.unwrap().is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()) {
        arena.delete_pod(former).await;
    }
    arena.gone(former).await;
    arena.ready_pods("web", 3).await;
    assert_eq!(arena.leader("web").await.uid(), next.uid(), "{when}");
    next
}

#[tokio::test]
async fn an_operator_may_be_killed_at_any_step_of_an_election() {
    let (mut arena, mut leader) = settled("steps", 3).await;
    arena.witness.expect_rising_terms();
    for loss in [Loss::Deleted, Loss::DeletedAtOnce, Loss::Unready] {
        for step in STEPS {
            lose(&arena, &leader, loss, step).await;
            arena.kill_operator();
            arena.start_operator();
            leader = followed(&arena, &leader, &format!("{loss:?}, killed when {step:?}")).await;
        }
    }
    arena.finish().await;
}

#[tokio::test]
async fn an_operator_that_hangs_in_an_election_carries_it_through_when_it_goes_on() {
    let (mut arena, mut leader) = settled("hangs", 3).await;
    arena.witness.expect_rising_terms();
    for step in STEPS {
        lose(&arena, &leader, Loss::Deleted, step).await;
        arena.operator().pause().unwrap();
        // It takes a second to go.
        arena.gone(&leader).await;
        arena.operator().resume().unwrap();
        leader = followed(&arena, &leader, &format!("paused when {step:?}")).await;
    }
    arena.finish().await;
}

#[tokio::test]
async fn an_operator_that_hangs_while_another_elects_does_no_harm_when_it_goes_on() {
    let (mut arena, mut leader) = settled("relieved", 3).await;
    arena.witness.expect_rising_terms();
    for step in STEPS {
        lose(&arena, &leader, Loss::Deleted, step).await;
        arena.operator().pause().unwrap();
        let other = arena.another_operator();
        let second = arena.leader_other_than("web", &leader).await;
        arena.delete_pod(&second).await;
        let third = arena.leader_other_than("web", &second).await;
        assert!(term(&leader) < term(&second) && term(&second) < term(&third), "paused when {step:?}");
        arena.operator().resume().unwrap();
        // Now both have an election to hold.
        arena.delete_pod(&third).await;
        leader = followed(&arena, &third, &format!("resumed beside another, paused when {step:?}")).await;
        drop(other);
    }
    arena.finish().await;
}

#[tokio::test]
async fn two_operators_at_once_never_label_two_pods() {
    let (mut arena, mut leader) = settled("double", 3).await;
    arena.witness.expect_rising_terms();
    let other = arena.another_operator();
    arena.until("the other operator is at work", async || if other.log().contains("Everything is listed") { Ok(()) } else { Err(other.log_end(5)) }).await;
    for round in 0..5 {
        arena.delete_pod(&leader).await;
        leader = followed(&arena, &leader, &format!("in round {round} of two operators")).await;
        assert!(other.ended().is_none() && arena.operator().ended().is_none(), "an operator has ended");
    }
    drop(other);
    arena.finish().await;
}
