//! What every store must do: SQLite, and with the feature `simulation` the one in memory. Each case gets a fresh store.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hoist_engine::life::{Failure, Life, Reason, Upload};
use hoist_server::bucket::MultipartId;
use hoist_server::store::{
    Along, ClientFilter, CloneSuspicion, DownloadFilter, FoundFile, Idempotency, Inserted, Introduction,
    Record, SqliteStore, Store, UploadFate, UploadRow,
};
use hoist_wire::reach::Reach;
use hoist_wire::{
    Attempt, ChecksumKind, ClientId, Crc64, DownloadId, ErrorCode, LinkSeq, OnChange, ReasonCode, State,
    Timestamp,
};
use tempfile::TempDir;

#[path = "store_conformance/identities.rs"]
mod identities;
#[path = "store_conformance/operators.rs"]
mod operators;
#[path = "store_conformance/trail.rs"]
mod trail;

use identities::*;
use operators::*;
use trail::*;

const NOW: Timestamp = Timestamp(1_000_000);
const MANY: u32 = 100;

async fn sqlite() -> (Arc<dyn Store>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Arc::new(SqliteStore::open(&dir.path().join("store.sqlite")).await.unwrap()), dir)
}

/// Runs every case against each store.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod sqlite_store {
            $(#[tokio::test]
            async fn $case() {
                let (store, _dir) = super::sqlite().await;
                super::$case(&*store).await;
            })+
        }

        #[cfg(feature = "simulation")]
        mod memory_store {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&hoist_server::store::MemoryStore::default()).await;
            })+
        }
    };
}

cases! {
    a_record_reads_back_as_it_was_written,
    a_lost_guard_writes_nothing,
    parts_come_and_go_with_their_record,
    what_is_due_comes_first_in_first_out_and_not_before_its_time,
    a_repeated_request_is_one_download,
    a_client_has_only_so_many_open_downloads,
    links_grow_and_a_late_close_moves_nothing,
    a_clone_is_noted_with_both_names_and_not_too_often,
    clients_are_listed_by_id_prefix_and_page,
    downloads_are_listed_newest_first_by_every_filter,
    an_upload_is_remembered_until_storage_says_gone,
    an_upload_that_is_created_too_late_is_aborted,
    clients_that_are_waited_for_are_found_once_each,
    deadlines_and_what_was_left_completing_are_found,
    a_one_time_token_enrols_one_key_and_answers_it_again,
    of_keys_that_come_at_once_one_wins,
    a_one_time_token_ends,
    a_new_key_takes_the_place_of_the_old_one,
    a_revoked_client_has_no_key_no_token_and_nothing_to_enrol_with,
    a_nonce_opens_one_link_and_an_older_one_none,
    changed_identities_are_found_by_every_node_page_by_page,
    a_server_keeps_its_id,
    a_link_tells_the_secret_of_its_token_and_clears_no_key,
    each_node_has_its_own_chain,
    an_intent_waits_for_its_line_and_only_for_its_own,
    lines_are_found_by_every_filter_and_page,
    what_is_old_is_cut_and_the_chain_goes_on,
    a_download_and_its_line_stand_together,
    a_key_and_its_line_stand_together,
    downloads_that_ended_long_ago_are_forgotten,
    labels_replace_those_before_and_need_no_client,
    a_reach_by_labels_needs_all_of_them,
    a_session_reads_back_until_it_is_ended,
    of_too_many_sessions_the_oldest_end,
    sessions_that_are_over_are_forgotten,
    a_revoked_operator_has_no_session_and_no_older_token,
}

fn client(name: &str) -> ClientId {
    name.parse().unwrap()
}

