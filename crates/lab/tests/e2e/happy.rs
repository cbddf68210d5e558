//! A file is asked for and comes, whole, from each kind of bucket.

use hoist_lab::s3::{LocalStack, Rclone, S3Server, SeaweedFs};
use hoist_lab::scene::Setup;
use hoist_lab::site::sha256;
use hoist_lab::{Scene, WITHIN};
use hoist_wire::{ChecksumKind, State};

const MIB: u64 = 1024 * 1024;

/// Brings one file, and compares everything that can be compared.
async fn brings(setup: Setup, size: u64, proof: ChecksumKind) {
    let scene = setup.start().await;
    let path = scene.site.random("day report.bin", size);
    let mut agent = scene.agent("restaurant-1").start();
    let operator = scene.operator();
    operator.sees("restaurant-1", true).await;

    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    assert_eq!((asked.state, asked.attempt, asked.error), (State::Queued, 0, None));
    let download = operator.completes(asked.id).await;
    assert_eq!(download.size_bytes, Some(size));
    assert_eq!((download.sent_bytes, download.stored_bytes), (size, size));
    assert_eq!((download.proof, download.attempt), (Some(proof), 1));
    assert_eq!((download.reason, download.next_step), (None, None));
    assert!(download.finished_at.unwrap() >= download.started_at.unwrap());

    let key = download.object_key.unwrap();
    assert!(key.contains("restaurant-1") && key.contains(&download.id.to_string()), "{key}");
    let head = scene.storage.head(&key).await.unwrap();
    assert_eq!(head.size_bytes, size);
    // It proves whose the object is, so nobody is told.
    let write_token = head.write_token.unwrap();
    assert!(write_token.len() >= 32);
    scene.book.secret(&write_token);
    if proof == ChecksumKind::Crc64nvme {
        assert_eq!(head.crc64nvme, download.checksum_crc64nvme);
    }
    let local = std::fs::read(&path).unwrap();
    let said = hoist_lab::scripted::sums(&local).crc64nvme.to_string();
    assert_eq!(download.checksum_crc64nvme, Some(said));

    let (bytes, disposition) = operator.fetch(asked.id).await;
    assert_eq!(sha256(&bytes), sha256(&local), "the file from the bucket is another one");
    assert!(disposition.contains("attachment") && disposition.contains("day report.bin"), "{disposition}");
    assert!(agent.terminate_within(WITHIN).await.success());
    scene.finish().await;
}

async fn brings_to(server: &S3Server, proof: ChecksumKind) {
    brings(Scene::on(server), 12 * MIB, proof).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_come_up_into_the_embedded_bucket() {
    brings(Scene::trial(), 100_000_000, ChecksumKind::Crc64nvme).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_mebibytes_come_up_into_seaweed_fs() {
    let Some(seaweed) = SeaweedFs::start().await else { return };
    brings_to(seaweed.server(), ChecksumKind::Crc64nvme).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_mebibytes_come_up_into_local_stack() {
    let Some(local_stack) = LocalStack::start().await else { return };
    brings_to(local_stack.server(), ChecksumKind::Crc64nvme).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_mebibytes_come_up_into_rclone_which_proves_by_md5_alone() {
    let Some(rclone) = Rclone::start().await else { return };
    brings_to(rclone.server(), ChecksumKind::PartMd5).await;
}
