//! Two locks held as one, while candidates move from the first to the second (client-go's `MultiLock`, v0.24).
//!
//! Candidates of the old kind know the first lock only, so it is written first and decides where both differ. Writing both is
//! not atomic: what a crash in between leaves behind reads as held by somebody unknown, and everybody waits it out.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Lock, LockError, Record, Snapshot, UNKNOWN_LEADER};

/// A lock that is held while both of its locks are.
pub struct MultiLock<P, S> {
    primary: P,
    secondary: S,
}

/// What was read of both.
struct Both {
    primary: Snapshot,
    secondary: Option<Snapshot>,
}

impl<P: Lock, S: Lock> MultiLock<P, S> {
    /// Candidates that know only `primary` are respected; `secondary` is what all shall use in the end.
    pub fn new(primary: P, secondary: S) -> Self {
        Self { primary, secondary }
    }
}

/// Whoever knows only one of both may lead after that one was deleted, so both make up which object this is. One that is not
/// there has none.
fn both_uids(primary: &Snapshot, secondary: Option<&Snapshot>) -> Option<String> {
    let second = match secondary {
        Some(second) => second.uid.as_deref()?,
        None => "",
    };
    Some(format!("{},{second}", primary.uid.as_deref()?))
}

/// Where the holder of one of both runs says nothing of who holds the other.
fn one_of_two(record: Record) -> Record {
    Record { origin: None, ..record }
}

fn join(primary: Snapshot, secondary: Option<Snapshot>) -> Snapshot {
    let uid = both_uids(&primary, secondary.as_ref());
    let Some(second) = &secondary else {
        return Snapshot::new(one_of_two(primary.record.clone()), primary.raw.clone(), None, Both { primary, secondary }).with_uid(uid.as_deref());
    };
    let mut record = one_of_two(primary.record.clone());
    // Somebody may hold only one of both: its term and its time count.
    record.transitions = record.transitions.max(second.record.transitions);
    record.lease_duration_seconds = record.lease_duration_seconds.max(second.record.lease_duration_seconds);
    if record.holder != second.record.holder {
        UNKNOWN_LEADER.clone_into(&mut record.holder);
    }
    // A change of either is one of both.
    let raw = format!("{},{}", primary.raw, second.raw);
    Snapshot::new(record, raw, None, Both { primary, secondary }).with_uid(uid.as_deref())
}

impl<P: Lock, S: Lock> Lock for MultiLock<P, S> {
    fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
        async {
            let Some(primary) = self.primary.get().await? else { return Ok(None) };
            // Half made, it is written as a whole (client-go leaves the first as it is, and candidates of the old kind count from
            // when that was made).
            Ok(Some(join(primary, self.secondary.get().await?)))
        }
        .boxed()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let record = one_of_two(record);
            let primary = self.primary.create(record.clone()).await?;
            let secondary = self.secondary.create(record).await?;
            Ok(join(primary, Some(secondary)))
        }
        .boxed()
    }

    fn update(&self, seen: Snapshot, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let (both, record) = (seen.state::<Both>()?, one_of_two(record));
            let primary = self.primary.update(both.primary.clone(), record.clone()).await?;
            // As it was seen, not as it is now (client-go): a candidate of the new kind may have taken it meanwhile.
            let secondary = match &both.secondary {
                Some(secondary) => self.secondary.update(secondary.clone(), record).await?,
                None => self.secondary.create(record).await?,
            };
            Ok(join(primary, Some(secondary)))
        }
        .boxed()
    }

    fn record_event(&self, event: String) -> BoxFuture<'_, ()> {
        async move {
            self.primary.record_event(event.clone()).await;
            self.secondary.record_event(event).await;
        }
        .boxed()
    }

    fn identity(&self) -> &str {
        self.primary.identity()
    }

    fn describe(&self) -> String {
        self.primary.describe()
    }

    fn resolution(&self) -> Duration {
        self.primary.resolution().max(self.secondary.resolution())
    }
}
