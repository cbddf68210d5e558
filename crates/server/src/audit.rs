//! The audit trail: who did what, when, from where, and how it ended.
//!
//! Deliberately absent: what was only looked at, and links that were opened. They are noted when they are refused.

use std::net::IpAddr;

use hoist_wire::ErrorCode;

/// What somebody did, or tried to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Looked at something. Noted only when it is refused.
    Look,
    /// Asked for a file.
    DownloadRequest,
    /// Changed a download.
    DownloadChange,
    /// Cancelled a download.
    DownloadCancel,
    /// Fetched a file from the bucket.
    DownloadFetch,
    /// Made a token.
    TokenMake,
    /// Enrolled a key, as an agent.
    ClientEnroll,
    /// Revoked a client.
    ClientRevoke,
    /// Opened a link, as an agent. Noted only when it is refused.
    LinkOpen,
}

impl Action {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::DownloadRequest => "download.request",
            Self::DownloadChange => "download.change",
            Self::DownloadCancel => "download.cancel",
            Self::DownloadFetch => "download.fetch",
            Self::TokenMake => "token.make",
            Self::ClientEnroll => "client.enroll",
            Self::ClientRevoke => "client.revoke",
            Self::LinkOpen => "link.open",
        }
    }
}

/// One line of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who: an operator's name, or a client id; none where nobody was recognised.
    pub who: Option<String>,
    /// From where.
    pub from: Option<IpAddr>,
    /// What.
    pub action: Action,
    /// To what: the page's path, without its query.
    pub subject: String,
    /// The HTTP status that answered it.
    pub status: u16,
    /// Why it was refused, or failed.
    pub code: Option<ErrorCode>,
    /// What else there is to say of it, such as the file that was asked for.
    pub detail: Option<String>,
}

/// What a page adds to its line of the trail: an extension of its response.
#[derive(Debug, Clone)]
pub struct Detail(pub String);

/// Keeps the trail.
#[derive(Debug, Default)]
pub struct Audit;

impl Audit {
    /// Notes what was done.
    pub fn note(&self, deed: &Deed) {
        let Deed { who, from, action, subject, status, code, detail } = deed;
        let (who, from) = (who.as_deref().unwrap_or("-"), from.map(tracing::field::display));
        let code = code.map(ErrorCode::as_str);
        tracing::info!(target: "audit", who, from, action = action.as_str(), subject, status, code, detail);
    }
}
