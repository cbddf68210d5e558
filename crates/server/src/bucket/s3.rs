//! A bucket that speaks S3: its configuration, and the SDK's clients set up for it.
//!
//! Deliberately absent: the calls (`calls`, `listing`), what is signed (`grants`), what is tried at the start (`probe`).

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::types::ServerSideEncryption;
use hoist_wire::ChecksumKind;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::credentials::Signer;
use super::errors::Place;

/// Longest time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for one try of a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest time for a call, its retries included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for Complete: storage joins the parts before it answers.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Tries of a call that only reads.
const READ_ATTEMPTS: u32 = 3;

/// How storage is asked to encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sse {
    /// With storage's own key (`AES256`).
    Aes256,
    /// With the bucket's KMS key (`aws:kms`).
    Kms,
    /// As the bucket does by itself.
    None,
}

impl Sse {
    pub(super) fn as_header(self) -> Option<ServerSideEncryption> {
        match self {
            Self::Aes256 => Some(ServerSideEncryption::Aes256),
            Self::Kms => Some(ServerSideEncryption::AwsKms),
            Self::None => None,
        }
    }
}

/// Two fixed values instead of the default chain of credentials.
#[derive(Debug, Clone)]
pub struct StaticCredentials {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
}

/// Which bucket, where, and how to speak to it.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The bucket's name.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Where the server reaches storage; none for AWS. With one, buckets are named in the path.
    pub endpoint: Option<Url>,
    /// Where agents reach storage, if elsewhere: the host is signed.
    pub public_endpoint: Option<Url>,
    /// Where operators reach storage, if elsewhere than agents.
    pub download_endpoint: Option<Url>,
    /// What every key starts with; the probe writes below it.
    pub prefix: String,
    /// How storage is asked to encrypt.
    pub sse: Sse,
    /// Fixed credentials; none for the default chain (environment, profile, web identity, ECS, IMDS).
    pub credentials: Option<StaticCredentials>,
    /// The strongest proof to try for, `crc64nvme` as a rule; weaker ones follow where it does not work.
    pub strongest: ChecksumKind,
    /// Whether a bucket that cannot prove what it stored is taken all the same.
    pub allow_unproven: bool,
    /// Entries asked for in one page of a listing; none for storage's own size (1,000).
    pub page_size: Option<u16>,
}

/// An endpoint that nobody can dial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {url:?} is not an endpoint: use http://host:port or https://host, without query or user")]
pub struct BadEndpoint {
    setting: &'static str,
    url: String,
}

/// A bucket that speaks S3.
#[derive(Debug, Clone)]
pub struct S3Bucket {
    pub(super) config: Arc<S3Config>,
    pub(super) place: Arc<Place>,
    pub(super) signer: Signer,
    /// Calls that only read, with the SDK's retries.
    pub(super) reads: Client,
    /// Calls that change something, each made once.
    pub(super) once: Client,
    /// Signs for agents.
    pub(super) for_agents: Client,
    /// Signs for operators.
    pub(super) for_operators: Client,
}

impl S3Bucket {
    /// Sets the clients up. No call is made to storage yet.
    ///
    /// # Errors
    /// [`BadEndpoint`] for an endpoint that is no plain `http` or `https` URL.
    pub async fn connect(config: S3Config) -> Result<Self, BadEndpoint> {
        let endpoint = plain("AWS_ENDPOINT_URL", config.endpoint.as_ref())?;
        let public = plain("S3_PUBLIC_ENDPOINT_URL", config.public_endpoint.as_ref())?.or(endpoint.clone());
        let download =
            plain("S3_DOWNLOAD_ENDPOINT_URL", config.download_endpoint.as_ref())?.or(public.clone());

        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).region(Region::new(config.region.clone()));
        if let Some(fixed) = &config.credentials {
            let secret = fixed.secret_key.expose_secret();
            loader =
                loader.credentials_provider(Credentials::new(&fixed.access_key, secret, None, None, "hoist"));
        }
        let sdk = Box::pin(loader.load()).await;
        // The chain's own answer to "no source at all" comes with the first call, where it can be explained.
        let source = sdk.credentials_provider().unwrap_or_else(|| SharedCredentialsProvider::new(NoSource));
        let signer = Signer::new(source);

        let client = |endpoint: Option<&String>, attempts: u32| {
            let mut builder = aws_sdk_s3::config::Builder::from(&sdk)
                .credentials_provider(SharedCredentialsProvider::new(signer.clone()))
                // The signer is the cache.
                .identity_cache(IdentityCache::no_cache())
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .retry_config(RetryConfig::standard().with_max_attempts(attempts))
                .timeout_config(
                    TimeoutConfig::builder()
                        .connect_timeout(CONNECT_TIMEOUT)
                        .operation_attempt_timeout(if attempts > 1 { ATTEMPT_TIMEOUT } else { CALL_TIMEOUT })
                        .operation_timeout(CALL_TIMEOUT)
                        .build(),
                );
            if let Some(endpoint) = endpoint {
                builder = builder.endpoint_url(endpoint).force_path_style(true);
            }
            Client::from_conf(builder.build())
        };
        Ok(Self {
            reads: client(endpoint.as_ref(), READ_ATTEMPTS),
            once: client(endpoint.as_ref(), 1),
            for_agents: client(public.as_ref(), 1),
            for_operators: client(download.as_ref(), 1),
            place: Arc::new(Place { bucket: config.bucket.clone(), region: config.region.clone(), endpoint }),
            signer,
            config: Arc::new(config),
        })
    }
}

/// Gives the time-outs of Complete.
pub(super) fn patient() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(COMPLETE_TIMEOUT)
        .operation_timeout(COMPLETE_TIMEOUT)
        .build();
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
}

/// Gives an endpoint as the SDK wants it, without the slash at its end.
fn plain(setting: &'static str, url: Option<&Url>) -> Result<Option<String>, BadEndpoint> {
    let Some(url) = url else { return Ok(None) };
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain {
        let mut shown = url.clone();
        // A URL may carry a password; what cannot be set to nothing has none.
        let _ = shown.set_password(None);
        shown.set_query(None);
        return Err(BadEndpoint { setting, url: shown.to_string() });
    }
    Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
}

/// Stands in where the SDK was built without any source of credentials.
#[derive(Debug)]
struct NoSource;

impl aws_credential_types::provider::ProvideCredentials for NoSource {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        use aws_credential_types::provider::{error::CredentialsError, future};
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no source of credentials")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url_and_a_bad_one_names_its_setting() {
        let good = Url::parse("http://127.0.0.1:9000/").unwrap();
        assert_eq!(plain("X", Some(&good)).unwrap().unwrap(), "http://127.0.0.1:9000");
        for bad in ["ftp://h", "http://u:secret@h", "http://h/?a=secret", "file:///x"] {
            let text = plain("AWS_ENDPOINT_URL", Some(&Url::parse(bad).unwrap())).unwrap_err().to_string();
            assert!(text.contains("AWS_ENDPOINT_URL") && !text.contains("secret"), "{text}");
        }
    }
}
