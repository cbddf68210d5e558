//! Agents with keys of their own: enrolment, proofs, wrong clocks, revocation, and secrets that rotate.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::identity::enrollment_text;
use hoist_wire::rest::Scope;
use reqwest::Method;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

/// A key as a test has it.
pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.public_key())
    }

    fn sign(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sign(text.as_bytes()))
    }

    fn proof(&self, header: &Value, claims: &Value) -> String {
        let text = hoist_lab::jwt::unsigned(header, claims);
        format!("{text}.{}", self.sign(&text))
    }

    /// What an agent asks to be enrolled with.
    pub(crate) fn enrollment(&self, token: &str) -> Value {
        let hash: String = ring::digest::digest(&ring::digest::SHA256, token.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let proof = self.sign(&enrollment_text(&hash, &self.public()));
        json!({"token": token, "public_key": self.public(), "proof": proof})
    }

    async fn enrol(&self, scene: &Scene, token: &str) -> (u16, Value) {
        let body = self.enrollment(token);
        let request = scene.operator().with_token(None).request(Method::POST, "/ws/enroll");
        let request = request.header("content-type", "application/json").body(body.to_string());
        let reply = hoist_lab::Operator::try_send(request).await.unwrap();
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }
}

async fn enrol_token(scene: &Scene, client: &str) -> String {
    let admin = scene.operator().with_token(Some(&scene.operator_token(&[Scope::Admin])));
    let body = json!({"kind": "enrolment", "subject": client});
    let request = admin.request(Method::POST, "/tokens").header("content-type", "application/json");
    let reply = hoist_lab::Operator::try_send(request.body(body.to_string())).await.unwrap();
    assert_eq!(reply.status, 201);
    let reply: Value = serde_json::from_slice(&reply.body).unwrap();
    reply["token"].as_str().unwrap().to_owned()
}

async fn post(scene: &Scene, path: &str) -> u16 {
    let admin = scene.operator().with_token(Some(&scene.operator_token(&[Scope::Admin])));
    hoist_lab::Operator::try_send(admin.request(Method::POST, path)).await.unwrap().status
}

async fn client(scene: &Scene, client: &str) -> Value {
    let admin = scene.operator().with_token(Some(&scene.operator_token(&[Scope::Admin])));
    let path = format!("/clients?prefix={client}&limit=1");
    let reply = hoist_lab::Operator::try_send(admin.request(Method::GET, &path)).await.unwrap();
    let page: Value = serde_json::from_slice(&reply.body).unwrap();
    page["clients"][0].clone()
}

async fn is_connected(scene: &Scene, name: &str, wanted: bool) {
    eventually("the link", WITHIN, || async {
        let client = client(scene, name).await;
        if client["connected"] == wanted { Ok(()) } else { Err(client.to_string()) }
    })
    .await;
}

/// Tries a link with what is shown, and gives status, code and the server's time.
async fn knock(scene: &Scene, shown: &str) -> (u16, Value, Option<i64>) {
    let request = scene
        .operator()
        .with_token(Some(shown))
        .request(Method::GET, "/ws/connect")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "hoist.v1");
    let reply = request.send().await.unwrap();
    let time = reply.headers().get("hoist-time").and_then(|value| value.to_str().ok()?.parse().ok());
    let status = reply.status().as_u16();
    let text = if status == 101 { String::new() } else { reply.text().await.unwrap() };
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    (status, body["code"].clone(), time)
}

async fn nonce(scene: &Scene) -> String {
    let request = scene.operator().with_token(None).request(Method::GET, "/ws/nonce");
    let text = request.send().await.unwrap().text().await.unwrap();
    let reply: Value = serde_json::from_str(&text).unwrap();
    reply["nonce"].as_str().unwrap().to_owned()
}

