//! One real node: what it is made of, and what can be done to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Site, control_groups, network, settings, tool};
use crate::control_plane::process::Process;
use crate::control_plane::{nodes, wait};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Containerd,
    Kubelet,
    Proxy,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
        }
    }
}

pub(crate) struct RealNode {
    site: Arc<Site>,
    number: usize,
    name: String,
    /// What runs while it has power.
    machine: Mutex<Option<Machine>>,
}

struct Machine {
    /// The parent of the first process, in the system's own process namespace.
    frame: Process,
    /// The first process.
    first: u32,
    /// Each is the process that entered the node and waits for the program.
    parts: BTreeMap<Part, Process>,
}

impl RealNode {
    pub(super) fn new(site: Arc<Site>, number: usize) -> anyhow::Result<Self> {
        settings::write(&site, number)?;
        Ok(Self { site, number, name: nodes::name(number), machine: Mutex::new(None) })
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// Its name in the API.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its address, which other nodes and the control plane reach.
    pub(crate) fn address(&self) -> String {
        network::address(self.number)
    }

    /// The id of its first process, outside of it.
    pub(crate) fn first_process(&self) -> anyhow::Result<u32> {
        self.first()
    }

    pub(crate) fn has_power(&self) -> bool {
        self.machine().is_some()
    }

    /// The processes on it, by their ids outside of it.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.control_group("").map(|group| control_groups::processes(&group)).unwrap_or_default()
    }