/// The n-th download of restaurant-1: ids grow with n.
fn download(n: u8) -> Record {
    Record {
        id: DownloadId::new(u64::from(n), [n; 10]),
        client_id: client("restaurant-1"),
        version: 1,
        life: Life::queued(NOW, Some(60), n.is_multiple_of(2).then_some(OnChange::Prefix)),
        file_path: Some(String::from("a b\n\"ä\"")),
        found: None,
        object_key: None,
        write_token: String::from("token"),
        metadata: BTreeMap::from([(String::from("day"), String::from("ü"))]),
        requested_by: String::from("ops"),
        max_rate_bytes_per_sec: None,
        stored_bytes: 0,
        created_at: NOW,
        started_at: None,
        updated_at: NOW,
        finished_at: None,
    }
}

async fn insert(store: &dyn Store, n: u8) -> Record {
    let record = download(n);
    assert_eq!(store.insert(&record, None, MANY).await.unwrap(), Some(Inserted::New));
    record
}

/// Saves, and counts the version as the store does.
async fn save(store: &dyn Store, record: &mut Record, along: Along) {
    assert!(store.save(record, &along).await.unwrap());
    record.version += 1;
}

/// Ends a download.
async fn cancel(store: &dyn Store, record: &mut Record) {
    record.life.state = State::Cancelled;
    record.life.reason = None;
    save(store, record, Along { upload: Some(UploadFate::Abort), parts: None }).await;
}

fn who() -> Introduction {
    let (agent_version, os, host) =
        (String::from("0.1.0"), String::from("linux-x86_64"), String::from("till"));
    let instance = Some("process-1.machine-1".parse().unwrap());
    Introduction {
        agent_version,
        os,
        host,
        facts: BTreeMap::new(),
        token_expires_at: Some(NOW),
        token_kid: Some(String::from("5ea1ed00")),
        instance,
    }
}

fn upload(record: &Record) -> UploadRow {
    let (upload_row, object_key) = (String::from("row"), String::from("key"));
    UploadRow { upload_row, download_id: record.id, object_key, multipart_id: None, aborted_once: false }
}

async fn a_record_reads_back_as_it_was_written(store: &dyn Store) {
    let mut record = insert(store, 1).await;
    assert_eq!(store.download(record.id).await.unwrap().unwrap(), record);
    record.life.state = State::Failed;
    record.life.reason = None;
    record.life.attempt = Attempt(3);
    record.life.link = Some(LinkSeq(7));
    record.life.changed_passes = 2;
    record.life.contradicted = 3;
    record.max_rate_bytes_per_sec = Some(250_000);
    record.life.size_bytes = Some(48 << 40);
    record.life.upload = Some(Upload { part_size_bytes: 5 << 30, checksum: ChecksumKind::PartMd5 });
    record.life.crc64nvme = Some(Crc64(u64::MAX));
    record.life.absent_since = Some(NOW);
    record.life.failure = Some(Failure { code: ErrorCode::Unproven, message: String::from("why") });
    record.found = Some(FoundFile { path: String::from("/a"), name: String::from("a"), modified_ms: -5 });
    record.object_key = Some(String::from("key"));
    record.started_at = Some(NOW);
    record.finished_at = Some(NOW.plus_ms(1));
    save(store, &mut record, Along::default()).await;
    assert_eq!(store.download(record.id).await.unwrap().unwrap(), record);
    assert_eq!(store.download(DownloadId::new(9, [9; 10])).await.unwrap(), None);
}

async fn a_lost_guard_writes_nothing(store: &dyn Store) {
    let mut first = insert(store, 1).await;
    let mut second = first.clone();
    save(store, &mut first, Along::default()).await;
    second.object_key = Some(String::from("late"));
    let along = Along { upload: None, parts: Some((Attempt(1), vec![1])) };
    assert!(!store.save(&second, &along).await.unwrap());
    assert_eq!(store.download(first.id).await.unwrap().unwrap(), first);
    assert_eq!(store.parts(first.id).await.unwrap(), None);
}

async fn parts_come_and_go_with_their_record(store: &dyn Store) {
    let mut record = insert(store, 1).await;
    for attempt in [1, 2] {
        let along = Along { upload: None, parts: Some((Attempt(attempt), vec![1, 2, 3])) };
        save(store, &mut record, along).await;
        assert_eq!(store.parts(record.id).await.unwrap(), Some((Attempt(attempt), vec![1, 2, 3])));
    }
    cancel(store, &mut record).await;
    assert_eq!(store.parts(record.id).await.unwrap(), None);
}

