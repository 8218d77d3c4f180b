//! When each candidate acted as the leader, from the lines that it printed, and where two did so at once.
//!
//! It rests on what the applications did and on nothing that an elector or the API server says of itself. Times are of the
//! clock that all processes of a host share.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Between two ticks of one run of acting. A candidate ticks every 20 ms; one that is paused or done does not.
const LONGEST_GAP: Duration = Duration::from_millis(100);

/// What a candidate can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    /// It began to lead.
    Started,
    /// It leads; said again and again.
    Acting,
    /// It was told that it does not lead any more.
    Stopped,
    /// It saw who leads.
    Leader,
    /// It is about to end.
    Exit,
}

/// Now, on the clock of the lines.
pub(crate) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// One line of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Line {
    /// When: since the start of the host's monotonic clock.
    #[serde(rename = "ns", deserialize_with = "nanoseconds")]
    pub(crate) at: Duration,
    pub(crate) event: Event,
    /// Whom it saw lead; empty if nobody.
    pub(crate) leader: Option<String>,
}

fn nanoseconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_nanos)
}

/// The lines of a log, in which what the program logs otherwise is mixed, and whose end may still be being written.
pub(crate) fn lines(log: &str) -> Vec<Line> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let ours = whole.lines().filter(|line| line.starts_with("{\"ns\""));
    ours.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not a candidate's line ({error}): {line}"))).collect()
}

/// A time in which a candidate acted, from its first tick to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// A time in which two candidates acted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) who: [String; 2],
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Overlap {
    pub(crate) fn lasted(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

impl fmt::Debug for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.who;
        write!(f, "{one} and {other} both acted for {} ms from {:?} on", self.lasted().as_millis(), self.from)
    }
}

/// The account of all candidates of one lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    acted: Vec<(String, Vec<Interval>)>,
}

impl Account {
    /// Reads the logs, each with its candidate's name.
    pub(crate) fn of<Log: AsRef<str>>(logs: impl IntoIterator<Item = (impl Into<String>, Log)>) -> Self {
        let mut account = Self::default();
        for (who, log) in logs {
            account.add(who, intervals(&lines(log.as_ref())));
        }
        account
    }

    /// Adds what is known of somebody who prints no lines.
    pub(crate) fn add(&mut self, who: impl Into<String>, acted: Vec<Interval>) {
        self.acted.push((who.into(), acted));
    }

    /// When this candidate acted.
    pub(crate) fn intervals_of(&self, who: &str) -> &[Interval] {
        self.acted.iter().find(|(name, _)| name == who).map_or(&[], |(_, intervals)| intervals)
    }

    /// Each time in which two acted at once, in the order in which they began.
    pub(crate) fn overlaps(&self) -> Vec<Overlap> {
        let mut found = Vec::new();
        for (index, (one, acted)) in self.acted.iter().enumerate() {
            for (other, acted_too) in &self.acted[index + 1..] {
                for a in acted {
                    let shared = acted_too.iter().map(|b| (a.from.max(b.from), a.to.min(b.to))).filter(|(from, to)| from <= to);
                    found.extend(shared.map(|(from, to)| Overlap { who: [one.clone(), other.clone()], from, to }));
                }
            }
        }
        found.sort_by_key(|overlap| overlap.from);
        found
    }

    /// Panics if two ever acted at once.
    pub(crate) fn testify(&self) {
        let overlaps = self.overlaps();
        assert!(overlaps.is_empty(), "two acted at once: {overlaps:?}");
    }
}

/// Puts ticks together that are so close that the candidate acted in between.
pub(crate) fn intervals(lines: &[Line]) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = Vec::new();
    for tick in lines.iter().filter(|line| line.event == Event::Acting).map(|line| line.at) {
        match intervals.last_mut() {
            Some(last) if tick.saturating_sub(last.to) < LONGEST_GAP => last.to = tick,
            _ => intervals.push(Interval { from: tick, to: tick }),
        }
    }
    intervals
}

