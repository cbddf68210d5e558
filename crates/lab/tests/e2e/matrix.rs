//! Every page with every kind of caller. A page that the table gains is refused here until its expectation is written down.

use hoist_lab::{Operator, Scene, jwt};
use hoist_server::http::{Needs, Route, routes};
use hoist_wire::rest::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

/// What a page answers to whom it lets in, where nothing else is wrong with the request.
fn welcome(route: &Route) -> &'static [u16] {
    match (route.method.as_str(), route.path) {
        ("POST", "/trigger-download/{client_id}") => &[202],
        ("GET", "/status/{client_id}" | "/clients" | "/downloads" | "/audit" | "/session") => &[200],
        ("GET" | "PATCH" | "DELETE", "/downloads/{id}") | ("GET", "/downloads/{id}/file") => &[404],
        ("POST", "/tokens" | "/session") => &[201],
        ("PUT", "/clients/{client_id}/labels") | ("POST", "/clients/{client_id}/revoke") => &[200],
        ("DELETE", "/session") => &[204],
        ("GET" | "DELETE", "/sessions") | ("POST", "/operators/{name}/revoke") => &[200],
        ("GET", "/health" | "/ready" | "/openapi.json" | "/" | "/ws/nonce") => &[200],
        // It needs more than a token: an upgrade.
        ("GET", "/ws/connect") => &[400],
        ("POST", "/ws/enroll") => &[401],
        (method, path) => panic!("write down what {method} {path} answers to whom it lets in"),
    }
}

/// Makes a request that is right but for who sends it.
fn request(scene: &Scene, route: &Route, token: Option<&str>) -> RequestBuilder {
    let path = route
        .path
        .replace("{client_id}", "matrix-1")
        .replace("{id}", "01937f5e-7c00-7000-8000-000000000000")
        .replace("{name}", "nobody");
    let path = if route.path == "/sessions" { format!("{path}?operator=nobody") } else { path };
    let request = scene.operator().with_token(token).request(route.method.clone(), &path);
    let body = match (route.method.as_str(), route.path) {
        ("POST", "/trigger-download/{client_id}") => json!({"allow_unknown": true}),
        ("PATCH", _) => json!({"max_rate_bytes_per_sec": 2048}),
        ("POST", "/tokens") => json!({"kind": "operator", "subject": "made", "scopes": ["read"]}),
        ("PUT", _) => json!({"region": "north"}),
        ("POST", "/ws/enroll") => {
            json!({"token": "enroll_none", "public_key": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "proof": "x"})
        }
        _ => return request,
    };
    request.header("content-type", "application/json").body(body.to_string())
}

async fn answer(scene: &Scene, route: &Route, token: Option<&str>) -> (u16, String) {
    let reply = Operator::try_send(request(scene, route, token)).await.unwrap();
    let code = serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap_or_default();
    (reply.status, code["code"].as_str().unwrap_or_default().to_owned())
}

/// Tells whether a token with these scopes opens the page; with a reach where it has one.
fn opens(needs: Needs, scope: Option<Scope>, has_reach: bool) -> bool {
    let has = |wanted| scope == Some(wanted) || scope == Some(Scope::Admin);
    match needs {
        Needs::Nothing | Needs::Agent | Needs::OneTimeToken => unreachable!("no operator's page"),
        Needs::Operator => scope.is_some(),
        Needs::Within(wanted) => has(wanted),
        Needs::Scope(wanted) => has(wanted) && !has_reach,
    }
}

