//! The answer to a connection that is not taken: written once, by hand, because there is little left to give.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Full;

/// How long a connection that is turned away may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// Most bytes of its request that are taken and thrown away, so that the answer is not lost to a reset.
const MAX_THROWN: usize = 16 * 1024;

/// Answers 503 (429 where it is the address that has too many) and closes.
pub(super) async fn answer(mut stream: TcpStream, full: Full) {
    let (status, code, detail) = match full {
        Full::Server => (
            "503 Service Unavailable",
            "not_ready",
            "the server has no room for another connection: try again later",
        ),
        Full::Address => (
            "429 Too Many Requests",
            "too_many_attempts",
            "this address has too many connections on which nobody has shown who it is: try again later",
        ),
    };
    let number = status.split(' ').next().unwrap_or_default();
    let title = status.split_once(' ').map_or("", |(_, title)| title);
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{number},"detail":"{detail}","code":"{code}"}}"#
    );
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nretry-after: 10\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = timeout(GONE_WITHIN, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        let (mut thrown, mut buffer) = (0, [0; 1024]);
        while thrown < MAX_THROWN {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => thrown += n,
            }
        }
        Ok::<_, std::io::Error>(())
    })
    .await;
}