    /// A command line in the node's network; in all else it is a process of this machine.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> anyhow::Result<Command> {
        let mut command = network::command(self.first()?, program.as_ref())?;
        self.site.group.put(&mut command);
        Ok(command)
    }

    /// Runs such a command line to its end, and gives what it printed.
    pub(crate) async fn run(&self, line: &[&str]) -> anyhow::Result<String> {
        let (program, arguments) = line.split_first().context("no program is named")?;
        let mut command = self.command(program)?;
        command.args(arguments);
        tool::run(command, "").await
    }

    /// Cuts its power: every process on it ends at once, what it had in memory is gone, what it had on disk stays.
    pub(crate) async fn cut_power(&self) -> anyhow::Result<()> {
        let machine = self.machine().take().with_context(|| format!("{} has no power", self.name))?;
        kill("KILL", &[machine.first])?;
        // It ends after everything else on the node has.
        machine.frame.wait(PATIENCE).await.with_context(|| format!("{} does not end", self.name))?;
        let group = self.control_group("")?;
        wait::until("its control groups are empty", PATIENCE, async || control_groups::remove(&group)).await
    }

    /// Gives it power again, and returns when its programs run; it becomes Ready a little later.
    pub(crate) async fn restore_power(&self) -> anyhow::Result<()> {
        self.boot().await?;
        self.join()
    }

    /// Pulls its cable out of the switch. The node itself sees a link that is up and carries nothing.
    pub(crate) async fn unplug(&self) -> anyhow::Result<()> {
        self.site.network.set_cable(self.number, "down").await
    }

    pub(crate) async fn plug_in(&self) -> anyhow::Result<()> {
        self.site.network.set_cable(self.number, "up").await
    }

    /// Stops the kubelet where it stands: containers go on, nobody looks after them.
    pub(crate) fn pause_kubelet(&self) -> anyhow::Result<()> {
        self.with(Part::Kubelet, |kubelet| kill("STOP", &[entered(kubelet)?]))
    }

    pub(crate) fn resume_kubelet(&self) -> anyhow::Result<()> {
        // What waits for the kubelet was stopped with it.
        self.with(Part::Kubelet, |kubelet| {
            kill("CONT", &[entered(kubelet)?])?;
            kubelet.resume()
        })
    }

    /// Ends the kubelet at once, and with it whoever looks after the containers.
    pub(crate) async fn kill_kubelet(&self) -> anyhow::Result<()> {
        let kubelet = self.running()?.parts.remove(&Part::Kubelet);
        let kubelet = kubelet.with_context(|| format!("the kubelet of {} does not run", self.name))?;
        kill("KILL", &[entered(&kubelet)?])?;
        let ended = async || {
            // What waits for the kubelet may still be about to stop, as the kubelet was stopped before.
            let _ = kubelet.resume();
            kubelet.ended().ok_or("it runs")
        };
        wait::until("the kubelet has ended", PATIENCE, ended).await?;
        Ok(())
    }

    pub(crate) fn start_kubelet(&self) -> anyhow::Result<()> {
        self.start(Part::Kubelet)
    }

    /// Ends every process of every pod on it at once.
    pub(crate) async fn kill_containers(&self) -> anyhow::Result<()> {
        let group = self.control_group("/pods")?;
        let none_left = async || {
            let processes = control_groups::processes(&group);
            // Some may have ended since; what counts is who is left.
            let _ = kill("KILL", &processes);
            if processes.is_empty() { Ok(()) } else { Err(format!("{processes:?} are left")) }
        };
        wait::until("all containers have ended", PATIENCE, none_left).await
    }

    /// Sends a signal, such as `KILL` or `STOP`, to every process of a container of this id, as a pod's status tells it.
    pub(crate) fn signal_container(&self, id: &str, signal: &str) -> anyhow::Result<()> {
        let name = id.strip_prefix("containerd://").with_context(|| format!("{id:?} is no id of a container"))?;
        let processes = control_groups::processes_of(&self.control_group("/pods")?, name);
        ensure!(!processes.is_empty(), "no process of {name} runs on {}", self.name);
        for process in processes {
            let sent = kill(signal, &[process]);
            // One that was listed may have ended since.
            ensure!(sent.is_ok() || !Path::new(&format!("/proc/{process}")).exists(), "{sent:?}");
        }
        Ok(())
    }

    /// All that its kubelet printed.
    pub(crate) fn kubelet_log(&self) -> String {
        std::fs::read_to_string(self.log(Part::Kubelet.name())).unwrap_or_default()
    }

    /// The failure of a program that has ended by itself, if one has.
    pub(crate) fn failure(&self) -> Option<String> {
        let machine = self.machine();
        let parts = &machine.as_ref()?.parts;
        let (part, process) = parts.iter().find(|(_, process)| process.ended().is_some())?;
        Some(format!("{} of {} ended; the end of its log:\n{}", part.name(), self.name, process.log_end(30)))
    }

    pub(super) async fn boot(&self) -> anyhow::Result<()> {
        ensure!(!self.has_power(), "{} has power already", self.name);
        let mut command = self.in_control_group()?;
        command.args(["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]);
        command.args(["sh", "-c", include_str!("node.sh"), "node.sh", &self.name]).arg(settings::folder(&self.site, self.number).join("disk"));
        let frame = Process::start(self.site.group, &self.name, &self.log("node"), &mut command)?;
        let what = format!("{} is up", self.name);
        let up = wait::until(&what, PATIENCE, async || match set_up(&frame) {
            Ok(first) => Ok(Ok(first)),
            Err(error) if frame.ended().is_none() => Err(error),
            Err(error) => Ok(Err(error.context(frame.log_end(10)))),
        });
        let first = up.await??;
        *self.machine() = Some(Machine { frame, first, parts: BTreeMap::new() });
        self.site.network.connect_node(first, self.number, self.site.count).await?;
        self.start(Part::Containerd)?;
        wait::until(&format!("containerd of {} answers", self.name), PATIENCE, async || match self.failure() {
            Some(failure) => Ok(Err(anyhow::anyhow!(failure))),
            None => self.containerd(&["version"]).await.map(Ok),
        })
        .await??;
        Ok(())
    }

    pub(super) fn join(&self) -> anyhow::Result<()> {
        self.start(Part::Proxy)?;
        self.start(Part::Kubelet)
    }

    pub(super) async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        self.containerd(&["--namespace=k8s.io", "images", "import", &archive.display().to_string()]).await?;
        Ok(())
    }

    /// Asks the node's containerd.
    async fn containerd(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("nsenter");
        self.site.group.put(&mut command);
        command.args(self.entry()?).arg(self.site.programs.path("ctr")?).args(arguments);
        tool::run(command, "").await
    }

    fn start(&self, part: Part) -> anyhow::Result<()> {
        let (site, number) = (&self.site, self.number);
        let program = site.programs.path(part.name())?;
        let flags = match part {
            Part::Containerd => settings::containerd_flags(site, number),
            Part::Kubelet => settings::kubelet_flags(site, number),
            Part::Proxy => settings::proxy_flags(site, number),
        };
        let mut command = self.in_control_group()?;
        command.arg("nsenter").args(self.entry()?).arg(&program).args(flags);
        // containerd looks for its shim beside itself, and for runc where the system has it.
        let beside = program.parent().map(|folder| format!("{}:", folder.display())).unwrap_or_default();
        command.env("PATH", format!("{beside}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.env("HOME", &site.folder).current_dir("/");
        let name = format!("{} of {}", part.name(), self.name);
        let mut machine = self.running()?;
        ensure!(!machine.parts.contains_key(&part), "{name} runs already");
        let process = Process::start(site.group, &name, &self.log(part.name()), &mut command)?;
        machine.parts.insert(part, process);
        Ok(())
    }

    /// nsenter's way into the node.
    fn entry(&self) -> anyhow::Result<Vec<String>> {
        let target = format!("--target={}", self.first()?);
        Ok([&target, "--mount", "--net", "--pid", "--uts", "--ipc", "--"].map(str::to_owned).to_vec())
    }

    /// The first process, which has namespaces of its own: entering it never means this machine.
    fn first(&self) -> anyhow::Result<u32> {
        let first = self.running()?.first;
        network::namespace(first).map_err(anyhow::Error::msg)?;
        Ok(first)
    }

    fn in_control_group(&self) -> anyhow::Result<Command> {
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("enter.sh"), "enter.sh"]).arg(self.control_group("")?);
        Ok(command)
    }

    fn control_group(&self, below: &str) -> anyhow::Result<String> {
        Ok(format!("{}/{}{below}", self.site.control_group()?, self.name))
    }

    fn log(&self, what: &str) -> PathBuf {
        self.site.log(&format!("{}-{what}", self.name))
    }

    fn with<T>(&self, part: Part, action: impl Fn(&Process) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let machine = self.running()?;
        action(machine.parts.get(&part).with_context(|| format!("{} of {} does not run", part.name(), self.name))?)
    }

    fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> anyhow::Result<Running<'_>> {
        let machine = self.machine();
        ensure!(machine.is_some(), "{} has no power", self.name);
        Ok(Running(machine))
    }
}

