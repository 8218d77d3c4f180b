//! Whether the process that acquired a lock is dead, by what its pod's status says of its container. Pure and total: no I/O, no
//! clock, and whatever is unclear proves nothing.
//!
//! Believed is the kubelet's word, and whose it is to write a pod's status: a container that is *terminated* has no process
//! left; of one container only one instance runs at a time; and a node has one clock, which its containers' processes share.
//! So whoever acquired before an instance ended is that instance or an earlier one, and dead, whatever runs by now: what was
//! read of the pod may be old, for the dead stay dead. It must only be certain that the clock was not set back in between, and
//! that the record was not renewed afterwards.
//!
//! A phase proves nothing: the garbage collector of pods writes Failed on those of a node that is gone from the API, and asks no
//! kubelet. Nor does a pod that is being deleted, or is gone: by force it may be while its processes run.

use jiff::{SignedDuration, Timestamp};

use super::origin::Origin;

/// Times in a pod's status are cut to whole seconds.
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// A runtime may stamp a container's start so long after its process began.
const LATE: SignedDuration = SignedDuration::from_secs(2);
/// A process begins to contend so soon after its container was started: this tells one instance from another that a clock
/// which was set back would put at the same time.
const SOON: SignedDuration = SignedDuration::from_secs(10);

/// What a pod's status says of one container. A time that is missing, or cannot be read, is none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodReport {
    pub uid: String,
    /// A container's process may be outside of it, or outlive it: its process namespace is the pod's or the node's.
    pub shares_processes: bool,
    /// Its runtime may give it a clock of its own, as virtual machines have.
    pub has_runtime_class: bool,
    pub instances: Vec<Instance>,
}

/// One run of a container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Instance {
    Running { started: Option<Timestamp> },
    Ended { started: Option<Timestamp>, finished: Option<Timestamp>, code: Option<i64> },
}

/// The end that was proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Death {
    pub finished: Timestamp,
    pub code: Option<i64>,
}

/// Why nothing is proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unproven {
    #[error("another pod has its name")]
    AnotherPod,
    #[error("its processes may outlive their container, for they share a process namespace")]
    SharedProcesses,
    #[error("its runtime class may give it a clock of its own")]
    RuntimeClass,
    #[error("a time is missing, or cannot be read")]
    NoTime,
    #[error("no container that ended is the one that acquired the lock")]
    NotEnded,
    #[error("a container that runs may be the one that acquired the lock")]
    MayRun,
    #[error("its times contradict each other, so the clock was set")]
    ClockSet,
    #[error("the lock was renewed after the container had ended")]
    Renewed,
}

/// Whether who acquired the lock at `acquired`, and renewed it last at `renewed`, is dead.
pub fn judge(origin: &Origin, acquired: Option<Timestamp>, renewed: Option<Timestamp>, pod: &PodReport) -> Result<Death, Unproven> {
    if pod.uid != origin.uid {
        return Err(Unproven::AnotherPod);
    }
    if pod.shares_processes {
        return Err(Unproven::SharedProcesses);
    }
    if pod.has_runtime_class {
        return Err(Unproven::RuntimeClass);
    }
    let (acquired, renewed) = acquired.zip(renewed).ok_or(Unproven::NoTime)?;
    // The process stamped both. From here on what it acquired is no earlier than its own instance may seem to have begun.
    if acquired < origin.started {
        return Err(Unproven::ClockSet);
    }
    let spans: Option<Vec<Span>> = pod.instances.iter().map(|instance| Span::of(*instance)).collect();
    let spans = spans.ok_or(Unproven::NoTime)?;
    let ended = |span: &Span| span.finished.map(|finished| (*span, finished));
    let mut explaining =
        spans.iter().filter_map(ended).filter(|(span, finished)| span.is_begun_by(origin) && within(span.started, acquired, LATE) && acquired < *finished);
    let (Some((dead, finished)), None) = (explaining.next(), explaining.next()) else { return Err(Unproven::NotEnded) };
    // As late as the start of its own instance may be stamped.
    if spans.iter().any(|span| span.finished.is_none() && within(span.started, acquired, LATE)) {
        return Err(Unproven::MayRun);
    }
    // One after the other, cut to seconds or not.
    let precedes = |span: &Span| span.finished.is_some_and(|finished| finished <= dead.started);
    if dead.started > finished || spans.iter().any(|span| *span != dead && span.started < finished && !precedes(span)) {
        return Err(Unproven::ClockSet);
    }
    // It ended within the second that its end is cut to.
    if renewed.duration_since(finished) >= SECOND {
        return Err(Unproven::Renewed);
    }
    Ok(Death { finished, code: dead.code })
}

/// Whether the pod's status tells of the instance that this process of `origin` runs in. Only then a leader says where it runs: so
/// whoever reads the pod after that learns of this instance, too, and cannot take its leadership for a former one's, though the
/// clock was set back in between.
pub fn runs(origin: &Origin, pod: &PodReport) -> bool {
    let spans: Option<Vec<Span>> = pod.instances.iter().map(|instance| Span::of(*instance)).collect();
    let spans = spans.filter(|_| pod.uid == origin.uid).unwrap_or_default();
    let mut running = spans.iter().filter(|span| span.finished.is_none());
    let (Some(own), None) = (running.next(), running.next()) else { return false };
    own.is_begun_by(origin) && spans.iter().all(|span| span.finished.is_none_or(|finished| finished <= own.started))
}

/// Whether the first is at most so much later than the second.
fn within(first: Timestamp, second: Timestamp, most: SignedDuration) -> bool {
    first.duration_since(second) <= most
}

/// An instance whose times are all known.
#[derive(Clone, Copy, PartialEq)]
struct Span {
    started: Timestamp,
    finished: Option<Timestamp>,
    code: Option<i64>,
}

impl Span {
    fn is_begun_by(self, origin: &Origin) -> bool {
        within(self.started, origin.started, LATE) && within(origin.started, self.started, SOON)
    }

    fn of(instance: Instance) -> Option<Self> {
        match instance {
            Instance::Running { started } => Some(Self { started: started?, finished: None, code: None }),
            Instance::Ended { started, finished, code } => Some(Self { started: started?, finished: Some(finished?), code }),
        }
    }
}
