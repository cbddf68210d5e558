//! Runs a depot by hand: `depot DIR [ADDR]`, keys from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.

use std::error::Error;
use std::io::Read as _;

use hoist_depot::{Depot, DepotConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: depot DIR [ADDR]")?.into();
    let bind = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let depot = Depot::start(DepotConfig {
        dir,
        bind,
        access_key: std::env::var("AWS_ACCESS_KEY_ID")?,
        secret_key: std::env::var("AWS_SECRET_ACCESS_KEY")?.into(),
        region: std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned()),
    })
    .await?;
    println!("listening on {}", depot.endpoint_url());
    // It runs until its standard input ends: Ctrl-D, or the end of whoever started it.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    depot.stop().await;
    Ok(())
}
