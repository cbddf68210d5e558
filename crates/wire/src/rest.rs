//! The JSON of the REST interface, as the server writes it and the command line reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(feature = "schema")]
use crate::limits::{MAX_PATH_BYTES, MAX_TTL_SECS, MIN_RATE_BYTES_PER_SEC};
use crate::reach::{Labels, Reach};
use crate::{ChecksumKind, ClientId, DownloadId, ErrorCode, OnChange, ReasonCode, Sealed, State, Timestamp};

/// The body of `POST /trigger-download/{client_id}`; all of it is optional.
///
/// An unknown field is an error: a misspelt `file_path` must not quietly bring the default file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DownloadRequest {
    /// The file; none for the agent's `FILE_PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1), extend("maxLength" = MAX_PATH_BYTES), regex(pattern = r"^[^\x00]*$")))]
    pub file_path: Option<String>,
    /// The operator's own metadata, kept with the object: at most 1 KiB, names and values together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = {"pattern": "^(?!hoist-)[a-z0-9-]+$"})))]
    pub metadata: BTreeMap<String, String>,
    /// Seconds that it may wait for its first stored part; from each stored part on it has at least 14 days.
    #[serde(default, deserialize_with = "crate::whole::optional", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_TTL_SECS)))]
    pub ttl_secs: Option<u64>,
    /// What to do when the file changes while it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
    /// Most bytes a second, at least 1024; as fast as the site allows where absent.
    #[serde(default, deserialize_with = "crate::whole::optional", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = MIN_RATE_BYTES_PER_SEC, max = i64::MAX)))]
    pub max_rate_bytes_per_sec: Option<u64>,
    /// Takes the request for a client that was never seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unknown: bool,
}

/// The body of `PATCH /downloads/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["max_rate_bytes_per_sec"])))]
pub struct DownloadChange {
    /// Most bytes a second, at least 1024; null for as fast as the site allows. It must be there.
    #[serde(deserialize_with = "crate::whole::optional")]
    #[cfg_attr(feature = "schema", schemars(range(min = MIN_RATE_BYTES_PER_SEC, max = i64::MAX)))]
    pub max_rate_bytes_per_sec: Option<u64>,
}

/// A download, as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Download {
    /// The download's id.
    pub id: DownloadId,
    /// Whose file it is.
    pub client_id: ClientId,
    /// The file as it was asked for, or as the agent resolved it; null while unknown.
    pub file_path: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// Why it is there; null in a final state.
    pub reason: Option<ReasonCode>,
    /// The reason for a person.
    pub reason_message: Option<String>,
    /// Since when.
    pub reason_since: Option<Timestamp>,
    /// What happens next; null in a final state.
    pub next_step: Option<String>,
    /// By when the next step happens at the latest.
    pub next_at: Option<Timestamp>,
    /// When it expires unless another part is stored.
    pub expires_at: Timestamp,
    /// The pass over the file; 0 while no agent was asked.
    pub attempt: u32,
    /// Bytes in the file; null until known.
    pub size_bytes: Option<u64>,
    /// Bytes in storage or on their way.
    pub sent_bytes: u64,
    /// Bytes that storage has confirmed.
    pub stored_bytes: u64,
    /// Bytes a second, while it is sending.
    pub rate_bytes_per_sec: Option<u64>,
    /// Most bytes a second that were asked for; absent where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate_bytes_per_sec: Option<u64>,
    /// The bucket.
    pub bucket: String,
    /// The object; null until known.
    pub object_key: Option<String>,
    /// CRC64NVME of the file in base64, once it is known.
    pub checksum_crc64nvme: Option<String>,
    /// How the object was proven; null until completed.
    pub proof: Option<ChecksumKind>,
    /// What went wrong; null unless it failed, expired or was cancelled.
    pub error: Option<DownloadError>,
    /// What to do when the file changes.
    pub on_change: OnChange,
    /// The operator's own metadata.
    pub metadata: BTreeMap<String, String>,
    /// Who asked.
    pub requested_by: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When an agent first took it.
    pub started_at: Option<Timestamp>,
    /// When its record last changed.
    pub updated_at: Timestamp,
    /// When it came to its final state.
    pub finished_at: Option<Timestamp>,
}

/// What went wrong with a download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DownloadError {
    /// Stable name.
    pub code: ErrorCode,
    /// For a person, with what to do.
    pub message: String,
}