async fn what_is_due_comes_first_in_first_out_and_not_before_its_time(store: &dyn Store) {
    let (first, mut second, third) = (insert(store, 1).await, insert(store, 2).await, insert(store, 3).await);
    let later = NOW.plus_secs(30);
    let message = String::from("busy");
    second.life.reason =
        Some(Reason { code: ReasonCode::RefusedForNow, message, since: NOW, next_at: later });
    save(store, &mut second, Along::default()).await;
    let due = store.due(&client("restaurant-1"), NOW, 10).await.unwrap();
    assert_eq!((due.ids, due.next_at), (vec![first.id, third.id], Some(later)));
    let due = store.due(&client("restaurant-1"), later, 2).await.unwrap();
    assert_eq!((due.ids, due.next_at), (vec![first.id, second.id], None));
    assert!(store.due(&client("restaurant-2"), later, 2).await.unwrap().ids.is_empty());
}

async fn a_repeated_request_is_one_download(store: &dyn Store) {
    let key = |body: &str| Idempotency { operator: "ops".into(), key: "k".into(), body_hash: body.into() };
    let first = download(1);
    assert_eq!(store.insert(&first, Some(&key("a")), MANY).await.unwrap(), Some(Inserted::New));
    let again = store.insert(&download(2), Some(&key("a")), MANY).await.unwrap();
    assert_eq!(again, Some(Inserted::Before(first.id)));
    assert_eq!(store.insert(&download(3), Some(&key("b")), MANY).await.unwrap(), Some(Inserted::Mismatch));
    let other = Idempotency { operator: "other".into(), ..key("a") };
    assert_eq!(store.insert(&download(4), Some(&other), MANY).await.unwrap(), Some(Inserted::New));
    store.forget_idempotency(NOW.plus_ms(1)).await.unwrap();
    assert_eq!(store.insert(&download(5), Some(&key("b")), MANY).await.unwrap(), Some(Inserted::New));
}

async fn a_client_has_only_so_many_open_downloads(store: &dyn Store) {
    let mut first = insert(store, 1).await;
    assert_eq!(store.insert(&download(2), None, 1).await.unwrap(), None);
    cancel(store, &mut first).await;
    assert_eq!(store.insert(&download(2), None, 1).await.unwrap(), Some(Inserted::New));
}

async fn links_grow_and_a_late_close_moves_nothing(store: &dyn Store) {
    let id = client("restaurant-1");
    assert_eq!(store.open_link(&id, &who(), NOW).await.unwrap(), LinkSeq(1));
    assert_eq!(store.open_link(&id, &who(), NOW).await.unwrap(), LinkSeq(2));
    store.close_link(&id, LinkSeq(1), NOW).await.unwrap();
    assert_eq!(store.client(&id).await.unwrap().unwrap().connected_link, Some(LinkSeq(2)));
    store.close_link(&id, LinkSeq(2), NOW).await.unwrap();
    assert_eq!(store.client(&id).await.unwrap().unwrap().connected_link, None);
    assert_eq!(store.open_link(&id, &who(), NOW).await.unwrap(), LinkSeq(3), "the fence never goes back");
    store.close_all_links(NOW).await.unwrap();
    assert_eq!(store.client(&id).await.unwrap().unwrap().connected_link, None);
}

