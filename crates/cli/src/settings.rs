//! Settings from the environment, and chance from the system.

use secrecy::SecretString;
use url::Url;

use crate::failure::Failure;

/// Gives a setting; an empty one counts as absent, as in `.env.example`.
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Gives a setting that must not be shown.
pub(crate) fn secret(name: &str) -> Option<SecretString> {
    text(name).map(SecretString::from)
}

/// Gives the server's URL.
///
/// # Errors
/// [`Failure::Input`] when `SERVER_URL` is no URL.
pub(crate) fn server_url() -> Result<Url, Failure> {
    let text = text("SERVER_URL").unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    text.parse().map_err(|error| Failure::Input(format!("SERVER_URL is no URL: {error}")))
}

/// Makes an id of 128 random bits.
///
/// # Errors
/// [`Failure::Input`] when the system has no chance to give.
pub(crate) fn random_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Input(format!("no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
