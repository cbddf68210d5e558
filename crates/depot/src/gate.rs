//! What S3 refuses before it looks at an operation, and the protocol crate does not: requests without a
//! signature of version 4, `x-amz-*` headers that are not signed, foreign regions, URLs for over a week,
//! temporary keys past their end.
//! Whether the signature itself is right is the protocol crate's business, right after this.

use std::borrow::Cow;
use std::time::SystemTime;

use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use s3s::{S3Result, s3_error};

use crate::keys::Keys;

/// Where a request shows the session token of a temporary key, if not in the query.
const TOKEN: &str = "x-amz-security-token";
/// S3's longest life of a presigned URL, in seconds.
const MAX_EXPIRES_SECS: u64 = 7 * 24 * 3_600;

/// What a request says of its own signature.
struct Signed<'a> {
    /// `key/date/region/service/aws4_request`.
    credential: Cow<'a, str>,
    /// Names in lower case, separated by semicolons.
    headers: Cow<'a, str>,
    /// In hex.
    signature: Cow<'a, str>,
    /// Of a presigned URL: for how many seconds it is valid.
    expires: Option<Cow<'a, str>>,
}

/// Lets a request pass, or says how S3 refuses it.
///
/// # Errors
/// The refusal, as S3 codes it.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap, region: &str, keys: &Keys) -> S3Result<()> {
    let signed = signed(uri, headers)?;
    // The protocol crate would call these malformed; S3 calls any signature that is not right a mismatch.
    if signed.signature.len() != 64 || !signed.signature.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(s3_error!(SignatureDoesNotMatch, "the signature is not one: 64 hex digits are"));
    }
    let is_signed = |name: &str| signed.headers.split(';').any(|signed| signed == name);
    if !is_signed("host") {
        return Err(s3_error!(AccessDenied, "the host header must be signed"));
    }
    let amz = || headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-"));
    let unsigned: Vec<&str> = amz().filter(|name| !is_signed(name)).collect();
    if !unsigned.is_empty() {
        let names = unsigned.join(", ");
        return Err(s3_error!(AccessDenied, "these headers came and are not signed: {names}"));
    }
    if let Some(twice) = amz().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        return Err(s3_error!(InvalidRequest, "the header {twice} came more than once"));
    }
    if let Some(expires) = &signed.expires
        && !expires.parse().is_ok_and(|secs: u64| (1..=MAX_EXPIRES_SECS).contains(&secs))
    {
        return Err(s3_error!(
            AuthorizationQueryParametersError,
            "X-Amz-Expires must be from 1 to {MAX_EXPIRES_SECS} seconds"
        ));
    }
    match signed.credential.split('/').nth_back(2) {
        Some(scope) if scope == region => {
            let access_key = signed.credential.split('/').next().unwrap_or_default();
            let in_header = headers.get(TOKEN).and_then(|token| token.to_str().ok()).map(Cow::Borrowed);
            let token = in_header.or_else(|| parameter(uri, "X-Amz-Security-Token"));
            keys.check(access_key, token.as_deref(), SystemTime::now())
        }
        _ if signed.expires.is_some() => Err(s3_error!(
            AuthorizationQueryParametersError,
            "the URL is signed for another region than {region}"
        )),
        _ => Err(s3_error!(
            AuthorizationHeaderMalformed,
            "the request is signed for another region than {region}"
        )),
    }
}

fn signed<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> S3Result<Signed<'a>> {
    let from_query = signed_by_query(uri);
    let Some(authorization) = headers.get(http::header::AUTHORIZATION) else {
        return from_query.ok_or_else(|| s3_error!(AccessDenied, "the request is not signed"));
    };
    if from_query.is_some() {
        return Err(s3_error!(InvalidArgument, "sign the URL or the headers, not both"));
    }
    let malformed = || s3_error!(AuthorizationHeaderMalformed, "the Authorization header is malformed");
    let text = authorization.to_str().map_err(|_| malformed())?;
    let Some(fields) = text.strip_prefix("AWS4-HMAC-SHA256") else {
        return Err(s3_error!(InvalidRequest, "sign with AWS4-HMAC-SHA256: no other way is known here"));
    };
    let field = |name: &str| {
        let mut fields = fields.split(',').map(str::trim);
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).map(Cow::Borrowed)
    };
    Ok(Signed {
        credential: field("Credential").ok_or_else(malformed)?,
        headers: field("SignedHeaders").ok_or_else(malformed)?,
        signature: field("Signature").ok_or_else(malformed)?,
        expires: None,
    })
}

