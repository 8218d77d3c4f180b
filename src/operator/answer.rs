//! What an answer proves: done, or one of [`Undone`]. Only the API server's own word about the very object counts: what a
//! router or a proxy says in its place leaves the outcome unknown. That a webhook has denied it proves that it was not done, and nothing
//! of the object.

use std::time::Duration;

use kube::core::Status;

use crate::policy::progress::{Failed, PutBack};
use crate::policy::write::Undone;

/// How long a read may take before its outcome counts as unknown.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// The same of a write: admission may take half a minute (`timeoutSeconds` of a webhook is 30 at most).
const WRITE_DEADLINE: Duration = Duration::from_secs(35);

/// Why a write was not done, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The object is no longer what the write was decided on. What it is now has been read.
    #[error("the object changed meanwhile")]
    Changed,
    /// There is no such object any more.
    #[error("the object is gone")]
    Gone,
    /// The group is deleted, or about to be: its watch will tell.
    #[error("the group is being deleted")]
    GroupGone,
    /// It was refused: by the API server, or by a webhook before it was done, if `certain`; else by somebody who may not know what became of it.
    #[error("{message} ({code})")]
    Refused { code: u16, message: String, certain: bool },
    /// The API server has taken it, and not stored it as it was written: a policy, or another version of the CustomResourceDefinition, takes
    /// it away.
    #[error("{message}")]
    PutBack { what: PutBack, message: String },
    /// The API server asks to come back later.
    #[error("the API server is too busy")]
    Throttled(Option<Duration>),
    /// An answer that does not tell, or none that could be read: the write may still be performed.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// A webhook has failed, or could not be asked.
    #[error("outcome unknown: {0}")]
    Admission(String),
    /// It was called back before it was sent.
    #[error("it was not sent")]
    CalledBack,
    /// No answer: the write may still be performed.
    #[error("no answer within {} s", .0.as_secs())]
    Unanswered(Duration),
}

impl Failure {
    /// What may be concluded from it.
    pub(super) fn undone(&self) -> Undone {
        match self {
            Failure::Changed => Undone::Changed,
            Failure::Gone => Undone::Gone,
            Failure::GroupGone | Failure::CalledBack | Failure::Refused { certain: true, .. } | Failure::PutBack { .. } => Undone::Refused,
            Failure::Refused { .. } | Failure::Throttled(_) | Failure::Unknown(_) | Failure::Admission(_) | Failure::Unanswered(_) => Undone::Unknown,
        }
    }

    /// What the next try depends on, and the user is told.
    pub(super) fn for_progress(&self) -> Failed {
        let retry_after = if let Failure::Throttled(wait) = self { *wait } else { None };
        let words = if let Failure::Unknown(words) | Failure::Admission(words) = self { words.clone() } else { self.to_string() };
        let unanswered = matches!(self, Failure::Unanswered(_));
        let put_back = if let Failure::PutBack { what, .. } = self { Some(*what) } else { None };
        let refused = matches!(self, Failure::Refused { .. } | Failure::PutBack { .. });
        let by_admission = matches!(self, Failure::Admission(_));
        Failed { undone: self.undone(), refused, put_back, unanswered, by_admission, words, retry_after }
    }

    /// A word for metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Failure::Changed => "changed",
            Failure::Gone => "gone",
            Failure::GroupGone => "group_gone",
            Failure::Refused { .. } | Failure::PutBack { .. } => "refused",
            Failure::Throttled(_) => "throttled",
            Failure::CalledBack => "called_back",
            Failure::Unknown(_) | Failure::Admission(_) | Failure::Unanswered(_) => "unknown",
        }
    }

    pub(super) fn impossible(error: impl std::fmt::Display) -> Self {
        Failure::Refused { code: 0, message: error.to_string(), certain: true }
    }
}

/// The object that a request is about, as the API server's answers name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    plural: &'a str,
    name: &'a str,
}

pub(super) const GROUP: Subject<'static> = Subject { plural: "leadergroups", name: "" };

impl<'a> Subject<'a> {
    pub(super) fn of<T: super::slim::Kind>(name: &'a str) -> Self {
        Self { plural: T::PLURAL, name }
    }

    pub(super) fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }
}

/// Sends a read, with a deadline, and says what became of it.
pub(super) async fn ask<T>(subject: Subject<'_>, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    ask_within(DEADLINE, subject, request).await
}

/// The same of a write.
pub(super) async fn ask_to_write<T>(subject: Subject<'_>, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    ask_within(WRITE_DEADLINE, subject, request).await
}

async fn ask_within<T>(deadline: Duration, subject: Subject<'_>, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(deadline, request).await {
        Err(_) => Err(Failure::Unanswered(deadline)),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(failure_of(subject, &status)),
        Ok(Err(error)) => Err(Failure::Unknown(error.to_string())),
    }
}

