//! Two installations of the operator over the same groups: they make no two leaders, all but one step back and say so, and
//! the other goes on where the first is gone.

use kube::ResourceExt;
use serde_json::json;

use super::arena::{self, Arena, Operator};
use super::looks::{ready, told, writes};
use super::steps::{settled, term};

/// What an operator needs for its own lock in the namespace that it keeps.
const LOCKS: &str = r"{ apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: { name: leases }, rules: [{ apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, watch, create, update] }] }";

#[tokio::test]
async fn an_operator_without_election_that_comes_later_takes_over_and_the_earlier_one_steps_back() {
    let (mut arena, leader) = settled("beside", 3).await;
    arena.witness.expect_rising_terms();
    let other = arena.another_operator();
    arena.until("the other operator is at work", async || if other.log().contains("Everything is listed") { Ok(()) } else { Err(other.log_end(5)) }).await;
    arena.delete_pod(&leader).await;
    let second = arena.leader_other_than("web", &leader).await;
    // Whichever wrote the Lease first has the group, and the other leaves it alone.
    told(&arena, "AnotherOperator", "leaves it alone; stop one of the two").await;
    let stepped_back = |process: &crate::control_plane::Process| process.log().contains("AnotherOperator") || process.log().contains("leaves it alone");
    assert!(stepped_back(&other) != stepped_back(arena.operator()), "one of the two steps back");
    arena.ready_pods("web", 3).await;
    arena.delete_pod(&second).await;
    let third = arena.leader_other_than("web", &second).await;
    assert!(term(&second) < term(&third));
    drop(other);
    arena.finish().await;
}

/// Lets the operator have its own lock in the namespace that it keeps, where locks can be seen.
async fn may_have_locks(arena: &Arena) {
    const ACCOUNT: &str = "--serviceaccount=leadergroup-system:leadergroup-operator";
    arena.kubectl(&["create", "rolebinding", "locks", "--clusterrole=edit", ACCOUNT]).await;
    arena.apply(LOCKS).await;
    arena.kubectl(&["create", "rolebinding", "leases", "--role=leases", ACCOUNT]).await;
}

/// Two installations that share the groups of one namespace by the label `shard`, with locks that both can see.
async fn shards(arena: &Arena) -> [Operator; 2] {
    let own = &arena.namespace;
    may_have_locks(arena).await;
    ["a", "b"].map(|shard| arena.installation_with(own, &format!("{own}-{shard}"), &[&format!("--watch-label-selector=shard={shard}")]))
}

/// The operator that has written the group's Lease last.
async fn keeper(arena: &Arena) -> String {
    arena.lease("web").await.annotations()["leadergroup.io/operator"].clone()
}

/// Waits until it is this one.
async fn kept_by(arena: &Arena, operator: &str) {
    let kept = async || {
        let keeper = keeper(arena).await;
        if keeper.ends_with(operator) { Ok(()) } else { Err(keeper) }
    };
    arena.until(&format!("{operator} has written the Lease"), kept).await;
}

#[tokio::test]
async fn installations_share_the_groups_by_their_labels_and_a_group_goes_from_one_to_the_other_without_a_move() {
    let mut arena = Arena::without_operator("shards").await;
    arena.witness.expect_rising_terms();
    let [a, b] = shards(&arena).await;
    arena.apply(&format!("{}  lease: {{ renewal: OnTransition }}\n", arena::web(3))).await;
    arena
        .until("both are at work", async || {
            let works = |it: &Operator| it.log().contains("Groups are reconciled from now on");
            if works(&a) && works(&b) { Ok(()) } else { Err(a.log_end(5) + &b.log_end(5)) }
        })
        .await;
    assert_eq!(writes(&arena, "deployments").len(), 0, "it is nobody's");
    arena.kubectl(&["label", "leadergroup", "web", "shard=a"]).await;
    let leader = arena.leader("web").await;
    arena.ready_pods("web", 3).await;
    assert!(keeper(&arena).await.ends_with("-a?shard=a"), "{}", keeper(&arena).await);
    arena.kubectl(&["label", "--overwrite", "leadergroup", "web", "shard=b"]).await;
    arena.delete_pod(&leader).await;
    let second = arena.leader_other_than("web", &leader).await;
    assert!(term(&leader) < term(&second));
    kept_by(&arena, "-b?shard=b").await;
    assert!(!b.log().contains("leaves it alone"), "{}", b.log_end(20));
    // And back, while nothing else happens: nobody loses the label.
    arena.kubectl(&["label", "--overwrite", "leadergroup", "web", "shard=a"]).await;
    arena.ready_pods("web", 3).await;
    arena.change(json!({ "lease": { "leaseDurationSeconds": 20 } })).await;
    kept_by(&arena, "-a?shard=a").await;
    assert_eq!(arena.leader("web").await.uid(), second.uid());
    arena.finish().await;
}

