//! The words of an API server that is asked for more than it takes: it says in a header when to come again, beside a text that is no
//! Status, and of an error kube passes no headers on.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Response, StatusCode};
use kube::client::Body;
use serde_json::json;

/// The same answer, with a Status that says so where it has none.
pub(super) fn as_status(answer: Response<Body>) -> Response<Body> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let seconds: Option<u32> = header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
    let has_status = header(CONTENT_TYPE).is_some_and(|type_| type_.starts_with("application/json"));
    let Some(seconds) = seconds.filter(|_| answer.status() == StatusCode::TOO_MANY_REQUESTS && !has_status) else { return answer };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 429, "reason": "TooManyRequests",
        "message": "the API server is asked for more than it takes", "details": { "retryAfterSeconds": seconds },
    });
    answer.map(|_| Body::from(status.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(code: u16, headers: &[(&str, &str)], text: &str) -> String {
        let answer = headers.iter().fold(Response::builder().status(code), |answer, (name, value)| answer.header(*name, *value));
        let answer = as_status(answer.body(Body::from(text.as_bytes().to_vec())).unwrap());
        assert_eq!(answer.status(), code);
        String::from_utf8(answer.into_body().collect_bytes().await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn when_to_come_again_is_read_of_an_overloaded_servers_header_and_all_else_stays_as_it_was() {
        let overloaded = read(429, &[("retry-after", "7"), ("content-type", "text/plain; charset=utf-8")], "Too many requests, please try again later.").await;
        let status: kube::core::Status = serde_json::from_str(&overloaded).unwrap();
        assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 7));
        for (code, headers) in [
            (429, &[("retry-after", "7"), ("content-type", "application/json")][..]),
            (429, &[("retry-after", "Fri, 07 Nov 2026 23:59:59 GMT")]),
            (429, &[]),
            (503, &[("retry-after", "7")]),
        ] {
            assert_eq!(read(code, headers, "its own").await, "its own");
        }
    }
}
