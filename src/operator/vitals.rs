//! What the operator shows of itself as a whole: whether it lives, whether it is ready, and for which namespaces what it knows may be
//! old or missing. Judges no group.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::health::{SILENCE, WatchHealth};
use crate::cluster::Contact;
use crate::elector::HealthAdaptor;

/// A replica that the API server has not answered for so long is not ready. The store's version is asked for every two seconds.
const UNREACHABLE: Duration = Duration::from_secs(15);

/// What the operator shows of itself to health and readiness.
#[derive(Clone)]
pub struct Vitals {
    pulses: Arc<OnceLock<Vec<Arc<WatchHealth>>>>,
    contact: Arc<OnceLock<Contact>>,
    pub(super) election: Arc<HealthAdaptor>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self { pulses: Arc::default(), contact: Arc::default(), election: Arc::new(HealthAdaptor::new(HealthAdaptor::TOLERANCE)) }
    }
}

impl Vitals {
    /// What is shown from now on. Called once of each process.
    pub(super) fn show(&self, pulses: Vec<Arc<WatchHealth>>, contact: Contact) {
        let _ = (self.pulses.set(pulses), self.contact.set(contact));
    }

    pub(super) fn pulses(&self) -> &[Arc<WatchHealth>] {
        self.pulses.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// `Err` says what hangs.
    pub fn alive(&self) -> Result<(), String> {
        self.election.check()?;
        let silent = self.pulses().iter().filter(|pulse| pulse.silence() > SILENCE);
        let silent: Vec<_> = silent.map(|pulse| format!("watch of {} silent for {} s", pulse.kind, pulse.silence().as_secs())).collect();
        if silent.is_empty() { Ok(()) } else { Err(silent.join("; ")) }
    }

    /// The namespaces that may not be read, while others may: whoever can take the rights away in one must not stop the others.
    pub(super) fn refused(&self) -> BTreeSet<&str> {
        let kept: BTreeSet<&str> = self.pulses().iter().filter_map(|pulse| pulse.namespace.as_deref()).collect();
        let refused: BTreeSet<&str> = self.pulses().iter().filter(|pulse| pulse.is_refused()).filter_map(|pulse| pulse.namespace.as_deref()).collect();
        if refused.len() < kept.len() { refused } else { BTreeSet::new() }
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Arc<WatchHealth>> {
        self.pulses().iter().filter(move |pulse| pulse.namespace.as_deref().is_none_or(|its| its == namespace))
    }

    /// What is not known any more of this namespace because its watch fails.
    pub(super) fn blind_to(&self, namespace: &str) -> Option<String> {
        self.of(namespace).find_map(|pulse| pulse.blind())
    }

    /// Whether everything of this namespace that is needed has been listed once.
    pub(super) fn has_listed(&self, namespace: &str) -> bool {
        self.of(namespace).all(|pulse| pulse.optional || pulse.ready())
    }

    /// The namespaces whose watches have begun to fail for long, or work again, since this was asked last; `None`: all of them.
    pub(super) fn changed(&self, blind: &mut Vec<bool>) -> Vec<Option<&str>> {
        blind.resize(self.pulses().len(), false);
        let changed = self.pulses().iter().zip(blind).filter_map(|(pulse, blind)| {
            let sees_again = pulse.sees_again();
            let now = pulse.blind().is_some();
            (std::mem::replace(blind, now) != now || sees_again).then_some(pulse.namespace.as_deref())
        });
        changed.collect()
    }

    /// `Err` says what is missing. A standby is as ready as the leader, or a rolling update would never end.
    pub fn ready(&self) -> Result<(), String> {
        if self.pulses().is_empty() {
            return Err("starting".into());
        }
        let refused = self.refused();
        let counts = || self.pulses().iter().filter(|pulse| pulse.namespace.as_deref().is_none_or(|namespace| !refused.contains(namespace)));
        let waiting = counts().filter(|pulse| !pulse.ready());
        let waiting: Vec<_> = waiting.map(|pulse| pulse.error().unwrap_or_else(|| format!("first list of {} is not complete", pulse.kind))).collect();
        if !waiting.is_empty() {
            return Err(waiting.join("; "));
        }
        self.contact.get().map_or(Ok(()), |contact| contact.check(UNREACHABLE))?;
        let blind: Vec<_> = counts().filter_map(|pulse| pulse.blind()).collect();
        if blind.is_empty() { Ok(()) } else { Err(blind.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They fail with a refusal for so many seconds.
    async fn refuse(pulses: &[Arc<WatchHealth>], seconds: u64) {
        for _ in 0..seconds / 5 {
            tokio::time::advance(Duration::from_secs(5)).await;
            for pulse in pulses {
                pulse.fails(true);
            }
        }
    }

    fn list(pulses: &[Arc<WatchHealth>]) {
        for pulse in pulses {
            pulse.listed();
        }
    }

    fn vitals(namespaces: &[&str]) -> (Vitals, Vec<Arc<WatchHealth>>) {
        let nodes = Arc::new(WatchHealth::new("Node", None, true));
        let pods = namespaces.iter().map(|namespace| Arc::new(WatchHealth::new("Pod", Some((*namespace).to_owned()), false)));
        let pulses: Vec<_> = [nodes].into_iter().chain(pods).collect();
        let vitals = Vitals::default();
        let _ = vitals.pulses.set(pulses.clone());
        (vitals, pulses)
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_may_not_be_read_any_more_makes_nothing_of_another_uncertain_and_no_replica_unready() {
        let (vitals, pulses) = vitals(&["a", "b"]);
        list(&pulses);
        refuse(&pulses[2..], 30).await;
        assert_eq!((vitals.ready(), vitals.blind_to("a"), vitals.blind_to("b").is_some()), (Ok(()), None, true));
        assert_eq!(vitals.refused(), BTreeSet::from(["b"]));
        refuse(&pulses[1..], 30).await;
        assert!(vitals.ready().is_err(), "there is nothing else that it could keep");
        pulses[1].works();
        assert_eq!((vitals.ready(), vitals.blind_to("a")), (Ok(()), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_may_not_be_read_yet_keeps_no_replica_from_starting_and_nothing_of_it_is_known() {
        let (vitals, pulses) = vitals(&["a", "b"]);
        list(&pulses[..2]);
        assert!(vitals.ready().is_err(), "its list is under way");
        refuse(&pulses[2..], 5).await;
        assert_eq!((vitals.ready(), vitals.has_listed("a"), vitals.has_listed("b")), (Ok(()), true, false));
        list(&pulses[2..]);
        assert!(vitals.has_listed("b") && vitals.refused().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_operator_can_work_without_makes_nothing_uncertain_once_it_is_refused() {
        let (vitals, pulses) = vitals(&["a"]);
        list(&pulses);
        refuse(&pulses[..1], 30).await;
        assert_eq!((vitals.ready(), vitals.blind_to("a")), (Ok(()), None));
    }
}
