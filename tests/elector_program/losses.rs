//! What becomes of a command whose elector has lost the lease, was displaced, paused or killed: nothing that lasts.

use rustix::process::{Pid, Signal, kill_process};

use super::stage::{CALM, QUICK, Running, Stage, children, pid, until, until_gone};
use super::web;
use crate::control_plane::Mode;

/// Does not end when it is asked to.
const STUBBORN: &str = "trap 'echo asked >> $LOG' TERM; echo started $$ >> $LOG; while :; do sleep 0.02; done";

/// Starts a wrapper around a web server.
fn server(stage: &Stage, id: &str, flags: &[&str]) -> Running {
    stage.wrapper_through(stage.plane.kubeconfig(), id, flags, &web::command())
}

/// The process of the command that was started last.
async fn command(stage: &Stage) -> Pid {
    let rest = stage.until_logged("started ").await;
    pid(rest.lines().next().unwrap().parse().unwrap())
}

/// Waits until this many servers were started, and gives the last one.
async fn served(stage: &Stage, count: usize) -> web::Served {
    until(&format!("server {count} serves"), async || {
        let servers = web::servers(&stage.file("log"));
        if servers.len() >= count && servers[count - 1].answers() { Ok(servers[count - 1]) } else { Err(format!("{servers:?}")) }
    })
    .await
}

/// Waits until the last server is this elector's.
async fn served_by(stage: &Stage, elector: &Running) -> web::Served {
    until("its server serves", async || {
        let last = web::servers(&stage.file("log")).pop();
        let own: Vec<Pid> = children(pid(elector.process.pid())).into_iter().flat_map(children).collect();
        last.filter(|last| own.contains(&pid(last.pid)) && last.answers()).ok_or_else(|| format!("{last:?}; its own are {own:?}"))
    })
    .await
}

#[tokio::test]
async fn a_command_is_asked_to_end_and_then_killed_before_its_lease_can_be_anothers() {
    let stage = Stage::new("losses").await;
    let proxy = stage.plane.proxy().unwrap();
    let kubeconfig = stage.plane.kubeconfig_through(&proxy).unwrap();
    let elector = stage.wrapper_through(&kubeconfig, "pod-a", &QUICK, &["sh", "-c", STUBBORN]);
    let first = command(&stage).await;
    proxy.set(Mode::BlackHole).await;
    stage.until_logged("asked").await;
    let next = stage.wrapper("pod-b", &QUICK, "exec sleep 1000");
    until_gone(first).await;
    next.until_leader_is("pod-b").await;
    // It contends on, and leads again when its turn comes.
    proxy.set(Mode::Pass).await;
    elector.until_leader_is("pod-b").await;
    next.signal(Signal::TERM);
    next.code().await;
    elector.until_leader_is("pod-a").await;
}

#[tokio::test]
async fn a_displaced_leaders_command_is_killed_at_once() {
    let stage = Stage::new("losses").await;
    let elector = stage.wrapper("pod-a", &["--exit-on-loss"], STUBBORN);
    let command = command(&stage).await;
    stage.displace("somebody").await;
    until_gone(command).await;
    assert_eq!(elector.code().await, 1);
    assert_eq!(stage.lock().await.holder_identity.as_deref(), Some("somebody"), "another's lease is left alone");
}

#[tokio::test]
async fn a_command_of_another_user_ends_with_its_container_where_it_cannot_be_signalled() {
    let stage = Stage::new("losses").await;
    // Its own number is another outside of its container: it is known by how long it sleeps.
    let naps = format!("1000.{}", std::process::id());
    let script = format!("echo started >> $LOG; exec setpriv --reuid=65534 --regid=65534 --clear-groups sleep {naps}");
    let elector = stage.wrapper_without_kill("pod-a", &[], &script);
    stage.until_logged("started").await;
    until("it sleeps", async || if sleeps(&naps) { Ok(()) } else { Err(elector.process.log_end(30)) }).await;
    stage.displace("somebody").await;
    assert_eq!(elector.code().await, 1);
    until("nothing is left", async || if sleeps(&naps) { Err(elector.process.log_end(30)) } else { Ok(()) }).await;
    assert!(elector.process.log().contains("capability KILL"), "{}", elector.process.log_end(30));
}

/// Leaves another user's process that sleeps for so long.
fn leaves(naps: &str) -> String {
    format!("echo started >> $LOG; setpriv --reuid=65534 --regid=65534 --clear-groups sleep {naps} & sleep 0.5; exit 7")
}

