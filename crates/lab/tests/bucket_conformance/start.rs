//! What the start-up probe says of a bucket.

use hoist_server::bucket::{Bucket as _, BucketError, S3Bucket, S3Config, StaticCredentials, Verdict};
use hoist_wire::ChecksumKind;

use crate::ctx::{BUCKET, Ctx, Quirk, config};

pub(crate) async fn the_probe_finds_the_proof_and_leaves_nothing(ctx: &Ctx) {
    let probe = ctx.bucket.probe(false).await.unwrap();
    assert_eq!(probe.checksum, ctx.kind, "{probe:#?}");
    let verdict = |name| probe.checks.iter().find(|check| check.name == name).map(|check| check.verdict);
    for name in ["lifecycle", "private", "encrypted"] {
        assert!(verdict(name).is_some(), "{probe:#?}");
    }
    assert_eq!(verdict("scratch"), Some(Verdict::Ok), "{probe:#?}");
    assert_eq!(verdict("uploads"), Some(Verdict::Ok), "{probe:#?}");
    let best = if ctx.kind == ChecksumKind::Crc64nvme { Verdict::Ok } else { Verdict::Bad };
    assert_eq!(verdict("checksum"), Some(best), "{probe:#?}");
}

pub(crate) async fn a_bucket_without_proof_is_taken_only_if_that_is_allowed(ctx: &Ctx) {
    let config = config(ctx.server(), BUCKET, ChecksumKind::Unproven);
    let bucket = S3Bucket::connect(config.clone()).await.unwrap();
    let error = bucket.probe(false).await.unwrap_err();
    assert!(error.to_string().contains("--allow-unproven"), "{error}");
    let bucket = S3Bucket::connect(S3Config { allow_unproven: true, ..config }).await.unwrap();
    assert_eq!(bucket.probe(false).await.unwrap().checksum, ChecksumKind::Unproven);
}

pub(crate) async fn a_missing_bucket_names_its_mend(ctx: &Ctx) {
    let bucket = S3Bucket::connect(config(ctx.server(), "never-made", ctx.kind)).await.unwrap();
    let error = bucket.probe(false).await.unwrap_err();
    assert!(matches!(error, BucketError::NoSuchBucket { .. }), "{error:?}");
    let mend = format!("create-bucket --bucket never-made --endpoint-url {}", ctx.server().endpoint);
    assert!(error.to_string().contains(&mend), "{error}");
}

pub(crate) async fn wrong_keys_are_denied(ctx: &Ctx) {
    let wrong = StaticCredentials {
        access_key: ctx.server().access_key.clone(),
        secret_key: "not-the-secret".into(),
    };
    let config = S3Config { credentials: Some(wrong), ..config(ctx.server(), BUCKET, ctx.kind) };
    let bucket = S3Bucket::connect(config).await.unwrap();
    if ctx.has(Quirk::HeaderSignaturesUnchecked) {
        assert_eq!(bucket.head("x").await.unwrap(), None);
        // The probe's own presigned PUT still finds the wrong secret.
        let error = bucket.probe(false).await.unwrap_err();
        return assert!(matches!(error, BucketError::Denied { needs: "s3:PutObject", .. }), "{error:?}");
    }
    for error in [bucket.probe(false).await.unwrap_err(), bucket.head("x").await.unwrap_err()] {
        assert!(matches!(error, BucketError::Denied { .. }), "{error:?}");
        assert!(!error.to_string().contains("not-the-secret"), "{error}");
    }
}
