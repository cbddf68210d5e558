//! LocalStack 4.14.0, the last one that needs no account: closest to AWS, knows SSE and lifecycle rules.

use super::process::{Process, free_ports};
use super::{S3Server, get, ready, tool};

/// A running LocalStack with S3 alone.
#[derive(Debug)]
pub struct LocalStack {
    server: S3Server,
    _process: Process,
}

impl LocalStack {
    /// Starts it and waits until it answers; none where it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub async fn start() -> Option<Self> {
        let python = tool("LocalStack", "localstack/bin/python")?;
        let [port] = free_ports();
        let dir = tempfile::tempdir().expect("a folder for LocalStack");
        let fixed = [
            ("USE_SSL", "0"),
            ("GATEWAY_SERVER", "hypercorn"),
            ("SERVICES", "s3"),
            ("STRICT_SERVICE_LOADING", "1"),
            ("EAGER_SERVICE_LOADING", "1"),
            ("DISABLE_EVENTS", "1"),
            ("SKIP_SSL_CERT_DOWNLOAD", "1"),
            ("DNS_ADDRESS", "0"),
            ("S3_SKIP_SIGNATURE_VALIDATION", "0"),
        ];
        let mut env: Vec<(&str, String)> =
            fixed.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        env.push(("GATEWAY_LISTEN", format!("127.0.0.1:{port}")));
        env.push(("FILESYSTEM_ROOT", dir.path().display().to_string()));
        let args = ["-m", "localstack.runtime.main"].map(str::to_owned);
        let mut process = Process::start("LocalStack", dir, &python, &args, &env);
        let health = format!("http://127.0.0.1:{port}/_localstack/health");
        ready(&mut process, || async {
            get(&health).await.is_some_and(|(_, text)| text.contains("\"s3\": \"running\""))
        })
        .await;
        let server = S3Server {
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: "test".to_owned(),
            secret_key: "test".to_owned(),
            region: "us-east-1".to_owned(),
        };
        Some(Self { server, _process: process })
    }

    /// Tells how to reach it.
    pub fn server(&self) -> &S3Server {
        &self.server
    }
}