fn env(scene: &Scene, token: &str) -> Vec<(&'static str, std::ffi::OsString)> {
    vec![
        ("CLIENT_TOKEN", "".into()),
        ("AGENT_KEY_FILE", scene.folder().join("agent.key").into_os_string()),
        ("ENROLL_TOKEN", token.into()),
    ]
}

fn start(scene: &Scene, token: &str) -> hoist_lab::agent::AgentProcess {
    let mut setup = scene.agent("restaurant-1");
    for (name, value) in env(scene, token) {
        setup = setup.env(name, value);
    }
    setup.start()
}

#[tokio::test]
async fn a_site_enrols_once_lives_by_its_key_and_is_taken_out_at_once() {
    let scene = Scene::earnest().start().await;
    scene.site.random("report", 6 << 20);
    let token = enrol_token(&scene, "restaurant-1").await;
    let agent = start(&scene, &token);
    is_connected(&scene, "restaurant-1", true).await;
    assert_eq!(client(&scene, "restaurant-1").await["identity"], "key");
    let cli = scene.cli().env("OPERATOR_TOKEN", &scene.operator_token(&[Scope::Read, Scope::Download]));
    let ended = cli.run(&["download", "restaurant-1", "report"]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!agent.log().contains(&token), "the one-time token stands in the log");
    drop(agent);

    // The same token is still in the environment: it enrols nothing again, and the key is enough.
    is_connected(&scene, "restaurant-1", false).await;
    let agent = start(&scene, &token);
    is_connected(&scene, "restaurant-1", true).await;

    // A thief with the token, and one with a token that the server's secret signed.
    assert_eq!(Key::new().enrol(&scene, &token).await.0, 401);
    let (status, code, _) = knock(&scene, &scene.agent_token("restaurant-1")).await;
    assert_eq!((status, code), (401, json!("unauthorized")), "who has a key has no token");

    assert_eq!(post(&scene, "/clients/restaurant-1/revoke").await, 200);
    is_connected(&scene, "restaurant-1", false).await;
    eventually("the agent to hear it", WITHIN, || {
        let log = agent.log();
        async move { if log.contains("evoked") { Ok(()) } else { Err(log) } }
    })
    .await;
    drop(agent);
    let mut barred = start(&scene, &token);
    let status = barred.exit().await;
    assert_eq!(status.code(), Some(77), "{}", barred.log());

    // A new one-time token makes a new key, in the same file.
    let again = enrol_token(&scene, "restaurant-1").await;
    let agent = start(&scene, &again);
    is_connected(&scene, "restaurant-1", true).await;
    drop(agent);
    scene.finish().await;
}

