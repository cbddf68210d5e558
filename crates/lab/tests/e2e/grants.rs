//! A grant uploads these exact bytes as this part of this upload, for a while, and nothing else.

use hoist_lab::{Scene, WITHIN, eventually};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_is_good_for_nothing_else() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take((0..=255).cycle().take(12_000_000).collect()).await;
    let grant = agent.grant(&job, 1).await;
    let (url, right) = (grant.url.open(), job.part(1));
    let refused = |status: u16| status == 0 || (400..500).contains(&status);

    let mut other = right.to_vec();
    other[4_000_000] ^= 1;
    assert!(refused(scene.storage.put(&grant, &other).await), "other bytes were taken");
    for length in [0, right.len() - 1] {
        assert!(refused(scene.storage.put(&grant, &right[..length]).await), "{length} bytes were taken");
    }
    let longer = [right, b"x"].concat();
    assert!(refused(scene.storage.put(&grant, &longer).await), "one byte more was taken");
    for (from, to) in [("partNumber=1", "partNumber=2"), ("uploadId=", "uploadId=x"), ("report", "recipe")] {
        let changed = url.replacen(from, to, 1);
        assert_ne!(changed, url);
        let (status, _) = scene.storage.put_to(&changed, &grant, &[], right).await;
        assert!(refused(status), "{from} as {to} was taken: {status}");
    }
    let sum = hoist_lab::scripted::sums(&other).crc64nvme.to_string();
    assert!(grant.headers.contains_key("x-amz-checksum-crc64nvme"), "{:?}", grant.headers);
    let forged = [("x-amz-checksum-crc64nvme", sum.as_str())];
    let (status, _) = scene.storage.put_to(url, &grant, &forged, &other).await;
    assert!(refused(status), "a changed header was taken: {status}");
    let read = operator.with_token(None).request(Method::GET, "/health");
    assert_eq!(hoist_lab::Operator::send(read).await.status, 200);

    assert_eq!(scene.storage.put(&grant, right).await, 200, "the right bytes are still taken");
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    eventually("the abort", WITHIN, || async {
        let open = scene.storage.open_uploads().await?;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    assert!(refused(scene.storage.put(&grant, right).await), "a grant outlived its upload");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_grant_is_refused() {
    let scene = Scene::trial().env("S3_PRESIGNED_URL_EXPIRY", "1s").start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take(vec![7; 1000]).await;
    let grant = agent.grant(&job, 1).await;
    assert!(grant.expires_in_secs <= 1);
    eventually("the grant to be refused", WITHIN, || async {
        // The same bytes over and over: harmless while the grant lives.
        match scene.storage.put(&grant, job.part(1)).await {
            403 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_grants_expire_under_it_gets_fresh_ones_and_completes() {
    let scene = Scene::earnest().env("S3_PRESIGNED_URL_EXPIRY", "1s").proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 100_000_000);
    // Held until its first grant is refused for its age.
    scene.proxy().hold_parts_after(2);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    eventually("a part that is held back", WITHIN, || async {
        let held = scene.proxy().seen().into_iter().find(|passed| passed.status.is_none());
        held.ok_or_else(|| "none is".to_owned())
    })
    .await;
    let started = std::time::Instant::now();
    eventually("the grant to be old", WITHIN, || async {
        let age = started.elapsed().as_secs();
        if age >= 3 { Ok(()) } else { Err(format!("{age} s")) }
    })
    .await;
    scene.proxy().release();
    operator.completes(asked.id).await;
    let refused = scene.proxy().seen().iter().filter(|passed| passed.status == Some(403)).count();
    assert!(refused > 0, "no grant was refused: this test tests nothing");
    let (bytes, _) = operator.fetch(asked.id).await;
    assert!(bytes == std::fs::read(path).unwrap());
    scene.finish().await;
}
