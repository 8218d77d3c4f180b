//! Namespaces: those that are named and do not exist, and those that have no group.

use kube::ResourceExt;

use super::arena::{self, Arena};

#[tokio::test]
async fn a_namespace_that_does_not_exist_is_told_at_the_start_and_watched_all_the_same() {
    let mut arena = Arena::without_operator("missing").await;
    let later = format!("{}-later", arena.namespace);
    arena.start_operator_with(&[&format!("--namespace={later}")]);
    let told = format!("namespace={later:?}");
    arena
        .until("it is told", async || {
            let log = arena.operator().log();
            let line = log.lines().find(|line| line.contains("does not exist"));
            line.filter(|line| line.contains("WARN") && line.contains(&told)).map(str::to_owned).ok_or(log)
        })
        .await;
    assert!(!arena.operator().log().contains(&format!("namespace={:?}", arena.namespace)), "the other one is there");
    arena.plane.kubectl(&["create", "namespace", &later]).await.unwrap().succeeded().unwrap();
    arena.plane.kubectl_with_input(&["-n", &later, "apply", "-f", "-"], &arena::web(1)).await.unwrap().succeeded().unwrap();
    let wait = ["-n", &later, "wait", "--for=condition=Ready", "leadergroup/web", "--timeout=30s"];
    arena.plane.kubectl(&wait).await.unwrap().succeeded().unwrap();
    arena.plane.kubectl(&["delete", "namespace", &later, "--wait=false"]).await.unwrap().succeeded().unwrap();
    arena.finish().await;
}

#[tokio::test]
async fn of_all_namespaces_those_without_groups_cost_nothing_and_the_first_group_of_one_is_led_at_once() {
    let arena = Arena::alone_without_operator("first-group", "--watch-cache-sizes=pods#0").await;
    arena.apply(&arena::deployment("app", 3)).await;
    super::looks::ready(&arena, "app=app", 3).await;
    let operator = arena::operator(&arena.plane, &arena.kubeconfig, None);
    let kept = async |kind: &str| {
        let (_, metrics) = arena.probe_of(&operator, "metrics").await;
        let series = format!("leadergroup_objects{{kind=\"{kind}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)).and_then(|count| count.parse::<u32>().ok()).ok_or(metrics)
    };
    let until = async |what: &str, pods: u32| {
        arena
            .until(what, async || {
                let ready = arena.probe_of(&operator, "readyz").await;
                let kept = (kept("Pod").await?, kept("Deployment").await?);
                if ready.0 == "200" && kept == (pods, pods.min(1)) { Ok(()) } else { Err(format!("{ready:?} {kept:?}")) }
            })
            .await;
    };
    until("nothing is kept", 0).await;
    arena.apply(&arena::reference("web", "app")).await;
    let leader = arena.leader("web").await;
    until("its pods are kept", 3).await;
    arena.kubectl(&["delete", "pod", &leader.name_any(), "--grace-period=0", "--force"]).await;
    let next = arena.leader_other_than("web", &leader).await;
    // One that starts anew lists the groups first, and then what they need.
    drop(operator);
    let operator = arena::operator(&arena.plane, &arena.kubeconfig, None);
    arena.set_ready(&next, false).await;
    arena.leader_other_than("web", &next).await;
    arena.kubectl(&["delete", "lg", "web"]).await;
    super::looks::clean(&arena).await;
    drop(operator);
    arena.finish().await;
}
