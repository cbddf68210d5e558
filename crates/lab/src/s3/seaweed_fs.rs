//! SeaweedFS 4.48: strict signatures, full-object CRC64NVME.

use std::path::PathBuf;

use super::process::{Process, free_ports};
use super::{S3Server, get, ready, tool};

/// What SeaweedFS may hold in one volume, in MiB.
const VOLUME_MIB: u32 = 1024;

/// A running SeaweedFS. It grows volumes for each bucket, so keep to one bucket.
#[derive(Debug)]
pub struct SeaweedFs {
    server: S3Server,
    // Declared before the sockets: the process dies first.
    _process: Process,
    _sockets: Sockets,
}

impl SeaweedFs {
    /// Starts it and waits until it takes writes; none where it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub async fn start() -> Option<Self> {
        let program = tool("SeaweedFS", "seaweedfs/bin/weed")?;
        let [master, volume, filer, s3, grpc @ ..]: [u16; 8] = free_ports();
        let dir = tempfile::tempdir().expect("a folder for SeaweedFS");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a folder for SeaweedFS' data");
        let server = S3Server {
            endpoint: format!("http://127.0.0.1:{s3}"),
            access_key: "lab".to_owned(),
            secret_key: "lab-secret".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let config = dir.path().join("s3.json");
        let identities = format!(
            r#"{{"identities":[{{"name":"admin","credentials":[{{"accessKey":"{}","secretKey":"{}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#,
            server.access_key, server.secret_key
        );
        std::fs::write(&config, identities).expect("SeaweedFS' identities");
        let mut args: Vec<String> = [
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-volume.max=200",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        .map(str::to_owned)
        .to_vec();
        args.push(format!("-dir={}", data.display()));
        args.push(format!("-master.volumeSizeLimitMB={VOLUME_MIB}"));
        args.push(format!("-s3.config={}", config.display()));
        for (name, port, its_grpc) in [
            ("master", master, grpc[0]),
            ("volume", volume, grpc[1]),
            ("filer", filer, grpc[2]),
            ("s3", s3, grpc[3]),
        ] {
            args.push(format!("-{name}.port={port}"));
            args.push(format!("-{name}.port.grpc={its_grpc}"));
        }
        for name in ["filer", "s3"] {
            args.push(format!("-{name}.localSocket={}", dir.path().join(name).display()));
        }
        let sockets = Sockets(grpc);
        let mut process = Process::start("SeaweedFS", dir, &program, &args, &[]);
        let assign = format!("http://127.0.0.1:{master}/dir/assign");
        ready(&mut process, || async {
            // The gateway may answer before there is a volume to write to.
            let writes = get(&assign).await.is_some_and(|(_, text)| text.contains("\"fid\""));
            writes && get(&server.endpoint).await.is_some()
        })
        .await;
        Some(Self { server, _process: process, _sockets: sockets })
    }

    /// Tells how to reach it.
    pub fn server(&self) -> &S3Server {
        &self.server
    }
}

/// The sockets that SeaweedFS leaves in `/tmp`, by the ports of its gRPC servers.
#[derive(Debug)]
struct Sockets([u16; 4]);

impl Drop for Sockets {
    fn drop(&mut self) {
        for (name, port) in ["master", "volume", "filer", "s3"].iter().zip(self.0) {
            // One that is not there is not left behind.
            let _ = std::fs::remove_file(PathBuf::from(format!("/tmp/seaweedfs-{name}-grpc-{port}.sock")));
        }
    }
}
