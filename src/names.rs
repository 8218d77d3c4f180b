//! Every label, annotation and name that the operator writes or reads, once.

/// Label of the pods of an owned Deployment, and its selector: the group's name.
pub const LABEL_GROUP: &str = "leadergroup.io/group";
/// Recommended label of objects that the operator creates.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// On a pod or a node: `"false"` keeps it from leading.
pub const ANNOTATION_CANDIDATE: &str = "leadergroup.io/candidate";
/// On the leader's pod and on the Lease: the number of the leadership, strictly increasing. The fencing token.
pub const ANNOTATION_TERM: &str = "leadergroup.io/term";
/// On a pod: raised by every write of the operator to it, and compared by every such write, so that a write that was
/// decided earlier and arrives later fails.
pub const ANNOTATION_FENCE: &str = "leadergroup.io/fence";
/// On a pod that the operator wrote to: `GROUP/LABEL-KEY`. It tells what to clean where the group is gone.
pub const ANNOTATION_MEMBER_OF: &str = "leadergroup.io/member-of";

/// On a pod, by whoever wants to say which pod a smaller ReplicaSet should delete last (KEP-2255).
pub const ANNOTATION_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// On the leader's pod: its deletion cost before it was raised; empty where it had none.
pub const ANNOTATION_FORMER_DELETION_COST: &str = "leadergroup.io/former-deletion-cost";

/// On the Lease: the uid of the pod that its holder names.
pub const ANNOTATION_HOLDER_UID: &str = "leadergroup.io/holder-uid";
/// On the Lease: a term that may be given out before the Lease names its holder, so that a failover need not wait for it.
pub const ANNOTATION_RESERVED_TERM: &str = "leadergroup.io/reserved-term";
/// On the Lease: why its holder leads.
pub const ANNOTATION_REASON: &str = "leadergroup.io/reason";
/// On the Lease: the holder before this one.
pub const ANNOTATION_PREVIOUS_HOLDER: &str = "leadergroup.io/previous-holder";

/// On a ReplicaSet, by the Deployment controller: which revision of the template it is.
pub const ANNOTATION_REVISION: &str = "deployment.kubernetes.io/revision";

/// Field manager of server-side apply, and the reporting controller's short name.
pub const FIELD_MANAGER: &str = "leadergroup-operator";
/// Field manager that holds a Deployment's replicas while the group gives them up to an autoscaler.
pub const FIELD_MANAGER_REPLICAS: &str = "leadergroup-operator-replicas";
/// `reportingController` of events.
pub const REPORTING_CONTROLLER: &str = "leadergroup.io/operator";

/// What a pod's `member-of` annotation says.
pub fn member_of(group: &str, label_key: &str) -> String {
    format!("{group}/{label_key}")
}

/// The group and the label key that a `member-of` annotation names. A group's name has no slash, a label's key may.
pub fn parse_member_of(annotation: &str) -> Option<(&str, &str)> {
    annotation.split_once('/').filter(|(group, key)| !group.is_empty() && !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_names_its_group_and_a_key_with_a_prefix() {
        assert_eq!(parse_member_of(&member_of("web", "role")), Some(("web", "role")));
        assert_eq!(parse_member_of(&member_of("web", "example.com/role")), Some(("web", "example.com/role")));
        assert_eq!(parse_member_of("web"), None);
        assert_eq!(parse_member_of("/role"), None);
    }
}
