//! What the server is told: flags and environment, resolved once and passed on. A bad value stops the start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use hoist_wire::ChecksumKind;
use hoist_wire::duration::{parse_duration, parse_size};
use hoist_wire::limits::{MAX_PART_SIZE_BYTES, MIN_PART_SIZE_BYTES};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::audit::Retention;
use crate::bucket::{S3Config, Sse};
use crate::serve::{TlsSettings, TrustedProxies};
use crate::values::{bucket_name, database_file, switch, token_ttl};

/// Shortest secret that signs tokens, in bytes (RFC 7518, 3.2: as long as the hash of HS256).
pub const MIN_SECRET_BYTES: usize = 32;

/// What the server can be told. Each flag has the environment variable that its help names.
#[derive(Debug, Parser)]
#[command(
    name = "hoist-server",
    version,
    about = "Brings files up, on demand, from machines behind NAT: the server."
)]
pub struct Settings {
    /// Address to listen on; with --trial it must be a loopback address.
    #[arg(long, env = "SERVER_HOST", default_value = "127.0.0.1")]
    pub server_host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "SERVER_PORT", default_value_t = 8080)]
    pub server_port: u16,
    /// Tries everything on this machine: loopback only, embedded bucket, secrets made and kept in DATA_DIR, no operator tokens.
    #[arg(long)]
    pub trial: bool,
    /// Where the database and, in trial mode, secrets and the bucket are kept.
    #[arg(long, env = "DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// The database: empty for SQLite in DATA_DIR, or sqlite://PATH.
    #[arg(long, env = "DATABASE_URL")]
    pub database_url: Option<String>,
    /// Bucket that files are brought into.
    #[arg(long, env = "S3_BUCKET_NAME", value_parser = bucket_name)]
    pub s3_bucket_name: Option<String>,
    /// Region of the bucket.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub aws_region: String,
    /// Endpoint of an S3-compatible store, as the server reaches it; AWS where absent.
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    pub aws_endpoint_url: Option<String>,
    /// The same store as agents reach it, where that differs: the host is signed.
    #[arg(long, env = "S3_PUBLIC_ENDPOINT_URL")]
    pub s3_public_endpoint_url: Option<String>,
    /// The same store as operators reach it; the public one where absent.
    #[arg(long, env = "S3_DOWNLOAD_ENDPOINT_URL")]
    pub s3_download_endpoint_url: Option<String>,
    /// Bytes in a part, 5MiB to 5GiB; larger where a file would need more than 10,000 parts.
    #[arg(long, env = "S3_CHUNK_SIZE", default_value = "5MiB", value_parser = part_size)]
    pub s3_chunk_size: u64,
    /// How long a presigned URL lives, 1s to 7d.
    #[arg(long, env = "S3_PRESIGNED_URL_EXPIRY", default_value = "15m", value_parser = grant_ttl)]
    pub s3_presigned_url_expiry: Duration,
    /// Encryption at rest that is asked for: AES256 (default on AWS), aws:kms, none (default elsewhere).
    #[arg(long, env = "S3_SSE")]
    pub s3_sse: Option<String>,
    /// What the keys of objects begin with.
    #[arg(long, env = "S3_KEY_PREFIX", default_value = "hoist", value_parser = key_prefix)]
    pub s3_key_prefix: String,
    /// Makes the bucket when it is not there: private, encrypted, with a rule against forgotten uploads.
    #[arg(long, env = "S3_CREATE_BUCKET", value_parser = switch("S3_CREATE_BUCKET"))]
    pub create_bucket: bool,
    /// Strongest proof to try for: crc64nvme, or part_md5 for a store whose CRC64NVME is broken.
    #[arg(long, env = "S3_CHECKSUM", default_value = "crc64nvme", value_parser = strongest)]
    pub s3_checksum: ChecksumKind,
    /// Works with a bucket that can prove nothing; every record then says so.
    #[arg(long, env = "ALLOW_UNPROVEN", value_parser = switch("ALLOW_UNPROVEN"))]
    pub allow_unproven: bool,
    /// Secret that signs tokens, at least 32 bytes.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,
    /// Older secrets that are still accepted, separated by blanks.
    #[arg(long, env = "JWT_SECRET_PREVIOUS", hide_env_values = true)]
    pub jwt_secret_previous: Option<SecretString>,
    /// How long a client's token lives.
    #[arg(long, env = "JWT_EXPIRY", default_value = "90d", value_parser = token_ttl)]
    pub jwt_expiry: Duration,
    /// Most downloads that wait or run for one client.
    #[arg(long, env = "MAX_OPEN_PER_CLIENT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_open_per_client: u32,
    /// Certificate and what leads to its authority, in PEM; with it the server speaks TLS. Read again when it changes.
    #[arg(long, env = "TLS_CERT_FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's key, in PEM, without a passphrase.
    #[arg(long, env = "TLS_KEY_FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Authorities, in PEM, of one of which each agent must show a certificate.
    #[arg(long, env = "TLS_CLIENT_CA_FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// Proxies before this server, whose X-Forwarded-For is believed: addresses and networks, separated by commas.
    #[arg(long, env = "TRUSTED_PROXIES", default_value = "", hide_default_value = true)]
    pub trusted_proxies: TrustedProxies,
    /// Most connections of one address on which nobody has shown yet who it is.
    #[arg(long, env = "MAX_STRANGERS_PER_ADDRESS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_strangers_per_address: u32,
    /// Most links of one address; absent for no limit, since many sites may share one.
    #[arg(long, env = "MAX_LINKS_PER_ADDRESS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_links_per_address: Option<u32>,
    /// Memory that the server may use, such as 2GiB: above four fifths of it new connections are refused.
    #[arg(long, env = "MAX_MEMORY", value_parser = max_memory)]
    pub max_memory: Option<u64>,
    /// How long a download is kept after its end, such as 400d; or forever.
    #[arg(long, env = "RETAIN_DOWNLOADS", default_value = "400d", value_parser = age)]
    pub retain_downloads: Age,
    /// How long a line of the audit trail is kept, such as 400d; or forever.
    #[arg(long, env = "RETAIN_AUDIT", default_value = "400d", value_parser = age)]
    pub retain_audit: Age,
    /// Writes each line of the audit trail to stdout too, as one JSON object a line.
    #[arg(long, env = "AUDIT_STDOUT", value_parser = switch("AUDIT_STDOUT"))]
    pub audit_stdout: bool,
    /// What is logged: error, warn, info, debug, trace, or a filter of tracing-subscriber.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// What the server works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether this is a trial.
    pub trial: bool,
    /// Where things are kept.
    pub data_dir: PathBuf,
    /// The database's file.
    pub database: PathBuf,
    /// The bucket; in trial mode the embedded one is put here at the start.
    pub s3: S3Config,
    /// Whether to make the bucket.
    pub create_bucket: bool,
    /// Bytes in a part.
    pub part_size_bytes: u64,
    /// How long a grant lives.
    pub grant_ttl: Duration,
    /// The first signs; all are accepted. Empty in trial mode until it is made or read.
    pub jwt_secrets: Vec<SecretString>,
    /// How long a client's token lives.
    pub client_token_ttl: Duration,
    /// Most open downloads for one client.
    pub max_open_per_client: u32,
    /// TLS; none for plain HTTP.
    pub tls: Option<TlsSettings>,
    /// Proxies that are believed.
    pub trusted_proxies: TrustedProxies,
    /// Most connections of strangers at one address.
    pub max_strangers_per_address: usize,
    /// Most links of one address; none for no limit.
    pub max_links_per_address: Option<usize>,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// Whether stdout gets the audit trail.
    pub audit_stdout: bool,
    /// Memory that the server may use, in bytes; none for what the system gives.
    pub max_memory: Option<u64>,
}

