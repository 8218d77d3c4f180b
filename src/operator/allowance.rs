//! So much at once, and then once each time that so long has passed: what goes on without end goes on without end, and costs little.
//! It knows no clock.

use std::time::Duration;

use crate::elector::clock::Instant;

/// So much at once, and another each time that this has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate(pub(super) u32, pub(super) Duration);

/// What is left of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    /// When all of it is there again.
    whole: Instant,
}

impl Allowance {
    /// What is left after another; `None`: there is nothing left for it.
    pub(super) fn after_another(self, Rate(at_once, between): Rate, now: Instant) -> Option<Self> {
        let whole = self.whole.max(now) + between;
        (whole - now <= between * at_once).then_some(Self { whole })
    }

    pub(super) fn is_whole(self, now: Instant) -> bool {
        self.whole <= now
    }
}
