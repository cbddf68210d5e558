//! What is signed: a PUT of exactly these bytes as this part, and a GET that saves under a name.
//!
//! Deliberately absent: when a grant is given, and to whom. Signing makes no call to storage.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use hoist_wire::to_agent::Grant;
use hoist_wire::{ChecksumKind, Sealed};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::credentials::life_left;
use super::errors::{Asked, no_credentials};
use super::{BucketError, GrantRequest, S3Bucket};

/// Longest life of a presigned URL: 7 days (Amazon S3, "Download and upload objects with presigned URLs").
const MAX_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// The characters of a name that need no encoding in `filename*` (RFC 5987, `attr-char`).
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

impl S3Bucket {
    /// Signs a part's PUT with a client, whose endpoint is the one that the URL names.
    pub(super) async fn sign_part(
        &self,
        client: &Client,
        request: GrantRequest<'_>,
    ) -> Result<Grant, BucketError> {
        let asked = Asked { call: "grant_part", key: request.key, needs: "s3:PutObject" };
        let life = self.life(asked, request.ttl).await?;
        let expires_in_secs = u32::try_from(life.expires().as_secs()).unwrap_or(u32::MAX);
        let mut put = client
            .upload_part()
            .bucket(&self.config.bucket)
            .key(request.key)
            .upload_id(&request.multipart_id.0)
            .part_number(i32::from(request.number.get()))
            .content_length(i64::try_from(request.size_bytes).unwrap_or(i64::MAX));
        match request.checksum {
            ChecksumKind::Crc64nvme => put = put.checksum_crc64_nvme(request.sums.crc64nvme.to_string()),
            ChecksumKind::PartMd5 => {
                let Some(md5) = request.sums.md5 else {
                    return Err(BucketError::BadChecksum {
                        call: asked.call,
                        key: request.key.to_owned(),
                        message: format!(
                            "part {} has no MD5, which this upload is proved by",
                            request.number
                        ),
                    });
                };
                put = put.content_md5(md5.to_string());
            }
            ChecksumKind::Unproven => {}
        }
        let signed =
            Box::pin(put.presigned(life)).await.map_err(|error| self.place.explain(asked, &error))?;
        Ok(Grant { headers: headers(&signed), url: Sealed::new(signed.uri()), expires_in_secs })
    }

    /// Signs a GET that browsers save as `file_name`.
    pub(super) async fn sign_get(
        &self,
        key: &str,
        file_name: &str,
        ttl: Duration,
    ) -> Result<Sealed, BucketError> {
        let asked = Asked { call: "grant_get", key, needs: "s3:GetObject" };
        let life = self.life(asked, ttl).await?;
        let get = self
            .for_operators
            .get_object()
            .bucket(&self.config.bucket)
            .key(key)
            .response_content_disposition(attachment(file_name));
        let signed =
            Box::pin(get.presigned(life)).await.map_err(|error| self.place.explain(asked, &error))?;
        Ok(Sealed::new(signed.uri()))
    }

    /// Gives the host that grants for agents name: what the SDK really signs, not what the settings let us think.
    pub(super) async fn host_of_grants(&self) -> Result<String, BucketError> {
        let asked = Asked { call: "storage_hosts", key: "-", needs: "s3:PutObject" };
        let life = self.life(asked, Duration::from_secs(60)).await?;
        let part =
            self.for_agents.upload_part().bucket(&self.config.bucket).key("-").upload_id("-").part_number(1);
        let signed =
            Box::pin(part.presigned(life)).await.map_err(|error| self.place.explain(asked, &error))?;
        let url = url::Url::parse(signed.uri()).ok();
        let host = url.as_ref().and_then(url::Url::host_str).map(str::to_owned);
        host.ok_or_else(|| BucketError::Unclear {
            call: asked.call,
            key: asked.key.to_owned(),
            message: String::from("the signed URL names no host"),
        })
    }

    /// Gives how long a URL signed now can live: in whole seconds, and no longer than the credentials.
    async fn life(&self, asked: Asked<'_>, wanted: Duration) -> Result<PresigningConfig, BucketError> {
        let now = SystemTime::now();
        let credentials = self.signer.current(now).await.map_err(|error| no_credentials(asked, &error))?;
        let left = life_left(&credentials, now).unwrap_or(MAX_TTL);
        let ttl = Duration::from_secs(wanted.min(left).min(MAX_TTL).as_secs());
        // It counts from the moment at which the credentials were looked at: signing must not take it past their end.
        let life = PresigningConfig::builder().start_time(now).expires_in(ttl).build();
        if let (false, Ok(life)) = (ttl.is_zero(), life) {
            return Ok(life);
        }
        let (code, message) = if left.as_secs() == 0 {
            ("ExpiredCredentials", "the signer's credentials have expired, and their source gives no others")
        } else {
            ("ZeroTtl", "a grant must live for a second at least")
        };
        Err(BucketError::Denied {
            call: asked.call,
            key: asked.key.to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            needs: "credentials that live",
        })
    }
}

/// Gives the headers that must be sent as they were signed. `host` is the URL's.
fn headers(signed: &PresignedRequest) -> BTreeMap<String, String> {
    signed
        .headers()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect()
}

