//! schemathesis 4, which makes requests from an OpenAPI document, good and bad ones, and holds the answers against it.

use std::time::Duration;

use serde_json::Value;

use crate::eventually;
use crate::s3::{Process, tool};

/// Longest time for a run: they take seconds on a machine that has nothing else to do.
const ENDS_WITHIN: Duration = Duration::from_secs(600);

/// The same requests each time.
const SEED: &str = "7";

/// What is not as schemathesis expects by default.
const CONFIG: &str = r#"
# 422: the same Idempotency-Key with another body, which no schema can say.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 422, 429]

# Nor can a schema say that a signature is right.
[[operations]]
include-name = "POST /ws/enroll"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401]
"#;

/// A run against a server.
#[derive(Debug)]
pub struct Schemathesis<'a> {
    /// The server's URL.
    pub url: &'a str,
    /// Whose token is sent; none in a trial, where none is asked for.
    pub token: Option<&'a str>,
    /// Most cases for each page and phase.
    pub examples: u32,
}

/// What came of a run that found nothing.
#[derive(Debug)]
pub struct Passed(Value);

impl Schemathesis<'_> {
    /// Runs it to its end; none where it is not installed.
    ///
    /// # Panics
    /// If it finds something, with what it found.
    pub async fn run(&self) -> Option<Passed> {
        let program = tool("schemathesis", "schemathesis/bin/st")?;
        let dir = tempfile::tempdir().expect("a folder for schemathesis");
        std::fs::write(dir.path().join("schemathesis.toml"), CONFIG).expect("its settings");
        let report = dir.path().join("report.json");
        let mut args: Vec<String> =
            ["run", "--no-color", "--seed", SEED, "--checks", "all"].map(str::to_owned).to_vec();
        // A download that is cancelled is still there to be looked at.
        let mut not_ours = vec!["use_after_free"];
        if self.token.is_none() {
            // A trial asks for no token.
            not_ours.push("ignored_auth");
            args.extend(["--generation-with-security-parameters".to_owned(), "false".to_owned()]);
        }
        args.extend(["--exclude-checks".to_owned(), not_ours.join(",")]);
        args.extend(["--max-examples".to_owned(), self.examples.to_string()]);
        args.extend(
            ["--continue-on-failure", "--generation-database", "none", "--output-truncate", "false"]
                .map(str::to_owned),
        );
        args.extend(["--suppress-health-check", "all", "--request-timeout", "60"].map(str::to_owned));
        args.extend(["--report-json-path".to_owned(), report.display().to_string()]);
        if let Some(token) = self.token {
            args.extend(["--header".to_owned(), format!("Authorization: Bearer {token}")]);
        }
        args.push(format!("{}/openapi.json", self.url));
        let mut process =
            Process::start("schemathesis", dir, &program, &args, &[("NO_PROXY", "*".to_owned())]);
        let status = eventually("schemathesis to end", ENDS_WITHIN, || {
            let ended = process.ended().ok_or_else(|| process.last_words());
            async { ended }
        })
        .await;
        assert!(status.success(), "schemathesis ({status}):\n{}", process.output());
        let report = std::fs::read(report).expect("the report");
        Some(Passed(serde_json::from_slice(&report).expect("a report in JSON")))
    }
}

impl Passed {
    /// Tells how many requests were made.
    pub fn requests(&self) -> u64 {
        self.0["test_cases"]["generated"].as_u64().unwrap_or(0)
    }

    /// Gives the pages that understood a request at least once, as `GET /path`: it was done, or came at the wrong time.
    pub fn understood(&self) -> Vec<&str> {
        let pages = self.0["valid_rates"].as_object().into_iter().flatten();
        let understood = |phases: &Value| {
            let phases = phases.as_object().into_iter().flatten();
            let counts = phases.flat_map(|(_, phase)| [&phase["accepted"], &phase["conflicts"]]);
            counts.filter_map(Value::as_u64).sum::<u64>() > 0
        };
        pages.filter(|(_, phases)| understood(phases)).map(|(page, _)| page.as_str()).collect()
    }
}
