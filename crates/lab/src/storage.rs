//! The bucket as its owner sees it: what is stored, and what was left open. Requests are signed here (SigV4), so that
//! the server's own code is not asked whether the server did right.

use std::time::SystemTime;

use hoist_wire::Timestamp;
use hoist_wire::to_agent::Grant;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method};
use ring::{digest, hmac};

use crate::operator::{Operator, Reply, http};
use crate::s3::S3Server;
use crate::site::hex;

/// What SigV4 leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A bucket of an S3 server.
#[derive(Debug, Clone)]
pub struct Storage {
    server: S3Server,
    bucket: String,
    http: Client,
}

/// An object, as HEAD shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its bytes.
    pub size_bytes: u64,
    /// The write token in its metadata.
    pub write_token: Option<String>,
    /// Its CRC64NVME in base64, where the server has one.
    pub crc64nvme: Option<String>,
}

impl Storage {
    pub(crate) fn new(server: S3Server, bucket: &str) -> Self {
        Self { server, bucket: bucket.to_owned(), http: http() }
    }

    /// Looks at an object; none where there is none.
    ///
    /// # Panics
    /// If the server answers neither 200 nor 404.
    pub async fn head(&self, key: &str) -> Option<Head> {
        let reply = self.ask(Method::HEAD, key, &[], &[("x-amz-checksum-mode", "ENABLED")]).await;
        if reply.status == 404 {
            return None;
        }
        assert_eq!(reply.status, 200, "HEAD {key:?}: {}", reply.text());
        let text = |name: &str| reply.header(name).map(str::to_owned);
        Some(Head {
            size_bytes: text("content-length").and_then(|text| text.parse().ok()).expect("a length"),
            write_token: text("x-amz-meta-hoist-write-token"),
            crc64nvme: text("x-amz-checksum-crc64nvme"),
        })
    }

    /// Lists the keys of uploads that are neither completed nor aborted.
    ///
    /// # Errors
    /// The answer, where it is no listing.
    pub async fn open_uploads(&self) -> Result<Vec<String>, String> {
        let (mut keys, mut key, mut id) = (Vec::new(), String::new(), String::new());
        loop {
            let mut query = vec![("uploads", "")];
            if !key.is_empty() {
                query.splice(0..0, [("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let reply = self.ask(Method::GET, "", &query, &[]).await;
            if reply.status != 200 {
                return Err(format!("{}: {}", reply.status, reply.text()));
            }
            let text = reply.text();
            let uploads = text.split("<Upload>").skip(1);
            keys.extend(uploads.filter_map(|upload| between(upload, "<Key>", "</Key>")).map(str::to_owned));
            if between(&text, "<IsTruncated>", "</IsTruncated>") != Some("true") {
                return Ok(keys);
            }
            let marker = |name: &str| {
                between(&text, &format!("<{name}>"), &format!("</{name}>")).unwrap_or_default().to_owned()
            };
            (key, id) = (marker("NextKeyMarker"), marker("NextUploadIdMarker"));
        }
    }

    /// Creates a multipart upload, as somebody else who uses the bucket.
    ///
    /// # Panics
    /// If the server does not.
    pub async fn create_upload(&self, key: &str) {
        let reply = self.ask(Method::POST, key, &[("uploads", "")], &[]).await;
        assert_eq!(reply.status, 200, "create {key:?}: {}", reply.text());
    }

    /// Aborts the uploads under a key, as a lifecycle rule does, behind everybody's back.
    ///
    /// # Panics
    /// If the server does not.
    pub async fn lose_uploads_of(&self, key: &str) {
        let text = self.ask(Method::GET, "", &[("prefix", key), ("uploads", "")], &[]).await.text();
        for id in text.split("<UploadId>").skip(1).filter_map(|rest| rest.split_once("</UploadId>")) {
            let reply = self.ask(Method::DELETE, key, &[("uploadId", id.0)], &[]).await;
            assert_eq!(reply.status, 204, "abort {key:?}: {}", reply.text());
        }
    }

    /// Puts bytes to a grant, as an agent does: all of its headers, and the length that the bytes really have.
    ///
    /// A server may close the connection before it has read what it refuses; the status is then 0.
    pub async fn put(&self, grant: &Grant, bytes: &[u8]) -> u16 {
        self.put_to(grant.url.open(), grant, &[], bytes).await.0
    }

    /// Puts bytes to a URL with a grant's headers, some of which are replaced. Gives status and ETag.
    pub async fn put_to(
        &self,
        url: &str,
        grant: &Grant,
        instead: &[(&str, &str)],
        bytes: &[u8],
    ) -> (u16, String) {
        let mut request = self.http.put(url).body(bytes.to_vec());
        for (name, value) in grant.headers.iter().filter(|(name, _)| *name != "content-length") {
            let other = instead.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
            request = request.header(name, other.unwrap_or(value));
        }
        match Operator::try_send(request).await {
            Ok(reply) => {
                let etag = reply.header("etag").unwrap_or_default().trim_matches('"').to_owned();
                (reply.status, etag)
            }
            Err(_) => (0, String::new()),
        }
    }

    /// Sends a signed request about the bucket, or about a key in it.
    async fn ask(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Reply {
        let host = self.server.endpoint.strip_prefix("http://").expect("an endpoint over http");
        let key: Vec<String> = key.split('/').map(encode).collect();
        let path = format!("/{}/{}", self.bucket, key.join("/"));
        let path = if key == [""] { format!("/{}", self.bucket) } else { path };
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let query = query.join("&");
        let (date, time) = now();
        let empty = hex(digest::digest(&digest::SHA256, b"").as_ref());
        let mut signed: Vec<(&str, &str)> =
            vec![("host", host), ("x-amz-content-sha256", &empty), ("x-amz-date", &time)];
        signed.extend(headers);
        signed.sort_unstable();
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{empty}");
        let scope = format!("{date}/{}/s3/aws4_request", self.server.region);
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let start = format!("AWS4{}", self.server.secret_key).into_bytes();
        let key = [date.as_str(), &self.server.region, "s3", "aws4_request"]
            .iter()
            .fold(start, |key, part| tag(&key, part));
        let signature = hex(&tag(&key, &text));
        let credential = format!("{}/{scope}", self.server.access_key);
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{mark}{query}", self.server.endpoint);
        let mut request = self.http.request(method, url).header("authorization", authorization);
        for (name, value) in signed.into_iter().filter(|(name, _)| *name != "host") {
            request = request.header(name, value);
        }
        Operator::send(request).await
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn tag(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Gives day and time as SigV4 writes them: `20261124` and `20261124T120000Z`.
fn now() -> (String, String) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    let seconds = i64::try_from(since.as_secs()).expect("a time that a record can have");
    let text = Timestamp(seconds * 1000).to_string().replace(['-', ':'], "");
    let (time, _) = text.split_once('.').expect("a time with milliseconds");
    (time[..8].to_owned(), format!("{time}Z"))
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inside, _)| inside)
}