/// What an error's status proves. A bare 404 may be a router's, a 409 without a name anybody's.
fn failure_of(subject: Subject<'_>, status: &Status) -> Failure {
    let details = status.details.as_ref();
    let about = details.is_some_and(|details| details.name == subject.name && details.kind == subject.plural);
    let refused = |certain| Failure::Refused { code: status.code, message: status.message.clone(), certain };
    let failed = |failure: fn(String) -> Failure| failure(format!("{} ({})", status.message, status.code));
    if status.message.starts_with(WEBHOOK) {
        // What it says is a webhook's word, about what that has looked at; a code from 500 on tells of an error there, which may be over soon.
        let denied = status.message.contains(DENIED) && (400..=499).contains(&status.code);
        return if denied { refused(true) } else { failed(Failure::Admission) };
    }
    match (status.code, status.reason.as_str()) {
        (404, "NotFound") if about => Failure::Gone,
        (409, "Conflict" | "AlreadyExists") if about || is_conflict_of_managers(status) => Failure::Changed,
        (429, _) => Failure::Throttled(details.filter(|it| it.retry_after_seconds > 0).map(|it| Duration::from_secs(it.retry_after_seconds.into()))),
        // A patch that was tried on the object, or an object that was looked at.
        (422, "Invalid") => refused(true),
        (403, "Forbidden") => refused(about),
        (400..=499, _) if !matches!(status.code, 404 | 408 | 409) => refused(false),
        (500, _) if status.message.contains(UNASKED) => failed(Failure::Admission),
        (500, _) if status.message.contains(UNDECLARED) => refused(true),
        _ => failed(Failure::Unknown),
    }
}

/// How the API server begins what a webhook has said.
const WEBHOOK: &str = "admission webhook ";
/// How it goes on where the webhook has denied the request: that was before it was done.
const DENIED: &str = "\" denied the request";
/// What it says of one that it could not ask.
const UNASKED: &str = "failed calling webhook";
/// What it says, as if it had failed, of a server-side apply of a field that it does not know (kubernetes/kubernetes#122480).
const UNDECLARED: &str = "field not declared in schema";

/// Server-side apply's own conflict names fields, not the object.
fn is_conflict_of_managers(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "FieldManagerConflict"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(code: u16, reason: &str, details: &Value) -> Status {
        serde_json::from_value(json!({ "status": "Failure", "code": code, "reason": reason, "message": "no", "details": details })).unwrap()
    }

    #[test]
    fn a_webhook_that_says_too_many_requests_is_one_that_refuses() {
        let subject = Subject { plural: "pods", name: "web-1" };
        let busy = status(429, "TooManyRequests", &json!({ "retryAfterSeconds": 1 }));
        assert!(matches!(failure_of(subject, &busy), Failure::Throttled(Some(_))));
        let webhook = Status { message: "admission webhook \"slow.example.com\" denied the request: busy".into(), ..busy };
        assert!(matches!(failure_of(subject, &webhook), Failure::Refused { code: 429, certain: true, .. }));
    }

    #[test]
    fn what_a_webhook_says_of_the_very_object_is_no_word_about_it() {
        let subject = Subject { plural: "pods", name: "web-1" };
        let pod = json!({ "name": "web-1", "kind": "pods", "causes": [{ "reason": "FieldManagerConflict" }] });
        for (code, reason) in [(404, "NotFound"), (409, "Conflict"), (409, "AlreadyExists"), (403, "Forbidden"), (400, ""), (422, "Invalid")] {
            let message = "admission webhook \"cache.example.com\" denied the request: pods \"web-1\" not found".to_owned();
            let webhook = Status { message, ..status(code, reason, &pod) };
            assert_eq!(failure_of(subject, &webhook).undone(), Undone::Refused, "{code}: it was not done, and nothing is known of the pod");
        }
        let says = |message: &str| failure_of(subject, &Status { message: message.to_owned(), ..status(500, "InternalError", &pod) }).undone();
        assert_eq!(says("admission webhook \"cache.example.com\" denied the request: it failed"), Undone::Unknown);
        assert_eq!(says("admission webhook \"cache.example.com\" attempted to say much"), Undone::Unknown);
        assert_eq!(says("Internal error occurred: failed calling webhook \"cache.example.com\""), Undone::Unknown);
    }

    #[test]
    fn only_the_api_servers_own_word_about_the_very_object_is_an_answer() {
        let subject = Subject { plural: "pods", name: "web-1" };
        let pod = json!({ "name": "web-1", "kind": "pods" });
        let cases = [
            (status(404, "NotFound", &pod), Undone::Gone),
            (status(404, "NotFound", &json!(null)), Undone::Unknown),
            (status(404, "Failed to parse error data", &json!(null)), Undone::Unknown),
            (status(404, "NotFound", &json!({ "name": "web-2", "kind": "pods" })), Undone::Unknown),
            (status(404, "NotFound", &json!({ "name": "web-1", "kind": "namespaces" })), Undone::Unknown),
            (status(409, "Conflict", &pod), Undone::Changed),
            (status(409, "", &json!(null)), Undone::Unknown),
            (status(422, "Invalid", &json!({})), Undone::Refused),
            (status(422, "Failed to parse error data", &json!(null)), Undone::Unknown),
            (status(403, "Forbidden", &pod), Undone::Refused),
            (status(403, "Forbidden", &json!(null)), Undone::Unknown),
            (status(429, "TooManyRequests", &json!(null)), Undone::Unknown),
        ];
        for (status, undone) in cases {
            assert_eq!(failure_of(subject, &status).undone(), undone, "{status:?}");
        }
        let mut older = status(500, "", &json!(null));
        older.message = "failed to create typed patch object (a/web; apps/v1, Kind=Deployment): .spec.template.spec.x: field not declared in schema".into();
        assert_eq!(failure_of(subject, &older).undone(), Undone::Refused);
        for code in [400, 401, 405, 408, 410, 413, 500, 502, 503, 504] {
            assert_eq!(failure_of(subject, &status(code, "", &pod)).undone(), Undone::Unknown, "{code}");
        }
    }
}
