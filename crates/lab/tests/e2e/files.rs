//! Files of any size and any name, and everything that is no file that may leave.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use hoist_lab::{Operator, Scene};
use serde_json::json;

const MIB: u64 = 1024 * 1024;
const NOBODY: u32 = 65534;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_any_size_come_up() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    for size in [0, 1, 5 * MIB, 5 * MIB + 1] {
        let path = scene.site.random(format!("of-{size}"), size);
        let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
        let download = operator.completes(asked.id).await;
        assert_eq!(download.size_bytes, Some(size));
        let head = scene.storage.head(&download.object_key.unwrap()).await.unwrap();
        assert_eq!(head.size_bytes, size);
        assert!(head.write_token.is_some());
        let (bytes, _) = operator.fetch(asked.id).await;
        assert!(bytes == std::fs::read(path).unwrap(), "other bytes at {size}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_any_name_come_up() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let long = "ä".repeat(127) + "x";
    assert_eq!(long.len(), 255);
    for name in
        ["two words ", "\"quoted\" 'and' \\", "Küche_日報.csv", "new\nline", "100%+&?#=;", "..dots", &long]
    {
        let path = scene.site.random(name, 100);
        let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
        let download = operator.completes(asked.id).await;
        assert_eq!(download.file_path.as_deref(), path.to_str());
        let (bytes, disposition) = operator.fetch(asked.id).await;
        assert!(bytes == std::fs::read(&path).unwrap(), "other bytes of {name:?}");
        assert!(!disposition.contains('\n') && disposition.starts_with("attachment"), "{disposition}");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_file_is_sent_when_none_is_named() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", 100);
    let _agent = scene.bare_agent("restaurant-1").file_path(&path).start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask_with("restaurant-1", &json!({})).await;
    assert_eq!(asked.file_path, None);
    let download = operator.completes(asked.id).await;
    assert_eq!(download.file_path.as_deref(), path.to_str());
    let bare = operator.post("/trigger-download/restaurant-1", &json!({"file_path": ""})).await;
    assert_eq!((bare.status, bare.problem().as_str()), (400, "invalid_path"));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_file_whose_name_is_not_utf8_is_refused_and_the_agent_lives() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random(OsStr::from_bytes(b"odd\xff.bin"), 100);
    let good = scene.site.random("good", 100);
    let _agent = scene.agent("restaurant-1").file_path(&path).start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask_with("restaurant-1", &json!({})).await;
    let (code, message) = operator.fails(asked.id).await;
    assert_eq!(code, "path_not_utf8");
    assert!(message.contains("rename"), "{message}");
    let asked = operator.ask("restaurant-1", good.to_str().unwrap()).await;
    operator.completes(asked.id).await;
    scene.finish().await;
}

async fn refused(operator: &Operator, path: &Path, code: &str, mend: &str) {
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    let (found, message) = operator.fails(asked.id).await;
    assert_eq!(found, code, "{}: {message}", path.display());
    assert!(message.contains(mend), "{code} does not say what to do: {message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_has_a_code_and_a_mend() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let site = &scene.site;
    std::fs::create_dir(site.path("folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        site.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let outside = hoist_lab::Site::new();
    let secret = outside.random("secret", 10);
    symlink(&secret, site.path("escape")).unwrap();
    symlink(outside.root(), site.path("escape-folder")).unwrap();
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;

    refused(&operator, &site.path("absent"), "file_not_found", "check the path").await;
    refused(&operator, &site.path("folder"), "is_a_directory", "name one file").await;
    refused(&operator, &site.path("pipe"), "not_a_regular_file", "only regular files").await;
    let up = format!("../{}/secret", outside.root().file_name().unwrap().to_str().unwrap());
    for path in [
        secret.as_path(),
        Path::new("/etc/passwd"),
        Path::new(&up),
        &site.path("../../etc/passwd"),
        &site.path("escape"),
        &site.path("escape-folder/secret"),
    ] {
        refused(&operator, path, "outside_roots", "--root").await;
    }
    let asked = operator.ask_with("restaurant-1", &json!({})).await;
    assert_eq!(operator.fails(asked.id).await.0, "no_default_file");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_agents_user_may_not_read_names_the_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run the agent as another user");
        return;
    }
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    for folder in [scene.site.root(), scene.folder()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let closed = scene.site.random("closed", 10);
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
    let open = scene.site.random("open", 10);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _agent = scene.agent("restaurant-1").user(NOBODY).start();
    operator.sees("restaurant-1", true).await;
    refused(&operator, &closed, "permission_denied", &format!("user id {NOBODY}")).await;
    let asked = operator.ask("restaurant-1", open.to_str().unwrap()).await;
    operator.completes(asked.id).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_over_the_sites_limit_is_refused() {
    let scene = Scene::trial().start().await;
    let operator = scene.operator();
    let path = scene.site.random("large", 2 * MIB);
    let _agent = scene.agent("restaurant-1").env("MAX_FILE_SIZE", "1MiB").start();
    operator.sees("restaurant-1", true).await;
    refused(&operator, &path, "file_too_large", "--max-file-size").await;
    scene.finish().await;
}
