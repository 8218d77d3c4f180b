//! The connection to one node's kubelet: established, never spoken on, and kept alive by the kernel, which finds out when nobody is
//! there any more. Tells what it sees; judges nothing.
//!
//! Established again at once when it ends: so a firewall that forgot it, or a kubelet that was restarted, is told from a node that
//! is gone.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustix::net::sockopt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Lines;
use crate::policy::liveness::Heard;

/// So many probes without an answer end a connection.
const PROBES: u32 = 2;
/// A new connection may take a probe's time and so much more: what falls silent at the same moment is found out within a period, and the
/// kernel's second try of a second is answered.
const MARGIN: Duration = Duration::from_millis(100);
/// So many are tried one after the other, in so many parts of that time: a network that loses packets is no silence.
const TRIES: u32 = 3;
/// The pause after a trouble of our own.
const OUR_TROUBLE: Duration = Duration::from_secs(5);
/// The longest one before a node is tried again that has taken no connection yet: it doubles.
const NOBODY_THERE: Duration = Duration::from_secs(30);

/// Keeps a connection to the kubelet of a node, until it is aborted. `period`: between two probes, in whole seconds.
pub(super) async fn keep(node: Box<str>, kubelet: SocketAddr, period: Duration, lines: Arc<Lines>) {
    let (mut reached, mut pause) = (false, period);
    loop {
        let heard = match connect(kubelet, period + MARGIN).await {
            Ok(connection) => {
                lines.heard(&node, Heard::Connected);
                (reached, pause) = (true, period);
                hold(connection, period).await
            }
            Err(heard) => heard,
        };
        lines.heard(&node, heard);
        match heard {
            Heard::Nothing => {
                debug!(node, %kubelet, "No connection to the node's kubelet can be made from here");
                sleep(OUR_TROUBLE).await;
            }
            // What has just begun is asked about at once.
            Heard::Silence if lines.is_doubtful(&node) => {}
            _ => {
                sleep(pause).await;
                pause = if reached { period } else { (pause * 2).min(NOBODY_THERE.max(period)) };
            }
        }
    }
}

/// The first connection that is made within this time, or what the others came to.
async fn connect(kubelet: SocketAddr, within: Duration) -> Result<TcpStream, Heard> {
    let mut tries: FuturesUnordered<_> = (0..TRIES)
        .map(|number| async move {
            sleep(within * number / (TRIES + 1)).await;
            TcpStream::connect(kubelet).await.map_err(|error| heard_by(&error))
        })
        .collect();
    let first = async {
        let mut last = Heard::Silence;
        while let Some(made) = tries.next().await {
            match made {
                Err(Heard::Silence) => {}
                Err(Heard::Nothing) => last = Heard::Nothing,
                answered => return answered,
            }
        }
        Err(last)
    };
    timeout(within, first).await.unwrap_or(Err(Heard::Silence))
}

async fn hold(mut connection: TcpStream, period: Duration) -> Heard {
    let kept = sockopt::set_socket_keepalive(&connection, true)
        .and_then(|()| sockopt::set_tcp_keepidle(&connection, period))
        .and_then(|()| sockopt::set_tcp_keepintvl(&connection, period))
        .and_then(|()| sockopt::set_tcp_keepcnt(&connection, PROBES));
    if kept.is_err() {
        return Heard::Nothing;
    }
    // Nothing is expected: whoever speaks without having been asked is no kubelet, and there.
    match connection.read(&mut [0]).await {
        Ok(_) => Heard::Connected,
        Err(error) => heard_by(&error),
    }
}

fn heard_by(error: &io::Error) -> Heard {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Heard::Refused,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Heard::Silence,
        _ => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_answer_and_a_trouble_of_our_own_is_no_evidence() {
        let end = |kind: ErrorKind| heard_by(&kind.into());
        assert_eq!([ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset].map(end), [Heard::Refused, Heard::Refused]);
        assert_eq!([ErrorKind::TimedOut, ErrorKind::HostUnreachable].map(end), [Heard::Silence, Heard::Silence]);
        // No descriptors left, or a policy on this machine.
        assert_eq!([ErrorKind::PermissionDenied, ErrorKind::Other, ErrorKind::AddrNotAvailable].map(end), [Heard::Nothing, Heard::Nothing, Heard::Nothing]);
    }
}
