//! A short soak: what `make soak` does for half an hour, for half a minute and from one seed.

use std::path::Path;
use std::time::Duration;

use super::arena;
use crate::control_plane::{ControlPlane, Options};

#[allow(dead_code, reason = "the command uses the rest")]
#[path = "../local/soak/mod.rs"]
pub(crate) mod parts;

#[tokio::test]
async fn whatever_happens_one_pod_leads_in_rising_terms() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let account = arena::install(&plane).await;
    let program = Path::new(env!("CARGO_BIN_EXE_leadergroup-operator"));
    let length = Duration::from_secs(40);
    let plan = parts::Plan { plane: &plane, program, account: &account, seed: 7, length, groups: 6, keep: None };
    let outcome = parts::run(plan).await.unwrap();
    println!("{}", parts::report::table(&outcome));
    let broken = outcome.broken();
    assert!(broken.is_empty(), "{broken:#?}\n{}", outcome.log_ends);
}
