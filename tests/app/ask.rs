//! The client: one request after the other, each on a connection of its own, as nothing else shows where a Service leads to
//! now. It judges nothing.
//!
//! A line per request: when it began and when it ended (nanoseconds since this machine was started, which all nodes of one
//! machine share), and the answer, or why there was none: refused, timeout, reset, or an HTTP status.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use leadergroup::elector::clock::{Clock, Instant, SystemClock};

/// From the beginning of one request to the next, where the first has ended by then.
const PACE: Duration = Duration::from_millis(20);
/// Long beside an answer, short beside a failover.
const PATIENCE: Duration = Duration::from_millis(250);

pub(super) fn run(address: &str, file: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse().with_context(|| format!("{address:?} is no ADDRESS:PORT"))?;
    // A client that is started again goes on where it was.
    let mut file = File::options().create(true).append(true).open(file).with_context(|| format!("cannot open {file}"))?;
    loop {
        let began = SystemClock.now();
        let answer = ask(address).unwrap_or_else(|failure| format!("! {}", reason(&failure)));
        let ended = SystemClock.now();
        file.write_all(line(began, ended, &answer).as_bytes())?;
        std::thread::sleep(PACE.saturating_sub(SystemClock.now() - began));
    }
}

fn line(began: Instant, ended: Instant, answer: &str) -> String {
    format!("{} {} {answer}\n", began.0.as_nanos(), ended.0.as_nanos())
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: leader\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.trim_end().to_owned()),
        status => Err(io::Error::other(format!("status {}", status.unwrap_or("missing")))),
    }
}

/// In one word.
fn reason(failure: &io::Error) -> String {
    match failure.kind() {
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timeout".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => "reset".to_owned(),
        _ => failure.to_string().replace(' ', "-"),
    }
}
