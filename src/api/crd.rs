//! The `CustomResourceDefinition`, with what cannot be said of a single field.

use std::collections::BTreeSet;

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::LeaderGroup;
use super::schema::visit;
use super::v1alpha1::{LeaderLabel, LeaseSpec};

/// The `CustomResourceDefinition` as it is shipped in `crds/`.
///
/// # Panics
/// Where the derived definition isn't what this file expects: a test generates it, so a release cannot.
pub fn crd() -> Value {
    let mut crd = serde_json::to_value(LeaderGroup::crd()).expect("a CRD is JSON");
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    visit(schema, &mut |node| {
        node.remove("nullable");
        if let Some(Value::String(description)) = node.get_mut("description") {
            *description = description.replace('\n', " ");
        }
        for bound in ["minimum", "maximum"] {
            if let Some(number) = node.get(bound).and_then(Value::as_f64) {
                #[expect(clippy::cast_possible_truncation, reason = "bounds are whole numbers that schemars writes as floats")]
                node.insert(bound.to_owned(), json!(number as i64));
            }
        }
    });
    schema["properties"]["spec"]["description"] = json!("What is asked for.");
    schema["properties"]["status"]["description"] = json!("What the operator saw and did.");
    // The group's name becomes a label's value.
    schema["x-kubernetes-validations"] = json!([
        {
            "rule": "size(self.metadata.name) <= 63",
            "message": "`metadata.name` must be no more than 63 characters: it becomes the value of the label 'leadergroup.io/group'"
        },
        {
            "rule": "self.spec.leaderLabel.value == oldSelf.spec.leaderLabel.value || !has(self.status) || !has(self.status.followerValues) || !(self.spec.leaderLabel.value in self.status.followerValues)",
            "message": "`leaderLabel.value` may not become what pods of the group still carry as followers (status.followerValues): give them another `leaderLabel.followerValue` first, and wait until they have it"
        }
    ]);
    // With a default of its own each absent object is filled in, and rules may rely on it. The API server judges a default
    // by the rules as it stands, so it is written out.
    let defaults = [("lease", json!(LeaseSpec::default())), ("leaderLabel", json!(LeaderLabel::default()))];
    for (field, default) in defaults {
        schema["properties"]["spec"]["properties"][field]["default"] = default;
    }
    require_template(&mut schema["properties"]["spec"]["properties"]["deployment"]);
    describe_bounds(&mut schema["properties"]["spec"]);
    crd
}

/// The template is required by a rule, which can say more than that: kubectl scale makes a `deployment` of nothing but `replicas` where
/// the group has none.
fn require_template(deployment: &mut Value) {
    let required = deployment["required"].as_array_mut().expect("fields are required");
    required.retain(|field| field != "template");
    if required.is_empty() {
        deployment.as_object_mut().expect("a schema is an object").remove("required");
    }
    let rules = deployment["x-kubernetes-validations"].as_array_mut().expect("there are rules");
    rules.push(json!({
        "rule": "has(self.template)",
        "message": "`deployment.template` is required; where the group has a `deploymentRef`, scale that Deployment instead: kubectl scale deployment NAME",
        "reason": "FieldValueRequired"
    }));
}

/// Adds to the description of each field of the spec what it takes, what it is by default, and whether it may be changed: kubectl
/// explain prints no more of a field than its description and type.
fn describe_bounds(spec: &mut Value) {
    // Rules that are told so are those of fields that keep their first value.
    let mut kept = BTreeSet::new();
    visit(spec, &mut |node| {
        let rules = node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        let messages = rules.filter_map(|rule| rule["message"].as_str());
        kept.extend(messages.filter_map(|message| message.strip_prefix('`')?.split_once("` may not be changed")).map(|(path, _)| path.to_owned()));
    });
    for field in ["deployment", "deploymentRef", "lease", "election", "leaderLabel"] {
        let Some(Value::Object(properties)) = spec["properties"][field].get_mut("properties") else { continue };
        for (name, schema) in properties {
            describe(schema, kept.contains(&format!("{field}.{name}")));
        }
    }
    describe(&mut spec["properties"]["suspend"], false);
}

fn describe(schema: &mut Value, is_kept: bool) {
    let mut sentences = vec![];
    match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some(least), Some(most)) => sentences.push(format!("From {least} to {most}.")),
        // What is every number of the type says nothing.
        (Some(least), None) => sentences.push(format!("At least {least}.")),
        _ => {}
    }
    if let Some(most) = schema["maxLength"].as_i64() {
        sentences.push(format!("At most {most} characters."));
    }
    match &schema["default"] {
        Value::String(text) if !text.is_empty() => sentences.push(format!("Default: {text}.")),
        Value::Bool(_) | Value::Number(_) => sentences.push(format!("Default: {}.", schema["default"])),
        _ => {}
    }
    if is_kept {
        sentences.push("May not be changed.".to_owned());
    }
    if let Some(description) = schema["description"].as_str().filter(|_| !sentences.is_empty()) {
        schema["description"] = json!(format!("{description} {}", sentences.join(" ")));
    }
}
