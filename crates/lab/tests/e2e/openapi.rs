//! The document at `/openapi.json`, and what HTTP asks of every page. That each answer of each test is as the document
//! says, the harness checks (`lab/src/contract.rs`).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use hoist_lab::{Operator, Scene};
use hoist_wire::rest::{Download, TokenReply};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

const TRIGGER: &str = "/trigger-download/ghost";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_needs_no_token_and_is_not_sent_twice() {
    let scene = Scene::earnest().start().await;
    let stranger = scene.operator().with_token(None);
    let reply = stranger.get("/openapi.json").await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-cache")));
    let copy: Value = serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
    assert!(reply.json() == copy, "what is served is not docs/openapi.json");
    let etag = reply.header("etag").unwrap();
    for (known, status) in [(etag, 304), ("\"another\"", 200)] {
        let request = stranger.request(Method::GET, "/openapi.json").header("if-none-match", known);
        assert_eq!(Operator::send(request).await.status, status);
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_page_knows_its_methods_and_no_other() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let id = "0190b3a0-0000-7000-8000-000000000000";
    let routes = hoist_server::http::routes();
    for route in &routes {
        let path = route.path.replace("{client_id}", "ghost").replace("{id}", id);
        let known: Vec<&Method> =
            routes.iter().filter(|other| other.path == route.path).map(|other| &other.method).collect();
        for name in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            // That `Allow` is what the document knows, the harness checks.
            let reply = Operator::send(operator.request(method.clone(), &path)).await;
            assert_eq!(reply.status == 405, !known.contains(&&method), "{name} {path}: {}", reply.text());
        }
        if known.contains(&&Method::GET) {
            let [head, get] = [Method::HEAD, Method::GET].map(|method| operator.request(method, &path));
            let (head, get) = (Operator::send(head).await, Operator::send(get).await);
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        }
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_be_read_in_two_ways_is_refused() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    for query in [
        "prefix=%ff",
        "limit=1&limit=2",
        "limit=",
        "limit=%00",
        "limit=4294967296",
        "prefixx=a",
        "%00=1",
        "cursor=",
    ] {
        let reply = operator.get(&format!("/clients?{query}")).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid_request"), "{query}");
    }
    let ask = || operator.request(Method::POST, TRIGGER).body(r#"{"allow_unknown": true}"#);
    let typed = || ask().header(CONTENT_TYPE, "application/json");
    for (request, status, code, what) in [
        (
            typed().header("idempotency-key", "a").header("idempotency-key", "b"),
            400,
            "invalid_request",
            "two keys",
        ),
        (typed().header("idempotency-key", "a\tb"), 400, "invalid_request", "a tab in a key"),
        (typed().header("idempotency-key", ""), 400, "invalid_request", "an empty key"),
        (typed().header(CONTENT_TYPE, "text/plain"), 415, "unsupported_media_type", "two types"),
        (typed().header(CONTENT_ENCODING, "gzip"), 415, "unsupported_media_type", "an encoding"),
        (ask(), 415, "unsupported_media_type", "no type"),
    ] {
        let reply = Operator::send(request).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, code), "{what}");
    }
    assert!(operator.downloads().await.is_empty(), "a refused request left a download");
    // Whoever accepts something else gets JSON all the same (RFC 9110, 12.4.1).
    let fine = Operator::send(typed().header(CONTENT_ENCODING, "identity").header(ACCEPT, "image/png")).await;
    let download: Download = fine.parse();
    assert_eq!(operator.delete(&format!("/downloads/{}", download.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_number_is_one_however_it_is_written() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let send = |method, path: &str, body: &str| {
        let request = operator.request(method, path).header(CONTENT_TYPE, "application/json");
        Operator::send(request.body(body.to_owned()))
    };
    let body = r#"{"allow_unknown": true, "ttl_secs": 9e2, "max_rate_bytes_per_sec": 2048.0}"#;
    let download: Download = send(Method::POST, TRIGGER, body).await.parse();
    assert_eq!(download.expires_at.ms_since(download.created_at), 900_000);
    assert_eq!(download.max_rate_bytes_per_sec, Some(2048));
    let path = format!("/downloads/{}", download.id);
    let changed: Download = send(Method::PATCH, &path, r#"{"max_rate_bytes_per_sec": 4096.0}"#).await.parse();
    assert_eq!(changed.max_rate_bytes_per_sec, Some(4096));
    let bare = send(Method::PATCH, &path, "{}").await;
    assert_eq!((bare.status, bare.problem().as_str()), (400, "invalid_request"), "null was not asked for");
    for wrong in ["900.5", "-1.0", "1e300", "18446744073709551616", "\"900\"", "true"] {
        let reply =
            send(Method::POST, TRIGGER, &format!(r#"{{"allow_unknown": true, "ttl_secs": {wrong}}}"#)).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid_request"), "{wrong}");
    }
    let token =
        send(Method::POST, "/tokens", r#"{"kind": "client", "subject": "ghost", "ttl_secs": 60.0}"#).await;
    scene.book.secret(token.parse::<TokenReply>().token.open());
    assert_eq!(operator.delete(&path).await.status, 200);
    scene.finish().await;
}

/// Sends bytes as they are, and gives the answer's first line and whether it is an error as in RFC 9457.
fn raw(port: u16, head: &str, body: &[u8]) -> (String, bool) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let end = format!("Host: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    socket.write_all(format!("{head}\r\n{end}").as_bytes()).unwrap();
    socket.write_all(body).unwrap();
    let mut answer = Vec::new();
    // A server that has refused does not read the rest, and the system may then cut the connection.
    let _ = socket.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
    (status, answer.contains("application/problem+json"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_get_an_answer_that_is_no_500() {
    let scene = Scene::earnest().start().await;
    let port = scene.server.port();
    let token = scene.operator_token(&[hoist_wire::rest::Scope::Admin]);
    let post =
        format!("POST {TRIGGER} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json");
    let auth = format!("Authorization: Bearer {token}");
    let chunk = [b"5000\r\n".as_slice(), &[b'x'; 0x5000], b"\r\n0\r\n\r\n"].concat();
    for (head, body, status, is_problem) in [
        (String::from("OPTIONS * HTTP/1.1"), &b""[..], "404", true),
        (format!("CONNECT 127.0.0.1:{port} HTTP/1.1"), b"", "404", true),
        (format!("GET http://127.0.0.1:{port}/health HTTP/1.1"), b"", "200", false),
        (String::from("GET /health HTTP/1.0"), b"", "200", false),
        (String::from("GET //health HTTP/1.1"), b"", "404", true),
        (String::from("GET /health/ HTTP/1.1"), b"", "404", true),
        (format!("GET /status/%00 HTTP/1.1\r\n{auth}"), b"", "400", true),
        (format!("GET /status/%ff HTTP/1.1\r\n{auth}"), b"", "400", true),
        (format!("GET /status/%252e%252e HTTP/1.1\r\n{auth}"), b"", "400", true),
        (format!("GET /clients?limit=%zz HTTP/1.1\r\n{auth}"), b"", "400", true),
        (format!("GET /clients?=& HTTP/1.1\r\n{auth}"), b"", "400", true),
        (format!("{post}\r\nContent-Length: 16385"), b"", "413", true),
        (format!("{post}\r\nTransfer-Encoding: chunked"), &chunk, "413", true),
        (format!("{post}\r\nTransfer-Encoding: chunked"), b"zz\r\n", "400", true),
        (format!("{post}\r\nContent-Length: 2\r\nContent-Length: 3"), b"{}", "400", false),
        (format!("{post}\r\nContent-Length: -1"), b"", "400", false),
        (format!("{post}\r\nContent-Length: +2"), b"{}", "400", false),
        (format!("{post}\r\nTransfer-Encoding: gzip"), b"", "400", false),
        (format!("{post}\r\nExpect: something\r\nContent-Length: 2"), b"{}", "404", true),
        (format!("GET /health HTTP/1.1\r\nX: {}", "a".repeat(20_000)), b"", "431", false),
        (String::from("G<T /health HTTP/1.1"), b"", "400", false),
    ] {
        let answer = raw(port, &head, body);
        assert_eq!(answer, (status.to_owned(), is_problem), "{head:.80}");
    }
    assert!(scene.operator().downloads().await.is_empty());
    scene.finish().await;
}