#[tokio::test]
async fn every_page_lets_in_whom_it_should_and_nobody_else() {
    let scene = Scene::earnest().start().await;
    let operator = |scopes: &[Scope]| scene.operator_token(scopes);
    let claims = jwt::operator_claims("lab", &[Scope::Admin]);
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let (now, none) = (jwt::now(), json!({"typ": "JWT", "alg": "none"}));
    let strangers: Vec<(&str, Option<String>)> = vec![
        ("no token", None),
        ("garbage", Some("garbage".to_owned())),
        ("expired", Some(scene.sign(&with("exp", json!(now - 1))))),
        ("not yet valid", Some(scene.sign(&with("nbf", json!(now + 3600))))),
        ("made in the future", Some(scene.sign(&with("iat", json!(now + 86_400))))),
        ("wrong audience", Some(scene.sign(&with("aud", json!("somebody-else"))))),
        ("an agent's own token", Some(scene.agent_token("matrix-2"))),
        ("another secret", Some(jwt::sign(&claims, "another-secret-of-32-bytes-and-more-012345"))),
        ("no signature", Some(format!("{}.", jwt::unsigned(&none, &claims)))),
        ("no scopes", Some(scene.sign(&with("scopes", json!([]))))),
    ];
    let north = json!({"labels": {"region": "south"}});
    let roles: Vec<(&str, Option<Scope>, bool, String)> = vec![
        ("read", Some(Scope::Read), false, operator(&[Scope::Read])),
        ("download", Some(Scope::Download), false, operator(&[Scope::Download])),
        ("admin", Some(Scope::Admin), false, operator(&[Scope::Admin])),
        ("admin of others", Some(Scope::Admin), true, scene.sign(&with("clients", north))),
    ];
    for route in routes() {
        let page = format!("{} {}", route.method, route.path);
        let welcome = welcome(&route);
        match route.needs {
            Needs::Nothing | Needs::OneTimeToken | Needs::Agent => {
                for (who, token) in &strangers {
                    let (status, _) = answer(&scene, &route, token.as_deref()).await;
                    let expected: &[u16] = match route.needs {
                        Needs::Nothing => welcome,
                        Needs::OneTimeToken => &[400, 401],
                        // Whoever is an agent is refused later, for want of an upgrade.
                        _ if *who == "an agent's own token" => &[400],
                        Needs::Agent | Needs::Operator | Needs::Within(_) | Needs::Scope(_) => &[401],
                    };
                    assert!(expected.contains(&status), "{page}, {who}: {status}");
                }
                continue;
            }
            Needs::Operator | Needs::Within(_) | Needs::Scope(_) => {}
        }
        for (who, token) in &strangers {
            let (status, code) = answer(&scene, &route, token.as_deref()).await;
            let known = *who == "no scopes";
            match (known, route.needs) {
                (true, Needs::Operator) => {}
                (true, _) => assert_eq!((status, code.as_str()), (403, "forbidden"), "{page}, {who}"),
                (false, _) => assert_eq!((status, code.as_str()), (401, "unauthorized"), "{page}, {who}"),
            }
        }
        for (who, scope, has_reach, token) in &roles {
            let (status, code) = answer(&scene, &route, Some(token)).await;
            if !opens(route.needs, *scope, *has_reach) {
                assert_eq!((status, code.as_str()), (403, "forbidden"), "{page}, {who}");
            } else if *has_reach {
                // Let in, and what they ask for is not theirs: unknown, forbidden, or an empty list.
                assert!(matches!(status, 200 | 201 | 204 | 403 | 404), "{page}, {who}: {status} {code}");
            } else {
                assert!(welcome.contains(&status), "{page}, {who}: {status} {code}");
            }
        }
    }
    // Tokens in a URL, and two of them, open nothing.
    let admin = operator(&[Scope::Admin]);
    let in_url = scene.operator().with_token(None).request(Method::GET, &format!("/clients?token={admin}"));
    assert_eq!(Operator::try_send(in_url).await.unwrap().status, 401);
    let twice = scene.operator().with_token(Some(&admin)).request(Method::GET, "/clients");
    let twice = twice.header("authorization", format!("Bearer {admin}"));
    assert_eq!(Operator::try_send(twice).await.unwrap().status, 401);
    cancel(&scene).await;
    scene.finish_open().await;
}

async fn cancel(scene: &Scene) {
    let page: hoist_wire::rest::DownloadPage = scene.operator().get("/downloads?limit=1000").await.parse();
    for download in page.downloads {
        scene.operator().delete(&format!("/downloads/{}", download.id)).await;
    }
}

#[tokio::test]
async fn an_operators_tokens_are_taken_by_name_and_new_ones_are_good_at_once() {
    let scene = Scene::earnest().start().await;
    let admin = scene.operator();
    let token = |name: &str, iat: u64| {
        let mut claims = jwt::operator_claims(name, &[Scope::Read]);
        claims["iat"] = json!(iat);
        scene.sign(&claims)
    };
    let (old, other) = (token("nina", jwt::now() - 10), token("omar", jwt::now() - 10));
    let open = admin.with_token(Some(&old)).request(Method::POST, "/session").send().await.unwrap();
    let cookie = open.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let by_cookie = async || {
        let request = admin.with_token(None).request(Method::GET, "/clients").header("cookie", &cookie);
        request.header("sec-fetch-site", "same-origin").send().await.unwrap().status().as_u16()
    };
    assert_eq!((admin.with_token(Some(&old)).get("/clients").await.status, by_cookie().await), (200, 200));
    let revoke = admin.request(Method::POST, "/operators/nina/revoke");
    assert_eq!(Operator::try_send(revoke).await.unwrap().status, 200);
    assert_eq!((admin.with_token(Some(&old)).get("/clients").await.status, by_cookie().await), (401, 401));
    assert_eq!(admin.with_token(Some(&other)).get("/clients").await.status, 200, "others do not notice");
    let body = json!({"kind": "operator", "subject": "nina", "scopes": ["read"]}).to_string();
    let made = admin.request(Method::POST, "/tokens").header("content-type", "application/json").body(body);
    let made: hoist_wire::rest::TokenReply = Operator::try_send(made).await.unwrap().parse();
    scene.book.secret(made.token.open());
    assert_eq!(admin.with_token(Some(made.token.open())).get("/clients").await.status, 200);
    scene.finish().await;
}

