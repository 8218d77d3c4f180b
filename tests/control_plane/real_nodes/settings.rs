//! The settings of one node's programs, as files in the node's folder and as command lines.
//!
//! Timings that the operator's behaviour rests on stay at their defaults; a test that needs others gives them in
//! `Options::kubelet`.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Site, images, network};
use crate::control_plane::{credentials, nodes};

/// Where the container runtime answers, inside the node.
pub(super) const RUNTIME: &str = "/run/containerd/containerd.sock";

/// Debian's CNI plugins.
const PLUGINS: &str = "/usr/lib/cni";

pub(super) fn folder(site: &Site, number: usize) -> PathBuf {
    site.folder.join("nodes").join(nodes::name(number))
}

pub(super) fn write(site: &Site, number: usize) -> anyhow::Result<()> {
    let folder = folder(site, number);
    fs::create_dir_all(folder.join("cni"))?;
    fs::create_dir_all(folder.join("disk"))?;
    fs::write(folder.join("containerd.toml"), containerd(site, number))?;
    fs::write(folder.join("cni/pods.conflist"), pods(number).to_string())?;
    fs::write(folder.join("kubelet.json"), kubelet(site, number)?.to_string())?;
    Ok(())
}

pub(super) fn containerd_flags(site: &Site, number: usize) -> Vec<String> {
    vec![format!("--config={}", folder(site, number).join("containerd.toml").display())]
}

pub(super) fn kubelet_flags(site: &Site, number: usize) -> Vec<String> {
    let folder = folder(site, number);
    vec![
        format!("--config={}", folder.join("kubelet.json").display()),
        format!("--kubeconfig={}", credentials::kubeconfig(&site.folder, &credentials::kubelet(number)).display()),
        format!("--hostname-override={}", nodes::name(number)),
        format!("--node-ip={}", network::address(number)),
        format!("--node-labels=topology.kubernetes.io/region=region-1,topology.kubernetes.io/zone={}", nodes::zone(number)),
    ]
}

pub(super) fn proxy_flags(site: &Site, number: usize) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", credentials::kubeconfig(&site.folder, credentials::PROXY).display()),
        format!("--hostname-override={}", nodes::name(number)),
        "--proxy-mode=iptables".to_owned(),
        format!("--cluster-cidr={}", network::PODS),
        "--nodeport-addresses=primary".to_owned(),
        // The table's size is the whole system's, and none of a node's business here.
        "--conntrack-max-per-core=0".to_owned(),
    ]
}

fn containerd(site: &Site, number: usize) -> String {
    format!(
        r#"version = 3
imports = []
# They would make folders outside of what is the node's.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
enable_selinux = false
# Lowering it takes a capability that root in a container often lacks, and runc ends without it.
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{PLUGINS}"]
conf_dir = "{folder}/cni"
"#,
        pause = images::PAUSE,
        folder = folder(site, number).display(),
    )
}

fn pods(number: usize) -> Value {
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": network::pods(number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                // No address stays taken over a power cut.
                "dataDir": "/run/cni",
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn kubelet(site: &Site, number: usize) -> anyhow::Result<Value> {
    let (certificate, key) = credentials::kubelet_serving(&site.folder, number);
    let mut settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": site.folder.join(credentials::AUTHORITY)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": certificate,
        "tlsPrivateKeyFile": key,
        "containerRuntimeEndpoint": format!("unix://{RUNTIME}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}/pods", site.control_group()?, nodes::name(number)),
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "maxPods": site.max_pods.min(110),
        "clusterDNS": ["10.0.0.10"],
        "clusterDomain": "cluster.local",
        // How full this machine's disk is says nothing about the node.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
        "volumePluginDir": "/var/lib/kubelet/plugins",
        // Its default changes nothing about the node, but takes a capability that root in a container often lacks.
        "oomScoreAdj": 0,
    });
    if let (Some(settings), Some(more)) = (settings.as_object_mut(), site.kubelet.as_object()) {
        settings.extend(more.clone());
    }
    Ok(settings)
}
