//! One group's objects as the API server holds them, the operator's replicas as they see them, and what may happen to both.
//! Everything is drawn from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Moment;
use leadergroup::policy;
use leadergroup::policy::memory::Memory;
use leadergroup::policy::observation::{Candidate, Controller, Deployment, Labels, Lease, Lock, NodeState, Observation, Pod};
use leadergroup::policy::write::{PodWrite, Record, Write};
use serde_json::json;

use super::random::Random;

/// One group's objects: as the API server holds them, or as a replica of the operator last saw them.
#[derive(Clone)]
pub(super) struct View {
    pub(super) group: LeaderGroup,
    pods: BTreeMap<String, Pod>,
    labels: BTreeMap<String, Option<String>>,
    lease: Option<Lease>,
}

/// A process of the operator.
pub(super) struct Replica {
    pub(super) view: View,
    pub(super) memory: Memory,
    /// When it last began to prove that it leads.
    proven: Moment,
    /// Decided on and not sent yet.
    stage: Vec<(Arc<Observation>, Write)>,
}

impl Replica {
    /// It has read what there is now, as its watches tell it.
    fn refresh_pods(&mut self, now: &View, moment: Moment) {
        let former = std::mem::replace(&mut self.view.pods, now.pods.clone());
        for (name, pod) in &mut self.view.pods {
            let same = |former: &&Pod| former.uid == pod.uid && former.fence == pod.fence && self.view.labels[name] == now.labels[name];
            pod.read = former.get(name).filter(same).map_or(moment, |former| former.read);
        }
        self.view.labels.clone_from(&now.labels);
    }

    fn refresh_lease(&mut self, now: &View, moment: Moment) {
        let former = self.view.lease.take();
        self.view.lease.clone_from(&now.lease);
        if let Some(lease) = &mut self.view.lease {
            lease.read = former.filter(|former| former.resource_version == lease.resource_version).map_or(moment, |former| former.read);
        }
    }

    fn refresh(&mut self, now: &View, moment: Moment) {
        self.refresh_pods(now, moment);
        self.refresh_lease(now, moment);
        self.view.group.clone_from(&now.group);
    }
}

