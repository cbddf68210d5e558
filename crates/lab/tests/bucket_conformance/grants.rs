//! A grant takes these exact bytes as this part of this upload, and nothing else.

use std::time::Duration;

use hoist_wire::ChecksumKind;

use crate::ctx::{Ctx, Quirk, full_part, sums};

/// Times that an expiring grant is tried: at 50 ms between two, 15 s.
const EXPIRY_TRIES: u32 = 300;

pub(crate) async fn two_parts_go_up_with_proof(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("two parts")).await;
    let (first, last) = (full_part(1), b"!".to_vec());
    // Out of order: the agent sends several at once.
    let second = ctx.part(&upload, 2, &last).await;
    let parts = [ctx.part(&upload, 1, &first).await, second];
    let listed = ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap();
    assert_eq!(listed.len(), 2);
    for (listed, (part, size)) in listed.iter().zip(parts.iter().zip([first.len(), last.len()])) {
        assert_eq!((listed.number, &listed.etag), (part.number, &part.etag));
        assert_eq!(listed.size_bytes, size as u64);
        assert_eq!(Some(&listed.etag), part.sums.md5.map(|md5| md5.hex()).as_ref());
        if ctx.kind == ChecksumKind::Crc64nvme {
            let crc = (!ctx.has(Quirk::PartsListedWithoutCrc)).then_some(part.sums.crc64nvme);
            assert_eq!(listed.crc64nvme, crc, "a resume compares with this");
        }
    }
    let whole = [first, last].concat();
    let reply = ctx.bucket.complete(ctx.complete(&upload, &parts, &whole)).await.unwrap();
    let head = ctx.bucket.head(&upload.key).await.unwrap().unwrap();
    assert_eq!(head.size_bytes, whole.len() as u64);
    assert_eq!(head.write_token.as_ref(), Some(&upload.token));
    if ctx.has(Quirk::HeadsEtagIsPlain) {
        assert_eq!(head.etag, sums(&whole).md5.map(|md5| md5.hex()));
    } else {
        assert_eq!(head.etag, reply.etag);
    }
    if ctx.kind == ChecksumKind::Crc64nvme {
        let crc = Some(sums(&whole).crc64nvme);
        assert_eq!((reply.crc64nvme.or(head.crc64nvme), head.crc64nvme), (crc, crc));
    }
}

pub(crate) async fn other_bytes_are_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("other bytes")).await;
    let grant = ctx.grant(&upload, 1, b"right").await;
    let answer = ctx.put(&grant, b"wrong").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    if ctx.has(Quirk::WrongBytesEndTheUpload) {
        return ctx.ends_unless(Quirk::WrongBytesEndTheUpload, &upload, 0).await;
    }
    assert_eq!(ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap(), []);
    // The grant is as good as before for the right bytes.
    assert!(ctx.put(&grant, b"right").await.is_ok());
    ctx.abort(&upload).await;
}

pub(crate) async fn another_length_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("another length")).await;
    let grant = ctx.grant(&upload, 1, b"right").await;
    for bytes in [&b"righ"[..], b"right!", b""] {
        let answer = ctx.put(&grant, bytes).await;
        assert!((400..500).contains(&answer.status), "{} bytes: {answer:?}", bytes.len());
    }
    assert_eq!(ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap(), []);
    ctx.abort(&upload).await;
}

pub(crate) async fn a_changed_checksum_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("changed checksum")).await;
    let grant = ctx.grant(&upload, 1, b"right").await;
    let other = ctx.grant(&upload, 1, b"wrong").await;
    // Header and bytes agree with each other, but not with what was signed.
    let answer = ctx.put_raw(grant.url.open(), &other.headers, b"wrong").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap(), []);
    ctx.abort(&upload).await;
}

