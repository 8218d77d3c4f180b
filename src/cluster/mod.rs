//! The cluster: how it is found, clients for it, and whether it answers.
//!
//! Clients live longer than credentials. Where the API server refuses them, or they refuse its certificate, the files are read
//! again, and every client goes on with what they say now: the next request, and a watch when it is opened next. What works
//! meanwhile is left alone. No request is repeated here, not even one that was refused before anything was done: its caller
//! knows whether it is still wanted, and asks again anyway.

mod connection;
mod contact;
mod credentials;
mod overload;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use tokio::sync::{Mutex, watch};
use tracing::{info, warn};

use crate::elector::clock::Stopwatch;
use crate::elector::without_retries;
use crate::settings::{self, ClusterSettings};

pub use connection::client;
pub use contact::Contact;
use credentials::Looked;

/// Credentials are not read again sooner: a plugin may be behind them.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a request waits for credentials that are being read.
const WAIT: Duration = Duration::from_secs(2);

/// How long a watch may take to be opened, or a page of its list to come, until its first bytes. Other callers have deadlines of their own,
/// below the other one.
pub const OPENING: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(300);

/// How long an answer about a namespace is waited for, and the longest pause before it is asked about again.
const QUESTION: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One cluster, and all that this process has to do with it.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    settings: ClusterSettings,
    known: watch::Sender<Known>,
    contact: Contact,
    agent: Option<HeaderValue>,
}

/// How the cluster is reached, as last read.
struct Known {
    /// Counts what was read.
    edition: u64,
    config: Config,
    reading: bool,
    read: Option<Stopwatch>,
}

/// What a client of the cluster passes its requests to.
struct Passing {
    cluster: Cluster,
    agent: Option<HeaderValue>,
    /// Told of every answer.
    beat: Box<dyn Fn(StatusCode) + Send + Sync>,
    /// How long the beginning of an answer is waited for, where no caller does that.
    patience: Duration,
    /// The client of the newest credentials, and their edition.
    newest: Mutex<(u64, Client)>,
}

impl Cluster {
    /// The cluster, found as kubectl finds it.
    ///
    /// # Errors
    /// Says how to name one.
    /// `program`: as which the API server's log names this process, beside its version.
    pub async fn find(settings: &ClusterSettings, program: &'static str) -> Result<Self, String> {
        let config = find(settings)
            .await
            .map_err(|problem| format!("No cluster was found: {problem}. Give --kubeconfig, set KUBECONFIG, or run inside a pod with a service account"))?;
        let contact = Contact::new(shown(&config.cluster_url));
        let known = watch::Sender::new(Known { edition: 0, config, reading: false, read: None });
        Ok(Self(Arc::new(Shared { settings: settings.clone(), known, contact, agent: agent(program) })))
    }

    pub fn url(&self) -> String {
        shown(&self.0.known.borrow().config.cluster_url)
    }

    /// Whether it answers any of the clients.
    pub fn contact(&self) -> Contact {
        self.0.contact.clone()
    }

    /// A client with connections of its own.
    pub fn client(&self) -> Result<Client, kube::Error> {
        self.client_that(self.0.agent.clone(), LONGEST, |_| {})
    }

    /// One for elections alone.
    pub fn client_for_elections(&self) -> Result<Client, kube::Error> {
        self.client_that(agent_of_elections(self.0.agent.as_ref()), LONGEST, |_| {})
    }

    /// One for a watch, that calls `beat` with the code of every answer.
    pub fn client_with_beat(&self, beat: impl Fn(StatusCode) + Send + Sync + 'static) -> Result<Client, kube::Error> {
        self.client_that(self.0.agent.clone(), OPENING, beat)
    }

    fn client_that(&self, agent: Option<HeaderValue>, patience: Duration, beat: impl Fn(StatusCode) + Send + Sync + 'static) -> Result<Client, kube::Error> {
        let (edition, config) = {
            let known = self.0.known.borrow();
            (known.edition, known.config.clone())
        };
        let namespace = config.default_namespace.clone();
        let client = build(config, agent.as_ref())?;
        let passing = Arc::new(Passing { cluster: self.clone(), agent, beat: Box::new(beat), patience, newest: Mutex::new((edition, client)) });
        let service = tower::service_fn(move |request| {
            let passing = passing.clone();
            async move { passing.pass(request).await }
        });
        Ok(Client::new(service, namespace))
    }

