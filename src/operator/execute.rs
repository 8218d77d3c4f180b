//! Performs writes, one arm per kind, each with its precondition and its own deadline. No decisions.
//!
//! A write ends in one of the ways that the planner's safety depends on (`answer`). The client retries nothing by itself: a
//! hidden retry would arrive after its decision was forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::answer::{DEADLINE, Failure, GROUP, Subject, ask, ask_to_write};
use super::gate::{Gate, Urgency};
use super::pod_patch;
use super::slim::{Kind, Slim};
use super::store::{Key, Source, Store, Table};
use super::template::{self, Templates};
use super::wire;
use crate::api::v1alpha1::Mode;
use crate::api::{LeaderGroup, LeaderGroupStatus};
use crate::elector::Tenure;
use crate::metrics::{Metrics, WriteLabels};
use crate::names;
use crate::policy::objects;
use crate::policy::observation::{Deployment, Lease, Observation, Pod};
use crate::policy::progress::PutBack;
use crate::policy::write::{Done, PodPurpose, PodWrite, Record, Write};

/// A word for metrics.
pub(super) fn kind_of(write: &Write) -> &'static str {
    match write {
        Write::ListFenced => "list_fenced",
        Write::Prove { .. } => "prove",
        Write::ReadLock => "read_lock",
        Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } => "deployment",
        Write::CreateLease { .. } | Write::UpdateLease { .. } => "lease",
        Write::Pod(write) => write.purpose.as_str(),
        Write::Status { .. } => "status",
    }
}

/// What a write takes turns with: an admission webhook is slow for one kind of object.
pub(super) fn lane_of(write: &Write) -> &'static str {
    match write {
        Write::ListFenced | Write::Prove { .. } | Write::ReadLock => "reads",
        Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } => "deployments",
        Write::CreateLease { .. } | Write::UpdateLease { .. } => "leases",
        Write::Pod(_) => "pods",
        Write::Status { .. } => "leadergroups",
    }
}

pub(super) fn count(metrics: &Metrics, write: &'static str, result: &Result<Done, Failure>) {
    let outcome = result.as_ref().map_or_else(Failure::as_str, |_| "done");
    metrics.writes.get_or_create(&WriteLabels { write, outcome }).inc();
}

/// Pods of one page of a list that has to be read at once, and how many pages are: what tenants may write on a pod takes much room until
/// it was read.
const PAGE_SIZE: u32 = 20;
const PAGES: usize = 8;
/// So many pods of a list whose fence is not among what was kept of them are read once more.
const HIDDEN: usize = 16;

/// Performs the writes of one group.
#[derive(Clone)]
pub(super) struct Executor {
    /// Its answers are thinned.
    pub(super) client: Client,
    /// Its answers are not.
    pub(super) whole: Client,
    store: Arc<Store>,
    /// This process' leadership of the operator's replicas, if there are others.
    pub(super) tenure: Option<Tenure>,
    templates: Templates,
    pages: Arc<Gate>,
    uncovers: Arc<Semaphore>,
}

impl Executor {
    pub(super) fn new(client: Client, store: Arc<Store>, tenure: Option<Tenure>) -> Self {
        Self {
            client: wire::thinned(&client),
            whole: client.clone(),
            templates: Templates::new(client),
            pages: Arc::new(Gate::yielding(PAGES)),
            uncovers: Arc::new(Semaphore::new(1)),
            store,
            tenure,
        }
    }

    pub(super) async fn perform(&self, observation: &Observation, write: &Write) -> Result<Done, Failure> {
        let namespace = &observation.namespace;
        match write {
            Write::ListFenced => self.list_fenced(observation).await,
            Write::Prove { version, ahead: true } => self.prove_record(observation, *version).await.map(|()| Done::Written),
            Write::Prove { version, ahead: false } => self.prove(observation, *version).await,
            Write::ReadLock => self.read_lock(observation).await,
            Write::ApplyDeployment { name, uid } => self.apply_deployment(observation, name, uid.as_deref()).await,
            Write::HoldReplicas { name, uid, resource_version, replicas } => {
                let body = json!({
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": { "name": name, "uid": uid, "resourceVersion": resource_version.to_string() },
                    "spec": { "replicas": replicas },
                });
                self.apply(namespace, name, &PatchParams::apply(names::FIELD_MANAGER_REPLICAS).force(), &body).await.map(|_| Done::Written)
            }
            Write::CreateLease { name, record, gives: _ } => self.create_lease(observation, name, record).await,
            Write::UpdateLease { name, resource_version, record, .. } => self.update_lease(observation, name, *resource_version, record).await,
            Write::Pod(write) => {
                if write.purpose == PodPurpose::Forget && observation.group.is_none() && observation.operator.selector.is_some() {
                    self.is_gone(observation).await?;
                }
                self.patch_pod(namespace, write).await
            }
            Write::Status { status, names } => self.patch_status(observation, status, names.as_ref().is_some_and(|named| named.pod.is_some())).await,
        }
    }

