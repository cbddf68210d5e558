//! Complete says what was done, and a refused one leaves the upload to be mended.

use hoist_server::bucket::{BucketError, CompletePart, CompleteRequest, MultipartId};
use hoist_wire::{ChecksumKind, Crc64, PartNumber};

use crate::ctx::{Ctx, Quirk, full_part, sums};

pub(crate) async fn a_wrong_full_checksum_is_refused_and_the_upload_lives(ctx: &Ctx) {
    if ctx.kind != ChecksumKind::Crc64nvme {
        return;
    }
    let upload = ctx.create(ctx.key("wrong crc")).await;
    let parts = [ctx.part(&upload, 1, b"right").await];
    let right = ctx.complete(&upload, &parts, b"right");
    let wrong = CompleteRequest { crc64nvme: Crc64(!right.crc64nvme.0), ..right.clone() };
    let error = ctx.bucket.complete(wrong).await.unwrap_err();
    assert!(matches!(error, BucketError::BadChecksum { .. }), "{error:?}");
    assert_eq!(ctx.bucket.head(&upload.key).await.unwrap(), None);
    assert_eq!(ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap().len(), 1);
    ctx.bucket.complete(right).await.unwrap();
}

pub(crate) async fn a_missing_part_is_refused_and_the_upload_lives(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("missing part")).await;
    let first = full_part(2);
    let mut parts = vec![ctx.part(&upload, 1, &first).await];
    parts.push(CompletePart {
        number: PartNumber::new(2).unwrap(),
        etag: sums(b"!").md5.unwrap().hex(),
        sums: sums(b"!"),
    });
    let whole = [&first[..], b"!"].concat();
    let error = ctx.bucket.complete(ctx.complete(&upload, &parts, &whole)).await.unwrap_err();
    assert!(matches!(error, BucketError::BadParts { .. }), "{error:?}");
    assert_eq!(ctx.bucket.head(&upload.key).await.unwrap(), None);
    if ctx.has(Quirk::RefusedCompleteEndsTheUpload) {
        return ctx.ends_unless(Quirk::RefusedCompleteEndsTheUpload, &upload, 1).await;
    }
    // The mend: send it, and complete again.
    parts[1] = ctx.part(&upload, 2, b"!").await;
    ctx.bucket.complete(ctx.complete(&upload, &parts, &whole)).await.unwrap();
}

pub(crate) async fn a_wrong_etag_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("wrong etag")).await;
    let mut parts = [ctx.part(&upload, 1, b"right").await];
    parts[0].etag = sums(b"wrong").md5.unwrap().hex();
    let error = ctx.bucket.complete(ctx.complete(&upload, &parts, b"right")).await.unwrap_err();
    assert!(matches!(error, BucketError::BadParts { .. }), "{error:?}");
    assert_eq!(ctx.bucket.head(&upload.key).await.unwrap(), None);
    ctx.ends_unless(Quirk::RefusedCompleteEndsTheUpload, &upload, 1).await;
}

pub(crate) async fn a_small_part_before_the_last_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("small part")).await;
    let parts = [ctx.part(&upload, 1, b"sm").await, ctx.part(&upload, 2, b"all").await];
    let answer = ctx.bucket.complete(ctx.complete(&upload, &parts, b"small")).await;
    if ctx.has(Quirk::SmallPartsAreTaken) {
        return assert!(answer.is_ok(), "{answer:?}");
    }
    let error = answer.unwrap_err();
    assert!(matches!(error, BucketError::BadParts { .. }), "{error:?}");
    assert_eq!(ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap().len(), 2);
    ctx.abort(&upload).await;
}

pub(crate) async fn an_unknown_upload_is_told(ctx: &Ctx) {
    let mut upload = ctx.create(ctx.key("unknown")).await;
    let parts = [ctx.part(&upload, 1, b"right").await];
    let real = upload.id.clone();
    // As long as the real one, and of its characters.
    upload.id = MultipartId(real.0.chars().rev().collect());
    let listed = ctx.bucket.list_parts(&upload.key, &upload.id).await;
    assert!(matches!(listed, Err(BucketError::NoSuchUpload { .. })), "{listed:?}");
    let completed = ctx.bucket.complete(ctx.complete(&upload, &parts, b"right")).await;
    assert!(matches!(completed, Err(BucketError::NoSuchUpload { .. })), "{completed:?}");
    let aborted = ctx.bucket.abort(&upload.key, &upload.id).await;
    assert!(matches!(aborted, Ok(()) | Err(BucketError::NoSuchUpload { .. })), "{aborted:?}");
    upload.id = real;
    ctx.abort(&upload).await;
}

pub(crate) async fn a_second_complete_changes_nothing(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("second complete")).await;
    let parts = [ctx.part(&upload, 1, b"right").await];
    ctx.bucket.complete(ctx.complete(&upload, &parts, b"right")).await.unwrap();
    let before = ctx.bucket.head(&upload.key).await.unwrap().unwrap();
    let again = ctx.bucket.complete(ctx.complete(&upload, &parts, b"right")).await;
    assert!(matches!(again, Ok(_) | Err(BucketError::NoSuchUpload { .. })), "{again:?}");
    assert_eq!(ctx.bucket.head(&upload.key).await.unwrap().unwrap(), before);
    // What settling asks when the first answer was lost.
    let listed = ctx.bucket.list_parts(&upload.key, &upload.id).await;
    assert!(matches!(listed, Err(BucketError::NoSuchUpload { .. })), "{listed:?}");
}

pub(crate) async fn an_aborted_upload_is_gone(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("aborted")).await;
    let parts = [ctx.part(&upload, 1, b"right").await];
    ctx.abort(&upload).await;
    let listed = ctx.bucket.list_parts(&upload.key, &upload.id).await;
    assert!(matches!(listed, Err(BucketError::NoSuchUpload { .. })), "{listed:?}");
    let completed = ctx.bucket.complete(ctx.complete(&upload, &parts, b"right")).await;
    assert!(matches!(completed, Err(BucketError::NoSuchUpload { .. })), "{completed:?}");
    let again = ctx.bucket.abort(&upload.key, &upload.id).await;
    assert!(matches!(again, Ok(()) | Err(BucketError::NoSuchUpload { .. })), "{again:?}");
    assert_eq!(ctx.bucket.head(&upload.key).await.unwrap(), None);
    assert_eq!(ctx.bucket.list_uploads_of(&upload.key).await.unwrap(), []);
}
