//! rclone 1.75's `serve s3` on a folder: strict signatures, every part's MD5 and no other checksum, and an upload that is
//! one stream, so that a part which has been passed on cannot be replaced.

use super::process::{Process, free_ports};
use super::{S3Server, get, ready, tool};

/// A running rclone.
#[derive(Debug)]
pub struct Rclone {
    server: S3Server,
    _process: Process,
}

impl Rclone {
    /// Starts it and waits until it answers; none where it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub async fn start() -> Option<Self> {
        let program = tool("rclone", "rclone/bin/rclone")?;
        let [port] = free_ports();
        let dir = tempfile::tempdir().expect("a folder for rclone");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a folder for rclone's data");
        let server = S3Server {
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: "lab".to_owned(),
            secret_key: "lab-secret-key".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let keys = format!("{},{}", server.access_key, server.secret_key);
        let mut args = ["serve", "s3", "--addr"].map(str::to_owned).to_vec();
        args.extend([format!("127.0.0.1:{port}"), "--auth-key".to_owned(), keys]);
        args.push(data.display().to_string());
        let mut process = Process::start("rclone", dir, &program, &args, &[]);
        ready(&mut process, || async { get(&server.endpoint).await.is_some() }).await;
        Some(Self { server, _process: process })
    }

    /// Tells how to reach it.
    pub fn server(&self) -> &S3Server {
        &self.server
    }
}
