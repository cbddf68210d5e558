//! The program against a fake server: what it asks, what it prints, and the exit codes that scripts rely on.

use crate::fake::{Fake, ID, TOKEN, answer, download, hoist, problem, redirect, run};
use axum::response::IntoResponse;
use serde_json::{Value, json};

const TRIGGER: &str = "POST /trigger-download/restaurant-1";

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_download_is_asked_for_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|asked, before| match (asked.line.as_str(), before) {
        (TRIGGER, _) => answer(202, &download("queued")),
        (_, 0) => answer(200, &download("uploading")),
        _ => answer(200, &download("completed")),
    })
    .await;
    let args =
        ["download", "--client-id=restaurant-1", "--file-path", "/data/report.bin", "--metadata", "k=v=w"];
    let more = ["--ttl", "2d", "--on-change=prefix", "--allow-unknown", "--max-rate=2Mbit"];
    let output = run(folder.path(), &server.url, &[&args[..], &more].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("state      completed\n"), "{text}");
    assert!(text.contains("s3://files/hoist/restaurant-1/report.bin"), "{text}");
    let lines = stderr(&output);
    let waits = "queued: client_offline (restaurant-1 is not connected) since 2026-11-24T12:00:00.000Z; next: it starts when the client connects";
    assert!(lines.contains(waits), "{lines}");
    assert!(lines.contains("uploading: sending; 9 B of 9 B (100%), 3 B/s"), "{lines}");

    let asked = &server.asked()[0];
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(
        serde_json::from_str::<Value>(&asked.body).unwrap(),
        json!({ "file_path": "/data/report.bin", "metadata": { "k": "v=w" }, "ttl_secs": 172_800,
                "on_change": "prefix", "allow_unknown": true, "max_rate_bytes_per_sec": 250_000 })
    );
}

#[tokio::test]
async fn a_retry_is_a_new_download_of_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|asked, _| match asked.line.as_str() {
        TRIGGER => answer(202, &download("queued")),
        _ => answer(200, &download("failed")),
    })
    .await;
    let output = run(folder.path(), &server.url, &["retry", ID, "--no-wait"]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), format!("{ID}\n")));
    assert_eq!(server.lines(), [&format!("GET /downloads/{ID}"), TRIGGER]);
    let asked: Value = serde_json::from_str(&server.asked()[1].body).unwrap();
    let old = download("failed");
    assert_eq!((&asked["file_path"], &asked["on_change"]), (&old["file_path"], &old["on_change"]));
    assert!(server.asked()[1].header("idempotency-key").is_some());
}

#[tokio::test]
async fn json_is_the_last_record_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|asked, _| match asked.line.as_str() {
        TRIGGER => answer(202, &download("queued")),
        _ => answer(200, &download("completed")),
    })
    .await;
    let output = run(folder.path(), &server.url, &["--json", "download", "restaurant-1"]).await;
    assert_eq!(output.status.code(), Some(0));
    // With fields that this version does not know.
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), download("completed"));
}

#[tokio::test]
async fn without_waiting_stdout_is_the_id_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, _| answer(202, &download("queued"))).await;
    let output = run(folder.path(), &server.url, &["download", "restaurant-1", "--no-wait"]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), format!("{ID}\n")));
    assert_eq!(server.lines(), [TRIGGER]);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, before| match before {
        0 => problem(503, "store_unavailable"),
        1 => (axum::http::StatusCode::BAD_GATEWAY, "no json").into_response(),
        _ => answer(202, &download("queued")),
    })
    .await;
    let output = run(folder.path(), &server.url, &["download", "restaurant-1", "--no-wait"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let asked = server.asked();
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0].len() == 32 && keys.iter().all(|key| key == &keys[0]), "{keys:?}");

    let args = ["download", "restaurant-1", "--no-wait", "--idempotency-key", "nightly-7"];
    run(folder.path(), &server.url, &args).await;
    assert_eq!(server.asked()[3].header("idempotency-key"), Some("nightly-7"));
}

