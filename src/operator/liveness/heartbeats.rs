//! The heartbeats of nodes, asked for while they are needed: there are many, and most of the time nobody wants to know.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use tracing::{debug, info, warn};

use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::operator::kinds::{Beat, HEARTBEATS};
use crate::operator::slim::Slim;
use crate::policy::liveness::Heartbeat;

/// Between two looks, and as long again for each thousand nodes.
const PACE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) struct Heartbeats {
    leases: Api<Slim<Beat>>,
    known: BTreeMap<Box<str>, Heartbeat>,
    next: Instant,
    refused: bool,
}

impl Heartbeats {
    pub(super) fn new(client: Client) -> Self {
        Self { leases: Api::namespaced(client, HEARTBEATS), known: BTreeMap::new(), next: Instant::default(), refused: false }
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

    /// Looks at all, if it is time. What cannot be read now is not judged: it stays as it was looked at last.
    pub(super) async fn look(&mut self) {
        let asked = SystemClock.now();
        if asked < self.next {
            return;
        }
        // From the API server's cache: what it has not heard of yet is late, and the more patient.
        let list = tokio::time::timeout(DEADLINE, self.leases.list(&ListParams::default().match_any())).await;
        match list {
            Ok(Ok(list)) => {
                self.told(None);
                let beats = list.items.iter().filter_map(|lease| Some((lease.name(), lease.data.as_deref()?)));
                let looked = beats.map(|(node, beat)| (node.into(), Heartbeat::look(self.known.get(node), &beat.stamp, beat.duration_seconds, asked)));
                self.known = looked.collect();
                debug!(read = list.items.len(), "Heartbeats were looked at");
            }
            Ok(Err(error)) => self.told(Some(&error.to_string())),
            Err(_) => self.told(Some("no answer in time")),
        }
        let size = u32::try_from(self.known.len() / 1000).unwrap_or(u32::MAX);
        self.next = asked + PACE * size.saturating_add(1);
    }

    fn told(&mut self, problem: Option<&str>) {
        match problem {
            Some(problem) if !self.refused => warn!(namespace = HEARTBEATS, problem, "Heartbeats of nodes cannot be read"),
            None if self.refused => info!(namespace = HEARTBEATS, "Heartbeats of nodes can be read again"),
            _ => {}
        }
        self.refused = problem.is_some();
    }
}
