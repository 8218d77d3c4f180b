//! The heartbeats of nodes, asked for while they are needed: there are many, and most of the time nobody wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::ListParams;
use kube::{Api, Client};
use tracing::{debug, info, warn};

use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::operator::kinds::{Beat, HEARTBEATS};
use crate::operator::slim::Slim;
use crate::policy::liveness::Heartbeat;

/// Between two looks, and as long again for each thousand nodes, up to what still tells a renewal from one that was missed.
const PACE: Duration = Duration::from_secs(5);
const SLOWEST_PACE: Duration = Duration::from_secs(12);
/// The same where they can't be read.
const LONGEST_PACE: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(2);
/// So many are asked for one by one: whoever else puts something into their namespace is not in the way. More are listed.
const ONE_BY_ONE: usize = 64;
const AT_ONCE: usize = 8;

pub(super) struct Heartbeats {
    leases: Api<Slim<Beat>>,
    known: BTreeMap<Box<str>, Heartbeat>,
    next: Instant,
    failures: u32,
}

/// A heartbeat's stamp, and how long it says that it is good for.
type Read = (Box<str>, Box<str>, i64);

impl Heartbeats {
    pub(super) fn new(client: Client) -> Self {
        Self { leases: Api::namespaced(client, HEARTBEATS), known: BTreeMap::new(), next: Instant::default(), failures: 0 }
    }

    pub(super) fn of(&self, node: &str) -> Option<&Heartbeat> {
        self.known.get(node)
    }

    /// All that are known.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Box<str>, &Heartbeat)> {
        self.known.iter()
    }

    /// What was seen is of no use once it is not looked at again and again.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Looks at those of these nodes, if it is time. What cannot be read now is not judged: it stays as it was looked at last.
    pub(super) async fn look(&mut self, nodes: &BTreeSet<Box<str>>) {
        let asked = SystemClock.now();
        if asked < self.next {
            return;
        }
        match tokio::time::timeout(DEADLINE, self.read(nodes)).await {
            Ok(Ok(read)) => {
                self.told(None);
                debug!(read = read.len(), "Heartbeats were looked at");
                let looked = |(node, stamp, seconds): Read| {
                    let heartbeat = Heartbeat::look(self.known.get(&node), &stamp, seconds, asked);
                    (node, heartbeat)
                };
                self.known = read.into_iter().map(looked).collect();
            }
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                self.told(Some(
                    "they may not be read (get and list on leases in that namespace), so nodes that cannot be reached are left to Kubernetes' taints",
                ));
            }
            Ok(Err(kube::Error::Api(status))) => self.told(Some(&status.message.chars().take(200).collect::<String>())),
            Ok(Err(error)) => self.told(Some(&error.to_string())),
            Err(_) => self.told(Some("no answer in time")),
        }
        let size = u32::try_from(nodes.len() / 1000).unwrap_or(u32::MAX).saturating_add(1);
        let pace = (PACE.saturating_mul(size)).min(SLOWEST_PACE);
        self.next = asked + (pace * (1 << self.failures.min(5))).min(LONGEST_PACE);
    }

    /// From the API server's cache, where it is a list: what it has not heard of yet is late, and the more patient.
    async fn read(&self, nodes: &BTreeSet<Box<str>>) -> Result<Vec<Read>, kube::Error> {
        let of = |lease: &Slim<Beat>| Some((lease.name().into(), lease.data.as_deref()?.stamp.clone(), lease.data.as_deref()?.duration_seconds));
        if nodes.len() > ONE_BY_ONE {
            let list = self.leases.list(&ListParams::default().match_any()).await?;
            return Ok(list.items.iter().filter_map(of).collect());
        }
        let one = |node: Box<str>| {
            let leases = self.leases.clone();
            async move { leases.get_opt(&node).await }
        };
        let mut leases = stream::iter(nodes.iter().cloned().collect::<Vec<_>>()).map(one).buffer_unordered(AT_ONCE);
        let mut read = Vec::new();
        while let Some(lease) = leases.next().await {
            read.extend(lease?.as_ref().and_then(of));
        }
        Ok(read)
    }

    fn told(&mut self, problem: Option<&str>) {
        match problem {
            Some(problem) if self.failures == 0 => warn!(namespace = HEARTBEATS, problem, "Heartbeats of nodes cannot be read"),
            None if self.failures > 0 => info!(namespace = HEARTBEATS, "Heartbeats of nodes can be read again"),
            _ => {}
        }
        self.failures = if problem.is_some() { self.failures.saturating_add(1) } else { 0 };
    }
}
