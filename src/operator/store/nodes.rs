//! What is known of nodes, which belong to no namespace, and which of them bear a leader. Judges none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Concerned, Store, Tables};
use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::policy::observation::{Node, NodeState, Pod, Suspicion};

#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: HashMap<Box<str>, NodeState>,
    /// What speaks against nodes, since when.
    suspects: HashMap<Box<str>, (Suspicion, Instant)>,
    pub(super) bearers: Bearers,
    listed: Option<HashSet<Box<str>>>,
    /// By version: nodes that were read in part.
    pub(super) unread: HashMap<Box<str>, u64>,
}

impl Nodes {
    /// What is known of a pod's node.
    pub(super) fn of(&self, pod: &Pod) -> NodeState {
        let Some((name, state)) = pod.node.as_ref().and_then(|name| self.known.get_key_value(name)) else { return NodeState::Unknown };
        match (state, self.suspects.get(name)) {
            (NodeState::Present(node), Some((suspicion, since))) => NodeState::Suspect { node: node.clone(), suspicion: *suspicion, since: *since },
            (state, _) => state.clone(),
        }
    }
}

/// The nodes that bear a leader or its successor: how many pods with a fence are on each.
#[derive(Debug, Default)]
pub(super) struct Bearers {
    pods: HashMap<Box<str>, u32>,
    /// How often the nodes, or where they are reached, have changed.
    changes: u64,
}

impl Bearers {
    pub(super) fn count(&mut self, node: &str, present: bool) {
        let before = self.pods.get(node).copied().unwrap_or_default();
        let now = if present { before.saturating_add(1) } else { before.saturating_sub(1) };
        if now == 0 {
            self.pods.remove(node);
        } else {
            self.pods.insert(node.into(), now);
        }
        self.changes += u64::from((before == 0) != (now == 0));
    }
}

impl Tables {
    fn concerns_of_node(&self, name: &str) -> Concerned {
        let on_node = self.pods.objects.iter().filter(|(_, pod)| pod.node.as_deref() == Some(name));
        on_node.flat_map(|(key, pod)| self.concerns_of_pod(key, pod)).collect()
    }
}

impl Store {
    /// As [`Table::note_unread`](super::Table::note_unread).
    pub fn note_unread_node(&self, name: &str, version: Option<u64>) -> bool {
        let unread = &mut self.lock().nodes.unread;
        match version {
            None => {
                unread.remove(name);
                false
            }
            Some(version) => unread.insert(name.into(), version) != Some(version),
        }
    }

    pub fn begin_nodes(&self) {
        self.lock().nodes.listed = Some(HashSet::new());
    }

    pub fn end_nodes(&self) -> Concerned {
        let mut tables = self.lock();
        let Some(listed) = tables.nodes.listed.take() else { return Concerned::new() };
        let gone: Vec<_> = tables.nodes.known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        drop(tables);
        gone.iter().flat_map(|name| self.set_node(name, NodeState::Gone)).collect()
    }

    /// Takes in a node, or its deletion. A node that was never seen is unknown, not gone: its event may be on its way.
    pub fn set_node(&self, name: &str, mut state: NodeState) -> Concerned {
        let tables = &mut *self.lock();
        let nodes = &mut tables.nodes;
        if let Some(listed) = &mut nodes.listed {
            listed.insert(name.into());
        }
        if matches!(state, NodeState::Gone) {
            nodes.unread.remove(name);
        }
        let former = nodes.known.get(name);
        if let NodeState::Present(node) = &mut state
            && node.unreachable
        {
            let since = if let Some(NodeState::Present(former)) = former { former.unreachable_since } else { None };
            Arc::make_mut(node).unreachable_since = since.or_else(|| Some(SystemClock.now()));
        }
        let same = match (former, &state) {
            (Some(NodeState::Present(before)), NodeState::Present(after)) => Node { resource_version: after.resource_version, ..(**before).clone() } == **after,
            (Some(NodeState::Gone), NodeState::Gone) => true,
            // Pods of a node that is seen for the first time were judged without it.
            _ => false,
        };
        nodes.known.insert(name.into(), state);
        if same {
            return Concerned::new();
        }
        nodes.bearers.changes += u64::from(nodes.bearers.pods.contains_key(name));
        tables.concerns_of_node(name)
    }

    /// The nodes that bear leaders and their successors, and where their kubelets listen, if that has changed since `known`; with
    /// the number to ask with next.
    pub fn bearers(&self, known: u64) -> Option<(u64, BTreeMap<Box<str>, SocketAddr>)> {
        let nodes = &self.lock().nodes;
        let kubelet = |name: &str| if let NodeState::Present(node) = nodes.known.get(name)? { node.kubelet } else { None };
        let changes = nodes.bearers.changes;
        (changes != known).then(|| (changes, nodes.bearers.pods.keys().filter_map(|name| Some((name.clone(), kubelet(name)?))).collect()))
    }

    /// Where the kubelet of a node listens that is there, as far as the API server says.
    pub fn kubelet_of(&self, name: &str) -> Option<SocketAddr> {
        if let Some(NodeState::Present(node)) = self.lock().nodes.known.get(name) { node.kubelet } else { None }
    }

    /// Takes in what speaks against nodes now.
    pub fn suspect(&self, suspicions: &BTreeMap<Box<str>, Suspicion>, now: Instant) -> News {
        let tables = &mut *self.lock();
        let suspects = &mut tables.nodes.suspects;
        let ended: Vec<Box<str>> = suspects.keys().filter(|name| !suspicions.contains_key(*name)).cloned().collect();
        let new = suspicions.iter().filter(|(name, suspicion)| suspects.get(*name).is_none_or(|(former, _)| former != *suspicion));
        let begun: Vec<_> = new.map(|(name, suspicion)| (name.clone(), *suspicion)).collect();
        suspects.retain(|name, _| suspicions.contains_key(name));
        suspects.extend(begun.iter().map(|(name, suspicion)| (name.clone(), (*suspicion, now))));
        let changed = ended.iter().chain(begun.iter().map(|(name, _)| name));
        News { concerned: changed.flat_map(|name| tables.concerns_of_node(name)).collect(), begun, ended }
    }
}

/// What has changed in what speaks against nodes.
pub struct News {
    pub concerned: Concerned,
    pub begun: Vec<(Box<str>, Suspicion)>,
    pub ended: Vec<Box<str>>,
}
