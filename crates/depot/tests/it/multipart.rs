use aws_sdk_s3::types::builders::CompletedPartBuilder;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, CompletedPart};

use crate::bench::{BUCKET, Bench, MIN_PART, crc64, md5_hex, pattern, refusal};

const KEY: &str = "site/report.csv";

#[tokio::test]
async fn three_parts_become_one_object_with_its_proof() {
    let bench = Bench::start().await;
    let bytes = pattern(1, 2 * MIN_PART + 1_234);
    let id = bench.create_upload(KEY).await;
    let mut parts = Vec::new();
    // Out of order, as parts in flight arrive.
    for number in [2, 1, 3] {
        let from = (number - 1) * MIN_PART;
        let part = &bytes[from..bytes.len().min(from + MIN_PART)];
        parts.push(bench.put_part(KEY, &id, i32::try_from(number).unwrap(), part).await);
    }
    parts.sort_by_key(|part| part.part_number());
    assert_eq!(parts[0].e_tag().unwrap(), format!("\"{}\"", md5_hex(&bytes[..MIN_PART])));

    let done = bench.complete(KEY, &id, parts, Some(crc64(&bytes))).await.unwrap();
    assert_eq!(done.checksum_crc64_nvme(), Some(crc64(&bytes).as_str()));
    assert_eq!(done.checksum_type(), Some(&ChecksumType::FullObject));
    let md5s: Vec<u8> = bytes.chunks(MIN_PART).flat_map(|part| <[u8; 16]>::from(md5(part))).collect();
    let etag = format!("\"{}-3\"", md5_hex(&md5s));
    assert_eq!(done.e_tag(), Some(etag.as_str()));

    let head = bench.s3.head_object().bucket(BUCKET).key(KEY).checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.content_length(), Some(i64::try_from(bytes.len()).unwrap()));
    assert_eq!(head.checksum_crc64_nvme(), Some(crc64(&bytes).as_str()));
    assert_eq!(head.checksum_type(), Some(&ChecksumType::FullObject));
    assert_eq!(head.e_tag(), Some(etag.as_str()));
    assert_eq!(head.content_type(), Some("text/plain"));
    assert_eq!(head.metadata().unwrap()["write-token"], "t0");
    assert!(bench.get(KEY).await.unwrap() == bytes, "other bytes came back");
    assert_eq!(bench.temporary_files(), 0);
}

fn md5(bytes: &[u8]) -> md5::digest::Output<md5::Md5> {
    <md5::Md5 as md5::Digest>::digest(bytes)
}

#[tokio::test]
async fn an_upload_without_a_checksum_gets_one_all_the_same() {
    let bench = Bench::start().await;
    let created = bench.s3.create_multipart_upload().bucket(BUCKET).key(KEY).send().await.unwrap();
    let id = created.upload_id.unwrap();
    let request = bench.s3.upload_part().bucket(BUCKET).key(KEY).upload_id(&id).part_number(7);
    let part = request.body(b"hello".to_vec().into()).send().await.unwrap();
    assert_eq!(part.checksum_crc64_nvme(), Some(crc64(b"hello").as_str()));
    let listed = CompletedPart::builder().part_number(7).e_tag(part.e_tag.unwrap()).build();
    let done = bench.complete(KEY, &id, vec![listed], None).await.unwrap();
    assert_eq!(done.checksum_crc64_nvme(), Some(crc64(b"hello").as_str()));
}

#[tokio::test]
async fn a_wrong_checksum_of_the_whole_leaves_the_upload_open() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let part = bench.put_part(KEY, &id, 1, b"right").await;
    let wrong = bench.complete(KEY, &id, vec![part.clone()], Some(crc64(b"wrong"))).await;
    assert_eq!(wrong.unwrap_err(), "400 BadDigest");
    assert_eq!(bench.get(KEY).await.unwrap_err(), "404 NoSuchKey");
    assert_eq!(bench.part_numbers(KEY, &id).await.unwrap(), [1]);
    bench.complete(KEY, &id, vec![part], Some(crc64(b"right"))).await.unwrap();
    assert_eq!(bench.get(KEY).await.unwrap(), b"right");
}

#[tokio::test]
async fn complete_refuses_what_does_not_fit() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let one = bench.put_part(KEY, &id, 1, b"small").await;
    let two = bench.put_part(KEY, &id, 2, b"last").await;
    let other = |change: fn(CompletedPartBuilder) -> CompletedPartBuilder| {
        change(CompletedPart::builder().part_number(1).e_tag(one.e_tag().unwrap())).build()
    };
    let cases = [
        (vec![one.clone(), two.clone()], "400 EntityTooSmall"),
        (vec![two.clone(), one.clone()], "400 InvalidPartOrder"),
        (vec![one.clone(), one.clone()], "400 InvalidPartOrder"),
        (vec![other(|part| part.part_number(3))], "400 InvalidPart"),
        (vec![other(|part| part.part_number(-1))], "400 InvalidPart"),
        (vec![other(|part| part.e_tag("\"00000000000000000000000000000000\""))], "400 InvalidPart"),
        (vec![other(|part| part.checksum_crc64_nvme(crc64(b"x")))], "400 InvalidPart"),
        (vec![], "400 MalformedXML"),
    ];
    for (parts, expected) in cases {
        assert_eq!(bench.complete(KEY, &id, parts, None).await.unwrap_err(), expected);
    }
    assert_eq!(bench.part_numbers(KEY, &id).await.unwrap(), [1, 2]);
    // Of two stored parts one may be left out; its bytes go.
    bench.complete(KEY, &id, vec![two], None).await.unwrap();
    assert_eq!(bench.get(KEY).await.unwrap(), b"last");
}

