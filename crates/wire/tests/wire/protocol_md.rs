//! `docs/protocol.md` says what the code says: kinds, examples, limits, names, and what the handshake needs.

use hoist_wire::limits::*;
use hoist_wire::{ErrorCode, ToAgent, ToServer};
use serde_json::Value;

use crate::golden::read;

const DOC: &str = include_str!("../../../../docs/protocol.md");

/// Gives the text below a heading, up to the next of the same level.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = format!("\n{heading}\n");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("docs/protocol.md lacks {heading}"));
    let level = heading.split(' ').next().unwrap();
    rest.split(&format!("\n{level} ")).next().unwrap()
}

/// Gives the headings of the third level, in order.
fn kinds(section: &str) -> Vec<&str> {
    section.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect()
}

fn example(section: &str) -> Value {
    let (_, rest) = section.split_once("```json\n").unwrap();
    let (json, _) = rest.split_once("```").unwrap();
    serde_json::from_str(json).unwrap()
}

fn check(heading: &str, direction: &str, known: &[&str]) {
    let said = section(DOC, heading);
    assert_eq!(kinds(said), known, "{heading}");
    for kind in known {
        let example = example(section(said, &format!("### `{kind}`")));
        // The fullest golden file is the example.
        let file = if *kind == "progress" { "progress_waiting" } else { kind };
        let golden: Value = serde_json::from_str(&read(&format!("{direction}.{file}"))).unwrap();
        assert_eq!(example, golden, "the example of {kind}");
    }
}

#[test]
fn each_kind_has_its_heading_and_its_golden_example() {
    check("## Said by the agent", "to_server", ToServer::KINDS);
    check("## Said by the server", "to_agent", ToAgent::KINDS);
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn each_limit_stands_there_with_its_number() {
    let size = |bytes: usize| u64::try_from(bytes).unwrap();
    let limits = [
        ("MAX_FRAME_TO_SERVER", size(MAX_FRAME_TO_SERVER)),
        ("MAX_FRAME_TO_AGENT", size(MAX_FRAME_TO_AGENT)),
        ("MAX_PARTS_PER_MESSAGE", size(MAX_PARTS_PER_MESSAGE)),
        ("MAX_SLOTS", u64::from(MAX_SLOTS)),
        ("MAX_FACTS", size(MAX_FACTS)),
        ("MAX_FACT_BYTES", size(MAX_FACT_BYTES)),
        ("MAX_LABELS", size(MAX_LABELS)),
        ("MAX_LABEL_BYTES", size(MAX_LABEL_BYTES)),
        ("MAX_REACH_LABELS", size(MAX_REACH_LABELS)),
        ("MAX_PATH_BYTES", size(MAX_PATH_BYTES)),
        ("MAX_MESSAGE_BYTES", size(MAX_MESSAGE_BYTES)),
        ("MAX_QUEUED_TO_AGENT", size(MAX_QUEUED_TO_AGENT)),
        ("MAX_PARTS", u64::from(MAX_PARTS)),
        ("MIN_PART_SIZE_BYTES", MIN_PART_SIZE_BYTES),
        ("MAX_PART_SIZE_BYTES", MAX_PART_SIZE_BYTES),
        ("MAX_OBJECT_BYTES", MAX_OBJECT_BYTES),
        ("MAX_KEY_BYTES", size(MAX_KEY_BYTES)),
        ("MAX_METADATA_BYTES", size(MAX_METADATA_BYTES)),
        ("MAX_OPERATOR_METADATA_BYTES", size(MAX_OPERATOR_METADATA_BYTES)),
        ("MAX_REST_BODY_BYTES", size(MAX_REST_BODY_BYTES)),
        ("MIN_RATE_BYTES_PER_SEC", MIN_RATE_BYTES_PER_SEC),
        ("PING_INTERVAL_SECS", u64::from(PING_INTERVAL_SECS)),
        ("LINK_SILENCE_SECS", u64::from(LINK_SILENCE_SECS)),
        ("PARTS_ANSWER_SECS", u64::from(PARTS_ANSWER_SECS)),
        ("DEFAULT_TTL_SECS", DEFAULT_TTL_SECS),
        ("MAX_TTL_SECS", MAX_TTL_SECS),
        ("MAX_CHANGED_PASSES", u64::from(MAX_CHANGED_PASSES)),
    ];
    let rows = section(DOC, "## Limits");
    for (name, value) in limits {
        let row = format!("\n| `{name}` | {} |", with_commas(value));
        assert!(rows.contains(&row), "docs/protocol.md lacks the row{row}");
    }
    let source = include_str!("../../src/limits.rs");
    assert_eq!(source.matches("\npub const ").count(), limits.len(), "a limit is in no row of the test");
}

#[test]
fn each_name_stands_there() {
    let names: Value = serde_json::from_str(&read("names")).unwrap();
    let in_section = |what: &str, heading: &str| {
        for name in names[what].as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(section(DOC, heading).contains(&format!("`{name}`")), "{heading} lacks {name}");
        }
    };
    in_section("error_code", "## Error codes");
    in_section("reason_code", "## Reasons");
    in_section("outcome", "## Said by the server");
    in_section("goodbye_reason", "## Said by the server");
    in_section("on_change", "## When the file changes");
    in_section("checksum_kind", "## Parts and grants");
    in_section("encoding", "## Parts and grants");
}

