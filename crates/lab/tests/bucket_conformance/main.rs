//! One suite for every bucket: what hoist rests on, asked of each S3 server that can be had.
//!
//! Each server is started once, and all cases run against it, each on keys of its own. Where a server is known to
//! answer otherwise, its table of quirks says so, and the case checks that it still does.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod completing;
mod ctx;
mod grants;
mod listing;
mod objects;
mod start;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hoist_depot::{Depot, DepotConfig};
use hoist_lab::s3::{LocalStack, Rclone, S3Server, SeaweedFs};
use hoist_wire::ChecksumKind;
use tokio::task::JoinSet;

use ctx::{Ctx, Quirk};

/// Longest time for one case; the longest waits for a grant of one second to expire.
const CASE_TIMEOUT: Duration = Duration::from_secs(90);

type Case = (&'static str, fn(Arc<Ctx>) -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! cases {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        &[$((stringify!($case), |ctx| Box::pin(async move { $module::$case(&ctx).await }))),+]
    };
}

const CASES: &[Case] = cases![
    start::the_probe_finds_the_proof_and_leaves_nothing,
    start::a_bucket_without_proof_is_taken_only_if_that_is_allowed,
    start::a_missing_bucket_names_its_mend,
    start::wrong_keys_are_denied,
    grants::two_parts_go_up_with_proof,
    grants::other_bytes_are_refused,
    grants::another_length_is_refused,
    grants::a_changed_checksum_is_refused,
    grants::a_checksum_left_out_is_refused,
    grants::a_changed_url_is_refused,
    grants::an_expired_grant_is_refused,
    grants::a_grant_of_an_aborted_upload_is_refused,
    grants::a_late_put_leaves_the_finished_object_alone,
    grants::a_part_put_again_is_replaced,
    completing::a_wrong_full_checksum_is_refused_and_the_upload_lives,
    completing::a_missing_part_is_refused_and_the_upload_lives,
    completing::a_wrong_etag_is_refused,
    completing::a_small_part_before_the_last_is_refused,
    completing::an_unknown_upload_is_told,
    completing::a_second_complete_changes_nothing,
    completing::an_aborted_upload_is_gone,
    listing::parts_are_listed_over_pages,
    listing::uploads_are_those_of_the_exact_key,
    listing::strange_keys_are_kept_apart,
    objects::an_absent_key_is_none,
    objects::an_empty_file_round_trips,
    objects::metadata_survives,
    objects::a_get_gives_the_bytes_under_the_name,
];

/// What only means something over HTTP: signatures, headers, configuration, the bytes of an object.
const HTTP_ONLY: &[&str] = &[
    "the_probe_finds_the_proof_and_leaves_nothing",
    "a_bucket_without_proof_is_taken_only_if_that_is_allowed",
    "a_missing_bucket_names_its_mend",
    "wrong_keys_are_denied",
    "a_checksum_left_out_is_refused",
    "a_changed_url_is_refused",
    "a_part_put_again_is_replaced",
    "a_get_gives_the_bytes_under_the_name",
];

/// Runs every case with each kind of proof, and fails with the names of all that failed.
async fn run(server: &S3Server, quirks: &'static [Quirk]) {
    let mut failed = Vec::new();
    for kind in [ChecksumKind::Crc64nvme, ChecksumKind::PartMd5] {
        if kind == ChecksumKind::Crc64nvme && quirks.contains(&Quirk::OnlyMd5) {
            continue;
        }
        let ctx = Arc::new(Ctx::new(server, kind, quirks).await);
        failed.extend(run_cases(&ctx, CASES.iter()).await);
    }
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
}

/// Runs cases one after another, and gives what failed.
async fn run_cases(ctx: &Arc<Ctx>, cases: impl Iterator<Item = &Case>) -> Vec<String> {
    let (mut failed, kind) = (Vec::new(), ctx.kind);
    for (name, case) in cases {
        let mut alone = JoinSet::new();
        alone.spawn(tokio::time::timeout(CASE_TIMEOUT, case(Arc::clone(ctx))));
        match alone.join_next().await.unwrap() {
            Ok(Ok(())) => println!("ok      {name} ({})", kind.as_str()),
            Ok(Err(_)) => failed.push(format!("{name} ({kind:?}): not done after {CASE_TIMEOUT:?}")),
            Err(_) => failed.push(format!("{name} ({kind:?}): see the panic above")),
        }
    }
    failed.extend(ctx.left_open().await);
    failed
}

#[tokio::test(start_paused = true)]
async fn the_simulated_bucket_conforms() {
    let mut failed = Vec::new();
    for kind in [ChecksumKind::Crc64nvme, ChecksumKind::PartMd5] {
        let ctx = Arc::new(Ctx::simulated(kind));
        let cases = CASES.iter().filter(|(name, _)| !HTTP_ONLY.contains(name));
        failed.extend(run_cases(&ctx, cases).await);
    }
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweed_fs_conforms() {
    let Some(seaweed) = SeaweedFs::start().await else { return };
    run(seaweed.server(), &[Quirk::PartsListedWithoutCrc, Quirk::ReplacedPartsStayListed]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_stack_conforms() {
    let Some(local_stack) = LocalStack::start().await else { return };
    run(local_stack.server(), &[Quirk::HeaderSignaturesUnchecked]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rclone_conforms() {
    let Some(rclone) = Rclone::start().await else { return };
    let quirks = &[
        Quirk::OnlyMd5,
        Quirk::HeadsEtagIsPlain,
        Quirk::PartsAreNotReplaced,
        Quirk::WrongBytesEndTheUpload,
        Quirk::RefusedCompleteEndsTheUpload,
        Quirk::SmallPartsAreTaken,
    ];
    run(rclone.server(), quirks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_depot_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let depot = Depot::start(DepotConfig {
        dir: dir.path().to_owned(),
        bind: ([127, 0, 0, 1], 0).into(),
        access_key: "lab".to_owned(),
        secret_key: "lab-secret".into(),
        region: "us-east-1".to_owned(),
    })
    .await
    .unwrap();
    let server = S3Server {
        endpoint: depot.endpoint_url(),
        access_key: "lab".to_owned(),
        secret_key: "lab-secret".to_owned(),
        region: "us-east-1".to_owned(),
    };
    run(&server, &[]).await;
    depot.stop().await;
}
