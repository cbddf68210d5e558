//! Every page with every kind of caller. A page that the table gains is refused here until its expectation is written down.

use hoist_lab::{Operator, Scene, jwt};
use hoist_server::http::{Needs, Route, routes};
use hoist_wire::rest::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::identity::Key;

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
    request_with(scene, route, token, "")
}

/// Makes such a request with more in its URL.
fn request_with(scene: &Scene, route: &Route, token: Option<&str>, query: &str) -> RequestBuilder {
    let path = route
        .path
        .replace("{client_id}", "matrix-1")
        .replace("{id}", "01937f5e-7c00-7000-8000-000000000000")
        .replace("{name}", "nobody");
    let path = match (route.path == "/sessions", query) {
        (true, query) => format!("{path}?operator=nobody&{query}"),
        (false, "") => path,
        (false, query) => format!("{path}?{query}"),
    };
    let request = scene.operator().with_token(token).request(route.method.clone(), &path);
    let body = match (route.method.as_str(), route.path) {
        ("POST", "/trigger-download/{client_id}") => json!({"allow_unknown": true}),
        ("PATCH", _) => json!({"max_rate_bytes_per_sec": 2048}),
        ("POST", "/tokens") => json!({"kind": "operator", "subject": "made", "scopes": ["read"]}),
        ("PUT", _) => json!({"region": "north"}),
        ("POST", "/ws/enroll") => Key::new().enrollment("enroll_none"),
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

/// What a page answers to an admin of other clients, whom it lets in.
fn out_of_reach(route: &Route) -> (u16, &'static str) {
    match (route.method.as_str(), route.path) {
        // Lists are empty, and who one is, is one's own.
        ("GET", "/clients" | "/downloads" | "/session") => (200, ""),
        ("POST", "/session") => (201, ""),
        ("DELETE", "/session") => (204, ""),
        // Whatever is named is as unknown as what was never there.
        ("GET", "/status/{client_id}") => (404, "unknown_client"),
        ("POST", "/trigger-download/{client_id}") => (404, "unknown_client"),
        ("GET" | "PATCH" | "DELETE", "/downloads/{id}") | ("GET", "/downloads/{id}/file") => {
            (404, "unknown_download")
        }
        // A token that is not within its maker's reach is not made.
        ("POST", "/tokens") => (403, "forbidden"),
        (method, path) => panic!("write down what {method} {path} answers to an admin of others"),
    }
}

/// All that is in the record but the audit trail.
async fn record(scene: &Scene) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(scene.server.data_dir().join("hoist.sqlite"));
    let pool = SqlitePoolOptions::new().connect_with(options.read_only(true)).await.unwrap();
    let tables =
        "select name from sqlite_master where type = 'table' and name not like 'audit%' order by name";
    let mut rows = Vec::new();
    for table in sqlx::query(tables).fetch_all(&pool).await.unwrap() {
        let table: String = table.get(0);
        let columns = sqlx::query(
            "select group_concat('quote(\"' || name || '\")', '||\" \"||') from pragma_table_info($1)",
        );
        let columns: String = columns.bind(&table).fetch_one(&pool).await.unwrap().get(0);
        let select = format!("select {columns} from \"{table}\" order by 1").replace("\" \"", "' '");
        for row in sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&pool).await.unwrap() {
            rows.push(format!("{table}: {}", row.get::<String, _>(0)));
        }
    }
    pool.close().await;
    rows
}

/// A browser's session, opened by a token.
struct Browser {
    cookie: String,
    csrf: String,
}

impl Browser {
    async fn open(scene: &Scene, token: &str) -> Self {
        let open = scene.operator().with_token(Some(token)).request(Method::POST, "/session");
        let reply = open.send().await.unwrap();
        let cookie = reply.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let who: serde_json::Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        Self { cookie, csrf: who["csrf"].as_str().unwrap().to_owned() }
    }
}

fn is_operators(route: &Route) -> bool {
    match route.needs {
        Needs::Nothing | Needs::OneTimeToken | Needs::Agent => false,
        Needs::Operator | Needs::Within(_) | Needs::Scope(_) => true,
    }
}

/// Tokens that open no operator's page.
fn strangers(scene: &Scene) -> Vec<(&'static str, Option<String>)> {
    let claims = jwt::operator_claims("lab", &[Scope::Admin]);
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let (now, none) = (jwt::now(), json!({"typ": "JWT", "alg": "none"}));
    vec![
        ("no token", None),
        ("garbage", Some("garbage".to_owned())),
        ("expired", Some(scene.sign(&with("exp", json!(now - 1))))),
        ("not yet valid", Some(scene.sign(&with("nbf", json!(now + 3600))))),
        ("made in the future", Some(scene.sign(&with("iat", json!(now + 86_400))))),
        ("wrong audience", Some(scene.sign(&with("aud", json!("somebody-else"))))),
        ("an agent's own token", Some(scene.agent_token("matrix-2"))),
        ("another secret", Some(jwt::sign(&claims, "another-secret-of-32-bytes-and-more-012345"))),
        ("the right secret by HS512", Some(scene.sign_hs512(&claims))),
        ("no signature", Some(format!("{}.", jwt::unsigned(&none, &claims)))),
        ("no scopes", Some(scene.sign(&with("scopes", json!([]))))),
    ]
}

