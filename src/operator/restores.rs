//! Notices that the API server's store was put back to an earlier state, as etcd is from a snapshot: versions go back, and
//! whoever compares them with those from before takes everything for old news, for ever. Reads only.

use std::time::Duration;

use kube::Api;
use kube::api::ListParams;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::api::LeaderGroup;

/// How often the store's version is asked for. A restore that loses less than is written in this time goes unnoticed.
const PERIOD: Duration = Duration::from_secs(2);
/// The pause after a failure: a store that was put back is seen before much is written to it.
const PAUSE: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(5);

/// How often the store has gone back since this process began.
#[derive(Debug, Default)]
pub(super) struct Restores(watch::Sender<u64>);

impl Restores {
    pub(super) fn count(&self) -> u64 {
        *self.0.borrow()
    }

    /// Tells of every further one.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Watches the store's version until it is aborted, and calls `went_back` after each time that it fell. It is asked for by the groups of
    /// one of these namespaces, or of all; where that is not answered, of the next.
    pub(super) async fn look_out(&self, places: Vec<Api<LeaderGroup>>, went_back: impl Fn()) {
        let mut highest = 0;
        let mut places = places.iter().cycle().peekable();
        while let Some(groups) = places.peek() {
            let asked = tokio::time::timeout(DEADLINE, groups.list_metadata(&ListParams::default().limit(1))).await;
            // Without a version of its own a list is as new as its request.
            let version = asked.ok().and_then(Result::ok).and_then(|list| list.metadata.resource_version).and_then(|version| version.parse().ok());
            if self.seen(&mut highest, version) {
                went_back();
            }
            if version.is_none() {
                places.next();
            }
            tokio::time::sleep(if version.is_some() { PERIOD } else { PAUSE }).await;
        }
    }

    fn seen(&self, highest: &mut u64, version: Option<u64>) -> bool {
        let Some(version) = version else {
            debug!("The store's version could not be asked for");
            return false;
        };
        let fell = version < *highest;
        if fell {
            warn!(before = *highest, now = version, "The API server's store was put back to an earlier state; everything is listed anew");
            self.0.send_modify(|count| *count += 1);
        }
        *highest = version;
        fell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_falls_is_a_restore_and_one_that_is_missing_is_none() {
        let restores = Restores::default();
        let mut highest = 0;
        let told: Vec<_> = [Some(10), Some(10), None, Some(12), Some(11), Some(11), Some(13)].map(|version| restores.seen(&mut highest, version)).into();
        assert_eq!(told, [false, false, false, false, true, false, false]);
        assert_eq!(restores.count(), 1);
    }
}
