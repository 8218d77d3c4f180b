//! The shipped manifests are what the code says.
//!
//! `make manifests` runs these tests with UPDATE=1, which writes the files in place of comparing them.

use std::path::{Path, PathBuf};

use leadergroup::api;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

#[test]
fn the_shipped_crd_is_the_one_that_the_code_generates() {
    let path = root().join("crds/leadergroups.yaml");
    let body = serde_saphyr::to_string(&api::crd()).unwrap();
    let generated = format!("# Generated from src/api by `make manifests`. Do not edit.\n{body}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shipped == generated, "crds/leadergroups.yaml is not what src/api generates: run `make manifests` and commit it");
}

#[test]
fn the_crd_fits_into_the_annotation_that_plain_kubectl_apply_needs() {
    let size = api::crd().to_string().len();
    assert!(size < 100_000, "{size} bytes; kubectl apply stops at 262,144");
}

#[test]
fn what_a_field_takes_and_is_by_default_stands_in_its_description() {
    let crd = api::crd();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    for (field, words) in [
        ("/lease/properties/leaseDurationSeconds", "From 3 to 86400. Default: 15."),
        ("/lease/properties/renewDeadlineSeconds", "From 1 to 86400."),
        ("/lease/properties/renewal", "Default: Periodic."),
        ("/lease/properties/resourceLock", "Default: Leases. May not be changed."),
        ("/lease/properties/name", "Default: the group's name. At most 253 characters. May not be changed."),
        ("/leaderLabel/properties/key", "At most 317 characters. Default: role. May not be changed."),
        ("/leaderLabel/properties/value", "Default: leader."),
        ("/leaderLabel/properties/followerValue", "At most 63 characters."),
        ("/election/properties/mode", "Default: Operator. May not be changed."),
        ("/election/properties/minTerm", "From 1 to 4503599627370496."),
        ("/deployment/properties/replicas", "At least 0."),
        ("/deploymentRef/properties/name", "At most 253 characters. May not be changed."),
        ("/suspend", "Default: false."),
    ] {
        let path = format!("{spec}{field}/description");
        let description = crd.pointer(&path).and_then(serde_json::Value::as_str).unwrap_or_else(|| panic!("{field} is not described"));
        assert!(description.ends_with(words), "{field}: {description}");
    }
}

#[test]
fn the_embedded_template_merges_its_lists_by_key() {
    let crd = api::crd();
    let pod = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/deployment/properties/template/properties/spec/properties";
    let keys = |path: &str| crd.pointer(&format!("{pod}{path}/x-kubernetes-list-map-keys")).cloned().unwrap_or_default();
    assert_eq!(keys("/containers"), serde_json::json!(["name"]));
    assert_eq!(keys("/containers/items/properties/env"), serde_json::json!(["name"]));
    assert_eq!(keys("/containers/items/properties/ports"), serde_json::json!(["containerPort", "protocol"]));
    assert_eq!(keys("/volumes"), serde_json::json!(["name"]));
    assert_eq!(keys("/topologySpreadConstraints"), serde_json::json!(["topologyKey", "whenUnsatisfiable"]));
    // Only what the Kubernetes API itself merges: tolerations are one block there too.
    assert_eq!(keys("/tolerations"), serde_json::Value::Null);
}

#[test]
fn the_image_of_the_manifests_is_the_version_of_the_crate() {
    for file in ["operator.yaml", "samples/elector-sidecar.yaml", "samples/elector-wrapper.yaml"] {
        let manifest = std::fs::read_to_string(root().join("config").join(file)).unwrap();
        assert!(manifest.contains(&format!("image: leadergroup/leadergroup:{}", env!("CARGO_PKG_VERSION"))), "{file}");
    }
}

/// The objects of a file of several.
fn objects(file: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(root().join("config").join(file)).unwrap();
    text.split("\n---\n").map(|object| serde_saphyr::from_str(object).unwrap()).collect()
}

#[test]
fn each_network_policy_is_of_the_pods_beside_it_and_lets_in_by_ports_that_they_have() {
    for (file, beside, ports) in [
        ("network-policy.yaml", "operator.yaml", &["metrics"][..]),
        ("samples/elector-sidecar.yaml", "samples/elector-sidecar.yaml", &[]),
        ("samples/elector-wrapper.yaml", "samples/elector-wrapper.yaml", &["http"]),
    ] {
        let of_kind = |file: &str, kind: &str| objects(file).into_iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {file}"));
        let policy = of_kind(file, "NetworkPolicy");
        let pods = &of_kind(beside, "Deployment")["spec"]["template"];
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"], pods["metadata"]["labels"], "{file}");
        // Going out is nobody's business here: without the API server nothing works.
        assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress"]), "{file}");
        let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        let open: Vec<_> = list(&policy["spec"]["ingress"]).iter().flat_map(|rule| list(&rule["ports"])).map(|port| port["port"].clone()).collect();
        assert_eq!(open, ports, "{file}");
        let named: Vec<_> = list(&pods["spec"]["containers"]).iter().flat_map(|container| list(&container["ports"])).map(|port| port["name"].clone()).collect();
        assert!(ports.iter().all(|port| named.iter().any(|name| name == port)), "{file}: {named:?}");
    }
}

#[test]
fn drains_take_one_of_the_operators_replicas_at_a_time() {
    let objects = objects("operator.yaml");
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let (deployment, budget) = (of_kind("Deployment"), of_kind("PodDisruptionBudget"));
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
    assert_eq!((&budget["spec"]["maxUnavailable"], &budget["metadata"]), (&serde_json::json!(1), &deployment["metadata"]));
}

#[test]
fn the_rights_in_one_namespace_are_those_in_all_but_nodes() {
    let rules = |file: &str, kind: &str| {
        let object = objects(file).into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == "leadergroup-operator");
        object.unwrap_or_else(|| panic!("no {kind} in {file}"))["rules"].as_array().unwrap().clone()
    };
    let mut wanted = rules("rbac.yaml", "ClusterRole");
    wanted.retain(|rule| rule["resources"] != serde_json::json!(["nodes"]));
    assert_eq!(rules("namespaced/kept/rbac.yaml", "Role"), wanted);
}

#[test]
fn an_uninstall_takes_every_manifest_that_is_no_part_of_an_installation() {
    let script = std::fs::read_to_string(root().join("config/uninstall.sh")).unwrap();
    let (_, list) = script.split_once("for file in ").unwrap();
    let listed: Vec<_> = list.split(';').next().unwrap().split(' ').collect();
    assert_eq!(listed, ["legacy-locks.yaml", "metrics-secure/rbac.yaml", "namespaced/nodes.yaml"]);
    for file in listed {
        assert!(!objects(file).is_empty(), "{file}");
    }
}

#[test]
fn every_image_of_the_dockerfile_is_named_by_its_digest() {
    let file = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let images: Vec<_> = file.lines().filter_map(|line| line.strip_prefix("FROM ")).map(|rest| rest.split(' ').next().unwrap()).collect();
    assert!(images.iter().all(|image| *image == "scratch" || image.contains("@sha256:")) && !images.is_empty(), "{images:?}");
}
