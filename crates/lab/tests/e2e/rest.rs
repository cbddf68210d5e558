//! What REST refuses, and how it says so.

use hoist_lab::{Operator, Scene};
use hoist_wire::rest::{Download, Scope};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HOST, ORIGIN};
use serde_json::json;

const TRIGGER: &str = "/trigger-download/restaurant-1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_wrong_says_what_is_wrong() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let raw = |body: &str, kind: &str| {
        let request = operator.request(Method::POST, TRIGGER).body(body.to_owned());
        Operator::send(request.header(CONTENT_TYPE, kind.to_owned()))
    };
    let json_type = "application/json";
    let long = format!(r#"{{"file_path": "{}"}}"#, "x".repeat(17_000));
    let long_path = format!(r#"{{"file_path": "{}"}}"#, "x".repeat(4_096));
    for (body, kind, status, code) in [
        (r#"{"file_path": "#, json_type, 400, "invalid_request"),
        ("[]", json_type, 400, "invalid_request"),
        (r#"{"filepath": "report"}"#, json_type, 400, "invalid_request"),
        (r#"{"file_path": 7}"#, json_type, 400, "invalid_request"),
        (r#"{"file_path": ""}"#, json_type, 400, "invalid_path"),
        (r#"{"file_path": "a\u0000b"}"#, json_type, 400, "invalid_path"),
        (&long_path, json_type, 400, "invalid_path"),
        (r#"{"ttl_secs": 0}"#, json_type, 400, "invalid_request"),
        (r#"{"ttl_secs": -1}"#, json_type, 400, "invalid_request"),
        (r#"{"ttl_secs": "14d"}"#, json_type, 400, "invalid_request"),
        (r#"{"ttl_secs": 99999999999}"#, json_type, 400, "invalid_request"),
        (r#"{"on_change": "hope"}"#, json_type, 400, "invalid_request"),
        (r#"{"metadata": {"Day": "x"}}"#, json_type, 400, "invalid_request"),
        (r#"{"file_path": "report"}"#, "text/plain", 415, "unsupported_media_type"),
        ("file_path=report", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (&long, json_type, 413, "body_too_large"),
    ] {
        let reply = raw(body, kind).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, code), "{body:.60} as {kind}");
    }
    for (method, path, status, code) in [
        (Method::POST, "/trigger-download/a%20b", 400, "invalid_client_id"),
        (Method::POST, "/trigger-download/..%2f", 400, "invalid_client_id"),
        (Method::GET, "/status/ä", 400, "invalid_client_id"),
        (Method::GET, "/status/restaurant-1", 404, "unknown_client"),
        (Method::POST, "/trigger-download/restaurant-1", 404, "unknown_client"),
        (Method::GET, "/downloads/0190b3a0-0000-7000-8000-000000000000", 404, "unknown_download"),
        (Method::GET, "/downloads/0190b3a0-0000-7000-8000-000000000000/file", 404, "unknown_download"),
        (Method::DELETE, "/downloads/0190b3a0-0000-7000-8000-000000000000", 404, "unknown_download"),
        (Method::GET, "/downloads/last", 404, "unknown_download"),
        (Method::GET, "/downloads?state=done", 400, "invalid_request"),
        (Method::GET, "/downloads?limit=0", 400, "invalid_request"),
        (Method::GET, "/clients?connected=perhaps", 400, "invalid_request"),
        (Method::GET, "/no/such/page", 404, "not_found"),
        (Method::GET, TRIGGER, 405, "method_not_allowed"),
        (Method::PUT, "/downloads", 405, "method_not_allowed"),
        (Method::DELETE, "/clients", 405, "method_not_allowed"),
    ] {
        let reply = Operator::send(operator.request(method.clone(), path)).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, code), "{method} {path}");
    }
    assert!(operator.downloads().await.is_empty(), "a refused request left a download");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_repeated_with_its_key_is_one_download() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 100);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let ask = |key: &str, body: serde_json::Value| {
        let request = operator.request(Method::POST, TRIGGER).header(CONTENT_TYPE, "application/json");
        Operator::send(request.header("idempotency-key", key.to_owned()).body(body.to_string()))
    };
    let first = ask("monday", json!({"file_path": path})).await;
    assert_eq!(first.status, 202);
    let first: Download = first.parse();
    operator.completes(first.id).await;
    let again = ask("monday", json!({"file_path": path})).await;
    assert_eq!((again.status, again.parse::<Download>().id), (202, first.id));
    let other = ask("monday", json!({"file_path": "another"})).await;
    assert_eq!((other.status, other.problem().as_str()), (422, "idempotency_mismatch"));
    let odd = ask(&"x".repeat(256), json!({"file_path": path})).await;
    assert_eq!((odd.status, odd.problem().as_str()), (400, "invalid_request"));
    let second: Download = ask("tuesday", json!({"file_path": path})).await.parse();
    assert_ne!(second.id, first.id);
    operator.completes(second.id).await;
    assert_eq!(operator.downloads().await.len(), 2);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_needs_a_token_and_its_scopes() {
    let scene = Scene::earnest().start().await;
    let admin = scene.operator();
    let mut tokens = vec![None, Some("nonsense".to_owned()), Some(scene.agent_token("restaurant-1"))];
    let claims = hoist_lab::jwt::operator_claims("lab", &[Scope::Admin]);
    let foreign = hoist_lab::jwt::sign(&claims, "another secret, also of more than 32 bytes");
    let mut old = claims.clone();
    old["exp"] = json!(hoist_lab::jwt::now() - 1);
    let none = hoist_lab::jwt::unsigned(&json!({"typ": "JWT", "alg": "none"}), &claims) + ".";
    tokens.extend([Some(foreign), Some(scene.sign(&old)), Some(none)]);
    for token in &tokens {
        let operator = admin.with_token(token.as_deref());
        for path in ["/clients", "/downloads", "/status/restaurant-1"] {
            let reply = operator.get(path).await;
            assert_eq!((reply.status, reply.problem().as_str()), (401, "unauthorized"), "{path}");
            let challenge = token.as_ref().map_or("Bearer", |_| r#"Bearer error="invalid_token""#);
            assert_eq!(reply.header("www-authenticate"), Some(challenge), "{path}");
        }
        let reply = operator.post(TRIGGER, &json!({})).await;
        assert_eq!((reply.status, reply.problem().as_str()), (401, "unauthorized"));
        let body = json!({"kind": "client", "subject": "restaurant-1"});
        assert_eq!(operator.post("/tokens", &body).await.problem(), "unauthorized");
    }
    for (scopes, reads, downloads, makes) in [
        (&[Scope::Read][..], true, false, false),
        (&[Scope::Download][..], false, true, false),
        (&[Scope::Read, Scope::Download][..], true, true, false),
        (&[Scope::Admin][..], true, true, true),
    ] {
        let operator = admin.with_token(Some(&scene.operator_token(scopes)));
        let status = |may: bool, otherwise: u16| if may { otherwise } else { 403 };
        assert_eq!(operator.get("/downloads").await.status, status(reads, 200), "{scopes:?}");
        assert_eq!(operator.get("/clients").await.status, status(reads, 200), "{scopes:?}");
        // 404: whoever may ask learns that nobody knows this client.
        assert_eq!(operator.post(TRIGGER, &json!({})).await.status, status(downloads, 404), "{scopes:?}");
        let cancelled = operator.delete("/downloads/0190b3a0-0000-7000-8000-000000000000").await;
        assert_eq!(cancelled.status, status(downloads, 404), "{scopes:?}");
        let made = operator.post("/tokens", &json!({"kind": "client", "subject": "restaurant-1"})).await;
        assert_eq!(made.status, status(makes, 201), "{scopes:?}");
        if makes {
            scene.book.secret(made.json()["token"].as_str().unwrap());
        } else {
            assert_eq!(made.problem(), "forbidden");
            let challenge = r#"Bearer error="insufficient_scope", scope="admin""#;
            assert_eq!(made.header("www-authenticate"), Some(challenge));
        }
    }
    for page in ["/health", "/ready", "/"] {
        assert_eq!(admin.with_token(None).get(page).await.status, 200, "{page}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_answers_this_machine_only() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let port = scene.server.port();
    for (name, value) in [
        (HOST.as_str(), format!("evil.example:{port}")),
        (HOST.as_str(), "127.0.0.1:1".to_owned()),
        (HOST.as_str(), "localhost".to_owned()),
        (ORIGIN.as_str(), "http://evil.example".to_owned()),
        (ORIGIN.as_str(), "null".to_owned()),
        ("sec-fetch-site", "cross-site".to_owned()),
    ] {
        for (method, path) in [(Method::GET, "/clients"), (Method::POST, TRIGGER), (Method::GET, "/no/page")]
        {
            let reply = Operator::send(operator.request(method, path).header(name, value.clone())).await;
            assert_eq!((reply.status, reply.problem().as_str()), (403, "cross_site"), "{name}: {value}");
        }
    }
    for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"] {
        let request = operator.request(Method::POST, TRIGGER).header(CONTENT_TYPE, kind).body("{}");
        let reply = Operator::send(request).await;
        assert_eq!((reply.status, reply.problem().as_str()), (403, "cross_site"), "{kind}");
    }
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let reply = Operator::send(operator.request(Method::GET, "/clients").header(HOST, host)).await;
        assert_eq!(reply.status, 200);
    }
    scene.finish().await;
}
