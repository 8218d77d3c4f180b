//! Real nodes leave nothing behind and touch nothing of the system's own, and say what they need.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::web::{PATIENCE, Web};
use crate::control_plane::{ControlPlane, Kubelets, Options, wait};

#[tokio::test]
async fn nothing_stays_behind_of_nodes_whose_owner_is_killed() {
    // The owner is this test again, in a process of its own that knows what it is there for.
    const OWNER: &str = "LEADERGROUP_TEST_IS_OWNER";
    if std::env::var_os(OWNER).is_some() {
        hold_nodes_open().await;
    }
    let before = System::now();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nodes::leaving::nothing_stays_behind_of_nodes_whose_owner_is_killed", "--nocapture"])
        .env(OWNER, "")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let trace = lines.find(|line| line.starts_with('{')).expect("it tells what it holds open");
    let trace: Trace = serde_json::from_str(&trace).unwrap();
    assert!(trace.left().iter().all(|left| !left.1.is_empty()), "it holds nothing of a kind open: {:?}", trace.left());
    assert_eq!(before, System::now());

    owner.kill().unwrap();
    owner.wait().unwrap();
    wait::until("nothing is left", PATIENCE, async || trace.nothing_left()).await.unwrap();
    assert_eq!(before, System::now());
}

async fn hold_nodes_open() {
    let plane = ControlPlane::start(Options { nodes: 2, kubelets: Kubelets::real(), ..Options::default() }).await.unwrap();
    let web = Web::start(&plane).await.unwrap();
    plane.real_nodes()[0].pause_kubelet().unwrap();
    plane.real_nodes()[1].unplug().await.unwrap();
    println!("\n{}", serde_json::to_string(&Trace::of(&plane)).unwrap());
    drop(web);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_is_left_as_soon_as_nodes_are_dropped() {
    let plane = ControlPlane::start(Options { nodes: 1, kubelets: Kubelets::real(), ..Options::default() }).await.unwrap();
    let trace = Trace::of(&plane);
    drop(plane);
    let [.., folders, groups] = trace.left();
    assert!(folders.1.is_empty() && groups.1.is_empty(), "{folders:?}, {groups:?}");
    // A child of what was killed was killed with it, but nobody has waited for its end.
    wait::until("what was killed has ended", Duration::from_secs(5), async || trace.nothing_left()).await.unwrap();
}

#[test]
fn who_is_not_root_is_told_what_real_nodes_need() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/packages");
    // A copy, because the clone may lie where others must not look.
    let copy = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let copied = copy.path().join("packages");
    std::fs::copy(script, &copied).unwrap();
    let output = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "sh"]).arg(copied).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && complaint.contains("real nodes need root"), "{complaint}");
}

/// What real nodes hold in the system.
#[derive(Serialize, Deserialize)]
struct Trace {
    folder: PathBuf,
    processes: Vec<u32>,
    networks: BTreeSet<PathBuf>,
}

impl Trace {
    fn of(plane: &ControlPlane) -> Self {
        let processes = plane.process_ids();
        let mut networks: BTreeSet<PathBuf> = processes.iter().filter_map(|process| network(&process.to_string())).collect();
        if let Some(ours) = network("self") {
            networks.remove(&ours);
        }
        Self { folder: plane.folder().to_owned(), processes, networks }
    }

    fn nothing_left(&self) -> Result<(), String> {
        let left = self.left();
        if left.iter().all(|(_, of_kind)| of_kind.is_empty()) { Ok(()) } else { Err(format!("{left:?}")) }
    }

    /// What is still there of it, by kind.
    fn left(&self) -> [(&'static str, Vec<PathBuf>); 4] {
        let name = self.folder.file_name().unwrap();
        let running = |id: &&u32| std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty());
        let processes = self.processes.iter().filter(running).map(|id| PathBuf::from(id.to_string()));
        let everyone = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let networks: BTreeSet<PathBuf> = everyone.filter_map(|process| network(&process)).filter(|network| self.networks.contains(network)).collect();
        let folders = [self.folder.clone()].into_iter().filter(|folder| folder.exists());
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let hierarchies = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|hierarchy| hierarchy.join(name));
        [
            ("processes", processes.collect()),
            ("networks", networks.into_iter().collect()),
            ("folders", folders.collect()),
            ("control groups", hierarchies.filter(|group| group.exists()).collect()),
        ]
    }
}

/// The network namespace of a process; `None` of what is no process, or has ended.
fn network(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

/// What is the system's own, and none of the nodes' business.
#[derive(Debug, PartialEq, Eq)]
struct System(Vec<String>);

impl System {
    fn now() -> Self {
        let of_network = [&["ip", "-brief", "link"][..], &["ip", "-brief", "address"], &["ip", "route"], &["iptables-save"]];
        let of_kernel =
            ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/hostname", "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max"];
        let network = of_network.map(|line| {
            let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
            let output = String::from_utf8(output.stdout).unwrap();
            // Dates and counters are no settings.
            let settings = output.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(" [").map_or(line, |(line, _)| line));
            settings.collect::<Vec<_>>().join("\n")
        });
        let kernel = of_kernel.map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        Self(network.into_iter().chain(kernel).chain([mounts]).collect())
    }
}
