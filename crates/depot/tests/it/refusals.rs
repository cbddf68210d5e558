use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bench::{BUCKET, Bench, Life, client_in, md5_base64, refusal};

const KEY: &str = "k";
const BODY: &[u8] = b"the bytes of a part";

#[tokio::test]
async fn a_grant_takes_its_bytes_and_nothing_else() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let url = bench.presigned_part(KEY, &id, 1, BODY, Life::default()).await;
    let same_length = vec![b'x'; BODY.len()];
    assert_eq!(bench.send(&url, same_length).await.refusal(), "400 BadDigest");
    assert_eq!(bench.send(&url, BODY[1..].to_vec()).await.refusal(), "403 SignatureDoesNotMatch");
    let other_part = url.uri().replace("partNumber=1", "partNumber=2");
    assert_ne!(other_part, url.uri());
    let answer = bench.send_as(&url, &other_part, &[], BODY.to_vec()).await;
    assert_eq!(answer.refusal(), "403 SignatureDoesNotMatch");
    let without_checksum = bench.http.put(url.uri()).body(BODY.to_vec()).send().await.unwrap();
    assert_eq!(without_checksum.status(), 403);
    assert!(bench.part_numbers(KEY, &id).await.unwrap().is_empty());
    assert_eq!(bench.temporary_files(), 0);
    assert_eq!(bench.send(&url, BODY.to_vec()).await.status, 200);
}

#[tokio::test]
async fn an_expired_grant_is_refused() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let life = Life { age: Duration::from_secs(60), ttl: Duration::from_secs(30) };
    let url = bench.presigned_part(KEY, &id, 1, BODY, life).await;
    assert_eq!(bench.send(&url, BODY.to_vec()).await.refusal(), "403 AccessDenied");
    let life = Life { age: Duration::from_secs(60), ttl: Duration::from_secs(90) };
    let url = bench.presigned_part(KEY, &id, 1, BODY, life).await;
    assert_eq!(bench.send(&url, BODY.to_vec()).await.status, 200);
}

#[tokio::test]
async fn a_header_that_is_not_signed_is_refused() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let url = bench.presigned_part(KEY, &id, 1, BODY, Life::default()).await;
    for header in [("x-amz-meta-a", "b"), ("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-acl", "private")] {
        let answer = bench.send_as(&url, url.uri(), &[header], BODY.to_vec()).await;
        assert_eq!(answer.refusal(), "403 AccessDenied");
        assert!(answer.text.contains(header.0), "{}", answer.text);
    }
    // Other headers need no signature; Content-MD5 is verified without one.
    let md5 = md5_base64(BODY);
    let answer = bench.send_as(&url, url.uri(), &[("content-md5", &md5)], BODY.to_vec()).await;
    assert_eq!(answer.status, 200);
    let wrong = md5_base64(b"others");
    let answer = bench.send_as(&url, url.uri(), &[("content-md5", &wrong)], BODY.to_vec()).await;
    assert_eq!(answer.refusal(), "400 BadDigest");
    let answer = bench.send_as(&url, url.uri(), &[("content-md5", "?")], BODY.to_vec()).await;
    assert_eq!(answer.refusal(), "400 InvalidDigest");
}

#[tokio::test]
async fn a_refused_grant_for_a_large_part_is_answered_and_not_only_cut() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let bytes = vec![7; 8 << 20];
    let life = Life { age: Duration::from_secs(60), ttl: Duration::from_secs(30) };
    let url = bench.presigned_part(KEY, &id, 1, &bytes, life).await;
    for _ in 0..20 {
        assert_eq!(bench.send(&url, bytes.clone()).await.refusal(), "403 AccessDenied");
    }
}

#[tokio::test]
async fn requests_for_another_region_or_without_a_signature_are_refused() {
    let bench = Bench::start().await;
    let abroad = client_in("us-east-1", &bench.depot.endpoint_url(), "not-a-secret");
    let refused = abroad.list_buckets().send().await.unwrap_err();
    assert_eq!(refusal(&refused), "400 AuthorizationHeaderMalformed");
    bench.put(KEY, b"private").await;
    let bare = bench.http.get(format!("{}/{BUCKET}/{KEY}", bench.depot.endpoint_url()));
    let answer = bare.send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(!answer.text().await.unwrap().contains("private"));
}

#[tokio::test]
async fn a_body_cut_short_leaves_nothing() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let bytes = vec![1; 3 << 20];
    let url = bench.presigned_part(KEY, &id, 1, &bytes, Life::default()).await;
    let target = url.uri().strip_prefix(&bench.depot.endpoint_url()).unwrap();
    let mut head = format!("PUT {target} HTTP/1.1\r\nhost: {}\r\n", bench.depot.addr());
    for (name, value) in url.headers() {
        head += &format!("{name}: {value}\r\n");
    }
    assert!(head.contains("content-length"), "{head}");
    let mut stream = TcpStream::connect(bench.depot.addr()).await.unwrap();
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    stream.write_all(&bytes[..2 << 20]).await.unwrap();
    stream.shutdown().await.unwrap();
    // It ends when the depot has noticed.
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(bench.part_numbers(KEY, &id).await.unwrap().is_empty());
    let bench = bench.restart().await;
    assert!(bench.part_numbers(KEY, &id).await.unwrap().is_empty());
    assert_eq!(bench.temporary_files(), 0);
    assert_eq!(bench.put_part(KEY, &id, 1, &bytes).await.part_number(), Some(1));
}
