//! What is known of nodes, which belong to no namespace, and which of them bear a leader. Judges none.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::{Concerned, Store, Tables};
use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::names;
use crate::policy::candidates::Candidate;
use crate::policy::observation::{Node, NodeState, Pod, Suspicion};

#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: HashMap<Box<str>, NodeState>,
    /// When more are known than this, those that are gone and that no pod names are forgotten.
    room: usize,
    /// What speaks against nodes, since when, and whether each answers again.
    suspects: HashMap<Box<str>, (Suspicion, Instant, bool)>,
    /// How often what says which nodes bear leaders has changed.
    pub(super) changes: u64,
    listed: Option<HashSet<Box<str>>>,
    /// By version: nodes that were read in part.
    pub(super) unread: HashMap<Box<str>, u64>,
}

impl Nodes {
    /// What is known of a pod's node.
    pub(super) fn of(&self, pod: &Pod) -> NodeState {
        let Some((name, state)) = pod.node.as_ref().and_then(|name| self.known.get_key_value(name)) else { return NodeState::Unknown };
        match (state, self.suspects.get(name)) {
            (NodeState::Present(node), Some((suspicion, since, answers))) => {
                NodeState::Suspect { node: node.clone(), suspicion: *suspicion, since: *since, answers: *answers }
            }
            (state, _) => state.clone(),
        }
    }
}

/// Nodes that bear leaders or their successors, and where the kubelet of each listens, if the API server says.
pub type Bearers = BTreeMap<Box<str>, Option<SocketAddr>>;

/// So many are known before any is forgotten: that one is gone may be known before a pod that names it.
const ROOM: usize = 1024;

/// So many nodes of one group are watched: its leader's, its successor's, and that of one which is just taken leave of.
const OF_A_GROUP: usize = 3;

impl Tables {
    /// The pods that bear the fence of the group whose Deployment they are of, its leader first, and no more than a group needs: anybody
    /// may give any pod such a label.
    fn bearing(&self) -> impl Iterator<Item = Arc<Pod>> {
        self.groups.objects.iter().flat_map(|(key, group)| {
            let group = &group.outline;
            let (place, fence_key) = (key.sibling(&group.deployment), names::fence_key(&group.deployment));
            let deployment = self.deployments.get(&place);
            // Whose pods they are looks after them.
            let deployment = deployment.filter(|_| self.rival(key, &place).is_none());
            let pieces = deployment.map(|deployment| self.roster(key, &deployment, |pod| pod.may_mention(&Finder::new(&fence_key)))).unwrap_or_default();
            let candidates = pieces.iter().flat_map(|piece| piece.noted());
            let mut own: Vec<_> = candidates.filter(|it| it.fence(&fence_key).is_some()).map(Candidate::pod).cloned().collect();
            own.sort_by_cached_key(|pod| (pod.labels.get(&group.label_key) != Some(&group.label_value), pod.name.clone()));
            own.into_iter().take(OF_A_GROUP)
        })
    }

