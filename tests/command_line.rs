//! What both programs make of their command lines, as processes. None of this needs a cluster.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

const OPERATOR: &str = env!("CARGO_BIN_EXE_leadergroup-operator");
const ELECTOR: &str = env!("CARGO_BIN_EXE_leadergroup-elector");

/// One of the programs outside of any cluster, with no settings but these.
fn program(path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("KUBECONFIG", "/no/such/kubeconfig").args(arguments).stdin(Stdio::null());
    command
}

fn ended(path: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = program(path, arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// What no flag makes right, whatever else is given.
const NONSENSE: &[&[&str]] = &[
    &["--log-level=verbose"],
    &["--no-such-flag"],
    &["--leader-elect=perhaps"],
    &["--leader-elect-lease-duration=5s"],
    &["--leader-elect-resource-lock=secrets"],
    &["--leader-elect-renew-deadline=0s"],
    &["--exit-after-unreachable=1s"],
];

#[test]
fn settings_that_make_no_sense_end_both_programs_with_two() {
    for arguments in NONSENSE {
        let (code, words) = ended(OPERATOR, arguments);
        assert_eq!(code, Some(2), "leadergroup-operator {arguments:?}: {words}");
        for before in [&["--id=a"][..], &["serve", "--id=a"], &["run", "--id=a"]] {
            let command: &[&str] = if before[0] == "run" { &["--", "true"] } else { &[] };
            let arguments = [before, arguments, command].concat();
            let (code, words) = ended(ELECTOR, &arguments);
            assert_eq!(code, Some(2), "leadergroup-elector {arguments:?}: {words}");
        }
    }
    for arguments in [&["--concurrent-groups=0"][..], &["--metrics-cert-path=/certs", "--leader-elect=false"]] {
        assert_eq!(ended(OPERATOR, arguments).0, Some(2), "{arguments:?}");
    }
    assert_eq!(ended(ELECTOR, &["--leader-elect=false"]).0, Some(2));
}

#[test]
fn what_cannot_be_done_for_another_reason_ends_both_programs_with_one() {
    let elected = ["--leader-elect-resource-name=web", "--leader-elect-resource-namespace=here"];
    for (path, more) in [(OPERATOR, &[][..]), (ELECTOR, &["--id=a"][..])] {
        let (code, words) = ended(path, &[&elected[..], more].concat());
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("No cluster was found"), "{words}");
    }
}

#[test]
fn where_lines_are_json_all_lines_are() {
    let json = "--log-format=json";
    let cases: &[(&str, &[&str])] = &[
        (OPERATOR, &[json, "--leader-elect-lease-duration=5s"]),
        (OPERATOR, &[json, "--leader-elect=false"]),
        (ELECTOR, &[json, "--id=a", "--leader-elect-lease-duration=5s"]),
        (ELECTOR, &["run", json, "--", "no-such-command"]),
    ];
    for (path, arguments) in cases {
        let (_, words) = ended(path, arguments);
        assert!(words.contains("\"level\":\"ERROR\""), "{arguments:?}: {words}");
        for line in words.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{arguments:?}: {line}");
        }
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_stops_nothing() {
    for (path, arguments) in [(OPERATOR, &["--leader-elect-lease-duration=5s"][..]), (ELECTOR, &["--leader-elect=false"])] {
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let status = program(path, arguments).stderr(OwnedFd::from(writer)).status().unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {status}");
    }
}

#[test]
fn a_guard_whose_elector_is_gone_ends_without_a_word() {
    let (mut elector, guard) = UnixStream::pair().unwrap();
    // Moments that do not come.
    writeln!(elector, "hold {} {}", i64::MAX - 1, i64::MAX).unwrap();
    drop(elector);
    let guard = program(ELECTOR, &["guard", "--", "/bin/sleep", "1000"]).stdin(OwnedFd::from(guard)).output().unwrap();
    assert!(guard.status.success() && guard.stderr.is_empty(), "{guard:?}");
}

#[test]
fn a_guard_that_somebody_else_starts_says_so_as_its_log_is_set() {
    let (code, words) = ended(ELECTOR, &["guard", "--log-format=json", "--", "true"]);
    let line: serde_json::Value = serde_json::from_str(&words).unwrap_or_else(|error| panic!("{error}: {words}"));
    assert!(code == Some(1) && line["message"].as_str().unwrap().contains("is started by `leadergroup-elector run`"), "{words}");
}
