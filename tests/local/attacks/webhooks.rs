//! Attacks by admission and by readiness: a webhook that never answers or fails, a policy that relabels, leaders that flap.

use std::time::Duration;

use futures::FutureExt;
use serde_json::json;

use super::attack::{Deeds, Field, Prepared};
use super::tenant::{Tenant, plain};
use crate::control_plane::{Verdict, Webhook, relabelling};

/// Between two failovers of the many groups: each has its next one after 15 s, which is longer than a write through the webhook
/// takes.
const TURN: Duration = Duration::from_millis(125);
/// Between two failovers of a tenant that is not in a hurry.
const LEISURE: Duration = Duration::from_secs(1);
/// Between two failovers of one group that flaps.
const HURRY: Duration = Duration::from_millis(300);
/// The leader and who follows it.
const PODS: u32 = 2;

pub(super) async fn never_answers(field: &Field) -> anyhow::Result<Prepared> {
    let tenant = Tenant::new(&field.plane, "slow").await;
    tenant.groups(120, PODS, plain).await?;
    let webhook = Webhook::start(Verdict::Silence).await?;
    let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"] });
    let configuration = webhook.configuration("slow", &tenant.namespace, &rule, "Ignore", 10);
    let prepared = one_by_one(tenant, TURN).await?;
    Ok(Prepared { configuration: Some(configuration), webhook: Some(webhook), ..prepared })
}

pub(super) async fn fails(field: &Field) -> anyhow::Result<Prepared> {
    let tenant = Tenant::new(&field.plane, "failing").await;
    tenant.groups(20, PODS, plain).await?;
    let webhook = Webhook::start(Verdict::Refused(500)).await?;
    let rule = json!({
        "apiGroups": ["coordination.k8s.io", "leadergroup.io"], "apiVersions": ["v1", "v1alpha1"],
        "operations": ["CREATE", "UPDATE"], "resources": ["leases", "leadergroups/status"],
    });
    let configuration = webhook.configuration("failing", &tenant.namespace, &rule, "Fail", 10);
    let prepared = one_by_one(tenant, LEISURE).await?;
    Ok(Prepared { configuration: Some(configuration), webhook: Some(webhook), ..prepared })
}

pub(super) async fn relabels(field: &Field) -> anyhow::Result<Prepared> {
    let tenant = Tenant::new(&field.plane, "relabels").await;
    tenant.groups(10, PODS, plain).await?;
    let configuration = relabelling("relabels", &tenant.namespace, "backend");
    let prepared = one_by_one(tenant, LEISURE).await?;
    Ok(Prepared { configuration: Some(configuration), ..prepared })
}

/// One group after the other has another leader.
async fn one_by_one(tenant: Tenant, pause: Duration) -> anyhow::Result<Prepared> {
    let (groups, deeds) = (tenant.pods().await?, Deeds::default());
    let (namespace, counted) = (tenant.namespace.clone(), deeds.clone());
    let load = async move {
        for round in 0.. {
            for pods in &groups {
                tenant.turn(pods, round, &counted).await;
                tokio::time::sleep(pause).await;
            }
        }
    };
    Ok(Prepared { namespace: Some(namespace), configuration: None, webhook: None, load: load.boxed(), deeds })
}

pub(super) async fn flaps(field: &Field) -> anyhow::Result<Prepared> {
    let tenant = Tenant::new(&field.plane, "flapping").await;
    tenant.groups(10, PODS, plain).await?;
    let (groups, deeds) = (tenant.pods().await?, Deeds::default());
    let (namespace, counted) = (tenant.namespace.clone(), deeds.clone());
    let load = async move {
        let flap = async |pods: &Vec<String>| {
            for round in 0.. {
                tenant.turn(pods, round, &counted).await;
                tokio::time::sleep(HURRY).await;
            }
        };
        futures::future::join_all(groups.iter().map(flap)).await;
    };
    Ok(Prepared { namespace: Some(namespace), configuration: None, webhook: None, load: load.boxed(), deeds })
}
