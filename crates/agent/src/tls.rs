//! TLS: one configuration for the link and for storage, with the system's authorities and those of the site.
//!
//! Deliberately absent: a way to switch verification off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
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
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// Trusts the system's authorities and those in `extra`.
///
/// # Errors
/// [`TlsError`] where `extra` holds no certificate.
pub(crate) fn client_config(extra: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
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
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_ca_file_without_certificates_names_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(client_config(None).is_ok());
        for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = client_config(Some(&path)).unwrap_err().to_string();
            assert!(error.contains("EXTRA_CA_FILE") && error.contains("ca.pem"), "{error}");
        }
    }
}