/// The times from `started` to `stopped`: when an application acted that rests on being told, and on nothing else.
pub(crate) fn until_told(lines: &[Line]) -> Vec<Interval> {
    let mut intervals = Vec::new();
    let mut began = None;
    for line in lines {
        match line.event {
            Event::Started => began = Some(line.at),
            // One that never led may be told as well.
            Event::Stopped => intervals.extend(began.take().map(|from| Interval { from, to: line.at })),
            Event::Acting | Event::Leader | Event::Exit => {}
        }
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The log of a candidate that ticked at these milliseconds.
    fn log(ticks: impl IntoIterator<Item = u64>) -> String {
        ticks.into_iter().fold(String::new(), |log, tick| log + &format!("{{\"ns\":{},\"event\":\"acting\"}}\n", tick * 1_000_000))
    }

    #[test]
    fn every_event_is_read_and_other_output_is_not() {
        let log = "I1122 10:00:00.000000 1 leaderelection.go:258] \"Attempting to acquire leader lease\"\n\
            {\"ns\":1,\"event\":\"leader\",\"leader\":\"\"}\n{\"ns\":2,\"event\":\"started\"}\n{\"ns\":3,\"event\":\"acting\"}\n\
            {\"ns\":4,\"event\":\"stopped\"}\n{\"ns\":5,\"event\":\"exit\"}\n{\"ns\":6,\"eve";
        let read: Vec<(u128, Event, Option<String>)> = lines(log).into_iter().map(|line| (line.at.as_nanos(), line.event, line.leader)).collect();
        let silent = |ns, event| (ns, event, None);
        assert_eq!(
            read,
            [(1, Event::Leader, Some(String::new())), silent(2, Event::Started), silent(3, Event::Acting), silent(4, Event::Stopped), silent(5, Event::Exit)]
        );
    }

    #[test]
    #[should_panic(expected = "not a candidate's line")]
    fn a_line_that_nobody_understands_is_not_passed_over() {
        lines("{\"ns\":1,\"event\":\"retired\"}\n");
    }

    #[test]
    fn close_ticks_are_one_interval_and_a_pause_parts_them() {
        let ticks = (0..=10).map(|tick| tick * 20).chain([299, 399, 5000]);
        let account = Account::of([("a", log(ticks))]);
        let interval = |from, to| Interval { from: ms(from), to: ms(to) };
        assert_eq!(account.intervals_of("a"), [interval(0, 299), interval(399, 399), interval(5000, 5000)]);
        assert!(account.intervals_of("b").is_empty());
    }

    #[test]
    fn whoever_rests_on_being_told_acts_from_the_start_to_the_word() {
        let said = |ns: u64, event: &str| format!("{{\"ns\":{ns},\"event\":\"{event}\"}}\n");
        let log = said(1, "stopped") + &said(2, "started") + &said(3, "acting") + &said(9, "stopped") + &said(12, "started");
        assert_eq!(until_told(&lines(&log)), [Interval { from: Duration::from_nanos(2), to: Duration::from_nanos(9) }]);
    }

    #[test]
    fn whoever_is_paused_while_another_acts_overlaps_with_nobody() {
        let paused = (0..50).chain(300..350).map(|tick| tick * 20);
        let other = (60..290).map(|tick| tick * 20);
        Account::of([("paused", log(paused)), ("other", log(other))]).testify();
    }

    #[test]
    fn each_overlap_names_both_and_lasts_as_long_as_both_ticked() {
        let first = log((0..=50).map(|tick| tick * 20));
        let second = log((40..=100).map(|tick| tick * 20));
        let third = log((95..=110).map(|tick| tick * 20));
        let overlaps = Account::of([("first", first), ("second", second), ("third", third)]).overlaps();
        let overlap = |one: &str, other: &str, from, to| Overlap { who: [one.to_owned(), other.to_owned()], from: ms(from), to: ms(to) };
        assert_eq!(overlaps, [overlap("first", "second", 800, 1000), overlap("second", "third", 1900, 2000)]);
        assert_eq!(overlaps[0].lasted(), ms(200));
    }

    #[test]
    #[should_panic(expected = "two acted at once: [one and other both acted for 0 ms")]
    fn a_single_tick_of_another_is_an_overlap() {
        Account::of([("one", log((0..=50).map(|tick| tick * 20))), ("other", log([500]))]).testify();
    }
}
