//! The pods of a group as candidates, in pieces that are shared with whoever keeps them as they change. Of a large group most pods are
//! alike: nothing is noted on them, and nothing speaks against them. That is known of each, and of a piece as a whole, so that what a
//! plan looks for is found without looking at every pod. It decides nothing: each answer is the same as that of a look at all (but that two
//! nodes whose names have one hash pass for one).

use std::sync::Arc;

use jiff::Timestamp;

use super::cause::{self, Standing};
use super::labels::Wanted;
use super::node::NodeState;
use super::pod::Pod;
use crate::names;

/// A pod of the group, with what is known of its ReplicaSet and node.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub(crate) pod: Arc<Pod>,
    /// The Deployment's revision that the pod belongs to; the highest is the newest.
    pub(crate) revision: u64,
    pub(crate) node: NodeState,
    glance: Glance,
}

/// What is seen of a candidate without looking at its pod or node.
#[derive(Clone, Copy, Debug)]
struct Glance {
    /// Of the keys of its labels.
    traces: u64,
    ready_since: Option<Timestamp>,
    /// Hashes of its name and of its node's. 0: it has no node.
    name: u64,
    node: u64,
    noted: bool,
    fit: bool,
    finished: bool,
}

impl Candidate {
    pub fn new(pod: Arc<Pod>, revision: u64, node: NodeState) -> Self {
        let glance = Glance {
            traces: pod.labels.traces(),
            ready_since: pod.ready_since,
            name: names::fnv1a(&pod.name),
            node: pod.node.as_deref().map_or(0, |name| names::fnv1a(name).max(1)),
            noted: is_noted(&pod),
            fit: !matches!(node, NodeState::Suspect { .. }) && cause::against(&pod, &node) == Standing::Eligible,
            finished: pod.finished,
        };
        Self { pod, revision, node, glance }
    }

    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// What it was made of.
    pub fn into_parts(self) -> (Arc<Pod>, u64, NodeState) {
        (self.pod, self.revision, self.node)
    }

    /// The value of this label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value_of(&key.into())
    }

    /// The same of a key that many are asked for.
    pub fn value_of(&self, key: &Wanted<'_>) -> Option<&str> {
        if key.may_be_among(self.glance.traces) { self.pod.labels.get(key.key) } else { None }
    }

    /// The value of its fence of this key. Who bears one is noted.
    pub fn fence(&self, key: &str) -> Option<&str> {
        if self.glance.noted { self.pod.fence(key) } else { None }
    }

    /// As [`Pod::ready_since`].
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.glance.ready_since
    }

    /// Whether nothing speaks against it, nor against its node.
    pub fn is_fit(&self) -> bool {
        self.glance.fit
    }

    pub fn is_named(&self, name: &Name<'_>) -> bool {
        self.glance.name == name.hash && *self.pod.name == *name.text
    }

    /// Whether both are on one node.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.glance.node != 0 && self.glance.node == other.glance.node
    }
}

/// Whether a pod bears anything that the operator, or somebody in its place, may have put there, or that has to be told.
fn is_noted(pod: &Pod) -> bool {
    let Pod { marked, term, set_term, member_of, claims, set, former_label, cost, odd_candidate, labels_unread, .. } = pod;
    let marks = [member_of, claims, former_label, &cost.former, odd_candidate];
    *marked || *set_term || *labels_unread || term.is_some() || !set.is_empty() || marks.into_iter().any(Option::is_some) || pod.fence_keys().next().is_some()
}

/// A pod's name that is looked for among many.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    text: &'a str,
    hash: u64,
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, hash: names::fnv1a(text) }
    }
}

/// Some candidates, and what is common to all of them.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    all: Vec<Candidate>,
    traces: u64,
    noted: bool,
    fit: usize,
    ready: usize,
    unfinished: usize,
}

