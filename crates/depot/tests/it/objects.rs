use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ServerSideEncryption};

use crate::bench::{BUCKET, Bench, Life, MIN_PART, client, crc64, md5_base64, md5_hex, pattern, refusal};

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let bench = Bench::start().await;
    let bytes = pattern(2, 600_000);
    let put = bench.s3.put_object().bucket(BUCKET).key("k").body(bytes.clone().into());
    let put = put.content_type("a/b").cache_control("no-store").metadata("m", "v");
    let put = put.server_side_encryption(ServerSideEncryption::Aes256).content_md5(md5_base64(&bytes));
    let put = put.send().await.unwrap();
    assert_eq!(put.e_tag().unwrap().trim_matches('"'), md5_hex(&bytes));
    assert_eq!(put.server_side_encryption(), Some(&ServerSideEncryption::Aes256));
    let got = bench.s3.get_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled);
    let got = got.send().await.unwrap();
    assert_eq!(got.content_type(), Some("a/b"));
    assert_eq!(got.cache_control(), Some("no-store"));
    assert_eq!(got.metadata().unwrap()["m"], "v");
    assert_eq!(got.checksum_crc64_nvme(), Some(crc64(&bytes).as_str()));
    assert!(got.body.collect().await.unwrap().to_vec() == bytes, "other bytes came back");
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    let bench = Bench::start().await;
    bench.put("empty", b"").await;
    assert_eq!(bench.get("empty").await.unwrap(), b"");
    let ranged = bench.s3.get_object().bucket(BUCKET).key("empty").range("bytes=0-").send().await;
    assert_eq!(refusal(&ranged.unwrap_err()), "416 InvalidRange");
}

#[tokio::test]
async fn ranges_cross_parts() {
    let bench = Bench::start().await;
    let bytes = pattern(3, 2 * MIN_PART + 100);
    let id = bench.create_upload("k").await;
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(bytes.chunks(MIN_PART)) {
        parts.push(bench.put_part("k", &id, number, part).await);
    }
    bench.complete("k", &id, parts, None).await.unwrap();
    let size = bytes.len();
    let cases = [
        ("bytes=0-0".to_owned(), 0..1),
        (format!("bytes={}-{}", MIN_PART - 3, MIN_PART + 3), MIN_PART - 3..MIN_PART + 4),
        (format!("bytes={}-{}", MIN_PART, MIN_PART), MIN_PART..MIN_PART + 1),
        (format!("bytes={}-{}", MIN_PART - 1, 2 * MIN_PART), MIN_PART - 1..2 * MIN_PART + 1),
        ("bytes=-150".to_owned(), size - 150..size),
        (format!("bytes={}-", size - 1), size - 1..size),
        (format!("bytes=5-{}", size + 99), 5..size),
    ];
    for (asked, expected) in cases {
        let got = bench.s3.get_object().bucket(BUCKET).key("k").range(&asked).send().await.unwrap();
        let shown = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(got.content_range(), Some(shown.as_str()));
        assert_eq!(got.content_length(), Some(i64::try_from(expected.len()).unwrap()));
        assert!(got.body.collect().await.unwrap().to_vec() == bytes[expected], "other bytes for {asked}");
    }
    let beyond = bench.s3.get_object().bucket(BUCKET).key("k").range(format!("bytes={size}-"));
    assert_eq!(refusal(&beyond.send().await.unwrap_err()), "416 InvalidRange");
}

#[tokio::test]
async fn a_key_put_again_has_the_new_bytes_and_the_old_ones_are_gone() {
    let bench = Bench::start().await;
    bench.put("k", b"old").await;
    let reader = bench.s3.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    bench.put("k", b"newer").await;
    assert_eq!(bench.get("k").await.unwrap(), b"newer");
    assert_eq!(reader.body.collect().await.unwrap().to_vec(), b"old");
    bench.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    bench.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(bench.get("k").await.unwrap_err(), "404 NoSuchKey");
    let Bench { dir, .. } = bench.restart().await;
    assert_eq!(std::fs::read_dir(dir.path().join("buckets/trial/data")).unwrap().count(), 0);
}

#[tokio::test]
async fn conditions_hold() {
    let bench = Bench::start().await;
    let create = |body: &'static [u8]| {
        bench.s3.put_object().bucket(BUCKET).key("k").body(body.to_vec().into()).if_none_match("*").send()
    };
    create(b"first").await.unwrap();
    assert_eq!(refusal(&create(b"second").await.unwrap_err()), "412 PreconditionFailed");
    assert_eq!(bench.get("k").await.unwrap(), b"first");
    assert_eq!(bench.data_folders(), 1);
    let get = || bench.s3.get_object().bucket(BUCKET).key("k");
    let etag = format!("\"{}\"", md5_hex(b"first"));
    get().if_match(&etag).send().await.unwrap();
    assert_eq!(refusal(&get().if_match("\"x\"").send().await.unwrap_err()), "412 PreconditionFailed");
    assert!(refusal(&get().if_none_match(&etag).send().await.unwrap_err()).starts_with("304"));
}

#[tokio::test]
async fn keys_of_any_shape_stay_inside_and_apart() {
    let bench = Bench::start().await;
    let long = "ü/".repeat(341);
    let keys = [
        "../../../etc/passwd",
        "..",
        "a/../b",
        "a//b",
        "a/b",
        "a b+c%2F&=?#",
        "日本/ü",
        "tail/",
        "A",
        "a",
        "x\\y",
        "dot.",
        long.as_str(),
    ];
    for key in keys {
        bench.put(key, key.as_bytes()).await;
    }
    for key in keys {
        assert_eq!(bench.get(key).await.unwrap(), key.as_bytes(), "{key}");
    }
    let listed = bench.s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let mut expected: Vec<&str> = keys.to_vec();
    expected.sort_unstable();
    let listed: Vec<&str> = listed.contents().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(listed, expected);
    let too_long = bench.s3.put_object().bucket(BUCKET).key("k".repeat(1_025)).send().await;
    assert_eq!(refusal(&too_long.unwrap_err()), "400 KeyTooLongError");
    let bench = bench.restart().await;
    assert_eq!(bench.get(&long).await.unwrap(), long.as_bytes());
}

