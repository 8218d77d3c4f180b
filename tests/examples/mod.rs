//! The example programs as their pages tell to run them: as processes, with the rights that the pages give, on the real
//! control plane.

mod controller;
mod leader_election;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::control_plane::{ControlPlane, Process, wait};

/// How long a test waits for a condition: far more than it takes, and less than the article's lease of 60 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace whose default account may do what an example's page says.
struct Stage {
    plane: &'static ControlPlane,
    namespace: String,
    kubeconfig: PathBuf,
}

impl Stage {
    async fn new(page: &str) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(page).await;
        let rights = yaml(&format!("docs/examples/{page}.md"));
        plane.kubectl_with_input(&["-n", &namespace, "apply", "-f", "-"], &rights).await.unwrap().succeeded().unwrap();
        let kubeconfig = plane.kubeconfig_for(&namespace, "default").await.unwrap();
        plane.may_read_lease(&kubeconfig, "any").await.unwrap();
        Self { plane, namespace, kubeconfig }
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.plane.client(), &self.namespace)
    }

    /// Starts an example.
    fn start(&self, name: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new(program(name));
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        self.plane.spawn(&format!("{name}-{}", self.namespace), &mut command).unwrap()
    }

    /// Waits until the process has printed this.
    async fn prints(&self, process: &Process, text: &str) {
        let printed = async || if process.log().contains(text) { Ok(()) } else { Err(process.log()) };
        wait::until(&format!("it prints {text:?}"), PATIENCE, printed).await.unwrap();
    }

    /// Writes another holder into the Lease, as a candidate does that thinks the leader gone.
    async fn take(&self, lease: &str) {
        let taken = Patch::Merge(json!({ "spec": { "holderIdentity": "another" } }));
        self.api::<Lease>().patch(lease, &PatchParams::default(), &taken).await.unwrap();
    }

    async fn holder(&self, lease: &str) -> String {
        self.api::<Lease>().get(lease).await.unwrap().spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
    }
}

/// The first YAML block of a page.
fn yaml(page: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let block = text.split_once("```yaml\n").and_then(|(_, rest)| rest.split_once("```"));
    block.unwrap_or_else(|| panic!("{page} has no YAML block")).0.to_owned()
}

/// The program of an example. Cargo builds examples only when it is asked to, and a test of an old one shows nothing.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/tests-… → target/debug/examples/NAME
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let build = "build it with: cargo build --locked --examples";
    let Some(built) = modified(&program) else { panic!("there is no example at {}; {build}", program.display()) };
    // What it was made of, as Cargo has noted it beside it.
    let sources = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let newer = sources.split_whitespace().skip(1).find(|source| modified(Path::new(source)) > Some(built));
    assert_eq!(newer, None, "{} is older than this source; {build}", program.display());
    program
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
