//! The operator's binary on the real control plane, under the ClusterRole that is shipped. Each test has a namespace of its
//! own, waits on conditions, and ends by asking its witness whether two pods ever carried the label at once.

mod admission;
mod adoption;
pub(crate) mod arena;
mod argocd;
mod at_rest;
mod conflicts;
mod credentials;
mod deletion;
mod doors;
mod drift;
mod elections;
mod hindrances;
mod holders;
mod hostile;
mod installations;
mod kubectl;
mod labels;
mod looks;
mod namespaces;
mod nodes;
mod outages;
mod owners;
mod repairs;
mod replicas;
mod restarts;
mod restores;
mod rollouts;
mod runtime;
mod samples;
mod scaling;
mod soak;
mod steps;
mod template_label;
mod terms;
mod witness;
mod writes;
