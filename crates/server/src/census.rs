//! A count, once after the start, of open uploads below the prefix that are not this server's.
//!
//! Deliberately absent: touching them. They may belong to another server, or to a database that was restored since; the
//! bucket's lifecycle rule ends them.

use std::collections::HashSet;
use std::sync::Arc;

use hoist_wire::ChecksumKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bucket::{Bucket, Check, Verdict};
use crate::http::Readiness;
use crate::links::chain;
use crate::store::Store;

/// Most pages that are read: a hundred thousand uploads on S3.
const MAX_PAGES: u32 = 100;

/// What is counted, and where it is told.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) readiness: Readiness,
    /// Filled when the bucket has answered.
    pub(crate) answered: watch::Receiver<Option<ChecksumKind>>,
}

impl Census {
    /// Waits until the bucket answers, counts, and tells `/ready`.
    pub(crate) async fn take(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            check = self.counted() => self.readiness.checked(&check),
        }
    }

    async fn counted(&mut self) -> Check {
        // Its sender is dropped only when the server stops.
        let _ = self.answered.wait_for(Option::is_some).await;
        let (verdict, detail) = match self.foreign().await {
            Ok((0, _)) => (Verdict::Ok, String::from("every open upload is this server's")),
            Ok((count, all)) => {
                let at_least = if all { "" } else { "at least " };
                let detail = format!(
                    "{at_least}{count} open uploads below the prefix are not this server's: they are left alone, and to \
                     the lifecycle rule"
                );
                tracing::info!(count, all, "open uploads that are not this server's are left alone");
                (Verdict::Ok, detail)
            }
            Err(said) => (Verdict::Unknown, said),
        };
        Check { name: "foreign_uploads", verdict, detail }
    }

    /// Counts uploads under keys that no row names, and tells whether those were all.
    async fn foreign(&self) -> Result<(usize, bool), String> {
        let mut listed = Vec::new();
        let mut after = None;
        let mut all = false;
        for _ in 0..MAX_PAGES {
            let page = self.bucket.keys_with_uploads(after).await.map_err(|error| chain(&error))?;
            listed.extend(page.keys);
            after = page.next;
            all = after.is_none();
            if all {
                break;
            }
        }
        // Read after the listing: a row stands before its upload is created.
        let own = self.store.upload_keys().await.map_err(|error| chain(&error))?;
        let own: HashSet<String> = own.into_iter().collect();
        Ok((listed.iter().filter(|key| !own.contains(*key)).count(), all))
    }
}
