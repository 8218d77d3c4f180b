//! How objects are called.

use std::sync::Arc;

/// Namespace and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Of no group, for what is left in its namespace and names none: there never is one without a name.
    #[must_use]
    pub fn nameless(&self) -> Self {
        self.sibling("")
    }

    pub fn is_nameless(&self) -> bool {
        self.name.is_empty()
    }

    /// Another name in the same namespace, which is kept already.
    #[must_use]
    pub fn of_namespace(&self, name: Arc<str>) -> Self {
        Self { namespace: self.namespace.clone(), name }
    }

    /// Another name in the same namespace.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        Self { namespace: self.namespace.clone(), name: name.into() }
    }
}
