//! A highly available program: of all its copies one leads and works, and the others stand by. client-go's example
//! `leader-election` in Rust, with its flags, durations and lines; see docs/examples/leader-election.md.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use leadergroup::elector::{self, Callbacks, Config, Elector, LockKind, LockOptions, Tenure};
use tokio::signal::unix::{SignalKind, signal};

/// Contend for a Lease, and work while it is held.
#[derive(Parser)]
struct Arguments {
    /// Path to a kubeconfig; without it the cluster is found as kubectl does, or from inside a pod.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The holder's identity, unique among all processes; without it one is made of the host's name.
    #[arg(long)]
    id: Option<String>,
    /// The Lease's name.
    #[arg(long)]
    lease_lock_name: String,
    /// The Lease's namespace.
    #[arg(long)]
    lease_lock_namespace: String,
    /// How long the others wait for a leader that says nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    lease_duration: u64,
    /// For how long a leader tries to renew before it steps down.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    renew_deadline: u64,
    /// The pause between two tries.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    retry_period: u64,
}

/// What the leader does: the logic of your program. It asks before each act whether it still leads.
async fn work(tenure: Tenure) {
    println!("became leader");
    while tenure.is_held() {
        println!("leading in term {}", tenure.term());
        tokio::select! {
            // Finish what you are at, and return: only then is the Lease given to another.
            () = tenure.stop_requested() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancel = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };

    let cluster = match arguments.kubeconfig {
        Some(file) => kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &KubeConfigOptions::default()).await?,
        None => kube::Config::infer().await?,
    };
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let id = arguments.id.unwrap_or_else(|| elector::unique_identity(&host()));
    let options = LockOptions { namespace: arguments.lease_lock_namespace, name: arguments.lease_lock_name, identity: id.clone(), ..LockOptions::default() };
    let lock = elector::lock(LockKind::Leases, &elector::client(cluster)?, &options);
    let config = Config {
        lease_duration: Duration::from_secs(arguments.lease_duration),
        renew_deadline: Duration::from_secs(arguments.renew_deadline),
        retry_period: Duration::from_secs(arguments.retry_period),
        // Safe here: the work has ended before the Lease is given back.
        release_on_cancel: true,
        name: options.name.clone(),
    };
    let myself = id.clone();
    let mut callbacks = Callbacks::new(work).on_stopped(move || println!("leader lost: {id}")).on_new_leader(move |leader| {
        // Empty: it was given back, and nobody has taken it yet.
        if leader != myself && !leader.is_empty() {
            println!("new leader elected: {leader}");
        }
    });
    // A leadership that was lost is contended for anew, so the process need not end.
    Elector::new(lock, config)?.run_until(&mut callbacks, cancel).await;
    Ok(())
}