/// A setting that stops the start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Settings {
    /// Reads arguments and environment; ends the program with a usage error where they cannot be understood.
    pub fn read() -> Self {
        let read = Self::from_arg_matches(&command().get_matches());
        read.unwrap_or_else(|error| error.exit())
    }

    /// Checks all settings against each other.
    ///
    /// # Errors
    /// [`ConfigError`], which names the setting, its value where it is no secret, and the mend.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        if self.trial && !self.server_host.is_loopback() {
            let message = format!(
                "SERVER_HOST={} is not a loopback address: --trial works without operator tokens, so it \
                listens on 127.0.0.1 only; unset SERVER_HOST, or start without --trial",
                self.server_host
            );
            return Err(ConfigError(message));
        }
        let bucket = match (&self.s3_bucket_name, self.trial) {
            (Some(name), _) => name.clone(),
            (None, true) => String::from("hoist-trial"),
            (None, false) => return Err(missing("S3_BUCKET_NAME", "the bucket that files are brought into")),
        };
        let jwt_secrets = self.secrets()?;
        if jwt_secrets.is_empty() && !self.trial {
            return Err(missing(
                "JWT_SECRET",
                "at least 32 random bytes, for example of `openssl rand -hex 32`",
            ));
        }
        let on_aws = self.aws_endpoint_url.as_deref().unwrap_or_default().is_empty() && !self.trial;
        let sse = match self.s3_sse.as_deref() {
            None if on_aws => Sse::Aes256,
            None | Some("none") => Sse::None,
            Some("AES256") => Sse::Aes256,
            Some("aws:kms") => Sse::Kms,
            Some(other) => {
                return Err(ConfigError(format!(
                    "S3_SSE={other:?} is not known: use AES256, aws:kms or none"
                )));
            }
        };
        let tls = self.tls()?;
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Config {
            listen: SocketAddr::new(self.server_host, self.server_port),
            trial: self.trial,
            database: self.database()?,
            s3: S3Config {
                bucket,
                region: self.aws_region,
                endpoint: endpoint("AWS_ENDPOINT_URL", self.aws_endpoint_url.as_deref())?,
                public_endpoint: endpoint("S3_PUBLIC_ENDPOINT_URL", self.s3_public_endpoint_url.as_deref())?,
                download_endpoint: endpoint(
                    "S3_DOWNLOAD_ENDPOINT_URL",
                    self.s3_download_endpoint_url.as_deref(),
                )?,
                sse,
                prefix: self.s3_key_prefix,
                credentials: None,
                allow_unproven: self.allow_unproven,
                page_size: None,
                strongest: self.s3_checksum,
            },
            data_dir: self.data_dir,
            create_bucket: self.create_bucket || self.trial,
            part_size_bytes: self.s3_chunk_size,
            grant_ttl: self.s3_presigned_url_expiry,
            jwt_secrets,
            client_token_ttl: self.jwt_expiry,
            max_open_per_client: self.max_open_per_client,
            tls,
            trusted_proxies: self.trusted_proxies,
            max_strangers_per_address: size(self.max_strangers_per_address),
            max_links_per_address: self.max_links_per_address.map(size),
            max_memory: self.max_memory,
            retention: Retention { downloads: self.retain_downloads.0, audit: self.retain_audit.0 },
            audit_stdout: self.audit_stdout,
        })
    }

    fn secrets(&self) -> Result<Vec<SecretString>, ConfigError> {
        let mut secrets = Vec::new();
        if let Some(secret) = &self.jwt_secret {
            secrets.push(("JWT_SECRET", secret.clone()));
        }
        if let Some(previous) = &self.jwt_secret_previous {
            let older = previous.expose_secret().split_whitespace();
            secrets
                .extend(older.map(|secret| ("JWT_SECRET_PREVIOUS", SecretString::from(secret.to_owned()))));
        }
        for (name, secret) in &secrets {
            let bytes = secret.expose_secret().len();
            if bytes < MIN_SECRET_BYTES {
                let message = format!(
                    "{name} has {bytes} bytes: HS256 needs at least {MIN_SECRET_BYTES}; make one with \
                    `openssl rand -hex 32`"
                );
                return Err(ConfigError(message));
            }
        }
        Ok(secrets.into_iter().map(|(_, secret)| secret).collect())
    }

    fn tls(&self) -> Result<Option<TlsSettings>, ConfigError> {
        let wrong = |text: &str| Err(ConfigError(text.to_owned()));
        let settings = (self.tls_cert_file.clone(), self.tls_key_file.clone());
        match settings {
            (None, None) if self.tls_client_ca_file.is_some() => wrong(
                "TLS_CLIENT_CA_FILE is set without TLS_CERT_FILE: agents show certificates over TLS only; set TLS_CERT_FILE and TLS_KEY_FILE",
            ),
            (None, None) => Ok(None),
            (Some(_), None) => wrong("TLS_CERT_FILE is set without TLS_KEY_FILE: set both, or none"),
            (None, Some(_)) => wrong("TLS_KEY_FILE is set without TLS_CERT_FILE: set both, or none"),
            (Some(_), Some(_)) if self.trial => wrong(
                "TLS_CERT_FILE is set together with --trial: a trial is for this machine alone, over plain HTTP; unset it, or leave --trial out",
            ),
            (Some(cert_file), Some(key_file)) => {
                Ok(Some(TlsSettings { cert_file, key_file, client_ca_file: self.tls_client_ca_file.clone() }))
            }
        }
    }

    fn database(&self) -> Result<PathBuf, ConfigError> {
        match self.database_url.as_deref() {
            None | Some("") => Ok(self.data_dir.join("hoist.sqlite")),
            Some(url) => database_file(url).map_err(ConfigError),
        }
    }
}

