//! A server that answers as it is told, and remembers what it was asked; and the program under test.

use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server on a free port, which ends with the test.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub(crate) count: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// Starts a server; `answer` gets each request with the number of requests for the same line before it.
    pub(crate) async fn start(
        answer: impl Fn(&Asked, usize) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::<Asked>::new()));
        let (counter, count) = watch::channel(0);
        let log = Arc::clone(&asked);
        let app = Router::new().fallback(async move |request: Request| {
            let (head, body) = request.into_parts();
            let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
            let one = Asked { line: format!("{} {}", head.method, head.uri), headers: head.headers, body };
            let before = {
                let mut log = log.lock().unwrap();
                log.push(one.clone());
                counter.send_replace(log.len());
                log.iter().filter(|other| other.line == one.line).count() - 1
            };
            answer(&one, before)
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, asked, count, _tasks: tasks }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

/// Prepares `hoist` in a folder, with no setting but those of the test.
pub(crate) fn hoist(folder: &Path, server: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoist"));
    command.args(args).current_dir(folder).env_clear().kill_on_drop(true);
    if !server.is_empty() {
        command.env("SERVER_URL", server);
    }
    command.env("OPERATOR_TOKEN", TOKEN);
    command
}

pub(crate) const TOKEN: &str = "the-operators-token";

/// Runs `hoist` to its end.
pub(crate) async fn run(folder: &Path, server: &str, args: &[&str]) -> Output {
    hoist(folder, server, args).output().await.unwrap()
}

pub(crate) const ID: &str = "01937f5e-7c00-7000-8000-000000000000";

/// A download as the server writes it.
pub(crate) fn download(state: &str) -> Value {
    let (reason, done) = match state {
        "queued" => (json!("client_offline"), false),
        "uploading" => (json!("sending"), false),
        _ => (Value::Null, true),
    };
    let waits = reason == "client_offline";
    json!({
        "id": ID, "client_id": "restaurant-1", "file_path": "/data/report.bin", "state": state,
        "reason": reason,
        "reason_message": if waits { json!("restaurant-1 is not connected") } else { Value::Null },
        "reason_since": if done { Value::Null } else { json!("2026-11-24T12:00:00.000Z") },
        "next_step": if waits { json!("it starts when the client connects") } else { Value::Null },
        "next_at": Value::Null, "expires_at": "2026-12-08T12:00:00.000Z", "attempt": 1,
        "size_bytes": 9, "sent_bytes": 9, "stored_bytes": 9, "rate_bytes_per_sec": 3,
        "bucket": "files", "object_key": "hoist/restaurant-1/report.bin",
        // The check value of CRC-64/NVME: that of the text 123456789.
        "checksum_crc64nvme": "rosUhgp5mIg=",
        "proof": if state == "completed" { json!("crc64nvme") } else { Value::Null },
        "error": Value::Null, "on_change": "restart", "metadata": {}, "requested_by": "operator",
        "created_at": "2026-11-24T12:00:00.000Z", "started_at": null,
        "updated_at": "2026-11-24T12:00:00.000Z",
        "finished_at": if done { json!("2026-11-24T12:01:00.000Z") } else { Value::Null },
        "of_a_newer_server": 1
    })
}

pub(crate) fn answer(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

pub(crate) fn problem(status: u16, code: &str) -> Response {
    let detail = format!("said for {code}");
    answer(
        status,
        &json!({ "type": "about:blank", "title": "x", "status": status, "detail": detail, "code": code }),
    )
}

pub(crate) fn redirect(to: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
}