    /// Whether there is no such namespace. Asks until the API server answers; who may not know it is told that there is.
    pub async fn lacks_namespace(&self, name: &str) -> bool {
        let Ok(client) = self.client() else { return false };
        let namespaces: Api<Namespace> = Api::all(client);
        let mut pause = Duration::from_secs(1);
        loop {
            match tokio::time::timeout(QUESTION, namespaces.get_metadata(name)).await {
                Ok(Ok(_)) => return false,
                // In the API server's own words: what is on the way to it may answer 404, too.
                Ok(Err(kube::Error::Api(status))) if status.reason == "NotFound" => return true,
                Ok(Err(kube::Error::Api(status))) if status.reason == "Forbidden" => return false,
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Credentials of this edition were refused, or the certificate was that they are to verify.
    fn distrust(&self, edition: u64, why: &str) {
        let begins = self.0.known.send_if_modified(|known| {
            let due = known.edition == edition && !known.reading && known.read.is_none_or(|read| read.elapsed() >= PAUSE);
            if due {
                (known.reading, known.read) = (true, Some(Stopwatch::start()));
            }
            due
        });
        if begins {
            warn!(why, "Credentials of the API server are read again");
            let cluster = self.clone();
            tokio::spawn(async move { cluster.read_again().await });
        }
    }

    async fn read_again(&self) {
        let found = find(&self.0.settings).await;
        self.0.known.send_modify(|known| {
            known.reading = false;
            match found {
                // Another cluster has other objects under the same names.
                Ok(config) if config.cluster_url != known.config.cluster_url => {
                    warn!(
                        before = shown(&known.config.cluster_url),
                        now = shown(&config.cluster_url),
                        "The configuration names another cluster now; start anew to go there"
                    );
                }
                Ok(config) => {
                    known.config = config;
                    known.edition += 1;
                    info!("Credentials of the API server were read again");
                }
                Err(problem) => warn!(problem, "Credentials of the API server cannot be read again, so those from before are kept"),
            }
        });
    }
}

impl Passing {
    async fn pass(&self, request: Request<Body>) -> Result<Response<Looked>, kube::Error> {
        let (edition, client) = self.newest().await;
        let sent = tokio::time::timeout(self.patience, client.send(request)).await;
        match sent.unwrap_or_else(|_| Err(kube::Error::Service(format!("no answer within {} s", self.patience.as_secs()).into()))) {
            Ok(answer) => {
                (self.beat)(answer.status());
                let (answer, refused) = credentials::look(overload::as_status(answer)).await;
                if refused {
                    self.cluster.0.contact.failed("it does not accept the credentials".to_owned());
                    self.cluster.distrust(edition, "the API server does not accept them");
                } else {
                    self.cluster.0.contact.answered(answer.status());
                }
                Ok(answer)
            }
            Err(error) => {
                let about_credentials = is_about_credentials(&error);
                let error = secrets::without(error);
                let words = contact::causes(&error);
                if about_credentials {
                    self.cluster.distrust(edition, &words);
                }
                self.cluster.0.contact.failed(words);
                Err(error)
            }
        }
    }

    async fn newest(&self) -> (u64, Client) {
        let mut changes = self.cluster.0.known.subscribe();
        // Where that takes too long, those from before may do.
        let _ = tokio::time::timeout(WAIT, changes.wait_for(|known| !known.reading)).await;
        let mut newest = self.newest.lock().await;
        let newer = {
            let known = changes.borrow();
            (known.edition != newest.0).then(|| (known.edition, known.config.clone()))
        };
        if let Some((edition, config)) = newer {
            let agent = self.agent.clone();
            newest.0 = edition;
            // It may run a plugin, and that may hang.
            let built = tokio::task::spawn_blocking(move || build(config, agent.as_ref()));
            let problem = match tokio::time::timeout(WAIT, built).await {
                Ok(Ok(Ok(client))) => {
                    newest.1 = client;
                    return newest.clone();
                }
                Ok(Ok(Err(error))) => contact::causes(&error),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("its credentials take longer than {WAIT:?}"),
            };
            warn!(problem, "With what was read there is no client, so the one from before is kept");
        }
        newest.clone()
    }
}

/// `PROGRAM/VERSION`, as the API server's log tells who has asked.
fn agent(program: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{program}/{}", env!("CARGO_PKG_VERSION"))).ok()
}

fn agent_of_elections(agent: Option<&HeaderValue>) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{} leader-election", agent?.to_str().ok()?)).ok()
}

fn build(config: Config, agent: Option<&HeaderValue>) -> Result<Client, kube::Error> {
    let mut config = without_retries(config);
    config.headers.extend(agent.map(|agent| (USER_AGENT, agent.clone())));
    client(config).map_err(secrets::without)
}

async fn find(settings: &ClusterSettings) -> Result<Config, String> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let words = |problem: KubeconfigError| secrets::told(&problem);
    let config = match &settings.kubeconfig {
        Some(file) => match Kubeconfig::read_from(file) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(words),
            Err(problem) => Err(words(problem)),
        },
        None if settings.context.is_some() => Config::from_kubeconfig(&options).await.map_err(words),
        None => Config::infer().await.map_err(|problem| secrets::told(&problem)),
    };
    let mut config = config?;
    // As Go takes it: what has no scheme speaks HTTP.
    if let Some(proxy) = &config.proxy_url
        && proxy.scheme().is_none()
        && let Ok(proxy) = format!("http://{proxy}").parse()
    {
        config.proxy_url = Some(proxy);
    }
    // kube asks whether the proxy itself is to be reached without one.
    if config.proxy_url.is_some() && config.cluster_url.host().is_some_and(settings::without_proxy) {
        config.proxy_url = None;
    }
    Ok(config)
}

