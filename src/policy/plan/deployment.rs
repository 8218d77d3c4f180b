//! The owned Deployment: applied when the group changed, or when it is no longer what the last apply left behind.

use jiff::SignedDuration;

use super::{Planner, UNTIL_SEEN};
use crate::policy::memory::Applied;
use crate::policy::objects;
use crate::policy::write::Write;

/// Corrections of a Deployment that somebody else changes again and again come no faster than this.
const BETWEEN_APPLIES: SignedDuration = SignedDuration::from_secs(1);

impl Planner<'_> {
    pub(super) fn deployment(&mut self) {
        let Some(template) = &self.group.spec.deployment else { return };
        let name = self.group.deployment_name().to_owned();
        let group_generation = self.observation.group_generation();
        let deployment = self.observation.deployment.as_deref();
        let Some(deployment) = deployment else {
            // One that was made a moment ago is not shown by its watch yet.
            let made = self.memory.applied.as_ref().filter(|applied| applied.group_generation == group_generation);
            if made.is_some_and(|made| self.too_early(made.at, UNTIL_SEEN)) {
                return;
            }
            self.writes.push(Write::ApplyDeployment { name, uid: None });
            return;
        };
        if deployment.terminating {
            return;
        }
        let applied = self.memory.applied.as_ref();
        let current = applied.is_some_and(|applied| {
            let Applied { deployment_uid, deployment_generation, group_generation: generation, at: _ } = applied;
            *deployment_uid == deployment.uid && *deployment_generation == deployment.generation && *generation == group_generation
        });
        if current && objects::controls(self.group, deployment.controller.as_ref()) {
            return;
        }
        // A drift that comes back at once is somebody else's controller: it is corrected, but not in a race.
        let drifted = applied.filter(|applied| applied.deployment_uid == deployment.uid && applied.group_generation == group_generation);
        if drifted.is_some_and(|applied| self.too_early(applied.at, BETWEEN_APPLIES)) {
            return;
        }
        self.writes.push(if template.replicas.is_none() && deployment.replicas_applied {
            // Given up in one step, replicas would fall back to their default of one.
            Write::HoldReplicas { name, uid: deployment.uid.clone(), resource_version: deployment.resource_version, replicas: deployment.replicas }
        } else {
            Write::ApplyDeployment { name, uid: Some(deployment.uid.clone()) }
        });
    }
}