#[tokio::test]
async fn a_limit_is_set_lifted_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|asked, before| {
        let mut uploading = download("uploading");
        let change = serde_json::from_str::<Value>(&asked.body).unwrap_or_default();
        uploading["max_rate_bytes_per_sec"] = change["max_rate_bytes_per_sec"].clone();
        match before {
            // Said twice it is said once, so it is said again where no answer comes.
            0 => problem(503, "store_unavailable"),
            _ => answer(200, &uploading),
        }
    })
    .await;
    let output = run(folder.path(), &server.url, &["limit", ID, "500KB"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with(&format!("{ID} uploading: sending; limited to 488.2 KiB/s; ")), "{text}");
    let output = run(folder.path(), &server.url, &["limit", ID, "none"]).await;
    assert!(!stdout(&output).contains("limited"));
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.line == format!("PATCH /downloads/{ID}")), "{asked:?}");
    let bodies: Vec<Value> = asked.iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    let rates = [json!(500_000), json!(500_000), json!(null)];
    assert_eq!(bodies, rates.map(|rate| json!({ "max_rate_bytes_per_sec": rate })));
    for bad in ["fast", "1KB", ""] {
        let output = run(folder.path(), &server.url, &["limit", ID, bad]).await;
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn each_refusal_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (status, code, exit) in [
        (400, "invalid_request", 2),
        (401, "unauthorized", 4),
        (403, "forbidden", 4),
        (404, "unknown_client", 5),
        (409, "link_taken", 7),
        (422, "idempotency_mismatch", 2),
        (500, "internal", 3),
        (418, "of_a_newer_server", 2),
    ] {
        let server = Fake::start(move |_, _| problem(status, code)).await;
        let output = run(folder.path(), &server.url, &["download", "restaurant-1", "--json"]).await;
        assert_eq!(output.status.code(), Some(exit), "{code}");
        assert!(stderr(&output).contains(&format!("error: said for {code} ({code})")), "{}", stderr(&output));
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["code"], code);
        assert_eq!(server.lines().len(), 1, "{code} was asked again");
    }
    let output = run(folder.path(), "", &["show", "not-a-uuid"]).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn each_end_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (state, code) in [("failed", "file_not_found"), ("expired", "expired"), ("cancelled", "cancelled")] {
        let server = Fake::start(move |_, _| {
            let mut ended = download(state);
            ended["error"] = json!({ "code": code, "message": "there is no \u{1b}[31mfile" });
            answer(200, &ended)
        })
        .await;
        let output = run(folder.path(), &server.url, &["watch", ID]).await;
        assert_eq!(output.status.code(), Some(1), "{state}");
        let text = stderr(&output);
        assert!(
            text.contains(&format!("download {ID} {state}: there is no \\u{{1b}}[31mfile ({code})")),
            "{text}"
        );
        let output = run(folder.path(), &server.url, &["show", ID]).await;
        assert_eq!(output.status.code(), Some(0), "looking at it is no failure");
        assert!(!stdout(&output).contains('\u{1b}'));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_code_3() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and closed at once: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(folder.path(), &format!("http://{free}"), &["list"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains(&format!("cannot reach http://{free}/")), "{}", stderr(&output));
    let output = run(folder.path(), "ftp://x", &["list"]).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn waiting_goes_on_through_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, before| match before {
        0 => answer(200, &download("uploading")),
        1..4 => problem(503, "not_ready"),
        _ => answer(200, &download("completed")),
    })
    .await;
    let output = run(folder.path(), &server.url, &["watch", ID]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stderr(&output);
    assert_eq!(text.matches("trying again").count(), 1, "{text}");
    assert!(text.contains("the server is back"), "{text}");
}

#[tokio::test]
async fn a_token_that_ends_while_waiting_is_code_4() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, before| match before {
        0 => answer(200, &download("uploading")),
        _ => problem(401, "unauthorized"),
    })
    .await;
    let output = run(folder.path(), &server.url, &["watch", ID]).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("OPERATOR_TOKEN"));
}

#[tokio::test]
async fn a_timeout_ends_the_waiting_and_not_the_download() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, _| answer(200, &download("queued"))).await;
    let output = run(folder.path(), &server.url, &["watch", ID, "--timeout", "1s", "--json"]).await;
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["state"], "queued");
    assert!(server.lines().iter().all(|line| line.starts_with("GET ")));
}

#[tokio::test]
async fn ctrl_c_ends_the_waiting_and_not_the_download() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Fake::start(|_, _| answer(200, &download("uploading"))).await;
    let mut command = hoist(folder.path(), &server.url, &["watch", ID]);
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The second question comes from the loop that listens for signals.
    server.count.wait_for(|count| *count >= 2).await.unwrap();
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    let text = stderr(&output);
    assert!(text.contains("goes on") && text.contains(&format!("hoist cancel {ID}")), "{text}");
}

