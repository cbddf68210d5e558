use std::fs;
use std::net::TcpListener;

use hoist_depot::DepotError;
use sha2::{Digest as _, Sha256};

use crate::bench::{BUCKET, Bench, MIN_PART, crc64, http, pattern, start, start_at};

#[tokio::test]
async fn a_restart_keeps_objects_uploads_and_the_port() {
    let bench = Bench::start().await;
    let bytes = pattern(6, MIN_PART + 10);
    bench.put("object", b"kept").await;
    let id = bench.create_upload("upload").await;
    let one = bench.put_part("upload", &id, 1, &bytes[..MIN_PART]).await;
    let addr = bench.depot.addr();
    let bench = bench.restart().await;
    assert_eq!(bench.depot.addr(), addr);
    assert_eq!(bench.get("object").await.unwrap(), b"kept");
    assert_eq!(bench.part_numbers("upload", &id).await.unwrap(), [1]);
    let two = bench.put_part("upload", &id, 2, &bytes[MIN_PART..]).await;
    bench.complete("upload", &id, vec![one, two], Some(crc64(&bytes))).await.unwrap();
    let bench = bench.restart().await;
    assert!(bench.get("upload").await.unwrap() == bytes);
    assert!(bench.part_numbers("upload", &id).await.is_err());
    let head = bench.s3.head_object().bucket(BUCKET).key("upload").send().await.unwrap();
    assert_eq!(head.metadata().unwrap()["write-token"], "t0");
}

#[tokio::test]
async fn a_taken_port_is_replaced_by_a_free_one() {
    let bench = Bench::start().await;
    let addr = bench.depot.addr();
    bench.depot.stop().await;
    let squatter = TcpListener::bind(addr).unwrap();
    let depot = start(bench.dir.path()).await.unwrap();
    assert_ne!(depot.addr(), addr);
    depot.stop().await;
    let refused = start_at(bench.dir.path(), squatter.local_addr().unwrap()).await;
    assert!(matches!(refused, Err(DepotError::Listen { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_directory_has_one_depot() {
    let bench = Bench::start().await;
    let second = start(bench.dir.path()).await;
    assert!(matches!(second, Err(DepotError::InUse { .. })), "{second:?}");
    bench.put("k", b"untouched").await;
    assert_eq!(bench.get("k").await.unwrap(), b"untouched");
}

#[tokio::test]
async fn leftovers_are_removed_at_the_start() {
    let bench = Bench::start().await;
    let id = bench.create_upload("k").await;
    let part = bench.put_part("k", &id, 1, b"part").await;
    let Bench { dir, depot, .. } = bench;
    depot.stop().await;
    let bucket = dir.path().join("buckets").join(BUCKET);
    fs::write(dir.path().join("tmp/half"), "of a body").unwrap();
    fs::create_dir(bucket.join("data/nobodys")).unwrap();
    fs::write(bucket.join("data/nobodys/part"), "x").unwrap();
    // A part that was replaced, and whose file outlived the crash.
    let older = "00001-00000000-1-00000000000000000000000000000000-0000000000000000";
    fs::write(bucket.join("data").join(&id).join(older), "x").unwrap();
    let depot = start(dir.path()).await.unwrap();
    let s3 = crate::bench::right_client(&depot.endpoint_url());
    let bench = Bench { dir, depot, s3, http: http() };
    assert_eq!((bench.temporary_files(), bench.data_folders()), (0, 1));
    assert_eq!(fs::read_dir(bucket.join("data").join(&id)).unwrap().count(), 1);
    bench.complete("k", &id, vec![part], None).await.unwrap();
    assert_eq!(bench.get("k").await.unwrap(), b"part");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_the_start_and_names_itself() {
    let bench = Bench::start().await;
    bench.put("k", b"x").await;
    bench.depot.stop().await;
    let objects = bench.dir.path().join("buckets").join(BUCKET).join("objects");
    let record = fs::read_dir(objects).unwrap().next().unwrap().unwrap().path();
    fs::write(&record, "{").unwrap();
    let refused = start(bench.dir.path()).await.unwrap_err();
    assert!(refused.to_string().contains(record.to_str().unwrap()), "{refused}");
}

/// The file whose appearance makes the object.
fn object_record(bench: &Bench, key: &str) -> std::path::PathBuf {
    let hash: String = Sha256::digest(key).iter().map(|b| format!("{b:02x}")).collect();
    bench.dir.path().join("buckets").join(BUCKET).join("objects").join(format!("{hash}.json"))
}

#[tokio::test]
async fn a_complete_that_stops_before_its_rename_leaves_the_upload_whole() {
    let bench = Bench::start().await;
    let id = bench.create_upload("k").await;
    let part = bench.put_part("k", &id, 1, b"part").await;
    // A folder where the record belongs: the rename fails, and nothing after it happens.
    let obstacle = object_record(&bench, "k");
    fs::create_dir_all(obstacle.join("x")).unwrap();
    let failed = bench.complete("k", &id, vec![part.clone()], None).await;
    assert_eq!(failed.unwrap_err(), "500 InternalError");
    assert_eq!(bench.part_numbers("k", &id).await.unwrap(), [1]);
    fs::remove_dir_all(&obstacle).unwrap();
    let bench = bench.restart().await;
    assert_eq!(bench.part_numbers("k", &id).await.unwrap(), [1]);
    bench.complete("k", &id, vec![part], None).await.unwrap();
    assert_eq!(bench.get("k").await.unwrap(), b"part");
}

#[tokio::test]
async fn a_complete_killed_after_its_rename_is_finished_at_the_start() {
    let bench = Bench::start().await;
    let id = bench.create_upload("k").await;
    let part = bench.put_part("k", &id, 1, b"part").await;
    let bucket = bench.dir.path().join("buckets").join(BUCKET);
    let (record, data) = (bucket.join(format!("uploads/{id}.json")), bucket.join("data").join(&id));
    let saved = fs::read(&record).unwrap();
    bench.complete("k", &id, vec![part.clone()], None).await.unwrap();
    assert!(!record.exists());
    // As it was right after the rename: the upload's record still there, and a part left out of the object.
    fs::write(&record, saved).unwrap();
    fs::write(data.join("00002-00000002-1-00000000000000000000000000000000-0000000000000000"), "x").unwrap();
    let bench = bench.restart().await;
    assert_eq!(bench.get("k").await.unwrap(), b"part");
    assert_eq!(bench.part_numbers("k", &id).await.unwrap_err(), "404 NoSuchUpload");
    assert!(!record.exists());
    assert_eq!(fs::read_dir(data).unwrap().count(), 1);
    bench.complete("k", &id, vec![part], None).await.unwrap();
}
