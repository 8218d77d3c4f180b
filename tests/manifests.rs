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