/// Gives the command line, for which an empty variable is as good as none: compose files cannot unset one.
fn command() -> clap::Command {
    Settings::command().mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { arg.env(None::<&'static str>) } else { arg }
    })
}

fn missing(name: &str, what: &str) -> ConfigError {
    ConfigError(format!(
        "{name} is not set: {what}; or start with --trial to try hoist on this machine alone"
    ))
}

/// Reads an endpoint; an empty value is as good as none, since compose files cannot unset one.
fn endpoint(name: &str, url: Option<&str>) -> Result<Option<Url>, ConfigError> {
    let Some(text) = url.filter(|url| !url.is_empty()) else { return Ok(None) };
    let plain = |url: &Url| {
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty();
        matches!(url.scheme(), "http" | "https") && url.has_host() && bare
    };
    match Url::parse(text) {
        Ok(url) if plain(&url) => Ok(Some(url)),
        Ok(_) | Err(_) => Err(ConfigError(format!(
            "{name}={text:?} is not an endpoint: write http(s)://HOST[:PORT] with no path"
        ))),
    }
}

fn strongest(text: &str) -> Result<ChecksumKind, String> {
    match text.parse() {
        Ok(kind @ (ChecksumKind::Crc64nvme | ChecksumKind::PartMd5)) => Ok(kind),
        Ok(ChecksumKind::Unproven) | Err(_) => {
            Err(format!("{text:?} is no proof to try for: use crc64nvme or part_md5"))
        }
    }
}

