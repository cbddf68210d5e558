use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use hoist_depot::TemporaryKey;

use crate::bench::{BUCKET, Bench, Life, refusal, right_client};

const SECRET: &str = "not-a-secret-either";

fn lent(access_key: &str, token: &str, expires_at: SystemTime) -> TemporaryKey {
    TemporaryKey {
        access_key: access_key.to_owned(),
        secret_key: SECRET.into(),
        session_token: token.to_owned().into(),
        expires_at,
    }
}

fn signed_with(bench: &Bench, access_key: &str, token: Option<&str>) -> Client {
    let credentials = Credentials::new(access_key, SECRET, token.map(str::to_owned), None, "test");
    let other = right_client(&bench.depot.endpoint_url());
    Client::from_conf(other.config().to_builder().credentials_provider(credentials).build())
}

async fn lists(client: &Client) -> Result<(), String> {
    client.list_objects_v2().bucket(BUCKET).send().await.map(drop).map_err(|error| refusal(&error))
}

#[tokio::test]
async fn a_lent_key_is_good_with_its_token_until_it_ends() {
    let bench = Bench::start().await;
    let key = signed_with(&bench, "AKLENT", Some("a token"));
    assert_eq!(lists(&key).await.unwrap_err(), "400 InvalidToken");
    let now = SystemTime::now();
    bench.depot.lend(lent("AKLENT", "a token", now + Duration::from_secs(60)));
    lists(&key).await.unwrap();
    for token in [None, Some("another")] {
        assert_eq!(lists(&signed_with(&bench, "AKLENT", token)).await.unwrap_err(), "400 InvalidToken");
    }
    bench.depot.lend(lent("AKLENT", "a token", now));
    assert_eq!(lists(&key).await.unwrap_err(), "400 ExpiredToken");
    lists(&bench.s3).await.unwrap();
}

#[tokio::test]
async fn a_url_ends_with_the_key_that_signed_it() {
    let bench = Bench::start().await;
    let id = bench.create_upload("k").await;
    let now = SystemTime::now();
    bench.depot.lend(lent("AKLENT", "a token", now + Duration::from_secs(60)));
    let key = signed_with(&bench, "AKLENT", Some("a token"));
    let put = key.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(1).content_length(5);
    let url = put.presigned(Life::default().config()).await.unwrap();
    let without = url.uri().replace("X-Amz-Security-Token=", "X-Amz-Other=");
    let answer = bench.send_as(&url, &without, &[], b"bytes".to_vec()).await;
    assert_eq!(answer.refusal(), "400 InvalidToken");
    assert_eq!(bench.send(&url, b"bytes".to_vec()).await.status, 200);
    bench.depot.lend(lent("AKLENT", "a token", now));
    assert_eq!(bench.send(&url, b"bytes".to_vec()).await.refusal(), "400 ExpiredToken");
}
