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

/// So many probes without an answer end a connection.
const PROBES: u32 = 2;
/// A new connection may take a probe's time and so much more: what falls silent at the same moment is found out within a period, and the
/// kernel's second try of a second is answered.
const MARGIN: Duration = Duration::from_millis(100);
/// So many are tried one after the other, in so many parts of that time: a network that loses packets is no silence.
const TRIES: u32 = 3;
/// The pause after a trouble of our own.
const OUR_TROUBLE: Duration = Duration::from_secs(5);

/// What became of a connection, or of the try to make one.
#[derive(Debug, Eq, PartialEq)]
enum End {
    /// Somebody is there.
    Answered,
    Silence,
    /// Nothing follows about the node.
    Ours,
}

/// Keeps a connection to the kubelet of a node, until it is aborted. `period`: between two probes, in whole seconds.
pub(super) async fn keep(node: Box<str>, kubelet: SocketAddr, period: Duration, lines: Arc<Lines>) {
    loop {
        let end = match connect(kubelet, period + MARGIN).await {
            Ok(connection) => {
                lines.heard(&node, true);
                hold(connection, period).await
            }
            Err(end) => end,
        };
        match end {
            End::Answered => {
                lines.heard(&node, true);
                sleep(period).await;
            }
            End::Silence => {
                lines.heard(&node, false);
                // What has just begun is asked about at once.
                if !lines.is_doubtful(&node) {
                    sleep(period).await;
                }
            }
            End::Ours => {
                debug!(node, %kubelet, "No connection to the node's kubelet can be made from here");
                sleep(OUR_TROUBLE).await;
            }
        }
    }
}

/// The first connection that is made within this time, or what the others came to.
async fn connect(kubelet: SocketAddr, within: Duration) -> Result<TcpStream, End> {
    let mut tries: FuturesUnordered<_> = (0..TRIES)
        .map(|number| async move {
            sleep(within * number / (TRIES + 1)).await;
            TcpStream::connect(kubelet).await.map_err(|error| end_of(&error))
        })
        .collect();
    let first = async {
        let mut last = End::Silence;
        while let Some(made) = tries.next().await {
            match made {
                Err(End::Silence) => {}
                Err(End::Ours) => last = End::Ours,
                answered => return answered,
            }
        }
        Err(last)
    };
    timeout(within, first).await.unwrap_or(Err(End::Silence))
}

async fn hold(mut connection: TcpStream, period: Duration) -> End {
    let kept = sockopt::set_socket_keepalive(&connection, true)
        .and_then(|()| sockopt::set_tcp_keepidle(&connection, period))
        .and_then(|()| sockopt::set_tcp_keepintvl(&connection, period))
        .and_then(|()| sockopt::set_tcp_keepcnt(&connection, PROBES));
    if kept.is_err() {
        return End::Ours;
    }
    // Nothing is expected: whoever speaks without having been asked is no kubelet, and there.
    match connection.read(&mut [0]).await {
        Ok(_) => End::Answered,
        Err(error) => end_of(&error),
    }
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => End::Answered,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => End::Silence,
        _ => End::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_life_and_a_trouble_of_our_own_is_no_evidence() {
        let end = |kind: ErrorKind| end_of(&kind.into());
        assert_eq!([ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset].map(end), [End::Answered, End::Answered]);
        assert_eq!([ErrorKind::TimedOut, ErrorKind::HostUnreachable].map(end), [End::Silence, End::Silence]);
        // No descriptors left, or a policy on this machine.
        assert_eq!([ErrorKind::PermissionDenied, ErrorKind::Other, ErrorKind::AddrNotAvailable].map(end), [End::Ours, End::Ours, End::Ours]);
    }
}
