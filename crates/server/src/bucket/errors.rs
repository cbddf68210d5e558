//! What an answer of storage means, as a [`BucketError`].
//!
//! Deliberately absent: what to do about it. Texts come from storage's own message and from the chain of causes, never
//! from the request: a signed URL has no way into an error.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::BucketError;

/// Longest text of storage that is passed on, in bytes; a proxy may answer with a whole page.
const MAX_TEXT_BYTES: usize = 512;

/// Which call was made, for whom, and the right that it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) call: &'static str,
    pub(super) key: &'a str,
    pub(super) needs: &'static str,
}

/// The bucket that was asked, to name the command that makes it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
}

/// An error as storage wrote it.
#[derive(Debug)]
struct Answer {
    status: u16,
    code: String,
    message: String,
    /// Where the bucket really lives, as AWS says it with a redirect.
    region: Option<String>,
}

impl Place {
    /// Gives the meaning of a failed call.
    pub(super) fn explain<E>(&self, asked: Asked<'_>, error: &SdkError<E, HttpResponse>) -> BucketError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(cause) = find::<CredentialsError>(error) {
            return no_credentials(asked, cause);
        }
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        match (error, status) {
            (SdkError::ServiceError(service), Some(status)) => {
                let meta = service.err().meta();
                let code = meta.code().unwrap_or_default().to_owned();
                let message = meta.message().map_or_else(|| chain(service.err()), short);
                let region =
                    error.raw_response().and_then(|raw| raw.headers().get("x-amz-bucket-region")).map(short);
                self.meaning(asked, Answer { status, code, message, region })
            }
            // An answer that cannot be read: a proxy's page, or a cut body. A 4xx still says that nothing was done.
            (SdkError::ResponseError(_), Some(status)) if (400..500).contains(&status) => {
                let message = chain(error);
                self.meaning(asked, Answer { status, code: String::new(), message, region: None })
            }
            (SdkError::ConstructionFailure(_), _) => BucketError::Other {
                call: asked.call,
                key: asked.key.to_owned(),
                status: 0,
                code: "NotSent".to_owned(),
                message: chain(error),
            },
            _ => unclear(asked, chain(error)),
        }
    }

    fn meaning(&self, asked: Asked<'_>, answer: Answer) -> BucketError {
        let Answer { status, code, message, region } = answer;
        let (call, key) = (asked.call, asked.key.to_owned());
        // What a Complete means by these is told by the call; elsewhere they are plain client errors.
        let completing = call == "complete";
        match (code.as_str(), status) {
            ("NoSuchUpload", _) => BucketError::NoSuchUpload { call, key },
            ("NoSuchBucket", _) => {
                BucketError::NoSuchBucket { bucket: self.bucket.clone(), mend: self.create_command() }
            }
            ("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall", _) => {
                BucketError::BadParts { call, key, message: format!("{code}: {message}") }
            }
            ("BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "ChecksumMismatch", _) => {
                BucketError::BadChecksum { call, key, message: format!("{code}: {message}") }
            }
            ("InvalidRequest", _) if completing && message.to_ascii_lowercase().contains("checksum") => {
                BucketError::BadChecksum { call, key, message: format!("{code}: {message}") }
            }
            (
                "RequestTimeout"
                | "IncompleteBody"
                | "SlowDown"
                | "Throttling"
                | "ThrottlingException"
                | "RequestThrottled"
                | "ServiceUnavailable"
                | "InternalError"
                | "OperationAborted"
                | "ConditionalRequestConflict"
                | "RequestTimeTooSkewed"
                // The server's own credentials ended on the way; the next call is signed with others.
                | "ExpiredToken"
                | "TokenRefreshRequired",
                _,
            ) => unclear(asked, format!("{status} {code}: {message}")),
            ("NotImplemented", _) | (_, 501) => BucketError::Other { call, key, status, code, message },
            (_, 401 | 403) => {
                let code = if code.is_empty() { status.to_string() } else { code };
                BucketError::Denied { call, key, code, message, needs: asked.needs }
            }
            // A 200 that is an error, with a code that nobody knows: what was done is unknown.
            (_, 200..=299 | 408 | 429 | 500..=599) => unclear(asked, format!("{status} {code}: {message}")),
            (_, 300..=399) => {
                let mend = region.unwrap_or_else(|| "the bucket's own".to_owned());
                let message = format!("{message} (set AWS_REGION to {mend})");
                BucketError::Other { call, key, status, code, message }
            }
            _ => BucketError::Other { call, key, status, code, message },
        }
    }

    /// Gives the command that makes the bucket.
    pub(super) fn create_command(&self) -> String {
        let mut command = format!("aws s3api create-bucket --bucket {}", self.bucket);
        if let Some(endpoint) = &self.endpoint {
            command.push_str(&format!(" --endpoint-url {endpoint}"));
        } else {
            command.push_str(&format!(" --region {}", self.region));
            if self.region != "us-east-1" {
                command
                    .push_str(&format!(" --create-bucket-configuration LocationConstraint={}", self.region));
            }
        }
        command
    }
}

