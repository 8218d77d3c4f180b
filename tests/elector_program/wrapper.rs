//! The elector in front of an application: when the command runs, what it gets, and how its end is the elector's.

use rustix::process::Signal;

use super::stage::{CALM, Stage, children, pid, until, until_gone, zombies};

/// Runs until it is ended.
const FOREVER: &str = "echo started $$ >> $LOG; exec sleep 1000";

#[tokio::test]
async fn a_command_runs_while_its_elector_leads_and_knows_its_term() {
    let stage = Stage::new("wrapper").await;
    let script = "echo \"$LEADERGROUP_IDENTITY leads in term $LEADERGROUP_TERM\" >> $LOG; exec sleep 1000";
    let first = stage.wrapper("pod-a", &CALM, script);
    stage.until_logged("pod-a leads in term 0\n").await;
    let second = stage.wrapper("pod-b", &CALM, script);
    second.until_leader_is("pod-a").await;
    assert!(!stage.log().contains("pod-b"), "{}", stage.log());

    first.signal(Signal::TERM);
    assert_eq!(first.code().await, 128 + 15);
    stage.until_logged("pod-b leads in term 1\n").await;
    assert_eq!(second.json("/leader").await["term"], 1);
}

#[tokio::test]
async fn signals_are_passed_on_and_sigterm_ends_the_command_before_the_lease_is_given_back() {
    let stage = Stage::new("wrapper").await;
    let script = r#"
        for signal in HUP USR1 USR2 QUIT WINCH; do trap "echo got $signal >> $LOG" $signal; done
        trap 'echo ending >> $LOG; while [ ! -e $LOG.end ]; do sleep 0.02; done; exit 7' TERM
        echo started >> $LOG
        while :; do sleep 0.02; done"#;
    let elector = stage.wrapper("pod-a", &CALM, script);
    stage.until_logged("started").await;
    for (signal, name) in [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2"), (Signal::QUIT, "QUIT"), (Signal::WINCH, "WINCH")] {
        elector.signal(signal);
        stage.until_logged(&format!("got {name}\n")).await;
    }

    elector.signal(Signal::TERM);
    stage.until_logged("ending").await;
    let renewed = stage.lock().await.renew_time;
    until("the lease is renewed while the command ends", async || if stage.lock().await.renew_time == renewed { Err("it was not") } else { Ok(()) }).await;
    assert_eq!(stage.lock().await.holder_identity.as_deref(), Some("pod-a"));
    std::fs::write(stage.file("log.end"), "").unwrap();
    assert_eq!(elector.code().await, 7);
    assert_eq!(stage.lock().await.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn the_end_of_the_command_is_the_electors_and_gives_the_lease_back() {
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 128 + 9)] {
        let stage = Stage::new("wrapper").await;
        let elector = stage.wrapper("pod-a", &CALM, script);
        assert_eq!(elector.code().await, code, "{script}");
        assert_eq!(stage.lock().await.holder_identity.as_deref(), Some(""), "{script}");
    }
}

#[tokio::test]
async fn a_standby_ends_at_once_when_it_is_asked_to() {
    let stage = Stage::new("wrapper").await;
    let leader = stage.wrapper("pod-a", &CALM, FOREVER);
    stage.until_logged("started").await;
    let standby = stage.wrapper("pod-b", &CALM, FOREVER);
    standby.until_leader_is("pod-a").await;
    standby.signal(Signal::TERM);
    assert_eq!(standby.code().await, 0);
    assert_eq!(leader.json("/leader").await["isLeader"], true);
}

#[tokio::test]
async fn a_standby_ends_by_the_signals_that_its_image_stops_with() {
    let stage = Stage::new("wrapper").await;
    let _leader = stage.wrapper("pod-a", &CALM, FOREVER);
    stage.until_logged("started").await;
    let flags: Vec<&str> = CALM.iter().copied().chain(["--stop-signals=TERM,QUIT", "--restart=always"]).collect();
    let standby = stage.wrapper("pod-b", &flags, FOREVER);
    standby.until_leader_is("pod-a").await;
    standby.signal(Signal::QUIT);
    assert_eq!(standby.code().await, 0);
}

