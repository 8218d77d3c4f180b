//! Durations as Go's flags take and print them. Signed, as Go's are, so that a negative one is refused by the rule it
//! breaks and not by its spelling.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration in nanoseconds, within Go's range of about 292 years.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct GoDuration(pub i64);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    // Both letters that look like a micro.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// So many seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// The same for the rest of the program, which knows no negative durations: those become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or_default())
    }
}

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| format!("{why}: must be numbers with units (h, m, s, ms, us, ns), as in 15s, 1m30s, 1.5h or 300ms");
        let (sign, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (1, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(refuse("no duration"));
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let number = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').len();
            let (number, more) = rest.split_at(number);
            let unit = more.len() - more.trim_start_matches(|letter: char| !letter.is_ascii_digit() && letter != '.').len();
            let (unit, more) = more.split_at(unit);
            rest = more;
            let nanoseconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanoseconds)| i128::from(*nanoseconds));
            let nanoseconds = nanoseconds.ok_or_else(|| refuse(&if unit.is_empty() { "no unit".to_owned() } else { format!("unknown unit {unit:?}") }))?;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
                return Err(refuse("no number"));
            }
            let overflow = || "must be at most 292 years".to_owned();
            let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| overflow())? };
            // What is finer than a nanosecond is cut off, so a fraction needs no more digits than this.
            let digits = &fraction[..fraction.len().min(18)];
            let part: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| overflow())? };
            let scale = 10_i128.pow(u32::try_from(digits.len()).unwrap_or_default());
            total = whole.checked_mul(nanoseconds).and_then(|whole| total.checked_add(whole)).ok_or_else(overflow)? + part * nanoseconds / scale;
        }
        i64::try_from(sign * total).map(Self).map_err(|_| "must be at most 292 years".to_owned())
    }
}

/// As Go prints it: 15s, 1m30s, 1h0m0s, 1.5s, 300ms.
impl fmt::Display for GoDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let all = self.0.unsigned_abs();
        let decimal = |unit: u64| {
            let fraction = format!("{:0width$}", all % unit, width = unit.ilog10() as usize);
            let number = format!("{}.{fraction}", all / unit % 60);
            number.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let small = |unit: u64| {
            let width = unit.ilog10() as usize;
            let number = format!("{}.{:0width$}", all / unit, all % unit);
            if width == 0 { (all / unit).to_string() } else { number.trim_end_matches('0').trim_end_matches('.').to_owned() }
        };
        match all {
            0 => formatter.write_str("0s"),
            1..1_000 => write!(formatter, "{sign}{all}ns"),
            1_000..1_000_000 => write!(formatter, "{sign}{}\u{b5}s", small(1_000)),
            1_000_000..1_000_000_000 => write!(formatter, "{sign}{}ms", small(1_000_000)),
            _ => {
                let minutes = all / 60_000_000_000;
                formatter.write_str(sign)?;
                if minutes >= 60 {
                    write!(formatter, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(formatter, "{}m", minutes % 60)?;
                }
                write!(formatter, "{}s", decimal(1_000_000_000))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_that_go_takes_is_taken() {
        let cases = [
            ("0", 0),
            ("15s", 15_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("300ms", 300_000_000),
            ("-2s", -2_000_000_000),
            ("+5s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("2us", 2_000),
            ("2\u{b5}s", 2_000),
            ("2\u{3bc}s", 2_000),
            ("7ns", 7),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("0.3333333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(text.parse(), Ok(GoDuration(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_is_allowed() {
        for (text, why) in [
            ("", "no duration"),
            ("15", "no unit"),
            ("s", "no number"),
            (".s", "no number"),
            ("1.2.3s", "no number"),
            ("15sec", "unknown unit \"sec\""),
            ("1 s", "unknown unit \" s\""),
            ("1d", "unknown unit \"d\""),
            ("300000000h", "292 years"),
        ] {
            let message = text.parse::<GoDuration>().unwrap_err();
            assert!(message.contains(why) && (message.contains("1m30s") || message.contains("292")), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_duration_is_printed_as_go_prints_it() {
        for text in ["0s", "15s", "1m30s", "1h0m0s", "1.5s", "300ms", "1.5ms", "2\u{b5}s", "7ns", "-2s", "1h2m3.5s", "2m17s"] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), text);
        }
    }
}
