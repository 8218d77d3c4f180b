//! Who may read the metrics: each request's token is authenticated by a TokenReview and authorized by a SubjectAccessReview
//! of the path `/metrics` with the verb `get`, as controller-runtime's filter does it. What is asked again and when is
//! decided in `reviews`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::elector::clock::{Clock, SystemClock};

use super::reviews::{Reviews, Verdict};

/// Questions under way at once about those who were allowed before, and about strangers.
const FRIENDS: usize = 4;
const STRANGERS: usize = 2;
/// For one question, both of its reviews.
const QUESTION: Duration = Duration::from_secs(10);
/// Longest name of a user that is repeated.
const NAME: usize = 256;

/// Why a question got no answer: for the client, who may be anybody, and for the log.
#[derive(Debug)]
struct Failure {
    told: String,
    problem: String,
}

type Ask = dyn Fn(String) -> BoxFuture<'static, Result<Verdict, Failure>> + Send + Sync;

struct Access {
    ask: Box<Ask>,
    clock: Box<dyn Clock>,
    reviews: Mutex<Reviews>,
    friends: Semaphore,
    strangers: Semaphore,
}

/// Lets through to these endpoints whom the API server lets.
pub fn guarded(router: Router, client: Client) -> Router {
    behind(router, Access::new(move |token| Box::pin(ask(client.clone(), token)), SystemClock))
}

fn behind(router: Router, access: Access) -> Router {
    router.route_layer(from_fn_with_state(Arc::new(access), check))
}

impl Access {
    fn new(ask: impl Fn(String) -> BoxFuture<'static, Result<Verdict, Failure>> + Send + Sync + 'static, clock: impl Clock + 'static) -> Self {
        let reviews = Mutex::new(Reviews::new(clock.now()));
        Self { ask: Box::new(ask), clock: Box::new(clock), reviews, friends: Semaphore::new(FRIENDS), strangers: Semaphore::new(STRANGERS) }
    }

    fn reviews(&self) -> MutexGuard<'_, Reviews> {
        self.reviews.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, token: &str) -> Option<Verdict> {
        self.reviews().verdict(token, self.clock.now())
    }

    /// `Err` is the answer of whoever is not let through.
    async fn verdict(&self, token: &str) -> Result<Verdict, Response> {
        if let Some(verdict) = self.known(token) {
            return Ok(verdict);
        }
        let friend = self.reviews().is_friend(token);
        let permit =
            if friend { self.friends.acquire().await.ok() } else { self.strangers.try_acquire().ok().filter(|_| self.reviews().may_ask(self.clock.now())) };
        if permit.is_none() {
            let why = "too many tokens that are not known yet; try again in a moment\n";
            return Err((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response());
        }
        // Another request with this token may have had it asked meanwhile.
        if let Some(verdict) = self.known(token) {
            return Ok(verdict);
        }
        let asked = timeout(QUESTION, (self.ask)(token.to_owned())).await;
        let asked = asked.unwrap_or_else(|_| Err(Failure { told: "Authentication failed".to_owned(), problem: "no answer in time".to_owned() }));
        match asked {
            Ok(verdict) => {
                self.reviews().learn(token, verdict.clone(), self.clock.now());
                Ok(verdict)
            }
            Err(Failure { told, problem }) => {
                warn!(%problem, "The API server does not say who may read the metrics");
                Err((StatusCode::INTERNAL_SERVER_ERROR, told + "\n").into_response())
            }
        }
    }
}

async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let verdict = match bearer(request.headers()) {
        Some(token) => access.verdict(token).await,
        None => Ok(Verdict::Unauthenticated),
    };
    match verdict {
        Ok(Verdict::Allowed) => next.run(request).await,
        Ok(Verdict::Unauthenticated) => {
            let why = "Unauthorized: send the token of an account that may get the path /metrics, as Authorization: Bearer TOKEN\n";
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], why).into_response()
        }
        Ok(Verdict::Denied(user)) => {
            debug!(user, "Metrics were denied");
            (StatusCode::FORBIDDEN, format!("Authorization denied for user {user}\n")).into_response()
        }
        Err(answer) => answer,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

async fn ask(client: Client, token: String) -> Result<Verdict, Failure> {
    let review = TokenReview { spec: TokenReviewSpec { token, audiences: None }, ..TokenReview::default() };
    let reviewed = Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    let reviewed = reviewed.map_err(|problem| Failure { told: "Authentication failed".to_owned(), problem: said(&problem) })?;
    let Some((Some(true), Some(user))) = reviewed.status.map(|status| (status.authenticated, status.user)) else {
        return Ok(Verdict::Unauthenticated);
    };
    let name: String = user.username.clone().unwrap_or_default().chars().take(NAME).collect();
    let reviewed = Api::<SubjectAccessReview>::all(client).create(&PostParams::default(), &of_metrics(user)).await;
    let reviewed = reviewed.map_err(|problem| Failure { told: format!("Authorization for user {name} failed"), problem: said(&problem) })?;
    let allowed = reviewed.status.is_some_and(|status| status.allowed && !status.denied.unwrap_or_default());
    Ok(if allowed { Verdict::Allowed } else { Verdict::Denied(name) })
}

