//! What proves that the process which acquired a lock is dead, case by case. In all of them the container of the leader's
//! process began at 10:00:00, and the lock was acquired at 10:00:05.5.

use jiff::Timestamp;
use leadergroup::elector::{Instance, Origin, PodReport, Unproven, judge, runs};

const NEVER: &str = "";

fn time(text: &str) -> Option<Timestamp> {
    (!text.is_empty()).then(|| format!("2026-11-26T{text}Z").parse().unwrap())
}

fn origin() -> Origin {
    let [namespace, pod, uid, container] = ["here", "web-1", "uid-1", "web"].map(str::to_owned);
    Origin { namespace, pod, uid, container, started: time("10:00:00.2").unwrap() }
}

fn ended(started: &str, finished: &str) -> Instance {
    Instance::Ended { started: time(started), finished: time(finished), code: Some(137) }
}

fn running(started: &str) -> Instance {
    Instance::Running { started: time(started) }
}

fn pod(instances: &[Instance]) -> PodReport {
    PodReport { uid: "uid-1".into(), instances: instances.to_vec(), ..PodReport::default() }
}

/// What is made of it: nothing where it is proven.
fn verdict(acquired: &str, renewed: &str, pod: &PodReport) -> Option<Unproven> {
    judge(&origin(), time(acquired), time(renewed), pod).err()
}

/// The same of a record of 10:00:05.5 that was renewed last at 10:07:00.
fn of(instances: &[Instance]) -> Option<Unproven> {
    verdict("10:00:05.5", "10:07:00", &pod(instances))
}

const DEAD: (&str, &str) = ("10:00:00", "10:07:01");

fn dead() -> Instance {
    ended(DEAD.0, DEAD.1)
}

#[test]
fn a_container_that_ended_after_its_process_acquired_the_lock_proves_its_death() {
    let death = judge(&origin(), time("10:00:05.5"), time("10:07:00"), &pod(&[dead()])).unwrap();
    assert_eq!((Some(death.finished), death.code), (time(DEAD.1), Some(137)));
}

#[test]
fn so_it_does_where_the_container_was_started_anew_since() {
    assert_eq!(of(&[running("10:07:02"), dead()]), None);
    assert_eq!(of(&[running("10:07:01"), dead()]), None, "within the second");
    assert_eq!(of(&[ended("10:07:02", "10:07:03"), dead()]), None, "and has ended again");
}

#[test]
fn a_status_of_before_proves_nothing() {
    for stale in [&[][..], &[running("10:00:00")], &[running("10:00:00"), ended("09:50:00", "09:59:59")], &[ended("09:50:00", "09:59:59")]] {
        assert!(matches!(of(stale), Some(Unproven::NotEnded)), "{stale:?}");
    }
}

#[test]
fn another_pod_of_the_name_proves_nothing_however_dead_it_is() {
    for uid in ["uid-2", NEVER] {
        assert_eq!(verdict("10:00:05.5", "10:07:00", &PodReport { uid: uid.into(), ..pod(&[dead()]) }), Some(Unproven::AnotherPod));
    }
}

#[test]
fn a_container_whose_processes_may_outlive_it_or_have_another_clock_proves_nothing() {
    let shares = PodReport { shares_processes: true, ..pod(&[dead()]) };
    let machine = PodReport { has_runtime_class: true, ..pod(&[dead()]) };
    assert_eq!(verdict("10:00:05.5", "10:07:00", &shares), Some(Unproven::SharedProcesses));
    assert_eq!(verdict("10:00:05.5", "10:07:00", &machine), Some(Unproven::RuntimeClass));
}

/// The clock was set back in two steps, each too small to be noticed: before the process looked at it, and before it acquired. The
/// status is right, and shows the instance that runs.
#[test]
fn what_seems_to_be_acquired_before_its_process_began_proves_nothing() {
    let next = Origin { started: time("10:06:59.138").unwrap(), ..origin() };
    let told = pod(&[running("10:07:01"), ended("10:06:54", "10:07:01")]);
    assert_eq!(judge(&next, time("10:06:58.32"), time("10:06:58.32"), &told).err(), Some(Unproven::ClockSet));
}

