//! Whether an answer of 401 says that the API server does not know who asks. It looks at the beginning of the answer, and passes
//! all of it on as it came.
//!
//! So the API server answers in two cases, and only the first is about credentials:
//! - Its authentication: `Unauthorized` (k8s.io/apiserver, pkg/endpoints/filters/authentication.go) writes
//!   `apierrors.NewUnauthorized("Unauthorized")`, a Status with this very message and without details.
//! - Its admission, which whoever may make webhooks or policies for one namespace brings about there. Of a webhook that denies with code
//!   401 it is a Status whose message begins with the webhook's name (`ToStatusErr`, pkg/admission/plugin/webhook/errors), whatever
//!   details the webhook gives; of a ValidatingAdmissionPolicy one whose details name the object (`Dispatch`,
//!   pkg/admission/plugin/policy/validating; `reasonToCode` there knows 401, but Kubernetes 1.37 lets nobody make a policy with
//!   `reason: Unauthorized`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body as _, Frame};
use kube::client::Body;
use serde::Deserialize;

/// Authentication needs some two hundred bytes to say no. What says more is somebody else.
const LONGEST: usize = 4 << 10;
/// All that authentication says.
const UNAUTHORIZED: &str = "Unauthorized";

/// An answer's body, of which the beginning may have been looked at.
pub(super) struct Looked {
    beginning: VecDeque<Result<Frame<Bytes>, kube::Error>>,
    rest: Body,
}

impl http_body::Body for Looked {
    type Data = Bytes;
    type Error = kube::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, kube::Error>>> {
        match self.beginning.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.rest.is_end_stream()
    }
}

/// The answer, and whether it says that the credentials are not accepted.
pub(super) async fn look(answer: Response<Body>) -> (Response<Looked>, bool) {
    let (parts, mut rest) = answer.into_parts();
    let mut beginning = VecDeque::new();
    let mut refused = false;
    if parts.status == StatusCode::UNAUTHORIZED {
        let mut text = Vec::new();
        refused = loop {
            let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut rest).poll_frame(context)).await else { break is_by_authentication(&text) };
            let broken = frame.is_err();
            text.extend(frame.iter().filter_map(Frame::data_ref).flatten());
            beginning.push_back(frame);
            if broken || text.len() > LONGEST {
                break false;
            }
        };
    }
    (Response::from_parts(parts, Looked { beginning, rest }), refused)
}

/// What is no Status is no admission's: what stands before the API server may authenticate for it.
fn is_by_authentication(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Status {
        kind: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        details: Option<Details>,
    }
    #[derive(Deserialize)]
    struct Details {
        #[serde(default)]
        name: String,
    }
    match serde_json::from_slice::<Status>(text) {
        Ok(status) if status.kind == "Status" => status.message == UNAUTHORIZED && status.details.is_none_or(|details| details.name.is_empty()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn looked(code: u16, body: impl Into<Body>) -> (Vec<u8>, bool) {
        let (answer, refused) = look(Response::builder().status(code).body(body.into()).unwrap()).await;
        let mut body = answer.into_body();
        let mut text = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            text.extend(frame.unwrap().into_data().unwrap());
        }
        assert!(body.is_end_stream());
        (text, refused)
    }

    fn status(message: &str, details: &Value) -> String {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": "Unauthorized", "details": details, "code": 401,
        })
        .to_string()
    }

    /// As kube-apiserver 1.37 answers.
    #[tokio::test]
    async fn only_authentication_refuses_credentials_and_whatever_is_said_arrives() {
        let by_policy = "pods \"web-1\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        let pod = json!({ "name": "web-1", "kind": "pods", "causes": [{ "message": "no" }] });
        let long = status(&format!("admission webhook \"w\" denied the request: {}", "x".repeat(3 << 20)), &json!(null));
        let cases = [
            (401, status("Unauthorized", &json!(null)), true),
            (401, status("Unauthorized", &json!({})), true),
            (401, "Unauthorized\n".to_owned(), true),
            (401, String::new(), true),
            (401, r#"{"type":"error","status":"401","message":"must authenticate"}"#.to_owned(), true),
            (401, status(by_policy, &pod), false),
            (401, status("Unauthorized", &pod), false),
            (401, status("admission webhook \"w\" denied the request: Unauthorized", &json!(null)), false),
            (401, long, false),
            (403, status("Unauthorized", &json!(null)), false),
        ];
        for (code, body, by_authentication) in cases {
            let (arrived, refused) = looked(code, body.clone().into_bytes()).await;
            assert_eq!(refused, by_authentication, "{body:.200}");
            assert!(arrived == body.as_bytes(), "{body:.200}");
        }
    }
}
