//! Promise 4: an object is one pass over an unchanged file, whatever happens to the file meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use hoist_lab::s3::{LocalStack, SeaweedFs};
use hoist_lab::scene::Setup;
use hoist_lab::site::sha256;
use hoist_lab::{Operator, Scene, WITHIN, eventually};
use hoist_wire::State;
use hoist_wire::rest::Download;
use serde_json::json;

const MIB: u64 = 1024 * 1024;

/// Four parts.
const SIZE: u64 = 20 * MIB;

/// What happens to a file while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Truncated,
    /// Another file takes its name: whoever has it open still reads the old one.
    Replaced,
    Grown,
    /// Other bytes in a part that is sent already, and the modified time put back.
    EditedBehindItsTime,
    Deleted,
}

const CHANGES: [Change; 5] =
    [Change::Truncated, Change::Replaced, Change::Grown, Change::EditedBehindItsTime, Change::Deleted];

impl Change {
    fn befalls(self, path: &Path) {
        let writable = || OpenOptions::new().write(true).open(path).unwrap();
        match self {
            Self::Truncated => writable().set_len(7 * MIB).unwrap(),
            Self::Replaced => {
                let new = path.with_extension("new");
                std::fs::write(&new, vec![9; 6_000_000]).unwrap();
                std::fs::rename(new, path).unwrap();
            }
            Self::Grown => {
                OpenOptions::new().append(true).open(path).unwrap().write_all(b"one more line").unwrap();
            }
            Self::EditedBehindItsTime => edit(&writable(), 1000),
            Self::Deleted => std::fs::remove_file(path).unwrap(),
        }
    }
}

/// Writes other bytes at `offset`, and puts the modified time back.
fn edit(mut file: &File, offset: u64) {
    let before = file.metadata().unwrap().modified().unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(b"another version of the day report").unwrap();
    file.set_modified(before).unwrap();
}

/// How a download must end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Completed in the first pass, as the file was when it was opened.
    AsItWas,
    /// Completed in the second pass, as the file is now.
    AsItIs,
    Fails,
}

/// Waits until the bucket has `confirmed` parts more than before, and the next is held back.
async fn held_after(scene: &Scene, before: usize, confirmed: usize) {
    eventually("a part that is held back", WITHIN, || async {
        let parts: Vec<_> = scene.proxy().seen().into_iter().filter(|seen| seen.part().is_some()).collect();
        let stored = parts.iter().skip(before).filter(|seen| seen.status == Some(200)).count();
        if stored == confirmed && parts.len() > before + confirmed {
            Ok(())
        } else {
            Err(format!("{parts:?}"))
        }
    })
    .await;
}

fn parts_seen(scene: &Scene) -> usize {
    scene.proxy().seen().iter().filter(|seen| seen.part().is_some()).count()
}

/// Brings a file that `change` befalls after its first part was stored; nothing has to be asked for twice.
async fn brought(
    scene: &Scene,
    operator: &Operator,
    on_change: &str,
    change: Change,
) -> (Download, [String; 2]) {
    let path = scene.site.random(format!("{on_change}-{change:?}"), SIZE);
    let was = sha256(&std::fs::read(&path).unwrap());
    let before = parts_seen(scene);
    scene.proxy().hold_parts_after(before + 1);
    let body = json!({"file_path": path, "on_change": on_change});
    let asked = operator.ask_with("restaurant-1", &body).await;
    held_after(scene, before, 1).await;
    change.befalls(&path);
    let is = std::fs::read(&path).map_or_else(|_| "gone".to_owned(), |bytes| sha256(&bytes));
    scene.proxy().release();
    (operator.ends(asked.id).await, [was, is])
}

