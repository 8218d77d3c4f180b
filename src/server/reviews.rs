//! What the API server has said about tokens, for how long that holds, and who may have it asked again. Decides; asks nobody
//! and reads no clock.
//!
//! Everybody can send tokens that nobody knows. So strangers share a budget of questions, and whoever was allowed before is
//! outside of it: a flood of bad tokens costs the API server little, and the scraper nothing.

use std::collections::HashMap;
use std::time::Duration;

use crate::elector::clock::Instant;

/// Tokens that are remembered.
const KNOWN: usize = 128;
/// How long a yes holds.
const YES: Duration = Duration::from_secs(60);
/// How long a no holds: rights that were just given are soon seen.
const NO: Duration = Duration::from_secs(10);
/// Questions about strangers at once, and after how long there is one more.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_millis(100);

/// What came of a review.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Allowed,
    /// The token is nobody's.
    Unauthenticated,
    /// It is this user's, who has no right to it.
    Denied(String),
}

struct Known {
    verdict: Verdict,
    learned: Instant,
}

impl Known {
    fn holds(&self, now: Instant) -> bool {
        now - self.learned < if self.verdict == Verdict::Allowed { YES } else { NO }
    }
}

pub(super) struct Reviews {
    known: HashMap<String, Known>,
    budget: u32,
    /// When the budget last grew.
    grown: Instant,
}

impl Reviews {
    pub(super) fn new(now: Instant) -> Self {
        Self { known: HashMap::new(), budget: BURST, grown: now }
    }

    /// What is known of this token and still holds.
    pub(super) fn verdict(&self, token: &str, now: Instant) -> Option<Verdict> {
        self.known.get(token).filter(|known| known.holds(now)).map(|known| known.verdict.clone())
    }

    /// Whether this token was allowed when it was last looked at.
    pub(super) fn is_friend(&self, token: &str) -> bool {
        self.known.get(token).is_some_and(|known| known.verdict == Verdict::Allowed)
    }

    /// Takes one question about a stranger out of the budget, if there is one left.
    pub(super) fn may_ask(&mut self, now: Instant) -> bool {
        if now - self.grown >= REFILL * BURST {
            (self.budget, self.grown) = (BURST, now);
        }
        while self.budget < BURST && now - self.grown >= REFILL {
            (self.budget, self.grown) = (self.budget + 1, self.grown + REFILL);
        }
        let may = self.budget > 0;
        self.budget -= u32::from(may);
        may
    }

    pub(super) fn learn(&mut self, token: &str, verdict: Verdict, now: Instant) {
        if !self.known.contains_key(token) && self.known.len() >= KNOWN {
            // The oldest of the refused, and a friend only where there are friends alone.
            let oldest = self.known.iter().min_by_key(|(_, known)| (known.verdict == Verdict::Allowed, known.learned));
            let Some((oldest, known)) = oldest.map(|(token, known)| (token.clone(), known)) else { return };
            if known.verdict == Verdict::Allowed && verdict != Verdict::Allowed {
                return;
            }
            self.known.remove(&oldest);
        }
        self.known.insert(token.to_owned(), Known { verdict, learned: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(Duration::from_secs(1000));

    fn denied() -> Verdict {
        Verdict::Denied("somebody".to_owned())
    }

    #[test]
    fn a_yes_holds_for_a_minute_and_a_no_for_ten_seconds() {
        let mut reviews = Reviews::new(START);
        reviews.learn("good", Verdict::Allowed, START);
        reviews.learn("bad", denied(), START);
        reviews.learn("none", Verdict::Unauthenticated, START);
        for (token, holds, still) in [("good", YES, Verdict::Allowed), ("bad", NO, denied()), ("none", NO, Verdict::Unauthenticated)] {
            assert_eq!(reviews.verdict(token, START + holds / 2), Some(still), "{token}");
            assert_eq!(reviews.verdict(token, START + holds), None, "{token}");
        }
        assert_eq!(reviews.verdict("unknown", START), None);
    }

    #[test]
    fn strangers_share_a_budget_that_fills_up_again_slowly() {
        let mut reviews = Reviews::new(START);
        let asked = |reviews: &mut Reviews, now: Instant| (0..1000).filter(|_| reviews.may_ask(now)).count();
        assert_eq!(asked(&mut reviews, START), BURST as usize);
        assert_eq!(asked(&mut reviews, START), 0);
        assert_eq!(asked(&mut reviews, START + Duration::from_secs(1)), 10);
        assert_eq!(asked(&mut reviews, START + Duration::from_secs(86_400 * 365 * 30)), BURST as usize);
    }

    #[test]
    fn a_flood_of_bad_tokens_is_forgotten_before_the_one_that_was_allowed() {
        let mut reviews = Reviews::new(START);
        reviews.learn("good", Verdict::Allowed, START);
        for number in 0..10 * KNOWN {
            reviews.learn(&number.to_string(), Verdict::Unauthenticated, START + Duration::from_secs(number as u64));
        }
        assert_eq!(reviews.known.len(), KNOWN);
        assert!(reviews.is_friend("good"), "it is asked about outside of the budget, though its answer holds no more");
        assert_eq!(reviews.verdict("good", START + Duration::from_secs(3600)), None);
        reviews.learn("good", denied(), START);
        assert!(!reviews.is_friend("good"));
    }

    #[test]
    fn where_only_friends_are_known_a_stranger_pushes_none_of_them_out() {
        let mut reviews = Reviews::new(START);
        for number in 0..=KNOWN {
            reviews.learn(&number.to_string(), Verdict::Allowed, START + Duration::from_secs(number as u64));
        }
        assert!(!reviews.is_friend("0") && reviews.is_friend("1"));
        reviews.learn("bad", denied(), START);
        assert!(reviews.is_friend("1") && reviews.verdict("bad", START).is_none());
    }
}
