//! An admission webhook that answers as a test tells it: late, with an error, or never. It runs beside the API server of this
//! machine, and knows nothing of what it is asked.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What it says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Yes, after so long.
    AllowedAfter(Duration),
    /// No, with this HTTP code.
    Refused(u16),
    /// Nothing, ever.
    Silence,
}

/// A running webhook; it ends when it is dropped.
pub(crate) struct Webhook {
    port: u16,
    authority: String,
    serving: JoinHandle<()>,
}

impl Webhook {
    pub(crate) async fn start(verdict: Verdict) -> anyhow::Result<Self> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let chain = vec![CertificateDer::from(cert.der().to_vec())];
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let serving = tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                if let Verdict::Silence = verdict {
                    silent.push(connection);
                } else {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move { serve(acceptor, connection, verdict).await });
                }
            }
        });
        Ok(Self { port, authority: cert.pem(), serving })
    }

    /// Its configuration, for one namespace: what `rule` says goes through it. `failure_policy` counts where it does not answer.
    pub(crate) fn configuration(&self, name: &str, namespace: &str, rule: &Value, failure_policy: &str, timeout_seconds: u32) -> String {
        use k8s_openapi::ByteString;
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": failure_policy, "timeoutSeconds": timeout_seconds,
                "clientConfig": { "url": format!("https://127.0.0.1:{}/", self.port), "caBundle": ByteString(self.authority.clone().into_bytes()) },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                "rules": [rule],
            }],
        })
        .to_string()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One connection: request after request.
async fn serve(acceptor: TlsAcceptor, connection: TcpStream, verdict: Verdict) -> anyhow::Result<()> {
    let mut stream = BufReader::new(acceptor.accept(connection).await?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                _ if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let review: Value = serde_json::from_slice(&body)?;
        let mut response = json!({ "uid": review["request"]["uid"], "allowed": true });
        match verdict {
            Verdict::AllowedAfter(wait) => tokio::time::sleep(wait).await,
            Verdict::Refused(code) => {
                response["allowed"] = json!(false);
                response["status"] = json!({ "code": code, "message": "the webhook says no" });
            }
            Verdict::Silence => {}
        }
        let answer = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).await?;
        stream.flush().await?;
    }
}
