//! The client of everything that is read: each answer goes through a sieve while it arrives. What must be read as a whole has a
//! limit.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, ACCEPT, HeaderValue};
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame};
use kube::api::GetParams;
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::{Failure, Subject, ask};
use super::kept::{self, Keep};
use super::sieve::Sieve;
use super::slim::{Kind, Slim};

/// The answer is the object's metadata.
pub(super) const METADATA_ONLY: HeaderValue = HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
/// What is kept of an answer that is no JSON: a proxy's page, say.
const LONGEST_TEXT: usize = 16 << 10;

/// The same client, whose answers are thinned.
pub(super) fn thinned(client: &Client) -> Client {
    let sender = client.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let sender = sender.clone();
        async move {
            if let Some(uri) = of_now(request.uri()) {
                *request.uri_mut() = uri;
            }
            let root = request.extensions().get::<Keep>().copied().unwrap_or_else(|| kept::of(request.uri().path()));
            let response = sender.send(request).await?;
            Ok::<_, kube::Error>(thin(response, root))
        }
    });
    Client::new(service, client.default_namespace())
}

/// A list that is streamed begins with what an API server remembers, however old, where its version is said to be 0, as the watcher
/// says. Without one it is as new as its request, as every other list is.
fn of_now(uri: &Uri) -> Option<Uri> {
    let query = uri.query().filter(|query| query.contains("sendInitialEvents=true"))?;
    let left: Vec<_> = query.split('&').filter(|parameter| *parameter != "resourceVersion=0").collect();
    format!("{}?{}", uri.path(), left.join("&")).parse().ok()
}

/// More of an object's metadata is not read as a whole.
const LONGEST_METADATA: usize = 256 << 10;

/// An object's metadata as a whole, if it is not larger than what is read; `client`: one that thins no answers.
pub(super) async fn metadata<T: Kind, M: DeserializeOwned>(client: &Client, namespace: &str, name: &str) -> Result<M, Failure> {
    let answer = ask(Subject::of::<T>(name), whole(client, for_metadata::<T>(namespace, name)?, LONGEST_METADATA)).await?;
    let answer = answer.ok_or_else(|| Failure::impossible(format!("its metadata is larger than {} KiB", LONGEST_METADATA >> 10)))?;
    serde_json::from_slice(&answer).map_err(Failure::impossible)
}

fn for_metadata<T: Kind>(namespace: &str, name: &str) -> Result<Request<Body>, Failure> {
    let path = Slim::<T>::url_path(&(), Some(namespace));
    let mut request = kube::core::Request::new(path).get(name, &GetParams::default()).map_err(Failure::impossible)?;
    request.headers_mut().insert(ACCEPT, METADATA_ONLY);
    Ok(request.map(Body::from))
}

/// What an object is found by, without what nobody asks for.
#[derive(Deserialize)]
struct Labelled {
    metadata: UidAndLabels,
}

/// An object's uid, and all of its labels, of which more are read here than are kept elsewhere.
#[derive(Deserialize)]
pub(super) struct UidAndLabels {
    pub(super) uid: String,
    #[serde(default)]
    pub(super) labels: HashMap<String, String>,
}

/// The uid and the labels of an object; `client`: one that thins.
pub(super) async fn labels<T: Kind>(client: &Client, namespace: &str, name: &str) -> Result<UidAndLabels, Failure> {
    let mut request = for_metadata::<T>(namespace, name)?;
    request.extensions_mut().insert(kept::LABELLED);
    let answer = ask(Subject::of::<T>(name), whole(client, request, usize::MAX)).await?.unwrap_or_default();
    let object: Labelled = serde_json::from_slice(&answer).map_err(Failure::impossible)?;
    Ok(object.metadata)
}

/// An answer as a whole, if it has no more bytes than that; `None`: it has more.
pub(super) async fn whole(client: &Client, request: Request<Body>, longest: usize) -> Result<Option<Vec<u8>>, kube::Error> {
    let (parts, mut body) = client.send(request).await?.into_parts();
    let mut text = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if text.len() + data.len() > longest {
            return Ok(None);
        }
        text.extend_from_slice(&data);
    }
    if parts.status.is_success() {
        return Ok(Some(text));
    }
    let status: Result<Status, _> = serde_json::from_slice(&text);
    let unknown = |_| Status::failure("no answer of an API server", "").with_code(parts.status.as_u16());
    Err(kube::Error::Api(status.unwrap_or_else(unknown).boxed()))
}

/// Go writes three characters as escapes of six bytes each, for the sake of web pages. What is sent back as it was read would be up
/// to six times as long, and more than the API server takes.
pub(super) fn unescape(text: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        let (byte, read) = match &text[from..] {
            [b'\\', b'u', b'0', b'0', high, low, ..] => match (high, low.to_ascii_lowercase()) {
                (b'3', b'c') => (b'<', 6),
                (b'3', b'e') => (b'>', 6),
                (b'2', b'6') => (b'&', 6),
                _ => (b'\\', 1),
            },
            // What is escaped is no backslash that escapes.
            [b'\\', escaped, ..] => {
                let escaped = *escaped;
                text[to] = b'\\';
                to += 1;
                (escaped, 2)
            }
            [byte, ..] => (*byte, 1),
            [] => break,
        };
        text[to] = byte;
        to += 1;
        from += read;
    }
    text.truncate(to);
}

fn thin(response: Response<Body>, root: Keep) -> Response<Thinned> {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kept = if kind.starts_with("application/json") { Kept::Fields(Sieve::of(root)) } else { Kept::Text(LONGEST_TEXT) };
    response.map(|body| Thinned { body, kept })
}

/// What is left of an answer's body.
struct Thinned {
    body: Body,
    kept: Kept,
}

enum Kept {
    Fields(Sieve),
    /// So many bytes more.
    Text(usize),
}

impl http_body::Body for Thinned {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => return other,
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            let left = match &mut self.kept {
                Kept::Fields(sieve) => Bytes::from(sieve.pass(&data)),
                Kept::Text(left) => {
                    let kept = data.slice(..data.len().min(*left));
                    *left -= kept.len();
                    // Not a part of a larger buffer.
                    Bytes::copy_from_slice(&kept)
                }
            };
            // An empty one would be taken for news.
            if !left.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(left))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_escapes_for_web_pages_is_sent_back_as_it_was_written() {
        let plain = |text: &str| {
            let mut text = text.as_bytes().to_vec();
            unescape(&mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(plain(r#"{"a":"\u003cb\u003E \u0026\u0026 \u00e4 \n\""}"#), r#"{"a":"<b> && \u00e4 \n\""}"#);
        assert_eq!(plain(r#""\\u003c""#), r#""\\u003c""#, "a backslash, and no escape");
        assert_eq!(plain(r#""\\\u003c""#), r#""\\<""#);
        assert_eq!(plain("\\u00"), "\\u00");
    }

    #[test]
    fn a_streamed_list_is_as_new_as_its_request_and_a_watch_goes_on_where_it_was() {
        let asked = |query: &str| of_now(&format!("/api/v1/pods?{query}").parse().unwrap()).map(|uri| uri.to_string());
        let begins = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0";
        assert_eq!(asked(begins).as_deref(), Some("/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
        assert_eq!(asked("watch=true&resourceVersion=0"), None);
        assert_eq!(asked("watch=true&resourceVersion=17"), None);
    }
}
