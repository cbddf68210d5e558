//! The audit trail: who did what, when, from where, and how it ended.
//!
//! What changes something is noted before it is done and after: a line stands before its answer leaves, and what was cut short
//! is said at the next start. Deliberately absent: what was only looked at, and links that were opened. They are noted when
//! they are refused.

mod refusals;
mod retention;
mod writer;

use std::net::IpAddr;
use std::sync::Arc;

use hoist_wire::ErrorCode;
use hoist_wire::audit::Entry;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::clock::{World, random_id};
use crate::store::{Done, Intent, Store, StoreError};

use refusals::Refusals;
pub use retention::Retention;
pub(crate) use retention::retain;
use writer::Job;
pub(crate) use writer::{Ending, Writer};

/// Most pieces of the trail that wait to be written.
const QUEUE: usize = 1024;

/// Longest text of a line, in bytes; what is longer is cut.
const MAX_TEXT_BYTES: usize = 1024;

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
    /// Gave a client labels.
    LabelsSet,
    /// Logged in: opened a session.
    SessionOpen,
    /// Logged out, or ended the sessions of somebody.
    SessionEnd,
    /// Refused all tokens of an operator from now on.
    OperatorRevoke,
    /// Enrolled a key, as an agent.
    ClientEnroll,
    /// Revoked a client.
    ClientRevoke,
    /// Looked at the audit trail.
    AuditRead,
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
            Self::LabelsSet => "labels.set",
            Self::SessionOpen => "session.open",
            Self::SessionEnd => "session.end",
            Self::OperatorRevoke => "operator.revoke",
            Self::ClientEnroll => "client.enroll",
            Self::ClientRevoke => "client.revoke",
            Self::AuditRead => "audit.read",
            Self::LinkOpen => "link.open",
        }
    }
}

/// What somebody is about to do, as far as it is known before it is done. An extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who: an operator's name, or a client id; none where nobody was recognised.
    pub who: Option<String>,
    /// The id of the token that was shown.
    pub token: Option<String>,
    /// From where.
    pub from: Option<IpAddr>,
    /// What.
    pub action: Action,
    /// To what: the page's path, without its query.
    pub subject: String,
}

/// How it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
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

/// The page has written its line itself, together with what it did: an extension of its response.
#[derive(Debug, Clone, Copy)]
pub struct Noted;

/// An action that was noted before it is done.
#[derive(Debug, Default)]
pub struct Begun(Option<String>);

/// Keeps the trail.
#[derive(Debug)]
pub struct Audit {
    node: String,
    jobs: mpsc::Sender<Job>,
    refusals: Arc<Refusals>,
    world: Arc<dyn World>,
    /// Deeds in hand, which go on when nobody waits for them any more.
    deeds: TaskTracker,
}

impl Audit {
    /// Makes the trail of a node, and what writes it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        world: Arc<dyn World>,
        to_stdout: bool,
    ) -> Result<(Self, Writer), StoreError> {
        let node = node_id(&*store, &*world).await?;
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let refusals = Arc::<Refusals>::default();
        let writer = Writer::open(node.clone(), store, waiting, Arc::clone(&refusals), to_stdout).await?;
        let audit = Self { node, jobs, refusals, world, deeds: TaskTracker::new() };
        Ok((audit, writer))
    }

    /// The node whose chain this is.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Carries a deed through to its end, whether anybody waits for it or not.
    pub(crate) async fn carry<T: Send + 'static>(&self, deed: impl Future<Output = T> + Send + 'static) -> T {
        let task = self.deeds.spawn(deed);
        task.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
    }

    /// Notes that something is about to be done.
    ///
    /// # Errors
    /// [`StoreError`]: then it must not be done.
    pub async fn begin(&self, deed: &Deed) -> Result<Begun, StoreError> {
        let id = random_id(&*self.world);
        let entry = self.entry(deed, Outcome::default());
        self.write(Some(Intent { id: id.clone(), entry }), None).await?;
        Ok(Begun(Some(id)))
    }

    /// Notes how something ended.
    ///
    /// # Errors
    /// [`StoreError`]: then nobody may be told that it was done.
    pub async fn end(&self, begun: Begun, deed: &Deed, outcome: Outcome) -> Result<(), StoreError> {
        let entry = self.entry(deed, outcome);
        self.write(None, Some(Done { entry, intent: begun.0 })).await
    }

    /// Notes that somebody was refused, and does not wait for it. A flood is counted, and its number is told.
    pub fn refused(&self, deed: &Deed, outcome: Outcome) {
        let entry = self.entry(deed, outcome);
        if !self.refusals.takes(deed.from) {
            return;
        }
        let done = Some(Done { entry, intent: None });
        if self.jobs.try_send(Job { intent: None, done, told: None }).is_err() {
            self.refusals.count(deed.from);
        }
    }

    /// Gives the line of something, as it is written together with what was done.
    pub fn entry(&self, deed: &Deed, outcome: Outcome) -> Entry {
        let Outcome { status, code, detail } = outcome;
        Entry {
            node: self.node.clone(),
            at: self.world.now(),
            action: deed.action.as_str().to_owned(),
            who: deed.who.as_deref().map(plain),
            token: deed.token.as_deref().map(plain),
            from: deed.from.map(|from| from.to_string()),
            subject: plain(&deed.subject),
            status,
            code: code.map(ErrorCode::as_str),
            detail: detail.as_deref().map(plain),
            count: 1,
        }
    }

    async fn write(&self, intent: Option<Intent>, done: Option<Done>) -> Result<(), StoreError> {
        let (told, hear) = oneshot::channel();
        let gone =
            || StoreError::Query { doing: "write the audit trail", source: sqlx::Error::WorkerCrashed };
        let job = Job { intent, done, told: Some(told) };
        self.jobs.send(job).await.map_err(|_| gone())?;
        if hear.await.unwrap_or(false) { Ok(()) } else { Err(gone()) }
    }
}

/// Gives the id of this node: it is kept with the record.
async fn node_id(store: &dyn Store, world: &dyn World) -> Result<String, StoreError> {
    const NAME: &str = "node_id";
    if let Some(id) = store.setting(NAME).await? {
        return Ok(id);
    }
    let id: String = random_id(world).chars().take(8).collect();
    store.set_setting(NAME, &id).await?;
    Ok(id)
}

/// Writes a text so that it can stand on one line of anything: what is no plain character is escaped, what is too long is cut.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let before = out.len();
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        if out.len() > MAX_TEXT_BYTES {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests;