/// Without what stands before the host, which may be a password.
fn shown(url: &Uri) -> String {
    let user = url.authority().and_then(|it| it.as_str().rsplit_once('@'));
    user.map_or_else(|| url.to_string(), |(user, _)| url.to_string().replacen(&format!("{user}@"), "", 1))
}

/// Whether other credentials, or another bundle of certificates, might help.
fn is_about_credentials(error: &kube::Error) -> bool {
    if matches!(error, kube::Error::Auth(_)) {
        return true;
    }
    secrets::chain(error).any(<dyn std::error::Error>::is::<rustls::Error>)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_named_without_a_password() {
        for (url, told) in [("https://user:pw@host:6443/path", "https://host:6443/path"), ("https://[::1]:6443", "https://[::1]:6443/")] {
            assert_eq!(shown(&url.parse().unwrap()), told);
        }
    }

    fn cluster() -> Cluster {
        let config = Config::new("https://cluster/".parse().unwrap());
        let settings = ClusterSettings { kubeconfig: Some("/nowhere".into()), ..ClusterSettings::default() };
        let known = watch::Sender::new(Known { edition: 0, config, reading: false, read: None });
        Cluster(Arc::new(Shared { settings, known, contact: Contact::new("https://cluster/".to_owned()), agent: None }))
    }

    /// What is known of a cluster after it has answered 401 with this Status, and whether the answer counts as one.
    async fn answered(status: serde_json::Value) -> (Option<Stopwatch>, bool) {
        let cluster = cluster();
        let body = status.to_string().into_bytes();
        let says = tower::service_fn(move |_: Request<Body>| {
            let answer = Response::builder().status(401).body(Body::from(body.clone())).unwrap();
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        let newest = Mutex::new((0, Client::new(says, "default")));
        let passing = Passing { cluster: cluster.clone(), agent: None, beat: Box::new(|_| {}), patience: LONGEST, newest };
        tokio::time::advance(Duration::from_secs(60)).await;
        passing.pass(Request::new(Body::empty())).await.unwrap();
        let read = cluster.0.known.borrow().read;
        (read, cluster.contact().check(Duration::ZERO).is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn who_denies_a_write_has_no_credentials_read_again_and_has_answered() {
        let refused = json!({ "kind": "Status", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401 });
        let (read, contact) = answered(refused).await;
        assert!(read.is_some() && !contact);
        let denied = json!({
            "kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401, "details": { "name": "web-1", "kind": "pods" },
            "message": "pods \"web-1\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        });
        let (read, contact) = answered(denied).await;
        assert!(read.is_none() && contact);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_whose_answer_does_not_begin_is_given_up_before_it_counts_as_hanging() {
        let silent = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::convert::Infallible>>());
        let newest = Mutex::new((0, Client::new(silent, "default")));
        let passing = Passing { cluster: cluster(), agent: None, beat: Box::new(|_| {}), patience: OPENING, newest };
        let began = Stopwatch::start();
        assert!(passing.pass(Request::new(Body::empty())).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    }
}