#[tokio::test]
async fn cancel_and_its_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, before| match before {
        0 => answer(200, &download("cancelled")),
        _ => problem(409, "too_late"),
    })
    .await;
    let output = run(folder.path(), &server.url, &["cancel", ID]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), format!("{ID} cancelled\n")));
    let output = run(folder.path(), &server.url, &["cancel", ID]).await;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(server.lines()[0], format!("DELETE /downloads/{ID}"));
}

fn client(id: &str) -> Value {
    json!({ "client_id": id, "connected": true, "since": null, "last_seen": null, "version": "0.1.0",
            "os": "linux-x86_64", "host": "till\u{7}", "token_expires_at": null })
}

#[tokio::test]
async fn all_pages_of_clients_are_one_list() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|asked, _| match asked.line.as_str() {
        "GET /clients?limit=100" => answer(200, &json!({ "clients": [client("a")], "next": "a&b" })),
        "GET /clients?limit=100&cursor=a%26b" => {
            answer(200, &json!({ "clients": [client("b")], "next": null }))
        }
        _ => problem(404, "not_found"),
    })
    .await;
    let output = run(folder.path(), &server.url, &["list", "--json"]).await;
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({ "clients": [client("a"), client("b")], "next": null })
    );
    let output = run(folder.path(), &server.url, &["list"]).await;
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("till\\u{7}"), "{text}");
}

#[tokio::test]
async fn downloads_stop_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, _| {
        answer(200, &json!({ "downloads": [download("completed"), download("queued")], "next": "more" }))
    })
    .await;
    let args = ["downloads", "--client-id", "restaurant-1", "--state", "queued", "--limit", "2"];
    let output = run(folder.path(), &server.url, &args).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3);
    assert!(stderr(&output).contains("there are more"));
    assert_eq!(server.lines(), ["GET /downloads?limit=2&client_id=restaurant-1&state=queued"]);
}

#[tokio::test]
async fn status_shows_the_client_and_its_downloads() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, _| {
        answer(
            200,
            &json!({ "client_id": "restaurant-1", "connected": false, "since": "2026-11-24T12:00:00.000Z",
                     "last_seen": null, "version": null, "current": [download("queued")], "recent": [] }),
        )
    })
    .await;
    let output = run(folder.path(), &server.url, &["status", "restaurant-1"]).await;
    let text = stdout(&output);
    assert!(text.contains("restaurant-1 not connected since 2026-11-24T12:00:00.000Z"), "{text}");
    assert!(text.contains("queued: client_offline"), "{text}");
    assert_eq!(server.lines(), ["GET /status/restaurant-1"]);
}

#[tokio::test]
async fn status_names_both_machines_of_a_suspected_clone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, _| {
        let linked = json!({ "role": "linked", "machine": "0a1b", "process": "77", "host": "till\u{7}" });
        let refused = json!({ "role": "refused", "machine": "9f8e", "process": "88", "host": null });
        answer(
            200,
            &json!({ "client_id": "restaurant-1", "connected": true, "since": null, "last_seen": null,
                     "version": "0.1.0", "clone_suspected_at": "2026-11-24T12:01:00.000Z",
                     "clone_suspects": [linked, refused], "current": [], "recent": [] }),
        )
    })
    .await;
    let output = run(folder.path(), &server.url, &["status", "restaurant-1"]).await;
    let text = stdout(&output);
    for line in [
        "clone      suspected at 2026-11-24T12:01:00.000Z: two agents are this client",
        "           machine 0a1b, process 77, host till\\u{7}: has the link",
        "           machine 9f8e, process 88: was refused",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_token_goes_nowhere_but_to_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Fake::start(|_, _| answer(200, &json!({ "clients": [], "next": null }))).await;
    let target = elsewhere.url.clone();
    let server = Fake::start(move |_, _| redirect(&format!("{target}/clients"))).await;
    let output = run(folder.path(), &server.url, &["list"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(&format!("sends us on to {}", elsewhere.url)), "{}", stderr(&output));
    assert_eq!(elsewhere.lines(), [] as [&str; 0]);
}
