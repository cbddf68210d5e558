//! The audit trail in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hoist_wire::Timestamp;
use hoist_wire::audit::{Entry, GENESIS, Head, Line};

use super::{MemoryStore, Status, size};
use crate::store::trail::{Done, Intent, Trail, TrailFilter, cut_line, sha256};
use crate::store::{Idempotency, Inserted, Record, StoreError};

/// What is kept of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    lines: BTreeMap<(String, u64), Line>,
    intents: Vec<Intent>,
    cuts: BTreeMap<String, Head>,
}

impl Kept {
    fn of(&self, node: &str) -> impl DoubleEndedIterator<Item = &Line> {
        let range = (node.to_owned(), 0)..=(node.to_owned(), u64::MAX);
        self.lines.range(range).map(|(_, line)| line)
    }

    fn head(&self, node: &str) -> Option<Head> {
        self.of(node).next_back().map(|line| Head { seq: line.seq, hash: line.hash.clone() })
    }

    /// Adds a line to the chain of its node.
    pub(super) fn append(&mut self, entry: &Entry) {
        let genesis = || Head { seq: 0, hash: GENESIS.to_owned() };
        let last = self.head(&entry.node).or_else(|| self.cuts.get(&entry.node).cloned());
        let last = last.unwrap_or_else(genesis);
        let line = Line::seal(entry.clone(), last.seq + 1, last.hash, sha256);
        self.lines.insert((line.node.clone(), line.seq), line);
    }
}

fn is_wanted(filter: &TrailFilter, line: &Line) -> bool {
    let has = |text: &String| {
        line.who.as_ref() == Some(text)
            || line.subject.contains(text)
            || line.detail.as_ref().is_some_and(|detail| detail.contains(text))
    };
    filter.who.as_ref().is_none_or(|who| line.who.as_ref() == Some(who))
        && filter.action.as_ref().is_none_or(|action| line.action == *action)
        && filter.about.as_ref().is_none_or(has)
        && filter.since.is_none_or(|since| line.at >= since)
        && filter.until.is_none_or(|until| line.at < until)
        && (!filter.refused || matches!(line.status, 401 | 403 | 409 | 429))
        && match (filter.cursor, filter.oldest_first) {
            (Some(cursor), true) => line.seq > cursor,
            (Some(cursor), false) => line.seq < cursor,
            (None, _) => true,
        }
}

#[async_trait]
impl Trail for MemoryStore {
    async fn trail_write(&self, intents: &[Intent], done: &[Done]) -> Result<(), StoreError> {
        let kept = &mut self.tables().trail;
        kept.intents.extend_from_slice(intents);
        for Done { entry, intent } in done {
            kept.append(entry);
            kept.intents.retain(|there| Some(&there.id) != intent.as_ref());
        }
        Ok(())
    }

    async fn trail_unsettled(&self, node: &str, limit: u32) -> Result<Vec<Intent>, StoreError> {
        let mut intents = self.tables().trail.intents.clone();
        intents.retain(|intent| intent.entry.node == node);
        intents.sort_by(|a, b| (a.entry.at, &a.id).cmp(&(b.entry.at, &b.id)));
        intents.truncate(size(limit));
        Ok(intents)
    }

    async fn trail(&self, node: &str, filter: &TrailFilter, limit: u32) -> Result<Vec<Line>, StoreError> {
        let tables = self.tables();
        let wanted = |line: &&Line| is_wanted(filter, line);
        let lines = tables.trail.of(node);
        Ok(if filter.oldest_first {
            lines.filter(wanted).take(size(limit)).cloned().collect()
        } else {
            lines.rev().filter(wanted).take(size(limit)).cloned().collect()
        })
    }

    async fn trail_head(&self, node: &str) -> Result<Option<Head>, StoreError> {
        Ok(self.tables().trail.head(node))
    }

    async fn trail_cut(&self, node: &str) -> Result<Option<Head>, StoreError> {
        Ok(self.tables().trail.cuts.get(node).cloned())
    }

    async fn trail_forget(
        &self,
        node: &str,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let kept = &mut self.tables().trail;
        let old: Vec<Head> = kept
            .of(node)
            .take(size(limit))
            .take_while(|line| line.at < before)
            .map(|line| Head { seq: line.seq, hash: line.hash.clone() })
            .collect();
        let Some(cut) = old.last().cloned() else { return Ok(0) };
        let lines = u64::try_from(old.len()).unwrap_or(u64::MAX);
        kept.append(&cut_line(node, &cut, lines, now));
        kept.lines.retain(|(of, seq), _| of != node || *seq > cut.seq);
        kept.cuts.insert(node.to_owned(), cut);
        Ok(lines)
    }

    async fn insert_noted(
        &self,
        record: &Record,
        idempotency: Option<&Idempotency>,
        max_open: u32,
        entry: &Entry,
    ) -> Result<Option<Inserted>, StoreError> {
        let mut tables = self.tables();
        let inserted = tables.insert(record, idempotency, max_open);
        if matches!(inserted, Ok(Some(Inserted::New))) {
            tables.trail.append(entry);
        }
        inserted
    }

    async fn forget_downloads(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let gone = |record: &&Record| {
            let mut own = tables.uploads.iter().filter(|upload| upload.row.download_id == record.id);
            own.all(|upload| upload.status == Status::Gone)
        };
        let old = tables.downloads.values().filter(|record| {
            record.life.state.is_final() && record.finished_at.is_some_and(|finished_at| finished_at < before)
        });
        let mut old: Vec<_> = old.filter(gone).map(|record| (record.finished_at, record.id)).collect();
        old.sort_unstable();
        old.truncate(size(limit));
        for (_, id) in &old {
            tables.downloads.remove(id);
            tables.parts.remove(id);
            tables.uploads.retain(|upload| upload.row.download_id != *id);
        }
        Ok(u64::try_from(old.len()).unwrap_or(u64::MAX))
    }
}
