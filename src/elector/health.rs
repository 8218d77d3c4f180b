//! The health check of an election: client-go's `HealthzAdaptor`.

use std::sync::OnceLock;
use std::time::Duration;

use super::leadership::Leadership;

/// Fails while this process thinks that it leads, though its lease has run out by more than `tolerance`: then the elector
/// hangs, and the process should be restarted. A process that does not lead is healthy.
#[derive(Debug)]
pub struct HealthAdaptor {
    tolerance: Duration,
    leadership: OnceLock<Leadership>,
}

impl HealthAdaptor {
    /// The name of the check (client-go's).
    pub const NAME: &'static str = "leaderElection";

    /// The tolerance of Kubernetes' own components.
    pub const TOLERANCE: Duration = Duration::from_secs(20);

    pub fn new(tolerance: Duration) -> Self {
        Self { tolerance, leadership: OnceLock::new() }
    }

    /// What is watched from now on; only the first one counts.
    pub fn set_leader_election(&self, leadership: Leadership) {
        let _ = self.leadership.set(leadership);
    }

    /// `Err` says what hangs. Healthy before there is an election.
    pub fn check(&self) -> Result<(), String> {
        let Some(leadership) = self.leadership.get() else { return Ok(()) };
        let overdue = leadership.overdue();
        if overdue > self.tolerance {
            return Err(format!("failed election to renew leadership on lease {}: it ran out {} s ago", leadership.name, overdue.as_secs()));
        }
        Ok(())
    }
}
