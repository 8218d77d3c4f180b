//! A small HTTP proxy that a client reaches the API server through with CONNECT, as those of companies are. It must not look
//! into what passes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running one. Dropping it ends it.
pub(crate) struct Tunnel {
    port: u16,
    opened: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Tunnel {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (port, opened) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
        let count = opened.clone();
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let count = count.clone();
                // Whoever is cut off sees it.
                tokio::spawn(async move { drop(relay(client, &count).await) });
            }
        });
        Ok(Self { port, opened, serving })
    }

    /// As HTTPS_PROXY has it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many connections went through it so far.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn relay(client: TcpStream, opened: &AtomicUsize) -> anyhow::Result<()> {
    let mut client = BufReader::new(client);
    let mut asked = String::new();
    client.read_line(&mut asked).await?;
    let target = asked.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).context("only CONNECT is served")?.to_owned();
    let mut header = String::from("...");
    while !header.trim().is_empty() {
        header.clear();
        client.read_line(&mut header).await?;
    }
    let mut server = TcpStream::connect(&target).await?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    opened.fetch_add(1, Ordering::Relaxed);
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
