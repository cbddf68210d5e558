//! Who is who, as every store must keep it.

use hoist_server::store::{Changed, Enrolled, Enrolment, Introduction, Standing, Store};
use hoist_wire::audit::Entry;
use hoist_wire::{ClientId, LinkSeq, Timestamp};

use super::trail::entry;
use super::{NOW, client, who};

const HOUR: u64 = 3600;

pub(crate) async fn issue(store: &dyn Store, hash: &str, name: &str) {
    let enrolment = Enrolment {
        token_hash: hash.to_owned(),
        client_id: client(name),
        created_at: NOW,
        expires_at: NOW.plus_secs(HOUR),
    };
    store.note_enrolment(&enrolment).await.unwrap();
}

fn line() -> Entry {
    entry("a", "client.enroll", NOW)
}

async fn enrol(store: &dyn Store, hash: &str, key: &str, now: Timestamp) -> Enrolled {
    store.enrol(hash, key, now, &line()).await.unwrap()
}

async fn key_of(store: &dyn Store, name: &str) -> Option<String> {
    store.standing(&client(name)).await.unwrap().public_key
}

fn refused(name: &str) -> Enrolled {
    Enrolled::Refused { client_id: Some(client(name)) }
}

pub(crate) async fn a_one_time_token_enrols_one_key_and_answers_it_again(store: &dyn Store) {
    assert_eq!(store.standing(&client("till-1")).await.unwrap(), Standing::default());
    issue(store, "hash", "till-1").await;
    let first = Enrolled::Now { client_id: client("till-1"), replaced: false };
    assert_eq!(enrol(store, "hash", "key", NOW).await, first);
    let again = Enrolled::Before { client_id: client("till-1") };
    assert_eq!(enrol(store, "hash", "key", NOW.plus_secs(1)).await, again, "the answer was lost");
    assert_eq!(enrol(store, "hash", "thief", NOW.plus_secs(1)).await, refused("till-1"));
    assert_eq!(enrol(store, "other", "key", NOW).await, Enrolled::Refused { client_id: None });
    assert_eq!(key_of(store, "till-1").await.as_deref(), Some("key"));
    let row = store.client(&client("till-1")).await.unwrap().unwrap();
    assert_eq!((row.enrolled_at, row.connected_link, row.last_seen), (Some(NOW), None, None));
}

