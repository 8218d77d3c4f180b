//! The application: says its pod's name, its term and whether it thinks that it leads, and fails as it is told to.
//!
//! What it knows of its leadership is what any pod can know without rights: files of a downward API volume.
//!
//!     GET /              POD TERM LEADS, such as "web-79dc-c22md 3 true"; the term is - where there is none
//!     GET /readyz        200, or 503 after /tell/unready until /tell/ready
//!     GET /livez         200, or 503 after /tell/sick
//!     GET /tell/hang     from now on nothing is answered, probes included
//!     GET /tell/exit     the process ends, with status 1
//!
//! On SIGTERM it ends at once: what keeps it serving for a while longer is its pod's preStop hook.

use std::path::Path;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// The downward API volume of its pod.
const KNOWN: &str = "/pod";

#[derive(Default)]
struct State {
    unready: AtomicBool,
    sick: AtomicBool,
    hangs: AtomicBool,
}

#[tokio::main(flavor = "current_thread")]
pub(super) async fn run() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(("0.0.0.0", 8080)).await?;
    let state = Arc::<State>::default();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            accepted = listener.accept() => {
                let (stream, state) = (accepted?.0, state.clone());
                tokio::spawn(async move {
                    // A client that went away needs no answer.
                    let _ = answer(stream, &state).await;
                });
            }
        }
    }
}

async fn answer(mut stream: TcpStream, state: &State) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    if state.hangs.load(Ordering::Relaxed) {
        return std::future::pending().await;
    }
    let head = String::from_utf8_lossy(&head);
    let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
        "/" => ("200 OK", format!("{} {} {}\n", known("name"), known("term"), known("role") == "leader")),
        "/readyz" => health(&state.unready),
        "/livez" => health(&state.sick),
        "/tell/unready" => told(&state.unready, true),
        "/tell/ready" => told(&state.unready, false),
        "/tell/sick" => told(&state.sick, true),
        "/tell/hang" => told(&state.hangs, true),
        "/tell/exit" => exit(1),
        _ => ("404 Not Found", "no such page\n".to_owned()),
    };
    let length = body.len();
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

fn health(fails: &AtomicBool) -> (&'static str, String) {
    if fails.load(Ordering::Relaxed) { ("503 Service Unavailable", "failing\n".to_owned()) } else { ("200 OK", "ok\n".to_owned()) }
}

fn told(what: &AtomicBool, to: bool) -> (&'static str, String) {
    what.store(to, Ordering::Relaxed);
    ("200 OK", "so be it\n".to_owned())
}

/// What the pod's files say of it now.
fn known(file: &str) -> String {
    let text = std::fs::read_to_string(Path::new(KNOWN).join(file)).unwrap_or_default();
    if text.trim().is_empty() { "-".to_owned() } else { text.trim().to_owned() }
}