fn part_size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if (MIN_PART_SIZE_BYTES..=MAX_PART_SIZE_BYTES).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!(
            "{bytes} bytes are no part size: S3 takes parts of {MIN_PART_SIZE_BYTES} (5MiB) to {MAX_PART_SIZE_BYTES} (5GiB)"
        ))
    }
}

/// How long something is kept; none for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(Option<Duration>);

fn age(text: &str) -> Result<Age, String> {
    // Shorter than a download may wait, a request could be gone before anybody saw how it ended.
    const LEAST: Duration = Duration::from_secs(24 * 3600);
    if text == "forever" {
        return Ok(Age(None));
    }
    match parse_duration(text).map_err(|error| error.to_string())? {
        length if length < LEAST => {
            Err(format!("{text:?} is too short to be kept: give at least 1d, or forever"))
        }
        length => Ok(Age(Some(length))),
    }
}

fn max_memory(text: &str) -> Result<u64, String> {
    // Below that the server itself does not fit.
    const LEAST: u64 = 32 << 20;
    match parse_size(text) {
        Ok(bytes) if bytes < LEAST => {
            Err(format!("{bytes} bytes are too little for a server: give at least 32MiB"))
        }
        other => other.map_err(|error| error.to_string()),
    }
}

fn grant_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).map_err(|error| error.to_string())?;
    // Signature Version 4 allows seven days at most.
    let longest = Duration::from_secs(7 * 24 * 3600);
    if ttl >= Duration::from_secs(1) && ttl <= longest {
        Ok(ttl)
    } else {
        Err(format!("{text:?} is no life for a presigned URL: S3 takes 1s to 7d"))
    }
}