#[test]
fn what_was_acquired_by_the_next_instance_is_not_the_former_ones() {
    let next = Origin { started: time("10:07:02.4").unwrap(), ..origin() };
    // Its status comes late; and in time.
    for told in [&[dead()][..], &[running("10:07:02"), dead()]] {
        assert_eq!(judge(&next, time("10:07:02.6"), time("10:07:02.6"), &pod(told)).err(), Some(Unproven::NotEnded));
    }
}

#[test]
fn a_time_of_acquisition_that_another_has_kept_is_found_out_by_the_renewal() {
    // As client-go keeps it, where it finds its own name.
    assert_eq!(verdict("10:00:05.5", "10:07:04", &pod(&[running("10:07:02"), dead()])), Some(Unproven::Renewed));
    assert_eq!(verdict("10:00:05.5", "10:07:04", &pod(&[dead()])), Some(Unproven::Renewed), "though the status comes late");
}

#[test]
fn where_the_clock_was_set_back_nothing_is_proven() {
    // Between two instances, by an hour; the second has acquired, and the status tells of it.
    let later = [running("09:07:02"), ended("08:00:00", "10:07:01")];
    let second = Origin { started: time("09:07:02.3").unwrap(), ..origin() };
    assert_eq!(judge(&second, time("09:07:05"), time("09:07:05"), &pod(&later)).err(), Some(Unproven::NotEnded));
    // The same, before it tells of it: the process did not begin with that container.
    assert_eq!(judge(&second, time("09:07:05"), time("09:07:05"), &pod(&later[1..])).err(), Some(Unproven::NotEnded));
    // By little, of instances that are short.
    assert_eq!(of(&[running("10:00:06"), ended("10:00:00", "10:07:01")]), Some(Unproven::MayRun));
    assert_eq!(of(&[running("10:06:59"), dead()]), Some(Unproven::ClockSet));
    assert_eq!(of(&[ended("10:06:59", "10:08:00"), dead()]), Some(Unproven::ClockSet));
    assert_eq!(of(&[ended("09:00:00", "10:00:01"), dead()]), Some(Unproven::ClockSet), "the former one would have ended after its start");
    assert_eq!(of(&[ended("10:00:00", "09:00:00")]), Some(Unproven::NotEnded), "it ended before it began");
}

#[test]
fn a_status_of_before_the_clock_was_set_back_is_not_that_of_the_next_instance() {
    // It shows the former one running, which began when this one seems to have begun; and one before that ended later, it seems.
    let next = Origin { started: time("10:01:20.3").unwrap(), ..origin() };
    let stale = pod(&[running("10:01:22"), ended("10:01:13", "10:01:22")]);
    assert!(runs(&next, &stale), "as late as a start may be stamped");
    assert_eq!(judge(&next, time("10:01:20.4"), time("10:01:20.4"), &stale).err(), Some(Unproven::MayRun));
}

#[test]
fn a_process_knows_its_instance_by_its_pod_and_the_start_of_the_only_one_that_runs() {
    let is_shown = |instances: &[Instance]| runs(&origin(), &pod(instances));
    assert!(is_shown(&[running("10:00:00")]) && is_shown(&[running("10:00:00"), ended("09:00:00", "10:00:00")]));
    for other in [&[][..], &[dead()], &[running("10:00:03")], &[running("09:59:50")], &[running(NEVER)], &[running("10:00:00"), running("10:00:00")]] {
        assert!(!is_shown(other), "{other:?}");
    }
    assert!(!is_shown(&[running("10:00:00"), ended("09:00:00", "10:00:01")]) && !is_shown(&[running("10:00:00"), ended("09:00:00", NEVER)]));
    assert!(!runs(&origin(), &PodReport { uid: "uid-2".into(), ..pod(&[running("10:00:00")]) }));
}

#[test]
fn two_instances_that_may_both_be_it_prove_nothing() {
    assert_eq!(of(&[dead(), dead()]), Some(Unproven::NotEnded));
    assert_eq!(of(&[ended("10:00:01", "10:08:00"), dead()]), Some(Unproven::NotEnded));
}

