//! The agent's own key, and what it was told when it enrolled: one file, which its user alone can read.
//!
//! Deliberately absent: the network (`enrol`). A key is on the disk before the server hears of it, so that no lost answer and no
//! power cut leaves the server with a key that nobody has.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoist_wire::ClientId;
use hoist_wire::Sealed;
use hoist_wire::identity::{EnrollReply, EnrollRequest, PROOF_LIFE_SECS, ProofClaims, enrollment_text};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::platform;

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("AGENT_KEY_FILE {path:?} cannot be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others can read it.
    #[error(
        "AGENT_KEY_FILE {path:?} can be read by others (mode {mode:o}): chmod 600 it, and if somebody may have read it, enrol again"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// It holds something else.
    #[error(
        "AGENT_KEY_FILE {path:?} holds no key of hoist ({why}): move it away, and enrol with `hoist token enroll`"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key belongs to another server.
    #[error(
        "AGENT_KEY_FILE {path:?} was enrolled at {enrolled}, and SERVER_WS_URL names {dialled}: a key is shown to no other server; \
        enrol anew (`hoist token enroll`, ENROLL_TOKEN) with another AGENT_KEY_FILE, or mend SERVER_WS_URL"
    )]
    OtherServer {
        /// The file.
        path: PathBuf,
        /// Where it was enrolled.
        enrolled: String,
        /// Where the agent dials.
        dialled: String,
    },
    /// There is no key yet, and nothing to enrol one with.
    #[error(
        "AGENT_KEY_FILE {0:?} has no enrolled key, and ENROLL_TOKEN is not set: make one with `hoist token enroll ID`"
    )]
    NotEnrolled(PathBuf),
    /// The system gives no randomness, or the library no key.
    #[error("no key can be made: the system gives no random bytes")]
    Random,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The key that the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolled: Option<Enrolled>,
    /// A key that is on its way to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolled {
    private_key: Sealed,
    client_id: ClientId,
    server_id: String,
    storage_hosts: Vec<String>,
    server: String,
    /// Of the one-time token: the same one, still in the environment, enrols nothing again.
    token_sha256: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    private_key: Sealed,
    token_sha256: String,
}

/// The file, and what it held when it was read.
pub(crate) struct KeyFile {
    path: PathBuf,
    kept: Kept,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A key that is to be enrolled.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) request: EnrollRequest,
    token_sha256: String,
}

impl KeyFile {
    /// Reads the file; one that is not there is empty.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let text = match platform::read_private(path) {
            Ok(Ok(text)) => SecretString::from(text),
            Ok(Err(mode)) => return Err(KeyError::Open { path: path.to_owned(), mode }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), kept: Kept { enrolled: None, pending: None } });
            }
            Err(error) => return Err(failed(error)),
        };
        let bad = |why: String| KeyError::Content { path: path.to_owned(), why };
        // serde would quote what it found, and that may be the key.
        let kept: Kept = serde_json::from_str(text.expose_secret())
            .map_err(|error| bad(format!("line {}, column {}", error.line(), error.column())))?;
        for key in [
            kept.enrolled.as_ref().map(|it| &it.private_key),
            kept.pending.as_ref().map(|it| &it.private_key),
        ] {
            key.map(pair).transpose().map_err(bad)?;
        }
        Ok(Self { path: path.to_owned(), kept })
    }

    /// Gives the identity that is enrolled, for the server at `dialled` alone.
    ///
    /// # Errors
    /// [`KeyError::OtherServer`].
    pub(crate) fn identity(&self, dialled: &str) -> Result<Option<OwnKey>, KeyError> {
        let Some(enrolled) = &self.kept.enrolled else { return Ok(None) };
        if enrolled.server != dialled {
            return Err(KeyError::OtherServer {
                path: self.path.clone(),
                enrolled: enrolled.server.clone(),
                dialled: dialled.to_owned(),
            });
        }
        let pair = pair(&enrolled.private_key);
        let pair = pair.map_err(|why| KeyError::Content { path: self.path.clone(), why })?;
        Ok(Some(OwnKey {
            pair,
            client_id: enrolled.client_id.clone(),
            server_id: enrolled.server_id.clone(),
            storage_hosts: enrolled.storage_hosts.clone(),
        }))
    }

    /// Says that there is no key to work with.
    pub(crate) fn not_enrolled(&self) -> KeyError {
        KeyError::NotEnrolled(self.path.clone())
    }

    /// Tells whether a one-time token is another one than that which the enrolled key came with.
    pub(crate) fn is_new(&self, token: &SecretString) -> bool {
        self.kept.enrolled.as_ref().is_none_or(|enrolled| enrolled.token_sha256 != hash(token))
    }

    /// Gives what to enrol with this token: a key that is on the disk by now. The same token has the same key again.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn offer(&mut self, token: &SecretString) -> Result<Offer, KeyError> {
        let token_sha256 = hash(token);
        let pending = self.kept.pending.take().filter(|pending| pending.token_sha256 == token_sha256);
        let pending = match pending {
            Some(pending) => pending,
            None => {
                let made =
                    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
                Pending {
                    private_key: Sealed::new(URL_SAFE_NO_PAD.encode(made)),
                    token_sha256: token_sha256.clone(),
                }
            }
        };
        let pair = pair(&pending.private_key);
        let pair = pair.map_err(|why| KeyError::Content { path: self.path.clone(), why })?;
        self.kept.pending = Some(pending);
        self.write()?;
        let public_key = URL_SAFE_NO_PAD.encode(pair.public_key());
        let proof = URL_SAFE_NO_PAD.encode(pair.sign(enrollment_text(&token_sha256, &public_key).as_bytes()));
        let token = Sealed::new(token.expose_secret().trim().to_owned());
        Ok(Offer { request: EnrollRequest { token, public_key, proof }, token_sha256 })
    }

    /// Keeps what the server answered: the key is the client's from now on.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn enrolled(
        &mut self,
        offer: Offer,
        reply: EnrollReply,
        dialled: &str,
    ) -> Result<(), KeyError> {
        let EnrollReply { client_id, server_id, storage_hosts, server_time: _ } = reply;
        let Some(Pending { private_key, .. }) = self.kept.pending.take() else {
            return Err(KeyError::Content {
                path: self.path.clone(),
                why: "the key that was enrolled is gone".to_owned(),
            });
        };
        let (server, token_sha256) = (dialled.to_owned(), offer.token_sha256);
        self.kept.enrolled =
            Some(Enrolled { private_key, client_id, server_id, storage_hosts, server, token_sha256 });
        self.write()
    }

    fn write(&self) -> Result<(), KeyError> {
        let failed = |source| KeyError::File { path: self.path.clone(), source };
        let text =
            serde_json::to_string_pretty(&self.kept).map_err(|error| failed(io::Error::other(error)))?;
        platform::write_private(&self.path, &text).map_err(failed)
    }
}