/// A machine that has power.
struct Running<'a>(MutexGuard<'a, Option<Machine>>);

impl std::ops::Deref for Running<'_> {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        self.0.as_ref().expect("it was looked at before")
    }
}

impl std::ops::DerefMut for Running<'_> {
    fn deref_mut(&mut self) -> &mut Machine {
        self.0.as_mut().expect("it was looked at before")
    }
}

/// The node's first process, once it has set everything up.
fn set_up(frame: &Process) -> anyhow::Result<u32> {
    let first = entered(frame)?;
    network::namespace(first).map_err(anyhow::Error::msg)?;
    ensure!(Path::new(&format!("/proc/{first}/root/run/up")).exists(), "it sets up its mounts");
    Ok(first)
}

/// The program that this process waits for.
fn entered(parent: &Process) -> anyhow::Result<u32> {
    let pid = parent.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).context("it has ended")?;
    let mut children = children.split_whitespace();
    let child = children.next().context("it has started nothing yet")?;
    Ok(child.parse()?)
}

fn kill(signal: &str, processes: &[u32]) -> anyhow::Result<()> {
    if processes.is_empty() {
        return Ok(());
    }
    let sent =
        Command::new("sh").args(["-c", "signal=$1; shift; kill -s \"$signal\" \"$@\"", "kill", signal]).args(processes.iter().map(u32::to_string)).status()?;
    ensure!(sent.success(), "cannot send SIG{signal} to {processes:?}");
    Ok(())
}
