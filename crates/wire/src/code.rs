//! The one list of what can go wrong, for REST and for the wire.

use serde::{Deserialize, Serialize};

/// A stable name for a failure. Codes are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    // What an agent refuses.
    /// There is no such file below the roots.
    FileNotFound,
    /// The path names a directory.
    IsADirectory,
    /// The path names a device, a pipe or a socket.
    NotARegularFile,
    /// The agent's user may not read the file.
    PermissionDenied,
    /// The path leads outside what the site lets go.
    OutsideRoots,
    /// The file is larger than the site lets go, or than S3 takes.
    FileTooLarge,
    /// The request names no file, and the agent has no `FILE_PATH`.
    NoDefaultFile,
    /// The path cannot name a file (empty, or with a NUL byte).
    InvalidPath,
    /// The file's name is not UTF-8, and an object's key must be.
    PathNotUtf8,
    /// The path is longer than the system or the wire takes.
    PathTooLong,
    /// The file changed while it was read.
    FileChanged,
    /// The file could not be read; the device or the file system failed.
    ReadFailed,
    /// Another program holds the file.
    FileLocked,
    /// The agent is working on as much as it can.
    AgentBusy,
    /// The agent's policy allows other hours.
    OutsideHours,
    /// The agent's policy has a limit for each day, and today's is used up.
    DayUsedUp,
    /// The agent is stopping.
    ShuttingDown,
    /// The agent may not send to the host that the grant names.
    StorageNotAllowed,
    /// Storage refused a fresh grant twice.
    StorageRefused,
    /// Storage keeps what an earlier pass put into this upload, and will not take other bytes in its place.
    NeedsNewUpload,
    /// A rule of the site's policy forbids it; the message names the rule.
    DeniedByPolicy,
    /// The file has more than one hard link.
    HardLinked,
    /// The agent does not understand what it is asked to do.
    Unsupported,

    // How a download ends.
    /// The file changed in each of several passes.
    FileChangesTooOften,
    /// What storage has is not what the agent read.
    ChecksumMismatch,
    /// Nobody could tell in time whether the object is right.
    Unproven,
    /// The deadline came.
    Expired,
    /// An operator cancelled it.
    Cancelled,
    /// The agent broke the protocol.
    ProtocolViolation,

    // What REST answers.
    /// The request's body or query is wrong.
    InvalidRequest,
    /// The client id is no client id.
    InvalidClientId,
    /// No such client was ever seen.
    UnknownClient,
    /// No such download.
    UnknownDownload,
    /// No such page.
    NotFound,
    /// The page knows other methods.
    MethodNotAllowed,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The body is too long.
    BodyTooLarge,
    /// The token is missing or not valid.
    Unauthorized,
    /// The agent's proof is right, and its clock is not.
    ClockSkew,
    /// The agent's proof was made with a nonce that has ended, or has been used.
    StaleNonce,
    /// The token is valid, and does not allow this.
    Forbidden,
    /// A cross-site request to a server in trial mode.
    CrossSite,
    /// The download is being completed, and ends by itself.
    TooLate,
    /// The download has ended already.
    AlreadyFinal,
    /// There is no object to fetch yet.
    NotCompleted,
    /// The same `Idempotency-Key` came with another body.
    IdempotencyMismatch,
    /// Too much is queued for the client.
    QueueFull,
    /// Another machine holds the client's link.
    LinkTaken,
    /// The client's agent opens links faster than one that works would.
    ConnectsTooOften,
    /// This address failed too often to show who it is, or has too many connections.
    TooManyAttempts,
    /// The record cannot be read or written now.
    StoreUnavailable,
    /// The bucket cannot be reached now.
    BucketUnavailable,
    /// The server is stopping or not ready.
    NotReady,
    /// A defect in hoist.
    Internal,

    /// A code of a newer version.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// Gives the name used in JSON and in the store.
    pub fn as_str(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(_) | Err(_) => String::from("unknown"),
        }
    }

    /// Reads a name; one of a newer version becomes [`ErrorCode::Unknown`].
    pub fn from_name(name: &str) -> Self {
        serde_json::from_value(serde_json::Value::from(name)).unwrap_or(Self::Unknown)
    }

    /// Gives the HTTP status that REST answers with this code.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::InvalidClientId | Self::InvalidPath => 400,
            Self::Unauthorized | Self::ClockSkew | Self::StaleNonce => 401,
            Self::Forbidden | Self::CrossSite => 403,
            Self::UnknownClient | Self::UnknownDownload | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooLate | Self::AlreadyFinal | Self::NotCompleted | Self::LinkTaken => 409,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::IdempotencyMismatch => 422,
            Self::QueueFull | Self::ConnectsTooOften | Self::TooManyAttempts => 429,
            Self::StoreUnavailable | Self::BucketUnavailable | Self::NotReady => 503,
            // What ends a download is told in its record; as an answer it would be ours.
            Self::FileNotFound
            | Self::IsADirectory
            | Self::NotARegularFile
            | Self::PermissionDenied
            | Self::OutsideRoots
            | Self::FileTooLarge
            | Self::NoDefaultFile
            | Self::PathNotUtf8
            | Self::PathTooLong
            | Self::FileChanged
            | Self::ReadFailed
            | Self::FileLocked
            | Self::AgentBusy
            | Self::OutsideHours
            | Self::DayUsedUp
            | Self::ShuttingDown
            | Self::StorageNotAllowed
            | Self::StorageRefused
            | Self::NeedsNewUpload
            | Self::DeniedByPolicy
            | Self::HardLinked
            | Self::Unsupported
            | Self::FileChangesTooOften
            | Self::ChecksumMismatch
            | Self::Unproven
            | Self::Expired
            | Self::Cancelled
            | Self::ProtocolViolation
            | Self::Internal
            | Self::Unknown => 500,
        }
    }

    /// Tells whether an agent may refuse with this code: it is of the first kind in the list, or of a newer version.
    pub fn is_of_agents(self) -> bool {
        self <= Self::Unsupported || matches!(self, Self::Internal | Self::Unknown)
    }

    /// Tells whether an agent's refusal with this code is for now, so that it is asked again.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::FileLocked
                | Self::AgentBusy
                | Self::OutsideHours
                | Self::DayUsedUp
                | Self::ShuttingDown
                | Self::ReadFailed
                | Self::NeedsNewUpload
                | Self::StoreUnavailable
                | Self::BucketUnavailable
                | Self::NotReady
                | Self::QueueFull
                | Self::ConnectsTooOften
                | Self::TooManyAttempts
        )
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_stable_names() {
        assert_eq!(ErrorCode::FileChangesTooOften.as_str(), "file_changes_too_often");
        assert_eq!(ErrorCode::from_name("file_not_found"), ErrorCode::FileNotFound);
        assert_eq!(ErrorCode::from_name("of_a_newer_version"), ErrorCode::Unknown);
    }

    #[test]
    fn an_agent_cannot_speak_for_the_server() {
        use ErrorCode::{Cancelled, Expired, FileNotFound, Internal, Unauthorized, Unproven, Unsupported};
        assert!([FileNotFound, Unsupported, Internal].into_iter().all(ErrorCode::is_of_agents));
        assert!(![Unproven, Expired, Cancelled, Unauthorized].into_iter().any(ErrorCode::is_of_agents));
    }
}
