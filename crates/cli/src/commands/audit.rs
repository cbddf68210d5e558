//! The audit trail: shown, and checked here, since the server may be the liar.

use hoist_wire::audit::{AuditPage, Chain, Head, Line};
use ring::digest;
use serde_json::json;

use crate::api::{Api, Ask};
use crate::args::{Audit, Verify};
use crate::failure::Failure;
use crate::text;

/// Lines of a page.
const PAGE: u32 = 1000;

/// How often the check begins anew because old lines are cut while it reads.
const MOST_TRIES: u32 = 5;

pub(super) async fn run(api: &Api, asked: Audit, json: bool) -> Result<(), Failure> {
    match &asked.what {
        Some(Verify::Verify { heads }) => verify(api, heads, json).await,
        None => list(api, &asked, json).await,
    }
}

async fn list(api: &Api, asked: &Audit, json: bool) -> Result<(), Failure> {
    let (mut lines, mut cursor, mut cut) = (Vec::new(), None, None);
    loop {
        let left = asked.limit - u32::try_from(lines.len()).unwrap_or(asked.limit);
        let ask = Ask::get(&["audit"])
            .query("who", asked.who.clone())
            .query("action", asked.action.clone())
            .query("about", asked.about.clone())
            .query("since", asked.since.map(|at| at.to_string()))
            .query("until", asked.until.map(|at| at.to_string()))
            .query("refused", asked.refused.then(|| "true".to_owned()))
            .query("limit", Some(left.min(PAGE).to_string()))
            .query("cursor", cursor);
        let page: AuditPage = api.send(&ask).await?.value;
        cut = page.cut.or(cut);
        lines.extend(page.lines);
        cursor = page.next;
        if cursor.is_none() || lines.len() >= asked.limit as usize {
            break;
        }
    }
    if json {
        return text::print(&text::safe_json(
            &json!({ "lines": lines, "next": cursor, "cut": cut }).to_string(),
        ));
    }
    let rows: Vec<_> = lines.iter().map(row).collect();
    text::print(&text::table(&["SEQ", "AT", "WHO", "FROM", "ACTION", "STATUS", "SUBJECT", "DETAIL"], &rows))
}

fn row(line: &Line) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let status = match (line.status, &line.code) {
        (0, _) => "unknown".to_owned(),
        (status, Some(code)) => format!("{status} {code}"),
        (status, None) => status.to_string(),
    };
    vec![
        line.seq.to_string(),
        line.at.to_string(),
        or_none(&line.who),
        or_none(&line.from),
        line.action.clone(),
        status,
        line.subject.clone(),
        or_none(&line.detail),
    ]
}

async fn verify(api: &Api, heads: &[Head], json: bool) -> Result<(), Failure> {
    let mut tries = 0;
    let (count, last) = loop {
        match read_chain(api, heads).await? {
            Some(read) => break read,
            None if tries < MOST_TRIES => tries += 1,
            None => {
                let why =
                    "retention cuts faster than the trail is read: ask again, from nearer to the server";
                return Err(Failure::Broken(why.to_owned()));
            }
        }
    };
    if json {
        return text::print(&json!({ "lines": count, "head": last.to_string() }).to_string());
    }
    text::print(&format!("{count} lines hold together; the head is {last}"))?;
    if heads.is_empty() {
        text::note(
            "no --head was given: whether the newest lines were cut off cannot be told; the server's log has heads (`audit head`)",
        );
    }
    Ok(())
}

/// Reads all lines and checks them; gives how many there are, and the last. Gives none where lines that were not read yet were
/// cut meanwhile.
async fn read_chain(api: &Api, heads: &[Head]) -> Result<Option<(u64, Head)>, Failure> {
    let (mut chain, mut cursor, mut count) = (None::<Chain>, None, 0_u64);
    loop {
        let ask = Ask::get(&["audit"])
            .query("order", Some("oldest".to_owned()))
            .query("limit", Some(PAGE.to_string()))
            .query("cursor", cursor);
        let page: AuditPage = api.send(&ask).await?.value;
        let chain = chain.get_or_insert_with(|| Chain::new(sha256, page.cut.clone(), heads));
        if chain.is_overtaken(page.cut.as_ref()) {
            return Ok(None);
        }
        for line in &page.lines {
            chain.take(line).map_err(|broken| Failure::Broken(broken.to_string()))?;
            count += 1;
        }
        cursor = page.next;
        if cursor.is_none() {
            let last = std::mem::replace(chain, Chain::new(sha256, None, &[])).end();
            return Ok(Some((count, last.map_err(|broken| Failure::Broken(broken.to_string()))?)));
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For whoever writes a check of their own.
    #[test]
    fn the_documented_line_has_the_hash_that_it_shows() {
        let docs = include_str!("../../../../docs/operations.md");
        let shown = docs.lines().find(|line| line.starts_with("{\"node\":")).unwrap();
        let line: Line = serde_json::from_str(shown).unwrap();
        assert_eq!(line.hash, line.computed(sha256));
        let encoded = String::from_utf8(line.encoded()).unwrap();
        assert!(docs.contains(&encoded), "{encoded}");
    }
}