#[test]
fn a_time_that_is_missing_or_cannot_be_read_proves_nothing() {
    for instances in [[ended(NEVER, DEAD.1), running("10:07:02")], [ended(DEAD.0, NEVER), running("10:07:02")], [dead(), running(NEVER)]] {
        assert_eq!(of(&instances), Some(Unproven::NoTime), "{instances:?}");
    }
    assert_eq!(of(&[ended(NEVER, NEVER)]), Some(Unproven::NoTime), "as of a container that could not be found when the pod ended");
    assert_eq!(verdict(NEVER, "10:07:00", &pod(&[dead()])), Some(Unproven::NoTime));
    assert_eq!(verdict("10:00:05.5", NEVER, &pod(&[dead()])), Some(Unproven::NoTime));
}

#[test]
fn times_that_are_cut_to_seconds_are_judged_to_the_safe_side() {
    // The acquisition: before the second in which it ended.
    let short = |finished: &str| [ended("10:00:00", finished)];
    assert_eq!(verdict("10:00:05.5", "10:00:05.5", &pod(&short("10:00:06"))), None);
    assert_eq!(verdict("10:00:05.5", "10:00:05.5", &pod(&short("10:00:05"))), Some(Unproven::NotEnded));
    assert_eq!(verdict("10:00:06", "10:00:06", &pod(&short("10:00:06"))), Some(Unproven::NotEnded));
    // The last renewal: until the end of that second.
    assert_eq!(verdict("10:00:05.5", "10:07:01.999999", &pod(&[dead()])), None);
    assert_eq!(verdict("10:00:05.5", "10:07:02", &pod(&[dead()])), Some(Unproven::Renewed));
    // Another that runs: begun more than two seconds later.
    let ends_soon = |started: &str| [running(started), ended("10:00:00", "10:00:06")];
    assert_eq!(verdict("10:00:05.5", "10:00:05.5", &pod(&ends_soon("10:00:08"))), None);
    assert_eq!(verdict("10:00:05.5", "10:00:05.5", &pod(&ends_soon("10:00:07"))), Some(Unproven::MayRun));
    // The start, which is stamped up to two seconds late, and after which a process begins within ten seconds.
    for (started, is_its) in [("10:00:02", true), ("10:00:03", false), ("09:59:51", true), ("09:59:50", false)] {
        let expected = (!is_its).then_some(Unproven::NotEnded);
        assert_eq!(of(&[ended(started, DEAD.1)]), expected, "{started}");
    }
    let at_once = Origin { started: time("10:00:00").unwrap(), ..origin() };
    assert_eq!(judge(&at_once, time("10:00:00"), time("10:00:00"), &pod(&[ended("10:00:02", "10:00:09")])).err(), None);
}

#[test]
fn no_time_is_too_far_to_be_judged() {
    let times =
        ["-009999-01-02T01:59:59Z", "0000-01-01T00:00:00Z", "2026-11-26T10:00:00Z", "9999-12-30T22:00:00Z"].map(|text| text.parse::<Timestamp>().unwrap());
    for (acquired, renewed) in times.iter().flat_map(|one| times.iter().map(move |other| (*one, *other))) {
        for (started, finished) in times.iter().flat_map(|one| times.iter().map(move |other| (*one, *other))) {
            let report = pod(&[Instance::Ended { started: Some(started), finished: Some(finished), code: None }, Instance::Running { started: Some(renewed) }]);
            let _ = judge(&Origin { started: acquired, ..origin() }, Some(acquired), Some(renewed), &report);
        }
    }
}

#[test]
fn where_a_process_runs_is_known_only_where_all_four_variables_can_be_what_they_are_called() {
    let given = [("POD_NAMESPACE", "here"), ("POD_NAME", "web-1"), ("POD_UID", "0f1b-2"), ("CONTAINER_NAME", "web")];
    let of = |variables: [(&str, &str); 4]| Origin::of_pod(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()));
    assert!(of(given).is_some_and(|origin| origin.uid == "0f1b-2"));
    for number in 0..given.len() {
        for bad in ["", "..", "../secrets", "a/b", "a b", "a?b", "a%2f", "ä", &"x".repeat(254)] {
            let mut changed = given;
            changed[number].1 = bad;
            assert_eq!(of(changed), None, "{bad:?}");
            changed[number].0 = "OTHER";
            assert_eq!(of(changed), None);
        }
    }
}