async fn a_clone_is_noted_with_both_names_and_not_too_often(store: &dyn Store) {
    let (id, minute) = (client("restaurant-1"), Duration::from_secs(60));
    let clone = "process-2.machine-2".parse().unwrap();
    store.suspect_clone(&id, Some(&clone), NOW, minute).await.unwrap();
    assert_eq!(store.client(&id).await.unwrap(), None, "a suspicion makes no client");
    store.open_link(&id, &who(), NOW).await.unwrap();
    assert_eq!(store.client(&id).await.unwrap().unwrap().suspicion, None);
    let noted = async |refused, at| {
        store.suspect_clone(&id, refused, at, minute).await.unwrap();
        store.client(&id).await.unwrap().unwrap().suspicion.unwrap()
    };
    let first = CloneSuspicion {
        at: NOW,
        linked: who().instance,
        linked_host: Some(String::from("till")),
        refused: Some(clone.clone()),
    };
    assert_eq!(noted(Some(&clone), NOW).await, first);
    assert_eq!(noted(None, NOW.plus_secs(59)).await, first);
    let second = CloneSuspicion { at: NOW.plus_secs(60), refused: None, ..first };
    assert_eq!(noted(None, NOW.plus_secs(60)).await, second);
    // A clock that was put back does not silence it.
    assert_eq!(noted(None, NOW).await.at, NOW);
    store.open_link(&id, &who(), NOW).await.unwrap();
    assert_eq!(
        store.client(&id).await.unwrap().unwrap().suspicion.unwrap().at,
        NOW,
        "a link does not clear it"
    );
}

fn prefix(prefix: &str) -> Reach {
    Reach { prefix: Some(prefix.to_owned()), ..Reach::default() }
}

async fn clients_are_listed_by_id_prefix_and_page(store: &dyn Store) {
    for name in ["b-1", "a-2", "a-1", "a.x", "a"] {
        store.open_link(&client(name), &who(), NOW).await.unwrap();
    }
    store.close_link(&client("a-2"), LinkSeq(1), NOW).await.unwrap();
    let names = async |filter: ClientFilter| -> Vec<String> {
        let rows = store.clients(&filter, 3).await.unwrap();
        rows.into_iter().map(|row| row.client_id.to_string()).collect()
    };
    assert_eq!(names(ClientFilter::default()).await, ["a", "a-1", "a-2"]);
    assert_eq!(
        names(ClientFilter { after: Some(client("a-2")), ..Default::default() }).await,
        ["a.x", "b-1"]
    );
    assert_eq!(names(ClientFilter { reach: prefix("a-"), ..Default::default() }).await, ["a-1", "a-2"]);
    assert_eq!(names(ClientFilter { connected: Some(false), ..Default::default() }).await, ["a-2"]);
}

async fn downloads_are_listed_newest_first_by_every_filter(store: &dyn Store) {
    let (mut first, second) = (insert(store, 1).await, insert(store, 2).await);
    cancel(store, &mut first).await;
    let ids = async |filter: DownloadFilter| -> Vec<DownloadId> {
        store.downloads(&filter, 10).await.unwrap().into_iter().map(|record| record.id).collect()
    };
    let own = || DownloadFilter { client_id: Some(client("restaurant-1")), ..Default::default() };
    assert_eq!(ids(DownloadFilter::default()).await, [second.id, first.id]);
    assert_eq!(ids(DownloadFilter { before: Some(second.id), ..Default::default() }).await, [first.id]);
    assert_eq!(ids(DownloadFilter { state: Some(State::Cancelled), ..Default::default() }).await, [first.id]);
    assert_eq!(ids(own()).await, [second.id, first.id]);
    assert_eq!(ids(DownloadFilter { state: Some(State::Queued), ..own() }).await, [second.id]);
    assert_eq!(ids(DownloadFilter { open: Some(true), ..own() }).await, [second.id]);
    assert_eq!(ids(DownloadFilter { open: Some(false), ..own() }).await, [first.id]);
    let nobody = DownloadFilter { client_id: Some(client("nobody")), ..Default::default() };
    assert!(ids(nobody).await.is_empty());
}

