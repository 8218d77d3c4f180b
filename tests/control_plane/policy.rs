//! An admission policy that changes what it is asked about, which the API server itself performs.

use serde_json::{Value, json};

/// A policy that gives every pod of the namespace without a role this one, at each write.
pub(crate) fn relabelling(name: &str, namespace: &str, role: &str) -> String {
    let labels = format!("Object{{metadata: Object.metadata{{labels: {{\"role\": \"{role}\"}}}}}}");
    let pods = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"] });
    let condition = "!has(object.metadata.labels) || !('role' in object.metadata.labels)";
    mutating(name, namespace, &pods, condition, &json!({ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": labels } }))
}

/// A policy that puts back the term in the status of every group of the namespace, at each write.
pub(crate) fn freezing_terms(name: &str, namespace: &str) -> String {
    let term = "[JSONPatch{op: \"replace\", path: \"/status/term\", value: oldObject.status.term}]";
    of_statuses(name, namespace, "has(oldObject.status)", term)
}

/// A policy that takes from each status of the namespace, at each write, who leads next.
pub(crate) fn removing_successors(name: &str, namespace: &str) -> String {
    of_statuses(name, namespace, "has(object.status) && has(object.status.next)", "[JSONPatch{op: \"remove\", path: \"/status/next\"}]")
}

fn of_statuses(name: &str, namespace: &str, condition: &str, patch: &str) -> String {
    let statuses = json!({ "apiGroups": ["leadergroup.io"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["leadergroups/status"] });
    mutating(name, namespace, &statuses, condition, &json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": patch } }))
}

/// `condition`: what else must hold of an object for it to be changed.
fn mutating(name: &str, namespace: &str, rule: &Value, condition: &str, mutation: &Value) -> String {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } }, "resourceRules": [rule] },
            "matchConditions": [{ "name": "condition", "expression": condition }],
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "mutations": [mutation],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": { "name": name },
        "spec": { "policyName": name },
    });
    format!("{policy}\n---\n{binding}\n")
}