impl Piece {
    pub fn new(all: Vec<Candidate>) -> Self {
        let (mut traces, mut noted) = (0, false);
        let [mut fit, mut ready, mut unfinished] = [0; 3];
        for Candidate { glance, .. } in &all {
            traces |= glance.traces;
            noted |= glance.noted;
            fit += usize::from(glance.fit);
            unfinished += usize::from(!glance.finished);
            ready += usize::from(!glance.finished && glance.ready_since.is_some());
        }
        Self { all, traces, noted, fit, ready, unfinished }
    }

    pub fn all(&self) -> &[Candidate] {
        &self.all
    }

    /// Those that bear anything.
    pub fn noted(&self) -> impl Iterator<Item = &Candidate> {
        let any = if self.noted { &self.all[..] } else { &[] };
        any.iter().filter(|it| it.glance.noted)
    }

    /// The same with other candidates.
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<Candidate>)) {
        let mut all = std::mem::take(&mut self.all);
        change(&mut all);
        *self = Self::new(all);
    }
}

/// The candidates of a group, in any order.
#[derive(Clone, Debug, Default)]
pub struct Candidates(Vec<Arc<Piece>>);

impl Candidates {
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.0.iter().flat_map(|piece| &piece.all)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.all.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|piece| piece.all.is_empty())
    }

    /// Those that carry a label of this key.
    pub fn bearing(&self, key: &str) -> impl Iterator<Item = &Candidate> {
        let key = Wanted::from(key);
        let pieces = self.0.iter().filter(move |piece| key.may_be_among(piece.traces));
        pieces.flat_map(|piece| &piece.all).filter(move |it| it.value_of(&key).is_some())
    }

    /// Those that carry this label.
    pub fn carrying(&self, key: &str, value: &str) -> impl Iterator<Item = &Candidate> {
        self.bearing(key).filter(move |it| it.label(key) == Some(value))
    }

    /// Those that bear anything which the operator, or somebody in its place, may have put there, or that has to be told.
    pub fn noted(&self) -> impl Iterator<Item = &Candidate> {
        self.0.iter().flat_map(|piece| piece.noted())
    }

    /// The same, and those that carry a label of this key.
    pub fn noted_or_bearing(&self, key: &str) -> impl Iterator<Item = &Candidate> {
        let key = Wanted::from(key);
        let pieces = self.0.iter().filter(move |piece| piece.noted || key.may_be_among(piece.traces));
        pieces.flat_map(|piece| &piece.all).filter(move |it| it.glance.noted || it.value_of(&key).is_some())
    }

    /// How many there are that nothing speaks against.
    pub fn fit(&self) -> usize {
        self.0.iter().map(|piece| piece.fit).sum()
    }

    /// The others.
    pub fn unfit(&self) -> impl Iterator<Item = &Candidate> {
        self.0.iter().filter(|piece| piece.fit < piece.all.len()).flat_map(|piece| &piece.all).filter(|it| !it.glance.fit)
    }

    /// The pod of this name.
    pub fn named(&self, name: &str) -> Option<&Candidate> {
        let name = name.into();
        self.iter().find(|it| it.is_named(&name))
    }

    /// The pod of this uid. Who is looked for has a mark, most of the time.
    pub fn with_uid(&self, uid: &str) -> Option<&Candidate> {
        self.noted().chain(self.iter()).find(|it| *it.pod.uid == *uid)
    }

    /// How many are not finished.
    pub fn unfinished(&self) -> usize {
        self.0.iter().map(|piece| piece.unfinished).sum()
    }

    /// How many of those are ready.
    pub fn ready(&self) -> usize {
        self.0.iter().map(|piece| piece.ready).sum()
    }
}

impl FromIterator<Arc<Piece>> for Candidates {
    fn from_iter<I: IntoIterator<Item = Arc<Piece>>>(pieces: I) -> Self {
        Self(pieces.into_iter().collect())
    }
}

