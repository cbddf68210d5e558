//! Tokens on stdout, alone; and settings from `.env`.

use crate::fake::{Fake, ID, answer, download, hoist, problem, run};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn the_server_makes_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Fake::start(|_, _| answer(201, &json!({ "token": "a.b.c", "expires_at": "2026-11-24T12:00:00Z" })))
            .await;
    let output = run(folder.path(), &server.url, &["token", "client", "restaurant-1", "--ttl", "90d"]).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"a.b.c\n".as_slice()));
    run(folder.path(), &server.url, &["token", "operator", "ann", "--scopes", "read,admin"]).await;
    run(folder.path(), &server.url, &["token", "operator"]).await;
    let bodies: Vec<Value> = server.asked().iter().map(|a| serde_json::from_str(&a.body).unwrap()).collect();
    assert_eq!(bodies[0], json!({ "kind": "client", "subject": "restaurant-1", "ttl_secs": 7_776_000 }));
    assert_eq!(bodies[1], json!({ "kind": "operator", "subject": "ann", "scopes": ["read", "admin"] }));
    assert_eq!(
        bodies[2],
        json!({ "kind": "operator", "subject": "operator", "scopes": ["read", "download"] })
    );
    assert!(server.lines().iter().all(|line| line == "POST /tokens"));
}

#[tokio::test]
async fn a_token_that_may_have_been_made_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, _| problem(503, "store_unavailable")).await;
    let output = run(folder.path(), &server.url, &["token", "client", "restaurant-1"]).await;
    assert_eq!((output.status.code(), server.lines().len()), (Some(3), 1));
}

fn claims(token: &str) -> Value {
    let parts: Vec<_> = token.trim_end().split('.').collect();
    let text = format!("{}.{}", parts[0], parts[1]);
    let tag = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    ring::hmac::verify(&key, text.as_bytes(), &tag).unwrap();
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    assert_eq!(head, json!({ "typ": "JWT", "alg": "HS256" }));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_signed_here_with_the_servers_secret() {
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        hoist(folder.path(), "", &["token", "client", "restaurant-1", "--local", "--ttl", "1h"]);
    let output = command.env("JWT_SECRET", SECRET).output().await.unwrap();
    let first = claims(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!((&first["sub"], &first["aud"]), (&json!("restaurant-1"), &json!("hoist-agent")));
    assert_eq!(first["exp"].as_u64().unwrap() - first["iat"].as_u64().unwrap(), 3600);
    assert!(first.get("scopes").is_none());

    // The file that a trial server keeps, found by DATA_DIR, which `.env` names.
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("state/jwt-secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(folder.path().join(".env"), "DATA_DIR=state\nJWT_SECRET=\nJWT_EXPIRY=2h\n").unwrap();
    let output = run(folder.path(), "", &["token", "operator", "ann", "--local"]).await;
    let second = claims(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!((&second["aud"], &second["scopes"]), (&json!("hoist-api"), &json!(["read", "download"])));
    assert_eq!(second["exp"].as_u64().unwrap() - second["iat"].as_u64().unwrap(), 30 * 86_400);
    let output = run(folder.path(), "", &["token", "client", "restaurant-1", "--local"]).await;
    let third = claims(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(third["exp"].as_u64().unwrap() - third["iat"].as_u64().unwrap(), 7200);
    assert_ne!(first["jti"], second["jti"]);
}

#[tokio::test]
async fn output_that_is_lost_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|asked, _| match asked.line.as_str() {
        "POST /tokens" => answer(201, &json!({ "token": "a.b.c", "expires_at": "2026-11-24T12:00:00Z" })),
        _ => answer(200, &download("completed")),
    })
    .await;
    let token = ["token", "client", "restaurant-1"];
    for args in
        [&token[..], &["show", ID], &["show", ID, "--json"], &["watch", ID], &["cancel", ID], &["--help"]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = hoist(folder.path(), &server.url, args);
        let child = command.stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains("stdout cannot be written"), "{args:?}: {text}");
    }
}

#[tokio::test]
async fn a_secret_that_is_missing_or_short_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["token", "client", "restaurant-1", "--local"];
    let output = run(folder.path(), "", &args).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("JWT_SECRET is not set"), "{text}");
    let output = hoist(folder.path(), "", &args).env("JWT_SECRET", &SECRET[1..]).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("has 31 bytes"), "{text}");
    assert!(!text.contains(&SECRET[1..]) && output.stdout.is_empty());
}

#[tokio::test]
async fn a_broken_env_file_stops_the_start_and_keeps_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "JWT_SECRET=very secret words\n").unwrap();
    let output = run(folder.path(), "", &["list"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains(".env, line 1:"), "{text}");
    assert!(!text.contains("words"), "{text}");
    std::fs::remove_file(folder.path().join(".env")).unwrap();
    std::fs::create_dir(folder.path().join(".env")).unwrap();
    let output = run(folder.path(), "", &["list"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("directory"), "{text}");
}