    /// What is known of a node has changed. Returns whom that concerns.
    fn node_changed(&mut self, name: &str) -> Concerned {
        let text = Finder::new(name);
        let mentioning = self.pods.objects.iter().filter(|(_, pod)| pod.may_mention(&text)).map(|(key, pod)| (key, pod.get()));
        let on_node: Vec<_> = mentioning.filter(|(_, pod)| pod.node.as_deref() == Some(name)).map(|(key, pod)| (key.clone(), pod)).collect();
        for (key, pod) in &on_node {
            pod.replica_set.iter().for_each(|replica_set| self.enroll(key, replica_set));
        }
        on_node.iter().flat_map(|(key, pod)| self.concerns_of_pod(key, pod)).collect()
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

    /// Nodes may not be read any more: of those that were there nothing is known. What is gone by the next list is gone.
    pub fn forget_nodes(&self) -> Concerned {
        let tables = &mut *self.lock();
        let there: Vec<Box<str>> =
            tables.nodes.known.iter().filter(|(_, state)| matches!(state, NodeState::Present(_))).map(|(name, _)| name.clone()).collect();
        tables.nodes.unread.clear();
        tables.nodes.changes += u64::from(!there.is_empty());
        for name in &there {
            tables.nodes.known.insert(name.clone(), NodeState::Unknown);
        }
        there.iter().flat_map(|name| tables.node_changed(name)).collect()
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
        if nodes.known.len() > nodes.room.max(ROOM) {
            let named: HashSet<Box<str>> = tables.pods.objects.values().filter_map(|pod| pod.get().node.clone()).collect();
            nodes.known.retain(|known, state| !matches!(state, NodeState::Gone) || **known == *name || named.contains(known));
            nodes.room = nodes.known.len() * 2;
        }
        if same {
            return Concerned::new();
        }
        nodes.changes += 1;
        tables.node_changed(name)
    }

    /// The nodes that bear leaders and their successors, and where their kubelets listen, if anything of that may have changed since
    /// `known`; with the number to ask with next.
    pub fn bearers(&self, known: u64) -> Option<(u64, Bearers)> {
        let tables = &*self.lock();
        let changes = tables.nodes.changes;
        let there = |name: &str| if let NodeState::Present(node) = tables.nodes.known.get(name)? { Some(node.kubelet) } else { None };
        let nodes = || tables.bearing().filter_map(|pod| pod.node.clone()).filter_map(|name| there(&name).map(|kubelet| (name, kubelet))).collect();
        (changes != known).then(|| (changes, nodes()))
    }

    /// Whether a node is there, as far as the API server says, and where its kubelet listens.
    pub fn node_there(&self, name: &str) -> Option<Option<SocketAddr>> {
        if let Some(NodeState::Present(node)) = self.lock().nodes.known.get(name) { Some(node.kubelet) } else { None }
    }

    /// The names of some nodes that are there, as Kubernetes says, and are none of these.
    pub fn some_nodes_but(&self, these: &BTreeSet<Box<str>>, most: usize) -> Vec<Box<str>> {
        let tables = self.lock();
        let is_there = |state: &NodeState| matches!(state, NodeState::Present(node) if !node.unreachable);
        let there = tables.nodes.known.iter().filter(|(name, state)| is_there(state) && !these.contains(*name));
        there.map(|(name, _)| name.clone()).take(most).collect()
    }

    /// Takes in what speaks against nodes now.
    pub fn suspect(&self, suspicions: &BTreeMap<Box<str>, (Suspicion, bool)>, now: Instant) -> News {
        let tables = &mut *self.lock();
        let suspects = &mut tables.nodes.suspects;
        let over = suspects.iter().filter(|(name, _)| !suspicions.contains_key(*name));
        let ended: Vec<_> = over.map(|(name, (suspicion, ..))| (name.clone(), *suspicion)).collect();
        let (mut begun, mut changed) = (Vec::new(), Vec::new());
        for (name, (suspicion, answers)) in suspicions {
            let former = suspects.get(name).copied().filter(|(former, ..)| former == suspicion);
            if former.is_none() {
                begun.push((name.clone(), *suspicion));
            }
            if former.is_none_or(|(_, _, answered)| answered != *answers) {
                changed.push(name.clone());
                // One that falls silent anew is waited for anew.
                let since = former.filter(|_| *answers).map_or(now, |(_, since, _)| since);
                suspects.insert(name.clone(), (*suspicion, since, *answers));
            }
        }
        suspects.retain(|name, _| suspicions.contains_key(name));
        let changed = ended.iter().map(|(name, _)| name).chain(&changed);
        News { concerned: changed.flat_map(|name| tables.node_changed(name)).collect(), begun, ended }
    }
}

/// What has changed in what speaks against nodes.
pub struct News {
    pub concerned: Concerned,
    pub begun: Vec<(Box<str>, Suspicion)>,
    pub ended: Vec<(Box<str>, Suspicion)>,
}