async fn whatever_befalls(on_change: &str, end: impl Fn(Change) -> End) {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    for change in CHANGES {
        let (download, [was, is]) = brought(&scene, &operator, on_change, change).await;
        let (version, attempt) = match end(change) {
            End::AsItWas => (was, 1),
            End::AsItIs => (is, 2),
            End::Fails => {
                let error = download.error.unwrap_or_else(|| panic!("{change:?} went unseen"));
                assert_eq!((download.state, error.code.as_str().as_str()), (State::Failed, "file_changed"));
                assert!(error.message.contains(&format!("on_change is {on_change}")), "{}", error.message);
                let key = download.object_key.unwrap();
                assert_eq!(scene.storage.head(&key).await, None, "{change:?} left an object");
                continue;
            }
        };
        assert_eq!(
            (download.state, download.attempt),
            (State::Completed, attempt),
            "{change:?}: {download:#?}"
        );
        let (bytes, _) = operator.fetch(download.id).await;
        assert_eq!(sha256(&bytes), version, "{change:?} made another object");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_restart_the_object_is_the_file_before_or_after_whatever_befalls_it() {
    whatever_befalls("restart", |change| match change {
        Change::Truncated | Change::Grown | Change::EditedBehindItsTime => End::AsItIs,
        Change::Replaced | Change::Deleted => End::AsItWas,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fail_any_change_of_the_bytes_fails_and_leaves_no_object() {
    whatever_befalls("fail", |change| match change {
        Change::Truncated | Change::Grown | Change::EditedBehindItsTime => End::Fails,
        Change::Replaced | Change::Deleted => End::AsItWas,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_prefix_the_file_may_grow_and_must_neither_shrink_nor_differ() {
    whatever_befalls("prefix", |change| match change {
        Change::Truncated | Change::EditedBehindItsTime => End::Fails,
        // Its first bytes are the file as it was opened.
        Change::Grown | Change::Replaced | Change::Deleted => End::AsItWas,
    })
    .await;
}

/// Changes the second part when three are stored, and counts at the bucket what is sent again.
async fn only_what_differs_is_sent(setup: Setup) {
    let scene = setup.proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", SIZE);
    let _agent = scene.agent("restaurant-1").env("MAX_PARTS_IN_FLIGHT", "1").start();
    operator.sees("restaurant-1", true).await;
    scene.proxy().hold_parts_after(3);
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    held_after(&scene, 0, 3).await;
    edit(&OpenOptions::new().write(true).open(&path).unwrap(), 6 * MIB);
    scene.proxy().release();
    let download = operator.completes(asked.id).await;
    assert_eq!(download.attempt, 2, "{download:#?}");
    assert_eq!(scene.proxy().confirmed_parts(), [1, 2, 2, 3, 4]);
    let (bytes, _) = operator.fetch(asked.id).await;
    assert_eq!(sha256(&bytes), sha256(&std::fs::read(&path).unwrap()));
    scene.finish().await;
}

/// Replaces the file while nobody has it open and half of the old one is stored: only content decides then.
async fn a_new_file_is_brought_whole(setup: Setup) {
    let scene = setup.proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", SIZE);
    let mut agent = scene.agent("restaurant-1").env("MAX_PARTS_IN_FLIGHT", "1").start();
    operator.sees("restaurant-1", true).await;
    scene.proxy().hold_parts_after(2);
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    held_after(&scene, 0, 2).await;
    agent.kill();
    operator.sees("restaurant-1", false).await;
    // The first part is the same in both, and all of the rest is other bytes.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5 * 1024 * 1024..].reverse();
    let new = scene.site.path("new");
    std::fs::write(&new, &bytes).unwrap();
    std::fs::rename(new, &path).unwrap();
    let before = scene.proxy().confirmed_parts();
    assert_eq!(before, [1, 2]);
    scene.proxy().release();
    agent.start_again();
    let download = operator.completes(asked.id).await;
    assert_eq!(download.attempt, 2, "{download:#?}");
    let (brought, _) = operator.fetch(asked.id).await;
    assert_eq!(sha256(&brought), sha256(&bytes));
    let sent = scene.proxy().confirmed_parts();
    let without_first: Vec<u16> = sent.iter().copied().filter(|part| *part > 1).collect();
    // The part that was held back at the kill may have arrived all the same.
    assert!(without_first == [2, 2, 3, 4] || without_first == [2, 2, 3, 3, 4], "{sent:?}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_sends_only_the_parts_that_differ() {
    only_what_differs_is_sent(Scene::earnest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_replaced_while_its_agent_is_dead_is_brought_as_it_is_now() {
    a_new_file_is_brought_whole(Scene::earnest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweed_fs_never_mixes_though_it_lists_no_checksums() {
    let Some(seaweed) = SeaweedFs::start().await else { return };
    only_what_differs_is_sent(Scene::on(seaweed.server())).await;
    a_new_file_is_brought_whole(Scene::on(seaweed.server())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_stack_never_mixes() {
    let Some(local_stack) = LocalStack::start().await else { return };
    only_what_differs_is_sent(Scene::on(local_stack.server())).await;
    a_new_file_is_brought_whole(Scene::on(local_stack.server())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_in_every_pass_is_given_up_after_three() {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let path = scene.site.random("report", MIB);
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    scene.proxy().hold_parts_after(0);
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    for pass in 1..=3 {
        eventually("the part of this pass", WITHIN, || async {
            let seen = parts_seen(&scene);
            if seen == pass { Ok(()) } else { Err(format!("{seen} parts")) }
        })
        .await;
        edit(&OpenOptions::new().write(true).open(&path).unwrap(), 1000 * pass as u64);
        // This pass may go on; the next is held again.
        scene.proxy().hold_parts_after(pass);
    }
    let (code, message) = operator.fails(asked.id).await;
    assert_eq!(code, "file_changes_too_often");
    assert!(message.contains("3 passes"), "{message}");
    let download = operator.show(asked.id).await;
    assert_eq!(scene.storage.head(&download.object_key.unwrap()).await, None);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_site_chooses_where_the_request_does_not_say() {
    let scene = Scene::earnest().proxied_for_agents().start().await;
    let operator = scene.operator();
    let _agent = scene.agent("restaurant-1").env("ON_CHANGE", "fail").start();
    operator.sees("restaurant-1", true).await;
    for (asks, shown, state) in
        [(None, "fail", State::Failed), (Some("restart"), "restart", State::Completed)]
    {
        let path = scene.site.random(shown, SIZE);
        let before = parts_seen(&scene);
        scene.proxy().hold_parts_after(before + 1);
        let mut body = json!({"file_path": path});
        if let Some(asks) = asks {
            body["on_change"] = json!(asks);
        }
        let asked = operator.ask_with("restaurant-1", &body).await;
        held_after(&scene, before, 1).await;
        assert_eq!(operator.show(asked.id).await.on_change.as_str(), shown);
        Change::Grown.befalls(&path);
        scene.proxy().release();
        let download = operator.ends(asked.id).await;
        assert_eq!((download.state, download.on_change.as_str()), (state, shown), "{download:#?}");
    }
    scene.finish().await;
}
