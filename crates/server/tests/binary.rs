//! The real binary: what it says of bad settings, where it reads them, and a log that nobody can take.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn server(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoist-server"));
    command.arg("--trial").current_dir(folder).env_clear().env("SERVER_PORT", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running server, which is killed with the test.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").map(str::to_owned);
        Self { child, address: address.unwrap_or_default() }
    }

    /// Sends one request, and gives the whole answer.
    fn ask(&self, request: &str) -> String {
        self.ask_with(request, "")
    }

    /// The same with more headers, each with its end of line.
    fn ask_with(&self, request: &str, headers: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}", self.address);
        socket.write_all(format!("{head}Authorization: Bearer x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server that cannot start, and gives what it says.
fn refusal(command: &mut Command) -> String {
    let ended = command.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.stdout, b"", "{said}");
    assert!(matches!(ended.status.code(), Some(1 | 2)), "{:?}: {said}", ended.status);
    said
}

#[test]
fn a_log_that_cannot_be_written_ends_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for closes in [true, false] {
        let mut command = server(folder.path());
        if !closes {
            command.stderr(full());
        }
        let mut running = Running::start(&mut command);
        drop(running.child.stderr.take());
        for _ in 0..3 {
            // Each refused token is a line of the log.
            let answer = running.ask("GET /ws/connect");
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer:?}");
            assert!(running.ask("GET /ready").starts_with("HTTP/1.1 200 "));
        }
        assert!(running.child.try_wait().unwrap().is_none());
    }
    let ended = server(folder.path()).env("LOG_LEVEL", "loud").stderr(full()).status().unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[test]
fn a_bad_setting_stops_the_start_and_names_itself() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("LOG_LEVEL", "loud"),
        ("LOG_LEVEL", "warning"),
        ("LOG_LEVEL", "warning,hoist_server=debug"),
        ("S3_CREATE_BUCKET", "maybe"),
        ("ALLOW_UNPROVEN", "2"),
        ("S3_BUCKET_NAME", "My_Files"),
        ("JWT_EXPIRY", "0"),
        ("MAX_OPEN_PER_CLIENT", "0"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("S3_SSE", "yes"),
    ] {
        let said = refusal(server(folder.path()).env(name, value));
        assert!(said.contains(name) && said.contains(value), "{name}={value}: {said}");
    }
}

#[test]
fn an_empty_setting_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = server(folder.path());
    for name in [
        "SERVER_HOST",
        "DATA_DIR",
        "DATABASE_URL",
        "S3_BUCKET_NAME",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "S3_CHUNK_SIZE",
        "S3_PRESIGNED_URL_EXPIRY",
        "S3_SSE",
        "S3_KEY_PREFIX",
        "S3_CREATE_BUCKET",
        "S3_CHECKSUM",
        "ALLOW_UNPROVEN",
        "JWT_SECRET",
        "JWT_SECRET_PREVIOUS",
        "JWT_EXPIRY",
        "MAX_OPEN_PER_CLIENT",
        "LOG_LEVEL",
    ] {
        command.env(name, "");
    }
    command.env("S3_CREATE_BUCKET", "YES").env("ALLOW_UNPROVEN", "off");
    let running = Running::start(&mut command);
    assert!(running.ask("GET /ready").starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_env_file_is_that_of_this_folder_and_its_words_stay_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(folder.path().join(".env"), "# one\nLOG_LEVEL=info\nJWT_SECRET=very secret words\n")
        .unwrap();
    let said = refusal(&mut server(folder.path()));
    assert!(said.contains(".env, line 3") && !said.contains("secret words"), "{said}");
    let running = Running::start(&mut server(&inner));
    assert!(running.ask("GET /health").starts_with("HTTP/1.1 200 "), "the folders above have no say");
    drop(running);
    std::fs::create_dir(inner.join(".env")).unwrap();
    let said = refusal(&mut server(&inner));
    assert!(said.contains(".env cannot be read") && said.contains("directory"), "{said}");
}

#[test]
fn a_folder_has_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let first = Running::start(&mut server(folder.path()));
    for dir in ["data", "./data/../data"] {
        let said = refusal(server(folder.path()).env("DATA_DIR", dir));
        assert!(said.contains(dir) && said.contains("in use by another server"), "{said}");
    }
    let other = Running::start(server(folder.path()).env("DATA_DIR", "other"));
    assert!(first.ask("GET /ready").starts_with("HTTP/1.1 200 "));
    assert!(other.ask("GET /ready").starts_with("HTTP/1.1 200 "));
    // Killed, it leaves no lock behind.
    drop(first);
    assert!(Running::start(&mut server(folder.path())).ask("GET /ready").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_trial_is_content_with_its_own_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let answer = Running::start(&mut server(folder.path())).ask("GET /ready");
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("bad"), "{answer}");
}

#[test]
fn the_door_for_agents_says_which_method_it_knows_to_this_machine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(&mut server(folder.path()));
    for method in ["POST", "PUT", "DELETE"] {
        let answer = running.ask(&format!("{method} /ws/connect"));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(
            answer.contains("application/problem+json") && answer.contains("method_not_allowed"),
            "{answer}"
        );
        let answer = running.ask_with(&format!("{method} /ws/connect"), "Origin: http://evil.example\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("cross_site"), "{answer}");
    }
}

#[test]
fn a_body_that_says_it_is_too_long_is_refused_before_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(&mut server(folder.path()));
    let head = "Content-Type: application/json\r\nContent-Length: 100000000\r\n";
    let asked = Instant::now();
    let answer = running.ask_with("POST /trigger-download/restaurant-1", head);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(20), "it was waited for");
}
