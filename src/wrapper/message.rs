//! What the elector tells its guard and what the guard tells it, as lines of text. No I/O.

use std::time::Duration;

use crate::elector::clock::Instant;

/// From the elector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Hold(Hold),
    /// Pass this signal on.
    Signal(i32),
}

/// How long the command may run if nothing newer comes. Moments of the clock that both processes read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hold {
    /// Then it is asked to end.
    pub(super) until: Instant,
    /// Then it is ended.
    pub(super) kill: Instant,
}

/// From the guard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Report {
    /// The command runs as this process, and as the first of a group of that number.
    Started(i32),
    /// It could not be started; the code is a shell's for that.
    Failed { code: u8, why: String },
    /// It has ended by itself; what it started may not have.
    Exited(u8),
    /// It has ended, and so has everything that it started. `stopped`: because its time had run out; `left`: but that something is left
    /// which cannot be ended.
    Ended { code: u8, stopped: bool, left: bool },
}

impl Order {
    pub(super) fn line(self) -> String {
        match self {
            Self::Hold(Hold { until, kill }) => format!("hold {} {}\n", until.0.as_nanos(), kill.0.as_nanos()),
            Self::Signal(number) => format!("signal {number}\n"),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let order = match words.next()? {
            "hold" => Self::Hold(Hold { until: moment(words.next()?)?, kill: moment(words.next()?)? }),
            "signal" => Self::Signal(words.next()?.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(order)
    }
}

impl Report {
    pub(super) fn line(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {pid}\n"),
            Self::Failed { code, why } => format!("failed {code} {}\n", why.replace('\n', " ")),
            Self::Exited(code) => format!("exited {code}\n"),
            Self::Ended { code, stopped, left } => format!("ended {code} {stopped} {left}\n"),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        let both = || rest.split_once(' ');
        match word {
            "exited" => rest.parse().ok().map(Self::Exited),
            "started" => rest.parse().ok().map(Self::Started),
            "failed" => both().and_then(|(code, why)| Some(Self::Failed { code: code.parse().ok()?, why: why.to_owned() })),
            "ended" => both().and_then(|(code, rest)| {
                let (stopped, left) = rest.split_once(' ')?;
                Some(Self::Ended { code: code.parse().ok()?, stopped: stopped.parse().ok()?, left: left.parse().ok()? })
            }),
            _ => None,
        }
    }
}

fn moment(text: &str) -> Option<Instant> {
    text.parse().ok().map(|nanoseconds| Instant(Duration::from_nanos(nanoseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives() {
        let moment = |nanoseconds| Instant(Duration::from_nanos(nanoseconds));
        for order in [Order::Hold(Hold { until: moment(0), kill: moment(u64::MAX) }), Order::Signal(15)] {
            assert_eq!(Order::parse(order.line().trim_end()), Some(order));
        }
        let failed = Report::Failed { code: 127, why: "no such file: a b".to_owned() };
        for report in [Report::Started(7), Report::Exited(7), failed, Report::Ended { code: 143, stopped: true, left: false }] {
            assert_eq!(Report::parse(report.line().trim_end()), Some(report));
        }
    }

    #[test]
    fn what_was_cut_off_is_nothing() {
        for line in ["", "hold", "hold 1", "hold 1 ", "hold 1 2 3", "hold -1 2", "signal", "signal x", "other 1"] {
            assert_eq!(Order::parse(line), None, "{line:?}");
        }
        for line in ["", "started", "exited", "exited 256", "failed 1", "ended 300 true false", "ended 1", "ended 1 true", "ended 1 true maybe"] {
            assert_eq!(Report::parse(line), None, "{line:?}");
        }
    }
}