    /// Whether this process leads the operator's replicas and the record is as it left it.
    async fn prove(&self, observation: &Observation, version: u64) -> Result<Done, Failure> {
        tokio::try_join!(self.prove_leadership(), self.prove_record(observation, version)).map(|_| Done::Written)
    }

    async fn prove_leadership(&self) -> Result<(), Failure> {
        let Some(tenure) = &self.tenure else { return Ok(()) };
        match tokio::time::timeout(DEADLINE, tenure.confirm()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Changed),
            Err(_) => Err(Failure::Unknown(format!("leadership not renewed within {} s", DEADLINE.as_secs()))),
        }
    }

    async fn prove_record(&self, observation: &Observation, version: u64) -> Result<(), Failure> {
        let Some(group) = &observation.group else { return Err(Failure::Changed) };
        let now = if group.spec.election.mode == Mode::Holder {
            let group = self.get_group(observation).await?;
            group.version()
        } else {
            let api: Api<Slim<Lease>> = Api::namespaced(self.client.clone(), &observation.namespace);
            let name = group.lease_name();
            let key = Key::new(&observation.namespace, name);
            let (lease, alive) = tokio::join!(ask(Subject::of::<Lease>(name), api.get(name)), self.get_group(observation));
            alive?;
            match lease {
                Ok(lease) => {
                    let lease = known(lease)?;
                    let version = lease.resource_version;
                    Lease::read_anew(&self.store, key, lease);
                    version
                }
                Err(failure) => return Err(self.look_again::<Lease>(&api, key, uid_of_lease(observation), failure).await),
            }
        };
        if now == version { Ok(()) } else { Err(Failure::Changed) }
    }

    /// The group as it is now, which its watch may not show yet. Fails where another has its name.
    async fn get_group(&self, observation: &Observation) -> Result<Arc<LeaderGroup>, Failure> {
        let api: Api<Slim<LeaderGroup>> = Api::namespaced(self.client.clone(), &observation.namespace);
        match ask(GROUP.named(&observation.name), api.get(&observation.name)).await {
            Ok(group) => {
                let group = known(group)?;
                LeaderGroup::answered(&self.store, Key::new(&observation.namespace, &observation.name), group.clone());
                let same = observation.group.as_ref().is_some_and(|observed| observed.metadata.uid == group.metadata.uid);
                if same { Ok(group) } else { Err(Failure::GroupGone) }
            }
            Err(Failure::Gone) => Err(Failure::GroupGone),
            Err(failure) => Err(failure),
        }
    }

    /// Fails where the group is there by the API server's newest word: where several installations share the groups another may have marked
    /// pods for one that this process has not heard of yet.
    async fn is_gone(&self, observation: &Observation) -> Result<(), Failure> {
        if observation.name.is_empty() {
            return Ok(());
        }
        match self.group_now(observation).await {
            Ok(_) => Err(Failure::Changed),
            Err(Failure::Gone) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Fails where the group is not alive by the API server's newest word, as Kubernetes' own controllers ask before they
    /// adopt: its watch may be later than that of an object which is being orphaned, and what is given a dead owner is
    /// collected with it.
    async fn may_adopt(&self, observation: &Observation) -> Result<(), Failure> {
        let uid = observation.group.as_ref().and_then(|group| group.metadata.uid.as_ref());
        match self.group_now(observation).await {
            Ok(group) if uid.is_some_and(|uid| group.uid() == uid) && !group.terminating() => Ok(()),
            Ok(_) | Err(Failure::Gone) => Err(Failure::GroupGone),
            Err(failure) => Err(failure),
        }
    }

    /// The group by the API server's newest word.
    async fn group_now(&self, observation: &Observation) -> Result<Slim<LeaderGroup>, Failure> {
        let request = template::groups(&observation.namespace).get(&observation.name, &GetParams::default());
        ask(GROUP.named(&observation.name), self.metadata(request)).await
    }

    /// Asks for no more of a group than its metadata: its template may be large.
    async fn metadata(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Slim<LeaderGroup>, kube::Error> {
        let mut request = request.map_err(kube::Error::BuildRequest)?;
        request.headers_mut().insert(http::header::ACCEPT, wire::METADATA_ONLY);
        self.client.request(request).await
    }

    async fn apply_deployment(&self, observation: &Observation, name: &str, uid: Option<&str>) -> Result<Done, Failure> {
        let Some(group) = &observation.group else { return Err(Failure::Changed) };
        let template = self.templates.read(observation, group).await?;
        let mut parameters = PatchParams::apply(names::FIELD_MANAGER);
        // What exists already and is not known to be ours is not taken over.
        if uid.is_some() {
            parameters = parameters.force();
        }
        let body = objects::deployment(group, template.wanted(observation, group)?, uid);
        let path = Slim::<Deployment>::url_path(&(), Some(&observation.namespace));
        let request = Request::new(path).patch(name, &parameters, &Patch::Apply(body)).map_err(Failure::impossible)?;
        // The answer is thinned, and no longer than what is kept of a Deployment.
        let answer = wire::whole(&self.client, template.send(request), usize::MAX);
        let answer = ask_to_write(Subject::of::<Deployment>(name), answer).await?.unwrap_or_default();
        let applied: Slim<Deployment> = serde_json::from_slice(&answer).map_err(|error| Failure::Unknown(error.to_string()))?;
        self.applied(&observation.namespace, name, applied)
    }

    /// Without a resourceVersion a list is no older than the request, nor are its further pages.
    async fn list_fenced(&self, observation: &Observation) -> Result<Done, Failure> {
        let Some(group) = &observation.group else { return Err(Failure::Changed) };
        let fenced = self.list(&observation.namespace, &observation.fence_key, Some(&observation.fence_key));
        // One that a user has taken the fence from carries the label all the same.
        let label = &group.spec.leader_label;
        let deployment = observation.deployment.as_ref().filter(|deployment| !deployment.selector.is_empty());
        let selector = deployment.map(|deployment| format!("{}={},{}", label.key, label.value, deployment.selector));
        let labelled = async {
            match selector {
                Some(selector) => self.list(&observation.namespace, &selector, None).await.map(drop),
                None => Ok(()),
            }
        };
        let (fenced, (), _) = tokio::try_join!(fenced, labelled, self.get_group(observation))?;
        Ok(Done::Listed(fenced))
    }

    /// Takes in all pods that this selects, page by page, and gives their uids. `fence`: the key of a label that each of them has.
    async fn list(&self, namespace: &Arc<str>, selector: &str, fence: Option<&str>) -> Result<BTreeSet<Box<str>>, Failure> {
        let api: Api<Slim<Pod>> = Api::namespaced(self.client.clone(), namespace);
        let mut parameters = ListParams::default().labels(selector).limit(PAGE_SIZE);
        let (mut uids, mut hidden) = (BTreeSet::new(), 0);
        loop {
            let page = async {
                let room = self.pages.enter(namespace, Urgency::Finishes).await;
                api.list(&parameters).await.map(|page| (page, room))
            };
            let (page, room) = ask(Subject::of::<Pod>(""), page).await?;
            for pod in page.items {
                uids.insert(pod.uid().into());
                let key = Key::new(pod.namespace(), pod.name());
                let mut pod = known(pod)?;
                if let Some(fence) = fence.filter(|fence| pod.fence(fence).is_none() && hidden < HIDDEN) {
                    hidden += 1;
                    self.uncover(&mut pod, namespace, fence).await?;
                }
                Pod::apply(&self.store, key, pod, Source::Answer);
            }
            drop(room);
            match page.metadata.continue_.filter(|more| !more.is_empty()) {
                Some(more) => parameters = parameters.continue_token(&more),
                None => return Ok(uids),
            }
        }
    }

    /// A fence that many others have pushed out of what is kept of a pod.
    async fn uncover(&self, pod: &mut Arc<Pod>, namespace: &str, fence: &str) -> Result<(), Failure> {
        // One after the other: each may have as many as can be stored. The semaphore is never closed.
        let _room = self.uncovers.acquire().await;
        let object = match wire::labels::<Pod>(&self.client, namespace, &pod.name).await {
            Ok(object) => object,
            Err(Failure::Gone) => return Ok(()),
            Err(failure) => return Err(failure),
        };
        if let Some(value) = object.labels.get(fence).filter(|_| *object.uid == *pod.uid) {
            let pod = Arc::make_mut(pod);
            pod.labels = std::iter::once((fence, value.as_str())).chain(pod.labels.lines().filter_map(|line| line.split_once('='))).collect();
        }
        Ok(())
    }

    async fn apply(&self, namespace: &Arc<str>, name: &str, parameters: &PatchParams, body: &(impl Serialize + std::fmt::Debug)) -> Result<Done, Failure> {
        let api: Api<Slim<Deployment>> = Api::namespaced(self.client.clone(), namespace);
        self.applied(namespace, name, ask_to_write(Subject::of::<Deployment>(name), api.patch(name, parameters, &Patch::Apply(body))).await?)
    }

    fn applied(&self, namespace: &Arc<str>, name: &str, applied: Slim<Deployment>) -> Result<Done, Failure> {
        let applied = known(applied)?;
        let done = Done::Applied { uid: applied.uid.clone(), generation: applied.generation };
        Deployment::answered(&self.store, Key::new(namespace, name), applied);
        Ok(done)
    }

    async fn create_lease(&self, observation: &Observation, name: &str, record: &Record) -> Result<Done, Failure> {
        let Some(group) = &observation.group else { return Err(Failure::Changed) };
        let mut lease = lease_body(observation, record, true);
        lease["apiVersion"] = json!("coordination.k8s.io/v1");
        lease["kind"] = json!("Lease");
        lease["metadata"]["name"] = json!(name);
        if let Some(annotations) = lease["metadata"]["annotations"].as_object_mut() {
            // In a patch null takes an annotation away; in a new object it would be an empty one.
            annotations.retain(|_, value| !value.is_null());
        }
        lease["metadata"]["ownerReferences"] = json!([objects::owner_reference(group)]);
        let path = Slim::<Lease>::url_path(&(), Some(&observation.namespace));
        let request = Request::new(path)
            .create(&PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PostParams::default() }, lease.to_string().into_bytes());
        let request = request.map_err(Failure::impossible)?;
        match ask_to_write(Subject::of::<Lease>(name), self.client.request::<Slim<Lease>>(request)).await {
            Ok(made) => known(made).map(Done::Lease),
            // There is one that no watch has told of.
            Err(failure) => {
                let api: Api<Slim<Lease>> = Api::namespaced(self.client.clone(), &observation.namespace);
                Err(self.look_again::<Lease>(&api, Key::new(&observation.namespace, name), "", failure).await)
            }
        }
    }

    async fn update_lease(&self, observation: &Observation, name: &str, resource_version: u64, record: &Record) -> Result<Done, Failure> {
        let Some(group) = &observation.group else { return Err(Failure::Changed) };
        let adopt = observation.lease.as_ref().is_some_and(|lease| !objects::controls(group, lease.controller.as_ref()));
        if adopt {
            self.may_adopt(observation).await?;
        }
        let mut patch = lease_body(observation, record, adopt);
        patch["metadata"]["resourceVersion"] = json!(resource_version.to_string());
        if adopt {
            let mut owners = self.owners_beside(&observation.namespace, name).await?;
            owners.push(json!(objects::owner_reference(group)));
            patch["metadata"]["ownerReferences"] = json!(owners);
        }
        let api: Api<Slim<Lease>> = Api::namespaced(self.client.clone(), &observation.namespace);
        let key = Key::new(&observation.namespace, name);
        match ask_to_write(Subject::of::<Lease>(name), api.patch(name, &patched_by(names::FIELD_MANAGER), &Patch::Merge(&patch))).await {
            Ok(written) => {
                let written = known(written)?;
                Lease::answered(&self.store, key, written.clone());
                Ok(Done::Lease(written))
            }
            Err(failure) => Err(self.look_again::<Lease>(&api, key, uid_of_lease(observation), failure).await),
        }
    }

    /// Who owns a Lease beside groups, whole: a merge patch replaces the list.
    async fn owners_beside(&self, namespace: &str, name: &str) -> Result<Vec<Value>, Failure> {
        let object: Value = wire::metadata::<Lease, _>(&self.whole, namespace, name).await?;
        let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        Ok(owners.into_iter().filter(|owner| owner["kind"] != "LeaderGroup").collect())
    }

    /// Reads the group's Lease anew, or for the first time as a whole.
    async fn read_lock(&self, observation: &Observation) -> Result<Done, Failure> {
        let Some(group) = &observation.group else { return Err(Failure::Changed) };
        let api: Api<Slim<Lease>> = Api::namespaced(self.client.clone(), &observation.namespace);
        match self.read_anew::<Lease>(&api, Key::new(&observation.namespace, group.lease_name())).await {
            Ok(()) | Err(Failure::Gone) => Ok(Done::Written),
            Err(failure) => Err(failure),
        }
    }

    async fn patch_pod(&self, namespace: &Arc<str>, write: &PodWrite) -> Result<Done, Failure> {
        let api: Api<Slim<Pod>> = Api::namespaced(self.client.clone(), namespace);
        let key = Key::new(namespace, &write.name);
        let subject = Subject::of::<Pod>(&write.name);
        let patch = serde_json::from_value(pod_patch::of(write)).map_err(Failure::impossible)?;
        let manager = if pod_patch::gives_back(write) { names::FIELD_MANAGER_GIVES_BACK } else { names::FIELD_MANAGER };
        match ask_to_write(subject, api.patch(&write.name, &patched_by(manager), &Patch::Json::<()>(patch))).await {
            Ok(written) => {
                let written = known(written)?;
                let fence = written.fence(&write.fence_key).map(str::to_owned);
                Pod::answered(&self.store, key, written);
                Ok(Done::Pod { fence })
            }
            Err(Failure::Refused { code: 422, message, certain }) => {
                // A failed test of a JSON Patch and a broken rule look alike; the pod itself tells which it was.
                match ask(subject, api.get(&write.name)).await.and_then(known) {
                    Ok(pod) if pod_patch::is_as_observed(&pod, write) => Err(Failure::Refused { code: 422, message, certain }),
                    Ok(pod) => {
                        let gone = pod.uid != write.uid;
                        Pod::read_anew(&self.store, key, pod);
                        Err(if gone { Failure::Gone } else { Failure::Changed })
                    }
                    Err(failure) => Err(self.look_again::<Pod>(&api, key, &write.uid, failure).await),
                }
            }
            Err(failure) => Err(self.look_again::<Pod>(&api, key, &write.uid, failure).await),
        }
    }

    /// `for_pod`: it names a term for the pod that it says is next.
    async fn patch_status(&self, observation: &Observation, status: &LeaderGroupStatus, for_pod: bool) -> Result<Done, Failure> {
        let Some(group) = &observation.group else { return Err(Failure::Changed) };
        let patch = json!([
            { "op": "replace", "path": "/metadata/resourceVersion", "value": group.metadata.resource_version },
            { "op": "test", "path": "/metadata/uid", "value": group.metadata.uid },
            { "op": "add", "path": "/status", "value": status },
        ]);
        let patch = serde_json::from_value(patch).map_err(Failure::impossible)?;
        let request = template::groups(&observation.namespace).patch_subresource(
            "status",
            &observation.name,
            &patched_by(names::FIELD_MANAGER),
            &Patch::Json::<()>(patch),
        );
        let subject = GROUP.named(&observation.name);
        let written = if status.term == term_of(group) && !for_pod {
            ask_to_write(subject, self.metadata(request)).await.map(|written| {
                // The precondition was its version: nothing else of it has changed.
                let mut now = LeaderGroup::clone(group);
                now.status = Some(status.clone());
                now.metadata.resource_version = Some(written.version().to_string());
                Arc::new(now)
            })
        } else {
            // Neither a term nor whom it is for is believed but as it is stored: a policy, or another version of the CustomResourceDefinition,
            // may have put it back.
            let request = request.map_err(Failure::impossible)?;
            ask_to_write(subject, self.client.request::<Slim<LeaderGroup>>(request)).await.and_then(known)
        };
        match written {
            Ok(now) => {
                let (version, term) = (now.version(), term_of(&now));
                let next = now.status.as_ref().and_then(|status| status.next.clone());
                let is_as_before = version != 0 && version == group.version() && group.status.as_ref() != Some(status);
                if !is_as_before {
                    LeaderGroup::answered(&self.store, Key::new(&observation.namespace, &observation.name), now);
                }
                let (what, message) = match () {
                    () if term != status.term => {
                        (PutBack::Term, format!("the term in the status {} {term}", if term == term_of(group) { "stays" } else { "becomes" }))
                    }
                    // A term that has moved is named to nobody else again, whoever it is for.
                    () if for_pod && term == term_of(group) && next != status.next => {
                        (PutBack::Term, "whom a term is for (status.next) does not stay in the status".to_owned())
                    }
                    () if is_as_before => (
                        PutBack::Everything,
                        "the status is as before: a policy, or another version of the CustomResourceDefinition, takes away what is written".to_owned(),
                    ),
                    () => return Ok(Done::Status { version }),
                };
                Err(Failure::PutBack { what, message })
            }
            Err(failure @ (Failure::Changed | Failure::Refused { code: 422, .. })) => {
                // Another group may have its name, which fails like a status that breaks a rule.
                self.get_group(observation).await?;
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Takes in what the object is now, after a write found it changed or gone.
    async fn look_again<T: Kind + Table>(&self, api: &Api<Slim<T>>, key: Key, uid: &str, failure: Failure) -> Failure {
        match failure {
            Failure::Changed => self.read_anew(api, key).await.err().unwrap_or(Failure::Changed),
            Failure::Gone => {
                T::gone(&self.store, &key, uid);
                Failure::Gone
            }
            failure => failure,
        }
    }

    /// Takes in what the object is now, or that the one that is known is gone.
    async fn read_anew<T: Kind + Table>(&self, api: &Api<Slim<T>>, key: Key) -> Result<(), Failure> {
        let known_before = T::uid_of(&self.store, &key);
        let read = ask(Subject::of::<T>(&key.name), api.get(&key.name)).await.and_then(known);
        if matches!(read, Err(Failure::Gone)) {
            T::gone(&self.store, &key, known_before.as_deref().unwrap_or_default());
        }
        T::read_anew(&self.store, key, read?);
        Ok(())
    }
}

fn uid_of_lease(observation: &Observation) -> &str {
    observation.lease.as_ref().map_or("", |lease| &lease.uid)
}

/// What the status confirms.
fn term_of(group: &LeaderGroup) -> i64 {
    group.status.as_ref().map_or(0, |status| status.term)
}

/// An answer's object, if anything may be concluded from it.
fn known<T>(object: Slim<T>) -> Result<Arc<T>, Failure> {
    let Slim { data, unread, .. } = object;
    data.ok_or_else(|| Failure::Unknown(format!("{} could not be read", unread.join(", "))))
}

fn patched_by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() }
}

fn lease_body(observation: &Observation, record: &Record, label: bool) -> Value {
    let mut body = json!({
        "metadata": {
            "annotations": {
                names::ANNOTATION_HOLDER_UID: record.holder_uid,
                names::ANNOTATION_TERM: record.term.to_string(),
                names::ANNOTATION_RESERVED_TERM: record.reserved_term.to_string(),
                names::ANNOTATION_REASON: record.reason,
                names::ANNOTATION_PREVIOUS_HOLDER: record.previous_holder,
                names::ANNOTATION_OPERATOR: observation.operator.to_string(),
            },
        },
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": record.duration_seconds,
            // Six digits, as Go's decoder demands.
            "acquireTime": record.acquire_time.map(MicroTime),
            "renewTime": record.renew_time.map(MicroTime),
            "leaseTransitions": record.transitions,
        },
    });
    if label {
        body["metadata"]["labels"] = json!({ names::LABEL_GROUP: &*observation.name, names::LABEL_MANAGED_BY: names::FIELD_MANAGER });
    }
    body
}
