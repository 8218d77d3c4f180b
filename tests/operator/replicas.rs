//! Several replicas of the operator, of which one leads: whatever happens to that one, another goes on, no group's leader
//! moves, and the next failover of a group is the new one's business alone.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use leadergroup::elector::PROCESS_ANNOTATION;
use leadergroup::elector::clock::Stopwatch;

use super::arena::{self, Arena, Operator, PATIENCE};
use super::looks::fence;
use crate::control_plane::{Mode, Proxy};
use crate::elector_program::proof::Played;

/// Replicas, each on a way of its own to the API server, and a group that one of them has settled.
struct Replicas {
    arena: Arena,
    processes: Vec<(Operator, Proxy)>,
    leader: Pod,
}

impl Replicas {
    async fn start(prefix: &str, count: usize) -> Self {
        let arena = Arena::without_operator(prefix).await;
        let mut processes = Vec::new();
        for _ in 0..count {
            let proxy = arena.plane.proxy().unwrap();
            processes.push((arena.replica(Some(&proxy)), proxy));
        }
        arena.apply(&arena::web(3)).await;
        arena.ready_pods("web", 3).await;
        let leader = arena.leader("web").await;
        let replicas = Self { arena, processes, leader };
        for (process, _) in &replicas.processes {
            // Warm: its caches are filled, and it stands by.
            replicas.arena.until("a replica has listed everything", async || ensure(process.log().contains("Everything is listed"), process)).await;
        }
        replicas
    }

    /// The holder of the replicas' own Lease; empty where nobody is.
    async fn holder(&self) -> String {
        let leases: Api<Lease> = Api::namespaced(self.arena.client.clone(), "leadergroup-system");
        let lease = leases.get(&self.arena.namespace).await.unwrap();
        lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
    }

    /// The replica that contends under this identity.
    fn replica_named(&self, identity: &str) -> Option<usize> {
        self.processes.iter().position(|(process, _)| process.log().contains(&format!("identity={identity:?}")))
    }

    /// Which replica leads.
    async fn leading(&self) -> usize {
        let holder = self.holder().await;
        self.replica_named(&holder).unwrap_or_else(|| panic!("{holder:?} holds the Lease"))
    }

    /// Waits until another replica than this one leads, and keeps groups.
    async fn another_leads(&self, former: usize) -> usize {
        let arena = &self.arena;
        arena
            .until("another replica leads", async || {
                let holder = self.holder().await;
                let leading = self.replica_named(&holder);
                let keeps = |(process, _): &(Operator, Proxy)| process.log().contains("Groups are reconciled from now on");
                match leading {
                    Some(leading) if leading != former && keeps(&self.processes[leading]) => Ok(leading),
                    _ => Err(format!("{holder:?} holds the Lease")),
                }
            })
            .await
    }

    /// The group's leader is the one of the beginning, and nobody has written to its pod.
    async fn nobody_moved(&self) {
        let now = self.arena.leader("web").await;
        let marks = |pod: &Pod| (pod.annotations()["leadergroup.io/term"].clone(), fence(pod).map(str::to_owned));
        assert_eq!((now.name_any(), marks(&now)), (self.leader.name_any(), marks(&self.leader)));
        assert_eq!(self.arena.transitions().await, 1);
    }

    /// The group's leader is deleted, and the replica that leads now makes another.
    async fn next_failover_works(&mut self) {
        self.arena.delete_pod(&self.leader).await;
        self.leader = self.arena.leader_other_than("web", &self.leader).await;
    }

    /// This replica ends by itself, as one whose leadership is lost.
    async fn ends_as_loser(&self, replica: usize) {
        let (process, _) = &self.processes[replica];
        let status = process.wait(PATIENCE).await.unwrap_or_else(|| panic!("it runs on:\n{}", process.log_end(30)));
        assert_eq!(status.code(), Some(1), "{}", process.log_end(10));
        assert!(process.log().contains("leader election lost"), "{}", process.log_end(10));
    }

    async fn finish(self) {
        self.arena.finish().await;
    }
}

fn ensure(is: bool, process: &Operator) -> Result<(), String> {
    if is { Ok(()) } else { Err(process.log_end(5)) }
}

#[tokio::test]
async fn a_replica_that_was_killed_is_followed_by_another_and_no_leader_moves() {
    let mut replicas = Replicas::start("replicas-kill", 3).await;
    for _ in 0..2 {
        let leading = replicas.leading().await;
        replicas.processes[leading].0.kill().unwrap();
        replicas.another_leads(leading).await;
        if replicas.arena.transitions().await == 1 {
            replicas.nobody_moved().await;
        }
        replicas.next_failover_works().await;
    }
    replicas.finish().await;
}

