//! What can be said on the command line.
//!
//! Deliberately absent: what any of it does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use hoist_wire::audit::Head;
use hoist_wire::duration::{LengthError, parse_duration, parse_rate};
use hoist_wire::reach::check_label;
use hoist_wire::rest::Scope;
use hoist_wire::{ClientId, DownloadId, OnChange, State, Timestamp};
use url::Url;

const AFTER_HELP: &str = "\
Settings come from the environment, or from the file .env in this folder:
  SERVER_URL      the server (default http://127.0.0.1:8080)
  OPERATOR_TOKEN  the token to show it; a server in trial mode needs none
  EXTRA_CA_FILE   more certificate authorities to trust (PEM), beside the system's
  ALLOW_PLAIN_SERVER=true  sends the token over plain http:// to another machine too

Exit codes:
  0    done
  1    the download failed, expired or was cancelled, or the file or the output could not be written
  2    wrong usage or input
  3    the server (or, with -o, the bucket) cannot be reached or cannot answer now
  4    refused: the token is missing, not valid, or does not allow this
  5    no such client or download
  6    timed out while waiting; the download goes on
  7    conflict: too late to cancel, ended already, not completed yet
  130  interrupted while waiting; the download goes on

With --json, stdout has exactly one JSON document, as REST gives it: the last state of a download that was
waited for, a list with all its pages in one, or the server's problem+json when it refused. Progress and
errors for people go to stderr.";

/// Fetches files from machines that nobody can reach, through the server that they are linked to.
#[derive(Debug, Parser)]
#[command(name = "hoist", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// The server's URL; SERVER_URL where absent.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// Prints one JSON document on stdout, as REST gives it.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Asks for a file, and waits until it is in the bucket.
    Download(Download),
    /// Shows one download.
    Show { id: DownloadId },
    /// Waits until a download ends.
    Watch {
        id: DownloadId,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Cancels a download.
    Cancel { id: DownloadId },
    /// Asks once more for the file of a download, as a new download, and waits.
    Retry {
        id: DownloadId,
        /// Prints the new download's id, and does not wait.
        #[arg(long, conflicts_with_all = ["output", "timeout"])]
        no_wait: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Changes how fast a download may go, also while it runs.
    Limit {
        id: DownloadId,
        /// Most bytes a second, such as 500KB or 2Mbit, at least 1KiB; none for as fast as the site allows.
        #[arg(value_name = "RATE|none", value_parser = parse_limit)]
        rate: Limit,
    },
    /// Lists downloads, newest first.
    Downloads(Downloads),
    /// Shows a client: whether it is connected, and its downloads.
    Status { client: ClientId },
    /// Lists all clients that the server knows.
    List,
    /// Clients: list them, label one, or revoke one that was stolen.
    Clients {
        #[command(subcommand)]
        what: Clients,
    },
    /// Operators: revoke the tokens of one.
    Operators {
        #[command(subcommand)]
        what: Operators,
    },
    /// Shows the audit trail, newest first; or checks it.
    Audit(Audit),
    /// Makes a token, and prints it alone on stdout.
    Token {
        #[command(subcommand)]
        whose: Token,
    },
}

/// A rate in bytes a second, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u64>);

#[derive(Debug, Args)]
pub(crate) struct Download {
    /// The client that has the file; --client-id does the same.
    #[arg(value_name = "CLIENT")]
    first: Option<String>,
    /// The file at the site; absent, the one that the agent's FILE_PATH names.
    #[arg(value_name = "PATH")]
    second: Option<String>,
    /// The client that has the file.
    #[arg(long, value_name = "CLIENT")]
    client_id: Option<ClientId>,
    /// The file at the site, as PATH.
    #[arg(long, value_name = "PATH")]
    file_path: Option<String>,
    /// Keeps this with the object; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// How long it may wait for its first stored part [server's default: 14d]; from each stored part on it has at least 14d.
    #[arg(long, value_parser = parse_length)]
    pub(crate) ttl: Option<Duration>,
    /// What to do when the file changes while it is read: restart, fail, or prefix.
    #[arg(long, value_name = "WHAT", value_parser = parse_on_change)]
    pub(crate) on_change: Option<OnChange>,
    /// Most bytes a second, such as 500KB or 2Mbit, at least 1KiB [as fast as the site allows].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) max_rate: Option<u64>,
    /// Asks also for a client that the server has never seen.
    #[arg(long)]
    pub(crate) allow_unknown: bool,
    /// Prints the download's id, and does not wait.
    #[arg(long, conflicts_with_all = ["output", "timeout"])]
    pub(crate) no_wait: bool,
    /// Two requests with the same key are one download, for 24 h; random where absent.
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Saves the object here once it is completed, after its size and checksum are found right.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Stops waiting after this long (30s, 15m, 2h); the download goes on.
    #[arg(long, value_name = "LENGTH", value_parser = parse_length)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Downloads {
    /// Only of this client.
    #[arg(long, value_name = "CLIENT")]
    pub(crate) client_id: Option<ClientId>,
    /// Only in this state: queued, uploading, completing, completed, failed, cancelled or expired.
    #[arg(long, value_parser = parse_state)]
    pub(crate) state: Option<State>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) what: Option<Verify>,
    /// Only what this operator or client did.
    #[arg(long)]
    pub(crate) who: Option<String>,
    /// Only this action, such as token.make.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only lines with this text in who, subject or detail: a client, a download.
    #[arg(long)]
    pub(crate) about: Option<String>,
    /// Only from then on (RFC 3339).
    #[arg(long)]
    pub(crate) since: Option<Timestamp>,
    /// Only before then (RFC 3339).
    #[arg(long)]
    pub(crate) until: Option<Timestamp>,
    /// Only what was refused.
    #[arg(long)]
    pub(crate) refused: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verify {
    /// Fetches the whole trail, and checks the chain here: an edit, a gap and a cut show, and that these heads are in it.
    Verify {
        /// A head that the server's log said once, SEQ:HASH; may be given more than once. Without one, a tail that was cut is
        /// not seen.
        #[arg(long = "head", value_name = "SEQ:HASH")]
        heads: Vec<Head>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Clients {
    /// Lists all clients, as `hoist list` does.
    List,
    /// Takes a client's key and tokens, and ends its link at once: for a machine that was stolen or copied.
    Revoke { id: ClientId },
    /// Changes the labels of a client, which say whose token reaches it.
    Label {
        id: ClientId,
        /// NAME=VALUE sets a label, NAME- removes one.
        #[arg(required = true, value_name = "NAME=VALUE|NAME-", value_parser = parse_label_change)]
        changes: Vec<LabelChange>,
    },
}

/// A change of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelChange {
    /// The label has this value from now on.
    Set(String, String),
    /// The label goes.
    Remove(String),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Operators {
    /// Refuses all tokens of an operator that were made until now, and ends the sessions: for a token that leaked.
    Revoke {
        #[arg(value_parser = parse_name)]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// For an agent.
    Client {
        id: ClientId,
        #[command(flatten)]
        terms: TokenTerms,
    },
    /// For one enrolment: the agent makes a key of its own, and shows this once (ENROLL_TOKEN).
    Enroll {
        id: ClientId,
        /// How long it waits for its one use [server's default: 24h].
        #[arg(long, value_parser = parse_length)]
        ttl: Option<Duration>,
    },
    /// For a person or a program that asks for files.
    Operator {
        /// Whose name the audit shows.
        #[arg(default_value = "operator", value_parser = parse_name)]
        name: String,
        /// What it may do: read, download, admin (which implies the others).
        #[arg(long, value_delimiter = ',', value_parser = parse_scope, default_values = ["read", "download"])]
        scopes: Vec<Scope>,
        /// Reaches only clients whose id begins so.
        #[arg(long, value_name = "PREFIX")]
        client_prefix: Option<String>,
        /// Reaches only clients with this label; may be given more than once.
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_pair)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        terms: TokenTerms,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenTerms {
    /// How long it is good; absent, JWT_EXPIRY for a client (90d), and 30d for an operator.
    #[arg(long, value_parser = parse_length)]
    pub(crate) ttl: Option<Duration>,
    /// Signs it here, with JWT_SECRET or the file jwt-secret in DATA_DIR, and asks no server.
    #[arg(long)]
    pub(crate) local: bool,
}

impl Download {
    /// Gives the client and the path, from whichever of the two ways each was said in.
    ///
    /// # Errors
    /// A message when one is missing, said twice, or wrong.
    pub(crate) fn target(&self) -> Result<(ClientId, Option<String>), String> {
        let (client, path) = match (&self.client_id, &self.first, &self.second) {
            (Some(_), Some(first), Some(_)) => {
                return Err(format!("the client is given twice: --client-id and {first:?}"));
            }
            (Some(client), path, None) => (client.clone(), path.as_ref()),
            (None, Some(first), path) => (first.parse().map_err(display)?, path.as_ref()),
            (None, None, _) | (Some(_), None, Some(_)) => {
                return Err("say which client has the file: hoist download restaurant-1".to_owned());
            }
        };
        match (path, &self.file_path) {
            (Some(path), Some(_)) => Err(format!("the file is given twice: --file-path and {path:?}")),
            (path, other) => Ok((client, path.or(other.as_ref()).cloned())),
        }
    }
}

fn display(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn parse_length(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => {
            Err("it must be more than nothing: write such as 30s, 15m, 24h or 90d".to_owned())
        }
        other => other.map_err(display),
    }
}

fn parse_limit(text: &str) -> Result<Limit, LengthError> {
    if text == "none" { Ok(Limit(None)) } else { parse_rate(text).map(|rate| Limit(Some(rate))) }
}

fn parse_state(text: &str) -> Result<State, String> {
    one_of(text, State::ALL, State::as_str)
}

fn parse_on_change(text: &str) -> Result<OnChange, String> {
    one_of(text, OnChange::ALL, OnChange::as_str)
}

/// Finds what a name means; one that means nothing is answered with all that do.
fn one_of<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let names = || all.iter().map(|value| name(*value)).collect::<Vec<_>>().join(", ");
    all.iter().copied().find(|value| name(*value) == text).ok_or_else(|| format!("use one of {}", names()))
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

fn parse_label_change(text: &str) -> Result<LabelChange, String> {
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((name, value)), _) => {
            check_label(name, value).map_err(display)?;
            Ok(LabelChange::Set(name.to_owned(), value.to_owned()))
        }
        (None, Some(name)) if !name.is_empty() => Ok(LabelChange::Remove(name.to_owned())),
        (None, _) => Err(format!("{text:?} is neither NAME=VALUE nor NAME-")),
    }
}

fn parse_key(text: &str) -> Result<String, String> {
    visible(text, 255)
}

fn parse_name(text: &str) -> Result<String, String> {
    visible(text, 128)
}

fn visible(text: &str, most: usize) -> Result<String, String> {
    let plain = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
    if plain { Ok(text.to_owned()) } else { Err(format!("use 1 to {most} visible ASCII characters")) }
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    match text {
        "read" => Ok(Scope::Read),
        "download" => Ok(Scope::Download),
        "admin" => Ok(Scope::Admin),
        other => Err(format!("{other:?} is not a scope: use read, download or admin")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(args: &[&str]) -> Result<(String, Option<String>), String> {
        let cli = Cli::try_parse_from(["hoist", "download"].iter().chain(args)).map_err(display)?;
        let Command::Download(download) = cli.command else { return Err("another command".to_owned()) };
        download.target().map(|(client, path)| (client.to_string(), path))
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn both_ways_to_name_client_and_file_mean_the_same() {
        let whole = Ok(("r-1".to_owned(), Some("/f".to_owned())));
        assert_eq!(target(&["r-1", "/f"]), whole);
        assert_eq!(target(&["--client-id=r-1", "/f"]), whole);
        assert_eq!(target(&["--client-id", "r-1", "--file-path", "/f"]), whole);
        assert_eq!(target(&["r-1", "--file-path=/f"]), whole);
        assert_eq!(target(&["--client-id=r-1"]), Ok(("r-1".to_owned(), None)));
    }

    #[test]
    fn a_label_is_set_or_removed() {
        assert_eq!(parse_label_change("a=b"), Ok(LabelChange::Set("a".to_owned(), "b".to_owned())));
        assert_eq!(parse_label_change("a-"), Ok(LabelChange::Remove("a".to_owned())));
        for bad in ["", "-", "a", "a=", "=b", "a b=c"] {
            assert!(parse_label_change(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_limit_is_a_rate_or_none() {
        assert_eq!(parse_limit("2Mbit"), Ok(Limit(Some(250_000))));
        assert_eq!(parse_limit("none"), Ok(Limit(None)));
        assert!(parse_limit("0").is_err() && parse_limit("").is_err());
    }

    #[test]
    fn a_state_that_is_none_is_answered_with_all_that_are() {
        let error = Cli::try_parse_from(["hoist", "downloads", "--state=bogus"]).unwrap_err().to_string();
        for state in State::ALL {
            assert!(error.contains(state.as_str()), "{error}");
        }
        assert!(Cli::try_parse_from(["hoist", "downloads", "--state=queued"]).is_ok());
    }

    #[test]
    fn a_wrong_target_is_named() {
        for (args, part) in [
            (&[] as &[&str], "which client"),
            (&["--client-id=a", "b", "/f"], "client is given twice"),
            (&["a", "/f", "--file-path=/g"], "file is given twice"),
            (&["a b"], "not valid"),
            (&["a", "--ttl=0"], "more than nothing"),
            (&["a", "--ttl=soon"], "length of time"),
            (&["a", "--on-change=bogus"], "restart, fail, prefix"),
            (&["a", "--max-rate=1KB"], "at least 1024"),
            (&["a", "--max-rate=fast"], "not a rate"),
            (&["a", "--metadata==x"], "not KEY=VALUE"),
            (&["a", "--no-wait", "-o", "x"], "cannot be used with"),
        ] {
            let error = target(args).unwrap_err();
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}
