//! TLS of the server itself: certificate and key, read again when their files change.
//!
//! Deliberately absent: getting certificates. Whatever renews them writes the files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. Whoever cannot wait sends SIGHUP.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate and what leads to its authority, in PEM.
    pub cert_file: PathBuf,
    /// Its key, in PEM.
    pub key_file: PathBuf,
    /// Authorities of agents' certificates; none where agents need not show one.
    pub client_ca_file: Option<PathBuf>,
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{setting}={} cannot be used: {why}", path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the mend.
        why: String,
    },
    /// The two do not belong together, or rustls will not have them.
    #[error(
        "TLS_CERT_FILE={} and TLS_KEY_FILE={} cannot be used together: {source}; give the certificate of this very key",
        cert.display(),
        key.display()
    )]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
}

/// The certificate that is shown now.
pub struct Certificates {
    settings: TlsSettings,
    current: RwLock<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// What the files held, so that a change shows.
    digest: [u8; 32],
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn read(settings: TlsSettings) -> Result<Self, TlsError> {
        let files = Files::read(&settings)?;
        let acceptor = files.acceptor(&settings)?;
        Ok(Self { settings, current: RwLock::new(Current { acceptor, digest: files.digest() }) })
    }

    /// Gives what takes the next handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// Reads the files again where they have changed. Connections that are open keep what they have.
    fn look(&self) -> Result<bool, TlsError> {
        let files = Files::read(&self.settings)?;
        let digest = files.digest();
        if self.current.read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return Ok(false);
        }
        let acceptor = files.acceptor(&self.settings)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { acceptor, digest };
        Ok(true)
    }

    /// Looks at the files again and again, until the stop. What cannot be used leaves the old ones, and is said once.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be heard: the certificate is looked at every few seconds all the same");
                None
            }
        };
        let mut said = String::new();
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                _ = hung_up => said.clear(),
                () = sleep(LOOK_EVERY) => {}
            }
            match self.look() {
                Ok(true) => {
                    said.clear();
                    tracing::info!(file = %self.settings.cert_file.display(), "the certificate was read again");
                }
                Ok(false) => said.clear(),
                Err(error) => {
                    let text = crate::links::chain(&error);
                    if text != said {
                        tracing::error!(
                            error = text,
                            "the certificate that is shown stays: the new one cannot be used"
                        );
                        said = text;
                    }
                }
            }
        }
    }
}

/// What the files hold.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let ca = settings.client_ca_file.as_deref().map(|path| bytes("TLS_CLIENT_CA_FILE", path));
        Ok(Self {
            cert: bytes("TLS_CERT_FILE", &settings.cert_file)?,
            key: bytes("TLS_KEY_FILE", &settings.key_file)?,
            client_ca: ca.transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for file in [&self.cert, &self.key].into_iter().chain(&self.client_ca) {
            hash.update(file.len().to_be_bytes());
            hash.update(file);
        }
        hash.finalize().into()
    }

    fn acceptor(&self, settings: &TlsSettings) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates("TLS_CERT_FILE", &settings.cert_file, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| TlsError::File {
            setting: "TLS_KEY_FILE",
            path: settings.key_file.clone(),
            why: format!("it holds no private key in PEM ({error}); give the key without a passphrase"),
        })?;
        let pair = |source| TlsError::Pair {
            cert: settings.cert_file.clone(),
            key: settings.key_file.clone(),
            source,
        };
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = match (&settings.client_ca_file, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let bad = |why: String| TlsError::File {
                    setting: "TLS_CLIENT_CA_FILE",
                    path: path.clone(),
                    why: format!("{why}; give the certificates of your authority in PEM"),
                };
                let mut roots = RootCertStore::empty();
                for cert in certificates("TLS_CLIENT_CA_FILE", path, pem)? {
                    roots.add(cert).map_err(|error| bad(error.to_string()))?;
                }
                // Who shows none is let in as far as pages that ask for none.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| bad(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            (None, _) | (_, None) => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn bytes(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::File {
        setting,
        path: path.to_owned(),
        why: format!("{error}; let the server's user read it"),
    })
}

fn certificates(
    setting: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |why: String| TlsError::File { setting, path: path.to_owned(), why };
    let certs = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certs = certs.map_err(|error| bad(format!("it is no PEM ({error})")))?;
    if certs.is_empty() {
        return Err(bad(String::from("it holds no certificate in PEM")));
    }
    Ok(certs)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn write(dir: &Path, cert: &str, key: &str) -> TlsSettings {
        let settings = TlsSettings {
            cert_file: dir.join("cert.pem"),
            key_file: dir.join("key.pem"),
            client_ca_file: None,
        };
        std::fs::write(&settings.cert_file, cert).unwrap();
        std::fs::write(&settings.key_file, key).unwrap();
        settings
    }

    fn pair() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_bad_file_names_its_setting() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key), (_, other)) = (pair(), pair());
        for (cert, key, named) in [
            ("", key.as_str(), "TLS_CERT_FILE"),
            (key.as_str(), key.as_str(), "TLS_CERT_FILE"),
            (cert.as_str(), "", "TLS_KEY_FILE"),
            (cert.as_str(), cert.as_str(), "TLS_KEY_FILE"),
            (cert.as_str(), other.as_str(), "together"),
        ] {
            let error = Certificates::read(write(dir.path(), cert, key)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
        let settings = write(dir.path(), &cert, &key);
        assert!(Certificates::read(settings.clone()).is_ok());
        std::fs::remove_file(&settings.key_file).unwrap();
        assert!(Certificates::read(settings).unwrap_err().to_string().contains("key.pem"));
    }

    #[test]
    fn a_pair_that_changes_is_read_again_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key), (new_cert, new_key)) = (pair(), pair());
        let certificates = Certificates::read(write(dir.path(), &cert, &key)).unwrap();
        assert!(!certificates.look().unwrap());
        // Half of the change is on the disk.
        std::fs::write(dir.path().join("cert.pem"), &new_cert).unwrap();
        assert!(certificates.look().is_err());
        std::fs::write(dir.path().join("key.pem"), &new_key).unwrap();
        assert!(certificates.look().unwrap());
        assert!(!certificates.look().unwrap());
    }
}
