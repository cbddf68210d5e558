//! Listings are whole, and name only what is ours.

use std::collections::HashSet;

use crate::ctx::Ctx;

pub(crate) async fn parts_are_listed_over_pages(ctx: &Ctx) {
    let upload = ctx.create(ctx.key("pages")).await;
    for number in [5, 3, 1, 2, 10] {
        ctx.part(&upload, number, format!("part {number}").as_bytes()).await;
    }
    // Two to a page: three pages.
    let listed = ctx.paged.list_parts(&upload.key, &upload.id).await.unwrap();
    let numbers: Vec<u16> = listed.iter().map(|part| part.number.get()).collect();
    assert_eq!(numbers, [1, 2, 3, 5, 10]);
    ctx.abort(&upload).await;
}

pub(crate) async fn uploads_are_those_of_the_exact_key(ctx: &Ctx) {
    let key = ctx.key("exact");
    let mut ours = Vec::new();
    for _ in 0..3 {
        ours.push(ctx.create(key.clone()).await);
    }
    let mut others = Vec::new();
    for name in ["x", "/x", " "] {
        others.push(ctx.create(format!("{key}{name}")).await);
    }
    let expected: HashSet<_> = ours.iter().map(|upload| upload.id.clone()).collect();
    for (bucket, pages) in [(&ctx.bucket, "one page"), (&ctx.paged, "three pages")] {
        let listed = bucket.list_uploads_of(&key).await.unwrap();
        assert_eq!(listed.len(), 3, "{pages}: {listed:?}");
        assert_eq!(listed.into_iter().collect::<HashSet<_>>(), expected, "{pages}");
    }
    // The census sees them all, over pages; cases that run beside this one have uploads of their own.
    for (bucket, pages) in [(&ctx.bucket, "one page"), (&ctx.paged, "many pages")] {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = bucket.keys_with_uploads(after).await.unwrap();
            keys.extend(page.keys);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(keys.iter().filter(|listed| **listed == key).count(), 3, "{pages}");
        let longer =
            keys.iter().filter(|listed| listed.len() > key.len() && listed.starts_with(&key)).count();
        assert_eq!(longer, 3, "{pages}");
    }
    for upload in ours.iter().chain(&others) {
        ctx.abort(upload).await;
    }
    assert_eq!(ctx.bucket.list_uploads_of(&key).await.unwrap(), []);
}

pub(crate) async fn strange_keys_are_kept_apart(ctx: &Ctx) {
    for name in ["a b+c", "q'u\"o<t>e&s;.log", "Zürich/日報 ☕.csv", "100%25.txt", "two\nlines", "dots/..b/c"]
    {
        let upload = ctx.create(ctx.key(name)).await;
        let parts = [ctx.part(&upload, 1, name.as_bytes()).await];
        let listed = ctx.bucket.list_uploads_of(&upload.key).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&upload.id), "{name:?}");
        ctx.bucket.complete(ctx.complete(&upload, &parts, name.as_bytes())).await.unwrap();
        let head = ctx.bucket.head(&upload.key).await.unwrap().unwrap();
        assert_eq!(head.write_token.as_ref(), Some(&upload.token), "{name:?}");
    }
}
