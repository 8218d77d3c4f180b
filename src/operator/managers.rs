//! Who has set a label, as far as the API server's own record (`metadata.managedFields`) tells. Reads only.

use kube::Client;
use serde::Deserialize;
use serde_json::Value;

use super::wire;
use crate::names;
use crate::policy::observation::Pod;

#[derive(Deserialize)]
struct Owned {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    managed_fields: Vec<Manager>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manager {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    fields_v1: Value,
}

/// Who has set the label `key` of this pod last, in words; empty where that can't be asked.
pub(super) async fn of_label(client: &Client, namespace: &str, pod: &str, key: &str) -> String {
    let object: Result<Owned, _> = wire::metadata::<Pod, _>(client, namespace, pod).await;
    object.map_or_else(|_| String::new(), |object| tell(&object.metadata.managed_fields, key))
}

fn tell(managers: &[Manager], key: &str) -> String {
    let field = format!("f:{key}");
    let owns = |manager: &&Manager| manager.fields_v1.pointer("/f:metadata/f:labels").is_some_and(|labels| labels.get(&field).is_some());
    match managers.iter().find(owns) {
        Some(owner) if owner.manager == names::FIELD_MANAGER_GIVES_BACK => "others, to whom a group has given it back".to_owned(),
        Some(owner) if owner.manager != names::FIELD_MANAGER => format!("{:?} (as metadata.managedFields of the pod say)", owner.manager),
        // What admission changes is nobody's there; the name is the client's own choice.
        _ => "a webhook, a policy, or somebody who writes under this operator's name (metadata.managedFields of the pod name nobody else)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_has_set_a_label_is_told_by_the_fields_that_each_manager_owns() {
        let manager =
            |manager: &str, label: &str| Manager { manager: manager.into(), fields_v1: json!({ "f:metadata": { "f:labels": { format!("f:{label}"): {} } } }) };
        let managers = [manager("kubectl-label", "role"), manager(names::FIELD_MANAGER, "own"), Manager { manager: "odd".into(), fields_v1: json!([1]) }];
        assert!(tell(&managers, "role").starts_with("\"kubectl-label\""));
        assert!(tell(&managers, "own").starts_with("a webhook, a policy, or"));
        assert!(tell(&managers, "other").starts_with("a webhook, a policy, or"));
    }
}
