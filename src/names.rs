//! Every label, annotation and name that the operator writes or reads, once.

use std::borrow::Cow;

/// How the keys of what the operator sets begin.
pub const PREFIX: &str = "leadergroup.io/";

/// Label of the pods of an owned Deployment, and its selector: the group's name.
pub const LABEL_GROUP: &str = "leadergroup.io/group";
/// Recommended label of objects that the operator creates.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// On a pod or a node: `"false"` keeps it from leading.
pub const ANNOTATION_CANDIDATE: &str = "leadergroup.io/candidate";
/// On the leader's pod and on the Lease: the number of the leadership, strictly increasing. The fencing token.
pub const ANNOTATION_TERM: &str = "leadergroup.io/term";
/// How the keys of fences begin; the Deployment's name follows.
pub const FENCE_PREFIX: &str = "leadergroup.io/fence.";
/// On a pod that the operator wrote to: `GROUP/LABEL-KEY`. It tells what to clean where the group is gone.
pub const ANNOTATION_MEMBER_OF: &str = "leadergroup.io/member-of";

/// The key of the leader's label, unless a group says another.
pub const DEFAULT_KEY: &str = "role";

/// On a pod, by whoever wants to say which pod a smaller ReplicaSet should delete last (KEP-2255).
pub const ANNOTATION_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// On a pod of a group: what others had given it under the label's key, where the operator has given it another value since.
pub const ANNOTATION_FORMER_LABEL: &str = "leadergroup.io/former-label";
/// On the leader's pod: its deletion cost before it was raised; empty where it had none.
pub const ANNOTATION_FORMER_DELETION_COST: &str = "leadergroup.io/former-deletion-cost";

/// On the Lease: the uid of the pod that its holder names.
pub const ANNOTATION_HOLDER_UID: &str = "leadergroup.io/holder-uid";
/// On the Lease: its mark, above which every new term is. It may be given out before the Lease names its holder, so that a
/// failover need not wait for it.
pub const ANNOTATION_RESERVED_TERM: &str = "leadergroup.io/reserved-term";
/// On the Lease: the operator that wrote it last.
pub const ANNOTATION_OPERATOR: &str = "leadergroup.io/operator";
/// On the Lease: why its holder leads.
pub const ANNOTATION_REASON: &str = "leadergroup.io/reason";
/// On the Lease: the holder before this one.
pub const ANNOTATION_PREVIOUS_HOLDER: &str = "leadergroup.io/previous-holder";

/// On a ReplicaSet, by the Deployment controller: which revision of the template it is.
pub const ANNOTATION_REVISION: &str = "deployment.kubernetes.io/revision";

/// Field manager of server-side apply, and the reporting controller's short name.
pub const FIELD_MANAGER: &str = "leadergroup-operator";
/// Field manager of a pod's write that gives back what others had set: by the record that is not the operator's own then.
pub const FIELD_MANAGER_GIVES_BACK: &str = "leadergroup-operator-gives-back";
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

/// The longest name of an object.
pub const LONGEST_NAME: usize = 253;
/// What a status takes of a uid.
pub const LONGEST_UID: usize = 128;

/// A text of no more than so many bytes, 19 at least. What is cut is marked, and two that differ stay different.
pub fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return text.into();
    }
    let mark = format!("…{:016x}", fnv1a(text));
    format!("{}{mark}", beginning(text, longest.saturating_sub(mark.len()))).into()
}

/// As much of a text as fits into so many bytes.
pub fn beginning(text: &str, longest: usize) -> &str {
    let end = (0..=text.len().min(longest)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

/// FNV-1a: tells texts apart that nobody has made alike on purpose.
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The longest name of a label, without its prefix.
const LONGEST_LABEL_NAME: usize = 63;

/// The key of the label that is a pod's *fence*: its value never comes again, and every write that gives a pod of this
/// Deployment the leader's label compares it. A label, so that those who bear one can be listed; of the Deployment, so that
/// two groups that name the same one know each other's.
pub fn fence_key(deployment: &str) -> String {
    let room = LONGEST_LABEL_NAME - "fence.".len();
    if deployment.len() <= room {
        return format!("{FENCE_PREFIX}{deployment}");
    }
    // An object's name may be longer than that of a label: what is cut off is told apart by its FNV-1a.
    let kept: String = deployment.chars().take(room - 17).collect();
    format!("{FENCE_PREFIX}{kept}-{:016x}", fnv1a(deployment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_fence_is_a_labels_however_long_the_deployments_name_is() {
        assert_eq!(fence_key("web"), "leadergroup.io/fence.web");
        let long = |last: char| format!("{}{last}", "a".repeat(252));
        let name = |key: String| key.split_once('/').unwrap().1.len();
        assert_eq!(name(fence_key(&long('x'))), 63);
        assert_eq!(name(fence_key(&"a".repeat(57))), 63);
        assert_ne!(fence_key(&long('x')), fence_key(&long('y')));
    }

    #[test]
    fn a_text_that_is_cut_says_so_and_stays_unlike_others() {
        assert_eq!(shortened("web", 253), "web");
        let (x, y) = ("ä".repeat(300) + "x", "ä".repeat(300) + "y");
        assert!((250..=253).contains(&shortened(&x, 253).len()), "bytes");
        assert_ne!(shortened(&x, 253), shortened(&y, 253));
        assert_eq!(shortened(&shortened(&x, 253), 253), shortened(&x, 253), "cut again");
    }

    #[test]
    fn the_beginning_of_a_text_ends_between_characters() {
        assert_eq!(beginning("pod web-1 leads", 1024), "pod web-1 leads");
        assert_eq!(beginning(&"ü".repeat(2000), 1024).len(), 1024);
        assert_eq!(beginning(&"🦀🦀🦀x".repeat(200), 1024).len(), 1022);
    }

    #[test]
    fn a_membership_names_its_group_and_a_key_with_a_prefix() {
        assert_eq!(parse_member_of(&member_of("web", "role")), Some(("web", "role")));
        assert_eq!(parse_member_of(&member_of("web", "example.com/role")), Some(("web", "example.com/role")));
        assert_eq!(parse_member_of("web"), None);
        assert_eq!(parse_member_of("/role"), None);
    }
}