#[tokio::test]
async fn no_page_lets_a_stranger_in_and_nothing_is_changed_by_trying() {
    let scene = Scene::earnest().start().await;
    let admin = scene.operator_token(&[Scope::Admin]);
    scene.operator().ask_with("matrix-1", &json!({"allow_unknown": true})).await;
    let browser = Browser::open(&scene, &admin).await;
    let strangers = strangers(&scene);
    let before = record(&scene).await;
    assert!(before.iter().any(|row| row.contains("matrix-1")), "{before:?}");
    for route in routes() {
        let page = format!("{} {}", route.method, route.path);
        for (who, token) in &strangers {
            // Who one is, one may know without any scope; a session without any is opened and of no use.
            if *who == "no scopes" && matches!(route.needs, Needs::Operator) {
                continue;
            }
            let (status, code) = answer(&scene, &route, token.as_deref()).await;
            let expected: &[u16] = match route.needs {
                Needs::Nothing => welcome(&route),
                Needs::OneTimeToken => &[401],
                // Whoever is an agent is refused later, for want of an upgrade.
                Needs::Agent if *who == "an agent's own token" => &[400],
                Needs::Within(_) | Needs::Scope(_) if *who == "no scopes" => &[403],
                Needs::Agent | Needs::Operator | Needs::Within(_) | Needs::Scope(_) => &[401],
            };
            assert!(expected.contains(&status), "{page}, {who}: {status} {code}");
        }
        if !is_operators(&route) {
            continue;
        }
        // An admin's own token in the wrong place, or shown twice, or by a page of somebody else's.
        let nobody = |request: RequestBuilder| async move {
            let reply = Operator::try_send(request).await.unwrap();
            (reply.status, reply.text())
        };
        for name in ["token", "access_token", "jwt"] {
            let (status, text) = nobody(request_with(&scene, &route, None, &format!("{name}={admin}"))).await;
            assert!(status == 401 && !text.contains(&admin), "{page}, in the URL as {name}: {status} {text}");
        }
        let twice = request(&scene, &route, Some(&admin)).header("authorization", format!("Bearer {admin}"));
        assert_eq!(nobody(twice).await.0, 401, "{page}, twice");
        let by_cookie = |site: &str, csrf: Option<&str>| {
            let request = request(&scene, &route, None).header("cookie", &browser.cookie);
            let request = request.header("sec-fetch-site", site);
            csrf.iter().fold(request, |request, csrf| request.header("hoist-csrf", *csrf))
        };
        let other = "0".repeat(64);
        for (site, csrf) in [
            ("cross-site", Some(browser.csrf.as_str())),
            ("same-site", Some(&browser.csrf)),
            ("same-origin", None),
            ("same-origin", Some(&other)),
        ] {
            if site == "same-origin" && route.method == Method::GET {
                continue;
            }
            let (status, text) = nobody(by_cookie(site, csrf)).await;
            assert!(status == 403 && text.contains("cross_site"), "{page}, {site} {csrf:?}: {status} {text}");
        }
    }
    assert_eq!(record(&scene).await, before, "who is refused has changed nothing");
    let log = scene.server.log();
    assert!(!log.contains(&admin), "a token stands in the log");
    cancel(&scene).await;
    scene.finish_open().await;
}

#[tokio::test]
async fn every_page_lets_in_whom_it_should_and_nobody_else() {
    let scene = Scene::earnest().start().await;
    let bound = |clients: serde_json::Value| {
        let mut claims = jwt::operator_claims("bound", &[Scope::Admin]);
        claims["clients"] = clients;
        scene.sign(&claims)
    };
    let roles: Vec<(&str, Scope, Option<bool>, String)> = vec![
        ("read", Scope::Read, None, scene.operator_token(&[Scope::Read])),
        ("download", Scope::Download, None, scene.operator_token(&[Scope::Download])),
        ("admin", Scope::Admin, None, scene.operator_token(&[Scope::Admin])),
        ("admin of these", Scope::Admin, Some(true), bound(json!({"prefix": "matrix-"}))),
        ("admin of others", Scope::Admin, Some(false), bound(json!({"labels": {"region": "south"}}))),
    ];
    for route in routes().into_iter().filter(is_operators) {
        let page = format!("{} {}", route.method, route.path);
        for (who, scope, reaches, token) in &roles {
            let (status, code) = answer(&scene, &route, Some(token)).await;
            if !opens(route.needs, Some(*scope), reaches.is_some()) {
                assert_eq!((status, code.as_str()), (403, "forbidden"), "{page}, {who}");
            } else if *reaches == Some(false) || (*reaches == Some(true) && route.path == "/tokens") {
                assert_eq!((status, code.as_str()), out_of_reach(&route), "{page}, {who}");
            } else {
                assert!(welcome(&route).contains(&status), "{page}, {who}: {status} {code}");
            }
        }
        // And an admin's session, from its own page.
        let browser = Browser::open(&scene, &roles[2].3).await;
        if (route.method.as_str(), route.path) != ("POST", "/session") {
            let own = request(&scene, &route, None).header("cookie", &browser.cookie);
            let own = own.header("sec-fetch-site", "same-origin").header("hoist-csrf", &browser.csrf);
            let status = Operator::try_send(own).await.unwrap().status;
            assert!(welcome(&route).contains(&status), "{page}, by session: {status}");
        }
    }
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
