//! How connections are let in and served, within limits: nothing that comes from outside may hold this process up, fill it
//! or starve the next who asks. What is served is others' business.
//!
//! Each server has guests, limits and a task of its own, so a flood of one leaves the others alone.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::Service;
use tracing::{debug, warn};

use crate::elector::clock::Stopwatch;

use super::guests::{GUESTS, Guest, Guests, Stay};
use super::patience::Patient;

/// For a request's head, for the TLS handshake, and between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// Of a head, whole: tokens are the longest that is sent here.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// For a write that gets nothing off.
const WRITE: Duration = Duration::from_secs(10);
/// For a connection that is no stream.
const AGE: Duration = Duration::from_secs(300);
/// For what is under way, at the end of a connection or of the server.
const FAREWELL: Duration = Duration::from_secs(1);
/// After an accept that failed for want of something, such as descriptors.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two log lines about the same.
const QUIET: Duration = Duration::from_secs(60);

/// Where connections come from.
pub trait Door: Send {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Door for TcpListener {
    type Io = TcpStream;

    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        TcpListener::accept(self)
    }
}

/// Serves until `shutdown` completes, and what is under way then for a moment more.
pub async fn serve(mut door: impl Door, router: Router, tls: Option<TlsAcceptor>, shutdown: impl Future<Output = ()> + Send) {
    let guests = Guests::default();
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown.fuse());
    let (mut told_full, mut told_failed) = (Seldom::default(), Seldom::default());
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = door.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((io, address)) => {
                let (stay, full) = guests.enter(address.ip());
                if full && told_full.now() {
                    warn!(limit = GUESTS, "More connections than are served at once: the oldest of whoever has most are closed");
                }
                connections.spawn(receive(io, stay, router.clone(), tls.clone(), stopped.clone()));
                // It is looked at before the next comes in, which may need its place.
                yield_now().await;
            }
            Err(problem) if is_of_one_connection(&problem) => debug!(%problem, "A connection ended before it was accepted"),
            Err(problem) => {
                if told_failed.now() {
                    warn!(%problem, "Connections cannot be accepted");
                }
                guests.make_room();
                tokio::select! {
                    () = &mut shutdown => break,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
    drop((door, stop));
    let all = async { while connections.join_next().await.is_some() {} };
    // Each sees to this by itself; the set ends whatever does not.
    let _ = timeout(2 * FAREWELL, all).await;
}

fn is_of_one_connection(problem: &io::Error) -> bool {
    matches!(problem.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Says the same no more than once in a while.
#[derive(Default)]
struct Seldom(Option<Stopwatch>);

impl Seldom {
    fn now(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= QUIET);
        if due {
            self.0 = Some(Stopwatch::start());
        }
        due
    }
}

/// One connection, from its first byte to its end.
async fn receive(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut stay: Stay,
    router: Router,
    tls: Option<TlsAcceptor>,
    stopped: watch::Receiver<()>,
) {
    let io = Patient::new(io, WRITE);
    let Some(tls) = tls else { return attend(io, stay, router, stopped).await };
    let mut stop = stopped.clone();
    let handshake = tokio::select! {
        handshake = timeout(HEAD, tls.accept(io)) => handshake,
        _ = &mut stay.leave => return,
        _ = stop.changed() => return,
    };
    match handshake {
        Ok(Ok(io)) => attend(io, stay, router, stopped).await,
        Ok(Err(problem)) => debug!(%problem, "A TLS handshake failed"),
        Err(_) => debug!("A TLS handshake took too long"),
    }
}

async fn attend(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, mut stay: Stay, router: Router, mut stopped: watch::Receiver<()>) {
    let guest = stay.guest.clone();
    let service = service_fn(move |request| answer(request, guest.clone(), router.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
    let mut old = pin!(sleep(AGE));
    let mut farewell = pin!(sleep(AGE + FAREWELL));
    let mut closing = false;
    loop {
        let close = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(problem) = ended {
                    debug!(%problem, "A connection failed");
                }
                return;
            }
            _ = &mut stay.leave => return,
            _ = stopped.changed(), if !closing => true,
            () = &mut old, if !closing && !old.is_elapsed() => !stay.guest.is_streaming(),
            () = &mut farewell, if closing => return,
        };
        if close {
            closing = true;
            connection.as_mut().graceful_shutdown();
            farewell.set(sleep(FAREWELL));
        }
    }
}

async fn answer(mut request: Request<Incoming>, guest: Guest, mut router: Router) -> Result<Response<Body>, Infallible> {
    guest.has_asked();
    let response = if request.body().size_hint().exact() == Some(0) {
        request.extensions_mut().insert(guest.clone());
        router.call(request).await?
    } else {
        (StatusCode::PAYLOAD_TOO_LARGE, [(CONNECTION, "close")], "no request here has a body\n").into_response()
    };
    guest.is_answered(response.body().size_hint().exact().unwrap_or_default());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Bytes;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::{Notify, mpsc};
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    /// Hands out what a test puts in.
    struct Scripted(mpsc::Receiver<io::Result<(DuplexStream, SocketAddr)>>);

    impl Door for Scripted {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
            match self.0.recv().await {
                Some(accepted) => accepted,
                None => std::future::pending().await,
            }
        }
    }

    struct Served {
        door: mpsc::Sender<io::Result<(DuplexStream, SocketAddr)>>,
        stop: Arc<Notify>,
        task: JoinHandle<()>,
    }

    const LARGE: usize = 1 << 20;

    fn served(tls: Option<TlsAcceptor>) -> Served {
        let (door, accepted) = mpsc::channel(1);
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/large", get(async || Bytes::from(vec![b'x'; LARGE])))
            .route("/slow", get(async || sleep(FAREWELL / 2).await))
            .route("/never", get(std::future::pending::<()>));
        let task = tokio::spawn(async move { serve(Scripted(accepted), router, tls, stopped.notified()).await });
        Served { door, stop, task }
    }

    impl Served {
        async fn connect(&self, address: u8) -> DuplexStream {
            let (client, server) = duplex(4096);
            self.door.send(Ok((server, ([10, 0, 0, address], 1).into()))).await.unwrap();
            client
        }

        async fn send(&self, address: u8, bytes: &[u8]) -> DuplexStream {
            let mut client = self.connect(address).await;
            client.write_all(bytes).await.unwrap();
            client
        }
    }

    /// All that still comes.
    async fn rest(mut client: DuplexStream) -> String {
        let mut bytes = Vec::new();
        let _ = client.read_to_end(&mut bytes).await;
        String::from_utf8(bytes).unwrap()
    }

    const PROBE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_probe_gets_through_at_once_whatever_waits_unfinished() {
        let served = served(None);
        let began = Stopwatch::start();
        let mut flood = Vec::new();
        for number in 0..7_195_u32 {
            let half = [b"GET / HTTP/1.1\r\nX-Large: ", &*vec![b'x'; 2000]].concat();
            flood.push(served.send(u8::try_from(number % 250).unwrap(), &half).await);
        }
        let answer = rest(served.send(251, PROBE).await).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
        assert!(began.elapsed() < Duration::from_millis(10), "{:?}", began.elapsed());
        drop(flood);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_finished_is_given_up() {
        let served = served(None);
        for half in [&b""[..], b"GET /", b"GET / HTTP/1.1\r\nX-A: "] {
            let began = Stopwatch::start();
            rest(served.send(1, half).await).await;
            assert!(began.elapsed() >= HEAD && began.elapsed() < 2 * HEAD, "{:?}", began.elapsed());
        }
        let began = Stopwatch::start();
        let answer = rest(served.send(1, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
        assert!(answer.ends_with("ok"), "{answer}");
        assert!(began.elapsed() >= HEAD && began.elapsed() < 2 * HEAD, "one that asks nothing more: {:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn large_heads_and_bodies_are_refused() {
        let served = served(None);
        let mut client = served.connect(1).await;
        let head = [b"GET / HTTP/1.1\r\nX-Large: ", &*vec![b'x'; 4 * HEAD_BYTES]].concat();
        let _ = client.write_all(&head).await;
        assert!(rest(client).await.starts_with("HTTP/1.1 431"));
        let many = "X-A: a\r\n".repeat(HEADERS + 1);
        assert!(rest(served.send(1, format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).await).await.starts_with("HTTP/1.1 431"));
        for body in ["Content-Length: 5\r\n\r\nhello", "Content-Length: 1000000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\n"] {
            let began = Stopwatch::start();
            let answer = rest(served.send(1, format!("GET / HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).await).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
            assert!(began.elapsed() < FAREWELL, "nobody waits for a body: {:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_the_answer_is_cut_off() {
        let served = served(None);
        let client = served.send(1, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        sleep(WRITE + FAREWELL).await;
        let read = rest(client).await.len();
        assert!(read < LARGE, "{read} bytes came after all");
        let began = Stopwatch::start();
        let answer = rest(served.send(1, b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n").await).await;
        assert!(answer.len() > LARGE && began.elapsed() < WRITE, "who reads has all of it");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_does_not_last_for_ever() {
        let served = served(None);
        let began = Stopwatch::start();
        assert_eq!(rest(served.send(1, b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await).await, "");
        assert!(began.elapsed() < AGE + 2 * FAREWELL, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_not_finished_is_given_up() {
        let tls = super::super::Tls::new(None, vec!["a".to_owned()]).unwrap();
        let served = served(Some(tls.acceptor()));
        let began = Stopwatch::start();
        rest(served.send(1, &[0x16, 0x03, 0x01]).await).await;
        assert!(began.elapsed() >= HEAD && began.elapsed() < 2 * HEAD, "{:?}", began.elapsed());
        let began = Stopwatch::start();
        rest(served.send(1, PROBE).await).await;
        assert!(began.elapsed() < FAREWELL, "what is no TLS at all");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_over_tls_is_answered() {
        let tls = super::super::Tls::new(None, vec!["a".to_owned()]).unwrap();
        let served = served(Some(tls.acceptor()));
        let mut roots = RootCertStore::empty();
        roots.add(tls.shown()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
        let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
        let mut stream = client.connect("a".try_into().unwrap(), served.connect(1).await).await.unwrap();
        stream.write_all(PROBE).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_that_fails_is_tried_again_after_a_pause() {
        let served = served(None);
        let began = Stopwatch::start();
        for _ in 0..10 {
            served.door.send(Err(io::Error::other("too many open files"))).await.unwrap();
        }
        assert!(rest(served.send(1, PROBE).await).await.ends_with("ok"));
        assert!(began.elapsed() >= 8 * PAUSE, "{:?}", began.elapsed());
        served.door.send(Err(ErrorKind::ConnectionAborted.into())).await.unwrap();
        let began = Stopwatch::start();
        assert!(rest(served.send(1, PROBE).await).await.ends_with("ok"));
        assert!(began.elapsed() < PAUSE, "one connection's end is none of the others' business");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_answers_and_not_for_requests() {
        let served = served(None);
        let half = served.send(1, b"GET / HT").await;
        let never = served.send(1, b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let slow = served.send(1, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        sleep(PAUSE).await;
        let began = Stopwatch::start();
        served.stop.notify_one();
        assert!(rest(slow).await.starts_with("HTTP/1.1 200"), "what is under way is finished");
        served.task.await.unwrap();
        assert!(began.elapsed() <= 2 * FAREWELL, "{:?}", began.elapsed());
        assert_eq!((rest(half).await, rest(never).await), (String::new(), String::new()));
    }
}
