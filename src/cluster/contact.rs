//! Whether the API server answers this process, whichever client asked. It asks nothing itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::elector::clock::Stopwatch;

/// What is enough of a complaint.
const LONGEST: usize = 512;

/// What is known of the API server's answers.
#[derive(Clone)]
pub struct Contact(Arc<Shared>);

struct Shared {
    url: String,
    started: Stopwatch,
    /// Milliseconds from `started` to the last answer.
    last: AtomicU64,
    /// What has failed last, where no answer came since.
    trouble: Mutex<Option<String>>,
}

impl Contact {
    pub(super) fn new(url: String) -> Self {
        Self(Arc::new(Shared { url, started: Stopwatch::start(), last: AtomicU64::new(0), trouble: Mutex::default() }))
    }

    /// A refusal is an answer, but not one of what stands before an API server that is gone. Who does not know who asks has failed.
    pub(super) fn answered(&self, status: StatusCode) {
        let nobody = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        if nobody.contains(&status) {
            return self.failed(status.to_string());
        }
        let elapsed = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(elapsed, Ordering::Relaxed);
        self.set_trouble(None);
    }

    pub(super) fn failed(&self, words: String) {
        self.set_trouble(Some(words));
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// The time since the last answer, or since the start where there was none.
    pub fn silence(&self) -> Duration {
        self.0.started.elapsed().saturating_sub(Duration::from_millis(self.0.last.load(Ordering::Relaxed)))
    }

    /// `Err` says what is wrong where no answer came for longer than `patience`.
    pub fn check(&self, patience: Duration) -> Result<(), String> {
        if self.silence() <= patience { Ok(()) } else { Err(self.complaint()) }
    }

    /// That there is no answer, since when, and why.
    pub fn complaint(&self) -> String {
        let trouble = self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let why = trouble.unwrap_or_else(|| "what was asked is not answered".to_owned());
        format!("no answer from the API server {} for {} s: {why}", self.0.url, self.silence().as_secs())
    }
}

/// An error with what caused it, cut to size.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let words = causes.map(ToString::to_string).reduce(|all, cause| if all.ends_with(&cause) { all } else { format!("{all}: {cause}") });
    words.unwrap_or_default().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer_and_who_does_not_know_us_has_not_answered() {
        let contact = Contact::new("https://cluster/".to_owned());
        assert_eq!(contact.check(PATIENCE), Ok(()), "it has just begun");
        tokio::time::advance(Duration::from_secs(16)).await;
        assert_eq!(contact.check(PATIENCE).unwrap_err(), "no answer from the API server https://cluster/ for 16 s: what was asked is not answered");
        for refusal in [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED] {
            contact.answered(refusal);
            assert_eq!(contact.check(PATIENCE), Ok(()));
            tokio::time::advance(Duration::from_secs(16)).await;
        }
        contact.failed("it does not accept the credentials".to_owned());
        assert!(contact.check(PATIENCE).unwrap_err().contains("does not accept the credentials"));
        contact.answered(StatusCode::BAD_GATEWAY);
        assert!(contact.check(PATIENCE).unwrap_err().contains("502 Bad Gateway"));
        contact.answered(StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(contact.check(PATIENCE), Ok(()), "it is there, whatever is the matter with it");
    }
}