pub(crate) async fn of_keys_that_come_at_once_one_wins(store: &dyn Store) {
    issue(store, "hash", "till-1").await;
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let line = line();
    let tries = keys.map(|key| store.enrol("hash", key, NOW, &line));
    let mut winners = Vec::new();
    for (key, answer) in keys.iter().zip(futures_util::future::join_all(tries).await) {
        match answer.unwrap() {
            Enrolled::Now { .. } => winners.push(*key),
            other @ (Enrolled::Before { .. } | Enrolled::Refused { .. }) => {
                assert_eq!(other, refused("till-1"))
            }
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(key_of(store, "till-1").await.as_deref(), Some(winners[0]));
}

pub(crate) async fn a_one_time_token_ends(store: &dyn Store) {
    issue(store, "late", "till-1").await;
    issue(store, "used", "till-2").await;
    let end = NOW.plus_secs(HOUR);
    assert_eq!(enrol(store, "late", "key", end).await, refused("till-1"));
    assert_eq!(key_of(store, "till-1").await, None);
    assert!(matches!(enrol(store, "used", "key", NOW).await, Enrolled::Now { .. }));
    assert_eq!(enrol(store, "used", "key", end).await, refused("till-2"), "not even the same key");
    assert_eq!(key_of(store, "till-2").await.as_deref(), Some("key"));
    // Long behind its end nothing is known of it.
    let later = Enrolment {
        token_hash: String::from("new"),
        client_id: client("till-3"),
        created_at: end.plus_secs(31 * 24 * HOUR),
        expires_at: end.plus_secs(32 * 24 * HOUR),
    };
    store.note_enrolment(&later).await.unwrap();
    assert_eq!(enrol(store, "late", "key", NOW).await, Enrolled::Refused { client_id: None });
}

pub(crate) async fn a_new_key_takes_the_place_of_the_old_one(store: &dyn Store) {
    issue(store, "first", "till-1").await;
    issue(store, "second", "till-1").await;
    assert!(matches!(enrol(store, "first", "old", NOW).await, Enrolled::Now { replaced: false, .. }));
    assert!(matches!(enrol(store, "second", "new", NOW).await, Enrolled::Now { replaced: true, .. }));
    assert_eq!(key_of(store, "till-1").await.as_deref(), Some("new"));
    assert_eq!(enrol(store, "first", "old", NOW).await, refused("till-1"), "the old key does not come back");
    assert_eq!(key_of(store, "till-1").await.as_deref(), Some("new"));
}

pub(crate) async fn a_revoked_client_has_no_key_no_token_and_nothing_to_enrol_with(store: &dyn Store) {
    let (till, not_before) = (client("till-1"), NOW.plus_secs(1));
    issue(store, "used", "till-1").await;
    issue(store, "unused", "till-1").await;
    issue(store, "other", "till-2").await;
    enrol(store, "used", "key", NOW).await;
    store.revoke(&till, not_before, NOW).await.unwrap();
    let standing = Standing { tokens_not_before: not_before, public_key: None };
    assert_eq!(store.standing(&till).await.unwrap(), standing);
    for (hash, key) in [("used", "key"), ("unused", "key"), ("unused", "thief")] {
        assert!(matches!(enrol(store, hash, key, NOW).await, Enrolled::Refused { .. }), "{hash}");
    }
    let row = store.client(&till).await.unwrap().unwrap();
    assert_eq!((row.revoked_at, row.enrolled_at, row.token_expires_at), (Some(NOW), None, None));
    // A revocation that comes late, by a clock that is behind, takes nothing back.
    store.revoke(&till, NOW, NOW).await.unwrap();
    assert_eq!(store.standing(&till).await.unwrap().tokens_not_before, not_before);
    assert!(matches!(enrol(store, "other", "key", NOW).await, Enrolled::Now { .. }), "others are left alone");
    // It comes back by a token that was made after that; what it was given before stays revoked.
    issue(store, "again", "till-1").await;
    assert!(matches!(enrol(store, "again", "new", NOW).await, Enrolled::Now { replaced: false, .. }));
    let standing = Standing { tokens_not_before: not_before, public_key: Some(String::from("new")) };
    assert_eq!(store.standing(&till).await.unwrap(), standing);
    store.revoke(&client("never-seen"), NOW, NOW).await.unwrap();
    assert_eq!(store.standing(&client("never-seen")).await.unwrap().tokens_not_before, NOW);
}

pub(crate) async fn a_nonce_opens_one_link_and_an_older_one_none(store: &dyn Store) {
    let till = client("till-1");
    let used = async |made: u64, now: u64| {
        store.use_nonce(&till, NOW.plus_secs(made), NOW.plus_secs(now)).await.unwrap()
    };
    assert!(!used(0, 0).await, "nobody is there");
    store.open_link(&till, &who(), NOW).await.unwrap();
    assert!(!used(0, 0).await, "it has no key");
    issue(store, "hash", "till-1").await;
    enrol(store, "hash", "key", NOW).await;
    assert!(used(10, 11).await && !used(10, 11).await, "once");
    assert!(!used(9, 12).await, "not one that is older");
    assert!(used(12, 13).await);
    // A clock that was put back by an hour keeps nobody out; one that is 5 s behind another lets no nonce in twice.
    assert!(!used(12, 7).await);
    assert!(used(12, 1).await);
}

pub(crate) async fn changed_identities_are_found_by_every_node_page_by_page(store: &dyn Store) {
    let found = async |since: u64, after: Option<(Timestamp, ClientId)>| -> Vec<Changed> {
        store.identities_changed(NOW.plus_secs(since), after, 2).await.unwrap()
    };
    store.open_link(&client("quiet"), &who(), NOW).await.unwrap();
    assert!(found(0, None).await.is_empty());
    for name in ["c", "a", "b"] {
        store.revoke(&client(name), NOW.plus_secs(1), NOW).await.unwrap();
    }
    issue(store, "hash", "d").await;
    enrol(store, "hash", "key", NOW.plus_secs(5)).await;
    let names = |page: &[Changed]| page.iter().map(|it| it.client_id.to_string()).collect::<Vec<_>>();
    let first = found(0, None).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first[0].standing.tokens_not_before, NOW.plus_secs(1));
    let last = first.last().unwrap();
    let second = found(0, Some((last.at, last.client_id.clone()))).await;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second[1].standing.public_key.as_deref(), Some("key"));
    assert_eq!(names(&found(5, None).await), ["d"]);
    assert!(found(6, None).await.is_empty());
}

pub(crate) async fn a_server_keeps_its_id(store: &dyn Store) {
    assert_eq!(store.server_id("first").await.unwrap(), "first");
    assert_eq!(store.server_id("second").await.unwrap(), "first");
}

pub(crate) async fn a_link_tells_the_secret_of_its_token_and_clears_no_key(store: &dyn Store) {
    let till = client("till-1");
    let link = store.open_link(&till, &who(), NOW).await.unwrap();
    let kid = async || store.client(&till).await.unwrap().unwrap().token_kid;
    assert_eq!(kid().await.as_deref(), Some("5ea1ed00"));
    store.token_renewed(&till, LinkSeq(link.0 + 1), NOW, "late").await.unwrap();
    assert_eq!(kid().await.as_deref(), Some("5ea1ed00"));
    store.token_renewed(&till, link, NOW, "new").await.unwrap();
    assert_eq!(kid().await.as_deref(), Some("new"));
    issue(store, "hash", "till-1").await;
    enrol(store, "hash", "key", NOW).await;
    let by_key = Introduction { token_expires_at: None, token_kid: None, ..who() };
    store.open_link(&till, &by_key, NOW).await.unwrap();
    let row = store.client(&till).await.unwrap().unwrap();
    assert_eq!((row.token_kid, row.token_expires_at, row.enrolled_at), (None, None, Some(NOW)));
    assert_eq!(key_of(store, "till-1").await.as_deref(), Some("key"));
}