#[tokio::test]
async fn a_part_sent_again_replaces_the_first() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let old = bench.put_part(KEY, &id, 1, b"old").await;
    let new = bench.put_part(KEY, &id, 1, b"new bytes").await;
    assert_eq!(bench.part_numbers(KEY, &id).await.unwrap(), [1]);
    assert_eq!(bench.complete(KEY, &id, vec![old], None).await.unwrap_err(), "400 InvalidPart");
    bench.complete(KEY, &id, vec![new], None).await.unwrap();
    assert_eq!(bench.get(KEY).await.unwrap(), b"new bytes");
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let part = bench.put_part(KEY, &id, 1, b"x").await;
    let abort = || bench.s3.abort_multipart_upload().bucket(BUCKET).key(KEY).upload_id(&id).send();
    abort().await.unwrap();
    assert_eq!(bench.data_folders(), 0);
    assert_eq!(refusal(&abort().await.unwrap_err()), "404 NoSuchUpload");
    assert_eq!(bench.part_numbers(KEY, &id).await.unwrap_err(), "404 NoSuchUpload");
    assert_eq!(bench.complete(KEY, &id, vec![part], None).await.unwrap_err(), "404 NoSuchUpload");
    let url = bench.presigned_part(KEY, &id, 1, b"x", crate::bench::Life::default()).await;
    assert_eq!(bench.send(&url, b"x".to_vec()).await.refusal(), "404 NoSuchUpload");
}

#[tokio::test]
async fn complete_again_is_answered_again_and_else_the_upload_is_gone() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    let part = bench.put_part(KEY, &id, 1, b"x").await;
    let first = bench.complete(KEY, &id, vec![part.clone()], None).await.unwrap();
    let again = bench.complete(KEY, &id, vec![part.clone()], None).await.unwrap();
    assert_eq!(first.e_tag(), again.e_tag());
    assert_eq!(bench.part_numbers(KEY, &id).await.unwrap_err(), "404 NoSuchUpload");
    let url = bench.presigned_part(KEY, &id, 1, b"y", crate::bench::Life::default()).await;
    assert_eq!(bench.send(&url, b"y".to_vec()).await.refusal(), "404 NoSuchUpload");
    // Another object under the key: the answer would be about something else.
    bench.put(KEY, b"other").await;
    assert_eq!(bench.complete(KEY, &id, vec![part], None).await.unwrap_err(), "404 NoSuchUpload");
}

#[tokio::test]
async fn parts_are_listed_in_pages() {
    let bench = Bench::start().await;
    let id = bench.create_upload(KEY).await;
    for number in [9, 1, 5, 3, 7] {
        bench.put_part(KEY, &id, number, &[u8::try_from(number).unwrap()]).await;
    }
    let (mut pages, mut marker) = (Vec::new(), None);
    loop {
        let list = bench.s3.list_parts().bucket(BUCKET).key(KEY).upload_id(&id).max_parts(2);
        let list = list.set_part_number_marker(marker).send().await.unwrap();
        for part in list.parts() {
            let byte = [u8::try_from(part.part_number().unwrap()).unwrap()];
            assert_eq!(part.checksum_crc64_nvme(), Some(crc64(&byte).as_str()));
            assert_eq!(part.e_tag().unwrap().trim_matches('"'), md5_hex(&byte));
            assert_eq!(part.size(), Some(1));
        }
        pages.push(list.parts().iter().map(|part| part.part_number().unwrap()).collect::<Vec<_>>());
        marker = list.next_part_number_marker().map(str::to_owned);
        if list.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(pages, [vec![1, 3], vec![5, 7], vec![9]]);
}

#[tokio::test]
async fn uploads_are_listed_by_key_and_age_in_pages() {
    let bench = Bench::start().await;
    let mut expected = Vec::new();
    for key in ["b/2", "a", "b/1", "b/1"] {
        expected.push((key.to_owned(), bench.create_upload(key).await));
    }
    expected.sort();
    let (mut seen, mut key, mut id) = (Vec::new(), None, None);
    loop {
        let list = bench.s3.list_multipart_uploads().bucket(BUCKET).max_uploads(1);
        let list = list.set_key_marker(key).set_upload_id_marker(id).send().await.unwrap();
        seen.extend(
            list.uploads()
                .iter()
                .map(|upload| (upload.key().unwrap().to_owned(), upload.upload_id().unwrap().to_owned())),
        );
        (key, id) = (list.next_key_marker, list.next_upload_id_marker);
        if list.is_truncated != Some(true) {
            break;
        }
    }
    assert_eq!(seen, expected);
    let list = bench.s3.list_multipart_uploads().bucket(BUCKET).prefix("b/1").send().await.unwrap();
    assert_eq!(list.uploads().len(), 2);
}
