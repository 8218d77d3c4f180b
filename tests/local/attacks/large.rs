//! Attacks by what is written: objects as large as the API server takes them, and one that only Go can read.

use std::time::Duration;

use anyhow::Context;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use leadergroup::api::LeaderGroup;
use serde_json::{Value, json};

use super::attack::{Deeds, Field, Prepared};
use super::tenant::{Tenant, plain};

/// Between two changes of large objects.
const LEISURE: Duration = Duration::from_secs(1);
/// Between two versions of the Lease that only Go can read.
const HURRY: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 4;
const LEASES: u32 = 100;
const GROUPS: u32 = 40;
/// The API server takes it, and its successor is none that Rust's reader knows.
const NEVER: &str = "9999-12-31T23:59:59.999999Z";

pub(super) async fn leases(field: &Field) -> anyhow::Result<Prepared> {
    let tenant = Tenant::new(&field.plane, "large-leases").await;
    let leases: Api<Lease> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    // Each is six times as long on its way.
    let spec = LeaseSpec { holder_identity: Some("<".repeat(1_400_000)), ..LeaseSpec::default() };
    let lease = |number| Lease { metadata: ObjectMeta { name: Some(format!("lease-{number}")), ..ObjectMeta::default() }, spec: Some(spec.clone()) };
    let parameters = PostParams::default();
    stream::iter(0..LEASES)
        .map(|number| {
            let (leases, lease, parameters) = (&leases, lease(number), &parameters);
            async move { leases.create(parameters, &lease).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("a Lease")?;
    let deeds = Deeds::default();
    let counted = deeds.clone();
    let load = async move {
        for change in 0.. {
            annotate(&leases, &format!("lease-{}", change % LEASES), change, &counted).await;
            tokio::time::sleep(LEISURE).await;
        }
    };
    Ok(Prepared { namespace: Some(tenant.namespace), configuration: None, webhook: None, load: load.boxed(), deeds })
}

pub(super) async fn templates(field: &Field) -> anyhow::Result<Prepared> {
    let tenant = Tenant::new(&field.plane, "large-templates").await;
    tenant.groups(GROUPS, 1, |number| if number % 2 == 0 { annotated(number) } else { with_variables() }).await?;
    let groups: Api<LeaderGroup> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    let deeds = Deeds::default();
    let counted = deeds.clone();
    let load = async move {
        for change in 1_u32.. {
            // The template stays, and the Deployment is written.
            let spec = Patch::Merge(json!({ "spec": { "deployment": { "minReadySeconds": 0, "revisionHistoryLimit": 1 + change / GROUPS % 5 } } }));
            let patched = groups.patch_metadata(&format!("group-{}", change % GROUPS), &PatchParams::default(), &spec).await;
            counted.count(&patched).await;
            tokio::time::sleep(LEISURE).await;
        }
    };
    Ok(Prepared { namespace: Some(tenant.namespace), configuration: None, webhook: None, load: load.boxed(), deeds })
}

/// 250 KB of annotations, each as long as it may be here.
fn annotated(number: u32) -> Value {
    let annotations: serde_json::Map<_, _> = (0..250).map(|at| (format!("example.com/{at}"), json!("x".repeat(980)))).collect();
    let mut template = plain(number);
    template["metadata"] = json!({ "annotations": annotations });
    template
}

/// 1 MB of variables.
fn with_variables() -> Value {
    let env: Vec<_> = (0..1000).map(|at| json!({ "name": format!("A{at}"), "value": "x".repeat(960) })).collect();
    json!({ "spec": { "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10", "env": env }] } })
}

pub(super) async fn unreadable(field: &Field) -> anyhow::Result<Prepared> {
    let tenant = Tenant::new(&field.plane, "unreadable").await;
    let spec = json!({ "holderIdentity": "x", "leaseDurationSeconds": 15, "renewTime": NEVER });
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "poison", "namespace": tenant.namespace }, "spec": spec,
    });
    field.plane.apply(&lease.to_string()).await?;
    let leases: Api<Lease> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    let deeds = Deeds::default();
    let counted = deeds.clone();
    let load = async move {
        let mut pace = tokio::time::interval(HURRY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for change in 0.. {
            pace.tick().await;
            annotate(&leases, "poison", change, &counted).await;
        }
    };
    Ok(Prepared { namespace: Some(tenant.namespace), configuration: None, webhook: None, load: load.boxed(), deeds })
}

async fn annotate(leases: &Api<Lease>, name: &str, change: u32, deeds: &Deeds) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "change": change.to_string() } } }));
    deeds.count(&leases.patch_metadata(name, &PatchParams::default(), &patch).await).await;
}
