//! An elector's durations and their rules: client-go's, and the margin that client-go does not ask for.

use std::time::Duration;

/// By how much a pause between two tries to acquire may exceed the retry period (client-go's `JitterFactor`).
pub const JITTER_FACTOR: f64 = 1.2;

/// How an election is run. The defaults are those of client-go's users: 15 s, 10 s, 2 s.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// How long a candidate that does not lead waits after it has last seen the record change, before it takes over.
    /// Whole seconds, because the record holds whole seconds.
    pub lease_duration: Duration,
    /// For how long the leader tries to renew before it steps down. The first try is one `retry_period` after the last
    /// renewal, so a leader that renews no more has stepped down `retry_period + renew_deadline` after it.
    pub renew_deadline: Duration,
    /// The pause between two tries.
    pub retry_period: Duration,
    /// Whether the lock is given back when the run is cancelled, so that others need not wait for its end.
    pub release_on_cancel: bool,
    /// The election's name in metrics and in the health check.
    pub name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_cancel: false,
            name: String::new(),
        }
    }
}

/// Why an election cannot be run like that.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} must be greater than zero")]
    Zero(&'static str),
    #[error("leaseDuration must be whole seconds, for the record holds nothing finer; it is {0:?}")]
    Fraction(Duration),
    #[error("leaseDuration must be at most 2147483647 s; it is {0:?}")]
    TooLong(Duration),
    #[error("leaseDuration must be greater than renewDeadline: {lease_duration:?} is not greater than {renew_deadline:?}")]
    LeaseDuration { lease_duration: Duration, renew_deadline: Duration },
    #[error("renewDeadline must be greater than retryPeriod*{JITTER_FACTOR}: {renew_deadline:?} is not greater than {JITTER_FACTOR} times {retry_period:?}")]
    RenewDeadline { renew_deadline: Duration, retry_period: Duration },
    /// Without it the old leader may still act when the next one starts.
    #[error(
        "leaseDuration must be greater than renewDeadline + retryPeriod{}, or a leader that cannot renew is still at work when the next one starts: \
         {lease_duration:?} is not greater than {needed:?}", if *.resolution > Duration::ZERO { " + 1s (this lock's stamps are whole seconds)" } else { "" }
    )]
    Margin { lease_duration: Duration, needed: Duration, resolution: Duration },
    #[error("Lock identity is empty")]
    Identity,
    /// Others cut what is longer, and would not know it again.
    #[error("Lock identity must be at most {most} bytes long; it has {length}")]
    LongIdentity { most: usize, length: usize },
}

impl Config {
    /// client-go's rules (`NewLeaderElector`), then the ones it lacks. `resolution` is that of the lock's stamps: two
    /// renewals within it look like one to the other candidates, so they count from the first of both.
    pub fn validate(&self, resolution: Duration) -> Result<(), ConfigError> {
        let Self { lease_duration, renew_deadline, retry_period, .. } = *self;
        for (name, span) in [("leaseDuration", lease_duration), ("renewDeadline", renew_deadline), ("retryPeriod", retry_period)] {
            if span.is_zero() {
                return Err(ConfigError::Zero(name));
            }
        }
        if lease_duration <= renew_deadline {
            return Err(ConfigError::LeaseDuration { lease_duration, renew_deadline });
        }
        // Saturating: what overflows is longer than any lease.
        let least = Duration::try_from_secs_f64(retry_period.as_secs_f64() * JITTER_FACTOR).unwrap_or(Duration::MAX);
        if renew_deadline <= least {
            return Err(ConfigError::RenewDeadline { renew_deadline, retry_period });
        }
        if lease_duration.subsec_nanos() != 0 {
            return Err(ConfigError::Fraction(lease_duration));
        }
        if i32::try_from(lease_duration.as_secs()).is_err() {
            return Err(ConfigError::TooLong(lease_duration));
        }
        let needed = renew_deadline.saturating_add(retry_period).saturating_add(resolution);
        if lease_duration <= needed {
            return Err(ConfigError::Margin { lease_duration, needed, resolution });
        }
        Ok(())
    }

    /// How long one request may take: client-go's client timeout, the greater of 1 s and half of the renew deadline.
    pub fn request_timeout(&self) -> Duration {
        (self.renew_deadline / 2).max(Duration::from_secs(1))
    }

    /// From a renewal on, how long its leader trusts it.
    pub(super) fn trust(&self) -> Duration {
        self.renew_deadline + self.retry_period
    }

    /// From a renewal on, how long nobody else leads. A quarter of what there is to spare is left to clocks that differ,
    /// and to the end of work that has to be dropped.
    pub(super) fn exclusive(&self, resolution: Duration) -> Duration {
        let spare = self.lease_duration.saturating_sub(self.trust()).saturating_sub(resolution);
        self.trust() + spare * 3 / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lease_duration: f64, renew_deadline: f64, retry_period: f64) -> Config {
        Config {
            lease_duration: Duration::from_secs_f64(lease_duration),
            renew_deadline: Duration::from_secs_f64(renew_deadline),
            retry_period: Duration::from_secs_f64(retry_period),
            ..Config::default()
        }
    }

    #[test]
    fn what_client_go_and_its_users_run_with_is_accepted() {
        for (lease, deadline, period) in [(15.0, 10.0, 2.0), (60.0, 15.0, 5.0), (137.0, 107.0, 26.0), (15.0, 2.0, 1.0), (2.0, 1.0, 0.005)] {
            assert_eq!(config(lease, deadline, period).validate(Duration::ZERO), Ok(()), "{lease}/{deadline}/{period}");
        }
    }

    #[test]
    fn every_rule_is_told_by_what_it_allows() {
        let refused = [
            ((0.0, 10.0, 2.0), "leaseDuration must be greater than zero"),
            ((15.0, 0.0, 2.0), "renewDeadline must be greater than zero"),
            ((15.0, 10.0, 0.0), "retryPeriod must be greater than zero"),
            ((10.0, 10.0, 2.0), "leaseDuration must be greater than renewDeadline"),
            ((15.0, 2.4, 2.0), "renewDeadline must be greater than retryPeriod*1.2"),
            ((15.9, 10.0, 2.0), "leaseDuration must be whole seconds"),
            ((2_147_483_648.0, 10.0, 2.0), "leaseDuration must be at most 2147483647 s"),
            ((10.0, 9.0, 2.0), "leaseDuration must be greater than renewDeadline + retryPeriod,"),
            ((12.0, 10.0, 2.0), "12s is not greater than 12s"),
        ];
        for ((lease, deadline, period), text) in refused {
            let message = config(lease, deadline, period).validate(Duration::ZERO).unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn a_lock_of_coarse_stamps_needs_a_wider_margin() {
        let narrow = config(13.0, 10.0, 2.0);
        assert_eq!(narrow.validate(Duration::ZERO), Ok(()));
        let message = narrow.validate(Duration::from_secs(1)).unwrap_err().to_string();
        assert!(message.contains("renewDeadline + retryPeriod + 1s"), "{message}");
    }
}