#[tokio::test]
async fn another_ones_download_is_as_unknown_as_one_that_never_was() {
    let scene = Scene::earnest().start().await;
    let admin = scene.operator();
    let asked = admin.ask_with("north_1", &json!({"allow_unknown": true})).await;
    let other = admin.ask_with("northX1", &json!({"allow_unknown": true})).await;
    let bound = |clients: serde_json::Value| {
        let mut claims = jwt::operator_claims("bound", &[Scope::Download, Scope::Read]);
        claims["clients"] = clients;
        admin.with_token(Some(&scene.sign(&claims)))
    };
    // `_` is no wildcard.
    let of_prefix = bound(json!({"prefix": "north_"}));
    let page: hoist_wire::rest::DownloadPage = of_prefix.get("/downloads").await.parse();
    assert_eq!(page.downloads.iter().map(|it| it.id).collect::<Vec<_>>(), [asked.id]);
    assert_eq!(of_prefix.get(&format!("/downloads/{}", asked.id)).await.status, 200);
    let never = "01937f5e-7c00-7000-8000-000000000000";
    for method in [Method::GET, Method::DELETE] {
        let text = |id: String| {
            let request = of_prefix.request(method.clone(), &format!("/downloads/{id}"));
            async move {
                let reply = Operator::try_send(request).await.unwrap();
                (reply.status, String::from_utf8(reply.body).unwrap().replace(&id, "ID"))
            }
        };
        assert_eq!(text(other.id.to_string()).await, text(never.to_owned()).await, "{method}");
    }
    // Labels are asked of the record at each request.
    let of_label = bound(json!({"labels": {"region": "south"}}));
    assert_eq!(of_label.get(&format!("/downloads/{}", other.id)).await.status, 404);
    let label = |value: serde_json::Value| {
        let request = admin.request(Method::PUT, "/clients/northX1/labels");
        Operator::try_send(request.header("content-type", "application/json").body(value.to_string()))
    };
    assert_eq!(label(json!({"region": "south"})).await.unwrap().status, 200);
    assert_eq!(of_label.get(&format!("/downloads/{}", other.id)).await.status, 200);
    assert_eq!(label(json!({})).await.unwrap().status, 200);
    assert_eq!(of_label.get(&format!("/downloads/{}", other.id)).await.status, 404);
    cancel(&scene).await;
    scene.finish_open().await;
}

#[tokio::test]
async fn a_session_speaks_for_its_own_page_alone_and_is_over_at_once() {
    let scene = Scene::earnest().start().await;
    let token = scene.operator_token(&[Scope::Read, Scope::Download]);
    let open = scene.operator().with_token(Some(&token)).request(Method::POST, "/session");
    let reply = open.send().await.unwrap();
    assert_eq!(reply.status().as_u16(), 201);
    let set = reply.headers()["set-cookie"].to_str().unwrap().to_owned();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(flag), "{set}");
    }
    let cookie = set.split(';').next().unwrap().to_owned();
    let who: serde_json::Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    let csrf = who["csrf"].as_str().unwrap().to_owned();
    let send = |method: Method, path: &'static str, headers: Vec<(&'static str, String)>| {
        let mut request = scene.operator().with_token(None).request(method, path).header("cookie", &cookie);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let own = ("sec-fetch-site", "same-origin".to_owned());
    let ask = "/trigger-download/nobody";
    assert_eq!(send(Method::GET, "/clients", vec![own.clone()]).await, 200);
    assert_eq!(send(Method::POST, ask, vec![own.clone()]).await, 403, "without its CSRF proof");
    assert_eq!(send(Method::POST, ask, vec![("hoist-csrf", csrf.clone())]).await, 403, "from nowhere");
    let cross = ("sec-fetch-site", "cross-site".to_owned());
    assert_eq!(send(Method::POST, ask, vec![cross, ("hoist-csrf", csrf.clone())]).await, 403);
    assert_eq!(send(Method::POST, ask, vec![own.clone(), ("hoist-csrf", csrf.clone())]).await, 404, "in");
    assert_eq!(send(Method::DELETE, "/session", vec![own.clone(), ("hoist-csrf", csrf)]).await, 204);
    assert_eq!(send(Method::GET, "/clients", vec![own]).await, 401, "over");
    scene.finish().await;
}
