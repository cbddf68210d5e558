//! The link and storage over TLS: an authority of the site's own is trusted when named, and nothing else is.

use std::net::SocketAddr;
use std::sync::Arc;

use hoist_agent::ServerUrl;
use hoist_wire::to_agent::Answer;
use hoist_wire::{Sealed, ToServer};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::support::{Agent, Bucket, Job, Server, soon};

/// Ends TLS as `localhost` and passes on what is inside.
struct Terminator {
    addr: SocketAddr,
    refused: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Terminator {
    async fn start(key: &rcgen::CertifiedKey<rcgen::KeyPair>, to: SocketAddr) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let secret = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], secret)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let refused = CancellationToken::new();
        let note = refused.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut ways = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, note) = (acceptor.clone(), note.clone());
                ways.spawn(async move {
                    let Ok(mut near) = acceptor.accept(tcp).await else { return note.cancel() };
                    let mut far = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { addr, refused, _tasks: tasks }
    }
}

#[tokio::test]
async fn a_named_authority_is_trusted_for_the_link_and_for_storage() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (server, bucket) = (Server::start().await, Bucket::start().await);
    let link_end = Terminator::start(&key, server.addr).await;
    let bucket_end = Terminator::start(&key, bucket.addr).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let agent = Agent::start_with(server.addr, |config| {
        config.server = ServerUrl::parse(&format!("wss://localhost:{}", link_end.addr.port())).unwrap();
        config.extra_ca_file = Some(ca);
    });
    let bytes = agent.file("report", 300_000);
    let (mut link, _) = server.link().await;
    let job = Job::new("report");
    link.start(&job).await;
    assert!(matches!(link.hear().await, ToServer::PartsReady(_)));
    let mut grant = bucket.grant(1, 300_000, 900);
    grant.url = Sealed::new(format!("https://localhost:{}/key?partNumber=1", bucket_end.addr.port()));
    link.answer(&job, 1, Answer::Put(grant)).await;
    let heard = link.serve(&job, &bucket).await;
    assert!(matches!(heard.last(), Some(ToServer::Finished(_))), "{heard:?}");
    assert_eq!(bucket.object(), bytes);
    assert!(agent.stop().await.is_ok());
}

#[tokio::test]
async fn an_unknown_authority_is_not_spoken_to() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let server = Server::start().await;
    let link_end = Terminator::start(&key, server.addr).await;
    let agent = Agent::start_with(server.addr, |config| {
        config.server = ServerUrl::parse(&format!("wss://localhost:{}", link_end.addr.port())).unwrap();
    });
    soon("a refused handshake", link_end.refused.cancelled()).await;
    assert!(agent.stop().await.is_ok());
}
