//! `control-plane`: starts a control plane, says how to reach it, and keeps it until it is told to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::control_plane::{ControlPlane, Kubelets, Options};

/// Run a control plane until Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The number of nodes, spread over three zones.
    #[arg(long, default_value_t = 4)]
    nodes: usize,

    /// Real nodes, whose pods are processes: for Linux, as root. Without it kwok plays the kubelets.
    #[arg(long)]
    real: bool,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stop);

    println!("Starting a control plane ...");
    let kubelets = if arguments.real { Kubelets::real() } else { Kubelets::Played };
    let options = Options { nodes: arguments.nodes, kubelets, ..Options::default() };
    let control_plane = tokio::select! {
        started = ControlPlane::start(options) => started?,
        () = &mut stop => {
            println!("Stopped before it ran; nothing is left of it.");
            return Ok(());
        }
    };
    let version = control_plane.client().apiserver_version().await?;
    let kubectl = control_plane.kubectl_path().display();
    println!();
    println!("Kubernetes {} runs with {} nodes in three zones.", version.git_version, arguments.nodes);
    if arguments.real {
        println!("All of it is real: pods are processes on nodes in namespaces of their own, and Services route between them.");
        println!("No registry is reached: give each node an image archive by the line beside it, and use pull policy IfNotPresent.");
        for node in control_plane.real_nodes() {
            let ctr = control_plane.program("ctr")?;
            println!(
                "  {} at {}: nsenter --all --target={} {} -n k8s.io images import FILE",
                node.name(),
                node.address(),
                node.first_process()?,
                ctr.display()
            );
        }
    } else {
        println!("API server, scheduler, controllers and etcd are real; kwok plays the kubelets, so pods hold no containers.");
    }
    println!("Programs:  {}", control_plane.program_versions().await.join(", "));
    println!("Its files: {}", control_plane.folder().display());
    println!();
    println!("  export KUBECONFIG={}", control_plane.kubeconfig().display());
    println!("  {kubectl} get nodes --label-columns=topology.kubernetes.io/zone");
    println!();
    println!("Ctrl-C stops it and removes all of it.");

    stop.await;
    println!("Stopping ...");
    drop(control_plane);
    println!("Stopped; nothing is left of it.");
    Ok(())
}
