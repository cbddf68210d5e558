//! TLS in the server itself, with an authority of one's own: certificates that change, agents that show one, and who is not
//! trusted.

use std::path::{Path, PathBuf};

use hoist_lab::cli::Cli;
use hoist_lab::{Scene, WITHIN, eventually};
use hoist_wire::rest::Scope;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority, and its files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Writes a certificate for this machine, and its key.
    fn issue(&self, cert: &Path, key: &Path) {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(cert, params.signed_by(&pair, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(key, pair.serialize_pem()).unwrap();
    }
}

/// A server with a certificate.
struct Place {
    scene: Scene,
    authority: Authority,
    cert: PathBuf,
    key: PathBuf,
    folder: tempfile::TempDir,
}

async fn place(agents_show_one: bool) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "one");
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    authority.issue(&cert, &key);
    let mut setup = Scene::earnest()
        .env("TLS_CERT_FILE", cert.to_str().unwrap())
        .env("TLS_KEY_FILE", key.to_str().unwrap());
    if agents_show_one {
        setup = setup.env("TLS_CLIENT_CA_FILE", authority.file.to_str().unwrap());
    }
    Place { scene: setup.start().await, authority, cert, key, folder }
}

impl Place {
    fn cli(&self, authority: &Authority) -> Cli {
        let token = self.scene.operator_token(&[Scope::Read, Scope::Download]);
        self.scene.cli().env("OPERATOR_TOKEN", &token).env("EXTRA_CA_FILE", authority.file.to_str().unwrap())
    }
}

#[tokio::test]
async fn a_file_comes_up_over_tls_and_a_renewed_certificate_is_shown_without_a_restart() {
    let place = place(false).await;
    assert!(place.scene.server.url().starts_with("https://"));
    place.scene.site.random("report", 6 << 20);
    let agent = place.scene.agent("restaurant-1").env("EXTRA_CA_FILE", &place.authority.file).start();
    let cli = place.cli(&place.authority);
    let ended = cli.run(&["download", "restaurant-1", "report", "--allow-unknown"]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);

    let stranger = place.scene.cli().run(&["list"]).await;
    assert_eq!(stranger.code, 3, "{}", stranger.stderr);

    // Another authority, whose key comes late: the pair is broken for a moment.
    let other = Authority::new(place.folder.path(), "two");
    let (late, early) = (place.folder.path().join("late"), place.folder.path().join("early"));
    other.issue(&early, &late);
    std::fs::copy(&early, &place.cert).unwrap();
    eventually("the broken pair to be told", WITHIN, || {
        let log = place.scene.server.log();
        async move { log.contains("the certificate that is shown stays").then_some(()).ok_or(log) }
    })
    .await;
    let still = place.cli(&place.authority).run(&["list"]).await;
    assert_eq!(still.code, 0, "{}", still.stderr);
    std::fs::copy(&late, &place.key).unwrap();
    eventually("the new certificate", WITHIN, || async {
        let ended = place.cli(&other).run(&["list"]).await;
        if ended.code == 0 { Ok(()) } else { Err(ended.stderr) }
    })
    .await;
    assert_eq!(place.cli(&place.authority).run(&["list"]).await.code, 3, "the old one is shown no more");
    let status = place.cli(&other).run(&["--json", "status", "restaurant-1"]).await;
    assert!(status.stdout.contains("\"connected\":true"), "the link has lived on: {}", status.stdout);
    assert_eq!(agent.log().matches("linked").count().max(1), 1, "and was not opened anew");
    drop(agent);
    place.scene.finish().await;
}

#[tokio::test]
async fn an_agent_says_what_is_wrong_with_a_certificate_that_it_does_not_trust() {
    let place = place(false).await;
    let agent = place.scene.agent("restaurant-1").start();
    eventually("the mend in the agent's log", WITHIN, || {
        let log = agent.log();
        async move { log.contains("EXTRA_CA_FILE").then_some(()).ok_or(log) }
    })
    .await;
    drop(agent);
    place.scene.finish().await;
}

#[tokio::test]
async fn where_agents_must_show_a_certificate_a_token_alone_opens_no_link() {
    let place = place(true).await;
    let bare = place.scene.agent("restaurant-1").env("EXTRA_CA_FILE", &place.authority.file).start();
    eventually("the refusal", WITHIN, || {
        let log = bare.log();
        async move { log.contains("TLS_CLIENT_CA_FILE").then_some(()).ok_or(log) }
    })
    .await;
    drop(bare);
    let other = Authority::new(place.folder.path(), "two");
    let (cert, key) = (place.folder.path().join("agent.pem"), place.folder.path().join("agent.key"));
    let start = |name: &str| {
        let setup = place.scene.agent(name).env("EXTRA_CA_FILE", &place.authority.file);
        setup.env("CLIENT_CERT_FILE", &cert).env("CLIENT_KEY_FILE", &key).start()
    };
    other.issue(&cert, &key);
    let foreign = start("restaurant-2");
    eventually("the foreign certificate to be refused", WITHIN, || {
        let (log, server) = (foreign.log(), place.scene.server.log());
        async move { server.contains("a TLS handshake failed").then_some(()).ok_or(log) }
    })
    .await;
    drop(foreign);
    place.authority.issue(&cert, &key);
    place.scene.site.random("report", 1000);
    let agent = start("restaurant-3");
    let cli = place.cli(&place.authority);
    let ended = cli.run(&["download", "restaurant-3", "report", "--allow-unknown"]).await;
    assert_eq!(ended.code, 0, "operators need no certificate: {}", ended.stderr);
    drop(agent);
    place.scene.finish().await;
}
