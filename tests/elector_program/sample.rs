//! The shipped samples of the elector: admitted under Pod Security *restricted*, and their flags and rights are enough.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::stage::{Running, Stage, until};

const SAMPLES: [(&str, &str); 2] = [("ha-sidecar", "elector-sidecar.yaml"), ("ha-wrapper", "elector-wrapper.yaml")];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples").join(file)
}

#[tokio::test]
async fn the_samples_of_the_elector_are_admitted_to_a_restricted_namespace() {
    let stage = Stage::new("samples").await;
    let label = ["label", "namespace", &stage.namespace, "pod-security.kubernetes.io/enforce=restricted"];
    stage.plane.kubectl(&label).await.unwrap().succeeded().unwrap();
    for (name, file) in SAMPLES {
        let path = path(file);
        let apply = ["-n", &stage.namespace, "apply", "--validate=strict", "-f", path.to_str().unwrap()];
        stage.plane.kubectl(&[&apply[..], &["--dry-run=server"]].concat()).await.unwrap().succeeded().unwrap();
        stage.plane.kubectl(&apply).await.unwrap().succeeded().unwrap();
        let pods = Api::<Pod>::namespaced(stage.plane.client(), &stage.namespace);
        until("its pods are admitted", async || {
            let pods = pods.list(&ListParams::default().labels(&format!("app={name}"))).await.unwrap().items;
            if pods.len() == 3 { Ok(()) } else { Err(format!("{} are", pods.len())) }
        })
        .await;
    }
}

#[tokio::test]
async fn the_flags_and_rights_of_the_samples_are_enough_to_lead() {
    let stage = Stage::new("samples").await;
    for (name, file) in SAMPLES {
        let text = std::fs::read_to_string(path(file)).unwrap();
        stage.plane.kubectl_with_input(&["-n", &stage.namespace, "apply", "-f", "-"], &text).await.unwrap().succeeded().unwrap();
        let kubeconfig = stage.plane.kubeconfig_for(&stage.namespace, name).await.unwrap();
        stage.plane.may_read_lease(&kubeconfig, name).await.unwrap();
        let deployment: Value = serde_saphyr::from_str(text.rsplit("---\n").next().unwrap()).unwrap();
        let spec = &deployment["spec"]["template"]["spec"];
        let elector = if name == "ha-sidecar" { &spec["initContainers"][0] } else { &spec["containers"][0] };
        let words = |field: &str| elector[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>();
        // The application is another program here, the port a free one, and the log as this test reads it.
        let flags = [&words("command")[1..], &words("args")].concat().into_iter().take_while(|word| word != "--").filter(|word| word != "--log-format=json");
        let flags: Vec<String> = flags.map(|flag| flag.replace(":4040", "127.0.0.1:0")).collect();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leadergroup-elector"));
        command.args(flags).arg("--kubeconfig").arg(kubeconfig).env("POD_NAME", "pod-a").env("POD_NAMESPACE", &stage.namespace);
        if name == "ha-wrapper" {
            command.args(["--", "sleep", "1000"]);
        }
        let running =
            Running { process: stage.plane.spawn(&format!("{}-{name}", stage.namespace), command.env("LOG_LEVEL", "info,leadergroup=debug")).unwrap() };
        running.until_leader_is("pod-a").await;
        assert_eq!(running.json("/leader").await["lock"], format!("{}/{name}", stage.namespace));
        let log = running.process.log();
        assert!(!log.contains("orbidden"), "{log}");
    }
}

#[tokio::test]
async fn the_elector_installs_itself_where_an_application_can_run_it() {
    let stage = Stage::new("samples").await;
    let target = stage.file("leadergroup-elector");
    for _ in 0..2 {
        let installed = std::process::Command::new(env!("CARGO_BIN_EXE_leadergroup-elector")).arg("install").arg(&target).output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
        let help = std::process::Command::new(&target).arg("--help").output().unwrap();
        assert!(help.status.success());
    }
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_leadergroup-elector")).args(["install", "/no/such/folder/elector"]).output().unwrap();
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && complaint.contains("/no/such/folder/elector"), "{complaint}");
}
