//! Saving an object: it appears only when it is right, and the bucket never sees the operator's token.

use std::path::Path;

use crate::fake::{Fake, ID, answer, download, hoist, problem, redirect, run};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server with one completed download, whose object is at `bucket`.
async fn server(bucket: String) -> Fake {
    Fake::start(move |asked, _| {
        if asked.line.ends_with("/file") {
            redirect(&format!("{bucket}/files/report.bin?X-Amz-Signature=s3cret"))
        } else {
            answer(200, &download("completed"))
        }
    })
    .await
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn the_right_object_is_saved_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Fake::start(|_, _| "123456789".into_response()).await;
    let server = server(bucket.url.clone()).await;
    std::fs::write(folder.path().join("out.bin"), "an older one").unwrap();
    let output = run(folder.path(), &server.url, &["watch", ID, "-o", "out.bin"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(std::fs::read(folder.path().join("out.bin")).unwrap(), b"123456789");
    assert_eq!(names(folder.path()), ["out.bin"]);
    assert!(!text.contains("s3cret"), "{text}");
    let asked = bucket.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), None);
    assert!(server.asked().iter().all(|asked| asked.header("authorization").is_some()));
}

#[tokio::test]
async fn a_wrong_object_leaves_no_file() {
    for (body, part) in [
        ("123456780", "CRC64NVME is"),
        ("12345678", "size in bytes is 8"),
        ("1234567890", "size in bytes is more than 9"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Fake::start(move |_, _| body.into_response()).await;
        let server = server(bucket.url.clone()).await;
        let output = run(folder.path(), &server.url, &["watch", ID, "-o", "out.bin"]).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(part) && text.contains("(checksum_mismatch)"), "{text}");
        assert_eq!(names(folder.path()), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_cut_connection_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = server(format!("http://{}", listener.local_addr().unwrap())).await;
    let mut command = hoist(folder.path(), &server.url, &["watch", ID, "-o", "out.bin"]);
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut heads = Vec::new();
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234",
        "HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\nconnection: close\r\n\r\n56789",
    ] {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        heads.push(String::from_utf8(head).unwrap().to_lowercase());
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read(folder.path().join("out.bin")).unwrap(), b"123456789");
    assert!(!heads[0].contains("range:"));
    assert!(
        heads[1].contains("range: bytes=4-\r\n") && heads[2].contains("range: bytes=4-\r\n"),
        "{heads:?}"
    );
    assert_eq!(
        server.lines().iter().filter(|line| line.ends_with("/file")).count(),
        3,
        "a fresh URL each time"
    );
}

#[tokio::test]
async fn a_bucket_that_refuses_is_named_without_the_signature() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Fake::start(|_, _| StatusCode::FORBIDDEN.into_response()).await;
    let server = server(bucket.url.clone()).await;
    let output = run(folder.path(), &server.url, &["watch", ID, "-o", "out.bin"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("the bucket at {} answered 403", bucket.url)), "{text}");
    assert!(!text.contains("s3cret") && names(folder.path()).is_empty(), "{text}");
}

#[tokio::test]
async fn a_link_is_followed_and_what_is_no_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Fake::start(|_, _| "123456789".into_response()).await;
    let server = server(bucket.url.clone()).await;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("disk")).unwrap();
    std::fs::write(path("disk/real.bin"), "an older one").unwrap();
    std::os::unix::fs::symlink("disk/real.bin", path("link")).unwrap();
    let output = run(folder.path(), &server.url, &["watch", ID, "-o", "link"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_link(path("link")).unwrap(), Path::new("disk/real.bin"));
    assert_eq!(std::fs::read(path("disk/real.bin")).unwrap(), b"123456789");
    assert_eq!(names(&path("disk")), ["real.bin"]);

    let asked = server.lines().len();
    std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
    std::os::unix::fs::symlink("/dev/null", path("null")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    for (place, part) in [
        ("dangling", "leads to no file"),
        ("null", "name a file"),
        ("socket", "name a file"),
        ("/dev/full", "device"),
    ] {
        let output = run(folder.path(), &server.url, &["watch", ID, "-o", place]).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{place}: {text}");
        assert!(text.contains(&format!("cannot save to {place}")) && text.contains(part), "{text}");
        assert!(path("dangling").is_symlink() && path("null").is_symlink());
    }
    assert_eq!(server.lines().len(), asked, "nothing is asked for that could not be saved");
}

#[tokio::test]
async fn a_place_where_nothing_can_be_saved_is_found_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let server = Fake::start(|_, _| problem(500, "internal")).await;
    for place in ["missing/out.bin", ".", "/"] {
        let output = run(folder.path(), &server.url, &["download", "restaurant-1", "-o", place]).await;
        assert_eq!(output.status.code(), Some(2), "{place}");
    }
    assert_eq!(server.lines(), [] as [&str; 0]);
}
