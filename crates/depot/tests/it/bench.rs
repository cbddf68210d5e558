//! A depot in a fresh directory, an SDK client for it, and bare HTTP for what no SDK would send.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_depot::{Depot, DepotConfig, DepotError};
use md5::{Digest as _, Md5};
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "trial";
pub(crate) const MIN_PART: usize = 5 << 20;
const ACCESS_KEY: &str = "AKTRIAL";
const SECRET_KEY: &str = "not-a-secret";

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) depot: Depot,
    pub(crate) s3: Client,
    pub(crate) http: reqwest::Client,
}

/// Makes a client for plain HTTP. Built together with the command line, reqwest can do TLS, and then makes none without a
/// provider. Whoever came first has installed the same one.
pub(crate) fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl Bench {
    /// A depot with one empty bucket.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let depot = start(dir.path()).await.unwrap();
        let s3 = client(&depot.endpoint_url(), SECRET_KEY);
        s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        Self { dir, depot, s3, http: http() }
    }

    /// Stops the depot and starts another on the same directory.
    pub(crate) async fn restart(self) -> Self {
        let Self { dir, depot, http, .. } = self;
        depot.stop().await;
        let depot = start(dir.path()).await.unwrap();
        let s3 = client(&depot.endpoint_url(), SECRET_KEY);
        Self { dir, depot, s3, http }
    }

    /// Creates an upload as hoist does.
    pub(crate) async fn create_upload(&self, key: &str) -> String {
        let created = self
            .s3
            .create_multipart_upload()
            .bucket(BUCKET)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .content_type("text/plain")
            .metadata("write-token", "t0")
            .send()
            .await
            .unwrap();
        created.upload_id.unwrap()
    }

    /// Puts a part through a presigned URL that binds its length and CRC64NVME, as an agent does.
    pub(crate) async fn put_part(&self, key: &str, id: &str, number: i32, bytes: &[u8]) -> CompletedPart {
        let url = self.presigned_part(key, id, number, bytes, Life::default()).await;
        let answer = self.send(&url, bytes.to_vec()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        CompletedPart::builder()
            .part_number(number)
            .e_tag(answer.etag)
            .checksum_crc64_nvme(crc64(bytes))
            .build()
    }

    pub(crate) async fn presigned_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        bytes: &[u8],
        life: Life,
    ) -> PresignedRequest {
        let request = self.s3.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(number);
        let length = i64::try_from(bytes.len()).unwrap();
        let request = request.content_length(length).checksum_crc64_nvme(crc64(bytes));
        request.presigned(life.config()).await.unwrap()
    }

    /// Sends a presigned request with exactly the headers that were signed.
    pub(crate) async fn send(&self, signed: &PresignedRequest, body: Vec<u8>) -> Answer {
        self.send_as(signed, signed.uri(), &[], body).await
    }

    /// Sends it with another URL or more headers.
    pub(crate) async fn send_as(
        &self,
        signed: &PresignedRequest,
        uri: &str,
        more: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let mut request = self.http.request(signed.method().parse().unwrap(), uri);
        for (name, value) in signed.headers().filter(|(name, _)| *name != "content-length") {
            request = request.header(name, value);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let (etag, disposition) = (header("etag").unwrap_or_default(), header("content-disposition"));
        let status = answer.status().as_u16();
        Answer { status, etag, disposition, text: answer.text().await.unwrap() }
    }

    pub(crate) async fn complete(
        &self,
        key: &str,
        id: &str,
        parts: Vec<CompletedPart>,
        crc64: Option<String>,
    ) -> Result<aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput, String> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.s3.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id);
        let request = request.multipart_upload(parts).set_checksum_crc64_nvme(crc64);
        request.send().await.map_err(|e| refusal(&e))
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Vec<u8>, String> {
        let got = self.s3.get_object().bucket(BUCKET).key(key).send().await.map_err(|e| refusal(&e))?;
        Ok(got.body.collect().await.unwrap().to_vec())
    }

    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) {
        let body = bytes.to_vec().into();
        self.s3.put_object().bucket(BUCKET).key(key).body(body).send().await.unwrap();
    }

    pub(crate) async fn part_numbers(&self, key: &str, id: &str) -> Result<Vec<i32>, String> {
        let listed = self.s3.list_parts().bucket(BUCKET).key(key).upload_id(id).send().await;
        let listed = listed.map_err(|e| refusal(&e))?;
        Ok(listed.parts().iter().map(|part| part.part_number().unwrap()).collect())
    }

    /// Files that are on the way to somewhere: none, when nothing is being sent.
    pub(crate) fn temporary_files(&self) -> usize {
        fs::read_dir(self.dir.path().join("tmp")).unwrap().count()
    }

    /// Folders of bytes, of objects and uploads alike.
    pub(crate) fn data_folders(&self) -> usize {
        fs::read_dir(self.dir.path().join("buckets").join(BUCKET).join("data")).unwrap().count()
    }
}

/// What came back over bare HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: String,
    pub(crate) disposition: Option<String>,
    pub(crate) text: String,
}

impl Answer {
    /// Status and S3 code, as in `403 AccessDenied`.
    pub(crate) fn refusal(&self) -> String {
        let code = self.text.split("<Code>").nth(1).and_then(|rest| rest.split('<').next());
        format!("{} {}", self.status, code.unwrap_or("-"))
    }
}

/// When a URL was signed, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) age: Duration,
    pub(crate) ttl: Duration,
}

impl Default for Life {
    fn default() -> Self {
        Self { age: Duration::ZERO, ttl: Duration::from_secs(900) }
    }
}

impl Life {
    pub(crate) fn config(self) -> PresigningConfig {
        let start = SystemTime::now() - self.age;
        PresigningConfig::builder().start_time(start).expires_in(self.ttl).build().unwrap()
    }
}

pub(crate) async fn start(dir: &Path) -> Result<Depot, DepotError> {
    let bind = "127.0.0.1:0".parse().unwrap();
    start_at(dir, bind).await
}

pub(crate) async fn start_at(dir: &Path, bind: std::net::SocketAddr) -> Result<Depot, DepotError> {
    let config = DepotConfig {
        dir: dir.to_path_buf(),
        bind,
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned().into(),
        region: "eu-west-1".to_owned(),
    };
    Depot::start(config).await
}

pub(crate) fn client(endpoint: &str, secret: &str) -> Client {
    client_in("eu-west-1", endpoint, secret)
}

pub(crate) fn right_client(endpoint: &str) -> Client {
    client(endpoint, SECRET_KEY)
}

pub(crate) fn client_in(region: &'static str, endpoint: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new(region))
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "test"))
        .build();
    Client::from_conf(config)
}

/// Status and code of an SDK error, as in `404 NoSuchUpload`.
pub(crate) fn refusal<E: ProvideErrorMetadata + std::fmt::Debug>(error: &SdkError<E>) -> String {
    let status = error.raw_response().map_or(0, |raw| raw.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    format!("{status} {}", code.unwrap_or("-"))
}

pub(crate) fn crc64(bytes: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes())
}

pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn md5_base64(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size.div_ceil(8)).flat_map(|_| next()).take(size).collect()
}
