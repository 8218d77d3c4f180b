//! Logging, for both programs: what, how and where to. Nothing that a dependency logs may show the content of objects or
//! of answers, unless the user asks for that very module: a pod's environment or somebody's token would be in it.

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::{LogFilter, LogFormat, LogSettings};

/// Modules that log bodies, and what of them may be told: what cannot be decoded comes at WARN, errors with the API server's words at WARN and
/// below, a kubeconfig that cannot be read at TRACE.
const WITH_BODIES: [(&str, LevelFilter); 3] =
    [("kube_client::client", LevelFilter::OFF), ("kube_client::config", LevelFilter::DEBUG), ("kube_runtime::watcher", LevelFilter::OFF)];

/// Starts logging to standard error.
pub fn start(settings: &LogSettings) {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    subscriber(&settings.log_level, settings.log_format, colours, std::io::stderr).init();
}

fn subscriber(
    filter: &LogFilter,
    format: LogFormat,
    colours: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync + 'static {
    let silent: Vec<_> = WITH_BODIES.into_iter().filter(|(module, _)| !filter.names(module)).collect();
    let harmless = filter_fn(move |metadata| silent.iter().all(|(module, told)| metadata.target() != *module || metadata.level() <= told));
    // Where nobody reads them any more the work goes on: a complaint to standard error would end a thread.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => lines.with_ansi(colours).boxed(),
    };
    Registry::default().with(lines.with_filter(filter.filter().unwrap_or_default().and(harmless)))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use k8s_openapi::api::core::v1::Pod;
    use kube::Client;
    use kube::api::{Api, ListParams};
    use kube::client::Body;
    use kube::runtime::watcher;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged under this filter where the API server answers this.
    async fn logged(filter: &str, format: LogFormat, code: u16, answer: &'static str) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let _guard = tracing::subscriber::set_default(subscriber(&filter.parse().unwrap(), format, false, move || writer.clone()));
        let answers = tower::service_fn(move |_: http::Request<Body>| async move {
            Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(Body::from(answer.as_bytes().to_vec())).unwrap())
        });
        let pods: Api<Pod> = Api::namespaced(Client::new(answers, "default"), "default");
        let _span = tracing::info_span!("HTTP").entered();
        pods.list(&ListParams::default()).await.unwrap_err();
        let mut events = Box::pin(watcher(pods, watcher::Config::default()));
        for _ in 0..3 {
            let _ = futures::StreamExt::next(&mut events).await;
        }
        tracing::info!("the program's own words");
        let logged = captured.0.lock().unwrap().clone();
        String::from_utf8(logged).unwrap()
    }

    const UNREADABLE: &str = r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [{"spec": {"containers": [{"name": "s3cret", "env": 5}]}}]}"#;
    const FORBIDDEN: &str = r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "s3cret", "reason": "Forbidden", "code": 403}"#;

    #[tokio::test]
    async fn no_level_shows_the_content_of_objects_or_answers() {
        for format in [LogFormat::Text, LogFormat::Json] {
            for filter in ["info", "debug", "trace", "trace,kube_client=trace,kube_runtime=trace", "[HTTP]=trace"] {
                for (code, answer) in [(200, UNREADABLE), (403, FORBIDDEN), (500, "s3cret <html>")] {
                    let logged = logged(filter, format, code, answer).await;
                    assert!(!logged.contains("s3cret"), "{filter} {code}: {logged}");
                    assert!(logged.contains("the program's own words"), "{filter} {code}: {logged}");
                }
            }
        }
    }

    #[tokio::test]
    async fn who_names_the_very_module_sees_what_it_logs() {
        let logged = logged("info,kube_client::client=warn", LogFormat::Text, 200, UNREADABLE).await;
        assert!(logged.contains("s3cret"), "the test would not see a body: {logged}");
    }
}
