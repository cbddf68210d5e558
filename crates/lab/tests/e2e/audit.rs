//! The audit trail from outside: one line for each deed, a chain that the command line checks, floods that are counted, and
//! tampering that shows.

use hoist_lab::{Operator, Scene, WITHIN, eventually};
use hoist_wire::audit::{AuditPage, Line};
use hoist_wire::rest::Scope;
use reqwest::Method;
use serde_json::json;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

async fn lines(scene: &Scene) -> Vec<Line> {
    let page: AuditPage = scene.operator().get("/audit?order=oldest&limit=1000").await.parse();
    page.lines
}

async fn verify(scene: &Scene, heads: &[String]) -> (i32, String, String) {
    let cli = scene.cli().env("OPERATOR_TOKEN", &scene.operator_token(&[Scope::Admin]));
    let mut args = vec!["audit", "verify"];
    for head in heads {
        args.extend(["--head", head]);
    }
    let ended = cli.run(&args).await;
    (ended.code, ended.stdout, ended.stderr)
}

/// Changes the trail behind the server's back, as whoever has the database can.
async fn tamper(scene: &Scene, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(scene.server.data_dir().join("hoist.sqlite"));
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    sqlx::query("drop trigger if exists audit_is_append_only").execute(&pool).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn each_deed_has_one_line_that_says_who_what_and_how_it_ended() {
    let scene = Scene::earnest().start().await;
    let operator = scene.operator();
    let asked = operator.ask_with("nobody", &json!({"allow_unknown": true, "file_path": "day.csv"})).await;
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    let post = operator.request(Method::POST, "/clients/nobody/revoke");
    assert_eq!(Operator::try_send(post).await.unwrap().status, 200);
    let stranger = operator.with_token(Some("garbage"));
    assert_eq!(stranger.get("/clients").await.status, 401);
    let reader = operator.with_token(Some(&scene.operator_token(&[Scope::Read])));
    let refused = reader.request(Method::POST, "/trigger-download/nobody");
    assert_eq!(Operator::try_send(refused).await.unwrap().status, 403);
    assert_eq!(reader.get("/clients").await.status, 200);

    let lines = lines(&scene).await;
    let of = |action: &str, status: u16| -> Vec<&Line> {
        lines.iter().filter(|line| line.action == action && line.status == status).collect()
    };
    let [line] = of("download.request", 202)[..] else { panic!("{lines:?}") };
    assert_eq!((line.who.as_deref(), line.from.as_deref()), (Some("lab"), Some("127.0.0.1")));
    assert!(line.detail.as_ref().unwrap().contains("day.csv"), "{line:?}");
    assert_eq!(line.token.as_deref(), Some("lab"));
    assert_eq!(of("download.cancel", 200).len(), 1);
    assert_eq!(of("client.revoke", 200).len(), 1);
    assert_eq!((of("look", 401).len(), of("look", 200).len()), (1, 0), "a look is noted when it is refused");
    assert_eq!(of("download.request", 403)[0].code.as_deref(), Some("forbidden"));
    let (code, told, error) = verify(&scene, &[]).await;
    assert_eq!(code, 0, "{told} {error}");
    scene.finish_open().await;
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_to_the_last_one() {
    let mut scene = Scene::earnest().start().await;
    let stranger = scene.operator().with_token(Some("garbage"));
    for _ in 0..137 {
        assert_eq!(stranger.get("/clients").await.status, 401);
    }
    // What was counted in this minute is written when the server ends.
    scene.server.terminate().await;
    scene.server.restart().await;
    let refused: Vec<_> = lines(&scene).await.into_iter().filter(|line| line.status == 401).collect();
    assert_eq!(refused.iter().map(|line| line.count).sum::<u64>(), 137);
    assert!(refused.len() < 60, "{} lines", refused.len());
    scene.finish().await;
}

/// Whoever need not show who it is fills the trail no more than whoever fails to.
#[tokio::test]
async fn a_flood_of_what_is_no_enrolment_is_counted_too() {
    let mut scene = Scene::earnest().start().await;
    let stranger = scene.operator().with_token(None);
    for n in 0..137 {
        let request = stranger.request(Method::POST, "/ws/enroll").header("content-type", "application/json");
        let body = match n % 3 {
            0 => "no JSON".to_owned(),
            1 => json!({"token": "enroll_x", "public_key": "x", "proof": "x"}).to_string(),
            _ => " ".repeat(5_000),
        };
        let status = Operator::try_send(request.body(body)).await.unwrap().status;
        assert!(matches!(status, 400 | 413), "{status}");
    }
    scene.server.terminate().await;
    scene.server.restart().await;
    let lines = lines(&scene).await;
    let refused: Vec<_> = lines.iter().filter(|line| line.from.is_some() && line.status >= 400).collect();
    assert_eq!(refused.iter().map(|line| line.count).sum::<u64>(), 137);
    assert!(refused.len() < 60, "{} lines", refused.len());
    scene.finish().await;
}

#[tokio::test]
async fn what_was_answered_is_in_the_chain_also_after_a_sudden_death() {
    let mut scene = Scene::earnest().start().await;
    let mut asked = Vec::new();
    for round in 0..3 {
        for n in 0..10 {
            let body = json!({"allow_unknown": true, "file_path": format!("{round}-{n}")});
            asked.push(scene.operator().ask_with("nobody", &body).await.id.to_string());
        }
        scene.server.kill();
        scene.server.restart().await;
    }
    let lines = lines(&scene).await;
    for id in &asked {
        let told =
            lines.iter().filter(|line| line.detail.as_ref().is_some_and(|it| it.contains(id.as_str())));
        assert_eq!(told.count(), 1, "{id}");
    }
    assert!(lines.windows(2).all(|two| two[1].seq == two[0].seq + 1));
    assert_eq!(verify(&scene, &[]).await.0, 0);
    for id in asked {
        scene.operator().delete(&format!("/downloads/{id}")).await;
    }
    scene.finish_open().await;
}

#[tokio::test]
async fn whatever_is_done_to_the_database_shows() {
    for (what, statement) in [
        ("edited", "update audit set who = 'somebody' where seq = 2"),
        ("missing", "delete from audit where seq = 2"),
    ] {
        let scene = Scene::earnest().start().await;
        for _ in 0..5 {
            assert_eq!(
                Operator::try_send(scene.operator().request(Method::POST, "/clients/nobody/revoke"))
                    .await
                    .unwrap()
                    .status,
                200
            );
        }
        assert_eq!(verify(&scene, &[]).await.0, 0);
        tamper(&scene, statement).await;
        let (code, _, told) = verify(&scene, &[]).await;
        assert_eq!(code, 1);
        assert!(told.contains(what), "{told}");
        scene.finish().await;
    }
    // A tail that was cut shows by a head that the log said.
    let mut scene = Scene::earnest().start().await;
    for _ in 0..5 {
        assert_eq!(
            Operator::try_send(scene.operator().request(Method::POST, "/clients/nobody/revoke"))
                .await
                .unwrap()
                .status,
            200
        );
    }
    let last = lines(&scene).await.pop().unwrap();
    let head = format!("{}:{}", last.seq, last.hash);
    assert_eq!(verify(&scene, std::slice::from_ref(&head)).await.0, 0);
    scene.server.terminate().await;
    tamper(&scene, "delete from audit where seq >= 4").await;
    scene.server.restart().await;
    let (code, _, told) = verify(&scene, &[head]).await;
    assert_eq!(code, 1, "{told}");
    scene.finish().await;
}

#[tokio::test]
async fn whoever_hangs_up_in_the_middle_has_a_line_all_the_same() {
    use tokio::io::AsyncWriteExt as _;
    let scene = Scene::earnest().start().await;
    let token = scene.operator_token(&[Scope::Admin]);
    let address = ("127.0.0.1", scene.server.port());
    let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /clients/nobody/labels HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    caller.write_all(head.as_bytes()).await.unwrap();
    // Half of the body is all that ever comes. The deed was begun by then: its intent stands in the record.
    let options = SqliteConnectOptions::new().filename(scene.server.data_dir().join("hoist.sqlite"));
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    eventually("the intent", WITHIN, || async {
        let row = sqlx::query("select intent from audit_intents").fetch_optional(&pool).await.unwrap();
        row.map(drop).ok_or_else(|| "none".to_owned())
    })
    .await;
    drop(caller);
    eventually("the line", WITHIN, || async {
        let lines = lines(&scene).await;
        let line = lines.iter().find(|line| line.action == "labels.set").cloned();
        line.ok_or_else(|| format!("{lines:?}"))
    })
    .await;
    let left = sqlx::query("select intent from audit_intents where action = 'labels.set'");
    assert!(left.fetch_optional(&pool).await.unwrap().is_none(), "and is settled");
    pool.close().await;
    scene.finish().await;
}

#[tokio::test]
async fn who_fails_too_often_is_answered_429_and_each_failure_is_counted() {
    let mut scene = Scene::earnest().env("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let stranger = scene.operator().with_token(Some("garbage"));
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..150 {
        let request = stranger.request(Method::GET, "/clients").header("x-forwarded-for", "203.0.113.7");
        *answers.entry(Operator::try_send(request).await.unwrap().status).or_insert(0_u64) += 1;
    }
    assert_eq!(answers.values().sum::<u64>(), 150);
    assert!(answers[&401] >= 100 && answers[&429] >= 1, "{answers:?}");
    // Who has a token gets in from there all the same.
    let good = scene.operator().request(Method::GET, "/clients").header("x-forwarded-for", "203.0.113.7");
    assert_eq!(Operator::try_send(good).await.unwrap().status, 200);
    scene.server.terminate().await;
    scene.server.restart().await;
    let counted = lines(&scene).await.into_iter().filter(|line| line.from.as_deref() == Some("203.0.113.7"));
    let counted: u64 = counted.filter(|line| line.status != 200).map(|line| line.count).sum();
    assert_eq!(counted, 150);
    scene.finish().await;
}

#[tokio::test]
async fn a_stranger_that_says_it_comes_from_elsewhere_is_noted_where_it_is() {
    let scene = Scene::earnest().start().await;
    let stranger = scene.operator().with_token(Some("garbage"));
    for _ in 0..3 {
        let request = stranger.request(Method::GET, "/clients").header("x-forwarded-for", "203.0.113.7");
        assert_eq!(Operator::try_send(request).await.unwrap().status, 401);
    }
    let refused: Vec<_> = lines(&scene).await.into_iter().filter(|line| line.status == 401).collect();
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|line| line.from.as_deref() == Some("127.0.0.1")), "{refused:?}");
    scene.finish().await;
}

#[tokio::test]
async fn whoever_does_not_wait_for_the_answer_leaves_no_deed_unsettled() {
    use tokio::io::AsyncWriteExt as _;
    let scene = Scene::earnest().start().await;
    let token = scene.operator_token(&[Scope::Admin]);
    for nth in 0..60 {
        let address = ("127.0.0.1", scene.server.port());
        let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
        let text = format!(
            "POST /clients/nobody-{nth}/revoke HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        caller.write_all(text.as_bytes()).await.unwrap();
        match nth % 4 {
            // Some wait for the first byte of the answer, some are gone before the request is read, some in between.
            0 => caller.readable().await.unwrap(),
            1 => {}
            turns => {
                for _ in 0..turns * 20 {
                    tokio::task::yield_now().await;
                }
            }
        }
        drop(caller);
    }
    let options = SqliteConnectOptions::new().filename(scene.server.data_dir().join("hoist.sqlite"));
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    eventually("each deed to have its line", WITHIN, || async {
        let all = "select (select count(*) from audit_intents) as open, \
             (select count(*) from clients where tokens_not_before > 0) as done, \
             (select count(*) from audit where action = 'client.revoke') as told";
        let row = sqlx::query(all).fetch_one(&pool).await.unwrap();
        let (open, done, told): (i64, i64, i64) = (row.get("open"), row.get("done"), row.get("told"));
        if open == 0 && done == told && done >= 15 { Ok(()) } else { Err(format!("{open} {done} {told}")) }
    })
    .await;
    pool.close().await;
    scene.finish().await;
}

/// Where the trail cannot be written nothing is done, and whoever asked is told so.
#[tokio::test]
async fn a_deed_that_cannot_be_noted_is_not_done() {
    let scene = Scene::earnest().start().await;
    let admin = scene.operator();
    let options = SqliteConnectOptions::new().filename(scene.server.data_dir().join("hoist.sqlite"));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    // All else can be written, as on a disk with room for everything but the trail.
    // Or a trigger passes each line over, and says nothing.
    for how in ["raise(abort, 'full')", "raise(ignore)"] {
        for table in ["audit", "audit_intents"] {
            let trigger =
                format!("create trigger full_{table} before insert on {table} begin select {how}; end");
            sqlx::query(sqlx::AssertSqlSafe(trigger)).execute(&pool).await.unwrap();
        }
        let deeds = [
            admin.request(Method::POST, "/clients/till-1/revoke"),
            admin
                .request(Method::POST, "/tokens")
                .header("content-type", "application/json")
                .body(json!({"kind": "enrolment", "subject": "till-1"}).to_string()),
            admin
                .request(Method::POST, "/trigger-download/till-1")
                .header("content-type", "application/json")
                .body(json!({"allow_unknown": true}).to_string()),
        ];
        for deed in deeds {
            let reply = Operator::try_send(deed).await.unwrap();
            assert_eq!(reply.status, 503, "{how}: {}", reply.text());
            assert!(reply.header("retry-after").is_some());
        }
        for table in ["audit", "audit_intents"] {
            let drop = format!("drop trigger full_{table}");
            sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&pool).await.unwrap();
        }
    }
    let all = "select (select count(*) from clients where tokens_not_before > 0) + (select count(*) from enrolments) \
         + (select count(*) from downloads) as done";
    let done: i64 = sqlx::query(all).fetch_one(&pool).await.unwrap().get("done");
    assert_eq!(done, 0);
    let revoke = admin.request(Method::POST, "/clients/till-1/revoke");
    assert_eq!(Operator::try_send(revoke).await.unwrap().status, 200, "and then it is served again");
    let told = lines(&scene).await;
    assert_eq!(told.iter().filter(|line| line.action == "client.revoke" && line.status == 200).count(), 1);
    pool.close().await;
    scene.finish().await;
}

/// A connection that hangs must not keep the last head from the log: it is what shows that a tail was cut.
#[tokio::test]
async fn a_stop_says_the_head_also_while_a_request_hangs() {
    use tokio::io::AsyncWriteExt as _;
    let mut scene = Scene::earnest().start().await;
    assert_eq!(scene.operator().get("/audit").await.status, 200);
    let mut hanging = tokio::net::TcpStream::connect(("127.0.0.1", scene.server.port())).await.unwrap();
    let head = "POST /ws/enroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    hanging.write_all(head.as_bytes()).await.unwrap();
    hanging.flush().await.unwrap();
    let told = |scene: &Scene| scene.server.log().matches("audit head").count();
    let before = told(&scene);
    scene.server.terminate().await;
    assert_eq!(told(&scene), before + 1, "{}", scene.server.log());
    drop(hanging);
    scene.server.restart().await;
    scene.finish().await;
}
