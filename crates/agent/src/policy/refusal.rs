//! Why a file does not leave, in words for the operator: what is wrong and what can be done. Nothing of what is outside.

use std::io;

use hoist_wire::ErrorCode;
use hoist_wire::limits::MAX_PATH_BYTES;

use crate::opening::NotAFile;
use crate::platform;

/// Why a file does not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct NotGiven {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// When it may be asked again; none where it is for good.
    pub(crate) retry_after_ms: Option<u64>,
}

pub(super) fn not_a_file(shown: &str, other: NotAFile) -> NotGiven {
    match other {
        NotAFile::Directory => {
            refusal(ErrorCode::IsADirectory, format!("{shown} is a directory: name one file in it"))
        }
        NotAFile::Special(kind) => refusal(
            ErrorCode::NotARegularFile,
            format!("{shown} is a {kind}: only regular files can be sent"),
        ),
    }
}

pub(super) fn outside(asked: &str) -> NotGiven {
    let message = format!(
        "{asked} leads outside what this site lets go: the site's administrator may add a folder with --root"
    );
    refusal(ErrorCode::OutsideRoots, message)
}

pub(super) fn too_long(bytes: usize) -> NotGiven {
    let message =
        format!("the path has {bytes} bytes, over the limit of {MAX_PATH_BYTES}: use a shorter one");
    refusal(ErrorCode::PathTooLong, message)
}

/// Gives a failure of the system its code and what the operator can do.
pub(super) fn failed(shown: &str, error: &io::Error) -> NotGiven {
    use io::ErrorKind;
    if platform::is_locked(error) {
        let message = format!("{shown} is held by another program ({error}): try again when it is released");
        return refusal(ErrorCode::FileLocked, message);
    }
    if platform::is_loop(error) {
        let message = format!("{shown} leads round in circles: mend its symlinks");
        return refusal(ErrorCode::FileNotFound, message);
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum of the standard library is open")]
    let (code, what) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            (ErrorCode::FileNotFound, "does not exist below the roots: check the path".to_owned())
        }
        ErrorKind::PermissionDenied => {
            let who = platform::user();
            (
                ErrorCode::PermissionDenied,
                format!("may not be read by the agent ({who}): let it read the file"),
            )
        }
        ErrorKind::InvalidFilename => {
            (ErrorCode::PathTooLong, "has a name that is too long for the file system".to_owned())
        }
        ErrorKind::InvalidInput => (ErrorCode::InvalidPath, "cannot name a file".to_owned()),
        _ => (ErrorCode::ReadFailed, format!("could not be read: {error}; check the disk at the site")),
    };
    refusal(code, format!("{shown} {what}"))
}

pub(super) fn refusal(code: ErrorCode, message: String) -> NotGiven {
    NotGiven { code, message, retry_after_ms: None }
}
