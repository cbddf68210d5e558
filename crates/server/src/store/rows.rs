//! Between records and columns: every conversion is written out.

use std::fmt::Display;
use std::str::FromStr;

use hoist_engine::life::{Failure, Life, Reason, Upload};
use hoist_wire::audit::{Entry, Head, Line};
use hoist_wire::{Attempt, ErrorCode, LinkSeq, State, Timestamp};
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::StoreError;
use super::operators::SessionRow;
use super::record::{ClientRow, CloneSuspicion, FoundFile, Record, UploadRow};
use super::trail::Intent;
use crate::bucket::MultipartId;

/// Reads the columns of one row, with errors that name the column.
pub(super) struct Columns<'r, R>(pub(super) &'r R);

impl<'r, R: Row> Columns<'r, R>
where
    &'static str: ColumnIndex<R>,
    i64: Type<R::Database> + Decode<'r, R::Database>,
    String: Type<R::Database> + Decode<'r, R::Database>,
    Option<i64>: Type<R::Database> + Decode<'r, R::Database>,
    Option<String>: Type<R::Database> + Decode<'r, R::Database>,
{
    fn get<T: Type<R::Database> + Decode<'r, R::Database>>(
        &self,
        name: &'static str,
    ) -> Result<T, StoreError> {
        self.0.try_get(name).map_err(|source| StoreError::Query { doing: name, source })
    }

    fn text(&self, name: &'static str) -> Result<String, StoreError> {
        self.get(name)
    }

    fn maybe_text(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        self.get(name)
    }

    fn time(&self, name: &'static str) -> Result<Timestamp, StoreError> {
        self.get(name).map(Timestamp)
    }

    fn maybe_time(&self, name: &'static str) -> Result<Option<Timestamp>, StoreError> {
        self.get::<Option<i64>>(name).map(|ms| ms.map(Timestamp))
    }

    /// A count or size: never negative, or the row is damaged.
    fn number(&self, name: &'static str) -> Result<u64, StoreError> {
        let value: i64 = self.get(name)?;
        u64::try_from(value).map_err(|_| StoreError::Corrupt { what: name, value: value.to_string() })
    }

    fn maybe_number(&self, name: &'static str) -> Result<Option<u64>, StoreError> {
        if self.get::<Option<i64>>(name)?.is_none() { Ok(None) } else { self.number(name).map(Some) }
    }

    fn small(&self, name: &'static str) -> Result<u32, StoreError> {
        let value = self.number(name)?;
        u32::try_from(value).map_err(|_| StoreError::Corrupt { what: name, value: value.to_string() })
    }

    /// A text that must be this as JSON.
    fn json<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, StoreError> {
        let value = self.text(name)?;
        serde_json::from_str(&value).map_err(|_| StoreError::Corrupt { what: name, value })
    }

    /// A text that must name something.
    fn named<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        let value = self.text(name)?;
        value.parse().map_err(|_| StoreError::Corrupt { what: name, value })
    }

    fn maybe_named<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, StoreError> {
        if self.maybe_text(name)?.is_none() { Ok(None) } else { self.named(name).map(Some) }
    }
}

