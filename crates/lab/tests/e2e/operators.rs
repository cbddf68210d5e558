//! Operators who want more than is theirs: out of reach, by another's key, by an old session.

use std::collections::BTreeSet;

use hoist_lab::{Operator, Reply, Scene, jwt};
use hoist_wire::rest::{ClientPage, DownloadPage, Scope};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

const NEVER: &str = "01937f5e-7c00-7000-8000-000000000000";

/// An operator with these scopes and this reach.
fn bound(scene: &Scene, name: &str, scopes: &[Scope], clients: &Value) -> Operator {
    let mut claims = jwt::operator_claims(name, scopes);
    claims["clients"] = clients.clone();
    scene.operator().with_token(Some(&scene.sign(&claims)))
}

async fn send(operator: &Operator, method: Method, path: &str, body: Option<Value>) -> Reply {
    let request = operator.request(method, path);
    let request = match body {
        None => request,
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
    };
    Operator::try_send(request).await.unwrap()
}

async fn label(scene: &Scene, client: &str, labels: Value) {
    let reply =
        send(&scene.operator(), Method::PUT, &format!("/clients/{client}/labels"), Some(labels)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn cancel_all(scene: &Scene) {
    let page: DownloadPage = scene.operator().get("/downloads?limit=1000").await.parse();
    for download in page.downloads {
        scene.operator().delete(&format!("/downloads/{}", download.id)).await;
    }
}

/// Turns the pages of a list, two rows each.
async fn pages(
    operator: &Operator,
    list: &str,
    rows: impl Fn(&Reply) -> (Vec<String>, Option<String>),
) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..100 {
        let behind = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let (page, next) = rows(&operator.get(&format!("/{list}?limit=2{behind}")).await);
        assert!(page.len() <= 2);
        all.extend(page);
        match next {
            None => return all,
            next => cursor = next,
        }
    }
    panic!("the pages of {list} never end: {all:?}");
}

#[tokio::test]
async fn every_page_of_a_list_is_within_reach_and_none_of_it_is_missing() {
    let scene = Scene::earnest().start().await;
    let admin = scene.operator();
    // Foreign ones stand before, between and behind one's own.
    let mut asked = Vec::new();
    for n in 0..12 {
        let client = format!("{}-{n:02}", ["north", "south", "northern"][n % 3]);
        let id = admin.ask_with(&client, &json!({"allow_unknown": true})).await.id.to_string();
        let kind = if n % 2 == 0 { "till" } else { "kitchen" };
        label(&scene, &client, json!({"kind": kind})).await;
        asked.push((client, kind, id));
    }
    for (reach, is_own) in [
        (json!({"prefix": "north-"}), (|client, _| client.starts_with("north-")) as fn(&str, &str) -> bool),
        (json!({"labels": {"kind": "till"}}), |_, kind| kind == "till"),
        (json!({"prefix": "south-", "labels": {"kind": "till"}}), |client, kind| {
            client.starts_with("south-") && kind == "till"
        }),
        (json!({"prefix": "nobody-"}), |_, _| false),
    ] {
        let operator = bound(&scene, "bound", &[Scope::Read], &reach);
        let own: Vec<_> = asked.iter().filter(|(client, kind, _)| is_own(client, kind)).collect();
        let downloads = pages(&operator, "downloads", |reply| {
            let page: DownloadPage = reply.parse();
            (page.downloads.iter().map(|it| it.id.to_string()).collect(), page.next)
        });
        let newest_first: Vec<&str> = own.iter().rev().map(|(_, _, id)| id.as_str()).collect();
        assert_eq!(downloads.await, newest_first, "{reach}");
        let clients = pages(&operator, "clients", |reply| {
            let page: ClientPage = reply.parse();
            (page.clients.iter().map(|it| it.client_id.to_string()).collect(), page.next)
        });
        let expected: BTreeSet<&str> = own.iter().map(|(client, _, _)| client.as_str()).collect();
        let clients = clients.await;
        // A client that never was linked has no row of its own until then, labels or not.
        assert!(clients.iter().all(|client| expected.contains(client.as_str())), "{reach}: {clients:?}");
    }
    cancel_all(&scene).await;
    scene.finish_open().await;
}

#[tokio::test]
async fn what_is_out_of_reach_is_answered_like_what_never_was() {
    let scene = Scene::earnest().start().await;
    let other = scene.operator().ask_with("south-1", &json!({"allow_unknown": true})).await.id.to_string();
    let operator = bound(&scene, "bound", &[Scope::Admin], &json!({"prefix": "north-"}));
    let rate = Some(json!({"max_rate_bytes_per_sec": 2048}));
    for (method, page, body) in [
        (Method::GET, "/downloads/ID", None),
        (Method::PATCH, "/downloads/ID", rate.clone()),
        (Method::DELETE, "/downloads/ID", None),
        (Method::GET, "/downloads/ID/file", None),
    ] {
        let answer = async |id: &str| {
            let reply = send(&operator, method.clone(), &page.replace("ID", id), body.clone()).await;
            (reply.status, reply.text().replace(id, "ID"))
        };
        let (there, absent) = (answer(&other).await, answer(NEVER).await);
        assert_eq!(there, absent, "{method} {page}");
        assert_eq!(there.0, 404, "{method} {page}");
    }
    for (method, page, body) in [
        (Method::GET, "/status/ID", None),
        (Method::POST, "/trigger-download/ID", Some(json!({"allow_unknown": true}))),
    ] {
        let answer = async |id: &str| {
            let reply = send(&operator, method.clone(), &page.replace("ID", id), body.clone()).await;
            (reply.status, reply.text().replace(id, "ID"))
        };
        let (there, absent) = (answer("south-1").await, answer("south-9").await);
        assert_eq!(there, absent, "{method} {page}");
        assert_eq!(there.0, 404, "{method} {page}");
    }
    let still = scene.operator().get(&format!("/downloads/{other}")).await.json();
    assert_eq!(still["state"], "queued", "and nothing of it was changed");
    cancel_all(&scene).await;
    scene.finish_open().await;
}

#[tokio::test]
async fn an_admin_of_some_clients_makes_itself_admin_of_no_others() {
    let scene = Scene::earnest().start().await;
    label(&scene, "north-1", json!({"region": "north"})).await;
    label(&scene, "south-1", json!({"region": "south"})).await;
    let by_label = bound(&scene, "bound", &[Scope::Admin], &json!({"labels": {"region": "north"}}));
    let by_prefix = bound(&scene, "bound", &[Scope::Admin], &json!({"prefix": "north-"}));
    // Labels let a client into a reach and out of it, so they are not for whoever is bound by them.
    for (operator, client) in [(&by_label, "south-1"), (&by_label, "fresh-1"), (&by_prefix, "south-1")] {
        let page = format!("/clients/{client}/labels");
        let reply = send(operator, Method::PUT, &page, Some(json!({"region": "north"}))).await;
        assert_eq!(reply.status, 403, "{client}: {}", reply.text());
    }
    for (what, operator) in [("label", &by_label), ("prefix", &by_prefix)] {
        for body in [
            json!({"kind": "operator", "subject": "wider", "scopes": ["admin"]}),
            json!({"kind": "operator", "subject": "wider", "scopes": ["read"], "clients": {"prefix": "n"}}),
            json!({"kind": "operator", "subject": "wider", "scopes": ["read"], "clients": {"labels": {"kind": "x"}}}),
            json!({"kind": "client", "subject": "south-1"}),
            json!({"kind": "enrolment", "subject": "south-1"}),
        ] {
            let reply = send(operator, Method::POST, "/tokens", Some(body.clone())).await;
            assert!((400..500).contains(&reply.status), "{what}: {body}: {} {}", reply.status, reply.text());
        }
        for page in ["/operators/ops/revoke", "/clients/south-1/revoke"] {
            let reply = send(operator, Method::POST, page, None).await;
            assert!(matches!(reply.status, 403 | 404), "{what}: {page}: {}", reply.status);
        }
        for (method, page) in [
            (Method::GET, "/audit"),
            (Method::GET, "/sessions?operator=ops"),
            (Method::DELETE, "/sessions?operator=ops"),
        ] {
            assert_eq!(send(operator, method, page, None).await.status, 403, "{what}: {page}");
        }
    }
    scene.finish().await;
}

#[tokio::test]
async fn one_key_of_two_operators_is_two_downloads() {
    let scene = Scene::earnest().start().await;
    let ask = async |name: &str| {
        let claims = jwt::operator_claims(name, &[Scope::Download]);
        let operator = scene.operator().with_token(Some(&scene.sign(&claims)));
        let request = operator.request(Method::POST, "/trigger-download/till-1");
        let request = request.header("idempotency-key", "k").header("content-type", "application/json");
        let reply =
            Operator::try_send(request.body(json!({"allow_unknown": true}).to_string())).await.unwrap();
        reply.json()["id"].as_str().unwrap().to_owned()
    };
    let (nina, omar, again) = (ask("nina").await, ask("omar").await, ask("nina").await);
    assert_ne!(nina, omar);
    assert_eq!(nina, again);
    cancel_all(&scene).await;
    scene.finish_open().await;
}

/// A session as a browser has it.
struct Browser {
    operator: Operator,
    cookie: String,
}

impl Browser {
    async fn open(scene: &Scene, token: &str) -> Self {
        let operator = scene.operator();
        let open = operator.with_token(Some(token)).request(Method::POST, "/session");
        // A cookie that somebody has planted is not taken over.
        let planted = open.header("cookie", "hoist-session=planted; __Host-hoist-session=planted");
        let reply = planted.send().await.unwrap();
        let cookie = reply.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        assert!(!cookie.contains("planted"));
        Self { operator: operator.with_token(None), cookie }
    }

    async fn status(&self) -> u16 {
        let request = self.operator.request(Method::GET, "/clients").header("cookie", &self.cookie);
        Operator::try_send(request.header("sec-fetch-site", "same-origin")).await.unwrap().status
    }
}

async fn database(scene: &Scene) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(scene.server.data_dir().join("hoist.sqlite"));
    SqlitePoolOptions::new().connect_with(options).await.unwrap()
}

