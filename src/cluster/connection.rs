//! Connections to the API server. They are made as kube makes them, but a dead one is found, and what is written is sent at once: kube
//! leaves Nagle's algorithm on (kube-rs/kube#2056), and then the first request of a connection waits some 40 ms for the acknowledgement
//! of its handshake, which the other side delays. Through a proxy they are kube's own.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Builder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::{Client, Config, Error};
use tower::{BoxError, ServiceBuilder};

/// A connection at rest is tried after so long, and again so often: what lies between does not forget it, and a watch whose connection
/// has died in silence ends.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(5);
/// What each connection may read ahead of whoever takes it in, in bytes: a watch that was busy once keeps it.
const BUFFER: usize = 64 << 10;
/// How long what was sent may stay unacknowledged before its connection counts as dead, and serves no further request. On Linux.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// A client as `Client::try_from` makes it, without its layers that repeat and trace requests; through a proxy with them.
///
/// # Errors
/// Where the credentials or certificates of the configuration cannot be used.
pub fn client(config: Config) -> Result<Client, Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let auth = config.auth_layer()?;
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp(config.connect_timeout))?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Builder::new(TokioExecutor::new()).http1_max_buf_size(BUFFER).build(connector));
    Ok(Client::new(service, config.default_namespace))
}

fn tcp(connect_timeout: Option<Duration>) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // Divided among the addresses of a name: the first may lead nowhere.
    tcp.set_connect_timeout(connect_timeout);
    // Whatever is spoken over it.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_AGAIN));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_on_a_connection_is_sent_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let connection = tcp(None).oneshot(address.parse().unwrap()).await.unwrap();
        assert!(connection.inner().nodelay().unwrap());
    }
}
