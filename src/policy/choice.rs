//! What should be: who carries the label.

use std::sync::Arc;

use super::observation::Pod;

/// Who carries the label, once it is carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// The incumbent leads on.
    Keep(Arc<Pod>),
    /// This pod leads from now on.
    Promote { pod: Arc<Pod>, reason: &'static str },
    /// Nobody leads.
    Vacate,
    /// Nobody leads, and nothing is done about it: elections are suspended.
    Frozen,
}

impl Choice {
    /// The pod that carries the label once this is carried out.
    pub fn leader(&self) -> Option<&Arc<Pod>> {
        match self {
            Choice::Keep(pod) | Choice::Promote { pod, .. } => Some(pod),
            Choice::Vacate | Choice::Frozen => None,
        }
    }
}
