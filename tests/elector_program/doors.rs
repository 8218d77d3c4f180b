//! The elector's endpoints where somebody means harm: its probe is answered, whatever else is open.

use rustix::process::{Resource, Rlimit, prlimit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::stage::{CALM, Stage, pid, until};

#[tokio::test]
async fn streams_of_events_are_limited_and_who_comes_too_late_is_told() {
    let stage = Stage::new("doors").await;
    let sidecar = stage.sidecar("pod-a", &CALM);
    sidecar.until_leader_is("pod-a").await;
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        let mut stream = BufReader::new(sidecar.ask("/events").await);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim() {
            "HTTP/1.1 200 OK" => streams.push(stream),
            "HTTP/1.1 503 Service Unavailable" => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((streams.len(), refused), (64, 36));
    assert_eq!(sidecar.get("/healthz").await.0, 200);
    let (code, why) = sidecar.get("/events").await;
    assert!(code == 503 && why.contains("at most 64 at once"), "{why}");
    drop(streams);
    until("there is room for a stream again", async || {
        let mut line = String::new();
        BufReader::new(sidecar.ask("/events").await).read_line(&mut line).await.unwrap();
        if line.contains("200") { Ok(()) } else { Err(line) }
    })
    .await;
}

#[tokio::test]
async fn a_process_that_has_no_descriptors_left_answers_its_probe() {
    let stage = Stage::new("doors").await;
    let sidecar = stage.sidecar("pod-a", &CALM);
    sidecar.until_leads().await;
    let few = Rlimit { current: Some(40), maximum: Some(40) };
    prlimit(Some(pid(sidecar.process.pid())), Resource::Nofile, few).unwrap();
    let address = sidecar.address().await;
    let mut flood = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
        flood.push(stream);
    }
    assert_eq!(sidecar.get("/healthz").await, (200, "ok\n".to_owned()));
    sidecar.until_told("Connections cannot be accepted").await;
    assert_eq!(sidecar.process.log().matches("Connections cannot be accepted").count(), 1, "it says so once in a while");
    drop(flood);
    assert_eq!(sidecar.get("/healthz").await.0, 200);
}
