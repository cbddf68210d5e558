//! TLS for the link and for storage, with the system's authorities and those of the site; the agent's own certificate is
//! shown to the server alone.
//!
//! Deliberately absent: a way to switch verification off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The extra authorities cannot be read.
    #[error("EXTRA_CA_FILE {path:?} cannot be used: {why}; give a file with certificates in PEM")]
    ExtraCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The agent's own certificate cannot be used.
    #[error(
        "{setting} {path:?} cannot be used: {why}; give the certificate and its key in PEM, without a passphrase"
    )]
    ClientCert {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// A certificate of the agent's own, which the server or a proxy before it may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate and what leads to its authority, in PEM.
    pub cert_file: PathBuf,
    /// Its key, in PEM.
    pub key_file: PathBuf,
}

/// Trusts the system's authorities and those in `extra`, and shows `own` where it is asked for.
///
/// # Errors
/// [`TlsError`] where `extra` holds no certificate, or `own` cannot be used.
pub(crate) fn client_config(
    extra: Option<&Path>,
    own: Option<&ClientCert>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut trusted = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
    }
    trusted.add_parsable_certificates(system.certs);
    if let Some(path) = extra {
        let bad = |why: String| TlsError::ExtraCa { path: path.to_owned(), why };
        let certs = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| bad(error.to_string()))?;
        if certs.is_empty() {
            return Err(bad("it holds no certificate".to_owned()));
        }
        for cert in certs {
            trusted.add(cert).map_err(|error| bad(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(trusted);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.read()?;
            let bad = |error: rustls::Error| own.bad_cert(error.to_string());
            builder.with_client_auth_cert(chain, key).map_err(bad)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl ClientCert {
    fn bad_cert(&self, why: String) -> TlsError {
        TlsError::ClientCert { setting: "CLIENT_CERT_FILE", path: self.cert_file.clone(), why }
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = CertificateDer::pem_file_iter(&self.cert_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| self.bad_cert(error.to_string()))?;
        if chain.is_empty() {
            return Err(self.bad_cert("it holds no certificate".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key_file).map_err(|error| TlsError::ClientCert {
            setting: "CLIENT_KEY_FILE",
            path: self.key_file.clone(),
            why: error.to_string(),
        })?;
        Ok((chain, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_ca_file_without_certificates_names_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(client_config(None, None).is_ok());
        for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = client_config(Some(&path), None).unwrap_err().to_string();
            assert!(error.contains("EXTRA_CA_FILE") && error.contains("ca.pem"), "{error}");
        }
    }

    #[test]
    fn a_certificate_of_the_agents_own_that_cannot_be_used_names_itself() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["site".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["site".to_owned()]).unwrap();
        let own = ClientCert { cert_file: dir.path().join("c.pem"), key_file: dir.path().join("k.pem") };
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (cert, key, named) in [
            ("", key.as_str(), "CLIENT_CERT_FILE"),
            (cert.as_str(), "", "CLIENT_KEY_FILE"),
            (cert.as_str(), &other.signing_key.serialize_pem(), "CLIENT_CERT_FILE"),
        ] {
            std::fs::write(&own.cert_file, cert).unwrap();
            std::fs::write(&own.key_file, key).unwrap();
            let error = client_config(None, Some(&own)).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("PRIVATE"), "{error}");
        }
        std::fs::write(&own.key_file, &key).unwrap();
        assert!(client_config(None, Some(&own)).is_ok());
    }
}
