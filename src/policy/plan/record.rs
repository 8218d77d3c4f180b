//! The Lease: made where it is missing, written where it says something else, renewed when it is time. Whoever writes it
//! holds the record.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Planner;
use crate::api::v1alpha1::Renewal;
use crate::policy::observation::{Lease, Pod};
use crate::policy::term::Term;
use crate::policy::write::{LeasePurpose, Record, Write};
use crate::policy::{holder, objects};

/// Between two reads of a Lease that is another's.
const BETWEEN_READS: Duration = Duration::from_secs(10);

impl Planner<'_> {
    /// Reads the Lease again and again.
    pub(super) fn read_lease(&mut self) {
        let wait = self.memory.lock_read.map_or(Duration::ZERO, |read| (read + BETWEEN_READS) - self.observation.moment);
        if wait.is_zero() {
            self.writes.push(Write::ReadLock);
        } else if let Ok(at) = self.observation.now.checked_add(wait) {
            self.look_again(at);
        }
    }

    /// The Lease as `record` says. Its mark never falls, unless it is one that no election can have made. `hold`: it is written
    /// though it says all that already, if this process does not hold it.
    pub(super) fn lease(&mut self, record: Record, hold: bool) {
        if holder::is_followed(self.group) {
            return;
        }
        let (mark, reserves) = match self.terms.mark {
            Some(mark) => (mark.max(record.reserved_term), record.reserved_term > mark),
            // Made, or no longer to be trusted: it gets a mark that the status has named.
            None => match self.terms.of_lease() {
                Term::ToRecord(named) => (named.max(record.reserved_term), true),
                Term::ToName(term) => return self.name(term, None),
                _ => return,
            },
        };
        let name = self.group.lease_name().to_owned();
        let record = Record { reserved_term: mark, ..record };
        let borne = |pod: &Arc<Pod>| Some(&pod.uid) == record.holder_uid.as_ref() && pod.term == Some(record.term);
        let gives = !self.observation.noted().any(borne);
        let Some(lease) = self.observation.lease.as_deref() else {
            self.writes.push(Write::CreateLease { name, record, gives });
            return;
        };
        let same_holder = lease.holder == record.holder && lease.holder_uid == record.holder_uid;
        let same_term = lease.term == Some(record.term) && lease.transitions == record.transitions && lease.reserved_term == Some(mark);
        let trusted = self.terms.mark.is_some();
        // What says something else of a leader that leads was changed by others, unless it is as this process has left it: then its own
        // write is late.
        let transition = !same_holder || lease.term != Some(record.term) && !record.holder.is_empty();
        let is_late = self.memory.held.as_ref().is_some_and(|held| held.version == lease.resource_version && !held.doubted);
        let purpose = if !trusted
            || transition && (!self.settled || is_late && record.holder_uid.as_ref().is_some_and(|uid| self.memory.elected(uid, record.term).is_some()))
        {
            LeasePurpose::Transition
        } else if transition
            || !same_term
            || lease.duration_seconds != Some(record.duration_seconds)
            || !objects::controls(self.group, lease.controller.as_ref())
        {
            LeasePurpose::Repair
        } else if hold && self.memory.held.is_none() {
            LeasePurpose::Hold
        } else {
            let Some(due) = self.renewal_due(lease).filter(|_| !record.holder.is_empty()) else { return };
            if due > self.observation.now {
                self.look_again(due);
                return;
            }
            LeasePurpose::Renewal
        };
        self.writes.push(Write::UpdateLease { name, resource_version: lease.resource_version, record, purpose, reserves, gives });
        if let Some(next) = self.renewal_period().and_then(|period| self.observation.now.checked_add(period).ok()) {
            self.look_again(next);
        }
    }

    fn renewal_period(&self) -> Option<SignedDuration> {
        let spec = &self.group.spec.lease;
        match spec.renewal {
            Renewal::Periodic => Some(SignedDuration::from_millis(i64::from(spec.lease_duration_seconds) * 1000 / 3)),
            Renewal::OnTransition => None,
        }
    }

    /// When the Lease is to be renewed. A stamp from the future is another clock's: it is renewed at once.
    fn renewal_due(&self, lease: &Lease) -> Option<Timestamp> {
        let period = self.renewal_period()?;
        let renewed = lease.renew_time.filter(|renewed| *renewed <= self.observation.now);
        Some(renewed.and_then(|renewed| renewed.checked_add(period).ok()).unwrap_or(self.observation.now))
    }
}