#[test]
fn codes_stand_where_the_code_puts_them() {
    let rows = section(DOC, "## Error codes");
    let row = |start: &str| {
        let found = rows.lines().find(|line| line.starts_with(&format!("| {start} |")));
        let cell = found.unwrap_or_else(|| panic!("no row {start}")).split('|').nth(2).unwrap();
        cell.split('`').skip(1).step_by(2).map(ErrorCode::from_name).collect::<Vec<_>>()
    };
    assert!(row("An agent refuses for now").iter().all(|code| code.is_retryable()));
    assert!(!row("An agent refuses for good").iter().any(|code| code.is_retryable()));
    for (start, statuses) in [
        ("REST, 400", &[400][..]),
        ("REST, 401 and 403", &[401, 403]),
        ("REST, 404 and 405", &[404, 405]),
        ("REST, 409", &[409]),
        ("REST, 413 and 415", &[413, 415]),
        ("REST, 422 and 429", &[422, 429]),
        ("REST, 500 and 503", &[500, 503]),
    ] {
        for code in row(start) {
            assert!(statuses.contains(&code.status()), "{code} is {}", code.status());
        }
    }
}

#[test]
fn the_examples_of_identities_are_the_golden_files() {
    use hoist_wire::identity::{ENROLL_PATH, NONCE_LIFE_SECS, NONCE_PATH, PROOF_LIFE_SECS};
    let said = section(DOC, "## A key of its own");
    let examples: Vec<Value> = said
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let golden = ["identity.enroll_request", "identity.enroll_reply", "identity.nonce_reply", "claims.proof"];
    let pinned: Vec<Value> = golden.iter().map(|name| serde_json::from_str(&read(name)).unwrap()).collect();
    assert_eq!(examples, pinned);
    assert!(said.contains(&format!("POST {ENROLL_PATH} ")) && said.contains(&format!("GET {NONCE_PATH} ")));
    assert!(said.contains(&format!("at most {PROOF_LIFE_SECS} s behind")) && NONCE_LIFE_SECS == 60);
}

#[test]
fn the_handshake_is_the_one_of_the_code() {
    let opening = section(DOC, "## Opening a link");
    assert!(opening.contains(&format!("\nGET {} HTTP/1.1\n", hoist_wire::LINK_PATH)));
    assert!(opening.contains(&format!("\nSec-WebSocket-Protocol: {}\n", hoist_wire::PROTOCOL)));
    assert!(
        opening.to_lowercase().contains(&format!("\n{}: <process>.<machine>\n", hoist_wire::INSTANCE_HEADER))
    );
    assert!(opening.contains(&format!("`{}`", hoist_wire::AGENT_AUDIENCE)));
    assert!(DOC.starts_with(&format!("# The wire protocol, `{}`\n", hoist_wire::PROTOCOL)));
}
