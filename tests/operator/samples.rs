//! The shipped samples of groups: they are admitted, they elect, and what they and the pages say of them is so.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Volume};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use leadergroup::api::LeaderGroup;
use serde_json::Value;

use super::arena::Arena;

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn group(text: &str) -> LeaderGroup {
    let objects = text.split("---\n").map(|object| serde_saphyr::from_str::<Value>(object).unwrap());
    serde_json::from_value(objects.into_iter().find(|object| object["kind"] == "LeaderGroup").unwrap()).unwrap()
}

/// The files that the group's pods have by a downward API volume: the volume's name, and the path and source of each file.
fn files(group: &LeaderGroup) -> (String, Vec<(String, String)>) {
    let template: PodTemplateSpec = serde_json::from_value(serde_json::to_value(&group.spec.deployment.as_ref().unwrap().template).unwrap()).unwrap();
    let volumes: Vec<Volume> = template.spec.unwrap().volumes.unwrap();
    let volume = volumes.into_iter().find(|volume| volume.downward_api.is_some()).unwrap();
    let items = volume.downward_api.unwrap().items.unwrap().into_iter();
    (volume.name, items.map(|item| (item.path, item.field_ref.unwrap().field_path)).collect())
}

/// What a file of that source holds on this pod: the API server itself names fields so.
fn content(pod: &Pod, source: &str) -> String {
    let key = source.split('\'').nth(1).unwrap();
    let map = if source.starts_with("metadata.labels[") { pod.labels() } else { pod.annotations() };
    map.get(key).cloned().unwrap_or_default()
}

#[tokio::test]
async fn the_samples_of_groups_are_admitted_to_where_they_belong_and_elect() {
    let arena = Arena::new("samples").await;
    for (name, path) in [("web", "web.yaml"), ("worker", "existing.yaml"), ("role-and-term", "role-and-term.yaml")] {
        let path = format!("{}/config/samples/{path}", env!("CARGO_MANIFEST_DIR"));
        arena.kubectl(&["apply", "--validate=strict", "-f", &path]).await;
        arena.leader(name).await;
    }
    arena.finish().await;
}

#[tokio::test]
async fn the_pods_of_the_tour_have_the_names_that_the_readme_shows() {
    let arena = Arena::new("tour").await;
    arena.apply(&file("config/samples/web.yaml")).await;
    let leader = arena.leader("web").await;
    let hash = &leader.labels()["pod-template-hash"];
    let readme = file("README.md");
    let tour = readme.split_once("## A minute's tour").unwrap().1.split_once("\n## ").unwrap().0;
    assert!(tour.contains(&format!("web-{hash}-")), "README.md should show pods of web-{hash}");
    arena.change(serde_json::json!({ "deployment": { "template": { "metadata": { "annotations": { "example.com/release": "2" } } } } })).await;
    let next = arena.leader_where("web", "a leader of the new ReplicaSet", |pod| pod.labels()["pod-template-hash"] != *hash).await;
    let hash = &next.labels()["pod-template-hash"];
    assert!(tour.contains(&format!("web-{hash}-")), "README.md should show pods of web-{hash} after its rollout");
    arena.finish().await;
}

#[tokio::test]
async fn the_files_by_which_a_pod_knows_its_role_and_term_hold_what_the_operator_writes() {
    let arena = Arena::new("files").await;
    let label = ["label", "namespace", &arena.namespace, "pod-security.kubernetes.io/enforce=restricted"];
    arena.plane.kubectl(&label).await.unwrap().succeeded().unwrap();
    let text = file("config/samples/role-and-term.yaml");
    arena.apply(&text).await;
    let sample = group(&text);
    let (_, files) = files(&sample);
    let known = |pod: &Pod| -> Vec<(String, String)> { files.iter().map(|(path, source)| (path.clone(), content(pod, source))).collect() };
    let both = |role: &str, term: &str| [("role".to_owned(), role.to_owned()), ("term".to_owned(), term.to_owned())];
    let first = arena.leader("role-and-term").await;
    assert_eq!(known(&first), both("leader", "1"));
    arena.ready_pods("role-and-term", 3).await;
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("role-and-term", &first).await;
    assert_eq!(known(&second), both("leader", "2"));
    let pods: Api<Pod> = arena.api();
    let others = pods.list(&ListParams::default().labels("leadergroup.io/group=role-and-term")).await.unwrap().items;
    for pod in others.iter().filter(|pod| pod.uid() != second.uid()) {
        assert_eq!(known(pod), both("", ""), "{}", pod.name_any());
    }
    arena.finish().await;
}

/// The application of the tests on real nodes reads these very files, where a real kubelet writes them.
#[test]
fn the_sample_and_the_page_mount_what_the_application_on_real_nodes_reads() {
    let (_, of_nodes) = files(&group(&file("tests/app/group.yaml")));
    let (volume, of_sample) = files(&group(&file("config/samples/role-and-term.yaml")));
    assert!(of_sample.iter().all(|file| of_nodes.contains(file)), "{of_sample:?} {of_nodes:?}");
    let page = file("docs/examples/role-and-term.md");
    let shown = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let volumes: Value = serde_saphyr::from_str(shown).unwrap();
    let shown: Vec<Volume> = serde_json::from_value(volumes["volumes"].clone()).unwrap();
    assert_eq!(shown[0].name, volume);
    let items = shown[0].downward_api.as_ref().unwrap().items.as_ref().unwrap().iter();
    let items: Vec<_> = items.map(|item| (item.path.clone(), item.field_ref.as_ref().unwrap().field_path.clone())).collect();
    assert_eq!(items, of_sample);
}
