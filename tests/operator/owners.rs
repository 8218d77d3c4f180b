//! An API server that lets nobody set an owner who may not delete what is owned (`OwnerReferencesPermissionEnforcement`, which
//! OpenShift has): what was orphaned is taken over there as elsewhere. Each test has a control plane of its own.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Resource, ResourceExt};
use leadergroup::api::LeaderGroup;

use super::arena::{self, Arena};
use super::looks::ready;
use super::steps::term;

const ENFORCED: &str = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement";

/// Waits until this object is the group's.
async fn owned<K>(arena: &Arena, name: &str, group: &LeaderGroup)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    arena
        .until(&format!("{} {name} is the group's", K::kind(&())), async || {
            let object = arena.api::<K>().get_opt(name).await.unwrap().ok_or("it does not exist")?;
            let owner = object.owner_references().first().map(|owner| owner.uid.clone());
            if owner == group.uid() { Ok(()) } else { Err(format!("its owner is {owner:?}")) }
        })
        .await;
}

#[tokio::test]
async fn where_owners_are_set_by_who_may_delete_alone_what_was_orphaned_is_led_again() {
    let arena = Arena::alone_with("enforced", ENFORCED).await;
    let groups = arena::web(3) + "---" + &arena::deployment("app", 2) + "---" + &arena::reference("other", "app");
    arena.apply(&groups).await;
    let first = arena.leader("web").await;
    arena.leader("other").await;
    arena.ready_pods("web", 3).await;
    let pods = ready(&arena, "leadergroup.io/group=web", 3).await;

    arena.kubectl(&["delete", "lg", "--all", "--cascade=orphan"]).await;
    assert_eq!(arena.api::<Deployment>().get("web").await.unwrap().owner_references(), []);
    assert_eq!(arena.lease("other").await.owner_references(), []);

    arena.apply(&groups).await;
    let next = arena.leader("web").await;
    assert!(term(&next) >= term(&first));
    arena.leader("other").await;
    let (web, other) = (arena.group("web").await, arena.group("other").await);
    owned::<Deployment>(&arena, "web", &web).await;
    owned::<Lease>(&arena, "web", &web).await;
    owned::<Lease>(&arena, "other", &other).await;
    let now = ready(&arena, "leadergroup.io/group=web", 3).await;
    assert_eq!(now.iter().map(ResourceExt::uid).collect::<Vec<_>>(), pods.iter().map(ResourceExt::uid).collect::<Vec<_>>(), "no pod was replaced");
    let deleted: Vec<_> =
        arena.plane.audit().unwrap().into_iter().filter(|it| it.user.ends_with(":leadergroup-operator") && it.verb.starts_with("delete")).collect();
    assert_eq!(deleted, [], "the right to delete is never used");
    arena.finish().await;
}
