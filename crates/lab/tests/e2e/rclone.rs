//! rclone as the bucket: an upload there is one stream, which forgets nothing and takes nothing back.

use std::collections::BTreeSet;
use std::io::Write as _;

use hoist_lab::proxy::{Fault, On};
use hoist_lab::s3::Rclone;
use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::ChecksumKind;

use crate::trouble::{THREE_PARTS, Trouble};

fn upload_id(target: &str) -> Option<&str> {
    target.split(['?', '&']).find_map(|pair| pair.strip_prefix("uploadId="))
}

async fn until_parts(trouble: &Trouble, count: usize) {
    eventually("parts in the bucket, and one that is held back", WITHIN, || async {
        let seen = trouble.scene.proxy().seen();
        let held = seen.iter().any(|passed| passed.part().is_some() && passed.status.is_none());
        let parts = trouble.scene.proxy().confirmed_parts();
        if held && parts.len() == count { Ok(()) } else { Err(format!("{parts:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_to_rclone_goes_on_after_the_agent_was_killed() {
    let Some(rclone) = Rclone::start().await else { return };
    let mut trouble = Trouble::begin(Scene::on(rclone.server()).proxied_for_agents(), THREE_PARTS).await;
    trouble.scene.proxy().hold_parts_after(2);
    let id = trouble.ask().await;
    until_parts(&trouble, 2).await;
    trouble.agent_dies().await;
    trouble.scene.proxy().release();
    let download = trouble.arrives(id).await;
    assert_eq!((download.attempt, download.proof), (2, Some(ChecksumKind::PartMd5)));
    assert_eq!(trouble.scene.proxy().confirmed_parts(), [1, 2, 3], "a part was sent twice, or never");
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_gets_another_upload_where_parts_cannot_be_replaced() {
    let Some(rclone) = Rclone::start().await else { return };
    let trouble = Trouble::begin(Scene::on(rclone.server()).proxied_for_agents(), THREE_PARTS).await;
    trouble.scene.proxy().hold_parts_after(1);
    let id = trouble.ask().await;
    until_parts(&trouble, 1).await;
    let mut file = std::fs::OpenOptions::new().write(true).open(trouble.path()).unwrap();
    file.write_all(b"another version of the day report").unwrap();
    trouble.scene.proxy().release();
    trouble.arrives(id).await;
    let seen = trouble.scene.proxy().seen();
    assert!(seen.iter().any(|passed| passed.status == Some(501)), "nothing was to be replaced");
    let parts = seen.iter().filter(|passed| passed.status == Some(200) && passed.part().is_some());
    let uploads: BTreeSet<&str> = parts.filter_map(|passed| upload_id(&passed.target)).collect();
    assert_eq!(uploads.len(), 2, "one change, one more upload");
    trouble.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_damaged_on_its_way_costs_the_upload_and_not_the_file() {
    let Some(rclone) = Rclone::start().await else { return };
    let trouble = Trouble::begin(Scene::on(rclone.server()).proxied_for_agents(), THREE_PARTS).await;
    let damage = trouble.scene.proxy().inject(On::part(2), Fault::FlipBit(1_000_000));
    let id = trouble.ask().await;
    let download = trouble.arrives(id).await;
    assert_eq!((damage.hits(), download.proof), (1, Some(ChecksumKind::PartMd5)));
    trouble.finish().await;
}
