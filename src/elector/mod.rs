//! Leader election in client-go's protocol: candidates written with it and candidates written with client-go contend
//! safely for one lock.
//!
//! It stands alone: it needs nothing else of this crate and no feature, and leaves the choice of Kubernetes' version
//! (`k8s-openapi`'s feature) to the program.
//!
//! ```no_run
//! use std::time::Duration;
//! use leadergroup::elector::{self, Callbacks, Config, Elector, LockKind, LockOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = elector::client(kube::Config::infer().await?)?;
//! let options = LockOptions {
//!     namespace: "default".into(),
//!     name: "example".into(),
//!     identity: elector::unique_identity("pod-1"),
//!     ..LockOptions::default()
//! };
//! let config = Config { release_on_cancel: true, name: "example".into(), ..Config::default() };
//! let mut elector = Elector::new(elector::lock(LockKind::Leases, &client, &options), config)?;
//! let mut callbacks = Callbacks::new(|tenure| async move {
//!     while tenure.is_held() {
//!         println!("leading in term {}", tenure.term());
//!         tokio::select! {
//!             () = tenure.stop_requested() => return,
//!             () = tokio::time::sleep(Duration::from_secs(1)) => {}
//!         }
//!     }
//! });
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! elector.run_until(&mut callbacks, stop).await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - At most one candidate leads at a time, as long as clocks run at rates that differ by less than
//!   `leaseDuration / (renewDeadline + retryPeriod)`; their settings do not matter. Every candidate judges by what it
//!   observed itself; stamps of others are never compared with its own clock.
//! - A leader that cannot renew stops before another can lead, and *then* writes to the API server, if at all.
//! - A leader that was paused does not act on: its [`Tenure`] tells at every use whether it still holds.
//! - Only this candidate's own record is ever emptied.
//! - A leader whose lock's object was deleted has lost, whether or not there is another; whoever knew the lock waits a lease.
//! - With [`Elector::with_death_by_proof`] a leader is not waited out whose container has ended, as its pod's status proves.
//! - No leadership has a number that its candidate knew to be taken, whatever became of the object.
//!
//! Like client-go's, it cannot stop a process that is frozen between asking [`Tenure::is_held`] and acting. Pass
//! [`Tenure::term`] to what you write to, and let it refuse lower ones. And whoever deletes the lock's object, or restores the
//! API server's store to an earlier state, lets a candidate that cannot know of the holder lead beside it, until the holder is
//! told or renews next; and where no candidate is left that knew the terms, they begin anew.

mod brake;
mod callbacks;
pub mod clock;
mod config;
mod contact;
mod death;
mod following;
mod health;
mod leadership;
mod lock;
mod origin;
mod run;
mod step;
mod text;
mod watching;
mod work;

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Client;

pub use callbacks::Callbacks;
pub use config::{Config, ConfigError, JITTER_FACTOR};
pub use death::{Death, Instance, PodReport, Unproven, judge, runs};
pub use health::HealthAdaptor;
pub use leadership::{Leadership, Tenure};
pub use lock::{
    AnnotationLock, ClusterPods, LEADER_ANNOTATION, LeaseLock, Lock, LockError, LockKind, LockOptions, MultiLock, Pods, Record, Sighting, Snapshot,
    UNKNOWN_LEADER, lock,
};
pub use origin::{Origin, PROCESS_ANNOTATION};
pub use run::{Elector, Ended};
pub use step::Loss;

/// `NAME_UUID`: an identity that no other process, and no other run of this one, has (controller-runtime's form).
///
/// A name that survives a restart makes a new process take over at once what its predecessor held, though it may still
/// be at work.
pub fn unique_identity(name: &str) -> String {
    format!("{name}_{}", uuid::Uuid::new_v4())
}

/// A configuration whose clients retry nothing by themselves, because a write that is repeated behind its sender's back may
/// arrive after its decision was forgotten, and give up a connection that is not established soon.
pub fn without_retries(config: kube::Config) -> kube::Config {
    let mut config = config;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config
}

/// A client for elections alone, [`without_retries`].
pub fn client(config: kube::Config) -> Result<Client, kube::Error> {
    let mut config = without_retries(config);
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("leadergroup/", env!("CARGO_PKG_VERSION"), " leader-election"))));
    Client::try_from(config)
}