#[tokio::test]
async fn a_session_ends_when_it_rests_when_its_time_is_over_and_when_there_are_too_many() {
    let scene = Scene::earnest().start().await;
    let token = scene.operator_token(&[Scope::Read]);
    let pool = database(&scene).await;
    for change in ["last_used_at = last_used_at - 3600001", "expires_at = last_used_at - 1"] {
        let browser = Browser::open(&scene, &token).await;
        assert_eq!(browser.status().await, 200);
        sqlx::query(sqlx::AssertSqlSafe(format!("update sessions set {change}")))
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(browser.status().await, 401, "{change}");
    }
    let first = Browser::open(&scene, &token).await;
    let mut others = Vec::new();
    for _ in 0..16 {
        others.push(Browser::open(&scene, &token).await);
    }
    assert_eq!(first.status().await, 401, "the seventeenth ends the oldest");
    assert_eq!((others[0].status().await, others[15].status().await), (200, 200));
    let list = scene.operator().get("/sessions?operator=lab").await.json();
    assert_eq!(list["sessions"].as_array().unwrap().len(), 16);
    let ended = send(&scene.operator(), Method::DELETE, "/sessions?operator=lab", None).await;
    assert_eq!(ended.json()["sessions_ended"], 16);
    assert_eq!(others[15].status().await, 401);
    pool.close().await;
    scene.finish().await;
}

