//! Letting go of what is old: ended downloads, and the oldest lines of the trail. Little by little, so that nobody waits.

use std::sync::Arc;
use std::time::Duration;

use hoist_wire::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::World;
use crate::links::chain;
use crate::store::{Store, StoreError};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Most rows that go in one write.
const BATCH: u32 = 200;

/// Between two writes: others write meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// How long what has ended is kept; none for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Downloads, from their end.
    pub downloads: Option<Duration>,
    /// Lines of the audit trail.
    pub audit: Option<Duration>,
}

/// Lets go of what is old, until the stop.
pub(crate) async fn retain(
    store: Arc<dyn Store>,
    world: Arc<dyn World>,
    node: String,
    retention: Retention,
    stop: CancellationToken,
) {
    loop {
        match once(&*store, &*world, &node, retention).await {
            Ok((0, 0)) => {}
            Ok((downloads, lines)) => tracing::debug!(downloads, lines, "what was old is gone"),
            Err(error) => tracing::error!(error = %chain(&error), "what is old cannot be let go"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Lets go of all that is old by now. Gives how many downloads and lines went.
async fn once(
    store: &dyn Store,
    world: &dyn World,
    node: &str,
    retention: Retention,
) -> Result<(u64, u64), StoreError> {
    let before = |age: Duration| {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Timestamp(world.now().0.saturating_sub(age))
    };
    let (mut downloads, mut lines) = (0, 0);
    while let Some(age) = retention.downloads {
        let gone = store.forget_downloads(before(age), BATCH).await?;
        downloads += gone;
        if gone == 0 {
            break;
        }
        sleep(PAUSE).await;
    }
    while let Some(age) = retention.audit {
        let gone = store.trail_forget(node, before(age), 50 * BATCH, world.now()).await?;
        lines += gone;
        if gone < u64::from(50 * BATCH) {
            break;
        }
        sleep(PAUSE).await;
    }
    Ok((downloads, lines))
}
