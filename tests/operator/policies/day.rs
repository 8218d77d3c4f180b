//! What the operator and the users do all day is hindered by no policy.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::{collected, guarded};
use crate::operator::arena::{self, Arena};
use crate::operator::looks::{deployment_where, fence, only_labelled, ready, told};

/// A cluster that somebody works in.
struct Day {
    arena: Arena,
    /// Of the user, who has the role `edit`.
    kubeconfig: String,
}

impl Day {
    /// kubectl as the user.
    async fn user(&self, arguments: &[&str]) {
        self.arena.kubectl(&[&[&*self.kubeconfig], arguments].concat()).await;
    }

    /// A file of this text in the control plane's folder.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.arena.plane.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The leader is deleted, gets unready, and is no longer to lead.
    async fn failovers(&self) {
        let first = self.arena.leader("web").await;
        self.user(&["delete", "pod", &first.name_any()]).await;
        let second = self.arena.leader_other_than("web", &first).await;
        self.arena.ready_pods("web", 3).await;
        self.arena.set_ready(&second, false).await;
        let third = self.arena.leader_other_than("web", &second).await;
        self.arena.set_ready(&second, true).await;
        self.user(&["annotate", "pod", &third.name_any(), "leadergroup.io/candidate=false"]).await;
        self.arena.leader_other_than("web", &third).await;
        self.user(&["annotate", "pod", &third.name_any(), "leadergroup.io/candidate-"]).await;
    }

    /// The user works on pods, those that lead among them.
    async fn work_on_pods(&self) {
        let leader = self.arena.leader("web").await;
        self.user(&["label", "pod", &leader.name_any(), "team=a", "app.kubernetes.io/part-of=shop"]).await;
        self.user(&["label", "pod", &leader.name_any(), "team-"]).await;
        self.user(&["annotate", "pod", &leader.name_any(), "example.com/note=x"]).await;
        self.arena.kubectl(&["debug", &format!("pod/{}", leader.name_any()), "--image=example.org/busybox", "--attach=false", "--profile=general"]).await;
        self.user(&["debug", &format!("pod/{}", leader.name_any()), "--image=example.org/busybox", "--attach=false", "--profile=general", "--copy-to=copy"])
            .await;
        self.user(&["delete", "pod", "copy", "--now"]).await;
        let evicted = self.arena.others(&leader).await[0].name_any();
        let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": evicted } }).to_string();
        let path = format!("/api/v1/namespaces/{}/pods/{evicted}/eviction", self.arena.namespace);
        self.user(&["create", "--raw", &path, "-f", &self.file("eviction.yaml", &eviction)]).await;
        self.arena.ready_pods("web", 3).await;
    }

    /// A follower that bears no mark is labelled by hand: the operator takes it away.
    async fn repair(&self) {
        let leader = self.arena.leader("web").await;
        let unmarked = async || {
            let pods = self.arena.others(&leader).await;
            let found = pods.into_iter().find(|pod| fence(pod).is_none() && !pod.annotations().contains_key("leadergroup.io/member-of"));
            found.ok_or_else(|| "all bear marks".to_owned())
        };
        let unmarked = self.arena.until("a follower bears no mark", unmarked).await;
        self.arena.witness.tampered(&unmarked.name_any());
        self.user(&["label", "pod", &unmarked.name_any(), "role=leader"]).await;
        told(&self.arena, "LabelRepaired", "it was taken away").await;
        only_labelled(&self.arena, &leader).await;
    }