#[tokio::test]
async fn what_the_commands_own_variables_say_of_its_log_keeps_nobody_from_starting() {
    let stage = Stage::new("wrapper").await;
    let environment = [("LOG", stage.file("log")), ("LOG_FORMAT", "plain".into()), ("LOG_LEVEL", "notice".into())];
    let script = ["--", "sh", "-c", "echo $LOG_FORMAT $LOG_LEVEL >> $LOG; exit 4"];
    let elector = stage.start("pod-a", stage.plane.kubeconfig(), &[&["run"], &CALM[..]].concat(), &environment, |elector| elector.args(script));
    stage.until_logged("plain notice\n").await;
    assert_eq!(elector.code().await, 4);
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_told_as_shells_tell_it() {
    let stage = Stage::new("wrapper").await;
    std::fs::write(stage.file("no-program"), "").unwrap();
    let not_executable = stage.file("no-program");
    for (command, code, words) in [("no-such-program", 127, "was not found"), (not_executable.to_str().unwrap(), 126, "is not an executable file")] {
        let elector = stage.wrapper_through(stage.plane.kubeconfig(), "pod-a", &CALM, &[command]);
        assert_eq!(elector.code().await, code);
        elector.until_told(words).await;
    }
    // What only the kernel finds out. The lease is given back.
    std::fs::write(stage.file("script"), "#!/no/such/interpreter\n").unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(stage.file("script"), permissions).unwrap();
    let elector = stage.wrapper_through(stage.plane.kubeconfig(), "pod-a", &["--restart=always"], &[stage.file("script")]);
    assert_eq!(elector.code().await, 127);
    assert_eq!(stage.lock().await.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn a_command_is_run_again_in_the_same_term_where_that_is_asked_for() {
    let stage = Stage::new("wrapper").await;
    let script = "echo run $LEADERGROUP_TERM >> $LOG; [ $(wc -l < $LOG) -ge 3 ]";
    let elector = stage.wrapper("pod-a", &["--restart=on-failure"], script);
    assert_eq!(elector.code().await, 0);
    assert_eq!(stage.log(), "run 0\nrun 0\nrun 0\n");

    let elector = stage.wrapper("pod-a", &["--restart=always"], script);
    stage.until_logged("run 1\nrun 1\n").await;
    elector.signal(Signal::TERM);
    elector.code().await;
    assert_eq!(stage.lock().await.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn orphans_are_reaped_and_end_with_the_command() {
    let stage = Stage::new("wrapper").await;
    // Three that end soon, one that stays, and one that leaves the group and the session.
    let script = "for i in 1 2 3; do (sh -c 'echo orphan >> $LOG' &); done
        (sleep 1000 & echo stays $! >> $LOG)
        (setsid sh -c 'echo left $$ >> $LOG; exec sleep 1000' &)
        while [ $(wc -l < $LOG) -lt 5 ]; do :; done
        echo ready >> $LOG
        while [ ! -e $LOG.end ]; do sleep 0.02; done
        exit 5";
    let elector = stage.wrapper("pod-a", &CALM, script);
    stage.until_logged("ready").await;
    let guard = elector.guard().await;
    until("all orphans are reaped", async || {
        let (unreaped, alive) = (zombies(guard), children(guard));
        // The command, the one that stays and the one that left.
        if unreaped.is_empty() && alive.len() == 3 { Ok(()) } else { Err(format!("{unreaped:?}, {alive:?} run")) }
    })
    .await;
    assert_eq!(zombies(pid(elector.process.pid())), []);
    std::fs::write(stage.file("log.end"), "").unwrap();
    assert_eq!(elector.code().await, 5);
    for word in ["stays", "left"] {
        let orphan = stage.until_logged(&format!("{word} ")).await;
        until_gone(pid(orphan.lines().next().unwrap().parse().unwrap())).await;
    }
}