async fn an_upload_is_remembered_until_storage_says_gone(store: &dyn Store) {
    let mut record = insert(store, 1).await;
    let row = upload(&record);
    assert!(!store.upload_creating(&row).await.unwrap(), "nobody has it, so nobody would abort it");
    record.life.state = State::Uploading;
    save(store, &mut record, Along::default()).await;
    assert!(store.upload_creating(&row).await.unwrap());
    assert_eq!(store.upload_of(record.id).await.unwrap(), Some(row.clone()));
    let id = MultipartId(String::from("id"));
    assert!(store.upload_open("row", &id).await.unwrap());
    cancel(store, &mut record).await;
    assert_eq!(store.upload_of(record.id).await.unwrap(), None);
    let open = UploadRow { multipart_id: Some(id), ..row };
    assert_eq!(store.uploads_to_abort(NOW, 9).await.unwrap(), std::slice::from_ref(&open));
    let later = NOW.plus_secs(60);
    store.upload_aborted("row", true, Some(later)).await.unwrap();
    assert!(store.uploads_to_abort(NOW, 9).await.unwrap().is_empty());
    assert_eq!(store.uploads_to_abort(later, 9).await.unwrap(), [UploadRow { aborted_once: true, ..open }]);
    store.upload_aborted("row", true, None).await.unwrap();
    assert!(store.uploads_to_abort(Timestamp(i64::MAX), 9).await.unwrap().is_empty());
}

async fn an_upload_that_is_created_too_late_is_aborted(store: &dyn Store) {
    let mut record = insert(store, 1).await;
    let row = upload(&record);
    assert!(!store.upload_creating(&row).await.unwrap(), "nobody has it, so nobody would abort it");
    record.life.state = State::Uploading;
    save(store, &mut record, Along::default()).await;
    assert!(store.upload_creating(&row).await.unwrap());
    cancel(store, &mut record).await;
    let id = MultipartId(String::from("id"));
    assert!(!store.upload_open("row", &id).await.unwrap());
    let to_abort = store.uploads_to_abort(NOW, 9).await.unwrap();
    assert_eq!(to_abort, [UploadRow { multipart_id: Some(id), ..row }], "its id is kept all the same");
}

async fn clients_that_are_waited_for_are_found_once_each(store: &dyn Store) {
    assert!(store.waiting_clients(None, 9).await.unwrap().is_empty());
    let (mut first, mut second) = (insert(store, 1).await, insert(store, 2).await);
    assert_eq!(store.waiting_clients(None, 9).await.unwrap(), [client("restaurant-1")]);
    assert!(store.waiting_clients(Some(&client("restaurant-1")), 9).await.unwrap().is_empty());
    cancel(store, &mut first).await;
    cancel(store, &mut second).await;
    assert!(store.waiting_clients(None, 9).await.unwrap().is_empty());
}

async fn deadlines_and_what_was_left_completing_are_found(store: &dyn Store) {
    let (first, mut second) = (insert(store, 1).await, insert(store, 2).await);
    assert!(store.overdue(NOW.plus_secs(59), 9).await.unwrap().is_empty());
    assert_eq!(store.overdue(NOW.plus_secs(60), 9).await.unwrap(), [first.id, second.id]);
    second.life.state = State::Completing;
    save(store, &mut second, Along::default()).await;
    assert_eq!(store.completing(None, 9).await.unwrap(), [second.id]);
    assert!(store.completing(Some(second.id), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_written_survives_a_restart() {
    let (store, dir) = sqlite().await;
    let record = insert(&*store, 1).await;
    store.set_setting("probe", "crc64nvme").await.unwrap();
    store.set_setting("probe", "part_md5").await.unwrap();
    drop(store);
    let store = SqliteStore::open(&dir.path().join("store.sqlite")).await.unwrap();
    assert_eq!(store.download(record.id).await.unwrap().unwrap(), record);
    assert_eq!(store.setting("probe").await.unwrap().as_deref(), Some("part_md5"));
    assert_eq!(store.setting("other").await.unwrap(), None);
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = SqliteStore::open(&dir.path().join("no/such/folder/x.sqlite")).await.unwrap_err();
    assert!(error.to_string().contains("no/such/folder/x.sqlite"), "{error}");
}
