//! The audit trail and what retention does to it, as every store must keep them.

use hoist_server::store::{Along, Done, Inserted, Intent, Store, TrailFilter, sha256};
use hoist_wire::Timestamp;
use hoist_wire::audit::{CUT, Entry, GENESIS, Head, Line};

use super::{MANY, NOW, cancel, download, identities, insert, save, upload};

/// What an operator did at `at`.
pub(crate) fn entry(node: &str, action: &str, at: Timestamp) -> Entry {
    Entry {
        node: node.to_owned(),
        at,
        action: action.to_owned(),
        who: Some(String::from("ops")),
        token: Some(String::from("jti-1")),
        from: Some(String::from("192.0.2.7")),
        subject: String::from("/clients/restaurant-1"),
        status: 200,
        code: None,
        detail: Some(String::from("ein \"Umlaut\": ä\n")),
        count: 1,
    }
}

/// Writes a line of node `a` for each of `actions`, a second apart.
async fn note(store: &dyn Store, actions: &[&str]) {
    for (secs, action) in (0..).zip(actions) {
        let entry = entry("a", action, NOW.plus_secs(secs));
        store.trail_write(&[], &[Done { entry, intent: None }]).await.unwrap();
    }
}

async fn lines(store: &dyn Store, node: &str) -> Vec<Line> {
    let filter = TrailFilter { oldest_first: true, ..Default::default() };
    store.trail(node, &filter, MANY).await.unwrap()
}

async fn actions(store: &dyn Store, filter: TrailFilter) -> Vec<String> {
    store.trail("a", &filter, MANY).await.unwrap().into_iter().map(|line| line.action).collect()
}

/// Checks each line's hash and its place, behind `before`.
fn assert_chained(lines: &[Line], before: &Head) {
    let mut last = before.clone();
    for line in lines {
        assert_eq!((line.seq, &line.prev), (last.seq + 1, &last.hash), "{}", line.action);
        assert_eq!(line.hash, line.computed(sha256), "{}", line.action);
        last = Head { seq: line.seq, hash: line.hash.clone() };
    }
}

fn genesis() -> Head {
    Head { seq: 0, hash: GENESIS.to_owned() }
}

pub(crate) async fn each_node_has_its_own_chain(store: &dyn Store) {
    assert_eq!(store.trail_head("a").await.unwrap(), None);
    note(store, &["one", "two"]).await;
    let other = Done { entry: entry("b", "other", NOW), intent: None };
    let third = Done { entry: entry("a", "three", NOW), intent: None };
    store.trail_write(&[], &[other, third]).await.unwrap();
    let (a, b) = (lines(store, "a").await, lines(store, "b").await);
    assert_eq!((a.len(), b.len()), (3, 1));
    assert_chained(&a, &genesis());
    assert_chained(&b, &genesis());
    let first = Line::seal(entry("a", "one", NOW), 1, GENESIS.to_owned(), sha256);
    assert_eq!(a[0], first, "a line reads back as it was written");
    let head = store.trail_head("a").await.unwrap();
    assert_eq!(head, Some(Head { seq: 3, hash: a[2].hash.clone() }));
}

pub(crate) async fn an_intent_waits_for_its_line_and_only_for_its_own(store: &dyn Store) {
    let intent = |id: &str, node: &str, secs: u64| Intent {
        id: id.to_owned(),
        entry: Entry { status: 0, count: 1, code: None, ..entry(node, "token.make", NOW.plus_secs(secs)) },
    };
    let (older, newer, others) = (intent("1", "a", 1), intent("0", "a", 2), intent("2", "b", 0));
    store.trail_write(&[newer.clone(), older.clone(), others.clone()], &[]).await.unwrap();
    assert_eq!(store.trail_unsettled("a", MANY).await.unwrap(), [older.clone(), newer.clone()]);
    assert_eq!(store.trail_unsettled("a", 1).await.unwrap(), [older]);
    assert_eq!(store.trail_unsettled("b", MANY).await.unwrap(), [others]);
    let done = Done { entry: entry("a", "token.make", NOW), intent: Some(String::from("1")) };
    store.trail_write(&[], &[done]).await.unwrap();
    assert_eq!(store.trail_unsettled("a", MANY).await.unwrap(), [newer]);
    assert_eq!(lines(store, "a").await.len(), 1);
}

pub(crate) async fn lines_are_found_by_every_filter_and_page(store: &dyn Store) {
    note(store, &["one", "two", "three"]).await;
    let refused = Entry {
        who: Some(String::from("eve")),
        subject: String::from("/operators/ops"),
        status: 403,
        code: Some(String::from("forbidden")),
        detail: None,
        ..entry("a", "four", NOW.plus_secs(3))
    };
    store.trail_write(&[], &[Done { entry: refused, intent: None }]).await.unwrap();
    let all = TrailFilter::default;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(actions(store, all()).await, ["four", "three", "two", "one"], "newest first");
    assert_eq!(actions(store, TrailFilter { who: some("eve"), ..all() }).await, ["four"]);
    assert_eq!(actions(store, TrailFilter { action: some("two"), ..all() }).await, ["two"]);
    let about = |text| actions(store, TrailFilter { about: some(text), oldest_first: true, ..all() });
    assert_eq!(about("restaurant-1").await, ["one", "two", "three"], "in the subject");
    assert_eq!(about("Umlaut\": ä").await, ["one", "two", "three"], "in the detail");
    assert_eq!(about("eve").await, ["four"], "in who");
    assert!(about("%").await.is_empty(), "no text is a pattern");
    assert_eq!(actions(store, TrailFilter { refused: true, ..all() }).await, ["four"]);
    let (since, until) = (Some(NOW.plus_secs(1)), Some(NOW.plus_secs(3)));
    assert_eq!(actions(store, TrailFilter { since, until, ..all() }).await, ["three", "two"]);
    assert_eq!(actions(store, TrailFilter { cursor: Some(3), ..all() }).await, ["two", "one"]);
    let onwards = TrailFilter { cursor: Some(3), oldest_first: true, ..all() };
    assert_eq!(actions(store, onwards).await, ["four"]);
    assert_eq!(store.trail("a", &all(), 2).await.unwrap().len(), 2);
}