pub(crate) async fn a_checksum_left_out_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("no checksum")).await;
    let mut grant = ctx.grant(&upload, 1, b"right").await;
    grant.headers.retain(|name, _| name == "content-length");
    for bytes in [b"wrong", b"right"] {
        let answer = ctx.put(&grant, bytes).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert_eq!(ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap(), []);
    ctx.abort(&upload).await;
}

pub(crate) async fn a_changed_url_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("changed-url")).await;
    let other = ctx.create(ctx.key("other-upload")).await;
    let grant = ctx.grant(&upload, 1, b"right").await;
    let url = grant.url.open();
    let changes = [
        ("partNumber=1", "partNumber=2".to_owned()),
        ("changed-url", "changed-key".to_owned()),
        ("X-Amz-Expires=300", "X-Amz-Expires=86400".to_owned()),
        (upload.id.0.as_str(), other.id.0.clone()),
    ];
    for (from, to) in changes {
        let changed = url.replace(from, &to);
        assert_ne!(changed, url, "nothing to change: {from}");
        let answer = ctx.put_raw(&changed, &grant.headers, b"right").await;
        assert!((400..500).contains(&answer.status), "{from}: {answer:?}");
    }
    for upload in [&upload, &other] {
        assert_eq!(ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap(), []);
        ctx.abort(upload).await;
    }
}

pub(crate) async fn an_expired_grant_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("expired")).await;
    let grant = ctx.grant_for(&upload, 1, b"right", Duration::from_millis(1900)).await;
    assert_eq!(grant.expires_in_secs, 1);
    for _ in 0..EXPIRY_TRIES {
        let answer = ctx.put(&grant, b"right").await;
        if !answer.is_ok() {
            assert!(matches!(answer.status, 400 | 403), "{answer:?}");
            return ctx.abort(&upload).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a grant of one second never expires");
}

pub(crate) async fn a_grant_of_an_aborted_upload_is_refused(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("aborted")).await;
    let grant = ctx.grant(&upload, 1, b"right").await;
    ctx.abort(&upload).await;
    let answer = ctx.put(&grant, b"right").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(ctx.bucket.list_uploads_of(&upload.key).await.unwrap(), []);
}

pub(crate) async fn a_late_put_leaves_the_finished_object_alone(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("late")).await;
    let grant = ctx.grant(&upload, 1, b"right").await;
    let parts = [ctx.part(&upload, 1, b"right").await];
    ctx.bucket.complete(ctx.complete(&upload, &parts, b"right")).await.unwrap();
    let before = ctx.bucket.head(&upload.key).await.unwrap();
    let answer = ctx.put(&grant, b"right").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(ctx.bucket.head(&upload.key).await.unwrap(), before);
    assert_eq!(ctx.bucket.list_uploads_of(&upload.key).await.unwrap(), []);
}

pub(crate) async fn a_part_put_again_is_replaced(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("again")).await;
    ctx.part(&upload, 1, b"old").await;
    if ctx.has(Quirk::PartsAreNotReplaced) {
        let grant = ctx.grant(&upload, 1, b"newer").await;
        let answer = ctx.put(&grant, b"newer").await;
        assert_eq!(answer.status, 501, "an agent takes this for a call for another upload: {answer:?}");
        // The same bytes are taken as often as they come: a lost answer is no trouble.
        ctx.part(&upload, 1, b"old").await;
        return ctx.abort(&upload).await;
    }
    let parts = [ctx.part(&upload, 1, b"newer").await];
    let listed = ctx.bucket.list_parts(&upload.key, &upload.id).await.unwrap();
    assert!(listed.iter().any(|part| part.etag == parts[0].etag && part.size_bytes == 5), "{listed:?}");
    assert!(listed.len() == 1 || ctx.has(Quirk::ReplacedPartsStayListed), "{listed:?}");
    ctx.bucket.complete(ctx.complete(&upload, &parts, b"newer")).await.unwrap();
    let url = ctx.bucket.grant_get(&upload.key, "f", Duration::from_secs(60)).await.unwrap();
    assert_eq!(ctx.get(url.open()).await.2, b"newer");
}