fn pair(private_key: &Sealed) -> Result<Ed25519KeyPair, String> {
    let bytes =
        URL_SAFE_NO_PAD.decode(private_key.open()).map_err(|_| "its key is not base64url".to_owned())?;
    Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| "its key is no Ed25519 key in PKCS#8".to_owned())
}

fn hash(token: &SecretString) -> String {
    Sha256::digest(token.expose_secret().trim()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An enrolled key, and whose it is.
#[derive(Debug)]
pub struct OwnKey {
    pair: Ed25519KeyPair,
    pub(crate) client_id: ClientId,
    server_id: String,
    /// The hosts of the bucket, as they were named at enrolment.
    pub(crate) storage_hosts: Vec<String>,
}

impl OwnKey {
    /// Signs a proof for one link; `now_secs` is the time by the server's clock, as well as it is known.
    pub(crate) fn prove(&self, nonce: &str, now_secs: u64, id: &str) -> SecretString {
        let claims = ProofClaims {
            sub: self.client_id.to_string(),
            aud: self.server_id.clone(),
            iat: now_secs,
            exp: now_secs.saturating_add(PROOF_LIFE_SECS),
            jti: id.to_owned(),
            nonce: nonce.to_owned(),
        };
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let head = URL_SAFE_NO_PAD.encode(br#"{"typ":"JWT","alg":"EdDSA"}"#);
        let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(text.as_bytes()));
        SecretString::from(format!("{text}.{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn token(text: &str) -> SecretString {
        SecretString::from(text)
    }

    fn reply() -> EnrollReply {
        EnrollReply {
            client_id: "restaurant-1".parse().unwrap(),
            server_id: "s".to_owned(),
            storage_hosts: vec!["s3.example.com".to_owned()],
            server_time: hoist_wire::Timestamp::default(),
        }
    }

    #[test]
    fn a_key_is_on_the_disk_before_it_is_shown_and_a_lost_answer_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let first = KeyFile::read(&path).unwrap().offer(&token("enroll_a")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = KeyFile::read(&path).unwrap();
        let offer = again.offer(&token("enroll_a")).unwrap();
        assert_eq!(offer.request.public_key, first.request.public_key, "the same token has the same key");
        assert!(again.identity("h:1").unwrap().is_none());
        again.enrolled(offer, reply(), "h:1").unwrap();
        let known = KeyFile::read(&path).unwrap();
        assert_eq!(known.identity("h:1").unwrap().unwrap().client_id.as_str(), "restaurant-1");
        assert!(!known.is_new(&token("enroll_a")) && known.is_new(&token("enroll_b")));
        assert!(matches!(known.identity("other:1"), Err(KeyError::OtherServer { .. })));
    }

    #[test]
    fn a_new_token_makes_a_new_key_and_the_old_one_works_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut file = KeyFile::read(&path).unwrap();
        let offer = file.offer(&token("enroll_a")).unwrap();
        let old = offer.request.public_key.clone();
        file.enrolled(offer, reply(), "h:1").unwrap();
        let mut file = KeyFile::read(&path).unwrap();
        let offer = file.offer(&token("enroll_b")).unwrap();
        assert_ne!(offer.request.public_key, old);
        assert!(KeyFile::read(&path).unwrap().identity("h:1").unwrap().is_some());
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_none_is_refused_and_nothing_of_it_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        drop(KeyFile::read(&path).unwrap().offer(&token("enroll_a")).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyFile::read(&path).unwrap_err();
        assert!(matches!(error, KeyError::Open { .. }) && error.to_string().contains("640"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for text in [
            "",
            "{",
            "secret-secret",
            r#"{"enrolled": {"private_key": "secret-secret"}}"#,
            r#"{"pending": {"private_key": "c2VjcmV0", "token_sha256": ""}}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let error = KeyFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("AGENT_KEY_FILE") && !error.contains("secret"), "{error}");
        }
    }
}
