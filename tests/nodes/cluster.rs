//! The cluster that all scenarios share: two real nodes, the operator as `config/` ships it, the application's image.

use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::web::PATIENCE;
use super::{product, table};
use crate::control_plane::{Component, ControlPlane, Kubelets, Options};

static GATE: Mutex<()> = Mutex::const_new(());

/// The cluster while one scenario has it: others would disturb its figures, or lose their nodes to it.
pub(super) struct Cluster {
    pub(super) plane: &'static ControlPlane,
    _gate: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Returns when everything is as it should be: a scenario that failed may have left it otherwise.
    pub(super) async fn take() -> Self {
        let gate = GATE.lock().await;
        let plane = running().await;
        plane.nodes_ready(plane.real_nodes().len(), PATIENCE).await.unwrap();
        product::operators_ready(plane, product::REPLICAS).await.unwrap();
        Self { plane, _gate: gate }
    }
}

async fn running() -> &'static ControlPlane {
    static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
    match SHARED.get_or_init(async || start().await.map_err(|error| format!("{error:#}"))).await {
        Ok(plane) => plane,
        Err(error) => panic!("no cluster: {error}"),
    }
}

async fn start() -> anyhow::Result<ControlPlane> {
    // Without a watch cache for pods a witness can go on where it was after the API server was restarted.
    let flags = vec![(Component::ApiServer, "--watch-cache-sizes=pods#0".to_owned())];
    let plane = ControlPlane::start(Options { nodes: 2, kubelets: Kubelets::real(), flags, ..Options::default() }).await?;
    product::build(&plane, env!("CARGO_PKG_VERSION")).await?;
    product::build_app(&plane).await?;
    product::make(&plane, &["install"]).await?;
    product::operators_ready(&plane, product::REPLICAS).await?;
    table::note(
        2,
        "Two nodes. The application: three pods, readiness and liveness probes of period 1 s (failing once, and thrice; a silent one after 5 s), 3 s of preStop. Kubernetes' defaults \
         everywhere: its controllers find a lost node out after 44 to 51 s. The operator: three replicas as shipped (15/10/2 s). A \
         client on each node asks the leader Service every 20 ms, each time on a new connection, and waits 250 ms at most.",
    );
    table::head(3, super::scene::COLUMNS);
    Ok(plane)
}