#[tokio::test]
async fn what_a_command_leaves_for_a_while_costs_it_neither_its_code_nor_a_second_run() {
    let stage = Stage::new("losses").await;
    let elector = stage.wrapper_without_kill("pod-a", &QUICK, &leaves("8"));
    assert_eq!(elector.code().await, 7);
    assert_eq!(std::fs::read_to_string(stage.file("log")).unwrap(), "started\n");
}

#[tokio::test]
async fn a_command_that_is_not_to_be_run_again_is_not_whatever_becomes_of_the_lease_before_all_of_it_has_ended() {
    let stage = Stage::new("losses").await;
    let elector = stage.wrapper_without_kill_below_a_shell("pod-a", &QUICK, &leaves("8"));
    stage.until_logged("started").await;
    elector.until_told("The command has ended").await;
    stage.displace("somebody").await;
    elector.until_told("ended with 7").await;
    assert_eq!(std::fs::read_to_string(stage.file("log")).unwrap(), "started\n");
}

#[tokio::test]
async fn who_cannot_end_what_its_command_has_left_leads_no_longer_and_contends_for_nothing() {
    let stage = Stage::new("losses").await;
    let naps = format!("1001.{}", std::process::id());
    let elector = stage.wrapper_without_kill_below_a_shell("pod-a", &QUICK, &leaves(&naps));
    stage.until_logged("started").await;
    let next = stage.wrapper("pod-b", &QUICK, "exec sleep 1000");
    next.until_leader_is("pod-b").await;
    elector.until_told("nothing is contended for").await;
    assert_ne!(elector.get("/is-leader").await.0, 200);
    assert!(sleeps(&naps), "it is another's to end");
}

#[tokio::test]
async fn that_a_command_was_killed_while_it_shut_down_is_told_by_the_exit_code() {
    let stage = Stage::new("losses").await;
    let elector = stage.wrapper("pod-a", &CALM, STUBBORN);
    command(&stage).await;
    elector.signal(Signal::TERM);
    stage.until_logged("asked").await;
    stage.displace("somebody").await;
    assert_eq!(elector.code().await, 128 + 9);
}

/// Whether a process sleeps for so long.
fn sleeps(naps: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok()).any(|line| line == format!("sleep\0{naps}\0").as_bytes())
}

#[tokio::test]
async fn a_killed_elector_leaves_no_command_behind() {
    let stage = Stage::new("losses").await;
    let elector = stage.wrapper("pod-a", &CALM, STUBBORN);
    let command = command(&stage).await;
    let guard = elector.guard().await;
    elector.process.kill().unwrap();
    until_gone(command).await;
    until_gone(guard).await;
}

#[tokio::test]
async fn the_command_of_a_paused_elector_ends_before_another_serves() {
    let stage = Stage::new("losses").await;
    let first = server(&stage, "pod-a", &QUICK);
    let served_first = served(&stage, 1).await;
    let second = server(&stage, "pod-b", &QUICK);
    second.until_leader_is("pod-a").await;
    first.signal(Signal::STOP);
    let served_next = served_by(&stage, &second).await;
    assert_ne!(served_first.pid, served_next.pid);
    first.signal(Signal::CONT);
    first.until_leader_is("pod-b").await;
    web::one_at_a_time(&web::servers(&stage.file("log"))).unwrap();
}

#[tokio::test]
async fn a_paused_guard_does_not_keep_the_command_alive() {
    let stage = Stage::new("losses").await;
    let first = server(&stage, "pod-a", &CALM);
    served(&stage, 1).await;
    let second = server(&stage, "pod-b", &CALM);
    second.until_leader_is("pod-a").await;
    let guard = first.guard().await;
    kill_process(guard, Signal::STOP).unwrap();
    // Renewals go on, until the elector is cut off by another's record.
    stage.displace("somebody").await;
    until_gone(guard).await;
    first.until_leader_is("somebody").await;
    let servers = web::servers(&stage.file("log"));
    assert_eq!(servers.len(), 1);
    until_gone(pid(servers[0].pid)).await;
}

#[tokio::test]
async fn a_lost_guard_takes_its_command_along_and_the_elector_starts_both_anew() {
    let stage = Stage::new("losses").await;
    let elector = server(&stage, "pod-a", &CALM);
    let first = served(&stage, 1).await;
    let guard = elector.guard().await;
    kill_process(guard, Signal::KILL).unwrap();
    let second = served(&stage, 2).await;
    assert!(first.pid != second.pid && first.term == second.term, "{first:?}, {second:?}");
    web::one_at_a_time(&web::servers(&stage.file("log"))).unwrap();
    assert_eq!(children(pid(elector.process.pid())).len(), 1);
}
