//! What nobody else would finish: deadlines, downloads left completing, uploads to be aborted.

use std::sync::Arc;
use std::time::Duration;

use hoist_wire::{ClientId, DownloadId};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::{Downloads, Letter};
use crate::bucket::{BucketError, MultipartId};
use crate::http::SESSION_IDLE;
use crate::links::chain;
use crate::store::{StoreError, UploadRow};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(5);

/// Rounds between two looks for clients whose nudge was lost.
const NUDGE_EVERY_ROUNDS: u32 = 12;

/// Most rows of a kind in one read.
const PAGE: u32 = 100;

/// Most client ids in one read: they come from an index alone.
const CLIENTS: u32 = 1_000;

/// How soon an abort that failed is tried again.
const ABORT_AGAIN_MS: u64 = 60_000;

/// How long the reaper looks again after the last grant's end, so that a late PUT finds nothing to revive.
const AFTER_LAST_GRANT_MS: u64 = 60_000;

/// How long storage may take a request that was signed: a Create that nobody heard of lands within this time.
const REQUEST_LIVES_MS: u64 = 15 * 60_000;

/// How long an idempotency key counts.
const IDEMPOTENCY_MS: i64 = 24 * 3_600_000;

/// Sweeps until the server stops.
pub async fn sweep(downloads: Arc<Downloads>) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            biased;
            () = downloads.stop.cancelled() => return,
            _ = rounds.tick() => count = count.wrapping_add(1),
            () = downloads.litter.notified() => {}
        }
        if count.is_multiple_of(NUDGE_EVERY_ROUNDS) {
            count += 1;
            if let Err(error) = nudge_all(&downloads).await {
                tracing::error!(error = %chain(&error), "the sweeper cannot see who is waited for");
            }
        }
        for (what, outcome) in [
            ("deadlines", overdue(&downloads).await),
            ("downloads left completing", left_completing(&downloads).await),
            ("uploads to abort", reap(&downloads).await),
            ("idempotency keys", forget_keys(&downloads).await),
            ("sessions", forget_sessions(&downloads).await),
        ] {
            if let Err(error) = outcome {
                tracing::error!(what, error = %chain(&error), "the sweeper cannot use the store");
            }
        }
    }
}

/// A nudge may be lost (another node wrote the request, or its writer died): it costs a delay, never a download.
async fn nudge_all(downloads: &Arc<Downloads>) -> Result<(), StoreError> {
    let mut after: Option<ClientId> = None;
    loop {
        let page = downloads.shop.store.waiting_clients(after.as_ref(), CLIENTS).await?;
        for client in &page {
            downloads.shop.links.nudge(client);
        }
        if page.len() < CLIENTS as usize {
            return Ok(());
        }
        after = page.last().cloned();
    }
}

async fn overdue(downloads: &Arc<Downloads>) -> Result<(), StoreError> {
    for id in downloads.shop.store.overdue(downloads.shop.world.now(), PAGE).await? {
        downloads.drive(id, Letter::Sweep).await;
    }
    Ok(())
}

/// A node that died, this one before its restart included, leaves downloads that only need somebody to look.
async fn left_completing(downloads: &Arc<Downloads>) -> Result<(), StoreError> {
    let mut after: Option<DownloadId> = None;
    loop {
        let page = downloads.shop.store.completing(after, PAGE).await?;
        for id in page.iter().copied().filter(|id| !downloads.is_running(*id)) {
            downloads.drive(id, Letter::Sweep).await;
        }
        after = page.last().copied();
        if page.len() < PAGE as usize {
            return Ok(());
        }
    }
}

/// Aborts what is ours and no longer wanted; touches exactly the keys of its own table.
async fn reap(downloads: &Arc<Downloads>) -> Result<(), StoreError> {
    let deadline = Instant::now() + 6 * ROUND;
    for row in downloads.shop.store.uploads_to_abort(downloads.shop.world.now(), PAGE).await? {
        // A bucket that hangs must not keep deadlines waiting.
        if timeout_at(deadline, reap_one(downloads, &row)).await.is_err() {
            tracing::warn!("the bucket is slow to abort uploads: the rest is done in the next round");
            return Ok(());
        }
    }
    Ok(())
}

async fn reap_one(downloads: &Downloads, row: &UploadRow) {
    let shop = &downloads.shop;
    let gone = abort_all(downloads, row).await;
    let now = shop.world.now();
    let (aborted_once, next_check_at) = match gone {
        // Once more after the last grant's end; then storage's word is final.
        Ok(()) if row.aborted_once => (true, None),
        Ok(()) => {
            let grant_ms = u64::try_from(shop.grant_ttl.as_millis()).unwrap_or(u64::MAX);
            let last_ms = grant_ms.max(REQUEST_LIVES_MS).saturating_add(AFTER_LAST_GRANT_MS);
            (true, Some(now.plus_ms(last_ms)))
        }
        Err(error) => {
            tracing::warn!(key = row.object_key, error = %chain(&error), "an upload cannot be aborted: tried again");
            (row.aborted_once, Some(now.plus_ms(ABORT_AGAIN_MS)))
        }
    };
    if let Err(error) = shop.store.upload_aborted(&row.upload_row, aborted_once, next_check_at).await {
        tracing::error!(key = row.object_key, error = %chain(&error), "an abort cannot be noted");
    }
}

/// Aborts the row's upload; where its id was never learnt, whatever stands under exactly its key and is in no other row.
async fn abort_all(downloads: &Downloads, row: &UploadRow) -> Result<(), BucketError> {
    let bucket = &downloads.shop.bucket;
    let ids: Vec<MultipartId> = match &row.multipart_id {
        Some(id) => vec![id.clone()],
        None => {
            let listed = bucket.list_uploads_of(&row.object_key).await?;
            // Read after the listing: an upload that another row is creating may be in it without its id here.
            let wanted = match downloads.shop.store.upload_of(row.download_id).await {
                Ok(None) => None,
                Ok(Some(UploadRow { multipart_id: Some(id), .. })) => Some(id),
                Ok(Some(_)) | Err(_) if listed.is_empty() => None,
                Ok(Some(_)) | Err(_) => return Err(unclear(row)),
            };
            listed.into_iter().filter(|id| Some(id) != wanted.as_ref()).collect()
        }
    };
    for id in ids {
        match bucket.abort(&row.object_key, &id).await {
            Ok(()) | Err(BucketError::NoSuchUpload { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unclear(row: &UploadRow) -> BucketError {
    let message = String::from("another upload of the same download is being created");
    BucketError::Unclear { call: "AbortMultipartUpload", key: row.object_key.clone(), message }
}

async fn forget_keys(downloads: &Arc<Downloads>) -> Result<(), StoreError> {
    let before = hoist_wire::Timestamp(downloads.shop.world.now().0 - IDEMPOTENCY_MS);
    downloads.shop.store.forget_idempotency(before).await
}

async fn forget_sessions(downloads: &Arc<Downloads>) -> Result<(), StoreError> {
    let now = downloads.shop.world.now();
    let idle_ms = i64::try_from(SESSION_IDLE.as_millis()).unwrap_or(i64::MAX);
    downloads.shop.store.forget_sessions(now, hoist_wire::Timestamp(now.0 - idle_ms)).await
}
