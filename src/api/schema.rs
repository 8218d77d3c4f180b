//! What the derived schema lacks: the embedded pod template's list map keys (without them server-side apply would
//! replace containers, ports and variables as one block), descriptions left out of it (with them the CRD would be
//! too large for plain `kubectl apply`), and the bounds of conditions as controller-gen writes them.

use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Lists of a pod template that are maps by key, from the Kubernetes API's own markers: the list's field, its keys.
const LIST_MAP_KEYS: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("env", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("volumes", &["name"]),
    ("claims", &["name"]),
    ("resourceClaims", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("schedulingGates", &["name"]),
];

/// What Kubernetes takes of all annotations of an object together.
const LONGEST_ANNOTATION: u32 = 256 << 10;

pub(super) fn pod_template(_: &mut SchemaGenerator) -> Schema {
    let mut template = embedded::<PodTemplateSpec>();
    template["properties"]["metadata"] = json!({
        "type": "object",
        "properties": {
            // Tools of old print it as null, which the API server drops where it knows the field.
            "creationTimestamp": { "type": "string", "format": "date-time", "description": "Of no meaning: taken, because older tools print it." },
            "labels": { "type": "object", "maxProperties": 64, "additionalProperties": { "type": "string", "maxLength": 63 } },
            "annotations": { "type": "object", "maxProperties": 256, "additionalProperties": { "type": "string", "maxLength": LONGEST_ANNOTATION } },
        },
        "x-kubernetes-validations": [{
            "rule": "!has(self.labels) || !self.labels.exists(key, key.startsWith('leadergroup.io/'))",
            "message": "`labels` must not start with 'leadergroup.io/': the operator sets those"
        }],
    });
    template["required"] = json!(["spec"]);
    template["description"] = json!("The pods, as in a Deployment. The operator adds the label leadergroup.io/group.");
    into_schema(template)
}

pub(super) fn deployment_strategy(_: &mut SchemaGenerator) -> Schema {
    let mut strategy = embedded::<DeploymentStrategy>();
    strategy["description"] = json!("How a rollout replaces pods, as in a Deployment.");
    strategy["properties"]["type"]["description"] = json!("RollingUpdate, the default, or Recreate.");
    strategy["properties"]["type"]["enum"] = json!(["RollingUpdate", "Recreate"]);
    strategy["properties"]["rollingUpdate"]["description"] = json!("Of RollingUpdate alone: how many pods more, or fewer, than `replicas` there may be.");
    strategy["x-kubernetes-validations"] = json!([{
        "rule": "!(has(self.type) && self.type == 'Recreate' && has(self.rollingUpdate))",
        "message": "`rollingUpdate` must not be set where `type` is Recreate"
    }]);
    into_schema(strategy)
}

pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$" },
                "message": { "type": "string", "maxLength": 32768 },
            },
        },
    })
}

pub(super) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 63 },
        "description": "Values of the leader label's key that pods which do not lead carry, or may carry: the first eight of them.",
    })
}

/// The schema of a type of the Kubernetes API, inlined, without descriptions, and with its lists' keys.
fn embedded<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    visit(&mut schema, &mut |node| {
        node.remove("description");
        node.remove("title");
        let Some(Value::Object(properties)) = node.get_mut("properties") else { return };
        for (field, keys) in LIST_MAP_KEYS {
            let Some(list) = properties.get_mut(*field).filter(|list| list["type"] == "array") else { continue };
            // The same word is a plain list elsewhere (the `ports` of a probe's kind, say): only lists whose items have every key count.
            let item = &list["items"]["properties"];
            if !keys.iter().all(|key| item.get(key).is_some()) {
                continue;
            }
            list["x-kubernetes-list-type"] = json!("map");
            list["x-kubernetes-list-map-keys"] = json!(keys);
            // A key must be required or have a default; these are the API's own.
            let items = list["items"].as_object_mut().expect("a list of objects");
            for key in *keys {
                let default = match *key {
                    "protocol" => Some("TCP"),
                    "name" if *field == "imagePullSecrets" => Some(""),
                    _ => None,
                };
                if let Some(default) = default {
                    items["properties"][*key]["default"] = json!(default);
                }
            }
        }
    });
    schema
}

fn into_schema(value: Value) -> Schema {
    Schema::try_from(value).expect("an object is a schema")
}

/// Calls `change` on every schema in a tree of schemas. Maps of properties are not schemas themselves.
pub(super) fn visit(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(node) = schema else { return };
    change(node);
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        for property in properties.values_mut() {
            visit(property, change);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = node.get_mut(inner) {
            visit(inner, change);
        }
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(inner)) = node.get_mut(list) {
            for inner in inner {
                visit(inner, change);
            }
        }
    }
}