#[tokio::test]
async fn what_a_session_does_is_noted_with_the_token_that_opened_it() {
    let scene = Scene::earnest().start().await;
    let mut claims = jwt::operator_claims("nina", &[Scope::Download]);
    claims["jti"] = json!("jti-of-nina");
    let browser = Browser::open(&scene, &scene.sign(&claims)).await;
    let who = browser.operator.request(Method::GET, "/session").header("cookie", &browser.cookie);
    let who = Operator::try_send(who.header("sec-fetch-site", "same-origin")).await.unwrap().json();
    let ask =
        browser.operator.request(Method::POST, "/trigger-download/till-1").header("cookie", &browser.cookie);
    let ask = ask.header("sec-fetch-site", "same-origin").header("hoist-csrf", who["csrf"].as_str().unwrap());
    let ask = ask.header("content-type", "application/json").body(json!({"allow_unknown": true}).to_string());
    assert_eq!(Operator::try_send(ask).await.unwrap().status, 202);
    let trail = scene.operator().get("/audit?action=download.request").await.json();
    let line = &trail["lines"][0];
    assert_eq!((&line["who"], &line["token"]), (&json!("nina"), &json!("jti-of-nina")), "{trail}");
    cancel_all(&scene).await;
    scene.finish_open().await;
}

