//! A site behind a thin line: slow is not broken, and a silence costs no more than it lasts.

use std::time::Duration;

use hoist_lab::site::sha256;
use hoist_lab::{Scene, ThinLink, eventually};
use tokio::time::{Instant, sleep_until};

use crate::own_bucket::own_bucket;

const MIB: u64 = 1024 * 1024;

/// Two parts.
const SIZE: u64 = 5 * MIB + MIB / 2;

/// How long the line says nothing: shorter than what the programs call dead.
const SILENCE: Duration = Duration::from_secs(8);

/// How long everything may take: the bytes alone take half a minute.
const THIN: Duration = Duration::from_secs(240);

/// A scene whose site reaches server and bucket over one line, and that line.
async fn scene_behind(
    bytes_per_sec: u64,
    delay: Duration,
    expiry: &str,
) -> (Scene, ThinLink, hoist_depot::Depot, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (depot, place) = own_bucket(folder.path()).await;
    let mut line = ThinLink::new(bytes_per_sec, delay);
    let public = format!("http://{}", line.to(&depot.addr().to_string()));
    let setup = Scene::on(&place).env("S3_PUBLIC_ENDPOINT_URL", &public);
    let scene = setup.env("S3_PRESIGNED_URL_EXPIRY", expiry).start().await;
    (scene, line, depot, folder)
}

/// 2 Mbit/s, 120 ms to the server and back, and the line falls silent twice: 5.5 MiB take 23 s of bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_up_over_two_megabits_that_fall_silent_twice() {
    let (scene, mut line, _depot, _folder) = scene_behind(250_000, Duration::from_millis(60), "15m").await;
    let operator = scene.operator();
    let path = scene.site.random("report", SIZE);
    let ws = format!("ws://{}", line.to(&format!("127.0.0.1:{}", scene.server.port())));
    let _agent = scene.agent("restaurant-1").env("SERVER_WS_URL", ws).start();
    operator.sees("restaurant-1", true).await;
    let began = Instant::now();
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    for after in [2 * MIB, 4 * MIB] {
        eventually("bytes on the line", THIN, || async {
            if line.sent() > after { Ok(()) } else { Err(line.sent().to_string()) }
        })
        .await;
        line.silence(true);
        let before = line.sent();
        // A silence has no condition but time.
        sleep_until(Instant::now() + SILENCE).await;
        assert!(line.sent() - before < 64 * 1024, "bytes came through a silent line");
        line.silence(false);
    }
    let download = eventually("the download to end", THIN, || async {
        let download = operator.show(asked.id).await;
        if download.state.is_final() { Ok(download) } else { Err(format!("{download:#?}")) }
    })
    .await;
    let took = began.elapsed();
    assert_eq!((download.state, download.attempt), (hoist_wire::State::Completed, 1), "{download:#?}");
    let (bytes, _) = operator.fetch(asked.id).await;
    assert_eq!(sha256(&bytes), sha256(&std::fs::read(&path).unwrap()));
    let overhead = line.sent() as f64 / SIZE as f64;
    eprintln!("5.5 MiB over 2 Mbit/s, twice silent for {SILENCE:?}: {took:.1?}, {overhead:.2} x the bytes");
    assert!(overhead < 1.10, "{overhead:.2} x the bytes went over the line: parts were sent again");
    scene.finish().await;
}

/// A part of 5 MiB takes about 11 s, and a grant lives for 15 s: each part needs one of its own, at its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_may_take_most_of_a_grants_life() {
    let (scene, mut line, _depot, _folder) = scene_behind(500_000, Duration::from_millis(60), "15s").await;
    let operator = scene.operator();
    let path = scene.site.random("report", 10 * MIB);
    let ws = format!("ws://{}", line.to(&format!("127.0.0.1:{}", scene.server.port())));
    let _agent = scene.agent("restaurant-1").env("SERVER_WS_URL", ws).start();
    operator.sees("restaurant-1", true).await;
    let asked = operator.ask("restaurant-1", path.to_str().unwrap()).await;
    let download = eventually("the download to end", THIN, || async {
        let download = operator.show(asked.id).await;
        if download.state.is_final() { Ok(download) } else { Err(format!("{download:#?}")) }
    })
    .await;
    assert_eq!((download.state, download.attempt), (hoist_wire::State::Completed, 1), "{download:#?}");
    let overhead = line.sent() as f64 / (10 * MIB) as f64;
    assert!(overhead < 1.10, "{overhead:.2} x the bytes went over the line: parts were sent again");
    let (bytes, _) = operator.fetch(asked.id).await;
    assert_eq!(sha256(&bytes), sha256(&std::fs::read(&path).unwrap()));
    scene.finish().await;
}
