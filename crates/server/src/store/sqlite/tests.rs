//! What a statement must use, and what a guard must hold.

use std::collections::BTreeMap;

use hoist_engine::life::Life;
use hoist_wire::{LinkSeq, OnChange, State};

use super::*;

async fn store() -> (SqliteStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("hoist.db")).await.unwrap();
    (store, dir)
}

fn record(state: State) -> Record {
    let now = Timestamp(1);
    Record {
        id: DownloadId::new(1, [7; 10]),
        client_id: "restaurant-1".parse().unwrap(),
        version: 1,
        life: Life { state, link: Some(LinkSeq(1)), ..Life::queued(now, None, OnChange::Restart) },
        file_path: None,
        found: None,
        object_key: Some(String::from("k")),
        write_token: String::from("token"),
        metadata: BTreeMap::new(),
        requested_by: String::from("ops"),
        max_rate_bytes_per_sec: None,
        stored_bytes: 0,
        created_at: now,
        started_at: None,
        updated_at: now,
        finished_at: None,
    }
}

#[tokio::test]
async fn what_is_due_is_found_without_a_look_at_the_past_or_at_others() {
    let (store, _dir) = store().await;
    let open = "downloads_open (client_id=?)";
    for (statement, index) in [
        (DUE, open),
        (NEXT_DUE, open),
        (OVERDUE, "downloads_by_deadline (expires_at<?)"),
        (WAITING_CLIENTS, "COVERING INDEX downloads_open (client_id>?)"),
    ] {
        let explain = sqlx::AssertSqlSafe(format!("explain query plan {statement}"));
        let plan = sqlx::query(explain).bind("c").bind(1).bind(1).fetch_all(&store.readers).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{statement}: {steps:?}");
    }
}

#[tokio::test]
async fn no_upload_begins_for_a_download_that_has_ended() {
    for (state, begins) in [(State::Uploading, true), (State::Cancelled, false), (State::Queued, false)] {
        let (store, _dir) = store().await;
        let record = record(state);
        store.insert(&record, None, 10).await.unwrap();
        let row = UploadRow {
            upload_row: String::from("row"),
            download_id: record.id,
            object_key: String::from("k"),
            multipart_id: None,
            aborted_once: false,
        };
        assert_eq!(store.upload_creating(&row).await.unwrap(), begins, "{state}");
        assert_eq!(store.upload_of(record.id).await.unwrap().is_some(), begins, "{state}");
    }
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_again_when_it_has_room() {
    let (store, _dir) = store().await;
    let run = async |statement: &'static str| {
        sqlx::query(statement).execute(&store.writer).await.unwrap();
    };
    let asked = |n| Record { id: DownloadId::new(n, [7; 10]), ..record(State::Queued) };
    // SQLite takes the whole transaction back, as on a full disk, and the connection does not hear of it.
    run("create trigger full before insert on downloads begin select raise(rollback, 'full'); end").await;
    run("create trigger fuller before insert on settings begin select raise(rollback, 'full'); end").await;
    for n in 1..4 {
        assert!(store.insert(&asked(n), None, 10_000).await.is_err());
    }
    assert!(store.ping().await.is_err(), "a store that cannot be written is not ready");
    run("drop trigger full").await;
    run("drop trigger fuller").await;
    store.ping().await.unwrap();
    assert_eq!(store.insert(&asked(4), None, 10_000).await.unwrap(), Some(Inserted::New));
    let mut moved = store.download(asked(4).id).await.unwrap().unwrap();
    moved.life.state = State::Cancelled;
    assert!(store.save(&moved, &Along::default()).await.unwrap());
}