/// A page of downloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DownloadPage {
    /// Newest first.
    pub downloads: Vec<Download>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

/// A client, as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Client {
    /// The client's id.
    pub client_id: ClientId,
    /// Whether it has a link now.
    pub connected: bool,
    /// Since when it is connected, or not.
    pub since: Option<Timestamp>,
    /// When it was last heard of; null for one that never was.
    pub last_seen: Option<Timestamp>,
    /// The agent's version.
    pub version: Option<String>,
    /// Operating system and processor.
    pub os: Option<String>,
    /// Host name.
    pub host: Option<String>,
    /// When its token ends.
    pub token_expires_at: Option<Timestamp>,
    /// How it shows who it is; absent for one that was never here, and for one that was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityKind>,
    /// Names the secret that its last token was signed with; absent for a client with a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_kid: Option<String>,
    /// Whether that secret is an old one, of `JWT_SECRET_PREVIOUS` or dropped; absent where it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token_secret_is_old: bool,
    /// Since when it has its own key; absent for one that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled_at: Option<Timestamp>,
    /// When it was last revoked: it takes a newer token, or a new enrolment, to come back; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// When another agent last tried to be this client while this one's link lived; absent where that never happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_suspected_at: Option<Timestamp>,
    /// The two agents of that moment: the one that had the link, and the one that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clone_suspects: Vec<CloneSuspect>,
    /// Its labels, as an admin set them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// How a client shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// By its own key.
    Key,
    /// By a token that the server signed.
    Token,
}

/// One of two agents that both say that they are the same client. Nothing of this is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CloneSuspect {
    /// What it did: had the link, or was refused.
    pub role: CloneRole,
    /// The id of its machine, as its log names it; null for an agent that names none.
    pub machine: Option<String>,
    /// The id of its process; a machine that was copied whole has the machine's id, and another one of these.
    pub process: Option<String>,
    /// Its host name; null where it was never heard, since a refused agent says no `hello`.
    pub host: Option<String>,
}

/// What a suspect did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CloneRole {
    /// It had the link, and answered.
    Linked,
    /// It was refused with `link_taken`.
    Refused,
}

/// A page of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientPage {
    /// By id.
    pub clients: Vec<Client>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

/// The answer of `GET /status/{client_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientStatus {
    /// The client's id.
    pub client_id: ClientId,
    /// Whether it has a link now.
    pub connected: bool,
    /// Since when it is connected, or not.
    pub since: Option<Timestamp>,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// The agent's version.
    pub version: Option<String>,
    /// How it shows who it is; absent for one that was never here, and for one that was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityKind>,
    /// Names the secret that its last token was signed with; absent for a client with a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_kid: Option<String>,
    /// Whether that secret is an old one, of `JWT_SECRET_PREVIOUS` or dropped; absent where it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token_secret_is_old: bool,
    /// When it was last revoked; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// When another agent last tried to be this client while this one's link lived; absent where that never happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_suspected_at: Option<Timestamp>,
    /// The two agents of that moment: the one that had the link, and the one that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clone_suspects: Vec<CloneSuspect>,
    /// Its labels, as an admin set them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Downloads that are not final, oldest first, at most 100.
    pub current: Vec<Download>,
    /// The newest final downloads, at most 10.
    pub recent: Vec<Download>,
}

/// The body of `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(transform = crate::schema::token_request))]
pub struct TokenRequest {
    /// For whom.
    pub kind: TokenKind,
    /// The client id, or a name for the operator.
    pub subject: String,
    /// What an operator may do; ignored for a client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// The clients that an operator's token reaches; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Reach>,
    /// Seconds until it ends; the server's default where absent.
    #[serde(default, deserialize_with = "crate::whole::optional", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10 * MAX_TTL_SECS)))]
    pub ttl_secs: Option<u64>,
}

/// For whom a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// An agent.
    Client,
    /// An operator.
    Operator,
    /// An agent, once: it enrols a key of its own with it.
    Enrolment,
}

/// What an operator may do. Each is separate; `admin` implies the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look.
    Read,
    /// Ask for files, and fetch them.
    Download,
    /// Make tokens, and decide who may do what.
    Admin,
}

/// The answer of `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenReply {
    /// The token.
    pub token: Sealed,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An error, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `about:blank`: the code says more than a page could (RFC 9457, 4.2.1).
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, with the value and the mend.
    pub detail: String,
    /// Stable name.
    pub code: ErrorCode,
}
