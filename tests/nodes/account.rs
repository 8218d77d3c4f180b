//! What clients' records say about a change of leaders, beside what the API showed and when. Pure.

use std::time::Duration;

use anyhow::{Context, bail};

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// Who answered, or why nobody did.
    pub(super) answer: Result<Answer, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) pod: String,
    /// What the pod said of itself.
    pub(super) thinks_it_leads: bool,
}

/// A line as `app ask` writes it.
pub(super) fn parse(line: &str) -> anyhow::Result<Request> {
    let words: Vec<&str> = line.split(' ').collect();
    let [began, ended, answer @ ..] = &words[..] else { bail!("no record: {line:?}") };
    let at = |nanoseconds: &str| nanoseconds.parse().map(Duration::from_nanos).with_context(|| format!("no record: {line:?}"));
    let answer = match answer {
        ["!", why @ ..] => Err(why.join(" ")),
        [pod, _, leads] => Ok(Answer { pod: (*pod).to_owned(), thinks_it_leads: *leads == "true" }),
        _ => bail!("no record: {line:?}"),
    };
    Ok(Request { began: at(began)?, ended: at(ended)?, answer })
}

/// A pod carried the label from one moment to another, or to the end.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    pub(super) pod: String,
    pub(super) from: Duration,
    pub(super) until: Option<Duration>,
}

/// How one client fared since a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fared {
    pub(super) requests: usize,
    pub(super) failed: usize,
    /// The longest time from one answer to the next.
    pub(super) without_answer: Duration,
    /// Answers to requests that began after the pod's label was seen to be gone.
    pub(super) stale: usize,
    /// How many of these pods thought that they lead.
    pub(super) deluded: usize,
    /// From the loss of a label to the last answer of its pod.
    pub(super) stale_for: Duration,
}

pub(super) fn fared(requests: &[Request], leaderships: &[Leadership], since: Duration) -> Fared {
    let mut fared = Fared::default();
    let mut answered = None;
    for request in requests {
        let counts = request.began >= since;
        fared.requests += usize::from(counts);
        let Ok(answer) = &request.answer else {
            fared.failed += usize::from(counts);
            continue;
        };
        if counts && let Some(before) = answered {
            fared.without_answer = fared.without_answer.max(request.ended.saturating_sub(since.max(before)));
        }
        answered = Some(request.ended);
        if counts && let Some(lost) = lost_before(&answer.pod, leaderships, request.began) {
            fared.stale += 1;
            fared.deluded += usize::from(answer.thinks_it_leads);
            fared.stale_for = fared.stale_for.max(request.ended.saturating_sub(lost));
        }
    }
    fared
}

/// When this pod had lost the label, if it had carried it before that moment and carried it no longer.
fn lost_before(pod: &str, leaderships: &[Leadership], moment: Duration) -> Option<Duration> {
    let last = leaderships.iter().rev().find(|leadership| leadership.pod == pod && leadership.from <= moment)?;
    last.until.filter(|until| *until < moment)
}

/// The end of the first answer of a pod since a moment.
pub(super) fn first_answer(requests: &[Request], pod: &str, since: Duration) -> Option<Duration> {
    let of_pod = |request: &&Request| request.began >= since && request.answer.as_ref().is_ok_and(|answer| answer.pod == pod);
    requests.iter().find(of_pod).map(|request| request.ended)
}

/// What one client saw since a moment, in words: who answered, or why nobody did, and from when to when.
pub(super) fn told(requests: &[Request], since: Duration) -> String {
    let mut runs: Vec<(String, usize, Duration, Duration)> = Vec::new();
    for request in requests.iter().filter(|request| request.began >= since) {
        let what = match &request.answer {
            Ok(answer) if answer.thinks_it_leads => format!("{} (thinks it leads)", answer.pod),
            Ok(answer) => answer.pod.clone(),
            Err(why) => why.clone(),
        };
        match runs.last_mut() {
            Some((last, count, _, ended)) if *last == what => (*count, *ended) = (*count + 1, request.ended),
            _ => runs.push((what, 1, request.began, request.ended)),
        }
    }
    let second = |moment: &Duration| moment.saturating_sub(since).as_secs_f64();
    let runs = runs.iter().map(|(what, count, began, ended)| format!("{:.2}–{:.2} s {what} ×{count}", second(began), second(ended)));
    runs.collect::<Vec<_>>().join(", ")
}

/// Whether this pod, and no other, has answered the last requests.
pub(super) fn settled(requests: &[Request], pod: &str) -> bool {
    const ENOUGH: usize = 10;
    let last = requests.iter().rev().take(ENOUGH);
    requests.len() >= ENOUGH && last.into_iter().all(|request| request.answer.as_ref().is_ok_and(|answer| answer.pod == pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn record() -> Vec<Request> {
        let lines = [(0, "a 1 true"), (20, "a 1 true"), (40, "! refused"), (60, "a 1 true"), (80, "! timeout"), (400, "b 2 false"), (420, "b 2 true")];
        lines.iter().map(|(began, answer)| parse(&format!("{} {} {answer}", began * 1_000_000, (began + 5) * 1_000_000)).unwrap()).collect()
    }

    fn leaderships() -> Vec<Leadership> {
        vec![Leadership { pod: "a".into(), from: at(0), until: Some(at(30)) }, Leadership { pod: "b".into(), from: at(35), until: None }]
    }

    #[test]
    fn answers_after_the_label_is_gone_are_counted_and_those_before_are_not() {
        let fared = fared(&record(), &leaderships(), at(10));
        assert_eq!((fared.requests, fared.failed, fared.stale, fared.deluded), (6, 2, 1, 1));
        assert_eq!((fared.stale_for, fared.without_answer), (at(35), at(340)));
    }

    #[test]
    fn a_pod_that_leads_again_is_no_former_leader() {
        let again = Leadership { pod: "a".into(), from: at(50), until: None };
        let leaderships = [leaderships(), vec![again]].concat();
        assert_eq!(fared(&record(), &leaderships, at(10)).stale, 0);
    }

    #[test]
    fn the_first_answer_of_a_pod_is_the_one_after_the_cause() {
        assert_eq!(first_answer(&record(), "a", at(30)), Some(at(65)));
        assert_eq!(first_answer(&record(), "b", at(30)), Some(at(405)));
        assert_eq!(first_answer(&record(), "c", at(0)), None);
    }

    #[test]
    fn what_a_client_saw_is_told_in_runs() {
        assert_eq!(told(&record(), at(50)), "0.01–0.01 s a (thinks it leads) ×1, 0.03–0.04 s timeout ×1, 0.35–0.35 s b ×1, 0.37–0.38 s b (thinks it leads) ×1");
    }

    #[test]
    fn a_few_answers_are_not_yet_settled() {
        let mut requests = record();
        assert!(!settled(&requests, "b"));
        requests.extend(std::iter::repeat_n(requests[6].clone(), 9));
        assert!(settled(&requests, "b") && !settled(&requests, "a"));
    }
}
