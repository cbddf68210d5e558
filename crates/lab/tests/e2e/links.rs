//! Who gets a link, and what becomes of one on which odd things are said.

use hoist_lab::jwt;
use hoist_lab::{Operator, Scene};
use hoist_wire::rest::Scope;
use hoist_wire::to_agent::{GoodbyeReason, ToAgent};
use reqwest::Method;
use serde_json::json;

/// Asks for a link, and gives the answer that is none.
async fn knock(operator: &Operator, token: Option<&str>, protocol: Option<&str>) -> (u16, String) {
    let mut request = operator
        .with_token(token)
        .request(Method::GET, "/ws/connect")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if let Some(protocol) = protocol {
        request = request.header("sec-websocket-protocol", protocol);
    }
    let reply = Operator::send(request).await;
    if reply.status == 101 { (101, String::new()) } else { (reply.status, reply.problem()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_agents_own_token_there_is_no_link() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let claims = jwt::agent_claims("restaurant-1");
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        scene.sign(&claims)
    };
    let none = |alg: &str| jwt::unsigned(&json!({"typ": "JWT", "alg": alg}), &claims);
    let good = scene.agent_token("restaurant-1");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = jwt::unsigned(&json!({"typ": "JWT", "alg": "HS256"}), &jwt::agent_claims("restaurant-2"));
    for (what, token) in [
        ("no token", None),
        ("nonsense", Some("nonsense".to_owned())),
        ("another secret", Some(jwt::sign(&claims, "another secret, also of more than 32 bytes"))),
        ("expired", Some(with("exp", json!(jwt::now() - 1)))),
        ("an operator's", Some(scene.operator_token(&[Scope::Admin]))),
        ("a foreign audience", Some(with("aud", json!("somebody-else")))),
        ("no client id", Some(with("sub", json!("../restaurant-1")))),
        ("alg none", Some(format!("{}.", none("none")))),
        ("alg None with a signature", Some(format!("{}.{signature}", none("None")))),
        ("another client's claims", Some(format!("{other}.{signature}"))),
        ("no signature", Some(format!("{head}."))),
    ] {
        let answer = knock(&operator, token.as_deref(), Some("hoist.v1")).await;
        assert_eq!(answer, (401, "unauthorized".to_owned()), "{what}");
    }
    for protocol in [None, Some("hoist.v9"), Some("chat")] {
        let answer = knock(&operator, Some(&good), protocol).await;
        assert_eq!(answer, (400, "invalid_request".to_owned()), "{protocol:?}");
    }
    assert_eq!(operator.get("/clients").await.json()["clients"], json!([]), "a refused link left a client");
    let ready = operator.get("/ready").await.json();
    assert_eq!(ready["links"], 0, "{ready}");
    assert_eq!(knock(&operator, Some(&good), Some("hoist.v1, hoist.v9")).await.0, 101);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_token_is_refused_ends_with_its_own_exit_code() {
    let scene = Scene::earnest().start().await;
    let mut claims = jwt::agent_claims("restaurant-1");
    claims["exp"] = json!(jwt::now() - 1);
    let mut agent = scene.agent("restaurant-1").env("CLIENT_TOKEN", scene.sign(&claims)).start();
    assert_eq!(agent.exit().await.code(), Some(77), "{}", agent.log());
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_message_is_answered_and_the_link_lives() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    agent.say_text(r#"{"type":"of_a_newer_version","x":[1,2]}"#).await;
    let ToAgent::Unsupported(told) = agent.hear().await else { panic!("unsupported was due") };
    assert_eq!(told.kind, "of_a_newer_version");
    // About a download that nobody has: dropped, and the link lives on.
    let id = "0190b3a0-0000-7000-8000-000000000000";
    agent.say_text(&format!(r#"{{"type":"forgotten","download_id":"{id}","attempt":1}}"#)).await;
    let asked = operator.ask("restaurant-1", "report").await;
    assert_eq!(agent.hear_fetch().await.download_id, asked.id);
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_messages_are_answered_each_and_logged_a_few_times_only() {
    let scene = Scene::trial().start().await;
    let mut agent = scene.scripted("restaurant-1").await;
    for n in 0..50 {
        agent.say_text(&format!(r#"{{"type":"unknown_{n}"}}"#)).await;
        let ToAgent::Unsupported(told) = agent.hear().await else { panic!("unsupported was due") };
        assert_eq!(told.kind, format!("unknown_{n}"));
    }
    drop(agent);
    scene.operator().sees("restaurant-1", false).await;
    let log = scene.server.log();
    assert_eq!(log.matches("an unknown message").count(), 3, "{log}");
    assert!(log.contains("messages were not understood") && log.contains("count=50"), "{log}");
    scene.finish().await;
}

#[tokio::test]
async fn who_begins_with_anything_but_hello_is_told_goodbye() {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};
    let scene = Scene::trial().start().await;
    let port = scene.server.port();
    let mut request = format!("ws://127.0.0.1:{port}/ws/connect").into_client_request().unwrap();
    let bearer = format!("Bearer {}", scene.agent_token("restaurant-1"));
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", hoist_wire::PROTOCOL.parse().unwrap());
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket.send(Message::text("no json at all")).await.unwrap();
    let Some(Ok(Message::Text(said))) = socket.next().await else { panic!("a goodbye was due") };
    let ToAgent::Goodbye(goodbye) = ToAgent::decode(&said).unwrap() else { panic!("{said}") };
    assert_eq!(goodbye.reason, GoodbyeReason::ProtocolViolation);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_end_the_link_with_a_reason() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    for bad in [
        "no json at all".to_owned(),
        r#"{"type":"offer"}"#.to_owned(),
        r#"{"type":"hello","agent_version":"1","os":"x","host":"x","slots":2}"#.to_owned(),
        format!(r#"{{"type":"unsupported","kind":"{}"}}"#, "x".repeat(17 * 1024)),
    ] {
        let mut agent = scene.scripted("restaurant-1").await;
        agent.say_text(&bad).await;
        if let Some(said) = agent.hear_or_end().await {
            let ToAgent::Goodbye(goodbye) = said else { panic!("{said:?} to {bad:.60}") };
            assert_eq!(goodbye.reason, GoodbyeReason::ProtocolViolation);
        }
        operator.sees("restaurant-1", false).await;
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_link_takes_the_place_of_the_older() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut older = scene.scripted("restaurant-1").await;
    let mut newer = scene.scripted("restaurant-1").await;
    assert!(newer.welcome.link > older.welcome.link);
    let ToAgent::Goodbye(goodbye) = older.hear().await else { panic!("a goodbye was due") };
    assert_eq!(goodbye.reason, GoodbyeReason::Replaced);
    let asked = operator.ask("restaurant-1", "report").await;
    assert_eq!(newer.hear_fetch().await.download_id, asked.id);
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_breaks_the_protocol_ends_its_download_and_nothing_else() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take(vec![1; 6_000_000]).await;
    // A part that is not in the plan: the file has two.
    let longer = hoist_lab::scripted::Job { bytes: vec![1; 12_000_000], ..job.clone() };
    agent.say(&longer.ready(3)).await;
    let (code, message) = operator.fails(asked.id).await;
    assert_eq!(code, "protocol_violation", "{message}");
    assert_eq!(agent.hear_forget().await.download_id, asked.id);
    agent.say(&job.forgotten()).await;
    let next = operator.ask("restaurant-1", "another").await;
    assert_eq!(agent.hear_fetch().await.download_id, next.id);
    assert_eq!(operator.delete(&format!("/downloads/{}", next.id)).await.status, 200);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_were_never_stored_complete_nothing() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let mut agent = scene.scripted("restaurant-1").await;
    let asked = operator.ask("restaurant-1", "report").await;
    let job = agent.take(vec![1; 6_000_000]).await;
    agent.grant(&job, 1).await;
    // Receipts of parts that storage never got: Complete must find out.
    agent.say(&job.receipt(1, &"0".repeat(32))).await;
    agent.say(&job.receipt(2, &"0".repeat(32))).await;
    agent.say(&job.finished()).await;
    let again = operator
        .until(asked.id, "the lie to be found out", |download| {
            assert_ne!(download.state, hoist_wire::State::Completed, "a false success");
            download.reason == Some(hoist_wire::ReasonCode::PartsMissing)
                || download.attempt > 1
                || download.state.is_final()
        })
        .await;
    assert_ne!(again.state, hoist_wire::State::Completed);
    if !again.state.is_final() {
        assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    }
    scene.finish().await;
}