#[tokio::test]
async fn a_one_time_token_enrols_one_key_whoever_comes_first() {
    let scene = Scene::earnest().start().await;
    let token = enrol_token(&scene, "restaurant-1").await;
    let keys: Vec<_> = (0..8).map(|_| Key::new()).collect();
    let replies = futures_util::future::join_all(keys.iter().map(|key| key.enrol(&scene, &token))).await;
    let won: Vec<_> = (0..8).filter(|nth| replies[*nth].0 == 200).collect();
    assert_eq!(won.len(), 1, "{replies:?}");
    assert!(replies.iter().all(|(status, _)| matches!(status, 200 | 401)));
    let (status, again) = keys[won[0]].enrol(&scene, &token).await;
    assert_eq!(status, 200, "an answer that was lost is given again: {again}");
    assert_eq!(Key::new().enrol(&scene, "enroll_of-nobody").await.0, 401);
    scene.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_years_off_is_told_so_and_a_proof_opens_one_link_of_one_client() {
    let scene = Scene::earnest().start().await;
    let key = Key::new();
    let (_, enrolled) = key.enrol(&scene, &enrol_token(&scene, "restaurant-1").await).await;
    let other = Key::new();
    other.enrol(&scene, &enrol_token(&scene, "restaurant-2").await).await;
    let server = enrolled["server_id"].as_str().unwrap().to_owned();
    let head = json!({"typ": "JWT", "alg": "EdDSA"});
    let claims = |sub: &str, aud: &str, iat: u64, nonce: &str| json!({"sub": sub, "aud": aud, "iat": iat, "exp": iat + 60, "jti": "j", "nonce": nonce});
    let now = hoist_lab::jwt::now();
    for wrong in [now - 3 * 31_536_000, now + 3 * 31_536_000, 5] {
        let proof = key.proof(&head, &claims("restaurant-1", &server, wrong, &nonce(&scene).await));
        let (status, code, time) = knock(&scene, &proof).await;
        assert_eq!((status, &code), (401, &json!("clock_skew")), "{wrong}");
        let said = u64::try_from(time.expect("the server's time")).unwrap() / 1000;
        assert!(said.abs_diff(now) < 120);
        let corrected = key.proof(&head, &claims("restaurant-1", &server, said, &nonce(&scene).await));
        assert_eq!(knock(&scene, &corrected).await.0, 101);
    }
    let used = nonce(&scene).await;
    let proof = key.proof(&head, &claims("restaurant-1", &server, now, &used));
    assert_eq!(knock(&scene, &proof).await.0, 101);
    assert_eq!(knock(&scene, &proof).await.1, json!("stale_nonce"), "replayed");
    let forged = [
        ("another's key", other.proof(&head, &claims("restaurant-1", &server, now, &nonce(&scene).await))),
        ("another server", key.proof(&head, &claims("restaurant-1", "elsewhere", now, &nonce(&scene).await))),
        (
            "no client of this key",
            key.proof(&head, &claims("restaurant-3", &server, now, &nonce(&scene).await)),
        ),
        (
            "another algorithm",
            key.proof(&json!({"alg": "HS256"}), &claims("restaurant-1", &server, now, &nonce(&scene).await)),
        ),
        (
            "none at all",
            format!(
                "{}.",
                hoist_lab::jwt::unsigned(
                    &json!({"alg": "none"}),
                    &claims("restaurant-1", &server, now, &nonce(&scene).await)
                )
            ),
        ),
        (
            "the public key as a secret",
            hoist_lab::jwt::sign(&claims("restaurant-1", &server, now, &nonce(&scene).await), &key.public()),
        ),
    ];
    for (what, proof) in forged {
        let (status, code, time) = knock(&scene, &proof).await;
        assert_eq!((status, code, time), (401, json!("unauthorized"), None), "{what}");
    }
    let invented = key.proof(&head, &claims("restaurant-1", &server, now, "1.2.c3"));
    assert_eq!(knock(&scene, &invented).await.1, json!("stale_nonce"));
    scene.finish().await;
}

#[tokio::test]
async fn a_secret_rotates_and_no_agent_loses_its_place() {
    let mut scene = Scene::earnest().start().await;
    let file = scene.folder().join("token");
    std::fs::write(&file, scene.agent_token("restaurant-1")).unwrap();
    let agent = scene.agent("restaurant-1").env("CLIENT_TOKEN", "").env("CLIENT_TOKEN_FILE", &file).start();
    is_connected(&scene, "restaurant-1", true).await;
    let before = std::fs::read_to_string(&file).unwrap();
    scene.rotate("another-secret-of-32-bytes-or-more-0123456789").await;
    is_connected(&scene, "restaurant-1", true).await;
    eventually("a token of the new secret", WITHIN, || async {
        let token = std::fs::read_to_string(&file).unwrap();
        if token == before { Err(token.len().to_string()) } else { Ok(()) }
    })
    .await;
    eventually("nobody with the old secret", WITHIN, || async {
        let client = client(&scene, "restaurant-1").await;
        if client["token_secret_is_old"] == true { Err(client.to_string()) } else { Ok(()) }
    })
    .await;
    // Now the old secret can go.
    scene.forget_old_secrets().await;
    is_connected(&scene, "restaurant-1", true).await;
    drop(agent);
    scene.finish().await;
}