/// What the API server holds, and the operator's replicas.
pub(super) struct World {
    random: Random,
    pub(super) now: Timestamp,
    tick: u64,
    version: u64,
    created: u64,
    truth: View,
    pub(super) replicas: Vec<Replica>,
    /// The one that the operator's own Lease names. The others may not know it yet.
    leading: usize,
    /// Sent, not answered: they may arrive at any time, or never.
    in_flight: Vec<Write>,
    highest_term: i64,
    pub(super) trace: Vec<String>,
    pub(super) check_terms: bool,
    /// Rules of the planner that a test may take away.
    pub(super) seals: bool,
    pub(super) proves: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let group = serde_json::from_value(json!({
            "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup",
            "metadata": { "name": "web", "namespace": "test", "uid": "group", "generation": 1, "resourceVersion": "1" },
            "spec": { "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": if seed.is_multiple_of(3) { "follower" } else { "" } } },
        }));
        let mut world = Self {
            random: Random(seed),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            tick: 0,
            version: 10,
            created: 0,
            truth: View { group: group.unwrap(), pods: BTreeMap::new(), labels: BTreeMap::new(), lease: None },
            replicas: Vec::new(),
            leading: 0,
            in_flight: Vec::new(),
            highest_term: 0,
            trace: Vec::new(),
            check_terms: true,
            seals: true,
            proves: true,
        };
        (0..3).for_each(|_| world.create_pod());
        world.take_over();
        world
    }

    fn moment(&mut self) -> Moment {
        self.tick += 1;
        Moment(Duration::from_nanos(self.tick))
    }

    /// Another process leads the replicas from now on. It has been filling its caches, and knows nothing of its
    /// predecessor's memory.
    fn take_over(&mut self) {
        let moment = self.moment();
        let mut replica = Replica { view: self.truth.clone(), memory: Memory::default(), proven: Moment::default(), stage: Vec::new() };
        for pod in replica.view.pods.values_mut() {
            pod.read = moment;
        }
        if let Some(lease) = &mut replica.view.lease {
            lease.read = moment;
        }
        replica.proven = self.moment();
        self.replicas.push(replica);
        self.leading = self.replicas.len() - 1;
        self.trace.push(format!("replica {} leads", self.leading));
    }

    /// The process that leads ends and another takes its place.
    fn restart(&mut self) {
        self.replicas[self.leading].stage.clear();
        self.take_over();
        self.replicas.swap_remove(self.leading - 1);
        self.leading = self.replicas.len() - 1;
    }

    pub(super) fn observe(&self, replica: usize) -> Observation {
        let Replica { view, proven, .. } = &self.replicas[replica];
        let candidates = view.pods.values().map(|pod| Candidate {
            pod: Arc::new(Pod { labels: labels_of(view, &pod.name), ..pod.clone() }),
            revision: u64::try_from(pod.name.len()).unwrap() % 3,
            node: NodeState::Unknown,
        });
        let deployment =
            Deployment { name: "web".into(), uid: "deployment".into(), selector: "app=web".into(), selector_keys: vec!["app".into()], ..Deployment::default() };
        Observation {
            now: self.now,
            namespace: "test".into(),
            name: "web".into(),
            group: Some(Arc::new(view.group.clone())),
            rival: None,
            deployment: Some(Arc::new(deployment)),
            candidates: candidates.collect(),
            strays: Vec::new(),
            lease: view.lease.clone().map(Arc::new),
            proven: self.proves.then_some(*proven),
            moment: Moment::default(),
            lock: Lock::NotFollowed,
        }
    }

    /// Performs a write as the API server would. `false`: its precondition does not hold.
    fn arrive(&mut self, write: &Write) -> bool {
        self.version += 1;
        let truth = &mut self.truth;
        match write {
            Write::Pod(write) => {
                let Some(pod) = truth.pods.get_mut(&*write.name) else { return false };
                let PodWrite { uid, observed, desired, key, .. } = write;
                assert_eq!(key, "role");
                let label = truth.labels.get_mut(&*write.name).unwrap();
                let label_tested = observed.label.is_some() || desired.label.is_some();
                if pod.uid != *uid || (label_tested && *label != observed.label) || pod.fence != observed.fence {
                    return false;
                }
                assert!(desired.fence > pod.fence, "a write that does not raise the fence seals nothing");
                label.clone_from(&desired.label);
                pod.term = desired.term;
                pod.fence = desired.fence;
                pod.member_of = desired.member_of.as_deref().map(Into::into);
                pod.cost = desired.cost.clone();
                pod.has_annotations = true;
                true
            }
            Write::CreateLease { record, .. } => {
                if truth.lease.is_some() {
                    return false;
                }
                truth.lease = Some(lease(record, self.version));
                true
            }
            Write::UpdateLease { resource_version, record, .. } => {
                if truth.lease.as_ref().is_none_or(|lease| lease.resource_version != *resource_version) {
                    return false;
                }
                truth.lease = Some(lease(record, self.version));
                true
            }
            Write::Status(status) => {
                truth.group.status = Some((**status).clone());
                true
            }
            Write::ListPods | Write::Prove => true,
            Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } => unreachable!("the Deployment is referred to"),
        }
    }

    /// One step of a replica: the next write of its stage, with answers lost as often as `lossy` says, or the next stage.
    fn operate(&mut self, replica: usize, lossy: usize) {
        if let Some((observation, write)) = self.replicas[replica].stage.pop() {
            self.send(replica, &observation, &write, lossy);
            self.check();
            if replica == self.leading && self.random.chance(lossy / 4) {
                self.restart();
            }
            return;
        }
        if !self.seals {
            // An operator that takes nothing for undelivered.
            self.replicas[replica].memory.unfenced = Some(BTreeSet::new());
        }
        let observation = Arc::new(self.observe(replica));
        let writes = policy::plan(&observation, &self.replicas[replica].memory).writes;
        let Replica { memory, stage, .. } = &mut self.replicas[replica];
        for write in &writes {
            memory.sending(write);
        }
        stage.extend(writes.into_iter().map(|write| (observation.clone(), write)));
        for end in (1..self.replicas[replica].stage.len()).rev() {
            let other = self.random.below(end + 1);
            self.replicas[replica].stage.swap(end, other);
        }
    }

    fn send(&mut self, replica: usize, observation: &Observation, write: &Write, lossy: usize) {
        self.trace.push(format!("{replica}: {write:?}"));
        let began = self.moment();
        if self.random.chance(lossy) {
            // No answer. It may be performed now, later or never, and the operator knows only that it does not know.
            if self.random.chance(40) {
                self.arrive(write);
            } else {
                self.in_flight.push(write.clone());
            }
            self.replicas[replica].memory.lost(write);
            return;
        }
        let done = self.arrive(write);
        let leads = replica == self.leading;
        let answered = self.moment();
        let Self { replicas, truth, .. } = self;
        let replica = &mut replicas[replica];
        match write {
            Write::Prove => {
                if leads {
                    replica.proven = began;
                }
                return;
            }
            Write::ListPods => {
                replica.refresh_pods(truth, answered);
                replica.memory.done(observation, write);
                replica.memory.listed(truth.pods.values().map(|pod| pod.uid.clone()).collect());
            }
            // Done or not, the answer tells what the object is now.
            Write::Pod(PodWrite { name, .. }) => match truth.pods.get(&**name) {
                Some(pod) if replica.view.pods.contains_key(&**name) => {
                    replica.view.pods.insert(name.to_string(), Pod { read: answered, ..pod.clone() });
                    replica.view.labels.insert(name.to_string(), truth.labels[&**name].clone());
                }
                _ => {
                    replica.view.pods.remove(&**name);
                    replica.view.labels.remove(&**name);
                }
            },
            Write::CreateLease { .. } | Write::UpdateLease { .. } => replica.refresh_lease(truth, answered),
            Write::Status(_) => replica.view.group.clone_from(&truth.group),
            Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } => {}
        }
        if done {
            replica.memory.done(observation, write);
        }
    }

    /// Its watches bring a replica up to date, or part of it.
    fn hear(&mut self, replica: usize) {
        let moment = self.moment();
        let Self { replicas, truth, random, .. } = self;
        if random.chance(70) {
            replicas[replica].refresh_pods(truth, moment);
        }
        if random.chance(70) {
            replicas[replica].refresh_lease(truth, moment);
            replicas[replica].view.group.clone_from(&truth.group);
        }
    }

    /// The leading replica works undisturbed until it has nothing to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            let moment = self.moment();
            let leading = self.leading;
            self.replicas[leading].refresh(&self.truth, moment);
            self.operate(leading, 0);
            if self.replicas[leading].stage.is_empty() && policy::plan(&self.observe(leading), &self.replicas[leading].memory).writes.is_empty() {
                return;
            }
            while !self.replicas[leading].stage.is_empty() {
                self.operate(leading, 0);
            }
        }
        panic!("the plan does not become empty");
    }

    /// Something happens in the cluster.
    fn happen(&mut self) {
        let names: Vec<_> = self.truth.pods.keys().cloned().collect();
        let pick = names.get(self.random.below(names.len().max(1))).cloned();
        match (self.random.below(12), pick) {
            (0..=2, _) if self.truth.pods.len() < 5 => self.create_pod(),
            (3, Some(name)) => {
                self.trace.push(format!("{name} is gone"));
                self.truth.pods.remove(&name);
                self.truth.labels.remove(&name);
            }
            (4, Some(name)) => {
                // Another pod under the same name: what was meant for the first must not reach it.
                self.trace.push(format!("{name} is made anew"));
                self.truth.pods.remove(&name);
                self.insert_pod(name);
            }
            (5..=8, Some(name)) => {
                let since = self.truth.pods[&name].ready_since.is_none().then_some(self.now);
                self.trace.push(format!("{name} ready: {}", since.is_some()));
                self.truth.pods.get_mut(&name).unwrap().ready_since = since;
            }
            (9, Some(name)) => {
                self.trace.push(format!("{name} is being deleted"));
                self.truth.pods.get_mut(&name).unwrap().terminating = true;
            }
            // Its term is lost with it where nothing but the Lease and this process knew it, and the process restarts too.
            (10, _) if self.random.chance(20) && self.reported() => {
                self.trace.push("the Lease is deleted".into());
                self.truth.lease = None;
            }
            _ => {
                if !self.in_flight.is_empty() {
                    let late = self.random.below(self.in_flight.len());
                    let write = self.in_flight.swap_remove(late);
                    self.trace.push(format!("late: {write:?}"));
                    self.arrive(&write);
                }
            }
        }
        self.now = self.now.checked_add(SignedDuration::from_millis(700)).unwrap();
        self.check();
    }

    /// What happens with one process at a time, whose watches keep up.
    pub(super) fn step_of_one(&mut self) {
        if self.random.chance(60) {
            self.happen();
            return;
        }
        let leading = self.leading;
        if self.replicas[leading].stage.is_empty() {
            let moment = self.moment();
            self.replicas[leading].refresh(&self.truth, moment);
        }
        self.operate(leading, 20);
        while self.leading == leading && !self.replicas[leading].stage.is_empty() {
            self.operate(leading, 20);
        }
    }

    /// What happens with several: those that lead no more go on until they notice, with watches that lag.
    pub(super) fn step_of_several(&mut self) {
        match self.random.below(100) {
            0..30 => self.happen(),
            30..33 => {
                self.take_over();
                if self.replicas.len() > 3 {
                    // The oldest has noticed.
                    self.replicas.remove(0);
                    self.leading -= 1;
                }
            }
            33..60 => {
                let replica = self.random.below(self.replicas.len());
                self.hear(replica);
            }
            _ => {
                let replica = self.random.below(self.replicas.len());
                self.operate(replica, 10);
            }
        }
    }

    fn create_pod(&mut self) {
        self.created += 1;
        let name = format!("web-{}{}", self.created, "x".repeat(self.random.below(3)));
        self.trace.push(format!("{name} is made"));
        self.insert_pod(name);
    }

    fn insert_pod(&mut self, name: String) {
        self.created += 1;
        let ready_since = self.random.chance(60).then_some(self.now);
        let pod = Pod { name: name.as_str().into(), uid: format!("uid-{}", self.created).into(), running: true, ready_since, ..Pod::default() };
        self.truth.pods.insert(name.clone(), pod);
        self.truth.labels.insert(name, None);
    }

    /// Whether the status bears witness to the Lease's term.
    fn reported(&self) -> bool {
        let reported = self.truth.group.status.as_ref().map_or(0, |status| status.term);
        self.truth.lease.as_ref().is_none_or(|lease| lease.term.is_none_or(|term| term <= reported))
    }

    fn leaders(&self) -> Vec<&str> {
        self.truth.labels.iter().filter(|(_, label)| label.as_deref() == Some("leader")).map(|(name, _)| name.as_str()).collect()
    }

    fn check(&mut self) {
        let leaders = self.leaders();
        assert!(leaders.len() <= 1, "{leaders:?} carry the label at once");
        if let Some(term) = leaders.first().and_then(|name| self.truth.pods[*name].term) {
            assert!(!self.check_terms || term >= self.highest_term, "term {term} after {}", self.highest_term);
            self.highest_term = term;
        }
    }

    /// Quiet from here on, except for what is still on its way: the group settles and stays so.
    pub(super) fn come_to_rest(&mut self) {
        self.now = self.now.checked_add(SignedDuration::from_secs(2)).unwrap();
        // What the others decided on in time may still be sent.
        for replica in 0..self.replicas.len() {
            while replica != self.leading && !self.replicas[replica].stage.is_empty() {
                self.operate(replica, 0);
            }
        }
        self.settle();
        for write in std::mem::take(&mut self.in_flight) {
            self.trace.push(format!("late: {write:?}"));
            self.arrive(&write);
            self.check();
            // A late write may have given a follower a label, or the Lease another holder: put right, and calm again.
            self.settle();
        }
        let eligible: BTreeSet<_> = self.truth.pods.values().filter(|pod| pod.ready() && !pod.terminating).map(|pod| &*pod.name).collect();
        if let Some(leader) = self.leaders().first() {
            assert!(eligible.is_empty() || eligible.contains(leader), "{leader} leads, {eligible:?} could");
            let recorded = self.truth.lease.as_ref().unwrap();
            assert_eq!(*recorded.holder, **leader);
            assert_eq!(recorded.term, self.truth.pods[*leader].term);
        } else {
            assert!(eligible.is_empty(), "nobody leads, {eligible:?} could");
        }
    }
}

fn labels_of(view: &View, pod: &str) -> Labels {
    let role = view.labels.get(pod).and_then(Clone::clone).map(|value| ("role".to_owned(), value));
    [("app".to_owned(), "web".to_owned())].into_iter().chain(role).collect()
}

fn lease(record: &Record, version: u64) -> Lease {
    Lease {
        name: "web".into(),
        uid: "lease".into(),
        resource_version: version,
        read: Moment::default(),
        changed: Moment::default(),
        controller: Some(Controller { uid: "group".into(), group: None }),
        holder: record.holder.clone(),
        holder_uid: record.holder_uid.clone(),
        term: Some(record.term),
        reserved_term: Some(record.reserved_term),
        transitions: record.transitions,
        duration_seconds: Some(record.duration_seconds),
        acquire_time: record.acquire_time,
        renew_time: record.renew_time,
        reason: record.reason.clone(),
        previous_holder: record.previous_holder.clone(),
    }
}