/// Reads a parameter of the query.
fn parameter<'a>(uri: &'a Uri, wanted: &str) -> Option<Cow<'a, str>> {
    uri.query()?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode_str(name).decode_utf8().ok()?;
        (name == wanted).then(|| percent_decode_str(value).decode_utf8().ok()).flatten()
    })
}

/// Reads the parameters of a presigned URL; none if it is not one of version 4.
fn signed_by_query(uri: &Uri) -> Option<Signed<'_>> {
    let parameter = |wanted| parameter(uri, wanted);
    let signature = parameter("X-Amz-Signature")?;
    Some(Signed {
        signature,
        credential: parameter("X-Amz-Credential").unwrap_or_default(),
        headers: parameter("X-Amz-SignedHeaders").unwrap_or_default(),
        expires: Some(parameter("X-Amz-Expires").unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn refusal(uri: &str, headers: &[(&'static str, &'static str)]) -> Option<String> {
        let map: HeaderMap =
            headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        let keys = Keys::new("AK".to_owned(), "SK".into());
        let refused = check(&uri.parse().unwrap(), &map, "eu-west-1", &keys).err()?;
        Some(refused.code().as_str().to_owned())
    }

    const URL: &str = "/b/k?X-Amz-Credential=AK%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Expires=60\
                       &X-Amz-SignedHeaders=host%3Bx-amz-checksum-crc64nvme&X-Amz-Signature=\
                       0000000000000000000000000000000000000000000000000000000000000000";
    const AUTH: (&str, &str) = (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=AK/20260101/eu-west-1/s3/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature=\
         0000000000000000000000000000000000000000000000000000000000000000",
    );

    #[test]
    fn signed_headers_pass() {
        assert_eq!(refusal(URL, &[("x-amz-checksum-crc64nvme", "a"), ("content-md5", "b")]), None);
        assert_eq!(refusal("/b/k", &[AUTH, ("x-amz-date", "a"), ("content-type", "b")]), None);
    }

    #[test]
    fn unsigned_amz_headers_are_refused_however_the_request_is_signed() {
        let denied = Some("AccessDenied".to_owned());
        assert_eq!(refusal(URL, &[("x-amz-acl", "public-read")]), denied);
        assert_eq!(refusal("/b/k", &[AUTH, ("x-amz-meta-a", "b")]), denied);
        assert_eq!(refusal(&URL.replace("host%3B", ""), &[]), denied);
    }

    #[test]
    fn other_ways_to_sign_are_refused() {
        assert_eq!(refusal("/b/k", &[]).as_deref(), Some("AccessDenied"));
        assert_eq!(
            refusal("/b/k?Signature=a&AWSAccessKeyId=b&Expires=9", &[]).as_deref(),
            Some("AccessDenied")
        );
        assert_eq!(refusal("/b/k", &[("authorization", "AWS AK:sig")]).as_deref(), Some("InvalidRequest"));
        assert_eq!(refusal(URL, &[AUTH]).as_deref(), Some("InvalidArgument"));
    }

    #[test]
    fn what_is_no_signature_does_not_match() {
        for odd in [URL.replace("Signature=0", "Signature="), URL.replace("Signature=0", "Signature=g")] {
            assert_eq!(refusal(&odd, &[]).as_deref(), Some("SignatureDoesNotMatch"));
        }
    }

    #[test]
    fn regions_and_lives_are_checked() {
        let query = Some("AuthorizationQueryParametersError");
        assert_eq!(refusal(&URL.replace("eu-west", "us-east"), &[]).as_deref(), query);
        for life in ["604801", "0", "-1", "x", ""] {
            assert_eq!(
                refusal(&URL.replace("Expires=60", &format!("Expires={life}")), &[]).as_deref(),
                query
            );
        }
        let abroad = AUTH.1.replace("eu-west", "us-east").leak();
        assert_eq!(refusal("/", &[(AUTH.0, abroad)]).as_deref(), Some("AuthorizationHeaderMalformed"));
    }
}