fn key_prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if prefix.len() > 256
        || !prefix.bytes().all(plain)
        || prefix.split('/').any(|part| matches!(part, "." | ".."))
    {
        return Err(format!(
            "{text:?} is no prefix for keys: use at most 256 of the characters A-Z a-z 0-9 . _ - /"
        ));
    }
    Ok(prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn resolve(args: &[&str]) -> Result<Config, String> {
        let args = std::iter::once("hoist-server").chain(args.iter().copied());
        let settings = Settings::try_parse_from(args).map_err(|error| error.to_string())?;
        settings.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn without_trial_the_bucket_and_the_secret_are_asked_for() {
        assert!(resolve(&[]).unwrap_err().contains("S3_BUCKET_NAME"));
        assert!(resolve(&["--s3-bucket-name=files"]).unwrap_err().contains("JWT_SECRET"));
        assert!(resolve(&["--s3-bucket-name=files", "--jwt-secret", SECRET]).is_ok());
        assert!(resolve(&["--trial"]).is_ok());
    }

    #[test]
    fn a_bad_value_names_itself() {
        for (args, named) in [
            (&["--trial", "--server-host=0.0.0.0"][..], "SERVER_HOST=0.0.0.0"),
            (&["--trial", "--s3-chunk-size=1MiB"], "1048576"),
            (&["--trial", "--s3-chunk-size=5MB"], "5000000"),
            (&["--trial", "--s3-presigned-url-expiry=15 minutes"], "15 minutes"),
            (&["--trial", "--s3-presigned-url-expiry=8d"], "8d"),
            (&["--trial", "--s3-sse=yes"], "S3_SSE=\"yes\""),
            (&["--trial", "--aws-endpoint-url=localhost:4566"], "AWS_ENDPOINT_URL"),
            (&["--trial", "--s3-key-prefix=a b"], "a b"),
            (&["--trial", "--database-url=mysql://x"], "DATABASE_URL"),
            (&["--trial", "--database-url=sqlite:"], "DATABASE_URL=\"sqlite:\""),
            (&["--trial", "--database-url=sqlite::memory:"], "DATABASE_URL=\"sqlite::memory:\""),
            (&["--trial", "--database-url=sqlite://:memory:"], "DATABASE_URL=\"sqlite://:memory:\""),
            (&["--trial", "--database-url=sqlite://x?mode=memory"], "mode=memory"),
            (&["--trial", "--jwt-expiry=0"], "JWT_EXPIRY"),
            (&["--trial", "--max-open-per-client=0"], "MAX_OPEN_PER_CLIENT"),
            (&["--s3-bucket-name=files", "--jwt-secret=short"], "JWT_SECRET has 5 bytes"),
        ] {
            let error = resolve(args).unwrap_err();
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }

    #[test]
    fn no_error_shows_a_secret() {
        let error = resolve(&["--trial", "--database-url=postgres://hoist:my-password@h/x"]).unwrap_err();
        assert!(error.contains("postgres:") && !error.contains("my-password"), "{error}");
        let error = resolve(&["--s3-bucket-name=files", "--jwt-secret=my-short-secret"]).unwrap_err();
        assert!(!error.contains("my-short-secret"), "{error}");
    }

    #[test]
    fn encryption_is_asked_for_by_default_on_aws_alone() {
        let on_aws = resolve(&["--s3-bucket-name=files", "--jwt-secret", SECRET]).unwrap();
        assert_eq!(on_aws.s3.sse, Sse::Aes256);
        let elsewhere =
            resolve(&["--s3-bucket-name=files", "--jwt-secret", SECRET, "--aws-endpoint-url=http://h:1"]);
        assert_eq!(elsewhere.unwrap().s3.sse, Sse::None);
    }
}
