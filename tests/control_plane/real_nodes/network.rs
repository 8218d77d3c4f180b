//! The network of real nodes: a switch, the control plane and each node in a network namespace of its own, joined by
//! cables that are made inside the switch's namespace.
//!
//! Nothing of the system's own network is touched: what has to reach the control plane from outside goes through a pair
//! of forwarders, one on either side, joined by a Unix socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::tool;
use crate::control_plane::keeper::Group;
use crate::control_plane::process::Process;
use crate::control_plane::wait;

pub(crate) const CONTROL_PLANE: &str = "10.99.0.1";
/// Of the pods of all nodes.
pub(super) const PODS: &str = "10.244.0.0/16";

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn address(node: usize) -> String {
    format!("10.99.0.{}", 10 + node)
}

/// Of the pods of one node.
pub(super) fn pods(node: usize) -> String {
    format!("10.244.{node}.0/24")
}

/// To the pods of a node, in the language of `ip`.
fn route(node: usize) -> String {
    format!("route add {} via {}\n", pods(node), address(node))
}

pub(crate) struct Network {
    switch: Process,
    control_plane: Process,
    forwarders: Vec<Process>,
}

impl Network {
    pub(crate) async fn start(group: Group, folder: &Path, ports: &[u16], nodes: usize) -> anyhow::Result<Self> {
        let hold = |name: &str| {
            let mut command = Command::new("unshare");
            command.args(["--net", "sleep", "infinity"]);
            Process::start(group, name, &folder.join("logs").join(format!("{name}.log")), &mut command)
        };
        let mut network = Self { switch: hold("switch")?, control_plane: hold("network")?, forwarders: Vec::new() };
        for holder in [&network.switch, &network.control_plane] {
            wait::until("a network namespace", PATIENCE, async || namespace(holder.pid())).await?;
        }
        ip(network.switch.pid(), "link set lo up\nlink add bridge type bridge\nlink set bridge up\n").await?;
        network.connect("cable-0", network.control_plane.pid(), CONTROL_PLANE, 0).await?;
        ip(network.control_plane.pid(), &(1..=nodes).map(route).collect::<Vec<_>>().concat()).await?;
        for port in ports {
            network.forwarders.extend(network.forward(group, folder, *port)?);
        }
        Ok(network)
    }

    /// A command line in the control plane's network.
    pub(crate) fn command(&self, program: &Path) -> anyhow::Result<Command> {
        command(self.control_plane.pid(), program)
    }

    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.forwarders.iter().chain([&self.switch, &self.control_plane]).map(Process::pid).collect()
    }

    /// The end of the log of a forwarder that has ended by itself, if one has.
    pub(crate) fn failure(&self) -> Option<String> {
        self.forwarders.iter().find(|process| process.ended().is_some()).map(|process| process.log_end(5))
    }

    /// Joins the network namespace of this process to the switch, as a node of this number.
    pub(super) async fn connect_node(&self, process: u32, node: usize, nodes: usize) -> anyhow::Result<()> {
        // What a node that lost its power had may still be on its way out.
        let old = ip(self.switch.pid(), &format!("link delete cable-{node}\n")).await;
        drop(old);
        self.connect(&format!("cable-{node}"), process, &address(node), node).await?;
        let others = (1..=nodes).filter(|other| *other != node).map(route);
        // For addresses of Services too, which have no route of their own before they are translated.
        let default = format!("route add default via {CONTROL_PLANE}\n");
        ip(process, &others.chain([default]).collect::<Vec<_>>().concat()).await
    }

    /// Pulls a node's cable out, or puts it back; on the switch's side, because a node that sees its link go down
    /// forgets its routes.
    pub(super) async fn set_cable(&self, node: usize, state: &str) -> anyhow::Result<()> {
        ip(self.switch.pid(), &format!("link set cable-{node} {state}\n")).await
    }

    async fn connect(&self, cable: &str, process: u32, address: &str, number: usize) -> anyhow::Result<()> {
        namespace(process).map_err(anyhow::Error::msg)?;
        // The hardware address stays the same over a power cut, so that nobody remembers a wrong one.
        let cable = format!(
            "link add {cable} type veth peer name eth0 address 02:00:00:00:00:{number:02x} netns {process}\n\
             link set {cable} master bridge up\n"
        );
        ip(self.switch.pid(), &cable).await?;
        ip(process, &format!("link set lo up\naddress add {address}/24 dev eth0\nlink set eth0 up\n")).await
    }

    /// Makes a port of the control plane's loopback address the same port of the system's.
    fn forward(&self, group: Group, folder: &Path, port: u16) -> anyhow::Result<[Process; 2]> {
        let name = format!("port-{port}");
        let log = folder.join("logs").join(format!("{name}.log"));
        let socket = folder.join(&name);
        let mut inside = self.command(Path::new("socat"))?;
        inside.arg(format!("UNIX-LISTEN:{},fork,backlog=1024", socket.display())).arg(format!("TCP:127.0.0.1:{port}"));
        let mut outside = Command::new("socat");
        outside.arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=1024")).arg(format!("UNIX-CONNECT:{}", socket.display()));
        Ok([Process::start(group, &name, &log, &mut inside)?, Process::start(group, &name, &log, &mut outside)?])
    }
}

/// A command line in the network of this process.
pub(super) fn command(process: u32, program: &Path) -> anyhow::Result<Command> {
    let path = namespace(process).map_err(anyhow::Error::msg)?;
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path.display())).arg("--").arg(program);
    Ok(command)
}

/// The network namespace of a process. Never the system's own: what is done in it would be done to this machine.
pub(super) fn namespace(process: u32) -> Result<PathBuf, String> {
    let path = PathBuf::from(format!("/proc/{process}/ns/net"));
    match (fs::read_link(&path), fs::read_link("/proc/self/ns/net")) {
        (Ok(its), Ok(ours)) if its != ours => Ok(path),
        (Ok(_), Ok(_)) => Err(format!("process {process} has no network of its own")),
        (its, _) => Err(format!("process {process} has no network: {its:?}")),
    }
}

async fn ip(process: u32, lines: &str) -> anyhow::Result<()> {
    let mut command = command(process, Path::new("ip"))?;
    command.args(["-batch", "-"]);
    let said = tool::run(command, lines).await.with_context(|| format!("cannot set up a network by: {lines}"))?;
    ensure!(said.is_empty(), "ip said: {said}");
    Ok(())
}
