//! The command line, as scripts use it: exit codes, JSON, files that are the same.

use hoist_lab::site::sha256;
use hoist_lab::{Scene, Site};
use hoist_wire::State;
use hoist_wire::rest::{ClientPage, Download, DownloadPage, Problem, Scope};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_downloads_a_file_and_can_trust_the_exit_codes() {
    let scene = Scene::trial().start().await;
    let cli = scene.cli();
    let path = scene.site.random("day report", 6_000_000);
    let path = path.to_str().unwrap();
    let _agent = scene.agent("restaurant-1").start();
    scene.operator().sees("restaurant-1", true).await;
    let out = Site::new();
    let saved = out.path("saved");

    let done = cli.run(&["download", "restaurant-1", path, "-o", saved.to_str().unwrap()]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let bytes = std::fs::read(&saved).unwrap();
    assert_eq!(sha256(&bytes), sha256(&std::fs::read(path).unwrap()));

    let done = cli.run(&["download", "restaurant-1", path, "--json"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let download: Download = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((download.state, download.size_bytes), (State::Completed, Some(6_000_000)));
    let list: ClientPage = serde_json::from_str(&cli.run(&["list", "--json"]).await.stdout).unwrap();
    assert!(list.clients[0].connected && list.clients[0].client_id.as_str() == "restaurant-1");
    let all: DownloadPage = serde_json::from_str(&cli.run(&["downloads", "--json"]).await.stdout).unwrap();
    assert_eq!(all.downloads.len(), 2);
    let shown = cli.run(&["show", &download.id.to_string(), "--json"]).await;
    assert_eq!(serde_json::from_str::<Download>(&shown.stdout).unwrap(), download);

    let failed = cli.run(&["download", "restaurant-1", "/absent"]).await;
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("outside_roots") && failed.stderr.contains("--root"), "{}", failed.stderr);
    let absent = scene.site.path("absent");
    let failed = cli.run(&["download", "restaurant-1", absent.to_str().unwrap(), "--json"]).await;
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert_eq!(serde_json::from_str::<Download>(&failed.stdout).unwrap().state, State::Failed);

    for usage in
        [&["download"][..], &["fetch"], &["download", "a b", "x"], &["show", "last"], &["list", "--what"]]
    {
        assert_eq!(cli.run(usage).await.code, 2, "{usage:?}");
    }
    let unknown = cli.run(&["download", "restaurant-9", path, "--json"]).await;
    assert_eq!(unknown.code, 5, "{}", unknown.stderr);
    assert_eq!(serde_json::from_str::<Problem>(&unknown.stdout).unwrap().code.as_str(), "unknown_client");
    assert_eq!(cli.run(&["show", "0190b3a0-0000-7000-8000-000000000000"]).await.code, 5);
    assert_eq!(cli.run(&["status", "restaurant-9"]).await.code, 5);
    let too_late = cli.run(&["cancel", &download.id.to_string()]).await;
    assert_eq!(too_late.code, 7, "{}", too_late.stderr);

    let nobody = cli.clone().env("SERVER_URL", "http://127.0.0.1:1").run(&["list"]).await;
    assert_eq!(nobody.code, 3, "{}", nobody.stderr);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_can_be_left_and_taken_up_again() {
    let scene = Scene::trial().start().await;
    let cli = scene.cli();
    drop(scene.scripted("restaurant-1").await);
    scene.operator().sees("restaurant-1", false).await;
    let path = scene.site.random("report", 100);
    let asked = cli.run(&["download", "restaurant-1", path.to_str().unwrap(), "--no-wait"]).await;
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    let id = asked.stdout.trim();
    let waited = cli.run(&["watch", id, "--timeout", "1s"]).await;
    assert_eq!(waited.code, 6, "{}", waited.stderr);
    let _agent = scene.agent("restaurant-1").start();
    let watched = cli.run(&["watch", id]).await;
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_without_the_right_token_is_refused() {
    let scene = Scene::earnest().start().await;
    let cli = scene.cli();
    assert_eq!(cli.run(&["list"]).await.code, 4, "no token");
    let read = cli.clone().env("OPERATOR_TOKEN", &scene.operator_token(&[Scope::Read]));
    assert_eq!(read.run(&["list"]).await.code, 0);
    let refused = read.run(&["download", "restaurant-1", "report"]).await;
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("forbidden"), "{}", refused.stderr);
    let agents = cli.clone().env("OPERATOR_TOKEN", &scene.agent_token("restaurant-1"));
    assert_eq!(agents.run(&["list"]).await.code, 4, "an agent's token");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_the_command_line_open_the_doors_that_they_should() {
    let scene = Scene::earnest().start().await;
    let admin = scene.cli().env("OPERATOR_TOKEN", &scene.operator_token(&[Scope::Admin]));
    let of_agent = admin.token(&["client", "restaurant-1", "--ttl", "1h"]).await;
    let of_reader = admin.token(&["operator", "--scopes", "read"]).await;
    let path = scene.site.random("report", 100);
    let _agent = scene.agent("restaurant-1").env("CLIENT_TOKEN", of_agent).start();
    let operator = scene.operator();
    operator.sees("restaurant-1", true).await;
    let reader = scene.cli().env("OPERATOR_TOKEN", &of_reader);
    assert_eq!(reader.run(&["list"]).await.code, 0);
    let ended = admin.run(&["download", "restaurant-1", path.to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_signed_on_the_servers_machine_is_as_good() {
    let scene = Scene::trial().start().await;
    let cli = scene.cli().env("DATA_DIR", scene.server.data_dir().to_str().unwrap());
    let token = cli.token(&["client", "restaurant-1", "--local"]).await;
    let _agent = scene.agent("restaurant-1").env("CLIENT_TOKEN", token).start();
    scene.operator().sees("restaurant-1", true).await;
    scene.finish().await;
}
