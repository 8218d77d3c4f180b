//! An API server that is played in memory, for sizes that this machine's real one cannot host: versions, watches with streamed lists,
//! patches with their preconditions and the record of who has set what, over plain HTTP. It plays what a Deployment's controllers,
//! scheduler and kubelets do as one step. No admission, no schema, no rights, no disk: how long a write takes here says nothing.

mod objects;
mod patches;
mod requests;
mod world;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) use world::World;

/// A running one; it ends when it is dropped.
pub(crate) struct Played {
    pub(crate) world: Arc<World>,
    port: u16,
    serving: JoinHandle<()>,
}

impl Played {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let world = Arc::new(World::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let router = axum::Router::new().fallback(requests::answer).with_state(world.clone());
        let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { world, port, serving })
    }

    /// How a client finds it.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let file = folder.join("played.kubeconfig");
        let server = format!("http://127.0.0.1:{}", self.port);
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "played",
            "clusters": [{ "name": "played", "cluster": { "server": server } }],
            "users": [{ "name": "anybody", "user": {} }],
            "contexts": [{ "name": "played", "context": { "cluster": "played", "user": "anybody" } }],
        });
        std::fs::write(&file, text.to_string())?;
        Ok(file)
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