/// Writes `Content-Disposition` for a name of any characters (RFC 6266): a plain ASCII stand-in, and the real one.
fn attachment(file_name: &str) -> String {
    let stand_in: String = file_name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ') { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{stand_in}\"; filename*=UTF-8''{}", utf8_percent_encode(file_name, NAME))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hoist_wire::{Crc64, Md5, PartNumber, PartSums};
    use url::Url;

    use super::super::{MultipartId, S3Config, Sse, StaticCredentials};
    use super::*;

    async fn bucket() -> S3Bucket {
        let config = S3Config {
            bucket: "files".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: Some(Url::parse("http://inner:9000").unwrap()),
            public_endpoint: Some(Url::parse("https://outer.example").unwrap()),
            download_endpoint: None,
            prefix: String::new(),
            sse: Sse::None,
            credentials: Some(StaticCredentials {
                access_key: "AK".to_owned(),
                secret_key: "very-secret".into(),
            }),
            strongest: ChecksumKind::Crc64nvme,
            allow_unproven: false,
            page_size: None,
        };
        S3Bucket::connect(config).await.unwrap()
    }

    async fn grant(checksum: ChecksumKind) -> (Url, Grant) {
        let bucket = bucket().await;
        let sums = PartSums { crc64nvme: Crc64(7), md5: Some(Md5([9; 16])) };
        let request = GrantRequest {
            key: "a b/ü",
            multipart_id: &MultipartId("up".to_owned()),
            number: PartNumber::new(3).unwrap(),
            size_bytes: 42,
            sums: &sums,
            checksum,
            ttl: Duration::from_millis(90_900),
        };
        let grant = bucket.sign_part(&bucket.for_agents, request).await.unwrap();
        (Url::parse(grant.url.open()).unwrap(), grant)
    }

    fn query(url: &Url, name: &str) -> Option<String> {
        url.query_pairs().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.into_owned())
    }

    #[tokio::test]
    async fn a_grant_signs_length_and_checksum_as_headers() {
        for (kind, checksum_header, value) in [
            (ChecksumKind::Crc64nvme, Some("x-amz-checksum-crc64nvme"), Crc64(7).to_string()),
            (ChecksumKind::PartMd5, Some("content-md5"), Md5([9; 16]).to_string()),
            (ChecksumKind::Unproven, None, String::new()),
        ] {
            let (url, grant) = grant(kind).await;
            let mut expected = BTreeMap::from([("content-length".to_owned(), "42".to_owned())]);
            if let Some(name) = checksum_header {
                expected.insert(name.to_owned(), value);
            }
            assert_eq!(grant.headers, expected, "{kind:?}");
            // Exactly what the agent sends is signed: a header left out of either list is refused or is no guard.
            let signed = query(&url, "X-Amz-SignedHeaders").unwrap();
            let names: BTreeSet<&str> = signed.split(';').filter(|name| *name != "host").collect();
            assert_eq!(names, expected.keys().map(String::as_str).collect(), "{kind:?}");
            // A checksum moved into the query would be ignored by S3.
            let mut names = url.query_pairs().map(|(name, _)| name.to_ascii_lowercase());
            assert!(!names.any(|name| name.contains("checksum") || name.contains("md5")), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_grant_names_the_host_that_agents_reach_and_its_true_life() {
        let (url, grant) = grant(ChecksumKind::Crc64nvme).await;
        assert_eq!(url.host_str(), Some("outer.example"));
        assert_eq!(url.path(), "/files/a%20b/%C3%BC");
        assert_eq!(query(&url, "X-Amz-Expires").as_deref(), Some("90"));
        assert_eq!(grant.expires_in_secs, 90);
        assert_eq!(query(&url, "partNumber").as_deref(), Some("3"));
        assert_eq!(query(&url, "uploadId").as_deref(), Some("up"));
        assert!(!format!("{:?} {grant:?}", bucket().await).contains("very-secret"));
    }

    #[tokio::test]
    async fn a_grant_needs_the_checksum_that_proves_it() {
        let bucket = bucket().await;
        let sums = PartSums { crc64nvme: Crc64(7), md5: None };
        let id = MultipartId("up".to_owned());
        let request = GrantRequest {
            key: "k",
            multipart_id: &id,
            number: PartNumber::FIRST,
            size_bytes: 1,
            sums: &sums,
            checksum: ChecksumKind::PartMd5,
            ttl: Duration::from_secs(60),
        };
        let error = bucket.sign_part(&bucket.for_agents, request).await.unwrap_err();
        assert!(matches!(error, BucketError::BadChecksum { .. }), "{error}");
        let request =
            GrantRequest { ttl: Duration::from_millis(999), checksum: ChecksumKind::Crc64nvme, ..request };
        let error = bucket.sign_part(&bucket.for_agents, request).await.unwrap_err();
        assert!(error.to_string().contains("ZeroTtl"), "{error}");
    }

    #[test]
    fn a_file_name_cannot_leave_its_quotes() {
        let text = attachment("a\"; x=\r\n'ü%.log");
        assert_eq!(
            text,
            "attachment; filename=\"a__ x______.log\"; filename*=UTF-8''a%22%3B%20x%3D%0D%0A%27%C3%BC%25.log"
        );
    }
}
