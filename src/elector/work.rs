//! The work of a leader while it is under way. It ends when this is dropped.

use std::any::Any;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::leadership::{Phase, State};

/// The work of a leader that is under way, and what was told of it. Where the run is dropped, so is the work, and nobody
/// is told any longer that it leads.
pub(super) struct Work {
    /// Empty once it has ended.
    task: JoinSet<()>,
    pub(super) announcing: JoinHandle<()>,
    pub(super) panic: Option<Box<dyn Any + Send>>,
    state: watch::Sender<State>,
}

impl Work {
    pub(super) fn begin(work: BoxFuture<'static, ()>, announcing: JoinHandle<()>, state: watch::Sender<State>) -> Self {
        let mut task = JoinSet::new();
        task.spawn(work);
        Self { task, announcing, panic: None, state }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.task.is_empty()
    }

    /// Completes when it ends, and remembers how; at once if it had.
    pub(super) async fn end(&mut self) {
        if let Some(ended) = self.task.join_next().await {
            self.panic = ended.err().filter(JoinError::is_panic).map(JoinError::into_panic);
        }
    }

    pub(super) fn abort(&mut self) {
        self.task.abort_all();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.state.send_if_modified(|state| std::mem::take(&mut state.phase) != Phase::Following);
    }
}
