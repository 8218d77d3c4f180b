//! How long to wait after a failure: twice as long each time, up to a limit, and up to half of it less at random, so that
//! what failed together is not tried again together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The wait after so many failures in a row, of which there is at least one.
pub(super) fn delay(failures: u32, first: Duration, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    // A fresh hasher is keyed at random.
    let random = RandomState::new().hash_one(failures) % 1024;
    whole.saturating_sub(whole.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 2048.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_is_never_less_than_half() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        for (failures, whole) in [(1, 100), (2, 200), (5, 1600), (9, 25_600), (10, 30_000), (u32::MAX, 30_000)] {
            let delay = delay(failures, first, longest);
            let whole = Duration::from_millis(whole);
            assert!(delay <= whole && delay >= whole / 2, "{delay:?} after {failures} failures");
        }
    }
}