impl FromIterator<Candidate> for Candidates {
    fn from_iter<I: IntoIterator<Item = Candidate>>(candidates: I) -> Self {
        Self(vec![Arc::new(Piece::new(candidates.into_iter().collect()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::node::Node;
    use crate::policy::pod::DeletionCost;

    fn running(number: usize) -> Pod {
        let ready_since = Some(Timestamp::UNIX_EPOCH);
        let labels = [("app", "web")].into_iter().collect();
        Pod { name: format!("web-{number}").into(), uid: format!("u{number}").into(), running: true, ready_since, labels, ..Pod::default() }
    }

    /// Pods of which one has each of what can be noted, or speaks against it.
    fn various() -> Candidates {
        let changes: [fn(&mut Pod); 17] = [
            |pod| pod.marked = true,
            |pod| pod.set_term = true,
            |pod| pod.term = Some(1),
            |pod| pod.member_of = Some("web/role".into()),
            |pod| pod.claims = Some("web/role".into()),
            |pod| pod.set = ["role".into()].into(),
            |pod| pod.former_label = Some("x".into()),
            |pod| pod.cost = DeletionCost { now: None, former: Some("1".into()) },
            |pod| pod.odd_candidate = Some("maybe".into()),
            |pod| pod.labels_unread = true,
            |pod| pod.labels = [("role", "leader")].into_iter().collect(),
            |pod| pod.labels = [("leadergroup.io/fence.web", "f.1")].into_iter().collect(),
            |pod| pod.finished = true,
            |pod| pod.ready_since = None,
            |pod| pod.terminating = true,
            |pod| pod.disrupted = true,
            |pod| pod.excluded = true,
        ];
        let nodes = [NodeState::Unknown, NodeState::Gone, NodeState::Present(Arc::new(Node { leaving: true, ..Node::default() }))];
        let odd = changes.into_iter().enumerate().map(|(number, change)| {
            let mut pod = running(number);
            change(&mut pod);
            Candidate::new(Arc::new(pod), 1, NodeState::Unknown)
        });
        let on_nodes = nodes.into_iter().enumerate().map(|(number, node)| Candidate::new(Arc::new(running(100 + number)), 1, node));
        let plain = (200..300).map(|number| Candidate::new(Arc::new(running(number)), 1, NodeState::Unknown));
        let all: Vec<_> = odd.chain(on_nodes).chain(plain).collect();
        all.chunks(7).map(|piece| Arc::new(Piece::new(piece.to_vec()))).collect()
    }

    fn names<'a>(found: impl Iterator<Item = &'a Candidate>) -> Vec<&'a str> {
        found.map(|it| &*it.pod.name).collect()
    }

    #[test]
    fn what_is_kept_of_pieces_is_what_a_look_at_every_pod_would_tell() {
        let all = various();
        assert_eq!(all.len(), 120);
        assert_eq!(all.noted().count(), 11, "all that are marked, whatever the mark");
        for key in ["role", "app", "leadergroup.io/fence.web", "missing"] {
            assert_eq!(names(all.bearing(key)), names(all.iter().filter(|it| it.pod.labels.get(key).is_some())), "{key}");
            assert!(all.iter().all(|it| it.label(key) == it.pod.labels.get(key)));
            let both = names(all.iter().filter(|it| is_noted(&it.pod) || it.pod.labels.get(key).is_some()));
            assert_eq!(names(all.noted_or_bearing(key)), both, "{key}");
        }
        assert_eq!(all.unfinished(), all.iter().filter(|it| !it.pod.finished).count());
        assert_eq!(all.ready(), all.iter().filter(|it| !it.pod.finished && it.pod.ready()).count());
        let fit = |it: &&Candidate| cause::against(&it.pod, &it.node) == Standing::Eligible;
        assert_eq!((all.fit(), all.unfit().count()), (all.iter().filter(fit).count(), all.iter().filter(|it| !fit(it)).count()));
        assert_eq!(all.named("web-250").map(|it| &*it.pod.uid), Some("u250"));
        assert_eq!(all.with_uid("u3").map(|it| &*it.pod.name), Some("web-3"));
    }
}
