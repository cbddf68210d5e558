//! Whole objects: looked at, put empty, fetched by an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use hoist_server::bucket::{ObjectMeta, WRITE_TOKEN_KEY};
use hoist_wire::{ChecksumKind, Crc64};

use crate::ctx::Ctx;

pub(crate) async fn an_absent_key_is_none(ctx: &Ctx) {
    assert_eq!(ctx.bucket.head(&ctx.key("absent")).await.unwrap(), None);
    assert_eq!(ctx.bucket.list_uploads_of(&ctx.key("absent")).await.unwrap(), []);
}

pub(crate) async fn an_empty_file_round_trips(ctx: &Ctx) {
    let key = ctx.key("empty");
    let meta = ObjectMeta { metadata: BTreeMap::from([(WRITE_TOKEN_KEY.to_owned(), "t".to_owned())]) };
    ctx.bucket.put_empty(&key, &meta, ctx.kind).await.unwrap();
    let head = ctx.bucket.head(&key).await.unwrap().unwrap();
    assert_eq!((head.size_bytes, head.write_token.as_deref()), (0, Some("t")));
    if ctx.kind == ChecksumKind::Crc64nvme {
        assert_eq!(head.crc64nvme, Some(Crc64(0)));
    }
}

pub(crate) async fn metadata_survives(ctx: &Ctx) {
    let key = ctx.key("metadata");
    // The token carries what the others may: all is one header each.
    let token = "A b%2Fc=/+:;,\"'~!@#$^&*()[]{}|<>?` z";
    let mut metadata = BTreeMap::from([(WRITE_TOKEN_KEY.to_owned(), token.to_owned())]);
    metadata.insert("hoist-path".to_owned(), "%2F".repeat(170));
    metadata.insert("hoist-ticket".to_owned(), "x".repeat(1000));
    let id = ctx.bucket.create_upload(&key, &ObjectMeta { metadata }, ctx.kind).await.unwrap();
    let upload = crate::ctx::Upload { key, id, token: token.to_owned() };
    let parts = [ctx.part(&upload, 1, b"x").await];
    ctx.bucket.complete(ctx.complete(&upload, &parts, b"x")).await.unwrap();
    let head = ctx.bucket.head(&upload.key).await.unwrap().unwrap();
    assert_eq!(head.write_token.as_deref(), Some(token));
}

pub(crate) async fn a_get_gives_the_bytes_under_the_name(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("get")).await;
    let parts = [ctx.part(&upload, 1, b"the bytes").await];
    ctx.bucket.complete(ctx.complete(&upload, &parts, b"the bytes")).await.unwrap();
    let url = ctx.bucket.grant_get(&upload.key, "Bericht \"Mai\" ü.csv", Duration::from_secs(60)).await;
    let (status, disposition, bytes) = ctx.get(url.unwrap().open()).await;
    assert_eq!((status, bytes.as_slice()), (200, &b"the bytes"[..]));
    assert_eq!(
        disposition,
        "attachment; filename=\"Bericht _Mai_ _.csv\"; filename*=UTF-8''Bericht%20%22Mai%22%20%C3%BC.csv"
    );
}