#[tokio::test]
async fn objects_are_listed_by_prefix_in_pages() {
    let bench = Bench::start().await;
    for key in ["a/1", "a/2", "a/3", "b"] {
        bench.put(key, b"").await;
    }
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let list = bench.s3.list_objects_v2().bucket(BUCKET).prefix("a/").max_keys(2);
        let list = list.set_continuation_token(token).send().await.unwrap();
        seen.extend(list.contents().iter().map(|object| object.key().unwrap().to_owned()));
        token = list.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a/1", "a/2", "a/3"]);
    let folders = bench.s3.list_objects_v2().bucket(BUCKET).delimiter("/").send().await.unwrap();
    assert_eq!(folders.common_prefixes()[0].prefix(), Some("a/"));
    assert_eq!(folders.contents()[0].key(), Some("b"));
}

#[tokio::test]
async fn every_checksum_that_the_sdk_sends_is_verified() {
    let bench = Bench::start().await;
    let algorithms = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ];
    let bytes = pattern(4, 300_000);
    for algorithm in algorithms {
        let put = bench.s3.put_object().bucket(BUCKET).key("k").checksum_algorithm(algorithm.clone());
        put.body(bytes.clone().into()).send().await.unwrap();
        assert!(bench.get("k").await.unwrap() == bytes, "{algorithm}");
    }
    let wrong = || bench.s3.put_object().bucket(BUCKET).key("k").body(b"right".to_vec().into());
    let refused = [
        wrong().checksum_crc32("AAAAAA=="),
        wrong().checksum_crc32_c("AAAAAA=="),
        wrong().checksum_crc64_nvme(crc64(b"wrong")),
        wrong().checksum_sha1("AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        wrong().checksum_sha256("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        wrong().content_md5(md5_base64(b"wrong")),
    ];
    for put in refused {
        assert_eq!(refusal(&put.send().await.unwrap_err()), "400 BadDigest");
    }
    assert!(bench.get("k").await.unwrap() == bytes);
    assert_eq!((bench.temporary_files(), bench.data_folders()), (0, 1));
}

#[tokio::test]
async fn the_sdk_with_its_own_defaults_can_put_and_get() {
    let bench = Bench::start().await;
    let config = bench.s3.config().to_builder();
    let config = config
        .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenSupported)
        .response_checksum_validation(aws_sdk_s3::config::ResponseChecksumValidation::WhenSupported);
    let s3 = aws_sdk_s3::Client::from_conf(config.build());
    let bytes = pattern(5, 1_000_000);
    s3.put_object().bucket(BUCKET).key("k").body(bytes.clone().into()).send().await.unwrap();
    let got = s3.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(got.content_encoding(), None);
    assert!(got.body.collect().await.unwrap().to_vec() == bytes);
}

#[tokio::test]
async fn a_presigned_get_names_the_download() {
    let bench = Bench::start().await;
    bench.put("k", b"bytes").await;
    let get = bench.s3.get_object().bucket(BUCKET).key("k");
    let get = get.response_content_disposition("attachment; filename=\"report.csv\"");
    let config: PresigningConfig = Life::default().config();
    let answer = bench.send(&get.presigned(config).await.unwrap(), Vec::new()).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "bytes"));
    assert_eq!(answer.disposition.as_deref(), Some("attachment; filename=\"report.csv\""));
}

#[tokio::test]
async fn buckets_answer_for_themselves() {
    let bench = Bench::start().await;
    let s3 = &bench.s3;
    let again = s3.create_bucket().bucket(BUCKET).send().await;
    assert_eq!(refusal(&again.unwrap_err()), "409 BucketAlreadyOwnedByYou");
    assert_eq!(s3.head_bucket().bucket(BUCKET).send().await.unwrap().bucket_region(), Some("eu-west-1"));
    assert!(refusal(&s3.head_bucket().bucket("absent").send().await.unwrap_err()).starts_with("404"));
    let listed = s3.list_buckets().send().await.unwrap();
    assert_eq!(listed.buckets().iter().map(|b| b.name().unwrap()).collect::<Vec<_>>(), [BUCKET]);
    let place = s3.get_bucket_location().bucket(BUCKET).send().await.unwrap();
    assert_eq!(place.location_constraint().unwrap().as_str(), "eu-west-1");
    let block = s3.get_public_access_block().bucket(BUCKET).send().await.unwrap();
    assert_eq!(block.public_access_block_configuration().unwrap().restrict_public_buckets(), Some(true));
    let encryption = s3.get_bucket_encryption().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(refusal(&encryption), "404 ServerSideEncryptionConfigurationNotFoundError");
    let lifecycle = s3.get_bucket_lifecycle_configuration().bucket(BUCKET).send().await.unwrap_err();
    assert_eq!(refusal(&lifecycle), "404 NoSuchLifecycleConfiguration");
    let absent = s3.put_object().bucket("absent").key("k").body(b"x".to_vec().into()).send().await;
    assert_eq!(refusal(&absent.unwrap_err()), "404 NoSuchBucket");
    let stranger = client(&bench.depot.endpoint_url(), "another secret");
    let denied = stranger.list_buckets().send().await.unwrap_err();
    assert_eq!(refusal(&denied), "403 SignatureDoesNotMatch");
}
