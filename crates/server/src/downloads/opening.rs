//! Making sure that there is an upload: the row comes first, so that a crash leaves nothing that nobody remembers.
//!
//! A look at the key comes before that: an object that stands there was completed by somebody, perhaps by this very
//! server before its database was restored from a backup, and is never put at risk.

use std::collections::BTreeMap;

use hoist_engine::life::Upload;
use hoist_engine::parts::{Listing, PartTable};
use hoist_engine::plan::{Plan, PlanError};
use hoist_wire::{ErrorCode, PartNumber};

use super::Shop;
use super::key::object_meta;
use crate::bucket::{BucketError, MultipartId};
use crate::clock::random_id;
use crate::links::chain;
use crate::store::{Record, StoreError, UploadRow};

/// How opening went.
#[derive(Debug)]
pub(super) enum Opening {
    /// There is an upload, and this is what it holds.
    Ready(Box<Opened>),
    /// The upload that the record speaks of is gone, or no longer fits the file.
    Gone,
    /// An object stands under the key.
    Taken,
    /// Not now: the bucket or the store said this.
    NotNow(String),
    /// Never.
    Unfit(ErrorCode, String),
}

/// An upload that parts can be put into.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) upload: Upload,
    /// None for an empty file, which needs no upload.
    pub(super) multipart_id: Option<MultipartId>,
    pub(super) listing: Listing,
    /// How often each part was granted since the upload was looked at.
    pub(super) granted: BTreeMap<PartNumber, u8>,
}

/// Opens the upload of a record that has an offer and a key. `earlier` are the receipts that are known.
pub(super) async fn open(shop: &Shop, record: &Record, earlier: &PartTable) -> Opening {
    let size_bytes = record.life.size_bytes.unwrap_or(0);
    let upload = match cut(shop, record, size_bytes) {
        Ok(upload) => upload,
        Err(opening) => return opening,
    };
    match shop.bucket.is_taken(record.object_key.as_deref().unwrap_or_default()).await {
        Ok(false) => {}
        Ok(true) => return Opening::Taken,
        Err(error) => return Opening::NotNow(chain(&error)),
    }
    if size_bytes == 0 {
        let listing = Listing::default();
        return Opening::Ready(Box::new(Opened {
            upload,
            multipart_id: None,
            listing,
            granted: BTreeMap::new(),
        }));
    }
    match find_or_create(shop, record, upload).await {
        Ok(Some(multipart_id)) => list(shop, record, upload, multipart_id, earlier).await,
        Ok(None) => Opening::Gone,
        Err(message) => Opening::NotNow(message),
    }
}

/// Cuts the file as its upload was cut, or as a new one is.
fn cut(shop: &Shop, record: &Record, size_bytes: u64) -> Result<Upload, Opening> {
    if let Some(upload) = record.life.upload {
        // A file that has outgrown its upload needs another.
        return match Plan::resume(size_bytes, upload.part_size_bytes) {
            Ok(_) => Ok(upload),
            Err(PlanError::TooLarge(_) | PlanError::PartSize { .. }) => Err(Opening::Gone),
        };
    }
    let plan = Plan::new(size_bytes, shop.part_size_bytes)
        .map_err(|error| Opening::Unfit(ErrorCode::FileTooLarge, error.to_string()))?;
    let Some(checksum) = *shop.checksum.borrow() else {
        let message = String::from("the bucket was not reached yet since the server started: see /ready");
        return Err(Opening::NotNow(message));
    };
    Ok(Upload { part_size_bytes: plan.part_size_bytes(), checksum })
}

/// Gives the id of the record's upload, of a new one if there is none; none when it must be given up first.
async fn find_or_create(shop: &Shop, record: &Record, upload: Upload) -> Result<Option<MultipartId>, String> {
    let said = |error: StoreError| chain(&error);
    let there = shop.store.upload_of(record.id).await.map_err(said)?;
    if let Some(row) = there {
        // Without `upload` in the record no grant was ever given for it, and what it was created with is not known.
        if let (Some(multipart_id), Some(_)) = (&row.multipart_id, record.life.upload) {
            return Ok(Some(multipart_id.clone()));
        }
        shop.store.upload_unwanted(&row.upload_row, shop.world.now()).await.map_err(said)?;
    }
    if record.life.upload.is_some() {
        return Ok(None);
    }
    create(shop, record, upload).await.map(Some)
}

async fn create(shop: &Shop, record: &Record, upload: Upload) -> Result<MultipartId, String> {
    let object_key = record.object_key.clone().unwrap_or_default();
    let row = UploadRow {
        upload_row: random_id(&*shop.world),
        download_id: record.id,
        object_key: object_key.clone(),
        multipart_id: None,
        aborted_once: false,
    };
    if !shop.store.upload_creating(&row).await.map_err(|error| chain(&error))? {
        return Err(String::from("the download ended before its upload was created"));
    }
    let created = shop.bucket.create_upload(&object_key, &object_meta(record), upload.checksum).await;
    let multipart_id = match created {
        Ok(multipart_id) => multipart_id,
        Err(error) => {
            // Perhaps it was created all the same: the reaper looks under the key.
            shop.store
                .upload_unwanted(&row.upload_row, shop.world.now())
                .await
                .map_err(|error| chain(&error))?;
            return Err(chain(&error));
        }
    };
    match shop.store.upload_open(&row.upload_row, &multipart_id).await {
        Ok(true) => Ok(multipart_id),
        Ok(false) => Err(String::from("the download ended while its upload was being created")),
        Err(error) => Err(chain(&error)),
    }
}

async fn list(
    shop: &Shop,
    record: &Record,
    upload: Upload,
    multipart_id: MultipartId,
    earlier: &PartTable,
) -> Opening {
    let object_key = record.object_key.as_deref().unwrap_or_default();
    let mut listing = Listing::default();
    // Nothing can be in an upload that was made just now.
    if record.life.upload.is_some() {
        match shop.bucket.list_parts(object_key, &multipart_id).await {
            Ok(parts) => {
                for part in parts {
                    listing.add(part.number, part.size_bytes, part.etag, part.crc64nvme, earlier);
                }
            }
            Err(BucketError::NoSuchUpload { .. }) => return Opening::Gone,
            Err(error) => return Opening::NotNow(chain(&error)),
        }
    }
    Opening::Ready(Box::new(Opened {
        upload,
        multipart_id: Some(multipart_id),
        listing,
        granted: BTreeMap::new(),
    }))
}
