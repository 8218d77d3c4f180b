//! The operator's endpoints where somebody means harm, and its metrics where they are guarded.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, DeleteParams};
use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::arena::{Arena, PATIENCE};

/// How many descriptors the test leaves to everything else in its process.
const SPARE: usize = 2_000;

/// The most connections that this process can have open, and no more than the issue had.
fn many() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(SPARE).clamp(500, 7_195)
}

/// The most that was resident so far.
fn resident_kilobytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

/// Half of its memory's limit; this is the test's build, which takes more than the release.
const BOUND: u64 = 64 << 10;

#[tokio::test]
async fn floods_of_unfinished_requests_neither_fill_the_operator_nor_hold_up_its_probes() {
    let arena = Arena::new("doors").await;
    let health = arena.address(arena.operator(), "healthz").await;
    let mut flood = Vec::new();
    for _ in 0..many() {
        let mut stream = TcpStream::connect(&health).await.unwrap();
        // The first of them may be closed by now.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await;
        flood.push(stream);
    }
    let probe = async |path: &str| tokio::time::timeout(PATIENCE, arena.probe(path)).await.unwrap().0;
    assert_eq!(probe("healthz").await, "200");
    for path in ["healthz", "metrics"] {
        let address = arena.address(arena.operator(), path).await;
        for _ in 0..400 {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let header = [b"GET /healthz HTTP/1.1\r\nX-Large: ", &*vec![b'x'; 390 << 10]].concat();
            // It stops listening before the end.
            let _ = tokio::time::timeout(Duration::from_millis(5), stream.write_all(&header)).await;
            flood.push(stream);
        }
    }
    assert_eq!((probe("healthz").await, probe("metrics").await), ("200".to_owned(), "200".to_owned()));
    let resident = resident_kilobytes(arena.operator().pid());
    assert!(resident < BOUND, "{resident} kB");
    drop(flood);
    arena.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_answered_while_a_flood_goes_on() {
    let arena = Arena::new("doors").await;
    let address = arena.address(arena.operator(), "healthz").await;
    let target = address.clone();
    let flood = tokio::spawn(async move {
        let mut open = VecDeque::new();
        loop {
            let mut stream = TcpStream::connect(&target).await.unwrap();
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\n").await;
            open.push_back(stream);
            if open.len() > 300 {
                open.pop_front();
            }
        }
    });
    for _ in 0..50 {
        // As a kubelet does, from another address than the flood.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    flood.abort();
    arena.finish().await;
}

/// Asks for the metrics over TLS: the code and the body.
async fn scrape(address: &str, root: &CertificateDer<'static>, token: Option<&str>) -> anyhow::Result<(u16, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
    let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
    let mut stream = client.connect("localhost".try_into()?, TcpStream::connect(address).await?).await?;
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: operator\r\n{token}Connection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    ensure!(head.starts_with("HTTP/1.1 "), "{head}");
    Ok((head[9..12].parse()?, body.to_owned()))
}

/// Writes a new certificate where the operator finds it.
fn certificate(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.key"), signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), cert.pem()).unwrap();
    cert.der().clone()
}

#[tokio::test]
async fn guarded_metrics_are_told_to_those_whom_the_api_server_lets() {
    let mut arena = Arena::without_operator("metrics").await;
    let rbac = concat!(env!("CARGO_MANIFEST_DIR"), "/config/metrics-secure/rbac.yaml");
    arena.plane.kubectl(&["apply", "-f", rbac]).await.unwrap().succeeded().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = certificate(folder.path());
    arena.start_operator_with(&["--metrics-secure", "--metrics-cert-path", folder.path().to_str().unwrap()]);
    let address = arena.address(arena.operator(), "metrics").await;

    for account in ["scraper", "stranger"] {
        arena.kubectl(&["create", "serviceaccount", account]).await;
    }
    let (binding, scraper) = (format!("{}-scraper", arena.namespace), format!("--serviceaccount={}:scraper", arena.namespace));
    arena.kubectl(&["create", "clusterrolebinding", &binding, "--clusterrole=leadergroup-metrics-reader", &scraper]).await;
    let token = arena.kubectl(&["create", "token", "scraper"]).await.trim().to_owned();
    let stranger = arena.kubectl(&["create", "token", "stranger"]).await.trim().to_owned();

    assert_eq!(scrape(&address, &root, None).await.unwrap().0, 401);
    assert_eq!(scrape(&address, &root, Some("no-token-at-all")).await.unwrap().0, 401);
    let (code, why) = scrape(&address, &root, Some(&stranger)).await.unwrap();
    assert_eq!((code, &*why), (403, &*format!("Authorization denied for user system:serviceaccount:{}:stranger\n", arena.namespace)));
    let metrics = arena
        .until("the scraper reads the metrics", async || match scrape(&address, &root, Some(&token)).await {
            Ok((200, metrics)) => Ok(metrics),
            other => Err(format!("{other:?}")),
        })
        .await;
    assert!(metrics.contains("controller_runtime_active_workers"), "{metrics}");
    let (code, _) = arena.probe("healthz").await;
    assert_eq!(code, "200", "health needs no token");

    // A kubelet brings a new certificate into the folder.
    let root = certificate(folder.path());
    arena
        .until("the new certificate is shown", async || match scrape(&address, &root, Some(&token)).await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    Api::<ClusterRoleBinding>::all(arena.client.clone()).delete(&binding, &DeleteParams::default()).await.unwrap();
    let log = arena.operator().log();
    assert!(!log.contains(&token) && !log.contains(&stranger), "no token is logged");
    arena.finish().await;
}

#[tokio::test]
async fn who_may_not_ask_about_tokens_guards_the_metrics_from_everybody() {
    let mut arena = Arena::without_operator("metrics").await;
    arena.kubectl(&["create", "serviceaccount", "team"]).await;
    let namespace = arena.namespace.clone();
    let bind = ["create", "rolebinding", "team", "--clusterrole=leadergroup-operator", &format!("--serviceaccount={namespace}:team")];
    arena.kubectl(&bind).await;
    arena.use_account(&namespace, "team").await;
    let folder = tempfile::tempdir().unwrap();
    let root = certificate(folder.path());
    arena.start_operator_with(&["--metrics-secure", "--metrics-cert-path", folder.path().to_str().unwrap()]);
    let address = arena.address(arena.operator(), "metrics").await;
    let token = arena.kubectl(&["create", "token", "team"]).await.trim().to_owned();
    assert_eq!(scrape(&address, &root, Some(&token)).await.unwrap(), (500, "Authentication failed\n".to_owned()));
    let log = arena.operator().log();
    assert!(log.contains("does not say who may read the metrics") && log.contains("403") && !log.contains(&token), "{log}");
    arena.finish().await;
}

#[tokio::test]
async fn the_component_of_guarded_metrics_fits_the_manifests() {
    let arena = Arena::without_operator("component").await;
    let folder = tempfile::tempdir().unwrap();
    // kustomize takes relative paths only.
    let up = "../".repeat(folder.path().canonicalize().unwrap().components().count() - 1);
    let config = format!("{up}{}/config", env!("CARGO_MANIFEST_DIR").trim_start_matches('/'));
    let kustomization = format!("resources: [{config}]\ncomponents: [{config}/metrics-secure]\n");
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
    let built = arena.kubectl(&["kustomize", folder.path().to_str().unwrap()]).await;
    for expected in ["- --metrics-secure\n", "containerPort: 8443\n          name: metrics\n", "name: leadergroup-metrics-reader\n"] {
        assert!(built.contains(expected), "{expected:?} is not in\n{built}");
    }
    arena.plane.kubectl_with_input(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &built).await.unwrap().succeeded().unwrap();
    arena.finish().await;
}