pub(crate) async fn what_is_old_is_cut_and_the_chain_goes_on(store: &dyn Store) {
    note(store, &["one", "two", "three", "four"]).await;
    let other = Done { entry: entry("b", "other", NOW), intent: None };
    store.trail_write(&[], &[other]).await.unwrap();
    let before = lines(store, "a").await;
    let head = |line: &Line| Head { seq: line.seq, hash: line.hash.clone() };
    let now = NOW.plus_secs(100);
    assert_eq!(store.trail_forget("a", NOW, MANY, now).await.unwrap(), 0, "nothing is older");
    assert_eq!(store.trail_cut("a").await.unwrap(), None);
    assert_eq!(store.trail_forget("a", NOW.plus_secs(9), 1, now).await.unwrap(), 1, "at most so many");
    assert_eq!(store.trail_forget("a", NOW.plus_secs(3), MANY, now).await.unwrap(), 2);
    let cut = store.trail_cut("a").await.unwrap().unwrap();
    assert_eq!(cut, head(&before[2]));
    let left = lines(store, "a").await;
    let names: Vec<&str> = left.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(names, ["four", CUT, CUT]);
    assert_eq!(left[2].subject, cut.to_string());
    assert_chained(&left, &cut);
    assert_eq!(lines(store, "b").await.len(), 1, "another node's lines stay");
    let later = now.plus_secs(1);
    assert_eq!(store.trail_forget("a", later, MANY, later).await.unwrap(), 3);
    assert_chained(&lines(store, "a").await, &store.trail_cut("a").await.unwrap().unwrap());
    note(store, &["five"]).await;
    let left = lines(store, "a").await;
    assert_eq!(left.last().unwrap().seq, 8, "numbers never begin again");
    assert_chained(&left, &store.trail_cut("a").await.unwrap().unwrap());
}

pub(crate) async fn a_download_and_its_line_stand_together(store: &dyn Store) {
    let line = entry("a", "download.request", NOW);
    let first = download(1);
    let insert = |record, most| store.insert_noted(record, None, most, &line);
    assert_eq!(insert(&first, 1).await.unwrap(), Some(Inserted::New));
    assert_eq!(insert(&download(2), 1).await.unwrap(), None, "one too many");
    assert_eq!(lines(store, "a").await.len(), 1, "and what was not inserted has no line");
}

pub(crate) async fn a_key_and_its_line_stand_together(store: &dyn Store) {
    identities::issue(store, "hash", "till-1").await;
    let line = Entry { who: None, detail: None, ..entry("a", "client.enroll", NOW) };
    for (hash, key, now) in
        [("hash", "key", NOW), ("hash", "key", NOW), ("hash", "thief", NOW), ("no", "key", NOW)]
    {
        store.enrol(hash, key, now, &line).await.unwrap();
    }
    identities::issue(store, "second", "till-1").await;
    store.enrol("second", "newer", NOW, &line).await.unwrap();
    let lines = lines(store, "a").await;
    let told: Vec<_> = lines.iter().map(|line| (line.who.as_deref(), line.detail.as_deref())).collect();
    let till = Some("till-1");
    assert_eq!(told, [(till, Some("a first key")), (till, Some("a key in the place of another one"))]);
    assert_chained(&lines, &genesis());
}

pub(crate) async fn downloads_that_ended_long_ago_are_forgotten(store: &dyn Store) {
    let mut ids = Vec::new();
    for n in 1..=4 {
        let mut record = insert(store, n).await;
        ids.push(record.id);
        if n == 4 {
            // Its upload is not known to be gone: whoever forgot it would leave parts in the bucket for ever.
            record.life.state = hoist_wire::State::Uploading;
            save(store, &mut record, Along::default()).await;
            assert!(store.upload_creating(&upload(&record)).await.unwrap());
        }
        if n > 1 {
            record.finished_at = Some(NOW.plus_secs(u64::from(n)));
            cancel(store, &mut record).await;
        }
    }
    let left = async || {
        let mut left = Vec::new();
        for id in &ids {
            left.push(store.download(*id).await.unwrap().is_some());
        }
        left
    };
    assert_eq!(store.forget_downloads(NOW.plus_secs(2), MANY).await.unwrap(), 0, "not of that moment");
    assert_eq!(store.forget_downloads(NOW.plus_secs(9), 1).await.unwrap(), 1, "at most so many");
    assert_eq!(left().await, [true, false, true, true], "the oldest first, and never one that is open");
    assert_eq!(store.forget_downloads(NOW.plus_secs(9), MANY).await.unwrap(), 1);
    assert_eq!(left().await, [true, false, false, true]);
    store.upload_aborted("row", true, None).await.unwrap();
    assert_eq!(store.forget_downloads(NOW.plus_secs(9), MANY).await.unwrap(), 1);
    assert_eq!(left().await, [true, false, false, false]);
}
