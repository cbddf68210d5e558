//! Who may sign: the one key of the configuration, and keys that were lent for a while.
//!
//! A lent key comes with a session token, which each request must show, and ends at its time, as those of STS do.
//! Keys are lent by the program that runs the depot alone: no request can ask for one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};
use secrecy::{ExposeSecret as _, SecretString};

/// A key that ends by itself.
#[derive(Clone)]
pub struct TemporaryKey {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
    /// What a request must show beside its signature.
    pub session_token: SecretString,
    /// When it ends. URLs that it signed end with it.
    pub expires_at: SystemTime,
}

impl fmt::Debug for TemporaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access_key, expires_at, .. } = self;
        f.debug_struct("TemporaryKey")
            .field("access_key", access_key)
            .field("expires_at", expires_at)
            .finish_non_exhaustive()
    }
}

/// All keys of a depot.
#[derive(Debug)]
pub(crate) struct Keys {
    access_key: String,
    secret_key: SecretString,
    lent: Mutex<HashMap<String, TemporaryKey>>,
}

impl Keys {
    pub(crate) fn new(access_key: String, secret_key: SecretString) -> Self {
        Self { access_key, secret_key, lent: Mutex::default() }
    }

    /// Takes a key until its end. It stays known after that, so that the refusal can say why.
    pub(crate) fn lend(&self, key: TemporaryKey) {
        self.lent().insert(key.access_key.clone(), key);
    }

    /// Checks the session token that a request shows, and whether its key still lives. Unknown keys pass: the protocol
    /// crate refuses them.
    ///
    /// # Errors
    /// The refusal, as S3 codes it.
    pub(crate) fn check(&self, access_key: &str, token: Option<&str>, now: SystemTime) -> S3Result<()> {
        let lent = self.lent();
        let expected = lent.get(access_key);
        if token != expected.map(|key| key.session_token.expose_secret()) {
            return Err(s3_error!(InvalidToken, "the session token is not the one of this access key"));
        }
        match expected {
            Some(key) if key.expires_at <= now => Err(s3_error!(ExpiredToken, "the key has expired")),
            Some(_) | None => Ok(()),
        }
    }

    fn lent(&self) -> MutexGuard<'_, HashMap<String, TemporaryKey>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys as the protocol crate asks for them.
#[derive(Debug)]
pub(crate) struct Signers(pub(crate) Arc<Keys>);

#[async_trait::async_trait]
impl S3Auth for Signers {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let Self(keys) = self;
        if access_key == keys.access_key {
            return Ok(SecretKey::from(keys.secret_key.expose_secret()));
        }
        let lent = keys.lent();
        let key = lent.get(access_key).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        Ok(SecretKey::from(key.secret_key.expose_secret()))
    }
}