fn of_metrics(user: UserInfo) -> SubjectAccessReview {
    let path = NonResourceAttributes { path: Some("/metrics".to_owned()), verb: Some("get".to_owned()) };
    let spec = SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        non_resource_attributes: Some(path),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

/// What went wrong, without what was sent or answered: both may hold a token.
fn said(problem: &kube::Error) -> String {
    match problem {
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        kube::Error::SerdeError(_) => "an answer that cannot be read".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use futures::FutureExt;
    use jiff::Timestamp;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;
    use crate::elector::clock::Instant;

    /// A clock that a test sets.
    #[derive(Clone, Default)]
    struct Hand(Arc<Mutex<Duration>>);

    impl Clock for Hand {
        fn now(&self) -> Instant {
            Instant(*self.0.lock().unwrap())
        }

        fn wall(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            std::future::pending().boxed()
        }
    }

    /// Metrics of which the token "good" may read all; how often was asked, and the clock.
    fn metrics() -> (Router, Arc<AtomicUsize>, Hand) {
        let (asked, clock) = (Arc::new(AtomicUsize::new(0)), Hand::default());
        let count = asked.clone();
        let ask = move |token: String| {
            count.fetch_add(1, Ordering::Relaxed);
            let verdict = match &*token {
                "good" => Ok(Verdict::Allowed),
                "other" => Ok(Verdict::Denied("system:serviceaccount:a:b".to_owned())),
                "down" => Err(Failure { told: "Authentication failed".to_owned(), problem: "503".to_owned() }),
                _ => Ok(Verdict::Unauthenticated),
            };
            async { verdict }.boxed()
        };
        (behind(Router::new().route("/metrics", get(async || "figures")), Access::new(ask, clock.clone())), asked, clock)
    }

    async fn get_with(router: &Router, authorization: Option<&str>) -> (u16, String) {
        let mut request = axum::http::Request::get("/metrics");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        (code, String::from_utf8(to_bytes(answer.into_body(), 1000).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_whom_the_api_server_allows_reads_the_metrics() {
        let (router, asked, _) = metrics();
        for nothing in [None, Some(""), Some("good"), Some("Basic good"), Some("Bearer"), Some("Bearer  ")] {
            assert_eq!(get_with(&router, nothing).await.0, 401, "{nothing:?}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0, "the API server is asked about tokens only");
        assert_eq!(get_with(&router, Some("Bearer good")).await, (200, "figures".to_owned()));
        assert_eq!(get_with(&router, Some("bearer good")).await.0, 200);
        assert_eq!(get_with(&router, Some("Bearer none")).await.0, 401);
        assert_eq!(get_with(&router, Some("Bearer other")).await, (403, "Authorization denied for user system:serviceaccount:a:b\n".to_owned()));
        assert_eq!(get_with(&router, Some("Bearer down")).await, (500, "Authentication failed\n".to_owned()));
    }

    #[tokio::test]
    async fn a_flood_of_bad_tokens_costs_a_few_questions_and_the_scraper_nothing() {
        let (router, asked, clock) = metrics();
        assert_eq!(get_with(&router, Some("Bearer good")).await.0, 200);
        for number in 0..1000 {
            assert!(matches!(get_with(&router, Some(&format!("Bearer {number}"))).await.0, 401 | 503));
        }
        assert!(asked.load(Ordering::Relaxed) <= 21, "{asked:?}");
        // Its answer holds no more, and the budget is spent again.
        *clock.0.lock().unwrap() = Duration::from_secs(3600);
        for number in 0..100 {
            get_with(&router, Some(&format!("Bearer {number}"))).await;
        }
        assert_eq!(get_with(&router, Some("Bearer nobody")).await.0, 503);
        assert_eq!(get_with(&router, Some("Bearer good")).await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_get_no_answer_are_given_up_and_only_few_wait_at_once() {
        let asking = Arc::new(Notify::new());
        let told = asking.clone();
        let ask = move |_| {
            told.notify_one();
            std::future::pending().boxed()
        };
        let router = behind(Router::new().route("/metrics", get(async || "figures")), Access::new(ask, Hand::default()));
        let mut waiting = Vec::new();
        for number in 0..STRANGERS {
            let router = router.clone();
            waiting.push(tokio::spawn(async move { get_with(&router, Some(&format!("Bearer {number}"))).await }));
            asking.notified().await;
        }
        assert_eq!(get_with(&router, Some("Bearer another")).await.0, 503);
        for answer in waiting {
            assert_eq!(answer.await.unwrap().0, 500);
        }
    }
}
