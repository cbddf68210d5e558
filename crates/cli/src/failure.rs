//! How a command ends when it does not end well: what it says, and the exit code that scripts read.

use hoist_wire::rest::{Download, Problem};
use hoist_wire::{DownloadId, ErrorCode};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something said or set by the caller is wrong.
    #[error("{0}")]
    Input(String),
    /// No answer came.
    #[error("cannot reach {who}: {cause}")]
    Unreachable {
        /// The server or the bucket, by its address without any secret.
        who: String,
        /// What happened, innermost last.
        cause: String,
        /// What to look at.
        mend: &'static str,
    },
    /// The server answered with an error.
    #[error("{}", problem.detail)]
    Problem {
        /// The error, from the server or made from the bare status.
        problem: Box<Problem>,
        /// The body as it came, when it was problem+json.
        text: Option<String>,
        /// How many seconds the server wants to be left alone.
        retry_after_secs: Option<u64>,
    },
    /// The answer makes no sense.
    #[error("the answer to {what} is not understood: {cause}")]
    Answer {
        /// Method and path.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The download ended without an object.
    #[error("{}", ended(.0))]
    Ended(Box<Download>),
    /// The audit trail does not hold together.
    #[error("the audit trail does not hold: {0}")]
    Broken(String),
    /// The object is there, but the local file could not be made.
    #[error("{message}")]
    NotSaved {
        /// Stable name.
        code: &'static str,
        /// What went wrong.
        message: String,
    },
    /// What was to be printed is lost.
    #[error("stdout cannot be written, and what should stand there is lost: {0}")]
    Output(std::io::Error),
    /// The time for waiting is over.
    #[error("timed out while waiting; download {0} goes on")]
    TimedOut(DownloadId),
    /// The caller wants no more.
    #[error("interrupted; download {0} goes on")]
    Interrupted(DownloadId),
}

fn ended(download: &Download) -> String {
    match &download.error {
        Some(error) => format!("download {} {}: {}", download.id, download.state, error.message),
        None => format!("download {} {}", download.id, download.state),
    }
}

impl Failure {
    /// Gives the exit code, as `--help` documents it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Ended(_) | Self::Broken(_) | Self::NotSaved { .. } | Self::Output(_) => 1,
            Self::Input(_) => 2,
            Self::Unreachable { .. } | Self::Answer { .. } => 3,
            Self::Problem { problem, .. } => match problem.status {
                401 | 403 => 4,
                404 => 5,
                409 => 7,
                408 | 429 | 500.. => 3,
                _ => 2,
            },
            Self::TimedOut(_) => 6,
            Self::Interrupted(_) => 130,
        }
    }

    /// Gives the stable name, where there is one.
    pub(crate) fn code(&self) -> Option<String> {
        match self {
            Self::Problem { problem, text, .. } => Some(match (problem.code, text) {
                (ErrorCode::Unknown, Some(text)) => code_in(text)?,
                (ErrorCode::Unknown, None) => return None,
                (code, _) => code.as_str(),
            }),
            Self::Ended(download) => download.error.as_ref().map(|error| error.code.as_str()),
            Self::NotSaved { code, .. } => Some((*code).to_owned()),
            Self::Broken(_) => Some("trail_broken".to_owned()),
            Self::Input(_)
            | Self::Unreachable { .. }
            | Self::Answer { .. }
            | Self::Output(_)
            | Self::TimedOut(_)
            | Self::Interrupted(_) => None,
        }
    }

    /// Gives the mend: what the caller may do now.
    pub(crate) fn mend(&self) -> Option<String> {
        match self {
            Self::Unreachable { mend, .. } => Some((*mend).to_owned()),
            Self::Problem { problem, .. } => mend(problem.code).map(str::to_owned),
            Self::Answer { .. } => Some("is that a hoist server, and is this hoist as new as it?".to_owned()),
            Self::Ended(download) => download.error.as_ref().and_then(|e| mend(e.code)).map(str::to_owned),
            Self::TimedOut(id) | Self::Interrupted(id) => {
                Some(format!("hoist watch {id} waits again; hoist cancel {id} ends it"))
            }
            Self::Output(_) => Some(
                "what was asked for is done; `hoist show ID` and `hoist downloads` tell of downloads"
                    .to_owned(),
            ),
            Self::Broken(_) => Some(
                "keep a copy of the database and of the log with its heads before anything is cut by retention"
                    .to_owned(),
            ),
            Self::Input(_) | Self::NotSaved { .. } => None,
        }
    }

    /// Tells whether the same request may well be answered later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem { problem, .. } => matches!(problem.status, 408 | 429 | 502..=504),
            Self::Input(_)
            | Self::Answer { .. }
            | Self::Ended(_)
            | Self::Broken(_)
            | Self::NotSaved { .. }
            | Self::Output(_)
            | Self::TimedOut(_)
            | Self::Interrupted(_) => false,
        }
    }
}

/// Gives the code as it came: a newer server has codes that this version cannot name.
fn code_in(problem: &str) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_str(problem).ok()?;
    problem.get("code")?.as_str().map(str::to_owned)
}

fn mend(code: ErrorCode) -> Option<&'static str> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only few codes have a mend that the command line knows"
    )]
    match code {
        ErrorCode::Unauthorized => {
            Some("set OPERATOR_TOKEN; `hoist token operator --local` makes one on the server's machine")
        }
        ErrorCode::Forbidden => Some("use a token with the scope that this needs: read, download or admin"),
        ErrorCode::UnknownClient => {
            Some("`hoist list` shows the known clients; --allow-unknown asks for one that was never seen")
        }
        ErrorCode::UnknownDownload => Some("`hoist downloads` shows the newest ones"),
        ErrorCode::NotCompleted => Some("wait for it with `hoist watch ID -o FILE`"),
        ErrorCode::NoDefaultFile => Some("name the file: hoist download CLIENT PATH"),
        ErrorCode::IdempotencyMismatch => Some("use another --idempotency-key for another request"),
        ErrorCode::QueueFull => Some("`hoist status CLIENT` shows what is queued; cancel some, or try later"),
        _ => None,
    }
}
