//! What was written, by whom, and how it ended, as the API server's audit log tells: an exact count, also of writes that
//! were refused. Reads are told of Leases, and of what the operator reads.

use std::io::{Read, Seek, SeekFrom};

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;

use super::ControlPlane;
use super::components::AUDIT_LOG;

/// One request, after it was answered. What does not apply is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditEvent {
    /// When it arrived.
    pub(crate) received: Timestamp,
    /// When it was answered.
    pub(crate) time: Timestamp,
    /// Who asked, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub(crate) user: String,
    /// With which program.
    pub(crate) user_agent: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`; of reads `get`, `list` or `watch`.
    pub(crate) verb: String,
    /// The API group; empty for the core group.
    pub(crate) group: String,
    /// Such as `pods`.
    pub(crate) resource: String,
    /// Such as `status`.
    pub(crate) subresource: String,
    /// The namespace of the object.
    pub(crate) namespace: String,
    /// The name of the object; of a created one with a generated name it is missing.
    pub(crate) name: String,
    /// The HTTP status of the answer; 0 if there was none.
    pub(crate) status: u16,
}

impl ControlPlane {
    /// All writes so far, in the order in which they were answered.
    pub(crate) fn audit(&self) -> anyhow::Result<Vec<AuditEvent>> {
        let mut requests = self.requests()?;
        requests.retain(|request| !matches!(&*request.verb, "get" | "list" | "watch"));
        Ok(requests)
    }

    /// The same, with the reads that are told. A watch counts when it has ended.
    pub(crate) fn requests(&self) -> anyhow::Result<Vec<AuditEvent>> {
        self.requests_since(&mut 0)
    }

    /// What was answered since the position of the log that an earlier call left; 0 is its beginning.
    pub(crate) fn requests_since(&self, position: &mut u64) -> anyhow::Result<Vec<AuditEvent>> {
        let path = self.folder().join(AUDIT_LOG);
        let mut text = Vec::new();
        let mut read = || {
            let mut file = std::fs::File::open(&path)?;
            file.seek(SeekFrom::Start(*position))?;
            file.read_to_end(&mut text)
        };
        read().with_context(|| format!("cannot read {}", path.display()))?;
        // A line that is still being written has no end.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        *position += u64::try_from(whole)?;
        let lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| event(line).with_context(|| format!("not an audit event: {}", String::from_utf8_lossy(line)))).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Answer,
    request_received_timestamp: String,
    stage_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    code: u16,
}

fn event(line: &[u8]) -> anyhow::Result<AuditEvent> {
    let line: Line = serde_json::from_slice(line)?;
    Ok(AuditEvent {
        received: line.request_received_timestamp.parse()?,
        time: line.stage_timestamp.parse()?,
        user: line.user.username,
        user_agent: line.user_agent,
        verb: line.verb,
        group: line.object_ref.api_group,
        resource: line.object_ref.resource,
        subresource: line.object_ref.subresource,
        namespace: line.object_ref.namespace,
        name: line.object_ref.name,
        status: line.response_status.code,
    })
}
