//! An admission policy that changes what it is asked about, which the API server itself performs.

use serde_json::json;

/// A policy that gives every pod of the namespace without a role this one, at each write.
pub(crate) fn relabelling(name: &str, namespace: &str, role: &str) -> String {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": { "name": name },
        "spec": {
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"] }],
            },
            "matchConditions": [{ "name": "none", "expression": "!has(object.metadata.labels) || !('role' in object.metadata.labels)" }],
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": { "expression": format!("Object{{metadata: Object.metadata{{labels: {{\"role\": \"{role}\"}}}}}}") },
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": { "name": name },
        "spec": { "policyName": name },
    });
    format!("{policy}\n---\n{binding}\n")
}
