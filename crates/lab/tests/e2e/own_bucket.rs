//! A bucket in this process: it outlives the servers of a test, and several can share it.

use std::net::SocketAddr;
use std::path::Path;

use hoist_depot::{Depot, DepotConfig};
use hoist_lab::s3::S3Server;

/// Starts a bucket that outlives whatever uses it.
pub(crate) async fn own_bucket(dir: &Path) -> (Depot, S3Server) {
    let depot = Depot::start(DepotConfig {
        dir: dir.to_owned(),
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        access_key: "lab".to_owned(),
        secret_key: "the-secret-of-the-labs-bucket".to_owned().into(),
        region: "us-east-1".to_owned(),
    })
    .await
    .unwrap();
    let place = S3Server {
        endpoint: depot.endpoint_url(),
        access_key: "lab".to_owned(),
        secret_key: "the-secret-of-the-labs-bucket".to_owned(),
        region: "us-east-1".to_owned(),
    };
    (depot, place)
}
