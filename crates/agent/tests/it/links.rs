//! The link, what is refused, and where bytes may go.

use std::time::Duration;

use hoist_agent::{AgentError, LinkError};
use hoist_wire::to_agent::{Answer, Goodbye, GoodbyeReason, Grant, Renew};
use hoist_wire::{Attempt, ErrorCode, Sealed, Timestamp, ToAgent, ToServer};

use crate::numbers;
use crate::proxy::Proxy;
use crate::support::{Agent, Bucket, Job, Server};

#[tokio::test]
async fn refusals_have_their_codes() {
    let server = Server::start().await;
    let agent = Agent::start(server.addr);
    std::fs::create_dir(agent.path("folder")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", agent.path("escape")).unwrap();
    let (mut link, _) = server.link().await;
    for (path, code) in [
        ("absent", ErrorCode::FileNotFound),
        ("folder", ErrorCode::IsADirectory),
        ("escape", ErrorCode::OutsideRoots),
        ("../up", ErrorCode::OutsideRoots),
        ("", ErrorCode::InvalidPath),
    ] {
        link.fetch(&Job::new(path)).await;
        let ToServer::Refused(refused) = link.hear().await else { panic!("{path:?} is refused") };
        assert_eq!((refused.code, refused.retry_after_ms), (code, None), "{path:?}");
    }
    let nameless = Job { path: None, ..Job::new("x") };
    link.fetch(&nameless).await;
    assert!(matches!(link.hear().await, ToServer::Refused(r) if r.code == ErrorCode::NoDefaultFile));
    // What the server does not know to be gone is forgotten all the same.
    link.forget(&nameless).await;
    assert!(matches!(link.hear().await, ToServer::Forgotten(_)));
    link.say_text(r#"{"type":"of_a_newer_version"}"#).await;
    assert!(matches!(link.hear().await, ToServer::Unsupported(u) if u.kind == "of_a_newer_version"));
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn slots_are_kept_and_a_newer_attempt_replaces_the_older() {
    let server = Server::start().await;
    let agent = Agent::start_with(server.addr, |config| config.slots = 1);
    agent.file("one", 10);
    agent.file("three", 10);
    let (mut link, _) = server.link().await;
    let one = Job::new("one");
    link.start(&one).await;
    assert_eq!(numbers(&link.hear().await), [1]);
    link.fetch(&Job::new("three")).await;
    let ToServer::Refused(refused) = link.hear().await else { panic!("one slot, one download") };
    assert_eq!(refused.code, ErrorCode::AgentBusy);
    assert!(refused.retry_after_ms.is_some());

    let newer = Job { attempt: Attempt(2), ..one.clone() };
    assert_eq!(link.start(&newer).await.attempt, Attempt(2));
    assert_eq!(numbers(&link.hear().await), [1]);
    // The older attempt is gone: nothing that is said to it is answered.
    link.fetch(&one).await;
    link.answer(&one, 1, Answer::Stored).await;
    link.answer(&newer, 1, Answer::Stored).await;
    let ToServer::Finished(finished) = link.hear().await else { panic!("the newer attempt ends") };
    assert_eq!(finished.attempt, Attempt(2));
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn bytes_go_only_where_the_site_allows() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let agent = Agent::start(server.addr);
    agent.file("report", 9);
    let (mut link, _) = server.link().await;
    let good = bucket.grant(1, 9, 900);
    let at = |url: &str| Grant { url: Sealed::new(url), ..good.clone() };
    let mut odd = good.clone();
    odd.headers.insert("authorization".to_owned(), "Basic x".to_owned());
    let grants = [
        (at("https://169.254.169.254/latest"), "link-local"),
        (at("https://10.0.0.1/x"), "--allow-private-storage"),
        (at("ftp://127.0.0.1/x"), "https"),
        (odd, "authorization"),
    ];
    for (n, (grant, hint)) in (1..).zip(grants) {
        let job = Job { attempt: Attempt(n), ..Job::new("report") };
        link.start(&job).await;
        assert_eq!(numbers(&link.hear().await), [1]);
        link.answer(&job, 1, Answer::Put(grant)).await;
        let ToServer::Refused(refused) = link.hear().await else { panic!("{hint}") };
        assert_eq!(refused.code, ErrorCode::StorageNotAllowed);
        assert!(refused.message.contains(hint), "{}", refused.message);
    }
    assert_eq!(bucket.connections(), 0);
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn refused_credentials_end_the_agent_and_say_what_to_do() {
    let server = Server::start().await;
    let mut agent = Agent::start(server.addr);
    server.answer("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    let Err(AgentError::Link(error @ LinkError::Refused { .. })) = agent.ended().await else {
        panic!("a refused token cannot be tried again")
    };
    assert!(
        error.to_string().contains("CLIENT_TOKEN") && error.to_string().contains("hoist token client site-1")
    );
}

#[tokio::test]
async fn every_other_answer_is_dialled_again_and_a_goodbye_too() {
    let server = Server::start().await;
    let agent = Agent::start(server.addr);
    server.answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    let (mut link, _) = server.link().await;
    let goodbye =
        Goodbye { reason: GoodbyeReason::Stopping, message: "bye".to_owned(), reconnect_after_ms: 1 };
    link.say(ToAgent::Goodbye(goodbye)).await;
    assert_eq!(link.hear_any().await, None);
    let _ = server.link().await;
    assert!(agent.stop().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_names_a_wait_is_left_alone_for_at_least_so_long() {
    let server = Server::start().await;
    let agent = Agent::start(server.addr);
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let answer = format!("HTTP/1.1 {status}\r\nretry-after: 20\r\ncontent-length: 0\r\n\r\n");
        server.answer(&answer).await;
        let (told, (mut link, _)) = (tokio::time::Instant::now(), server.link().await);
        // Not how long at most: paused time runs ahead whenever a socket is slow.
        let waited = told.elapsed().as_secs_f64();
        assert!(waited >= 20.0, "{status}: {waited}");
        let reason = GoodbyeReason::Stopping;
        let goodbye = Goodbye { reason, message: String::new(), reconnect_after_ms: 30_000 };
        link.say(ToAgent::Goodbye(goodbye)).await;
        let told = tokio::time::Instant::now();
        let (link, _) = server.link().await;
        let waited = told.elapsed().as_secs_f64();
        assert!(waited >= 30.0, "goodbye: {waited}");
        drop(link);
    }
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn a_renewed_token_is_kept_and_used() {
    use base64::Engine as _;
    let token = |sub: &str| {
        let body = format!(r#"{{"sub":"{sub}","aud":"hoist-agent","exp":2,"iat":1,"jti":"j"}}"#);
        format!("e30.{}.s", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(body))
    };
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "first\n").unwrap();
    let file = path.clone();
    let agent = Agent::start_with(server.addr, |config| config.token = hoist_agent::TokenSource::File(file));
    let (mut link, _) = server.link().await;
    assert_eq!(link.headers["authorization"], "Bearer first");
    for sub in ["somebody-else", "site-1"] {
        let renew = Renew { token: Sealed::new(token(sub)), expires_at: Timestamp(0) };
        link.say(ToAgent::Renew(renew)).await;
    }
    let goodbye = Goodbye { reason: GoodbyeReason::Stopping, message: String::new(), reconnect_after_ms: 0 };
    link.say(ToAgent::Goodbye(goodbye)).await;
    let (link, _) = server.link().await;
    assert_eq!(link.headers["authorization"], format!("Bearer {}", token("site-1")));
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), token("site-1"));
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn a_proxy_stands_before_the_link_and_before_storage() {
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let proxy = Proxy::start().await;
    let url = format!("http://user:pass@{}", proxy.addr);
    let agent =
        Agent::start_with(server.addr, |config| config.proxies = hoist_agent::Proxies::fixed(&url, ""));
    let bytes = agent.file("report", 1000);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    let heard = link.serve(&job, &bucket).await;
    assert!(matches!(heard.last(), Some(ToServer::Finished(_))), "{heard:?}");
    assert_eq!(bucket.object(), bytes);
    let asked = proxy.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for (request, addr) in asked.iter().zip([server.addr, bucket.addr]) {
        assert!(request.starts_with(&format!("CONNECT {addr} HTTP/1.1\r\n")), "{request}");
        assert!(request.contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"), "{request}");
    }
    assert!(agent.stop().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_half_open_link_is_noticed_within_45_seconds() {
    let server = Server::start().await;
    let agent = Agent::start(server.addr);
    let (link, _) = server.link().await;
    let silent = tokio::time::Instant::now();
    // Nobody reads it, so no ping is answered.
    let _again = server.upgrade().await;
    let waited = silent.elapsed();
    assert!(waited > Duration::from_secs(30) && waited < Duration::from_secs(45), "{waited:?}");
    drop(link);
    drop(agent);
}
