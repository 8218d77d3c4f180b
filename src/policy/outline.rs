//! What others have to know of a group: those over the same Deployment, and who looks for its pods. Plain data.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::LeaderGroup;

/// What others have to know of a group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outline {
    pub name: Box<str>,
    pub uid: Box<str>,
    pub created: Option<Timestamp>,
    pub terminating: bool,
    /// The labels that are kept of it.
    pub labels: BTreeMap<String, String>,
    /// The name of the Deployment whose pods are the group's.
    pub deployment: Box<str>,
    /// The key and the value of the leader's label.
    pub label_key: Box<str>,
    pub label_value: Box<str>,
    /// Whether it elects, as far as can be seen.
    pub leads_on: bool,
}

impl From<&LeaderGroup> for Outline {
    fn from(group: &LeaderGroup) -> Self {
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        Self {
            name: text(&group.metadata.name),
            uid: text(&group.metadata.uid),
            created: group.created(),
            terminating: group.metadata.deletion_timestamp.is_some(),
            labels: group.metadata.labels.clone().unwrap_or_default(),
            deployment: group.deployment_name().into(),
            label_key: group.spec.leader_label.key.as_str().into(),
            label_value: group.spec.leader_label.value.as_str().into(),
            leads_on: leads_on(group),
        }
    }
}

fn leads_on(group: &LeaderGroup) -> bool {
    let conditions = group.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
    // That it had to wait for one that is gone may not be over in its status yet.
    let stalled = conditions.iter().any(|it| it.type_ == "Stalled" && it.status == "True" && it.reason != "OverlappingGroups");
    !group.spec.suspend && group.metadata.deletion_timestamp.is_none() && !stalled
}