#[tokio::test]
async fn a_token_in_a_url_stands_in_no_answer_no_log_and_no_trail() {
    let scene = Scene::earnest().start().await;
    let token = scene.operator_token(&[Scope::Admin]);
    let body = json!({"kind": "enrolment", "subject": "till-1"});
    let one_time = send(&scene.operator(), Method::POST, "/tokens", Some(body)).await.json();
    let one_time = one_time["token"].as_str().unwrap().to_owned();
    scene.book.secret(&one_time);
    for url in [
        format!("/clients?token={token}"),
        format!("/clients/{token}"),
        format!("/downloads/{token}?a=b"),
        format!("/status/{one_time}"),
        format!("/clients?prefix={one_time}"),
    ] {
        let reply = send(&scene.operator().with_token(None), Method::GET, &url, None).await;
        assert!(reply.status == 401 || reply.status == 404, "{}", reply.status);
        assert!(!reply.text().contains(&token) && !reply.text().contains(&one_time), "{}", reply.text());
    }
    // Also of an admin, who would otherwise have a client of that name now.
    let revoke = send(&scene.operator(), Method::POST, &format!("/clients/{one_time}/revoke"), None).await;
    assert_eq!(revoke.status, 401);
    let trail = scene.operator().get("/audit?limit=1000").await.text();
    assert!(!trail.contains(&token) && !trail.contains(&one_time) && trail.contains("401"), "{trail}");
    let log = scene.server.log();
    assert!(!log.contains(&token) && !log.contains(&one_time));
    scene.finish().await;
}

/// In a trial nobody shows a token, so a page of somebody else's must not speak for the operator.
#[tokio::test]
async fn in_a_trial_no_page_of_another_site_asks_for_anything() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://elsewhere.example")],
        &[("origin", "null")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "text/plain")],
        &[("host", "elsewhere.example")],
    ] {
        let request = operator.request(Method::POST, "/trigger-download/till-1?allow_unknown=true");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let body = if headers[0].0 == "content-type" { "{\"allow_unknown\":true}" } else { "" };
        let status = Operator::try_send(request.body(body)).await.unwrap().status;
        assert!(matches!(status, 403 | 415 | 400), "{headers:?}: {status}");
    }
    assert!(operator.downloads().await.is_empty(), "nothing was asked for");
    scene.finish().await;
}

/// Revoking twice within a second takes the token that was made in between, too.
#[tokio::test]
async fn a_token_that_was_made_between_two_revocations_is_taken_by_the_second() {
    let scene = Scene::earnest().start().await;
    let admin = scene.operator();
    let made = async |body: Value| {
        let reply = send(&admin, Method::POST, "/tokens", Some(body)).await.json();
        let token = reply["token"].as_str().unwrap().to_owned();
        scene.book.secret(&token);
        token
    };
    for _ in 0..3 {
        for name in ["/operators/nina/revoke", "/clients/till-1/revoke"] {
            assert_eq!(send(&admin, Method::POST, name, None).await.status, 200);
        }
        let nina = made(json!({"kind": "operator", "subject": "nina", "scopes": ["read"]})).await;
        let nina = admin.with_token(Some(&nina));
        assert_eq!(nina.get("/clients").await.status, 200);
        let till = made(json!({"kind": "client", "subject": "till-1"})).await;
        for name in ["/operators/nina/revoke", "/clients/till-1/revoke"] {
            assert_eq!(send(&admin, Method::POST, name, None).await.status, 200);
        }
        assert_eq!(nina.get("/clients").await.status, 401);
        let refused =
            hoist_lab::ScriptedAgent::dial_as(scene.server.port(), &till, "lab.lab", 1, Vec::new()).await;
        assert_eq!(refused.unwrap_err().status, 401);
    }
    scene.finish().await;
}