#[tokio::test]
async fn a_replica_whose_container_is_reported_to_have_ended_is_followed_at_once() {
    let arena = Arena::without_operator("replicas-proof").await;
    let mut pods = Vec::new();
    let mut processes = Vec::new();
    for number in 0..2 {
        let pod = Played::new(arena.client.clone(), "leadergroup-system", &format!("{}-{number}", arena.namespace)).await;
        let name = ("POD_NAME".to_owned(), pod.pod.name_any());
        let proxy = arena.plane.proxy().unwrap();
        processes.push((arena.replica_in(Some(&proxy), &[], &[&pod.environment()[..], &[name]].concat()), proxy));
        pods.push(pod);
    }
    arena.apply(&arena::web(2)).await;
    arena.ready_pods("web", 2).await;
    let leader = arena.leader("web").await;
    let mut replicas = Replicas { arena, processes, leader };
    let (leading, leases) = (replicas.leading().await, Api::<Lease>::namespaced(replicas.arena.client.clone(), "leadergroup-system"));
    let told = async || {
        let lease = leases.get(&replicas.arena.namespace).await.unwrap();
        let is_told = lease.annotations().contains_key(PROCESS_ANNOTATION);
        is_told.then(|| lease.spec.unwrap().acquire_time.unwrap().0).ok_or_else(|| "the Lease does not".to_owned())
    };
    let acquired = replicas.arena.until("the Lease says where its holder runs", told).await;
    replicas.processes[leading].0.kill().unwrap();
    let watch = Stopwatch::start();
    pods[leading].ended(acquired).await;
    replicas.another_leads(leading).await;
    let after = watch.elapsed();
    println!("followed {after:?} after it was killed");
    assert!(after < Duration::from_millis(2500), "{after:?}");
    replicas.nobody_moved().await;
    replicas.next_failover_works().await;
    replicas.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_asked_to_end_gives_its_lease_back() {
    let mut replicas = Replicas::start("replicas-term", 2).await;
    let leading = replicas.leading().await;
    let (process, _) = &replicas.processes[leading];
    process.terminate().unwrap();
    assert_eq!(process.wait(PATIENCE).await.expect("it ends").code(), Some(0), "{}", process.log_end(20));
    replicas.another_leads(leading).await;
    replicas.nobody_moved().await;
    replicas.next_failover_works().await;
    replicas.finish().await;
}

#[tokio::test]
async fn a_replica_that_was_paused_beyond_its_lease_ends_when_it_wakes() {
    let mut replicas = Replicas::start("replicas-stop", 2).await;
    let leading = replicas.leading().await;
    replicas.processes[leading].0.pause().unwrap();
    replicas.another_leads(leading).await;
    replicas.nobody_moved().await;
    replicas.next_failover_works().await;
    replicas.processes[leading].0.resume().unwrap();
    replicas.ends_as_loser(leading).await;
    replicas.next_failover_works().await;
    replicas.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_ends_before_another_leads() {
    for mode in [Mode::BlackHole, Mode::Refuse] {
        let mut replicas = Replicas::start("replicas-cut", 3).await;
        let leading = replicas.leading().await;
        replicas.processes[leading].1.set(mode).await;
        replicas.another_leads(leading).await;
        replicas.ends_as_loser(leading).await;
        replicas.nobody_moved().await;
        replicas.next_failover_works().await;
        replicas.finish().await;
    }
}

#[tokio::test]
async fn a_standby_is_ready_and_keeps_no_group() {
    let replicas = Replicas::start("replicas-rest", 3).await;
    let leading = replicas.leading().await;
    for (number, (process, _)) in replicas.processes.iter().enumerate() {
        let keeps = process.log().contains("Groups are reconciled from now on");
        assert_eq!(keeps, number == leading, "replica {number}:\n{}", process.log_end(20));
        assert_eq!(replicas.arena.probe_of(process, "readyz").await.0, "200");
        let (_, metrics) = replicas.arena.probe_of(process, "metrics").await;
        let status = format!("leader_election_master_status{{name={:?}}} {}", replicas.arena.namespace, u8::from(keeps));
        assert!(metrics.contains(&status), "{status} is not in\n{metrics}");
    }
    replicas.finish().await;
}
