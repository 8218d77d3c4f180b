//! A tiny web server that electors run, and its log, which shows whether two of them ever served at once.
//!
//! It is a test of this binary that other tests, and itself, start as a process. It knows nothing of leadership but its term, and in
//! every second term it does not end at SIGTERM: it is the worst kind of application.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::stage;

/// Between two lines of its log.
const TICK: Duration = Duration::from_millis(5);

/// The command line of such a server.
pub(crate) fn command() -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let test = "elector_program::web::a_server_answers_and_ticks_until_it_is_killed".to_owned();
    vec![program, "--exact".into(), test, "--nocapture".into()]
}

/// The process that electors run is this test again, told so by a term in its environment.
#[tokio::test]
async fn a_server_answers_and_ticks_until_it_is_killed() {
    if let (Some(log), Some(term)) = (std::env::var_os("LOG"), std::env::var_os("LEADERGROUP_TERM")) {
        serve(Path::new(&log), &term.into_string().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let command = command();
    let mut server = std::process::Command::new(&command[0]);
    let mut server = server.args(&command[1..]).env("LOG", &log).env("LEADERGROUP_TERM", "7").stdout(std::process::Stdio::null()).spawn().unwrap();
    let served = stage::until("it answers and ticks", async || {
        let served = servers(&log).pop().filter(|served| served.answers() && served.last > served.start);
        served.ok_or_else(|| std::fs::read_to_string(&log).unwrap_or_default())
    })
    .await;
    assert_eq!((served.pid, served.term), (server.id(), 7));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(!served.answers());
}

fn serve(path: &Path, term: &str) -> ! {
    let term = term.to_owned();
    // Received, and never listened to.
    let deaf = term.parse::<u64>().unwrap() % 2 == 1;
    let _terminate = deaf.then(|| tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut log = File::options().create(true).append(true).open(path).unwrap();
    let (pid, port) = (std::process::id(), listener.local_addr().unwrap().port());
    log.write_all(format!("{} start {pid} {term} {port}\n", now()).as_bytes()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\nterm {term}").as_bytes());
        }
    });
    loop {
        // One write per line: lines of several servers do not mix.
        log.write_all(format!("{} tick {pid}\n", now()).as_bytes()).unwrap();
        std::thread::sleep(TICK);
    }
}

fn now() -> u128 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap()).as_nanos()
}

/// One server, as its log shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Served {
    pub(crate) pid: u32,
    pub(crate) term: u64,
    pub(crate) port: u16,
    /// The first and the last sign of life, in nanoseconds.
    pub(crate) start: u128,
    pub(crate) last: u128,
}

impl Served {
    /// Whether it answers now.
    pub(crate) fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return false };
        let mut answer = String::new();
        let patience = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let asked = patience.and_then(|()| stream.write_all(b"GET / HTTP/1.0\r\n\r\n"));
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.ends_with(&format!("term {}", self.term))
    }
}

/// All servers of a log, in the order of their starts.
pub(crate) fn servers(log: &Path) -> Vec<Served> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut all: Vec<Served> = Vec::new();
    let mut latest: BTreeMap<u32, usize> = BTreeMap::new();
    // The last line may be half written.
    for line in text.lines().take(text.matches('\n').count()) {
        let words: Vec<&str> = line.split(' ').collect();
        let (time, pid) = (words[0].parse().unwrap(), words[2].parse().unwrap());
        if words[1] == "start" {
            latest.insert(pid, all.len());
            all.push(Served { pid, term: words[3].parse().unwrap(), port: words[4].parse().unwrap(), start: time, last: time });
        } else {
            let served = &mut all[latest[&pid]];
            served.last = served.last.max(time);
        }
    }
    all.sort_by_key(|served| served.start);
    all
}

/// No two served at once, and none in a lower term than one before it.
pub(crate) fn one_at_a_time(servers: &[Served]) -> Result<(), String> {
    for (number, later) in servers.iter().enumerate() {
        for earlier in &servers[..number] {
            if earlier.last >= later.start {
                let overlap = Duration::from_nanos((earlier.last.min(later.last) - later.start).try_into().unwrap_or(u64::MAX));
                return Err(format!("two served at once, for {overlap:?}: {earlier:?} and {later:?}"));
            }
            if earlier.term > later.term {
                return Err(format!("a term went back: {earlier:?} and then {later:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn two_that_serve_at_once_are_noticed() {
    let served = |pid, term, start, last| Served { pid, term, port: 1, start, last };
    assert_eq!(one_at_a_time(&[served(1, 0, 0, 10), served(2, 1, 11, 20), served(3, 1, 21, 21)]), Ok(()));
    assert!(one_at_a_time(&[served(1, 0, 0, 10), served(2, 1, 10, 20)]).unwrap_err().contains("at once"));
    assert!(one_at_a_time(&[served(1, 0, 0, 100), served(2, 1, 101, 102), served(3, 0, 103, 104)]).unwrap_err().contains("went back"));
    assert!(one_at_a_time(&[served(1, 0, 0, 100), served(2, 1, 10, 20)]).unwrap_err().contains("10ns"));
}