#[tokio::test]
async fn of_two_groups_of_one_deployment_the_elder_leads_though_another_installation_keeps_it() {
    let arena = Arena::without_operator("shards-overlap").await;
    let _operators = shards(&arena).await;
    arena.apply(&arena::deployment("web", 3)).await;
    let group = |name: &str| arena::reference(name, "web");
    arena.apply(&group("one")).await;
    arena.kubectl(&["label", "leadergroup", "one", "shard=a"]).await;
    let leader = arena.leader("one").await;
    arena.apply(&group("two")).await;
    arena.kubectl(&["label", "leadergroup", "two", "shard=b"]).await;
    told(&arena, "OverlappingGroups", "LeaderGroup one names Deployment web, too, and was there first").await;
    assert_eq!(arena.leader("one").await.uid(), leader.uid());
    arena.finish().await;
}

#[tokio::test]
async fn of_two_installations_the_later_leaves_the_group_alone_until_the_first_is_gone() {
    let mut arena = Arena::without_operator("installed-twice").await;
    arena.witness.expect_rising_terms();
    let [one, two] = ["one", "two"].map(|lock| format!("{}-{lock}", arena.namespace));
    // Locks in the namespace that is kept can be seen.
    let own = arena.namespace.clone();
    may_have_locks(&arena).await;
    let first = arena.installation(&own, &one);
    arena.apply(&arena::web(3)).await;
    let leader = arena.leader("web").await;
    ready(&arena, "leadergroup.io/group=web", 3).await;
    let second = arena.installation(&own, &two);
    told(&arena, "AnotherOperator", &format!("elected on Lease {own}/{one}")).await;
    arena.delete_pod(&leader).await;
    let next = arena.leader_other_than("web", &leader).await;
    assert!(!first.log().contains("leaves it alone"), "{}", first.log_end(20));
    // Uninstalled: its lock is given back.
    first.terminate().unwrap();
    arena.until("the first has ended", async || first.ended().map(drop).ok_or_else(|| "it runs".to_owned())).await;
    ready(&arena, "leadergroup.io/group=web", 3).await;
    arena.delete_pod(&next).await;
    let last = arena.leader_other_than("web", &next).await;
    assert!(term(&leader) < term(&next) && term(&next) < term(&last));
    assert!(second.log().contains("No other operator keeps this group any more"), "{}", second.log_end(20));
    arena.finish().await;
}

#[tokio::test]
async fn without_election_no_operator_starts_beside_one_that_runs_unless_it_is_told_to() {
    let arena = Arena::without_operator("refuses").await;
    let now = leadergroup::elector::clock::wall();
    let lock = format!(
        "{{ apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{ name: lock, labels: {{ app.kubernetes.io/managed-by: leadergroup-operator }} }}, \
         spec: {{ holderIdentity: somebody, leaseDurationSeconds: 600, renewTime: \"{now:.6}\" }} }}"
    );
    arena.apply(&lock).await;
    let refused = arena.another_operator();
    let status = refused.wait(arena::PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(1));
    let log = refused.log();
    assert!(log.contains(&format!("somebody holds Lease {}/lock", arena.namespace)) && log.contains("--beside-another-operator"), "{log}");
    assert!(writes(&arena, "leadergroups").is_empty());
    let told_to = arena.operator_beside_another();
    arena.apply(&arena::web(1)).await;
    let leader = arena.leader("web").await;
    assert!(leader.name_any().starts_with("web-"));
    drop(told_to);
    arena.finish().await;
}
