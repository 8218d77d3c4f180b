//! Keeps a candidate from contending at once for what it loses again and again soon after it has it: somebody takes the lock
//! from it who does not speak the protocol, and would do so for ever. Pure; it only ever makes a candidate wait longer.

use std::time::Duration;

use super::clock::Instant;

/// So many such losses cost nothing: a failover, and one more.
const FREE: u32 = 2;
/// The first pause; each is twice the one before, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Brake {
    /// Leaderships that were lost soon, since one that lasted.
    losses: u32,
    until: Option<Instant>,
}

impl Brake {
    /// A leadership is over that somebody took. `soon`: what is soon; one that lasted four times as long makes up for all before.
    pub(super) fn lost(&mut self, acquired: Instant, now: Instant, soon: Duration) {
        let lasted = now - acquired;
        if lasted >= soon * 4 {
            self.losses = 0;
        } else if lasted < soon {
            self.losses = self.losses.saturating_add(1);
            let doublings = self.losses.checked_sub(FREE + 1);
            self.until = doublings.map(|times| now + FIRST.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST));
        }
    }

    /// Until when nothing is contended for.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    /// The pauses after leaderships of these lengths, one after the other.
    fn pauses(lengths: &[u64]) -> Vec<u64> {
        let (mut brake, mut now) = (Brake::default(), 0);
        let pause = |length: &u64| {
            let acquired = now;
            now += length;
            brake.lost(at(acquired), at(now), SOON);
            let pause = brake.until().map_or(0, |until| (until - at(now)).as_secs());
            now += pause;
            pause
        };
        lengths.iter().map(pause).collect()
    }

    #[test]
    fn the_first_losses_cost_nothing_and_then_the_pause_grows_to_a_minute() {
        assert_eq!(pauses(&[0; 12]), [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn a_leadership_that_lasted_makes_up_for_those_before_and_one_of_middling_length_for_none() {
        assert_eq!(pauses(&[0, 0, 0, 60, 0, 0, 0]), [0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(pauses(&[0, 0, 0, 20, 0]), [0, 0, 1, 0, 2]);
    }

    #[test]
    fn losses_far_apart_cost_nothing() {
        assert_eq!(pauses(&[61, 3600, 61, 86_400]), [0; 4]);
    }
}
