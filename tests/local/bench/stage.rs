//! What all benchmarks run on: a control plane whose etcd waits for the disk, the operator and its peer as processes, one watch
//! and one clock.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use super::applications::{Applications, Mover};
use super::report;
use super::usage;
use crate::control_plane::{self, ControlPlane, Options, Process, wait};
use crate::operator_process;

pub(super) const NAMESPACE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Stage {
    pub(super) plane: ControlPlane,
    pub(super) account: PathBuf,
    pub(super) program: PathBuf,
    pub(super) applications: Applications,
    operator: Option<Process>,
    peer: Option<Process>,
}

impl Stage {
    /// `pods`: how many there will be at most.
    pub(super) async fn start(program: PathBuf, pods: usize) -> anyhow::Result<(Self, String)> {
        eprintln!("Starting a control plane ...");
        // Four nodes; what ends makes room late.
        let max_pods_per_node = u32::try_from(pods.max(1000))?;
        let plane = ControlPlane::start(Options { fsync: true, max_pods_per_node, ..Options::default() }).await?;
        let account = operator_process::install(&plane).await?;
        let conditions = report::words_of(&plane, &program, "etcd with fsync").await?;
        plane.kubectl(&["create", "namespace", NAMESPACE]).await?.succeeded()?;
        let applications = Applications::start(&plane, NAMESPACE).await?;
        Ok((Self { plane, account, program, applications, operator: None, peer: None }, conditions))
    }

    /// As the shipped Deployment starts it, for all namespaces, as the only replica.
    pub(super) async fn start_operator(&mut self) -> anyhow::Result<()> {
        let operator = self.plane.spawn("operator", &mut operator_process::as_shipped(&self.program, &self.account))?;
        listed(&operator).await?;
        self.operator = Some(operator);
        Ok(())
    }

    pub(super) async fn start_peer(&mut self) -> anyhow::Result<()> {
        self.peer = Some(self.spawn_peer(&[]).await?);
        Ok(())
    }

    /// A peer with further flags, once it has listed everything.
    pub(super) async fn spawn_peer(&self, flags: &[&str]) -> anyhow::Result<Process> {
        let program = control_plane::build("peer")?.join("controller-runtime-peer");
        let mut command = std::process::Command::new(program);
        command.args(flags).arg("--config").arg(self.plane.kubeconfig());
        let peer = self.plane.spawn("peer", &mut command)?;
        listed(&peer).await?;
        Ok(peer)
    }

    pub(super) fn stop_operator(&mut self) -> anyhow::Result<()> {
        self.operator.take().map_or(Ok(()), |operator| operator.kill().map(drop))
    }

    /// Whose process it is; the floor has none.
    pub(super) fn process(&self, mover: Mover) -> Option<&Process> {
        match mover {
            Mover::Operator => self.operator.as_ref(),
            Mover::Peer => self.peer.as_ref(),
            Mover::Floor => None,
        }
    }

    pub(super) fn operator(&self) -> anyhow::Result<&Process> {
        self.operator.as_ref().ok_or_else(|| anyhow::anyhow!("the operator was not started"))
    }

    pub(super) fn processor_time(&self, mover: Mover) -> anyhow::Result<Duration> {
        self.process(mover).map_or(Ok(Duration::ZERO), usage::processor_time)
    }

    pub(super) fn log_of(&self, mover: Mover) -> String {
        self.process(mover).map_or_else(String::new, |process| format!("its log ends:\n{}", process.log_end(20)))
    }

    /// What the numbers depend on besides.
    pub(super) async fn end(self) -> anyhow::Result<String> {
        let fsync = report::fsync(&self.plane).await?;
        eprintln!("Stopping ...");
        Ok(fsync)
    }
}

pub(super) async fn listed(process: &Process) -> anyhow::Result<()> {
    wait::until("everything is listed", PATIENCE, async || {
        ensure!(process.ended().is_none(), "it has ended: {}", process.log_end(5));
        ensure!(process.log().contains("Everything is listed"), "its log ends: {}", process.log_end(1));
        Ok(())
    })
    .await
}
