//! What a command has left behind whose guard could not say that nothing is left: it is ended, and told where it cannot be. It decides
//! nothing of what becomes of the leadership.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;
use tracing::warn;

use super::tree;

/// Shared by everything that may leave something behind, or ends that.
#[derive(Clone, Debug, Default)]
pub(super) struct Remnants {
    there: Arc<AtomicBool>,
    /// Whoever holds this ends them; others wait for that.
    ending: Arc<Mutex<()>>,
}

impl Remnants {
    /// Something may be left.
    pub(super) fn note(&self) {
        self.there.store(true, Ordering::Relaxed);
    }

    pub(super) fn are_there(&self) -> bool {
        self.there.load(Ordering::Relaxed)
    }

    /// Ends all that is left. It may be dropped, and is called again then. `may_wait`: whether there is time for what cannot be ended, and may
    /// end by itself.
    ///
    /// # Errors
    /// Where there is none, and something is left.
    pub(super) async fn end(&self, may_wait: impl Fn() -> bool) -> io::Result<()> {
        let _ending = self.ending.lock().await;
        if self.are_there() {
            warn!("Ending what is left of the command");
            tree::end_children(may_wait, |_, _| {}).await?;
            self.there.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}
