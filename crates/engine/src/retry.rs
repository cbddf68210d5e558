//! What follows from an answer of storage to a part's PUT: one policy, by class of error.
//!
//! The classes come from the S3 error reference and from what eight stores were seen to answer; an expired URL alone
//! is 403 on most and 400 on some, so the age of the grant decides, not the code.

/// What an agent does after a PUT that was not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try the same grant again after a back-off, on a new connection.
    Again,
    /// As `Again`, and storage asked for it: send less at once.
    SlowDown,
    /// The bytes did not arrive as they were hashed: hash the part again, then decide.
    Rehash,
    /// Ask for a fresh grant.
    NewGrant,
    /// The upload is gone: tell the server, which looks.
    UploadGone,
    /// The upload lives, and will never take these bytes: tell the server, which begins another.
    UploadSpent,
    /// Storage will never take this: give the attempt up.
    Final,
}

/// What storage answered.
#[derive(Debug, Clone, Copy)]
pub struct StorageAnswer<'a> {
    /// HTTP status.
    pub status: u16,
    /// The `Code` of the XML body; empty where there was none.
    pub code: &'a str,
    /// Whether the grant was past its time when the answer came.
    pub grant_is_old: bool,
    /// Whether the grant before this one, for the same part, was refused while fresh.
    pub refused_before: bool,
}

/// Tells what follows from an answer that is not a success.
pub fn classify(answer: StorageAnswer<'_>) -> Class {
    match answer.code {
        "NoSuchUpload" => return Class::UploadGone,
        "BadDigest" | "XAmzContentChecksumMismatch" => return Class::Rehash,
        "RequestTimeout" | "IncompleteBody" => return Class::Again,
        "SlowDown" | "TooManyRequests" | "ServiceUnavailable" => return Class::SlowDown,
        "ExpiredToken" | "RequestTimeTooSkewed" | "RequestExpired" => return Class::NewGrant,
        "EntityTooLarge" | "InvalidTag" | "NoSuchBucket" => return Class::Final,
        _ => {}
    }
    match answer.status {
        404 => Class::UploadGone,
        // rclone cannot replace a part that it has passed on, and says so with this.
        501 => Class::UploadSpent,
        408 => Class::Again,
        429 | 503 => Class::SlowDown,
        500..=599 => Class::Again,
        _ if answer.grant_is_old => Class::NewGrant,
        403 if !answer.refused_before => Class::NewGrant,
        _ => Class::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: &str, grant_is_old: bool, refused_before: bool) -> Class {
        classify(StorageAnswer { status, code, grant_is_old, refused_before })
    }

    #[test]
    fn an_expired_grant_is_renewed_whatever_the_store_calls_it() {
        for (status, code) in
            [(403, "AccessDenied"), (400, "InvalidRequest"), (400, "AccessDenied"), (401, "")]
        {
            assert_eq!(class(status, code, true, false), Class::NewGrant, "{status} {code}");
        }
    }

    #[test]
    fn a_second_refusal_of_a_fresh_grant_is_final() {
        assert_eq!(class(403, "AccessDenied", false, false), Class::NewGrant);
        assert_eq!(class(403, "AccessDenied", false, true), Class::Final);
        assert_eq!(class(400, "InvalidRequest", false, false), Class::Final);
    }

    #[test]
    fn trouble_on_the_way_is_tried_again() {
        for (status, code) in
            [(400, "RequestTimeout"), (400, "IncompleteBody"), (500, ""), (502, ""), (408, "")]
        {
            assert_eq!(class(status, code, false, true), Class::Again, "{status} {code}");
        }
        assert_eq!(class(503, "SlowDown", false, false), Class::SlowDown);
        assert_eq!(class(429, "", false, false), Class::SlowDown);
    }

    #[test]
    fn a_lost_upload_is_for_the_server_to_settle() {
        assert_eq!(class(404, "NoSuchUpload", false, false), Class::UploadGone);
        assert_eq!(class(403, "NoSuchUpload", true, false), Class::UploadGone);
    }

    #[test]
    fn a_part_that_cannot_be_replaced_is_not_tried_for_ever() {
        assert_eq!(class(501, "NotImplemented", false, false), Class::UploadSpent);
    }

    #[test]
    fn damaged_bytes_are_hashed_again() {
        assert_eq!(class(400, "BadDigest", false, false), Class::Rehash);
    }
}
