//! A process that can die: what it was doing stops where it stands, and its hands no longer reach anything.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The life of one process, shared by all that belongs to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Process(Arc<AtomicBool>);

impl Process {
    pub(crate) fn kill(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on only while the process lives. A dead one waits for ever, and does nothing more.
    pub(crate) async fn goes_on(&self) {
        if self.is_dead() {
            pending::<()>().await;
        }
    }
}
