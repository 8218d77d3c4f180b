//! A TCP proxy before the API server for one client, so that a test can cut that client off and nobody else.
//!
//! It belongs to the runtime that it was started in, and ends when it is dropped. It must not look into what passes: the
//! client speaks TLS with the API server.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Sleep;

use super::{ports, wait};

/// What a proxy does with its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bytes pass both ways.
    Pass,
    /// Connections are closed, and new ones are refused.
    Refuse,
    /// Connections stay, and new ones are accepted, but no byte arrives, either way. As on a network that loses every packet,
    /// what was sent meanwhile is sent again, and arrives, once bytes pass.
    BlackHole,
    /// What the server sends arrives this much later; what the client sends does not.
    Delay(Duration),
    /// What either side sends arrives this much later: also what a client has asked for that has ended since.
    DelayBoth(Duration),
}

/// A running proxy. Dropping it closes its connections and its port.
pub(crate) struct Proxy {
    // Bound, and never listened on: it keeps the port ours while new connections are refused.
    _claim: TcpSocket,
    port: u16,
    orders: mpsc::Sender<Order>,
    serving: JoinHandle<()>,
}

/// A mode, and whom to tell when it is in force.
type Order = (Mode, oneshot::Sender<()>);

impl Proxy {
    /// Starts one that passes everything to a port of the loopback address.
    pub(crate) fn start(target_port: u16) -> anyhow::Result<Self> {
        let claim = ports::claim(|address| {
            // Shared with nobody: a port that another proxy has can be bound once more, too.
            TcpSocket::new_v4()?.bind(address)?;
            bind(address)
        })?;
        let address = claim.local_addr()?;
        let listener = listen(address).context("the proxy cannot listen")?;
        let (orders, ordered) = mpsc::channel(1);
        let serving = tokio::spawn(serve(listener, address, target_port, ordered));
        Ok(Self { _claim: claim, port: address.port(), orders, serving })
    }

    /// The port of the loopback address that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Switches the mode, and returns when it is in force, for existing connections too.
    pub(crate) async fn set(&self, mode: Mode) {
        let (tell, told) = oneshot::channel();
        self.orders.send((mode, tell)).await.expect("the proxy runs as long as its owner");
        told.await.expect("the proxy runs as long as its owner");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The port can be bound once more by the same user, which is how a claim and a listener share it.
fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    // What a client closed lately must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    bind(address)?.listen(128)
}

/// The port is claimed, but connections that were let in before may hold it for a moment yet.
async fn listen_again(address: SocketAddr) -> TcpListener {
    wait::until("the port is free", Duration::from_secs(30), async || listen(address).map_err(|error| error.to_string())).await.expect("the port is ours")
}

async fn serve(listener: TcpListener, address: SocketAddr, target_port: u16, mut orders: mpsc::Receiver<Order>) {
    let modes = watch::Sender::new(Mode::Pass);
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((mode, tell)) = order else { return };
                modes.send_replace(mode);
                if mode == Mode::Refuse {
                    listener = None;
                    connections.shutdown().await;
                } else if listener.is_none() {
                    listener = Some(listen_again(address).await);
                }
                // Whoever gave the order may have gone.
                let _ = tell.send(());
            }
            client = accept(listener.as_ref()) => {
                connections.spawn(relay(client, target_port, modes.subscribe()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        // A connection that is gone before it is accepted is no concern of the next.
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
    }
}

/// One connection. An error on either side ends both, and there is nothing to tell: the peers see it.
async fn relay(client: TcpStream, target_port: u16, mut mode: watch::Receiver<Mode>) -> std::io::Result<()> {
    bytes_pass(&mut mode).await;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target_port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = answers(from_server, to_client, mode.clone());
    tokio::try_join!(requests(from_client, to_server, mode), answers).map(|_| ())
}

/// Waits until the proxy is no black hole.
async fn bytes_pass(mode: &mut watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode != Mode::BlackHole).await.is_err() {
        // The proxy is being dropped, and this connection with it.
        std::future::pending::<()>().await;
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        let delay = if let Mode::DelayBoth(delay) = *mode.borrow() { delay } else { Duration::ZERO };
        tokio::time::sleep(delay).await;
        bytes_pass(&mut mode).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// The wait of each piece begins when it comes, so that a delay does not make the connection slower than that.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) -> std::io::Result<()> {
    const MOST: usize = 1024;
    let mut late: VecDeque<(Pin<Box<Sleep>>, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut open = true;
    loop {
        if !open && late.is_empty() {
            return to.shutdown().await;
        }
        tokio::select! {
            () = due(&mut late) => {
                bytes_pass(&mut mode).await;
                if let Some((_, piece)) = late.pop_front() {
                    to.write_all(&piece).await?;
                }
            }
            read = from.read(&mut buffer), if open && late.len() < MOST => {
                let piece = buffer[..read?].to_vec();
                open = !piece.is_empty();
                let delay = if let Mode::Delay(delay) | Mode::DelayBoth(delay) = *mode.borrow() { delay } else { Duration::ZERO };
                if open {
                    late.push_back((Box::pin(tokio::time::sleep(delay)), piece));
                }
            }
        }
    }
}

/// Waits until the oldest piece may go on.
async fn due(late: &mut VecDeque<(Pin<Box<Sleep>>, Vec<u8>)>) {
    match late.front_mut() {
        Some((wait, _)) => wait.await,
        None => std::future::pending().await,
    }
}
