//! Labels, sessions and the end of operators' tokens, as every store must keep them.

use std::collections::BTreeMap;

use hoist_server::store::{ClientFilter, SessionRow, Store};
use hoist_wire::Timestamp;
use hoist_wire::reach::{Labels, Reach};
use hoist_wire::rest::Scope;

use super::{MANY, NOW, client};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A session of an operator, opened `secs` after the first.
fn session(cookie: &str, operator: &str, secs: u64) -> SessionRow {
    SessionRow {
        cookie_sha256: cookie.to_owned(),
        operator: operator.to_owned(),
        scopes: vec![Scope::Read, Scope::Download],
        reach: Some(Reach { prefix: Some(String::from("north-")), labels: BTreeMap::new() }),
        token_id: String::from("jti-1"),
        token_made_secs: 1_000,
        created_at: NOW.plus_secs(secs),
        last_used_at: NOW.plus_secs(secs),
        expires_at: NOW.plus_secs(secs + 3_600),
    }
}

async fn open(store: &dyn Store, session: &SessionRow) {
    store.open_session(session, 3).await.unwrap();
}

async fn cookies(store: &dyn Store, operator: &str) -> Vec<String> {
    store.sessions_of(operator).await.unwrap().into_iter().map(|session| session.cookie_sha256).collect()
}

pub(crate) async fn labels_replace_those_before_and_need_no_client(store: &dyn Store) {
    let id = client("north-1");
    assert_eq!(store.labels(&id).await.unwrap(), Labels::new());
    let first = labels(&[("region", "north"), ("kind", "till")]);
    store.set_labels(&id, &first).await.unwrap();
    assert_eq!(store.labels(&id).await.unwrap(), first);
    let second = labels(&[("region", "south")]);
    store.set_labels(&id, &second).await.unwrap();
    assert_eq!(store.labels(&id).await.unwrap(), second, "what is not named any more is gone");
    assert_eq!(
        store.labels(&client("north-2")).await.unwrap(),
        Labels::new(),
        "another one has none of them"
    );
    store.set_labels(&id, &Labels::new()).await.unwrap();
    assert_eq!(store.labels(&id).await.unwrap(), Labels::new());
}

pub(crate) async fn a_reach_by_labels_needs_all_of_them(store: &dyn Store) {
    for (id, pairs) in [
        ("a-1", &[("region", "north"), ("kind", "till")][..]),
        ("a-2", &[("region", "north")]),
        ("b-1", &[("region", "north"), ("kind", "till")]),
        ("b-2", &[("region", "till"), ("kind", "north")]),
    ] {
        store.open_link(&client(id), &super::who(), NOW).await.unwrap();
        store.set_labels(&client(id), &labels(pairs)).await.unwrap();
    }
    let found = async |prefix: Option<&str>, pairs: &[(&str, &str)]| {
        let reach = Reach { prefix: prefix.map(str::to_owned), labels: labels(pairs) };
        let filter = ClientFilter { reach, ..Default::default() };
        let clients = store.clients(&filter, MANY).await.unwrap();
        clients.into_iter().map(|row| row.client_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(None, &[("region", "north")]).await, ["a-1", "a-2", "b-1"]);
    assert_eq!(found(None, &[("region", "north"), ("kind", "till")]).await, ["a-1", "b-1"]);
    assert_eq!(found(Some("b-"), &[("region", "north")]).await, ["b-1"]);
    assert!(found(Some("a-"), &[("kind", "north")]).await.is_empty());
    store.set_labels(&client("a-1"), &Labels::new()).await.unwrap();
    assert_eq!(found(None, &[("region", "north")]).await, ["a-2", "b-1"], "who has none is in no such reach");
}

pub(crate) async fn a_session_reads_back_until_it_is_ended(store: &dyn Store) {
    let first = session("first", "ops", 0);
    open(store, &first).await;
    assert_eq!(store.session("first").await.unwrap(), Some(first.clone()));
    assert_eq!(store.session("FIRST").await.unwrap(), None);
    let unbound = SessionRow { reach: None, ..session("second", "ops", 1) };
    open(store, &unbound).await;
    assert_eq!(store.session("second").await.unwrap(), Some(unbound));
    let later = NOW.plus_secs(60);
    store.session_used("first", later).await.unwrap();
    assert_eq!(store.session("first").await.unwrap(), Some(SessionRow { last_used_at: later, ..first }));
    store.end_session("first").await.unwrap();
    store.end_session("never there").await.unwrap();
    assert_eq!(store.session("first").await.unwrap(), None);
    assert_eq!(cookies(store, "ops").await, ["second"]);
}

pub(crate) async fn of_too_many_sessions_the_oldest_end(store: &dyn Store) {
    open(store, &session("other", "eve", 0)).await;
    for (secs, cookie) in (0..).zip(["one", "two", "three", "four", "five"]) {
        open(store, &session(cookie, "ops", secs)).await;
    }
    assert_eq!(cookies(store, "ops").await, ["three", "four", "five"]);
    assert_eq!(cookies(store, "eve").await, ["other"], "another one's stay");
    assert_eq!(store.end_sessions("ops").await.unwrap(), 3);
    assert_eq!((cookies(store, "ops").await.len(), cookies(store, "eve").await.len()), (0, 1));
}

pub(crate) async fn sessions_that_are_over_are_forgotten(store: &dyn Store) {
    let end = NOW.plus_secs(10);
    open(store, &SessionRow { expires_at: end, ..session("ends", "ops", 0) }).await;
    open(store, &SessionRow { expires_at: end.plus_ms(1), ..session("goes on", "ops", 0) }).await;
    open(store, &SessionRow { last_used_at: Timestamp(NOW.0 - 1), ..session("idle", "ops", 0) }).await;
    store.forget_sessions(end, NOW).await.unwrap();
    assert_eq!(cookies(store, "ops").await, ["goes on"]);
}

pub(crate) async fn a_revoked_operator_has_no_session_and_no_older_token(store: &dyn Store) {
    open(store, &session("one", "ops", 0)).await;
    open(store, &session("two", "ops", 1)).await;
    open(store, &session("other", "eve", 1)).await;
    assert_eq!(store.operator_revoked("ops").await.unwrap(), None);
    assert_eq!(store.revoke_operator("ops", 1_000).await.unwrap(), 2);
    assert_eq!(store.operator_revoked("ops").await.unwrap(), Some(1_000));
    assert_eq!((store.session("one").await.unwrap(), cookies(store, "eve").await.len()), (None, 1));
    open(store, &session("raced", "ops", 2)).await;
    assert_eq!(store.session("raced").await.unwrap(), None, "its token was made before that");
    let newer = SessionRow { token_made_secs: 1_001, ..session("newer", "ops", 3) };
    open(store, &newer).await;
    assert_eq!(store.session("newer").await.unwrap(), Some(newer));
    store.revoke_operator("ops", 999).await.unwrap();
    assert_eq!(store.operator_revoked("ops").await.unwrap(), Some(1_000), "it never goes back");
}