/// Writes an unsigned number as the database's signed one. Nothing that we keep comes near 2^63.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Writes something by its name.
pub(super) fn name<T: Display>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Reads a download.
pub(super) fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    let columns = Columns(row);
    let found = match (columns.maybe_text("found_path")?, columns.maybe_text("file_name")?) {
        (Some(path), Some(name)) => {
            let modified_ms = columns.maybe_time("modified_ms")?.map_or(0, |time| time.0);
            Some(FoundFile { path, name, modified_ms })
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    let metadata = columns.text("metadata")?;
    Ok(Record {
        id: columns.named("id")?,
        client_id: columns.named("client_id")?,
        version: columns.number("version")?,
        life: life(&columns)?,
        file_path: columns.maybe_text("file_path")?,
        found,
        object_key: columns.maybe_text("object_key")?,
        write_token: columns.text("write_token")?,
        metadata: serde_json::from_str(&metadata)
            .map_err(|_| StoreError::Corrupt { what: "metadata", value: metadata })?,
        requested_by: columns.text("requested_by")?,
        max_rate_bytes_per_sec: columns.maybe_number("max_rate_bytes_per_sec")?,
        stored_bytes: columns.number("stored_bytes")?,
        created_at: columns.time("created_at")?,
        started_at: columns.maybe_time("started_at")?,
        updated_at: columns.time("updated_at")?,
        finished_at: columns.maybe_time("finished_at")?,
    })
}

fn life(columns: &Columns<'_, SqliteRow>) -> Result<Life, StoreError> {
    let state: State = columns.named("state")?;
    let reason = match columns.maybe_named("reason_code")? {
        Some(code) => Some(Reason {
            code,
            message: columns.maybe_text("reason_message")?.unwrap_or_default(),
            since: columns.time("reason_since")?,
            next_at: columns.time("next_at")?,
        }),
        None => None,
    };
    let upload = match (columns.maybe_number("part_size_bytes")?, columns.maybe_named("checksum")?) {
        (Some(part_size_bytes), Some(checksum)) => Some(Upload { part_size_bytes, checksum }),
        (Some(_) | None, Some(_) | None) => None,
    };
    let failure = columns.maybe_text("error_code")?.map(|code| Failure {
        code: ErrorCode::from_name(&code),
        message: columns.maybe_text("error_message").ok().flatten().unwrap_or_default(),
    });
    Ok(Life {
        state,
        reason,
        attempt: Attempt(columns.small("attempt")?),
        link: columns.maybe_number("link")?.map(LinkSeq),
        changed_passes: columns.small("changed_passes")?,
        contradicted: columns.small("contradicted")?,
        on_change: columns.named("on_change")?,
        site_chooses: columns.number("site_chooses")? != 0,
        expires_at: columns.time("expires_at")?,
        size_bytes: columns.maybe_number("size_bytes")?,
        upload,
        crc64nvme: columns.maybe_named("crc64nvme")?,
        absent_since: columns.maybe_time("absent_since")?,
        proof: columns.maybe_named("proof")?,
        failure,
    })
}

/// Reads a client.
pub(super) fn client(row: &SqliteRow) -> Result<ClientRow, StoreError> {
    let columns = Columns(row);
    let suspicion = match columns.maybe_time("clone_suspected_at")? {
        Some(at) => Some(CloneSuspicion {
            at,
            linked: columns.maybe_named("clone_linked")?,
            linked_host: columns.maybe_text("clone_linked_host")?,
            refused: columns.maybe_named("clone_refused")?,
        }),
        None => None,
    };
    Ok(ClientRow {
        client_id: columns.named("client_id")?,
        connected_link: columns.maybe_number("connected_link")?.map(LinkSeq),
        since: columns.maybe_time("since")?,
        last_seen: columns.maybe_time("last_seen")?,
        agent_version: columns.maybe_text("agent_version")?,
        os: columns.maybe_text("os")?,
        host: columns.maybe_text("host")?,
        token_expires_at: columns.maybe_time("token_expires_at")?,
        token_kid: columns.maybe_text("token_kid")?,
        enrolled_at: columns.maybe_time("enrolled_at")?,
        revoked_at: columns.maybe_time("revoked_at")?,
        suspicion,
        labels: columns.json("labels")?,
    })
}

/// Reads a session.
pub(super) fn session(row: &SqliteRow) -> Result<SessionRow, StoreError> {
    let columns = Columns(row);
    let reach = match columns.maybe_text("reach")? {
        Some(_) => Some(columns.json("reach")?),
        None => None,
    };
    Ok(SessionRow {
        cookie_sha256: columns.text("cookie_sha256")?,
        operator: columns.text("operator")?,
        scopes: columns.json("scopes")?,
        reach,
        token_id: columns.text("token_id")?,
        token_made_secs: columns.number("token_made_secs")?,
        created_at: columns.time("created_at")?,
        last_used_at: columns.time("last_used_at")?,
        expires_at: columns.time("expires_at")?,
    })
}

/// Reads a count.
pub(super) fn count(row: &SqliteRow, name: &'static str) -> Result<i64, StoreError> {
    Columns(row).get(name)
}

/// Reads an upload.
pub(super) fn upload(row: &SqliteRow) -> Result<UploadRow, StoreError> {
    let columns = Columns(row);
    Ok(UploadRow {
        upload_row: columns.text("upload_row")?,
        download_id: columns.named("download_id")?,
        object_key: columns.text("object_key")?,
        multipart_id: columns.maybe_text("multipart_id")?.map(MultipartId),
        aborted_once: columns.number("aborted_once")? != 0,
    })
}

/// Reads a place in the audit trail.
pub(super) fn head(row: &SqliteRow) -> Result<Head, StoreError> {
    let columns = Columns(row);
    Ok(Head { seq: columns.number("seq")?, hash: columns.text("hash")? })
}

/// Reads a line of the audit trail, whatever it says: whether it is right, the chain tells.
pub(super) fn line(row: &SqliteRow) -> Result<Line, StoreError> {
    let columns = Columns(row);
    let status = columns.number("status")?;
    Ok(Line {
        node: columns.text("node")?,
        seq: columns.number("seq")?,
        at: columns.time("at")?,
        action: columns.text("action")?,
        who: columns.maybe_text("who")?,
        token: columns.maybe_text("token")?,
        from: columns.maybe_text("from_address")?,
        subject: columns.text("subject")?,
        status: u16::try_from(status)
            .map_err(|_| StoreError::Corrupt { what: "status", value: status.to_string() })?,
        code: columns.maybe_text("code")?,
        detail: columns.maybe_text("detail")?,
        count: columns.number("count")?,
        prev: columns.text("prev")?,
        hash: columns.text("hash")?,
    })
}

/// Reads what was about to be done.
pub(super) fn intent(row: &SqliteRow) -> Result<Intent, StoreError> {
    let columns = Columns(row);
    let entry = Entry {
        node: columns.text("node")?,
        at: columns.time("at")?,
        action: columns.text("action")?,
        who: columns.maybe_text("who")?,
        token: columns.maybe_text("token")?,
        from: columns.maybe_text("from_address")?,
        subject: columns.text("subject")?,
        status: 0,
        code: None,
        detail: columns.maybe_text("detail")?,
        count: 1,
    };
    Ok(Intent { id: columns.text("intent")?, entry })
}