    /// The group is scaled, rolled out, and given other values of its label.
    async fn changes(&self) {
        self.user(&["scale", "lg/web", "--replicas=4"]).await;
        self.arena.ready_pods("web", 4).await;
        self.user(&["scale", "lg/web", "--replicas=2"]).await;
        self.arena.ready_pods("web", 2).await;
        let before = self.arena.leader("web").await;
        self.user(&["rollout", "restart", "deployment/web"]).await;
        let after = self.arena.leader_other_than("web", &before).await;
        self.arena.ready_pods("web", 2).await;
        self.user(&[
            "patch",
            "lg",
            "web",
            "--type=merge",
            "-p",
            r#"{"spec":{"deployment":{"template":{"spec":{"priority":null,"terminationGracePeriodSeconds":5}}}}}"#,
        ])
        .await;
        let rolled = self.arena.leader_other_than("web", &after).await;
        self.arena.ready_pods("web", 2).await;
        self.user(&["patch", "lg", "web", "--type=merge", "-p", r#"{"spec":{"leaderLabel":{"value":"first","followerValue":"second"}}}"#]).await;
        let values = async |key: &str, wanted: &[&str]| {
            let carried = async || {
                let pods = self.arena.api::<Pod>().list(&ListParams::default().labels("leadergroup.io/group=web")).await.unwrap().items;
                let mut values: Vec<_> = pods.iter().map(|pod| pod.labels().get(key).cloned().unwrap_or_default()).collect();
                values.sort();
                if values == wanted { Ok(()) } else { Err(format!("{values:?}")) }
            };
            self.arena.until("the values of the label", carried).await;
        };
        values("role", &["first", "second"]).await;
        assert_eq!(self.arena.leader("web").await.uid(), rolled.uid());
        self.user(&["patch", "lg", "web", "--type=merge", "-p", r#"{"spec":{"leaderLabel":{"value":"leader","followerValue":null}}}"#]).await;
        values("role", &["", "leader"]).await;
    }

    /// A group is orphaned, and its Deployment and Lease are adopted by the next.
    async fn adoption(&self) {
        let lease = self.arena.lease("web").await;
        self.arena.kubectl(&["delete", "lg", "web", "--cascade=orphan"]).await;
        self.user(&["apply", "-f", &self.file("web.yaml", &arena::web(2))]).await;
        self.arena.leader("web").await;
        let uid = self.arena.group("web").await.uid();
        deployment_where(&self.arena, "web", "the Deployment is adopted", |it| it.owner_references().first().map(|owner| owner.uid.clone()) == uid).await;
        let adopted = async || {
            let now = self.arena.lease("web").await;
            if now.uid() == lease.uid() && now.owner_references().first().map(|owner| owner.uid.clone()) == uid {
                Ok(())
            } else {
                Err(format!("{:?}", now.metadata))
            }
        };
        self.arena.until("the Lease is adopted", adopted).await;
    }

    /// A Deployment of the user's own gets a group, is worked on meanwhile, and is let go.
    async fn reference(&self) {
        self.user(&["apply", "-f", &self.file("backend.yaml", &arena::deployment("backend", 2))]).await;
        ready(&self.arena, "app=backend", 2).await;
        self.user(&["apply", "-f", &self.file("ref.yaml", &(arena::reference("ref", "backend") + "  leaderLabel: { followerValue: follower }\n"))]).await;
        let of_backend = self.arena.leader("ref").await;
        // A bare pod with the labels that a Service selects is no group's by any mark: the operator tells.
        self.arena.witness.tampered("impostor");
        let impostor = "{ apiVersion: v1, kind: Pod, metadata: { name: impostor, labels: { app: backend, role: leader } }, spec: { containers: [{ name: p, image: p }] } }";
        self.user(&["apply", "-f", &self.file("impostor.yaml", impostor)]).await;
        self.arena.condition("ref", "Stalled", "True", "ForeignPodCarriesLabel").await;
        self.user(&["delete", "pod", "impostor", "--now"]).await;
        self.user(&["scale", "deployment/backend", "--replicas=3"]).await;
        self.arena.ready_pods("ref", 3).await;
        self.user(&["rollout", "restart", "deployment/backend"]).await;
        self.arena.leader_other_than("ref", &of_backend).await;
        self.arena.ready_pods("ref", 3).await;
        self.user(&["set", "image", "deployment/backend", "web=registry.k8s.io/pause:3.9"]).await;
        self.user(&["rollout", "status", "deployment/backend", "--timeout=60s"]).await;
        self.arena.ready_pods("ref", 3).await;
        self.arena.leader("ref").await;
        self.user(&["delete", "lg", "ref"]).await;
        let given_back = async || {
            let pods = self.arena.api::<Pod>().list(&ListParams::default().labels("app=backend")).await.unwrap().items;
            let ours = |key: &String| key.starts_with("leadergroup.io/") || key == "role" || key == "controller.kubernetes.io/pod-deletion-cost";
            match pods.iter().find(|pod| pod.labels().keys().chain(pod.annotations().keys()).any(ours)) {
                Some(pod) => Err(format!("{:?} {:?}", pod.labels(), pod.annotations())),
                None => Ok(()),
            }
        };
        self.arena.until("every mark is taken back", given_back).await;
    }
}

#[tokio::test]
async fn a_day_of_the_operators_and_the_users_work_passes() {
    let (mut arena, _) = guarded("day").await;
    // As it is installed: elected on a Lease of its own namespace.
    arena.kill_operator();
    let replica = arena.replica(None);
    arena.kubectl(&["create", "serviceaccount", "user"]).await;
    arena.kubectl(&["create", "rolebinding", "user", "--clusterrole=edit", &format!("--serviceaccount={}:user", arena.namespace)]).await;
    let kubeconfig = arena.plane.kubeconfig_for(&arena.namespace, "user").await.unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let may = async || arena.try_kubectl(&[&*kubeconfig, "auth", "can-i", "patch", "leadergroups"]).await.map_err(|error| error.to_string());
    arena.until("the user may edit", may).await;
    let mut position = 0;
    arena.plane.requests_since(&mut position).unwrap();
    let day = Day { arena, kubeconfig };
    day.failovers().await;
    day.work_on_pods().await;
    day.repair().await;
    day.changes().await;
    day.adoption().await;
    day.reference().await;
    day.user(&["delete", "lg", "web"]).await;
    let Day { arena, .. } = day;
    collected(&arena, "web").await;

    // Nobody was denied anything: neither the operator, nor Kubernetes' controllers, nor the user.
    let mut refused = arena.plane.requests_since(&mut position).unwrap();
    refused.retain(|event| event.status == 403 && event.namespace == arena.namespace);
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!replica.log().contains("ValidatingAdmissionPolicy"), "{}", replica.log_end(40));
    drop(replica);
    arena.finish().await;
}
