//! Free ports on the loopback address.
//!
//! They lie below the range from which the kernel takes the ports of outgoing connections: a component that is restarted
//! needs its old port back, and a client that keeps connecting to a closed port of that range ends up connected to itself,
//! holding it.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;

const RANGE: std::ops::Range<u16> = 15_000..30_000;

#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
    pub(super) api_server: u16,
    pub(super) controller_manager: u16,
    pub(super) scheduler: u16,
}

impl Ports {
    /// Another process may still take one before its component does, and then the whole start is repeated.
    pub(super) fn choose() -> anyhow::Result<Self> {
        // All listeners live until the end of this function, so that no port is chosen twice.
        let free = [listen()?, listen()?, listen()?, listen()?, listen()?];
        let [etcd, etcd_peer, api_server, controller_manager, scheduler] = free.each_ref().map(|listener| listener.1);
        Ok(Self { etcd, etcd_peer, api_server, controller_manager, scheduler })
    }

    /// Those that somebody outside of the control plane talks to.
    pub(super) fn of_clients(&self) -> [u16; 4] {
        [self.etcd, self.api_server, self.controller_manager, self.scheduler]
    }

    pub(super) fn all(&self) -> Vec<u16> {
        let Self { etcd, etcd_peer, api_server, controller_manager, scheduler } = *self;
        vec![etcd, etcd_peer, api_server, controller_manager, scheduler]
    }
}

fn listen() -> anyhow::Result<(TcpListener, u16)> {
    claim(|address| TcpListener::bind(address).map(|listener| (listener, address.port())))
}

/// Tries ports of the range until one can be had.
pub(super) fn claim<T>(take: impl Fn(SocketAddr) -> std::io::Result<T>) -> anyhow::Result<T> {
    for _ in 0..100 {
        let random = u16::try_from(RandomState::new().hash_one(()) % u64::from(RANGE.end - RANGE.start))?;
        if let Ok(taken) = take((Ipv4Addr::LOCALHOST, RANGE.start + random).into()) {
            return Ok(taken);
        }
    }
    bail!("no free port in {RANGE:?}")
}