/// Gives the error of a call whose outcome is unknown.
pub(super) fn unclear(asked: Asked<'_>, message: String) -> BucketError {
    BucketError::Unclear { call: asked.call, key: asked.key.to_owned(), message }
}

/// Tells why there are no credentials: none configured is final, a source that does not answer may come back.
pub(super) fn no_credentials(asked: Asked<'_>, cause: &CredentialsError) -> BucketError {
    let message = chain(cause);
    if matches!(cause, CredentialsError::CredentialsNotLoaded(_)) {
        return BucketError::Denied {
            call: asked.call,
            key: asked.key.to_owned(),
            code: "NoCredentials".to_owned(),
            message,
            needs: "credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role",
        };
    }
    unclear(asked, format!("no credentials: {message}"))
}

/// Joins the texts of an error and of all its causes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    short(&text)
}

fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// Cuts a text of storage, and keeps it on one line.
fn short(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(endpoint: Option<&str>) -> Place {
        Place {
            bucket: "files".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: endpoint.map(str::to_owned),
        }
    }

    fn meaning(call: &'static str, status: u16, code: &str, message: &str) -> BucketError {
        let answer = Answer { status, code: code.to_owned(), message: message.to_owned(), region: None };
        place(None).meaning(Asked { call, key: "k", needs: "s3:PutObject" }, answer)
    }

    #[test]
    fn an_answer_means_what_the_settling_needs_to_know() {
        let name = |error: BucketError| match error {
            BucketError::NoSuchUpload { .. } => "no such upload",
            BucketError::NoSuchBucket { .. } => "no such bucket",
            BucketError::BadParts { .. } => "bad parts",
            BucketError::BadChecksum { .. } => "bad checksum",
            BucketError::Denied { .. } => "denied",
            BucketError::Unclear { .. } => "unclear",
            BucketError::Other { .. } => "other",
        };
        for (status, code, expected) in [
            (404, "NoSuchUpload", "no such upload"),
            (404, "NoSuchBucket", "no such bucket"),
            (400, "InvalidPart", "bad parts"),
            (400, "InvalidPartOrder", "bad parts"),
            (400, "EntityTooSmall", "bad parts"),
            (400, "BadDigest", "bad checksum"),
            (403, "AccessDenied", "denied"),
            (403, "", "denied"),
            (400, "RequestTimeout", "unclear"),
            (503, "SlowDown", "unclear"),
            (429, "", "unclear"),
            (500, "InternalError", "unclear"),
            (200, "InternalError", "unclear"),
            (200, "SomethingNew", "unclear"),
            (200, "NoSuchUpload", "no such upload"),
            (403, "RequestTimeTooSkewed", "unclear"),
            (400, "ExpiredToken", "unclear"),
            (409, "OperationAborted", "unclear"),
            (501, "NotImplemented", "other"),
            (400, "InvalidArgument", "other"),
            (301, "PermanentRedirect", "other"),
        ] {
            assert_eq!(name(meaning("complete", status, code, "m")), expected, "{status} {code}");
        }
    }

    #[test]
    fn an_invalid_request_is_about_the_checksum_only_where_it_says_so() {
        let text = "The CRC64NVME checksum you specified did not match";
        assert!(matches!(meaning("complete", 400, "InvalidRequest", text), BucketError::BadChecksum { .. }));
        assert!(matches!(
            meaning("complete", 400, "InvalidRequest", "no"),
            BucketError::Other { status: 400, .. }
        ));
    }

    #[test]
    fn a_missing_bucket_names_the_command_that_makes_it() {
        assert_eq!(
            place(None).create_command(),
            "aws s3api create-bucket --bucket files --region eu-central-1 \
             --create-bucket-configuration LocationConstraint=eu-central-1"
        );
        assert_eq!(
            place(Some("http://127.0.0.1:9000")).create_command(),
            "aws s3api create-bucket --bucket files --endpoint-url http://127.0.0.1:9000"
        );
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_and_stays_on_one_line() {
        let text = format!("{}\n{}", "ä".repeat(200), "ö".repeat(400));
        let cut = short(&text);
        assert!(cut.len() <= MAX_TEXT_BYTES && !cut.contains('\n') && cut.starts_with('ä'));
    }
}
