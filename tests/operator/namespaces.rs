//! Namespaces that are named and do not exist.

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
